use super::*;

fn read(text: &str) -> Result<Files, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.toml"), text).unwrap();
    Files::read(&folder.path().display().to_string())
}

#[test]
fn a_file_says_rules_and_channels_and_what_is_wrong_is_named() {
    let files = read(
        "[alerts.a]\nreport = 'trends'\nquestion = {series = [{event = 'x'}]}\ncondition = {below = 1}\nproject = 'shop'\nfor = 2\n\
         [channels.hook]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1/'\n",
    )
    .unwrap();
    let known = files.rules.values().next().unwrap();
    assert_eq!((known.key.project, known.rule.for_slots), (ProjectId::of_name("shop").0, 2));
    for (text, expected) in [
        ("[alerts.a]\nreport = 'trends'\n", "alerts.a.condition"),
        ("[alerts.a]\nreport = 'trends'\ncondition = {below = 1}\nforr = 1\n", "unknown field `forr`"),
        ("[alert.a]\nx = 1\n", "unknown section `alert`"),
        ("[alerts.'a b']\nx = 1\n", "`alerts.a b` is no section"),
        ("[channels.a]\nkind = 'webhook'\nurl = 'ftp://a'\n", "channels.a.url"),
        ("[channels.b]\nkind = 'slack'\nurl = 'http://127.0.0.1:1/'\n[channels.a\n", "a.toml: line "),
        ("[alerts.a]\nreport = 'trends'\ncondition = {above = 1}\n", "alerts.a.question: "),
        ("[alerts.a]\nreport = 'trends'\nquestion = {serie = [{event = 'x'}]}\ncondition = {above = 1}\n", "alerts.a.question: "),
        ("[alerts.a]\nreport = 'trends'\nquestion = {series = [{event = 'x', math = 'p101'}]}\ncondition = {above = 1}\n", "p101"),
        ("[alerts.a]\nreport = 'trends'\nquestion = {series = [{event = 'x'}], formula = 'A/B'}\ncondition = {above = 1}\n", "question: "),
        ("[alerts.a]\nreport = 'funnel'\nquestion = {steps = [{event = 'x'}]}\ncondition = {above = 1}\n", "alerts.a.question: "),
        ("[alerts.a]\nreport = 'ledger'\nquestion = {outcome = 'lost'}\ncondition = {above = 1}\n", "question.outcome: `lost`"),
        ("[alerts.a]\nreport = 'trends'\nquestion = {series = [{event = 'x'}]}\nline = 'zzz'\ncondition = {above = 1}\n", "line: `zzz`"),
        ("[alerts.a]\nreport = 'board'\ninterval = 'day'\nreport_at = '09:00'\n", "`board` must be the name"),
    ] {
        let problem = read(text).err().unwrap();
        assert!(problem.contains(expected), "{problem}, not {expected}");
    }
    assert!(Files::read("/nowhere/at/all").is_err() && Files::read("").is_ok());
}

#[test]
fn what_only_a_store_knows_is_no_fault_of_a_file_and_channels_that_no_file_says_are_named() {
    let files = read(
        "[alerts.a]\nreport = 'trends'\nquestion = {series = [{event = 'x'}], filters = [{cohort = 'buyers'}]}\ncondition = {below = 1}\n\
         channels = ['ops', 'opss', 'own']\n\
         [channels.ops]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1/'\n\
         [channels.own]\nproject = 'shop'\nkind = 'webhook'\nurl = 'http://127.0.0.1:1/'\n",
    )
    .unwrap();
    let known = files.rules.values().next().unwrap();
    assert_eq!(files.missing_channels(known), ["opss", "own"]);
}

#[test]
fn a_file_that_cannot_be_read_any_more_changes_nothing_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let rule = "report = 'trends'\nquestion = {series = [{event = 'x'}]}\ncondition = {below = 1}\n";
    write("a.toml", &format!("[alerts.a]\n{rule}"));
    write("b.toml", "[channels.ops]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1/'\n");
    let files = KnownFiles::open(&folder.path().display().to_string()).unwrap();
    let held = || (files.now().rules.len(), files.now().channels.len());
    assert_eq!(held(), (1, 1));
    write("c.toml", "[alerts.c");
    assert_eq!(held(), (1, 1), "half a file is no reason to forget the others");
    let catalogue = Catalogue::of(&files.now(), &[], &Trust::Operator, &Catalogue::default());
    let key = RuleKey { project: ProjectId::of_name(DEFAULT_PROJECT).0, id: "a".to_owned() };
    assert_eq!(catalogue.file_of_rule(&key).as_deref(), Some("a.toml"), "nor to let others overwrite what they say");
    write("c.toml", &format!("[alerts.c]\n{rule}"));
    assert_eq!(held(), (2, 1));
    // What is wrong may be mended beside the file.
    let secret = folder.path().join("secret");
    write("d.toml", &format!("[channels.late]\nkind = 'webhook'\nurl = 'file:{}'\n", secret.display()));
    assert_eq!(held(), (2, 1));
    write("secret", "http://127.0.0.1:1/");
    if let Some((_, at)) = &mut files.known.lock().unwrap().unread {
        *at -= UNREAD_FOR;
    }
    assert_eq!(held(), (2, 2));
}

