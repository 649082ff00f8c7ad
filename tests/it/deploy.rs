//! What `deploy/` names is what the program knows: configuration keys and their values, metrics, secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Pulse, program};

const COMPOSE: [&str; 2] = ["compose.yaml", "compose.shards.yaml"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

/// The lines of a file that are no comments.
fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
    text.lines().map(str::trim).filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Every YAML file of a folder and of those within it.
fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    found
}

/// The names of what stands in `${…}`, and the text with something in their place.
fn filled(text: &str) -> (Vec<String>, String) {
    let mut names = Vec::new();
    let mut parts = text.split("${");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (inner, after) = part.split_once('}').unwrap_or_else(|| panic!("`{text}` has no end of `${{`"));
        names.push(inner.split(':').next().unwrap_or_default().to_owned());
        filled.push_str("secret");
        filled.push_str(after);
    }
    (names, filled)
}

/// The environment that a file gives to pulse, whichever of its services that is, once every secret is one.
fn environment(path: &Path) -> BTreeMap<String, String> {
    as_written(path).into_iter().map(|(name, value)| (name, value.replace("change-me", "secret"))).collect()
}

/// The same with the secrets that stand there.
fn as_written(path: &Path) -> BTreeMap<String, String> {
    let variable = |line: String| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: `{line}` is not `name: value`", path.display()));
        assert!(name.starts_with("PULSE__"), "{}: `{line}` does not begin with the name", path.display());
        (name.to_owned(), filled(value.trim().trim_matches('"')).1)
    };
    lines(path).into_iter().filter(|line| line.contains("PULSE__")).map(variable).collect()
}

/// What `pulse check-config` says, if it does not like what it is given.
fn refusal(file: Option<&Path>, environment: &BTreeMap<String, String>) -> Option<String> {
    let mut command = Command::new(program());
    command.arg("check-config").envs(environment);
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    let output = command.output().unwrap();
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_variable_is_a_key_with_a_sound_value() {
    let mut seen = BTreeSet::new();
    for file in yaml_files(&path("")) {
        let environment = environment(&file);
        assert_eq!(refusal(None, &environment), None, "{}", file.display());
        seen.extend(environment.into_keys());
    }
    let expected = ["PULSE__LOG__KIND", "PULSE__CLICKHOUSE__URL", "PULSE__CLICKHOUSE__SHARDS", "PULSE__REDIS__URL"];
    assert!(expected.iter().all(|name| seen.contains(*name)), "{seen:?}");
}

#[test]
fn a_variable_that_is_no_key_would_be_found() {
    let environment = BTreeMap::from([("PULSE__LOG__KAFKA__BROKER".to_owned(), "kafka:9092".to_owned())]);
    let said = refusal(None, &environment).unwrap();
    assert!(said.contains("did you mean `log.kafka.brokers`"), "{said}");
}

#[test]
fn the_configuration_of_the_manifests_is_sound() {
    let secrets = environment(&path("kubernetes/secret.example.yaml"));
    assert!(secrets.contains_key("PULSE__CLICKHOUSE__PASSWORD"), "{secrets:?}");
    assert_eq!(refusal(Some(&path("kubernetes/pulse.toml")), &secrets), None);
}

#[test]
fn nothing_starts_with_a_secret_of_the_example() {
    let file = path("kubernetes/secret.example.yaml");
    let secrets: Vec<_> = as_written(&file).into_iter().filter(|(_, value)| value.contains("change-me")).collect();
    assert_eq!(secrets.len(), 5, "{secrets:?}");
    for (name, value) in secrets {
        let key = name.trim_start_matches("PULSE__").replace("__", ".").to_lowercase();
        let said = refusal(None, &BTreeMap::from([(name, value)])).unwrap();
        assert!(said.contains(&key), "{said}");
    }
    let keys = lines(&file).join("").split_once("keys.json: |").unwrap().1.to_owned();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("keys.json"), keys).unwrap();
    let output = Command::new(program()).arg("keys").arg("--data-dir").arg(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("project default: a key says `change-me`"), "{said}");
}

