mod fleet;
mod funnel;
mod fuzz;
mod identity;
mod of_people;
mod progress;
mod shared_scan;
mod sql;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::ask::secret;
use super::*;

/// Noon of 2026-01-02.
const NOW_MS: i64 = 1_767_355_200_000;
const PROJECT: ProjectId = ProjectId(7);

/// A store that answers nothing and remembers what it was asked.
#[derive(Default)]
struct Recorder(Mutex<Vec<Statement>>);

impl Run for Recorder {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        self.0.lock().unwrap().push(statement);
        // A count, a key and a name at once: enough for every report to go on to its next statement.
        Ok(Answer { body: Bytes::from_static(b"[\"string\",\"n\",1]\n"), read_rows: 1 })
    }

    async fn stream<'a>(&'a self, statement: Statement, _: &'a mut TakePiece<'a>) -> Result<u64, QueryError> {
        self.0.lock().unwrap().push(statement);
        Ok(1)
    }
}

/// The statements that a request makes.
fn statements(report: &str, request: &Value) -> Result<Vec<Statement>, QueryError> {
    let recorder = Arc::<Recorder>::default();
    let queries = Queries::new(Arc::clone(&recorder), QueryConfig::default().check().unwrap(), LoadedBy::ThisProcess(Arc::default()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let body = request.to_string();
    runtime.block_on(queries.answer(PROJECT, report, body.as_bytes(), NOW_MS))?;
    Ok(std::mem::take(&mut *recorder.0.lock().unwrap()))
}

fn refused(report: &str, request: &Value) -> &'static str {
    statements(report, request).expect_err(&request.to_string()).code
}

fn trends(more: Value) -> Value {
    let mut request = json!({"from": "-7d", "series": [{"event": "view"}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn of(more: Value) -> Value {
    let mut of = trends(more);
    of["report"] = json!("trends");
    json!({"of": of})
}

#[test]
fn an_explicit_range_to_compare_with_is_read_in_the_zone_of_the_request() {
    // The day of 25 hours on which Berlin's clocks go back.
    let asked = |compare: Value| {
        let made = statements("trends", &trends(json!({"timezone": "Europe/Berlin", "compare": compare}))).unwrap();
        format!("{made:?}")
    };
    for compare in
        [json!({"from": "2025-10-26", "to": "2025-10-27"}), json!({"from": "2025-10-26T00:00:00+02:00", "to": "2025-10-27T00:00:00+01:00"})]
    {
        let made = asked(compare);
        assert!(made.contains("1761429600000") && made.contains("1761519600000"), "{made}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    for (report, request, code) in [
        ("trend", json!({}), "unknown_report"),
        ("trends", json!([]), "invalid_request"),
        ("trends", json!({"series": [{}]}), "invalid_range"),
        ("trends", json!({"from": "-7d"}), "invalid_series"),
        ("trends", trends(json!({"project": "other"})), "unknown_key"),
        ("trends", trends(json!({"project_id": ["7", 8]})), "unknown_key"),
        ("trends", trends(json!({"project_id": {"eq": 7}})), "unknown_key"),
        ("events", json!({"project_id": "A' OR 1=1"}), "unknown_key"),
        ("trends", trends(json!({"sort": "1; DROP TABLE events"})), "unknown_key"),
        ("trends", trends(json!({"filters": [{"field": "project_id", "value": 8}]})), "invalid_field"),
        ("trends", trends(json!({"from": "1970-01-01", "to": "9999-01-01"})), "invalid_range"),
        ("trends", trends(json!({"to": "-7d"})), "invalid_range"),
        ("trends", trends(json!({"to": "-8d"})), "invalid_range"),
        ("trends", trends(json!({"timezone": "Mars/Base"})), "invalid_timezone"),
        ("trends", trends(json!({"interval": "fortnight"})), "invalid_interval"),
        ("trends", trends(json!({"interval": "-1h"})), "invalid_interval"),
        ("trends", trends(json!({"interval": "1 hour; SELECT 1"})), "invalid_interval"),
        ("trends", trends(json!({"interval": 0})), "invalid_interval"),
        ("trends", trends(json!({"from": "-50y", "interval": "minute"})), "too_many_buckets"),
        ("trends", trends(json!({"limit": 0})), "invalid_limit"),
        ("trends", trends(json!({"limit": -1})), "invalid_limit"),
        ("trends", trends(json!({"limit": 1e9})), "invalid_limit"),
        ("trends", trends(json!({"limit": 1.5})), "invalid_limit"),
        ("trends", trends(json!({"limit": "abc"})), "invalid_limit"),
        ("trends", trends(json!({"formula": "A/B"})), "invalid_formula"),
        ("trends", trends(json!({"compare": "next"})), "invalid_compare"),
        ("trends", trends(json!({"breakdown": "contry"})), "invalid_field"),
        ("trends", trends(json!({"breakdown": ["country", "contry"]})), "invalid_field"),
        ("trends", trends(json!({"breakdown": []})), "invalid_breakdown"),
        ("trends", trends(json!({"breakdown": ["country", "os", "browser", "city"]})), "invalid_breakdown"),
        ("trends", trends(json!({"breakdown": {"field": "country"}})), "invalid_breakdown"),
        ("users", of(json!({"breakdown": ["country", "os"], "breakdown_value": "DE"})), "invalid_of"),
        ("trends", trends(json!({"series": [{"math": "sum"}]})), "invalid_property"),
        ("trends", trends(json!({"series": [{"math": "mean"}]})), "invalid_math"),
        ("trends", trends(json!({"series": [{"math": "p101", "property": "a"}]})), "invalid_math"),
        ("trends", trends(json!({"filters": [{"field": "country", "op": "__proto__", "value": "D"}]})), "invalid_operator"),
        ("trends", trends(json!({"filters": [{"field": "country", "op": "UNION SELECT", "value": "D"}]})), "invalid_operator"),
        ("trends", trends(json!({"filters": [{"field": "country", "op": "like", "value": "D"}]})), "invalid_operator"),
        ("trends", trends(json!({"filters": [{"field": "country", "op": "eq", "value": 1}]})), "invalid_value"),
        ("trends", trends(json!({"filters": [{"op": "eq", "value": 1}]})), "invalid_field"),
        ("trends", trends(json!({"filters": [{"field": "properties.", "value": 1}]})), "invalid_property"),
        ("trends", trends(json!({"filters": [{"field": "properties.a", "op": "in", "value": vec![0; 10_001]}]})), "too_many_values"),
        ("events", json!({"cursor": "1.2.3"}), "invalid_cursor"),
        ("events", json!({"limit": 10_001}), "invalid_limit"),
        ("users", json!({"cursor": "12"}), "invalid_cursor"),
        ("users", json!({"cursor": "+23456789abcdef0"}), "invalid_cursor"),
        ("users", json!({"of": "trends"}), "invalid_of"),
        ("users", json!({"of": {"report": "events"}}), "invalid_of"),
        ("users", json!({"of": {"report": "trends", "from": "-7d"}}), "invalid_series"),
        ("users", of(json!({"series_index": 1})), "invalid_of"),
        ("users", of(json!({"bucket": "2026-01-01T00:00:01Z"})), "invalid_of"),
        ("users", of(json!({"breakdown_value": "pro"})), "invalid_of"),
        ("users", of(json!({"breakdown": "country"})), "invalid_of"),
        ("users", of(json!({"breakdown": "country", "breakdown_kind": "rest"})), "invalid_of"),
        ("users", json!({"of": {"report": "trends"}, "compare": "previous"}), "invalid_of"),
        ("trends", trends(json!({"from": "-7d/x"})), "invalid_range"),
        ("trends", trends(json!({"compare": {"from": "2026-01-01"}, "from": "2026-01-01/d"})), "invalid_range"),
        ("trends", trends(json!({"filters": [{"field": "properties.a", "op": "eq"}]})), "invalid_value"),
        ("trends", trends(json!({"filters": [{"field": "properties.a", "op": "gt", "value": "1"}]})), "invalid_value"),
        ("trends", trends(json!({"filters": [{"field": "properties.a", "op": "eq", "value": [1]}]})), "invalid_value"),
        ("properties", json!({"values": 101}), "invalid_limit"),
        ("properties", json!({"sample": 0.1}), "invalid_sample"),
        ("catalogue-values", json!({"field": "country", "sample": "yes"}), "invalid_sample"),
        ("trends", trends(json!({"refresh": "yes"})), "invalid_refresh"),
        ("trends", trends(json!({"breakdown": "session.page"})), "invalid_field"),
        ("trends", trends(json!({"filters": [{"field": "session.pages", "op": "eq", "value": "1"}]})), "invalid_value"),
        ("trends", trends(json!({"filters": [{"field": "session.bounce", "op": "gt", "value": 1}]})), "invalid_value"),
        ("trends", trends(json!({"filters": [{"field": "session.start", "op": "contains", "value": "1"}]})), "invalid_value"),
        ("trends", trends(json!({"breakdown": "person."})), "invalid_trait"),
        ("trends", trends(json!({"series": [{"math": "unique:"}]})), "invalid_field"),
        ("trends", trends(json!({"series": [{"math": "unique:properties."}]})), "invalid_property"),
        ("trends", trends(json!({"cumulative": 1})), "invalid_cumulative"),
        ("trends", trends(json!({"cumulative": true, "series": [{}, {"math": "wau"}]})), "invalid_cumulative"),
        ("trends", trends(json!({"moving_average": 0})), "invalid_moving_average"),
        ("trends", trends(json!({"moving_average": "7"})), "invalid_moving_average"),
        ("sessions", json!({}), "invalid_range"),
        ("sessions", json!({"from": "-7d", "list": 1}), "invalid_list"),
        ("sessions", json!({"from": "-7d", "list": true, "series": []}), "unknown_key"),
        ("sessions", json!({"from": "-7d", "cursor": "1.2"}), "unknown_key"),
        ("sessions", json!({"from": "-7d", "list": true, "cursor": "1.2"}), "invalid_cursor"),
        ("sessions", json!({"from": "-7d", "cursor": "1.2"}), "unknown_key"),
        ("sessions", json!({"from": "-7d", "breakdown": "page_path"}), "invalid_breakdown"),
        ("sessions", json!({"from": "-7d", "series": [{"math": "bounces"}]}), "invalid_math"),
        ("sessions", json!({"from": "-50y", "interval": "minute"}), "too_many_buckets"),
        ("users", json!({"of": {"report": "sessions", "from": "-7d", "list": true}}), "invalid_of"),
        ("users", json!({"of": {"report": "sessions", "from": "-7d", "series_index": 1}}), "invalid_of"),
        ("trends", trends(json!({"include_bots": "yes"})), "invalid_include_bots"),
        ("users", of(json!({"include_bots": 1})), "invalid_include_bots"),
        ("users", json!({"of": {"report": "trends"}, "include_bots": true}), "unknown_key"),
    ] {
        assert_eq!(refused(report, &request), code, "{report} {request}");
    }
}

#[test]
fn a_question_is_explained_by_the_statements_that_it_sends() {
    for (report, request) in with_text("a") {
        let recorder = Arc::<Recorder>::default();
        let queries = Queries::new(Arc::clone(&recorder), QueryConfig::default().check().unwrap(), LoadedBy::ThisProcess(Arc::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let body = request.to_string();
        let explained = runtime.block_on(queries.explain(PROJECT, report, body.as_bytes(), NOW_MS)).unwrap();
        let explained: Value = serde_json::from_slice(&explained).unwrap();
        let sent = recorder.0.lock().unwrap();
        let texts: Vec<&str> = sent.iter().map(Statement::text).collect();
        let shown: Vec<&str> = explained["statements"].as_array().unwrap().iter().map(|shown| shown["sql"].as_str().unwrap()).collect();
        assert_eq!(shown, texts, "{report}");
        assert!(explained["statements"][0]["params"].as_object().unwrap().values().any(|value| value == "7"), "{report}: {explained}");
        let params = explained["statements"].as_array().unwrap().iter().flat_map(|shown| shown["params"].as_object().unwrap().values());
        assert!(params.clone().all(|value| !secret::is_part(value.as_str().unwrap())), "{report}: {explained}");
    }
}

#[test]
fn bots_are_left_out_of_every_statement_of_events_unless_they_are_asked_for() {
    let with = |request: &Value, includes: bool| {
        let mut request = request.clone();
        let holder = if request.get("of").is_some() { &mut request["of"] } else { &mut request };
        holder["include_bots"] = json!(includes);
        request
    };
    for (report, request) in with_text("a") {
        let people = statements(report, &with(&request, false)).unwrap();
        let (counted, read): (Vec<_>, Vec<_>) = people.iter().partition(|statement| statement.text().contains("bot != ''"));
        assert!(read.iter().all(|statement| statement.text().contains(" AND bot = ''")), "{report}");
        assert_eq!(counted.len(), usize::from(report != "events"), "what was left out of {report} is counted");
        let all = statements(report, &with(&request, true)).unwrap();
        assert_eq!(all.len(), read.len());
        assert!(all.iter().all(|statement| !statement.text().contains("bot =") && !statement.text().contains("bot !=")), "{report}");
    }
}

#[test]
fn what_is_null_is_not_asked_for_however_sessions_are_shown() {
    for (asked, more) in [
        (json!({"from": "-7d"}), json!({"cursor": null, "list": null})),
        (json!({"from": "-7d", "list": true}), json!({"series": null, "breakdown": null, "compare": null, "interval": null})),
    ] {
        let mut same = asked.clone();
        same.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(question("sessions", &same, NOW_MS), question("sessions", &asked, NOW_MS));
    }
}

#[test]
fn a_user_page_without_a_bar_asks_for_everyone_after_the_cursor() {
    let asked = statements("users", &json!({"event": "view", "cursor": "00000000000000ff", "limit": 3})).unwrap();

    // Behind them the events of bots are counted.
    let [counted, page, _] = &asked[..] else { panic!("{asked:#?}") };
    assert!(counted.text().starts_with(
        "SELECT count(), arraySlice(groupArraySortedIf(10001)(key, key > {p0:UInt64}), 1, {p1:UInt64}) FROM (SELECT person_id AS key FROM events "
    ));
    assert!(counted.text().ends_with(" AND bot = '' AND type = {p5:String} GROUP BY key)"));
    let values =
        |statement: &Statement, from: usize| -> Vec<String> { statement.params().map(|(_, value)| value.to_owned()).skip(from).collect() };
    assert_eq!((&values(counted, 0)[..2], &values(counted, 5)[..]), (&["255".to_owned(), "4".to_owned()][..], &["view".to_owned()][..]));
    assert!(page.text().ends_with(
        "WHERE project_id = {p0:UInt64} AND timestamp >= fromUnixTimestamp64Milli({p1:Int64}) \
         AND timestamp < fromUnixTimestamp64Milli({p2:Int64}) \
         AND bot = '' AND type = {p3:String} AND person_id IN {p4:Array(UInt64)} GROUP BY person_id ORDER BY person_id"
    ));
    assert_eq!(values(page, 3)[0], "view");
}

#[test]
fn the_people_of_the_rest_are_asked_for_after_the_largest_values() {
    let request = of(json!({"breakdown": "country", "breakdown_value": "$other", "bucket": "2026-01-02T00:00:00Z"}));

    let asked = statements("users", &request).unwrap();

    assert_eq!(asked.len(), 4);
    assert!(asked[0].text().contains("ORDER BY size DESC"));
    let (_, line) = asked[2].text().split_once(" AND transform(").unwrap();
    assert!(line.contains("concat('s', country)), {p4:Array(String)}, {p5:Array(Int64)}, toInt64(-1)) = {p6:Int64}"), "{line}");
}

fn parsed(report: &str, request: &Value, now_ms: i64) -> Question {
    Question::parse(Request::of(report, b"", now_ms), request.clone(), Arc::default()).unwrap()
}

/// The question that a request asks.
fn question(report: &str, request: &Value, now_ms: i64) -> u128 {
    parsed(report, request, now_ms).fingerprint()
}

/// A store that takes 19 seconds for every statement.
struct Slow;

impl Run for Slow {
    async fn run(&self, _: Statement) -> Result<Answer, QueryError> {
        tokio::time::sleep(Duration::from_secs(19)).await;
        Ok(Answer { body: Bytes::new(), read_rows: 0 })
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_has_one_deadline_however_many_statements_it_takes() {
    let queries = Queries::new(Slow, QueryConfig::default().check().unwrap(), LoadedBy::ThisProcess(Arc::default()));
    let many = trends(json!({"series": vec![json!({"event": "view"}); 26], "breakdown": "country", "compare": "previous"}));
    let began = Instant::now();

    let refused = queries.answer(PROJECT, "trends", many.to_string().as_bytes(), NOW_MS).await.unwrap_err();

    assert_eq!((refused.class, refused.code), (ErrorClass::TimedOut, "query_timeout"));
    assert_eq!(began.elapsed(), QueryConfig::default().max_time);
}

/// A store for which every statement is too much.
struct Refusing;

impl Run for Refusing {
    async fn run(&self, _: Statement) -> Result<Answer, QueryError> {
        Err(QueryError::of_store(crate::clickhouse::ErrorClass::StatementMemory))
    }
}

#[tokio::test]
async fn what_is_too_expensive_is_refused_with_what_would_cost_less() {
    let queries = Queries::new(Refusing, QueryConfig::default().check().unwrap(), LoadedBy::ThisProcess(Arc::default()));
    let steps = json!([{"event": "a"}, {"event": "b"}]);
    for (report, request, cheaper) in [
        ("trends", trends(json!({})), "a longer `interval`"),
        ("funnel", json!({"from": "-7d", "steps": steps}), "a shorter range or `window`"),
        ("retention", json!({"from": "-7d", "period": "day"}), "fewer `periods`"),
        ("lifecycle", json!({"from": "-7d"}), "one `event`"),
        ("users", of(json!({})), "one `bucket`"),
        ("properties", json!({}), "`\"sample\": true`"),
        ("catalogue-values", json!({"field": "country"}), "`\"sample\": true`"),
        ("catalogue-events", json!({}), "a shorter range"),
    ] {
        let refused = queries.answer(PROJECT, report, request.to_string().as_bytes(), NOW_MS).await.unwrap_err();
        assert_eq!((refused.class, refused.code), (ErrorClass::TooExpensive, "query_too_expensive"), "{report}");
        assert!(refused.said().contains(": ask for ") && refused.said().contains(cheaper), "{report}: {}", refused.said());
        assert!(!refused.to_string().contains("ask for"), "not to those who did not ask: {refused}");
    }
}

#[test]
fn a_bar_of_the_compared_chart_is_in_its_range() {
    let mut request = of(json!({"from": "-2d", "compare": "previous", "bucket": "2025-12-31"}));
    let bounds = |request: &Value| {
        let asked = statements("users", request).unwrap();
        let mut values = asked[1].params().map(|(_, value)| value.to_owned()).skip(1);
        (values.next().unwrap(), values.next().unwrap())
    };
    let (noon, midnight) = (NOW_MS - 2 * 86_400_000, NOW_MS - 86_400_000 - 43_200_000);
    assert_eq!(bounds(&request), (noon.to_string(), midnight.to_string()));
    request["compare"] = json!(true);
    assert_eq!(bounds(&request), ((noon - 43_200_000).to_string(), noon.to_string()), "the same bucket, up to noon");
    request["of"].as_object_mut().unwrap().remove("bucket");
    assert_eq!(bounds(&request), ((noon - 2 * 86_400_000).to_string(), noon.to_string()), "the compared total");
    request["of"].as_object_mut().unwrap().remove("compare");
    assert_eq!(refused("users", &request), "invalid_of");
}

#[test]
fn what_one_statement_cannot_carry_is_refused_by_name() {
    let mixed = |list: usize| -> Vec<Value> {
        (0..100).map(|index| json!({"field": format!("properties.{list}_{index}"), "op": "in", "value": [format!("x{list}_{index}"), "", index + list * 100, true]})).collect()
    };
    let most = trends(json!({"filters": mixed(0), "series": [{"event": "view", "filters": mixed(1)}], "breakdown": "properties.a"}));
    match statements("trends", &most) {
        Ok(asked) => {
            for statement in asked {
                assert!(statement.params().count() <= 950 && statement.text().len() <= 131_000, "{}", statement.params().count());
            }
        }
        Err(refused) => assert_eq!((refused.class, refused.code), (ErrorClass::Invalid, "filter_too_complex")),
    }
    let long = "é\\\n'".repeat(100_000);
    let list: Vec<String> = (0..10_000).map(|number| format!("{number:0>80}")).collect();
    let many = trends(json!({
        "filters": [{"field": "properties.a", "op": "in", "value": list}, {"field": "properties.a", "op": "contains", "value": long}],
        "series": [{"event": long}],
    }));
    for statement in statements("trends", &many).unwrap() {
        assert!(statement.params().all(|(_, value)| value.len() < 131_072));
        assert!(statement.params().count() < 900);
    }
}

/// A request of any report with `text` wherever a text may stand.
fn with_text(text: &str) -> [(&'static str, Value); 5] {
    let name = format!("properties.{text}");
    let expression = format!("^{}$", regex::escape(text));
    let filters = json!([{"field": name, "op": "in", "value": [text, true]}, {"field": "country", "op": "regex", "value": expression}]);
    let series = json!([{"event": text, "math": "p90", "property": name, "filters": filters, "name": text}]);
    let chart = json!({"from": "-7d", "series": series, "breakdown": name, "filters": filters});
    let mut of = chart.clone();
    of["report"] = json!("trends");
    of["breakdown_value"] = json!(text);
    [
        ("trends", chart),
        ("events", json!({"event": text, "filters": filters})),
        ("users", json!({"of": of})),
        ("properties", json!({"event": text, "filters": filters})),
        (
            "funnel",
            funnel::with(json!({"steps": [{"event": text, "filters": filters}, {"event": [text, "B"], "name": text}], "hold": [name]})),
        ),
    ]
}

proptest! {
    #[test]
    fn the_sql_is_the_same_whatever_is_asked_for(text in "[a-z'\"\\\\{}();\n\t -]{1,20}") {
        // What the recorder answers is bound, too, and what is bound twice is one parameter.
        prop_assume!(text != "n");
        let plain = with_text("a");
        for ((report, mut request), (_, mut plain)) in with_text(&text).into_iter().zip(plain) {
            for (request, text) in [(&mut request, &*text), (&mut plain, "a")] {
                if let Some(filters) = request.get_mut("filters").and_then(Value::as_array_mut) {
                    filters.push(json!({"field": format!("person.{text}"), "op": "in", "value": [text, true]}));
                }
            }
            let texts = |request: &Value| -> Vec<String> {
                statements(report, request).unwrap().iter().map(|statement| statement.text().to_owned()).collect()
            };
            prop_assert_eq!(texts(&request), texts(&plain));
        }
    }

    #[test]
    fn every_statement_is_of_one_project_and_one_range(text in ".{1,20}") {
        for (report, request) in with_text(&text) {
            for statement in statements(report, &request).unwrap() {
                let text = statement.text();
                // Beside the events a statement reads what is said of their sessions, of the same project.
                let of_revisions = text.matches("FROM events WHERE project_id = 0 AND type = '$session' AND person_id = {p").count();
                let conditions: Vec<&str> = text.split(" WHERE project_id = {p").skip(1).collect();
                prop_assert!(!conditions.is_empty());
                prop_assert_eq!(text.matches("FROM events").count(), conditions.len() + of_revisions);
                for condition in conditions {
                    let index: usize = condition.split_once(':').unwrap().0.parse().unwrap();
                    prop_assert_eq!(statement.params().nth(index).unwrap().1, "7");
                    prop_assert!(condition.contains("AND timestamp >= ") && condition.contains("AND timestamp < "));
                }
            }
        }
    }
}