#[test]
fn a_channel_of_a_file_is_that_of_the_file_whatever_is_saved_under_its_name() {
    let saved = |project, name: &str| {
        let body = serde_json::json!({"kind": "webhook", "url": "http://127.0.0.1:1/elsewhere"}).to_string();
        (CHANNELS.to_owned(), project, Saved { name: name.to_owned(), version: 1, body })
    };
    let text = "[channels.ops]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1/'\n\
                [channels.own]\nkind = 'webhook'\nproject = 'shop'\nurl = 'http://127.0.0.1:1/'\n";
    let (shop, other) = (ProjectId::of_name("shop"), ProjectId::of_name("other"));
    let all: Vec<_> = [shop, other].into_iter().flat_map(|project| [saved(project, "ops"), saved(project, "own")]).collect();
    let catalogue = Catalogue::of(&read(text).unwrap(), &all, &Trust::Operator, &Catalogue::default());
    for (project, id, file) in [(shop, "ops", true), (other, "ops", true), (shop, "own", true), (other, "own", false)] {
        assert_eq!(catalogue.file_of_channel(project, id), file.then_some("a.toml"), "{id}");
        assert_eq!(catalogue.channel(project, id).unwrap().saved.is_some(), !file, "{id}");
    }
    assert_eq!(catalogue.channels.iter().filter(|channel| channel.is_of(shop)).count(), 2, "each is listed once");
}

#[test]
fn a_channel_that_is_written_anew_is_another_one_though_it_says_the_same() {
    let text = "[channels.ops]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1/'\n";
    let of_file = |text: &str| read(text).unwrap().channels[0].fingerprint;
    assert_eq!(of_file(text), of_file(text));
    assert_ne!(of_file(text), of_file(&format!("# it is mended\n{text}")));
    let saved = |version| {
        let body = serde_json::json!({"kind": "webhook", "url": "http://127.0.0.1:1/"}).to_string();
        let all = [(CHANNELS.to_owned(), ProjectId(7), Saved { name: "ops".to_owned(), version, body })];
        Catalogue::of(&Files::default(), &all, &Trust::Operator, &Catalogue::default()).channels[0].fingerprint
    };
    // Versions are counted over deletions.
    assert!(saved(1) == saved(1) && saved(1) != saved(3));
}

#[test]
fn a_channel_that_was_switched_on_is_another_one_wherever_it_was_written() {
    let text = "[channels.ops]\nkind = 'webhook'\nurl = 'http://127.0.0.1:1/'\n\
                [channels.own]\nkind = 'webhook'\nproject = 'shop'\nurl = 'http://127.0.0.1:1/'\n";
    let (files, shop) = (read(text).unwrap(), ProjectId::of_name("shop"));
    let saved = |kind: &str, project, name: &str, version, body: Value| {
        (kind.to_owned(), project, Saved { name: name.to_owned(), version, body: body.to_string() })
    };
    let mine = saved(CHANNELS, shop, "mine", 1, serde_json::json!({"kind": "webhook", "url": "http://127.0.0.1:1/"}));
    let of = |all: &[_], known: &Catalogue| Catalogue::of(&files, &[all, std::slice::from_ref(&mine)].concat(), &Trust::Operator, known);
    let identities = |catalogue: &Catalogue| ["ops", "own", "mine"].map(|id| catalogue.channel(shop, id).unwrap().identity());
    let on = |project, name: &str, version| saved(SWITCHED_ON, project, name, version, serde_json::json!({}));
    let first = of(&[], &Catalogue::default());
    let once = of(&[on(ProjectId(0), "ops", 1), on(shop, "own", 1), on(shop, "mine", 1)], &first);
    let twice = of(&[on(ProjectId(0), "ops", 2), on(shop, "own", 2), on(shop, "mine", 2)], &once);
    let again = of(&[on(ProjectId(0), "ops", 2), on(shop, "own", 2), on(shop, "mine", 2)], &twice);
    for id in 0..3 {
        let [first, once, twice, again] = [&first, &once, &twice, &again].map(|catalogue| identities(catalogue)[id]);
        assert!(first != once && once != twice && first != twice && twice == again, "{id}");
    }
    // Each project has channels of its own under a name.
    assert_eq!(identities(&of(&[on(ProjectId(7), "mine", 1), on(shop, "ops", 1)], &first)), identities(&first));
}

