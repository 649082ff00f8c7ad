use std::io::Write;

use super::*;

fn load(text: &str, environment: &[(&str, &str)], flags: &[(&str, String)]) -> Result<Config, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(file.path()), environment, flags)
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let text = "data_dir = 'a'\n[load]\nmax_rows = 7\nmax_age = '1s'\n";
    let config = load(text, &[("PULSE__LOAD__MAX_ROWS", "8"), ("PULSE__DATA_DIR", "b")], &[("data_dir", "c".to_owned())]).unwrap();
    assert_eq!(config.load.max_rows, 8);
    assert_eq!(config.load.max_age, Duration::from_secs(1));
    assert_eq!(config.data_dir, PathBuf::from("c"));
}

#[test]
fn values_with_which_nothing_can_work_are_refused_by_key() {
    for (name, value, key) in [
        ("PULSE__DATA_DIR", "", "data_dir: "),
        ("PULSE__CLICKHOUSE__ENGINE__MAX_MEMORY", "3MiB", "clickhouse.engine.max_memory = "),
        ("PULSE__CLICKHOUSE__REQUEST_TIMEOUT", "0s", "clickhouse.request_timeout = "),
        ("PULSE__LOAD__DEDUPE_MEMORY", "9999999GiB", "load.dedupe_memory: "),
        ("PULSE__INGEST__LINGER", "1h", "ingest.linger: "),
        ("PULSE__REDIS__URL", "http://x", "redis.url: "),
    ] {
        let problem = load("", &[(name, value)], &[]).unwrap().check().unwrap_err().0;
        assert!(problem.starts_with(key), "{name}={value}: {problem}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    let problem = load("[load]\nmax_row = 7\n", &[], &[]).unwrap_err().0;
    assert!(problem.ends_with("unknown key `load.max_row`: did you mean `load.max_rows`?"), "{problem}");
    let problem = load("", &[("PULSE__LAOD__MAX_ROWS", "7")], &[]).unwrap_err().0;
    assert!(problem.contains("unknown key `laod`: did you mean `load`?"), "{problem}");
    let problem = load("", &[("PULSE__PULSE__DATA_DIR", "b")], &[]).unwrap_err().0;
    assert!(problem.contains("unknown key `pulse`"), "{problem}");
    let problem = load("", &[("PULSE__HTTP__LISTEN__X", "1")], &[]).unwrap_err().0;
    assert!(problem.contains("http.listen is a key, not a section"), "{problem}");
}

#[test]
fn a_value_of_the_wrong_kind_names_key_and_value() {
    let problem = load("", &[("PULSE__LOAD__MAX_ROWS", "many")], &[]).unwrap_err().0;
    assert!(problem.contains("load.max_rows: `many` is not a whole number"), "{problem}");
}

#[test]
fn sizes_are_written_with_units_or_in_bytes_wherever_they_stand() {
    let text = "[load]\ndedupe_memory = '32MiB'\n[query]\ncache_bytes = 1048576\n";
    let config = load(text, &[("PULSE__LOG__EMBEDDED__MAX_BYTES", "40GiB"), ("PULSE__HTTP__MAX_BODY_MEMORY", "134217728")], &[]).unwrap();
    assert_eq!((config.load.dedupe_memory, config.query.cache_bytes), (32 << 20, 1 << 20));
    assert_eq!((config.log.embedded.max_bytes, config.http.max_body_memory), (40 << 30, 128 << 20));
    let problem = load("", &[("PULSE__LOAD__DEDUPE_MEMORY", "much")], &[]).unwrap_err().0;
    assert!(problem.contains("dedupe_memory") && problem.contains("much") && problem.contains("64MiB"), "{problem}");
}

#[test]
fn options_of_librdkafka_may_be_written_in_every_way() {
    let text = "[log.kafka.options]\nsecurity.protocol = 'ssl'\n'sasl.username' = 'ada'\nlinger.ms = 5\n";
    let config =
        load(text, &[("PULSE__LOG__KAFKA__OPTIONS__SASL__PASSWORD", "x"), ("PULSE__LOG__KAFKA__BROKERS", "a:1,b:2")], &[]).unwrap();
    let options: Vec<_> = config.log.kafka.options.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(options, [("linger.ms", "5"), ("sasl.password", "x"), ("sasl.username", "ada"), ("security.protocol", "ssl")]);
    assert_eq!(config.log.kafka.brokers, ["a:1", "b:2"]);
    assert!(load("[log.kafka]\noption = 1\n", &[], &[]).unwrap_err().0.contains("did you mean `log.kafka.options`"));
}

#[test]
fn settings_of_a_project_may_be_written_in_every_way_and_misspelt_in_none() {
    let text = "[projects.shop]\nsession_gap = '10m'\ntimezone = 'Europe/Berlin'\n[projects.'My App']\nsession_cut_at_campaign = true\n";
    let environment = [("PULSE__PROJECTS__SHOP__SESSION_CUT_AT_MIDNIGHT", "true"), ("PULSE__PROJECTS__BLOG__LONGEST_SESSION", "1h")];
    let config = load(text, &environment, &[]).unwrap();
    let projects = config.check().unwrap().load.projects().clone();
    let rules = |name: &str| projects.of(crate::event::ids::ProjectId::of_name(name)).sessions.clone();
    assert_eq!((rules("shop").idle_gap_ms, rules("shop").days.is_some(), rules("blog").longest_ms), (600_000, true, 3_600_000));
    assert!(rules("My App").cuts_at_campaign && !rules("shop").cuts_at_campaign);
    for (text, expected) in [
        ("[projects.shop]\nsession_gab = '1m'\n", "did you mean `projects.shop.session_gap`"),
        ("[projects]\nshop = 1\n", "projects.shop is a section"),
    ] {
        let problem = load(text, &[], &[]).unwrap_err().0;
        assert!(problem.contains(expected), "{problem}");
    }
    let problem = load("", &[("PULSE__PROJECTS__SHOP__SESSION_CUT_AT_MIDNIGHT", "maybe")], &[]).unwrap_err().0;
    assert!(problem.contains("projects.shop.session_cut_at_midnight: `maybe`"), "{problem}");
    assert!(load("[projects.shop]\ntimezone = 'Berlin'\n", &[], &[]).unwrap().check().unwrap_err().0.contains("projects.shop.timezone"));
}

#[test]
fn a_file_that_cannot_be_read_is_named_by_line_without_what_stands_there() {
    for text in
        ["[clickhouse]\npassword = \"geheim123\n", "[clickhouse]\npassword = geheim123\n", "[clickhouse]\npassword = ['geheim123']\n"]
    {
        let problem = load(text, &[], &[]).unwrap_err().0;
        assert!(!problem.contains("geheim"), "{problem}");
    }
    assert!(load("[clickhouse]\npassword = \"geheim123\n", &[], &[]).unwrap_err().0.contains("line 2"));
}

#[test]
fn a_secret_that_is_still_the_examples_is_refused_by_its_key() {
    for (name, key) in [
        ("PULSE__CLICKHOUSE__PASSWORD", "clickhouse.password"),
        ("PULSE__LOG__KAFKA__OPTIONS__SASL__PASSWORD", "log.kafka.options.sasl.password"),
    ] {
        let problem = load("", &[(name, "change-me")], &[]).unwrap_err().0;
        assert!(problem.starts_with(&format!("{key}: `change-me`")), "{problem}");
    }
    let problem = load("[redis]\nurl = 'redis://:change-me@redis1/0'\n", &[], &[]).unwrap_err().0;
    assert!(problem.starts_with("redis.url: ") && !problem.contains("redis1"), "{problem}");
    let problem = load("[clickhouse]\nshards = ['http://ch1', 'http://ada:change-me@ch2']\n", &[], &[]).unwrap_err().0;
    assert!(problem.starts_with("clickhouse.shards: "), "{problem}");
}

#[test]
fn no_secret_is_shown_wherever_it_stands() {
    let text = "[clickhouse]\nurl = 'http://ada:hush@ch1'\ncluster = 'main'\nshards = ['http://ada:hush@ch1', 'http://bob:hush@ch2']\n\
                password = 'hush'\nreader_password = 'hush'\nmigrator_password = 'hush'\n[redis]\nurl = 'redis://:hush@redis1/0'\n";
    let config = load(text, &[("PULSE__LOG__KAFKA__OPTIONS__SASL__PASSWORD", "hush")], &[]).unwrap();
    let mut shown = vec![toml::to_string(&config).unwrap(), format!("{config:?}")];
    shown.push(format!("{:?}", config.check().unwrap()));
    for text in shown {
        assert!(!text.contains("hush"), "{text}");
    }
}

#[test]
fn what_would_have_no_effect_is_refused_by_its_key() {
    for (text, key) in [
        ("http.listen = ''\n", "http.listen: ``"),
        ("http.operations_listen = 'x'\n", "http.operations_listen: `x`"),
        ("http.listen = '127.0.0.1:8080'\nhttp.operations_listen = '127.0.0.1:8080'\n", "http.operations_listen: another listener"),
        ("http.listen = '127.0.0.1:0'\nhttp.tls.certificate = 'c.pem'\nhttp.tls.key = 'k.pem'\n", "http.tls.certificate: `c.pem`"),
        ("http.tls.key = 'k.pem'\n", "http.tls.key: `k.pem`"),
        ("alerts.external_url = 'ftp://pulse.example'\n", "alerts.external_url: `ftp://pulse.example`"),
        ("alerts.external_url = 'https://pulse.example/?z'\n", "alerts.external_url: `https://pulse.example/?z`"),
    ] {
        let problem = load(text, &[], &[]).unwrap().check().map(drop).unwrap_err().0;
        assert!(problem.contains(key), "{problem}");
    }
    load("http.listen = '127.0.0.1:0'\nhttp.operations_listen = '127.0.0.1:0'\n", &[], &[]).unwrap().check().unwrap();
}

#[test]
fn a_log_that_cannot_hold_what_the_roles_write_is_refused_with_key_and_value() {
    let refused = |text: &str| load(text, &[], &[]).unwrap().check().map(drop).unwrap_err().0;
    for kind in ["embedded", "kafka"] {
        let problem = refused(&format!("log.kind = '{kind}'\ningest.max_event_size = 5000000\n"));
        assert!(problem.starts_with(&format!("log.{kind}.max_record_bytes = ")), "{problem}");
    }
    load("", &[], &[]).unwrap().check().unwrap();
}

/// Keys of a table and of those within it.
fn keys_of(table: &Table, prefix: &str) -> Vec<String> {
    let of = |(key, value): (&String, &Value)| match value {
        Value::Table(inner) => keys_of(inner, &format!("{prefix}{key}.")),
        _ => vec![format!("{prefix}{key}")],
    };
    table.iter().flat_map(of).collect()
}

#[test]
fn the_file_that_is_shipped_says_every_key_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/pulse.toml");
    let written: Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let defaults = Table::try_from(Config::default()).unwrap();
    assert_eq!(keys_of(&written, ""), keys_of(&defaults, ""));
    let loaded = Config::load(Some(Path::new(path)), std::iter::empty(), &[]).unwrap();
    assert_eq!(Table::try_from(loaded).unwrap(), defaults);
}
