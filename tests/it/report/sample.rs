//! Estimates of many events, beside what there is.

use std::collections::HashMap;

use pulse::clickhouse::Statement;
use serde_json::{Value, json};

use super::NOW_MS;
use super::store::Store;

const PROJECT: u64 = 7;
const EVENTS: u64 = 3_000_000;
const DAY_MS: i64 = 86_400_000;
const BEGIN_MS: i64 = NOW_MS - 20 * DAY_MS;
const RARE: u64 = 300;
/// In one hour.
const BURST: u64 = 40_000;

/// Events of twenty days, of which three of four are in the busy third of each: always the same ones.
fn events() -> Statement {
    let burst_ms = BEGIN_MS + 9 * DAY_MS;
    let last = RARE + BURST;
    Statement::raw(format!(
        "INSERT INTO pulse.events (project_id, type, timestamp, received_day, person_id, event_id, strings, numbers)
         WITH cityHash64(number) AS random, toInt64(random % {}) AS anywhere, toInt64(cityHash64(random) % 1000) AS kind,
             intDiv(anywhere, {DAY_MS}) * {DAY_MS} + if(kind % 4 = 0, anywhere % {DAY_MS}, 32400000 + intDiv(anywhere % {DAY_MS}, 3)) AS by_day,
             if(number BETWEEN {RARE} AND {last} - 1, {burst_ms} + anywhere % 3600000, {BEGIN_MS} + by_day) AS at_ms,
             fromUnixTimestamp64Milli(at_ms, 'UTC') AS at
         SELECT {PROJECT}, multiIf(number < {RARE}, 'rare', number < {last}, 'burst', number % 3 = 0, 'cart', 'view'), at, '2100-01-01', number,
             generateUUIDv4(), map('plan', ['free', 'pro', 'team', 'trial'][1 + kind % 4], multiIf(number < {RARE}, 'only_rare', number < {last},
                 'only_burst', toHour(at) >= 18, 'late', toDayOfWeek(at) = 3 AND toHour(at) = 9, 'weekly', kind = 0, 'seldom', 'usual'), 'yes'),
             map('price', toFloat64(kind % 7))
         FROM numbers({EVENTS}) SETTINGS async_insert = 0, max_block_size = 3000000, min_insert_block_size_rows = 3000000",
        20 * DAY_MS
    ))
}

/// A count and by how much it may be off.
#[derive(Clone, Copy, Debug)]
struct Claim {
    events: f64,
    error: f64,
}

impl Claim {
    fn of(counted: &Value) -> Self {
        Self { events: counted["events"].as_f64().unwrap(), error: counted["error"].as_f64().unwrap_or_default() }
    }

    fn holds(self, truth: Self) -> bool {
        (self.events - truth.events).abs() <= self.error
    }
}

