//! What is asked, and what an analyst would write by hand in its place.

use serde_json::{Value, json};

/// A question without its times, and a plain statement that answers its like from the same rows. `{when}` in it is the condition of its times,
/// project and bots.
pub(crate) struct Asked {
    pub(crate) name: &'static str,
    pub(crate) report: &'static str,
    pub(crate) question: Value,
    pub(crate) plain: &'static str,
}

impl Asked {
    const fn new(name: &'static str, report: &'static str, question: Value, plain: &'static str) -> Self {
        Self { name, report, question, plain }
    }
}

/// Each of them once.
pub(crate) fn all() -> Vec<Asked> {
    let mut all = trends();
    all.extend(lists());
    all.extend(of_people());
    all
}

fn trends() -> Vec<Asked> {
    let by_day = |series: Value| json!({"interval": "day", "series": series});
    vec![
        Asked::new(
            "total of one type by day",
            "trends",
            by_day(json!([{"event": "cart"}])),
            "SELECT toDate(timestamp) AS day, count() FROM events WHERE {when} AND type = 'cart' GROUP BY day ORDER BY day",
        ),
        Asked::new(
            "total of any type by day",
            "trends",
            by_day(json!([{}])),
            "SELECT toDate(timestamp) AS day, count() FROM events WHERE {when} GROUP BY day ORDER BY day",
        ),
        Asked::new(
            "unique users of one type by day",
            "trends",
            by_day(json!([{"event": "cart", "math": "unique_users"}])),
            "SELECT toDate(timestamp) AS day, uniqExact(person_id) FROM events WHERE {when} AND type = 'cart' GROUP BY day ORDER BY day",
        ),
        Asked::new(
            "unique users of any type by day",
            "trends",
            by_day(json!([{"math": "unique_users"}])),
            "SELECT toDate(timestamp) AS day, uniqExact(person_id) FROM events WHERE {when} GROUP BY day ORDER BY day",
        ),
        Asked::new(
            "by a column",
            "trends",
            json!({"interval": "day", "series": [{"event": "view"}], "breakdown": "country"}),
            "SELECT toDate(timestamp) AS day, country, count() FROM events WHERE {when} AND type = 'view' GROUP BY day, country",
        ),
        Asked::new(
            "by a property",
            "trends",
            json!({"interval": "day", "series": [{"event": "view"}], "breakdown": "properties.category"}),
            "SELECT toDate(timestamp) AS day, strings['category'] AS value, count() FROM events WHERE {when} AND type = 'view' GROUP BY day, value",
        ),
        Asked::new(
            "filter by a property",
            "trends",
            json!({"interval": "day", "series": [{"event": "view"}], "filters": [{"field": "properties.plan", "op": "eq", "value": "pro"}]}),
            "SELECT toDate(timestamp) AS day, count() FROM events WHERE {when} AND type = 'view' AND strings['plan'] = 'pro' GROUP BY day",
        ),
        Asked::new(
            "p90 of a property, any type",
            "trends",
            by_day(json!([{"math": "p90", "property": "properties.total"}])),
            "SELECT toDate(timestamp) AS day, quantileExact(0.9)(numbers['total']) FROM events WHERE {when} GROUP BY day",
        ),
        Asked::new(
            "five series of one type each",
            "trends",
            by_day(json!([{"event": "view"}, {"event": "cart"}, {"event": "order"}, {"event": "other_1"}, {"event": "other_2"}])),
            "SELECT toDate(timestamp) AS day, type, count() FROM events WHERE {when} \
             AND type IN ('view', 'cart', 'order', 'other_1', 'other_2') GROUP BY day, type",
        ),
    ]
}

