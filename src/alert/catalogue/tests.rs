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