/// Runs `pulse` on a folder with the arguments that stand in a file; what it prints.
fn printed(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(program()).args(arguments).env("PULSE__DATA_DIR", folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_fleet_gets_its_keys_the_first_time_and_the_same_ones_later() {
    let compose = lines(&path("compose.yaml"));
    let command = compose.iter().find_map(|line| line.strip_prefix("command: [keys, ")?.strip_suffix(']')).unwrap();
    let arguments: Vec<&str> = ["keys"].into_iter().chain(command.split(", ")).collect();
    let folder = tempfile::tempdir().unwrap();
    let first = printed(&arguments, folder.path());
    let keys: Value = serde_json::from_str(&first).unwrap();
    assert!(keys[0]["project"] == "default" && keys[0]["write_key"].as_str().unwrap().starts_with("pulse_wk_"), "{keys}");
    assert_eq!(printed(&arguments, folder.path()), first);

    let manifest = std::fs::read_to_string(path("kubernetes/secret.example.yaml")).unwrap();
    let command = manifest.lines().find_map(|line| line.strip_prefix("#   pulse ")?.split_once(" --data-dir")).unwrap().0;
    let folder = tempfile::tempdir().unwrap();
    let arguments: Vec<&str> = command.split(' ').collect();
    let made: Value = serde_json::from_str(&printed(&arguments, folder.path())).unwrap();
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("keys.json")).unwrap()).unwrap();
    assert_eq!(made, kept);
}

#[test]
fn the_example_has_every_secret_that_compose_asks_for() {
    let example: BTreeSet<String> =
        lines(&path(".env.example")).iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_owned()).collect();
    let asked: BTreeSet<String> =
        COMPOSE.iter().flat_map(|file| lines(&path(file))).flat_map(|line| filled(&line.replace("$$", "")).0).collect();
    assert_eq!(asked, example);
}

#[test]
fn history_is_not_brought_from_outside_and_ingest_reaches_the_redis_that_holds_the_rates() {
    assert!(!lines(&path("kubernetes/ingress.yaml")).iter().any(|line| line.contains("/v1/import")));
    let pods = lines(&path("kubernetes/ingest.yaml"));
    assert!(pods.contains(&"- secretRef: { name: pulse-redis, optional: true }".to_owned()));
    let policies = lines(&path("kubernetes/networkpolicy.yaml")).join("\n");
    let to_redis: Vec<&str> = policies.split("\n---\n").filter(|policy| policy.contains("port: 6379")).collect();
    assert!(matches!(to_redis.as_slice(), [policy] if policy.contains("values: [ingest, query]")), "{to_redis:?}");
    let compose = lines(&path("compose.yaml")).join("\n");
    let ingest = compose.split("\ningest:\n").nth(1).unwrap().split("\nworker:\n").next().unwrap();
    assert!(ingest.contains("PULSE__REDIS__URL: "), "{ingest}");
}

#[test]
fn what_is_asked_from_outside_reaches_those_who_answer_questions() {
    let balanced = lines(&path("compose/haproxy.cfg")).join(" ");
    let balanced: BTreeSet<&str> = balanced.split(' ').filter(|word| word.starts_with('/')).collect();
    let ingress = lines(&path("kubernetes/ingress.yaml"));
    let ingress: BTreeSet<&str> = ingress.iter().filter_map(|line| line.strip_prefix("- path: ")).collect();
    for (asked, _) in pulse::query::http::routes() {
        let first: String = asked.split('/').take(3).collect::<Vec<_>>().join("/");
        assert!(balanced.contains(&*first) && ingress.contains(&*first), "{first} is not in deploy/");
    }
    let pages = pulse::query::screen::pages().map(|page| format!("/{page}"));
    for path in pages.chain(["/assets".to_owned(), "/mcp".to_owned()]) {
        assert!(balanced.contains(&*path) && ingress.contains(&*path), "{path} is not in deploy/");
    }
    assert!(!["/metrics", "/healthz", "/readyz"].iter().any(|path| ingress.contains(path)));
}

