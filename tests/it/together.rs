//! Questions of one request on the real engine: each is answered as if it had been asked alone, also where they share what they read.

use hyper::{Method, StatusCode};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use crate::harness::{Http, Pulse};

const TYPES: [&str; 6] = ["view", "cart", "buy", "pay", "help", "leave"];
const PLANS: [&str; 2] = ["pro", "free"];
const PEOPLE: u64 = 60;
const BOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
/// Rounds of funnels that are asked together.
const CASES: u32 = 40;

/// Events of a day: many of one millisecond, some of bots.
fn events(day: jiff::civil::Date) -> Vec<Value> {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let begin_ms = day.to_zoned_datetime(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_millisecond();
    let event = |number: u64| {
        let person = random(PEOPLE);
        let at_ms = begin_ms + random(86_400) as i64 / 40 * 40 * 1_000 + random(2) as i64;
        let mut event = json!({
            "eventId": format!("0190f7a4-0000-7000-8000-{number:012x}"),
            "type": TYPES[random(6) as usize], "anonymousId": format!("visitor-{person}"),
            "timestamp": jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string(),
            "properties": {"plan": PLANS[random(2) as usize]},
        });
        if person.is_multiple_of(8) {
            event["context"] = json!({"userAgent": BOT});
        }
        event
    };
    (0..3_000).map(event).collect()
}

/// Some types, as a funnel names them.
fn types() -> impl Strategy<Value = Value> {
    prop_oneof![
        5 => prop::sample::select(TYPES.to_vec()).prop_map(|name| json!(name)),
        1 => prop::sample::subsequence(TYPES.to_vec(), 2..4).prop_map(|names| json!(names)),
    ]
}

/// What a funnel asks for beside its range and its filters.
fn funnel() -> impl Strategy<Value = Value> {
    let step = (types(), prop::bool::weighted(0.15), prop::bool::weighted(0.1)).prop_map(|(event, optional, filtered)| {
        let filters = if filtered { json!([{"field": "properties.plan", "value": "pro"}]) } else { json!([]) };
        json!({"event": event, "optional": optional, "filters": filters})
    });
    let exclusions = prop_oneof![3 => Just(json!([])), 1 => types().prop_map(|event| json!([{"event": event}]))];
    let orders = prop::sample::select(vec![
        ("ordered", "users"),
        ("ordered", "users"),
        ("unordered", "users"),
        ("ordered", "totals"),
        ("strict", "users"),
        ("ordered", "sessions"),
    ]);
    let how =
        (orders, prop::sample::select(vec!["90s", "30m", "4h", "14d"]), prop::sample::select(vec!["steps", "trend", "time_to_convert"]));
    let rest = (prop::bool::weighted(0.1), prop::bool::weighted(0.15), prop::bool::weighted(0.2));
    (prop::collection::vec(step, 2..5), exclusions, how, rest).prop_map(|(mut steps, exclusions, ((order, count), window, view), (by_plan, compared, complete))| {
        steps[0]["optional"] = json!(false);
        let mut funnel = json!({
            "report": "funnel", "steps": steps, "exclusions": exclusions, "order": order, "count": count, "window": window, "view": view,
            "interval": "hour", "complete_windows_only": complete, "refresh": true,
        });
        if by_plan {
            funnel["breakdown"] = json!("properties.plan");
        }
        if compared {
            funnel["compare"] = json!("previous");
        }
        funnel
    })
}

/// What all funnels of a request have in common, more often than not.
fn common(day: jiff::civil::Date) -> impl Strategy<Value = Value> {
    let from = move |hour: i64| json!(format!("{day}T{hour:02}:00:00Z"));
    let filters = vec![
        json!([]),
        json!([{"field": "properties.plan", "value": "pro"}]),
        json!([{"any": [{"field": "properties.plan", "value": "free"}, {"field": "type", "value": "buy"}]}]),
        json!([{"did": {"event": "help", "times": {"gte": 2}}}]),
    ];
    (0_i64..12, 12_i64..24, prop::sample::select(filters), any::<bool>()).prop_map(move |(first, last, filters, include_bots)| {
        json!({"from": from(first), "to": from(last), "filters": filters, "include_bots": include_bots})
    })
}

fn requests(day: jiff::civil::Date) -> impl Strategy<Value = Vec<Value>> {
    let mixed = prop::collection::vec((funnel(), prop::bool::weighted(0.2)), 2..12);
    (common(day), common(day), mixed).prop_map(|(one, other, funnels)| {
        let with = |(mut funnel, is_other): (Value, bool)| {
            let common = if is_other { &other } else { &one };
            funnel.as_object_mut().unwrap().extend(common.as_object().unwrap().clone());
            funnel
        };
        funnels.into_iter().map(with).collect()
    })
}

/// The answers to questions that are asked in one request, in order.
async fn together(http: &Http, questions: &[Value]) -> Vec<Value> {
    let request = http.request(Method::POST, "/v1/query", &http.read_key, json!({"queries": questions}).to_string());
    let response = http.respond(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let lines = response.body().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut answers: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    answers.sort_by_key(|answer| answer["index"].as_u64());
    answers
}

#[test]
fn funnels_of_one_request_are_answered_as_if_each_had_been_asked_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let pulse = runtime.block_on(Pulse::start());
    let day = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now()).date().yesterday().unwrap().yesterday().unwrap();
    let http = &pulse.http;
    runtime.block_on(async {
        for events in events(day).chunks(500) {
            let (status, verdicts) = http.capture(&json!({"batch": events})).await;
            assert_eq!((status, &verdicts["accepted"]), (StatusCode::OK, &json!(500)), "{verdicts}");
        }
        http.settled().await;
    });
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let holds = |questions: Vec<Value>| {
        runtime.block_on(async {
            let answers = together(http, &questions).await;
            prop_assert_eq!(answers.len(), questions.len());
            for (question, answer) in questions.iter().zip(answers) {
                let mut body = question.clone();
                body.as_object_mut().unwrap().remove("report");
                let (status, alone) = http.query("funnel", &body).await;
                prop_assert_eq!(&answer["status"], &json!(status.as_u16()), "{} {}", question, answer);
                prop_assert_eq!(&answer["result"], &alone["result"], "{}", question);
                prop_assert_eq!(&answer["meta"]["excluded_bots"], &alone["meta"]["excluded_bots"], "{}", question);
            }
            Ok::<(), TestCaseError>(())
        })
    };
    runner.run(&requests(day), holds).unwrap();

    // They are what is shared: seven that differ in their steps alone would take fourteen statements, two each. Others are sent beside, of who is
    // who and of how far the log is, more of them where it takes longer.
    runtime.block_on(async {
        let steps = |number: usize| json!([{"event": TYPES[number % 6]}, {"event": TYPES[(number + 1 + number / 6) % 6]}]);
        let funnel = |number| json!({"report": "funnel", "from": "-4d", "steps": steps(number), "refresh": true});
        let questions: Vec<Value> = (0..7).map(funnel).collect();
        let mut fewest = u64::MAX;
        for _ in 0..10 {
            let before = http.counter("pulse_statements_total").await;
            assert_eq!(together(http, &questions).await.len(), 7);
            fewest = fewest.min(http.counter("pulse_statements_total").await - before);
        }
        assert!((2..14).contains(&fewest), "{fewest} statements");
    });
}
