//! What is told of one slot more than once, since the rule or its channels were changed meanwhile.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::reports::pass_to_noon;
use super::{World, many};
use crate::harness::receiver::Received;

#[tokio::test]
async fn what_is_told_anew_of_the_same_slot_has_an_id_of_its_own() {
    let mut world = World::start("", &[]).await;
    // By the day, so that nothing but this changes.
    pass_to_noon(&mut world);
    let mut daily = many("none", &["hook"]);
    (daily["interval"], daily["condition"]) = (json!("day"), json!({"below": 1}));
    let change = async |world: &World, key: &str, value: Value| {
        let mut rule = daily.clone();
        rule[key] = value;
        world.put("daily", &rule).await;
    };
    world.put("daily", &daily).await;
    world.receiver.wait("/hook", 1).await;
    // Switched off and on again, and the channel taken away and given back, each twice.
    for (told, key, value, back) in [
        (2, "disabled", json!(true), json!(false)),
        (4, "disabled", json!(true), json!(false)),
        (6, "channels", json!([]), json!(["hook"])),
        (8, "channels", json!([]), json!(["hook"])),
    ] {
        change(&world, key, value).await;
        world.receiver.wait("/hook", told).await;
        change(&world, key, back).await;
        world.receiver.wait("/hook", told + 1).await;
    }
    let told = world.hooks();
    let kinds: Vec<&str> = told.iter().map(Received::kind).collect();
    let again = ["resolved", "firing", "resolved", "firing", "resolved", "reminder", "resolved", "reminder"];
    assert_eq!((kinds[0], &kinds[1..]), ("firing", &again[..]), "{told:#?}");
    let of = |what: &dyn Fn(&Received) -> String| told.iter().map(what).collect::<BTreeSet<_>>().len();
    assert_eq!(of(&|told| told.body["pulse"]["slot"].to_string()), 1, "{told:#?}");
    assert_eq!(of(&|told| told.header("webhook-id").to_owned()), told.len(), "{told:#?}");
}
