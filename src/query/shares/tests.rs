use super::*;

const NOW_MS: i64 = 1_767_355_200_000;

fn share(body: &Value) -> Result<Share, QueryError> {
    Share::parse(body, SharedBoard { project: ProjectId(7), id: "shop" }, NOW_MS)
}

fn asked(share: &Share, report: &str, question: &Value, query: &str) -> Result<Value, &'static str> {
    share.question(Tile { report, question }, query).map_err(|problem| problem.code)
}

#[test]
fn filters_of_the_share_are_added_to_those_of_a_tile() {
    let german = json!({"field": "country", "value": "DE"});
    let share = share(&json!({"filters": [german], "people": true})).unwrap();
    let own = json!({"field": "os", "value": "iOS"});
    for (question, locked) in [
        (json!({"from": "-7d", "filters": [own]}), json!({"from": "-7d", "filters": [own, german]})),
        (json!({"from": "-7d", "filters": null, "refresh": true}), json!({"from": "-7d", "filters": [german]})),
        (json!({"of": {"report": "trends", "filters": [own]}}), json!({"of": {"report": "trends", "filters": [own, german]}})),
    ] {
        assert_eq!(asked(&share, "trends", &question, ""), Ok(locked));
    }
    assert_eq!(asked(&share, "trends", &json!({"from": "-7d"}), "from=-1d"), Err("dates_not_shared"));
}

#[test]
fn an_interval_is_for_tiles_that_stand_by_it() {
    let share = share(&json!({"dates": true, "people": true})).unwrap();
    let interval = |report, question: Value, query| asked(&share, report, &question, query).unwrap()["interval"].clone();
    assert_eq!(interval("trends", json!({}), "interval=hour"), "hour");
    assert_eq!(interval("lifecycle", json!({"interval": "week"}), "interval=hour"), "week");
    assert_eq!(interval("stickiness", json!({}), "interval=minute"), Value::Null);
    assert_eq!(interval("stickiness", json!({}), "interval=month"), "month");
    assert_eq!(interval("sessions", json!({"list": false}), "interval=hour"), "hour");
    assert_eq!(interval("sessions", json!({"list": true, "interval": null}), "interval=hour"), Value::Null);
}

#[test]
fn times_alone_can_be_changed_and_only_where_the_share_says_so() {
    let share = share(&json!({"dates": true})).unwrap();
    let question = json!({"from": "-7d", "interval": "day"});
    assert_eq!(asked(&share, "trends", &question, "from=-1d&interval=hour"), Ok(json!({"from": "-1d", "interval": "hour"})));
    for query in ["filters=[]", "include_bots=true", "refresh=true", "breakdown=userId", "project=8"] {
        assert_eq!(asked(&share, "trends", &question, query), Err("invalid_parameter"), "{query}");
    }
}

#[test]
fn what_names_people_is_not_answered_unless_the_share_says_so() {
    let closed = share(&json!({})).unwrap();
    let open = share(&json!({"people": true})).unwrap();
    let chart = |breakdown: Value| json!({"from": "-7d", "series": [{"event": "a"}], "breakdown": breakdown});
    let cases = [
        ("users", json!({})),
        ("events", json!({})),
        ("sessions", json!({"from": "-7d", "list": true})),
        ("trends", chart(json!("userId"))),
        ("trends", chart(json!(["country", "person.email"]))),
        ("paths", json!({"from": "-7d", "node": "session.visitor"})),
        ("catalogue-values", json!({"field": "anonymous_id"})),
        ("catalogue-values", json!({"field": "properties.email"})),
        ("catalogue-values", json!({"field": "properties.email", "event": "identify"})),
        ("trends", chart(json!("properties.previousId"))),
        ("properties", json!({"from": "-7d"})),
        ("properties", json!({"event": ["order", "identify"]})),
    ];
    for (report, question) in cases {
        assert_eq!(asked(&closed, report, &question, ""), Err("people_not_shared"), "{report} {question}");
        assert!(asked(&open, report, &question, "").is_ok());
    }
    let filtered = json!({"from": "-7d", "filters": [{"field": "person.plan", "value": "pro"}], "series": [{"math": "unique:userId"}]});
    assert!(asked(&closed, "trends", &filtered, "").is_ok(), "a number of people names none");
    assert!(asked(&closed, "properties", &json!({"event": "order"}), "").is_ok());
}

