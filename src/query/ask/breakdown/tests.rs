use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn values_of_one_meaning_are_one_line() {
    let keys = [r#"o[{"a":1,"b":2}]"#, "sx", r#"o[{"b":2.0,"a":1}]"#, "otrue", "o[9007199254740993]"];

    let tops = Tops::read(&keys.map(|key| Row::of(vec![json!(key), json!(1)])), &by(json!("properties.a")));

    let lines: Vec<i64> = tops.values.iter().map(|top| top.line).collect();
    assert_eq!((lines, tops.len(), tops.none()), (vec![0, 1, 0, 2, 3], 4, 4));
    assert_eq!(find(&tops, &json!([{"b": 2, "a": 1.0}])), Some(0));
    assert_eq!(find(&tops, &json!([9_007_199_254_740_993_i64])), Some(3));
    assert_eq!(find(&tops, &json!([9_007_199_254_740_992_i64])), None);
    assert_eq!(tops.shown(3).value.get(), "[9007199254740993]");
    assert_eq!((tops.shown(4).kind.get(), tops.shown(OTHER).kind.get()), ("\"none\"", "\"other\""));
}

fn by(breakdown: Value) -> Dimensions {
    Dimensions::parse(&breakdown).unwrap()
}

/// The line of a value.
fn find(tops: &Tops, value: &Value) -> Option<i64> {
    tops.find(|parts| is_each(parts, &[ValueOf::of(value.clone())], ValueOf::is))
}

#[test]
fn a_line_of_several_fields_shows_the_value_and_the_kind_of_each() {
    let by = by(json!(["country", "properties.a"]));
    let keys = [json!(["sDE", "o{\"x\":1,\"y\":2}"]), json!(["sDE", "z"]), json!(["sDE", "o{\"y\":2,\"x\":1}"]), json!(["s$none", "n7"])];
    let tops = Tops::read(&keys.map(|key| Row::of(vec![key, json!(1)])), &by);
    let shown = |line| (tops.shown(line).value.get().to_owned(), tops.shown(line).kind.get().to_owned());
    assert_eq!(tops.len(), 3, "two of them mean the same");
    assert_eq!(shown(1), (r#"["DE","$none"]"#.to_owned(), r#"["value","none"]"#.to_owned()));
    assert_eq!(shown(2), (r#"["$none",7]"#.to_owned(), r#"["value","value"]"#.to_owned()));
    assert_eq!(shown(OTHER), (r#"["$other","$other"]"#.to_owned(), r#"["other","other"]"#.to_owned()));
    assert_eq!(shown(3), (r#"["$none","$none"]"#.to_owned(), r#"["none","none"]"#.to_owned()));
}

#[test]
fn a_bar_names_a_line_by_as_many_values_as_the_breakdown_has_fields() {
    let by = by(json!(["country", "os"]));
    let read = |bar: Value| LineOf::parse(Fields::unchecked(&bar).unwrap(), &by);
    let text = |text: &str| ValueOf::Text(text.to_owned());
    assert_eq!(read(json!({"breakdown_value": ["DE", "$none"]})), Ok(LineOf::Values(vec![text("DE"), ValueOf::Missing])));
    let named = json!({"breakdown_value": ["DE", "$none"], "breakdown_kind": ["value", "value"]});
    assert_eq!(read(named), Ok(LineOf::Values(vec![text("DE"), text("$none")])));
    assert_eq!(read(json!({"breakdown_value": ["$other", "$other"]})), Ok(LineOf::Other));
    assert_eq!(read(json!({"breakdown_kind": "none"})), Ok(LineOf::None));
    for bar in
        [json!({"breakdown_value": "DE"}), json!({"breakdown_value": ["DE"]}), json!({"breakdown_value": ["DE", "$other"]}), json!({})]
    {
        assert_eq!(read(bar.clone()).expect_err(&bar.to_string()).code, "invalid_of");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,2}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// The text of a value with the keys of its objects turned round.
fn turned(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(turned).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let members: Vec<String> = map.iter().rev().map(|(key, value)| format!("{}:{}", json!(key), turned(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

proptest! {
    #[test]
    fn a_line_is_found_with_its_keys_in_any_order(value in json_value()) {
        let stored = json!([value]);
        let tops = Tops::read(&[Row::of(vec![json!(format!("o{}", turned(&stored))), json!(1)])], &by(json!("properties.a")));
        prop_assert_eq!(find(&tops, &stored), Some(0));
        prop_assert_eq!(serde_json::from_str::<Value>(tops.shown(0).value.get()).unwrap(), stored);
    }
}
