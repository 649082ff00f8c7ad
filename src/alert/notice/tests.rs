use serde_json::json;

use super::*;
use crate::alert::machine::tests::rule;
use crate::alert::observe::ObservedTile;

#[test]
fn a_report_says_each_number_and_how_it_differs() {
    let weekly = json!({"condition": null, "resolve": null, "report_at": "09:00", "interval": "week", "timezone": "Europe/Berlin"});
    let rule = rule(weekly);
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
    let slot = at("2026-03-22T23:00:00Z");
    assert_eq!(rule.ripe_ms(slot), Some(at("2026-03-30T07:00:00Z")), "nine o'clock in summer");
    let chart = json!({"buckets": ["2026-03-16T00:00:00+01:00", "2026-03-23T00:00:00+01:00"], "series": [
        {"name": "orders", "values": [80, 100]}, {"name": "visits", "values": [0, 5]}, {"name": "errors", "values": [0, 0]},
    ]});
    let notice = About { project: 7, project_name: "shop", id: "a", rule: &rule, base: "" }.report(&rule.observe(&chart), slot, 0);
    let body = notice.body();
    for line in ["orders: 100 (+25.0 %, before 80)", "visits: 5 (new)", "errors: 0 (as before)"] {
        assert!(body.contains(line), "{body}");
    }
    assert!(!notice.is_firing());
}

#[test]
fn a_board_is_told_tile_by_tile_and_none_is_left_out() {
    let of_board = json!({"report": "board", "question": {"board": "shop"}, "condition": null, "resolve": null, "report_at": "09:00", "interval": "day"});
    let rule = rule(of_board);
    let (before, slot) = (0, 86_400_000);
    let series = |was: f64, is: f64| Series { values: [(before, was), (slot, is)].into(), ..Series::default() };
    let tile = |title: &str, lines: Vec<(String, Series)>| ObservedTile {
        title: title.to_owned(),
        lines: lines.into_iter().collect(),
        ..ObservedTile::default()
    };
    let many = (0..40).map(|number| (format!("\"c{number:02}\""), series(1.0, f64::from(number)))).collect();
    let mut tiles =
        vec![tile("Orders", vec![("orders".to_owned(), series(80.0, 100.0))]), tile("Countries", many), tile("Nobody", Vec::new())];
    tiles.push(ObservedTile { problem: "there is no cohort `x`".to_owned(), ..tile("Broken", Vec::new()) });
    let about = About { project: 7, project_name: "shop", id: "a", rule: &rule, base: "https://pulse.example/" };
    let notice = about.report(&Observed { tiles, ..Observed::default() }, slot, 0);
    let body = notice.body();
    let lines = [
        "Orders: 100 (+25.0 %, before 80)",
        "Countries: \"c39\": 39 (",
        "Nobody: nothing (as before)",
        "Broken: nothing (cannot be told: there is",
    ];
    for line in lines {
        assert!(body.contains(line), "{body}");
    }
    assert_eq!((notice.lines.len(), notice.unnamed, notice.url.as_str()), (13, 30, "https://pulse.example/boards/shop"));
    let full = vec![tile("T", (0..40).map(|number| (number.to_string(), series(1.0, 2.0))).collect()); 50];
    let notice = about.report(&Observed { tiles: full, ..Observed::default() }, slot, 0);
    assert_eq!((notice.lines.len(), notice.unnamed), (100, 1_900));
}