/// What an answer says of names and of their values.
fn claims(answer: &Value) -> HashMap<String, Claim> {
    let mut claims = HashMap::new();
    for property in answer["result"]["properties"].as_array().unwrap() {
        let name = property["name"].as_str().unwrap();
        claims.insert(name.to_owned(), Claim::of(property));
        for value in property["values"].as_array().unwrap() {
            claims.insert(format!("{name} {}", value["value"]), Claim::of(value));
        }
    }
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_says_how_far_it_may_be_off_and_reads_a_part() {
    let store = Store::start().await;
    let writer = &store.store.shards[0].first().writer;
    writer.execute(&events()).await.unwrap();
    let (mut claimed, mut wrong) = (0, Vec::new());
    for number in 0..6 {
        // Each range has other slices.
        let show = |at_ms: i64| jiff::Timestamp::from_millisecond(at_ms).unwrap().to_string();
        let (from, to) = (show(BEGIN_MS + number * 5_000_000), show(NOW_MS));
        for event in [None, Some("view")] {
            let ask = |sample: bool| {
                // Bots, who would be counted beside, are none of this.
                let mut request = json!({"from": from, "to": to, "values": 100, "refresh": true, "include_bots": true});
                if let Some(event) = event {
                    request["event"] = json!(event);
                }
                if sample {
                    request["sample"] = json!(true);
                }
                request
            };
            let exact = store.answer(PROJECT, "properties", &ask(false)).await;
            let sample = store.answer(PROJECT, "properties", &ask(true)).await;
            assert_eq!((&exact["meta"]["sampled"], &sample["meta"]["sampled"]), (&json!(false), &json!(true)));
            let again = store.answer(PROJECT, "properties", &ask(true)).await;
            assert_eq!(again["result"], sample["result"], "the same question has the same sample");
            let [read, all] = [&sample, &exact].map(|answer| answer["meta"]["rows_read"].as_u64().unwrap());
            println!("{event:?} from {from}: {read} rows read for a sample, {all} for all");
            assert!(read < all / 2, "{read} rows read for a sample, {all} for all");
            let truths = claims(&exact);
            for (name, claim) in claims(&sample) {
                claimed += 1;
                let truth = truths[&name];
                if !claim.holds(truth) {
                    wrong.push(format!("{event:?} from {from}, {name}: {claim:?}, and it is {truth:?}"));
                }
                if name == "plan" || name == "price" {
                    assert!(claim.error < claim.events / 20.0, "all events have one, and that is {claim:?}");
                }
                if name == "only_rare" {
                    assert_eq!((claim.events, claim.error), (truth.events, 0.0), "events of a rare type are all looked at");
                }
            }
            let names = claims(&sample);
            assert!(event.is_some() || names.contains_key("only_rare"), "a rare type is not lost");
            assert!(["plan", "price", "late", "usual", "plan \"pro\""].iter().all(|name| names.contains_key(*name)), "{names:?}");
        }
    }
    println!("{} of {claimed} counts are further off than they say: {wrong:#?}", wrong.len());
    assert!(claimed > 150 && wrong.len() * 12 <= claimed, "{} of {claimed} counts are further off than they say: {wrong:#?}", wrong.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn few_events_of_a_type_are_all_looked_at_and_those_of_a_few_moments_are_found() {
    let store = Store::start().await;
    let writer = &store.store.shards[0].first().writer;
    writer.execute(&events()).await.unwrap();
    // All of a type in one hour, asked about with ten years around it.
    let of_burst = json!({"from": "2016-01-01", "event": "burst", "sample": true});
    let answer = store.answer(PROJECT, "properties", &of_burst).await;
    assert_eq!(answer["meta"]["sampled"], json!(false));
    let plan = &answer["result"]["properties"].as_array().unwrap().iter().find(|property| property["name"] == "only_burst").unwrap();
    assert_eq!((&plan["events"], &plan["error"]), (&json!(BURST), &json!(0)));
    // Twenty days of ten years hold all events of another one.
    let of_view = json!({"from": "2016-01-01", "event": "view", "sample": true});
    let answer = store.answer(PROJECT, "properties", &of_view).await;
    let views = (EVENTS - RARE - BURST) as f64 * 2.0 / 3.0;
    assert_eq!(answer["meta"]["sampled"], json!(true));
    let plan = Claim::of(answer["result"]["properties"].as_array().unwrap().iter().find(|property| property["name"] == "plan").unwrap());
    assert!((plan.events - views).abs() <= plan.error + 2.0 && plan.error < views / 20.0, "{plan:?} of {views}");
    let values =
        store.ask(PROJECT, "catalogue-values", &json!({"field": "properties.plan", "from": "-20d", "event": "view", "sample": true})).await;
    let found: Vec<Claim> = values["values"].as_array().unwrap().iter().map(Claim::of).collect();
    assert!(found.len() == 4 && found.iter().all(|plan| (plan.events - views / 4.0).abs() < plan.error.max(views / 20.0)), "{values}");
    let fields = store.ask(PROJECT, "catalogue-fields", &json!({"from": "-20d", "sample": true})).await;
    let names: Vec<&Value> = fields["fields"].as_array().unwrap().iter().map(|field| &field["name"]).collect();
    assert!(["plan", "price", "only_rare"].iter().all(|name| names.contains(&&json!(format!("properties.{name}")))), "{names:?}");
    assert_eq!(fields["sampled"], json!(true));
}
