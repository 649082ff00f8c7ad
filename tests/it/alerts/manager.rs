//! A real Alertmanager: what it knows of an alert from its beginning to its end, and whom it tells.

use serde_json::{Value, json};

use super::{World, largest};
use crate::harness::alertmanager::Alertmanager;
use crate::harness::receiver::Receiver;
use crate::harness::{PATIENCE, POLL};

/// How long before what an Alertmanager takes for now a clock of pulse is by which an alert that is told once lasts half a minute more.
const BEHIND_S: i64 = 210;

fn ms(time: &Value) -> i64 {
    time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// Waits until what an Alertmanager knows is so.
async fn until(manager: &Alertmanager, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let waiting = async {
        loop {
            let known = manager.alerts().await;
            if holds(&known) {
                return known;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("Alertmanager does not come to that")
}

#[tokio::test]
async fn a_real_alertmanager_has_an_alert_as_long_as_it_goes_on_and_tells_its_beginning_and_its_end() {
    let receiver = Receiver::start().await;
    let manager = Alertmanager::start(&receiver.url("/told")).await;
    let channel = format!("[channels.manager]\nkind = 'alertmanager'\nurl = '{}'\n", manager.url());
    let often = [("PULSE__ALERTS__REPEAT_EVERY", "1s".to_owned())];
    // The clock of an Alertmanager cannot be set: that of pulse is behind it, and comes up to it.
    let mut world = World::start_ahead(&channel, &often, -2 * BEHIND_S).await;
    let mut rule = largest("order", &["manager"]);
    (rule["name"], rule["severity"]) = (json!("<!channel> & orders"), json!("critical"));
    (rule["labels"], rule["annotations"]) = (json!({"team": "shop", "empty": ""}), json!({"summary": "too much at once"}));
    world.put("orders", &rule).await;
    world.judged("orders").await;
    let sent_ms = world.now_ms();
    world.order(9).await;
    world.pass(-BEHIND_S - world.ahead_s);

    let fires = until(&manager, |known| known.iter().any(|alert| alert["status"]["state"] == "active")).await;
    let alert = &fires[0];
    let labels = [("alertname", "<!channel> & orders"), ("rule", "orders"), ("severity", "critical"), ("team", "shop")];
    assert!(fires.len() == 1 && labels.iter().all(|(name, value)| alert["labels"][name] == *value), "{fires:#?}");
    assert_eq!((&alert["labels"]["empty"], &alert["annotations"]["summary"]), (&Value::Null, &json!("too much at once")));
    let begins = ms(&alert["startsAt"]);
    assert!((sent_ms - 60_000..=sent_ms + 60_000).contains(&begins), "{alert:#}");
    // Told once it would be over at this time; told again and again it is not, also between two times.
    let first_end = ms(&alert["endsAt"]);
    while pulse::clock::now_ms() <= first_end + 2_000 {
        let known = manager.alerts().await;
        let goes_on = known.len() == 1 && known[0]["status"]["state"] == "active" && known[0]["fingerprint"] == alert["fingerprint"];
        assert!(goes_on, "{known:#?}");
        tokio::time::sleep(10 * POLL).await;
    }
    assert!(ms(&manager.alerts().await[0]["endsAt"]) > first_end);

    world.order(1).await;
    world.pass(60);
    until(&manager, <[Value]>::is_empty).await;
    let told = receiver.wait("/told", 2).await;
    let statuses: Vec<&Value> = told.iter().map(|told| &told.body["status"]).collect();
    assert_eq!(statuses, ["firing", "resolved"], "{told:#?}");
    let ended = &told[1].body["alerts"][0];
    assert_eq!((&ended["fingerprint"], &ended["labels"]["rule"]), (&alert["fingerprint"], &json!("orders")), "{ended:#}");
    assert!((begins..=pulse::clock::now_ms()).contains(&ms(&ended["endsAt"])), "{ended:#}");
}
