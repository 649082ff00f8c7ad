use super::*;
use crate::event::field::{Field, flag};
use crate::ingest::tests::read::{Read, key_of, read};
use crate::ingest::tests::{NOW, SHOP, decoded_as};

fn stored(body: &str) -> Vec<Read> {
    read(|intake| envelope::json(body.as_bytes(), &ENVELOPE, intake))
}

fn one(event: &str) -> Read {
    let mut stored = stored(event);
    assert_eq!(stored.len(), 1, "{event}");
    stored.remove(0)
}

#[test]
fn what_a_server_names_is_a_user() {
    let event = one(r#"{"event":"order","distinct_id":7,"uuid":"e-1","timestamp":"2026-09-21T14:13:10+00:00",
        "properties":{"total":12.5,"token":"mine","$os":"Linux","$lib":"posthog-python","$is_server":true,"$geoip_disable":true}}"#);
    assert_eq!(event.ids(), ["order", "7", ""]);
    assert_eq!(event.at_ms, 1_789_999_990_000);
    assert_eq!(event.properties(), ["token=mine", "total=12.5"]);
    assert_eq!(event.text(Field::Os), "", "the server's system is not the visitor's");
}

#[test]
fn a_page_knows_its_visitor_before_it_knows_the_user() {
    let page = |more: &str| {
        one(&format!(
            r#"{{"event":"$pageview","uuid":"e-1","offset":5000,"properties":{{"distinct_id":"d-1","$device_id":"d-1","token":"k","title":"Shop",
            "$current_url":"https://shop.example/a","$referrer":"$direct","$raw_user_agent":"Mozilla/5.0","$os":"Linux","$browser":"Chrome",
            "$session_id":"s","utm_source":"news","utm_term":null,"$screen_width":1280{more}}}}}"#
        ))
    };
    let before = page(r#","$is_identified":false"#);
    assert_eq!(before.ids(), ["page", "", "d-1"]);
    assert_eq!(before.at_ms, NOW - 5_000);
    assert_eq!(before.properties(), Vec::<String>::new());
    let fields =
        [Field::PageUrl, Field::PageTitle, Field::Referrer, Field::UserAgent, Field::Os, Field::ClientSession, Field::CampaignSource];
    assert_eq!(fields.map(|field| before.text(field)), ["https://shop.example/a", "Shop", "", "Mozilla/5.0", "", "s", "news"]);
    let after = page(r#","$is_identified":true,"distinct_id":"ada""#);
    assert_eq!(after.ids(), ["page", "ada", "d-1"]);
}

#[test]
fn an_app_says_what_it_runs_on_and_a_title_is_of_a_page() {
    let app = one(
        r#"{"event":"$screen","distinct_id":"ada","uuid":"e","properties":{"$device_type":"Mobile","$os_name":"iOS","$lib":"posthog-ios",
        "$lib_version":"3.1","title":"mine"}}"#,
    );
    assert_eq!([Field::DeviceType, Field::Os].map(|field| app.text(field)), ["mobile", "iOS"]);
    assert_eq!(app.properties(), ["title=mine"]);
    let page = one(
        r#"{"event":"$pageview","distinct_id":"ada","uuid":"e","properties":{"$device_type":"Mobile","$raw_user_agent":"Mozilla/5.0"}}"#,
    );
    assert_eq!((page.text(Field::DeviceType), page.properties()), (String::new(), Vec::new()), "its agent says so");
}