#[test]
fn a_rule_that_was_saved_before_it_was_refused_is_still_judged() {
    let saved = |missed_after: &str| {
        let body = serde_json::json!({
            "report": "trends", "question": {"series": [{}]}, "condition": {"above": 1}, "missed_after": missed_after,
        });
        serde_json::from_value::<SavedRule>(serde_json::json!({"project": "shop", "rule": body})).unwrap()
    };
    assert_eq!(saved("0s").rule.check().unwrap_err().field, "missed_after");
    let key = RuleKey { project: 7, id: "a".to_owned() };
    for (written, missed_after) in [("0s", 1), ("1s", 1), ("10m", 600)] {
        let known = KnownRule::of(&key, saved(written), Origin::UNSAVED).unwrap();
        assert_eq!(known.rule.body.missed_after, Duration::from_secs(missed_after));
    }
}

#[test]
fn what_is_known_in_its_version_is_not_read_again() {
    let saved = |kind: &str, name: &str, version, body: Value| {
        (kind.to_owned(), ProjectId(7), Saved { name: name.to_owned(), version, body: body.to_string() })
    };
    let rule = |version, limit| {
        let body = serde_json::json!({"report": "trends", "question": {"series": [{}]}, "condition": {"above": limit}});
        saved(RULES, "a", version, serde_json::json!({"project": "shop", "rule": body}))
    };
    let channel = |version, text: &str| {
        saved(CHANNELS, "hook", version, serde_json::json!({"kind": "webhook", "url": format!("http://127.0.0.1:1/{text}")}))
    };
    let mute = saved(MUTES, "a", 1, serde_json::json!({"silence": {"until": 5}}));
    let of = |all: &[_], known: &Catalogue| Catalogue::of(&Files::default(), all, &Trust::Operator, known);
    let first = of(&[rule(1, 1), channel(1, "a"), mute.clone()], &Catalogue::default());
    let key = RuleKey { project: 7, id: "a".to_owned() };
    let is_kept = |now: &Catalogue| {
        let rule = Arc::ptr_eq(&first.rules[&key], &now.rules[&key]);
        (rule, Arc::ptr_eq(&first.channels[0].channel, &now.channels[0].channel))
    };
    let same = of(&[rule(1, 1), channel(1, "a"), mute], &first);
    assert_eq!((is_kept(&same), same.channels.len(), same.mutes.len()), ((true, true), 1, 1));
    let other = of(&[rule(2, 3), channel(2, "b")], &same);
    assert_eq!(is_kept(&other), (false, false));
    assert_ne!(first.channels[0].fingerprint, other.channels[0].fingerprint);
    assert!(of(&[], &other).rules.is_empty() && of(&[], &other).channels.is_empty(), "what is deleted is gone");
}

#[test]
fn who_acknowledges_has_seen_what_was_an_alert_then_and_of_an_earlier_release_all_of_it() {
    let of = |note: serde_json::Value| serde_json::from_value::<Note>(note).unwrap();
    let ack = of(serde_json::json!({"by": "ada", "at": 1, "until": 2, "episode": 60_000, "through": 120_000}));
    assert_eq!([60_000, 120_000, 180_000].map(|began| ack.covers(began)), [true, true, false]);
    assert!(of(serde_json::json!({"by": "ada", "at": 1, "until": 2, "episode": 60_000})).covers(180_000));
}

#[test]
fn an_acknowledgement_is_of_the_alert_of_one_life_of_its_rule() {
    let state = |since, episode| RuleState { since, episode, ..RuleState::default() };
    let ack = Note { episode: 60_000, through: 120_000, began: 50_000, ..Note::default() };
    assert!(ack.is_of(&state(50_000, 60_000)));
    assert!(!ack.is_of(&state(70_000, 60_000)), "it began anew within the slot");
    assert!(!ack.is_of(&state(50_000, 180_000)), "another alert");
    let of_earlier_release = Note { began: 0, ..ack };
    assert!(of_earlier_release.is_of(&state(70_000, 60_000)) && !of_earlier_release.is_of(&state(70_000, 180_000)));
    let of_nothing = Note { episode: 0, ..of_earlier_release };
    assert!(!of_nothing.is_of(&state(50_000, 0)));
}

#[test]
fn a_report_that_nobody_would_be_told_is_found_by_a_check_and_ends_no_instance() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[alerts.a]\nreport = 'board'\nquestion = {board = 'b'}\ninterval = 'day'\nreport_at = '09:00'\n\
                active = {from = '10:00', to = '18:00'}\n";
    std::fs::write(folder.path().join("a.toml"), text).unwrap();
    let folder = folder.path().to_str().unwrap();
    let problem = crate::alert::check_files(folder).unwrap_err();
    assert!(problem.contains("alerts.a.active: "), "{problem}");
    assert_eq!(Files::read(folder).unwrap().rules.len(), 1);
}
