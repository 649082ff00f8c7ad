//! Funnels of one request that read the same events.

use futures_util::StreamExt;
use tokio::sync::Semaphore;

use super::super::batch::Batch;
use super::funnel::with;
use super::*;
use crate::wire::{put_bytes, put_varint};

/// A store in which all view, half of them buy then and a quarter pay; and what it was asked for.
struct Shop {
    people: u64,
    /// How many have the types of events in one number each, then how many others.
    asked: Mutex<[usize; 2]>,
    bots_counted: Mutex<usize>,
    fails: Option<fn() -> QueryError>,
    /// A statement that several share ends when it may.
    may_end: Option<Semaphore>,
}

const STEPS: [&str; 3] = ["view", "buy", "pay"];

impl Shop {
    fn of(people: u64) -> Self {
        Self { people, asked: Mutex::default(), bots_counted: Mutex::default(), fails: None, may_end: None }
    }

    fn events(&self, person: u64) -> impl Iterator<Item = (usize, i64)> {
        let does = [true, person.is_multiple_of(2), person.is_multiple_of(4)];
        (0..3).filter(move |step| does[*step]).map(|step| (step, NOW_MS - 1_000 + step as i64))
    }

    /// What each statement makes of the type of an event: a bit for each step, or its number.
    fn numbers(statement: &Statement) -> [u32; 3] {
        let parameter = |text: &str, number: usize| {
            let index = text.split("{p").nth(1 + number)?.split(':').next()?;
            Some(statement.params().nth(index.parse().ok()?)?.1.to_owned())
        };
        let (columns, _) = statement.text().split_once(" FROM events").unwrap();
        if is_shared(statement) {
            let types: Vec<String> = columns.split("toUInt16(").skip(1).filter_map(|column| parameter(column, 0)).collect();
            return STEPS.map(|name| types.iter().position(|of| of == name).map_or(0, |at| at as u32 + 1));
        }
        // The types of a step or an exclusion, and its bit.
        let of = |column| Some((parameter(column, 0)?, parameter(column, 1)?.parse::<u32>().ok()?));
        let bits: Vec<(String, u32)> = columns.split("toUInt32(").skip(1).filter_map(of).collect();
        STEPS.map(|name| bits.iter().filter(|(types, _)| types.contains(name)).fold(0, |bits, (_, bit)| bits | bit))
    }

    fn block(&self, statement: &Statement, persons: std::ops::Range<u64>) -> Vec<u8> {
        let numbers = Self::numbers(statement);
        let rows: Vec<(u64, i64, u32)> = persons
            .flat_map(|person| self.events(person).map(move |(step, at_ms)| (person, at_ms, step)))
            .map(|(person, at_ms, step)| (person, at_ms, numbers[step]))
            .filter(|(_, _, number)| *number != 0)
            .collect();
        let mut block = Vec::new();
        put_varint(&mut block, 3);
        put_varint(&mut block, rows.len() as u64);
        let mut column = |type_name: &str, values: Vec<u8>| {
            put_bytes(&mut block, b"column");
            put_bytes(&mut block, type_name.as_bytes());
            block.extend(values);
        };
        column("UInt64", rows.iter().flat_map(|row| row.0.to_le_bytes()).collect());
        column("Int64", rows.iter().flat_map(|row| row.1.to_le_bytes()).collect());
        match is_shared(statement) {
            true => column("UInt16", rows.iter().flat_map(|row| (row.2 as u16).to_le_bytes()).collect()),
            false => column("UInt32", rows.iter().flat_map(|row| row.2.to_le_bytes()).collect()),
        }
        block
    }
}

fn is_shared(statement: &Statement) -> bool {
    statement.text().contains("toUInt16(")
}

impl Run for Shop {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        *self.bots_counted.lock().unwrap() += 1;
        let numbers: Vec<usize> = (0..statement.text().matches("countIf(").count()).map(|number| 70 + number).collect();
        Ok(Answer { body: Bytes::from(if numbers.is_empty() { "[7]\n".to_owned() } else { format!("{numbers:?}\n") }), read_rows: 1 })
    }

    async fn stream<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> Result<u64, QueryError> {
        self.asked.lock().unwrap()[usize::from(!is_shared(&statement))] += 1;
        if let Some(fails) = self.fails.filter(|_| is_shared(&statement)) {
            return Err(fails());
        }
        if let Some(may_end) = self.may_end.as_ref().filter(|_| is_shared(&statement)) {
            may_end.acquire().await.unwrap().forget();
        }
        for from in (0..self.people).step_by(1_000) {
            if take(&self.block(&statement, from..(from + 1_000).min(self.people))).is_break() {
                break;
            }
        }
        Ok(1_000)
    }
}

