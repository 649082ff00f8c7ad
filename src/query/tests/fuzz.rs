//! Questions with something in them that does not belong there: nothing panics, and what is asked for is never part of the SQL.

use super::*;

/// What no report expects, and a text of SQL of which nothing may be found in a statement.
fn odd() -> Vec<Value> {
    let text = "zq'\\\"`);--{p0:String}";
    let mut odd = vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!([]),
        json!({}),
        json!([[]]),
        json!(text),
        json!(format!("properties.{text}")),
        json!(format!("person.{text}")),
        json!(format!("session.{text}")),
        json!(format!("unique:{text}")),
        json!(text.repeat(2_000)),
    ];
    for text in
        ["", "now", "-7d", "-0d", "-99999999999d", "9999-12-31", "0001-01-01", "properties.", "properties.a.b", "session.id", "person.a"]
    {
        odd.push(json!(text));
    }
    for text in
        ["A/B", "A/0", "((((((((((", "1e999*A", "Europe/Berlin", "month", "minute", "regex", "(a+)+$", "[", "$other", "$none", "previous"]
    {
        odd.push(json!(text));
    }
    odd.push(json!({"did": {"event": "buy", "from": "-7d"}}));
    odd.push(json!({"field": "country", "op": "in", "value": [text, 1, null, {}]}));
    odd.push((0..40).fold(json!({"field": "country", "value": "DE"}), |filter, _| json!({"any": [filter]})));
    odd
}

/// The values of a request, each by its place.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| places(value, format!("{at}/{key}"), found)),
        Value::Array(values) => values.iter().enumerate().for_each(|(index, value)| places(value, format!("{at}/{index}"), found)),
        _ => {}
    }
    found.push(at);
}

/// A request with something else in one of its places.
fn changed(request: &mut Value, place: usize, value: usize) {
    let mut found = Vec::new();
    places(request, String::new(), &mut found);
    let (at, odd) = (&found[place % found.len()], odd());
    let put = odd[value % odd.len()].clone();
    match value % 5 {
        // One more member, or one less.
        0 => match request.pointer_mut(at) {
            Some(Value::Array(values)) => values.push(put),
            Some(Value::Object(members)) if value.is_multiple_of(2) => drop(members.insert("from".to_owned(), put)),
            Some(Value::Object(members)) => {
                let key = members.keys().nth(value % members.len().max(1)).cloned().unwrap_or_default();
                members.remove(&key);
            }
            Some(value) => *value = json!([value.clone(), put]),
            None => {}
        },
        _ => request.pointer_mut(at).into_iter().for_each(|place| *place = put.clone()),
    }
}

fn corpus() -> Vec<(&'static str, Value)> {
    let mut corpus = with_text("a").to_vec();
    corpus.extend(sql::filters());
    corpus.extend(sql::charts());
    corpus.extend(sql::people());
    corpus.extend(sql::sessions());
    corpus
}

proptest! {
    #[test]
    fn questions(at in any::<prop::sample::Index>(), changes in prop::collection::vec((any::<usize>(), any::<usize>()), 1..5)) {
        let corpus = corpus();
        let (report, mut request) = at.get(&corpus).clone();
        changes.iter().for_each(|(place, value)| changed(&mut request, *place, *value));
        // What the recorder answers need not fit what was asked: that is an error like any other.
        for statement in statements(report, &request).unwrap_or_default() {
            prop_assert!(!statement.text().contains("zq"), "{report} {request}: {}", statement.text());
        }
    }
}
