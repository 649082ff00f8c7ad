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
        ("[channels.a\n", "a.toml"),
    ] {
        let problem = read(text).err().unwrap();
        assert!(problem.contains(expected), "{problem}, not {expected}");
    }
    assert!(Files::read("/nowhere/at/all").is_err() && Files::read("").is_ok());
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