/// Funnels over a shop of 100 people, and how many of them come to each step.
fn funnels() -> Vec<(Value, Vec<u64>)> {
    let of = |types: &[&str]| json!({"steps": types.iter().map(|name| json!({"event": name})).collect::<Vec<_>>()});
    vec![
        (of(&["view", "buy"]), vec![100, 50]),
        (of(&["view", "pay"]), vec![100, 25]),
        (of(&["buy", "pay"]), vec![50, 25]),
        (of(&["view", "buy", "pay"]), vec![100, 50, 25]),
        (of(&["buy", "view"]), vec![50, 0]),
        (json!({"steps": [{"event": "view"}, {"event": "pay"}], "exclusions": [{"event": "buy"}]}), vec![100, 0]),
        (json!({"steps": [{"event": "view"}, {"event": "buy"}], "order": "unordered", "window": "1h"}), vec![100, 50]),
    ]
}

fn questions(more: Value) -> Value {
    let question = |(funnel, _)| {
        let mut question = with(funnel);
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        question["report"] = json!("funnel");
        question
    };
    funnels().into_iter().map(question).collect()
}

fn of_shop(shop: &Arc<Shop>, config: QueryConfig) -> Queries {
    Queries::new(Arc::clone(shop), config.check().unwrap(), LoadedBy::ThisProcess(Arc::default()))
}

/// The answers to some questions, in order.
async fn answers(queries: &Queries, questions: Value) -> Vec<Value> {
    let batch = Batch::parse(json!({"queries": questions}).to_string().as_bytes()).unwrap();
    let text = batch.answers(queries.clone(), PROJECT, NOW_MS).collect::<Vec<Bytes>>().await.concat();
    let mut answers: Vec<Value> =
        text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
    answers.sort_by_key(|answer| answer["index"].as_u64());
    assert_eq!(answers.len(), questions.as_array().unwrap().len());
    answers
}

fn counts(answer: &Value) -> Vec<u64> {
    let steps = answer["result"]["groups"][0]["steps"].as_array().unwrap_or_else(|| panic!("{answer}"));
    steps.iter().map(|step| step["count"].as_u64().unwrap()).collect()
}

/// They are those of the first funnels, or of all of them, each as often as the others, of so many times a hundred people.
fn assert_right(answers: &[Value], hundreds: u64) {
    let funnels = funnels();
    for (answer, (_, expected)) in answers.iter().zip(funnels.iter().cycle()) {
        let expected: Vec<u64> = expected.iter().map(|count| count * hundreds).collect();
        assert_eq!(counts(answer), expected, "{answer}");
    }
    assert!(!answers.is_empty());
}

#[tokio::test]
async fn funnels_over_one_range_with_the_same_filters_read_it_once_and_count_their_bots_at_once() {
    let shop = Arc::new(Shop::of(100));
    // However many may run: those who share a scan need one turn.
    let queries = of_shop(&shop, QueryConfig { max_running: 1, ..QueryConfig::default() });
    let answered = answers(&queries, questions(json!({}))).await;
    assert_right(&answered, 1);
    assert_eq!((*shop.asked.lock().unwrap(), *shop.bots_counted.lock().unwrap()), ([1, 0], 1));
    for (number, answer) in answered.iter().enumerate() {
        assert_eq!((&answer["meta"]["excluded_bots"], &answer["meta"]["rows_read"]), (&json!(70 + number), &json!(1_001)), "{answer}");
    }
    // They are kept as if they had been asked alone.
    let alone = questions(json!({}))[0].take();
    let mut body = alone.as_object().unwrap().clone();
    body.remove("report");
    let kept = queries.answer(PROJECT, "funnel", json!(body).to_string().as_bytes(), NOW_MS).await.unwrap();
    assert!(serde_json::from_slice::<Value>(kept.meta()).unwrap()["cached"].as_bool().unwrap());
}