/// By its tag, behind which a registry may put other bytes: digests are for those who pull and keep what they pulled.
#[test]
fn every_image_names_a_release() {
    let names_release = |image: &str, mark: char| {
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        tag.contains(mark) && tag.contains(|c: char| c.is_ascii_alphanumeric()) && tag != "latest"
    };
    for file in COMPOSE {
        for image in lines(&path(file)).iter().filter_map(|line| line.strip_prefix("image: ")) {
            assert!(names_release(image, '.'), "{file}: `{image}` names no release");
        }
    }
    let bases: Vec<String> = lines(&path("../Dockerfile")).iter().filter_map(|line| Some(line.strip_prefix("FROM ")?.to_owned())).collect();
    assert_eq!(bases.len(), 2, "{bases:?}");
    for base in bases {
        let image = base.split(' ').next().unwrap();
        assert!(names_release(image, '-'), "Dockerfile: `{image}` names no release of its system");
    }
}

/// Runs a line of bash with the functions of `scripts/fetch.sh` that fetch nothing; what it prints, if it ends well.
fn with_fetch(dir: &Path, line: &str) -> Option<String> {
    let functions = r#"eval "$(sed -n '/^stamp() {/,/^}/p; /^are_listed() {/,/^}/p' "$0")"; "#;
    let script = path("../scripts/fetch.sh");
    let output =
        Command::new("bash").args(["-euo", "pipefail", "-c"]).arg(format!("{functions}{line}")).arg(script).current_dir(dir).output();
    let output = output.unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_jar_that_no_list_names_is_refused_as_one_that_is_missing_or_another() {
    let dir = tempfile::tempdir().unwrap();
    let libs = dir.path().join("libs");
    std::fs::create_dir(&libs).unwrap();
    for name in ["a.jar", "b.jar"] {
        std::fs::write(libs.join(name), name).unwrap();
    }
    with_fetch(dir.path(), "(cd libs && sha256sum *.jar) > list").unwrap();
    let is_listed = || with_fetch(dir.path(), r#"are_listed "$PWD/libs" "$PWD/list""#).is_some();
    assert!(is_listed());
    for (name, text) in [("c.jar", Some("c.jar")), (".hidden.jar", Some("x")), ("b.jar", Some("another")), ("a.jar", None)] {
        let (file, before) = (libs.join(name), std::fs::read(libs.join(name)).ok());
        text.map_or_else(|| std::fs::remove_file(&file), |text| std::fs::write(&file, text)).unwrap();
        assert!(!is_listed(), "{name}: {text:?}");
        before.map_or_else(|| std::fs::remove_file(&file), |before| std::fs::write(&file, before)).unwrap();
        assert!(is_listed(), "{name} is as it was");
    }
}

#[test]
fn what_was_fetched_is_fetched_again_once_it_is_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("engine.so");
    std::fs::write(&file, "engine").unwrap();
    let stamp = |hash: &str| with_fetch(dir.path(), &format!(r#"stamp "$PWD" {hash} engine.so"#));
    let first = stamp("abc").unwrap();
    assert_eq!(stamp("abc").unwrap(), first, "nothing has happened");
    assert_ne!(stamp("def").unwrap(), first, "another release is asked for");
    std::fs::write(&file, "eng").unwrap();
    assert_ne!(stamp("abc").unwrap(), first, "it was cut short");
    let beside = dir.path().join("beside");
    std::fs::write(&beside, "ENGINE").unwrap();
    std::fs::rename(&beside, &file).unwrap();
    assert_ne!(stamp("abc").unwrap(), first, "it was replaced");
    std::fs::remove_file(&file).unwrap();
    assert_ne!(stamp("abc"), Some(first), "it is gone");
}

/// Every word that could be a metric's name.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("pulse_")).map(str::to_owned).collect()
}

/// The dashboard of pulse's own health.
fn dashboard() -> Value {
    serde_json::from_str(&std::fs::read_to_string(path("grafana/pulse.json")).unwrap()).unwrap()
}

#[test]
fn every_panel_of_the_dashboard_has_a_place_of_its_own_a_source_and_says_what_it_shows() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
        assert!(x + w <= 24, "{panel}");
        let mut cells = (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column)));
        assert!(cells.all(|cell| taken.insert(cell)), "another panel is there: {panel}");
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 5), "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${source}");
            let asked = target["expr"].as_str().unwrap();
            assert_eq!(asked.matches("{job=\"$job\"}").count(), metrics(asked).len().max(1), "of other jobs too: {asked}");
        }
    }
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}