#[test]
fn the_id_is_that_of_what_it_is_about_and_of_nothing_else() {
    let rule = rule(json!({"runbook": "https://wiki.example/1", "annotations": {"summary": "look"}, "timezone": "Asia/Kathmandu"}));
    let about = About { project: 7, project_name: "shop", id: "a", rule: &rule, base: "https://pulse.example/" };
    let (one, later) = (about.notice(Kind::Firing, 60_000, 1), about.notice(Kind::Firing, 60_000, 2));
    assert_eq!(one.id("hook"), later.id("hook"));
    let others = [about.notice(Kind::Resolved, 60_000, 1), about.notice(Kind::Firing, 120_000, 1)];
    let ids: Vec<Uuid> = others.iter().map(|notice| notice.id("hook")).chain([one.id("mail")]).collect();
    assert!(!ids.contains(&one.id("hook")));
    // A rule that was switched off and on again tells of the same slot anew, each time the same to all attempts.
    let lives = [0, 5, 6].map(|began| Notice { began, ..one.clone() });
    let ids: std::collections::BTreeSet<Uuid> = lives.iter().map(|notice| notice.id("hook")).collect();
    assert_eq!(ids.len(), 3);
    let kept: Notice = serde_json::from_str(&serde_json::to_string(&lives[1]).unwrap()).unwrap();
    assert_eq!(kept.id("hook"), lives[1].id("hook"));
    // What an earlier release has written is told under the id that it has there.
    let mut earlier = serde_json::to_value(&one).unwrap();
    earlier.as_object_mut().unwrap().remove("began");
    assert_eq!(serde_json::from_value::<Notice>(earlier).unwrap().id("hook"), one.id("hook"));
    assert_eq!(one.url, "https://pulse.example/alerts/a?slot=1970-01-01T00%3A01%3A00Z&timezone=Asia%2FKathmandu");
    let body = one.body();
    assert!(body.contains("look") && body.contains("runbook: https://wiki.example/1") && body.contains("+05:30"), "{body}");
    assert_eq!(serde_json::from_str::<Notice>(&serde_json::to_string(&one).unwrap()).unwrap(), one);
}

#[test]
fn the_end_of_a_rule_of_many_lines_names_as_many_as_receivers_take() {
    let rule = rule(json!({}));
    let about = About { project: 7, project_name: "shop", id: "a", rule: &rule, base: "" };
    let line = |number: usize| NamedLine {
        name: format!("{number:04}{}", "x".repeat(1_000)),
        is_firing: true,
        since: 0,
        value: None,
        reason: String::new(),
    };
    let goes_on = Notice { lines: (0..3_000).map(line).collect(), firing: 3_000, ..about.notice(Kind::Reminder, 60_000, 90_000) };
    let end = goes_on.of_end("deleted").cut();
    assert_eq!((end.lines.len(), end.unnamed, end.firing), (100, 2_900, 0));
    // PagerDuty takes half a megabyte.
    assert!(serde_json::to_string(&end).unwrap().len() < 200_000 && end.body().contains("and 2980 more"), "{}", end.body());
}

#[test]
fn the_end_of_a_rule_is_another_notice_than_that_of_a_line_in_the_same_slot() {
    let rule = rule(json!({}));
    let about = About { project: 7, project_name: "shop", id: "a", rule: &rule, base: "" };
    let line = |name: &str, is_firing| NamedLine { name: name.to_owned(), is_firing, since: 0, value: None, reason: String::new() };
    // One line is over while another goes on; at noon the rule is deleted.
    let earlier = Notice { lines: vec![line("\"A\"", false)], firing: 1, ..about.notice(Kind::Resolved, 60_000, 60_500) };
    let goes_on = Notice { lines: vec![line("\"B\"", true)], firing: 1, ..about.notice(Kind::Reminder, 60_000, 90_000) };
    let end = goes_on.of_end("deleted");
    assert_eq!((end.kind, end.is_firing(), end.episode_key()), (Kind::Resolved, false, earlier.episode_key()));
    assert_ne!(end.id("hook"), earlier.id("hook"));
    let kept: Notice = serde_json::from_str(&serde_json::to_string(&end).unwrap()).unwrap();
    assert_eq!((kept.id("hook"), kept.lines[0].is_firing), (end.id("hook"), false), "the same over restarts");
    let judging = about.notice(Kind::Judging, 60_000, 90_000);
    assert_eq!(
        (judging.title(), judging.of_end("deleted").title()),
        ("[judging again] a (shop)".to_owned(), "[told no more] a (shop)".to_owned())
    );
}