#[test]
fn identify_and_alias_are_those_of_reports() {
    let identify =
        one(r#"{"event":"$identify","distinct_id":"ada","uuid":"e","$set":{"team":"blue","token":"t"},"$set_once":{"first":"x"},
        "properties":{"$anon_distinct_id":"d-1","$is_identified":true}}"#);
    assert_eq!(identify.ids(), ["identify", "ada", "d-1"]);
    assert_eq!(identify.properties(), ["$set_once.first=x", "team=blue", "token=t"]);
    let alias = one(r#"{"event":"$create_alias","distinct_id":"anon","uuid":"e","properties":{"distinct_id":"anon","alias":"ada"}}"#);
    assert_eq!(alias.ids(), ["alias", "anon", ""]);
    assert_eq!(alias.properties(), ["previousId=ada"]);
    let group =
        one(r#"{"event":"$groupidentify","distinct_id":"ada","uuid":"e","properties":{"$group_type":"company","$group_set":{"seats":5}}}"#);
    assert_eq!(group.ids(), ["group", "ada", ""]);
    assert_eq!(group.properties(), ["$group_set.seats=5", "$group_type=company"]);
    assert_eq!([group, identify, alias].map(|event| event.text(Field::Bot)), ["group", "", ""], "a group is nobody");
}

#[test]
fn what_is_said_of_the_user_in_passing_is_an_identify_of_its_own() {
    let both = stored(r#"{"event":"order","distinct_id":"ada","uuid":"e","properties":{"total":1,"$set":{"plan":"pro"}}}"#);
    assert_eq!(both.iter().map(|event| event.ids()[0].clone()).collect::<Vec<_>>(), ["order", "identify"]);
    assert_eq!([both[0].properties(), both[1].properties()], [["total=1"], ["plan=pro"]]);
    assert_ne!(both[0].event_id, both[1].event_id);
    assert_eq!(both[1].event_id, stored(r#"{"event":"order","distinct_id":"ada","uuid":"e","$set":{"plan":"x"}}"#)[1].event_id);
}

#[test]
fn one_request_is_of_one_project() {
    let of = |keys: [&str; 2]| {
        let events = keys.map(|key| format!(r#"{{"event":"a","distinct_id":"b","properties":{{"token":"{key}"}}}}"#)).join(",");
        key_of(|intake| envelope::json(format!("[{events}]").as_bytes(), &ENVELOPE, intake))
    };
    assert_eq!(of(["k", "k"]), Ok(Some("k".to_owned())));
    assert_eq!(of(["k", "l"]), Err(Refusal::SeveralKeys));
}

#[test]
fn visitors_of_a_page_that_keeps_nothing_are_known_by_their_address() {
    let event = |more: &str| {
        format!(
            r#"{{"event":"$pageview","uuid":"e-1","properties":{{"distinct_id":"$posthog_cookieless","$device_id":null,"token":"k","$cookieless_mode":true,
            "$process_person_profile":false,"$raw_user_agent":"Mozilla/5.0"{more}}}}}"#
        )
    };
    let page = one(&event(""));
    let [name, user, visitor] = page.ids();
    assert_eq!((name.as_str(), user.as_str(), visitor.len()), ("page", "", 32));
    assert_eq!(page.properties(), Vec::<String>::new());
    assert_eq!(one(&event("").replace("false", "true")).ids(), page.ids(), "with a profile, too");
    assert_eq!(one(&event("").replace(r#""$cookieless_mode":true,"#, "")).ids(), page.ids());
    let both = stored(&event(r#","$set":{"plan":"pro"}"#));
    assert_eq!(both.iter().map(|event| event.ids()[2].clone()).collect::<Vec<_>>(), [visitor.as_str(), visitor.as_str()]);
    let behind =
        stored(&event(r#","$set":{"plan":"pro"},"$ip":"203.0.113.7""#)).iter().map(|event| event.ids()[2].clone()).collect::<Vec<_>>();
    assert_eq!((behind.len(), &behind[0]), (2, &behind[1]), "of a proxy's visitor, too");
    assert_ne!(behind[0], visitor);
    let identified = one(&event(r#","$anon_distinct_id":"$posthog_cookieless","$process_person_profile":true"#)
        .replace(r#""distinct_id":"$posthog_cookieless","#, r#""distinct_id":"ada","#));
    assert_eq!(identified.ids(), ["page", "ada", ""]);
    // Without an address they would all be one.
    let of_server = event(r#","$geoip_disable":true"#);
    let decoded = decoded_as(SHOP, |_| {}, |intake| envelope::json(of_server.as_bytes(), &ENVELOPE, intake)).unwrap();
    assert_eq!(decoded.verdicts.rejected.iter().map(|event| event.defect).collect::<Vec<_>>(), [Defect::UserRequired]);
}

#[test]
fn a_property_called_alias_is_one() {
    let event = one(r#"{"event":"domain_added","distinct_id":"ada","uuid":"e","properties":{"alias":"a.example"}}"#);
    assert_eq!(event.properties(), ["alias=a.example"]);
}

#[test]
fn what_older_sdks_call_an_event_is_its_id() {
    let event = |id: &str| one(&format!(r#"{{"event":"order","distinct_id":"ada","properties":{{"$insert_id":{id}}}}}"#));
    assert_eq!(event(r#""i-1""#).event_id, event(r#""i-1""#).event_id);
    assert_ne!(event(r#""i-1""#).event_id, event(r#""i-2""#).event_id);
    // What is none costs nothing.
    assert_eq!(event("5").ids(), ["order", "ada", ""]);
    assert_eq!((event(r#""i-1""#).properties(), event("5").properties()), (vec!["$insert_id=i-1".to_owned()], vec![]));
}

#[test]
fn the_sdk_for_ruby_calls_the_id_of_an_event_otherwise() {
    let event = |ids: &str| one(&format!(r#"{{"event":"order","distinct_id":"ada",{ids}}}"#));
    let first = event(r#""messageId":"m-1""#);
    assert_eq!((first.event_id, first.flags & flag::SERVER_ID), (event(r#""messageId":"m-1""#).event_id, 0));
    assert_ne!(first.event_id, event(r#""messageId":"m-2""#).event_id);
    let uuid = event(r#""uuid":"e-1""#).event_id;
    for both in [r#""uuid":"e-1","messageId":"m-1""#, r#""messageId":"m-1","uuid":"e-1""#] {
        assert_eq!(event(both).event_id, uuid, "{both}");
    }
}

#[test]
fn two_events_of_one_order_are_two() {
    let of = |event: &str, user: &str, time: &str, insert_id: &str| {
        let event = one(&format!(
            r#"{{"event":"{event}","distinct_id":"{user}","timestamp":"{time}","properties":{{"$insert_id":"{insert_id}"}}}}"#
        ));
        assert_eq!(event.flags & flag::SERVER_ID, 0);
        event.event_id
    };
    let time = "2026-09-21T14:13:10Z";
    let order = of("order", "ada", time, "1042");
    assert_eq!(order, of("order", "ada", "2026-09-21T14:13:10.250Z", "1042"), "a copy, by the second");
    for other in [
        of("refund", "ada", time, "1042"),
        of("order", "bob", time, "1042"),
        of("order", "ada", "2026-09-21T14:13:11Z", "1042"),
        of("order", "ada", time, "1043"),
    ] {
        assert_ne!(order, other);
    }
    let random = "0195f1a0-0000-7000-8000-000000000001";
    assert_eq!(of("order", "ada", time, random), of("refund", "bob", time, random));
    // What is said of the user in passing has an id of its own, the same each time.
    let both = || stored(r#"{"event":"order","distinct_id":"ada","properties":{"$insert_id":"1042","$set":{"plan":"pro"}}}"#);
    let ids = both().iter().map(|event| event.event_id).collect::<Vec<_>>();
    assert_eq!((ids.len(), ids == both().iter().map(|event| event.event_id).collect::<Vec<_>>()), (2, true));
    assert_ne!(ids[0], ids[1]);
}