fn lists() -> Vec<Asked> {
    vec![
        Asked::new(
            "newest 100 events",
            "events",
            json!({"limit": 100}),
            "SELECT * FROM events WHERE {when} ORDER BY timestamp DESC LIMIT 100",
        ),
        Asked::new(
            "newest 100 events of a type that nobody has",
            "events",
            json!({"limit": 100, "event": "nothing_of_the_kind"}),
            "SELECT * FROM events WHERE {when} AND type = 'nothing_of_the_kind' ORDER BY timestamp DESC LIMIT 100",
        ),
        Asked::new(
            "properties of a type",
            "properties",
            json!({"event": "view"}),
            "SELECT pair.1 AS name, count(), topK(10)(pair.2) FROM (SELECT arrayJoin(arrayConcat(CAST(strings, 'Array(Tuple(String, String))'), \
             arrayMap(p -> (p.1, toString(p.2)), CAST(numbers, 'Array(Tuple(String, Float64))')))) AS pair \
             FROM events WHERE {when} AND type = 'view') GROUP BY name",
        ),
        Asked::new(
            "properties of a type, an estimate",
            "properties",
            json!({"event": "view", "sample": true}),
            "SELECT pair.1 AS name, count(), topK(10)(pair.2) FROM (SELECT arrayJoin(CAST(strings, 'Array(Tuple(String, String))')) AS pair \
             FROM events WHERE {when} AND type = 'view' AND rand() % 100 = 0) GROUP BY name",
        ),
        Asked::new(
            "users, the most active 100",
            "users",
            json!({"event": "order", "limit": 100}),
            "SELECT person_id, count() AS events FROM events WHERE {when} AND type = 'order' GROUP BY person_id ORDER BY events DESC LIMIT 100",
        ),
    ]
}

fn of_people() -> Vec<Asked> {
    let steps = json!([{"event": "view"}, {"event": "cart"}, {"event": "order"}]);
    vec![
        Asked::new(
            "funnel of three steps",
            "funnel",
            json!({"window": "7d", "steps": steps}),
            "SELECT countIf(depth >= 1), countIf(depth >= 2), countIf(depth >= 3) FROM (SELECT windowFunnel(604800000)( \
             toUInt64(toUnixTimestamp64Milli(timestamp)), type = 'view', type = 'cart', type = 'order') AS depth \
             FROM events WHERE {when} AND type IN ('view', 'cart', 'order') GROUP BY person_id)",
        ),
        Asked::new(
            "funnel by a column",
            "funnel",
            json!({"window": "7d", "steps": steps, "breakdown": "country"}),
            "SELECT first, countIf(depth >= 1), countIf(depth >= 2), countIf(depth >= 3) FROM (SELECT windowFunnel(604800000)( \
             toUInt64(toUnixTimestamp64Milli(timestamp)), type = 'view', type = 'cart', type = 'order') AS depth, \
             argMin(country, timestamp) AS first FROM events WHERE {when} AND type IN ('view', 'cart', 'order') GROUP BY person_id) GROUP BY first",
        ),
        Asked::new(
            "retention, four weeks",
            "retention",
            json!({"period": "week", "cohort_event": {"event": "view"}, "return_event": {"event": "order"}}),
            "SELECT begin, week, uniqExact(person_id) FROM (SELECT DISTINCT person_id, toMonday(timestamp) AS week FROM events \
             WHERE {when} AND type = 'order') AS back INNER JOIN (SELECT person_id, min(toMonday(timestamp)) AS begin FROM events \
             WHERE {when} AND type = 'view' GROUP BY person_id) AS first USING person_id WHERE week >= begin GROUP BY begin, week",
        ),
        Asked::new(
            "paths of five steps",
            "paths",
            json!({"start": "view", "steps": 5}),
            "SELECT path, count() AS sessions FROM (SELECT arraySlice(arraySort(groupArray((timestamp, type))), 1, 5).2 AS path \
             FROM events WHERE {when} GROUP BY session_id) GROUP BY path ORDER BY sessions DESC LIMIT 100",
        ),
        Asked::new(
            "lifecycle by day",
            "lifecycle",
            json!({"interval": "day", "event": "order"}),
            "SELECT day, countIf(NOT has(days, day - 1)), countIf(has(days, day - 1)) FROM (SELECT person_id, \
             groupUniqArray(toDate(timestamp)) AS days FROM events WHERE {when} AND type = 'order' GROUP BY person_id) ARRAY JOIN days AS day \
             GROUP BY day",
        ),
        Asked::new(
            "stickiness",
            "stickiness",
            json!({"event": "cart"}),
            "SELECT days, count() FROM (SELECT uniqExact(toDate(timestamp)) AS days FROM events WHERE {when} AND type = 'cart' GROUP BY person_id) \
             GROUP BY days",
        ),
        Asked::new(
            "sessions by channel",
            "sessions",
            json!({"interval": "day", "breakdown": "session.channel"}),
            "SELECT day, first, count() FROM (SELECT toDate(min(timestamp)) AS day, argMin(channel, timestamp) AS first FROM events WHERE {when} \
             GROUP BY session_id) GROUP BY day, first",
        ),
    ]
}