#[tokio::test]
async fn who_needs_more_of_events_or_others_reads_alone() {
    let types = |numbers: std::ops::Range<u32>| numbers.map(|number| format!("type {number}")).collect::<Vec<_>>();
    for (more, expected) in [
        (json!({"filters": [{"field": "country", "value": "DE"}]}), [1, 0]),
        (json!({"breakdown": "country"}), [0, 7]),
        (json!({"hold": ["country"]}), [0, 7]),
        (json!({"count": "sessions"}), [0, 7]),
        (json!({"compare": "previous"}), [0, 14]),
        // More types than one scan tells apart; two of the funnels are the same then.
        (json!({"exclusions": [{"event": types(0..50)}, {"event": types(50..65)}]}), [0, 6]),
    ] {
        let shop = Arc::new(Shop::of(4));
        answers(&of_shop(&shop, QueryConfig::default()), questions(more.clone())).await;
        assert_eq!(*shop.asked.lock().unwrap(), expected, "{more}");
    }
    // Of a range that is over each window reads its own events; up to now all read what there is. No more than eight do.
    let of_windows = |range: &Value, of_each: usize| {
        let of_window = |window: &str| {
            let mut more = range.clone();
            more["window"] = json!(window);
            questions(more).as_array().unwrap()[..of_each].to_vec()
        };
        json!(["2h", "3h"].map(of_window).concat())
    };
    let over = json!({"from": "2025-12-01", "to": "2025-12-02"});
    for (range, of_each, expected) in [(over, 3, 2), (json!({}), 3, 1), (json!({}), 6, 2)] {
        let shop = Arc::new(Shop::of(100));
        answers(&of_shop(&shop, QueryConfig::default()), of_windows(&range, of_each)).await;
        assert_eq!(*shop.asked.lock().unwrap(), [expected, 0], "{range} {of_each}");
    }
    // Two groups, and one that is like no other.
    let shop = Arc::new(Shop::of(100));
    let mut asked = questions(json!({}));
    for (place, more) in [(1, json!({"from": "-8d"})), (4, json!({"from": "-8d"})), (6, json!({"from": "-9d"}))] {
        asked[place].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    assert_right(&answers(&of_shop(&shop, QueryConfig::default()), asked).await, 1);
    assert_eq!(*shop.asked.lock().unwrap(), [2, 1]);
}

#[tokio::test]
async fn who_is_answered_already_is_read_for_by_nobody() {
    let shop = Arc::new(Shop::of(100));
    let queries = of_shop(&shop, QueryConfig::default());
    let all = questions(json!({}));
    // Some are kept; of those that are left two share a scan, then one has none to share it with.
    assert_right(&answers(&queries, json!(all.as_array().unwrap()[..5])).await, 1);
    assert_eq!(*shop.asked.lock().unwrap(), [1, 0]);
    assert_right(&answers(&queries, all.clone()).await, 1);
    assert_eq!(*shop.asked.lock().unwrap(), [2, 0]);
    let mut fresh = all.clone();
    fresh[2]["refresh"] = json!(true);
    assert_right(&answers(&queries, fresh).await, 1);
    assert_eq!(*shop.asked.lock().unwrap(), [2, 1]);
    // Equal ones are computed once, whatever seats they have.
    let mut twice = all.as_array().unwrap().clone();
    twice.extend(twice.clone());
    twice.iter_mut().for_each(|question| question["window"] = json!("2h"));
    assert_right(&answers(&queries, json!(twice)).await, 1);
    let [_, alone] = *shop.asked.lock().unwrap();
    assert!(alone <= 3, "{alone}");
}

#[tokio::test]
async fn a_seat_is_of_the_question_that_it_was_given_to() {
    let shop = Arc::new(Shop::of(100));
    let queries = of_shop(&shop, QueryConfig::default());
    let bodies: Vec<Vec<u8>> = funnels().into_iter().take(2).map(|(funnel, _)| with(funnel).to_string().into_bytes()).collect();
    let requests = || bodies.iter().map(|body| Request::of("funnel", body, NOW_MS)).enumerate().collect::<Vec<_>>();
    let mut seats = queries.seats(PROJECT, requests()).await.into_iter();
    // As if a cohort had been changed meanwhile.
    let (first, second) = (seats.next().unwrap(), seats.next().unwrap());
    let (one, other) =
        tokio::join!(queries.reply(PROJECT, requests()[1].1, Some(first.seat)), queries.reply(PROJECT, requests()[0].1, Some(second.seat)));
    assert!(one.is_ok() && other.is_ok() && seats.next().is_none());
    assert_eq!(*shop.asked.lock().unwrap(), [0, 2]);
}

#[tokio::test]
async fn what_is_too_much_together_is_read_alone_and_what_fails_fails_for_all() {
    let limits = QueryConfig { max_running: 1, max_memory: 16 << 20, max_time: Duration::from_secs(3_600), ..QueryConfig::default() };
    let asked = |people: u64, number: usize| {
        let (shop, limits) = (Arc::new(Shop::of(people)), limits.clone());
        let some = json!(questions(json!({})).as_array().unwrap()[..number]);
        async move { (answers(&of_shop(&shop, limits), some).await, *shop.asked.lock().unwrap()) }
    };
    // There is room for the events of all, then of some.
    for (people, number, expected) in [(100, 7, Some(false)), (60_000, 4, None), (60_000, 7, Some(true))] {
        let (answered, [shared, alone]) = asked(people, number).await;
        assert_right(&answered, people / 100);
        assert!(shared == 1 && expected.is_none_or(|reads_alone| reads_alone == (alone > 0)), "{people} {number}: {alone}");
    }
    // There is room for the events, but not for what comes of them: hardly for what comes of those of one.
    let (answered, [shared, alone]) = asked(100_000, 2).await;
    assert!(shared == 1 && alone > 0, "{shared} {alone}");
    for (answer, (_, expected)) in answered.iter().zip(funnels()) {
        match answer["status"].as_u64() {
            Some(200) => assert_eq!(counts(answer), expected.iter().map(|count| count * 1_000).collect::<Vec<_>>()),
            _ => assert_eq!(answer["error"]["code"], "query_too_expensive", "{answer}"),
        }
    }

    let too_large = Arc::new(Shop { fails: Some(QueryError::too_large), ..Shop::of(100) });
    assert_right(&answers(&of_shop(&too_large, QueryConfig::default()), questions(json!({}))).await, 1);
    assert_eq!(*too_large.asked.lock().unwrap(), [1, 7]);

    let away = Arc::new(Shop { fails: Some(|| QueryError::unavailable("store_unavailable", "it is away")), ..Shop::of(100) });
    let answered = answers(&of_shop(&away, QueryConfig::default()), questions(json!({}))).await;
    assert!(answered.iter().all(|answer| answer["status"] == 503), "{answered:?}");
    assert_eq!(*away.asked.lock().unwrap(), [1, 0]);
}

#[tokio::test]
async fn a_scan_ends_with_the_last_who_waits_for_it_and_not_before() {
    let shop = Arc::new(Shop { may_end: Some(Semaphore::new(0)), ..Shop::of(100) });
    let queries = of_shop(&shop, QueryConfig { max_running: 1, ..QueryConfig::default() });
    let all = questions(json!({}));
    let ask = |questions: Value| {
        let queries = queries.clone();
        crate::lifecycle::spawn_apart(async move { answers(&queries, questions).await })
    };
    let leaving = ask(all.clone());
    while shop.asked.lock().unwrap()[0] == 0 {
        tokio::task::yield_now().await;
    }
    // One who waits for a single one of them keeps the scan.
    let staying = ask(json!([all[3]]));
    tokio::time::sleep(Duration::from_millis(50)).await;
    leaving.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    shop.may_end.as_ref().unwrap().add_permits(1);
    assert_eq!(counts(&staying.await.unwrap()[0]), [100, 50, 25]);
    assert_eq!(*shop.asked.lock().unwrap(), [1, 0]);
    // Without any the statement is given up, and its permit with it.
    let leaving = ask(questions(json!({"window": "2h"})));
    while shop.asked.lock().unwrap()[0] == 1 {
        tokio::task::yield_now().await;
    }
    leaving.abort();
    let next = ask(json!([with(json!({"report": "funnel", "window": "3h"}))]));
    assert_eq!(counts(&next.await.unwrap()[0]), [100, 50]);
}