#[tokio::test]
async fn every_metric_that_an_alert_or_a_panel_asks_for_is_exported() {
    let mut asked = metrics(&lines(&path("prometheus/alerts.yaml")).join("\n"));
    assert!(asked.contains("pulse_lag_oldest_seconds"), "{asked:?}");
    asked.extend(metrics(&dashboard().to_string()));
    let pulse = Pulse::start().await;
    let (status, answer) = pulse.http.capture(&json!({"type": "signup", "anonymousId": "ada"})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    // The first latency is there once an event is loaded, and the lag is looked at every few seconds.
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let text = pulse.http.text("/metrics").await;
        let exported: BTreeSet<String> =
            text.lines().filter_map(|line| line.split(['{', ' ']).next()).filter(|name| *name != "#").map(str::to_owned).collect();
        let missing: Vec<_> = asked.difference(&exported).collect();
        if missing.is_empty() {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "nothing exports {missing:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn every_alert_says_what_to_do_and_is_tested() {
    let alerts = lines(&path("prometheus/alerts.yaml"));
    let count = |start: &str| alerts.iter().filter(|line| line.starts_with(start)).count();
    let names: Vec<&str> = alerts.iter().filter_map(|line| line.strip_prefix("- alert: ")).collect();
    assert!(!names.is_empty());
    assert_eq!([count("runbook: "), count("summary: "), count("labels: { severity: ")], [names.len(); 3]);
    let tests = lines(&path("prometheus/alerts_test.yaml")).join("\n");
    let untested: Vec<_> = names.iter().filter(|name| !tests.contains(&format!("alertname=\"{name}\""))).collect();
    assert!(untested.is_empty(), "nothing shows that these ever fire: {untested:?}");
}

/// The one that was fetched, or the machine's.
fn promtool() -> PathBuf {
    let fetched = pulse::clickhouse::engine::cache_dir().map(|cache| cache.join("promtool/promtool"));
    fetched.filter(|path| path.exists()).unwrap_or_else(|| "promtool".into())
}

#[test]
fn prometheus_takes_its_rules_and_they_fire_when_they_should() {
    let folder = path("prometheus");
    for arguments in [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"], ["check", "config", "prometheus.yaml"]] {
        // Where the configuration is mounted its rules have another place.
        let syntax = (arguments[1] == "config").then_some("--syntax-only");
        let ran = Command::new(promtool()).args(arguments).args(syntax).current_dir(&folder).output();
        let ran = ran.unwrap_or_else(|problem| panic!("promtool, which `make fetch-test` brings: {problem}"));
        assert!(ran.status.success(), "{arguments:?}: {}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn prometheus_can_compute_what_every_panel_asks_for() {
    // As rules that record it: JSON is YAML.
    let panels = dashboard();
    let asked = panels["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let asked = asked.map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "5m").replace("$job", "pulse"));
    let rules: Vec<Value> = asked.enumerate().map(|(number, expr)| json!({"record": format!("panel:{number}"), "expr": expr})).collect();
    assert!(rules.len() > 20 && !json!(rules).to_string().contains('$'), "{rules:?}");
    let check = |rules: &[Value]| {
        let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        std::fs::write(file.path(), json!({"groups": [{"name": "panels", "rules": rules}]}).to_string()).unwrap();
        Command::new(promtool()).args(["check", "rules"]).arg(file.path()).output().unwrap()
    };
    let checked = check(&rules);
    assert!(checked.status.success(), "{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(!check(&[json!({"record": "panel:0", "expr": "sum(rate(pulse_x)"})]).status.success(), "anything would do");
}

#[test]
fn the_rules_to_begin_with_are_sound() {
    let rules = pulse::alert::check_files(&path("alerts").display().to_string()).unwrap();
    assert!(rules.len() >= 5, "{rules:?}");
}