#[test]
fn of_every_report_it_is_known_whether_it_names_people() {
    let of_people = ["users", "events", "properties", "catalogue-values", "sessions"];
    let of_numbers = ["trends", "funnel", "lifecycle", "stickiness", "retention", "paths", "catalogue-events", "catalogue-fields"];
    let known: Vec<&str> = of_people.into_iter().chain(of_numbers).collect();
    for report in crate::query::questions() {
        assert!(known.contains(&report), "{report}: `names_people` lets through what it does not know; say there and here what it answers");
    }
    for report in BY_INTERVAL.iter().chain(&BY_PERIOD).chain(&known) {
        assert!(crate::query::questions().any(|question| question == *report), "there is no report {report}");
    }
}

#[test]
fn no_filter_of_a_board_is_shown_wherever_it_stands() {
    let by = |value: &str| json!([{"field": "properties.customer", "value": value}]);
    let questions = [
        json!({"filters": by("secret-a"), "series": [{"event": "order", "filters": by("secret-b")}]}),
        json!({"steps": [{"event": "visit", "filters": by("secret-c")}], "exclusions": [{"event": "bot", "filters": by("secret-d")}]}),
        json!({"cohort_event": {"event": "a", "filters": by("secret-e")}, "return_event": {"filters": by("secret-f")}}),
        json!({"of": {"report": "trends", "series": [{"filters": [{"any": by("secret-g")}]}]}}),
        json!({"did": {"event": "a", "filters": by("secret-h")}, "field": "country", "search": "secret-i"}),
    ];
    let tile = |question: &Value| json!({"report": "trends", "question": question, "view": {"page": "/trends?filters=secret-j"}});
    let board = json!({"title": "Shop", "tiles": questions.iter().map(tile).collect::<Vec<_>>()});
    let shown = share(&json!({"people": true})).unwrap().shown(&board, ShownBy { token: "x", timezone: "UTC" });
    assert!(!shown.to_string().contains("secret"), "{shown}");
    assert_eq!(shown["tiles"][0], json!({"report": "trends", "question": {"series": [{"event": "order"}]}}));
    assert_eq!(shown["tiles"][2]["question"]["cohort_event"], json!({"event": "a"}));
}

#[test]
fn what_is_no_share_is_refused() {
    for (body, code) in [
        (json!({"expires_at": "yesterday"}), "invalid_share"),
        (json!({"expires_at": "2026-01-01"}), "invalid_share"),
        (json!({"expires_at": "2036-01-01"}), "invalid_share"),
        (json!({"filters": [{"field": "contry"}]}), "invalid_field"),
        (json!({"filters": [{"any": [{"cohort": "buyers"}]}]}), "invalid_share"),
        (json!({"people": "yes"}), "invalid_share"),
        (json!({"embed": "https://shop.example"}), "invalid_share"),
        (json!({"embed": ["https://shop.example/path"]}), "invalid_share"),
        (json!({"embed": ["https://shop.example; script-src *"]}), "invalid_share"),
        (json!({"embed": ["https://a.example https://b.example"]}), "invalid_share"),
        (json!({"embed": ["https://shop.example\r\nx: y"]}), "invalid_share"),
        (json!({"embed": ["*"]}), "invalid_share"),
        (json!({"embed": ["https://*"]}), "invalid_share"),
        (json!({"embed": ["data:", 7]}), "invalid_share"),
        (json!({"embed": vec!["https://shop.example"; MOST_ORIGINS + 1]}), "invalid_share"),
        (json!({"project": 8}), "unknown_key"),
    ] {
        assert_eq!(share(&body).unwrap_err().code, code, "{body}");
    }
}

#[test]
fn a_link_that_a_later_release_has_limited_opens_nothing_here() {
    let opens = |change: &dyn Fn(&mut Value)| {
        let mut body = serde_json::to_value(share(&json!({"people": true})).unwrap()).unwrap();
        change(&mut body);
        let saved = Saved { name: name(ProjectId(7), "a"), version: 1, body: body.to_string() };
        let known = &Known::of_saved(vec![saved]).shares["a"];
        assert_eq!(known.board, body["board"].as_str().map(str::to_owned), "it ends with its board");
        known.share.is_some()
    };
    assert!(opens(&|body| body["$by"] = json!("ada")));
    assert!(opens(&|body| body["password"] = Value::Null));
    assert!(!opens(&|body| body["password"] = json!("a hash")));
    let revoked = Saved { name: name(ProjectId(7), "a"), version: 2, body: String::new() };
    let known = Known::of_saved(vec![revoked]);
    assert!(known.shares["a"].board.is_none() && known.shares["a"].share.is_none());
}
