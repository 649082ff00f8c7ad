//! `pulse alerts`: checks rules in files, tries them on the past, brings them to a running pulse and back.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use super::ConfigArgs;
use super::instance::InstanceArgs;
use super::remote::{Remote, bearer};
use crate::alert::{FileRule, RuleBody, check_files};
use crate::config::{ConfigError, Settings};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse alerts check --files config/alerts
  pulse alerts test --files config/alerts checkout --from -30d
  pulse alerts apply --files config/alerts --plan
  pulse alerts export > config/alerts/exported.toml

Files hold [alerts.<id>] sections, each the body of PUT /v1/alerts/<id>.")]
pub(super) struct AlertsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    instance: InstanceArgs,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say whether the files are sound
    Check(FilesArgs),
    /// Say what a rule would have done
    Test(TestArgs),
    /// Save the rules of the files over HTTP, as if they had been made there
    Apply(ApplyArgs),
    /// Write the rules that are saved as a file
    Export,
}

#[derive(Debug, Args)]
struct FilesArgs {
    /// Folder of *.toml [default: alerts.files]
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct TestArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Id of the rule: of a file, else one that is saved
    id: String,
    /// From when on: RFC 3339, or relative such as -7d
    #[arg(long, value_name = "TIME", default_value = "-30d", allow_hyphen_values = true)]
    from: String,
    /// The whole answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ApplyArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Only say what would be done
    #[arg(long)]
    plan: bool,
}

/// A pulse, and the key that it is asked with.
struct Asking {
    remote: Remote,
    key: HeaderValue,
}

pub(super) fn run(args: &AlertsArgs) -> Result<()> {
    super::start_logging("warn");
    let own_flags = vec![("http.listen", "127.0.0.1:0".to_owned()), ("roles", "query".to_owned())];
    let settings = args.config.load(own_flags)?;
    let rules = |files: &FilesArgs| files.read(&settings);
    match &args.action {
        Action::Check(files) => {
            let rules = rules(files)?;
            rules.iter().for_each(|rule| println!("{}  {}", rule.project, rule.id));
            println!("{} alerts are sound", rules.len());
            Ok(())
        }
        Action::Test(test) => {
            let (own, others): (Vec<_>, Vec<_>) = rules(&test.files)?.into_iter().partition(|rule| rule.project == args.instance.project);
            let rule = own.into_iter().find(|rule| rule.id == test.id);
            if let (None, Some(other)) = (&rule, others.iter().find(|rule| rule.id == test.id)) {
                bail!("`{}` is of the project `{}`: `pulse alerts --project {1} test …`", other.id, other.project);
            }
            let answer = args.ask(settings.clone(), async |asking| asking.test(test, rule).await)?;
            if test.json {
                println!("{answer:#}")
            } else {
                print!("{}", shown(&answer, &test.from))
            }
            Ok(())
        }
        Action::Apply(apply) => {
            let (rules, others): (Vec<_>, Vec<_>) =
                rules(&apply.files)?.into_iter().partition(|rule| rule.project == args.instance.project);
            others.iter().for_each(|rule| {
                eprintln!("left out, of another project: {}  {} (pulse alerts --project {0} apply)", rule.project, rule.id)
            });
            args.ask(settings.clone(), async |asking| asking.apply(rules, apply.plan).await)
        }
        Action::Export => {
            let exported = args.ask(settings.clone(), async |asking| asking.export().await)?;
            print!("{}", toml::to_string_pretty(&json!({"alerts": exported}))?);
            Ok(())
        }
    }
}

impl FilesArgs {
    fn read(&self, settings: &Settings) -> Result<Vec<FileRule>> {
        let folder = self.files.as_ref().map_or_else(|| settings.config.alerts.files.clone(), |files| files.display().to_string());
        check_files(&folder).map_err(|problem| ConfigError(problem).into())
    }
}

impl AlertsArgs {
    fn ask<T>(&self, settings: Settings, work: impl AsyncFnOnce(Asking) -> Result<T>) -> Result<T> {
        let key = bearer(&self.instance.read_key(&settings)?, "read key")?;
        let asking = self.instance.with(settings, |address| async move { work(Asking { remote: Remote::new(&address)?, key }).await });
        super::runtime()?.block_on(asking)
    }
}

impl Asking {
    async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.remote.get(path, &self.key).await?;
        serde_json::from_slice(&answer).context("the answer")
    }

    async fn test(&self, test: &TestArgs, rule: Option<FileRule>) -> Result<Value> {
        let mut body = json!({"from": test.from});
        if let Some(rule) = rule {
            body["rule"] = serde_json::to_value(rule.body)?;
        }
        let answer = self.remote.post_json(&format!("/v1/alerts/{}/test", test.id), &self.key, &body).await?;
        serde_json::from_slice(&answer).context("the answer")
    }

    /// The rules that are saved, by id, without those of files.
    async fn saved(&self) -> Result<BTreeMap<String, RuleBody>> {
        let mut saved = BTreeMap::new();
        let all = self.get("/v1/alerts").await?;
        for rule in all["alerts"].as_array().into_iter().flatten().filter(|rule| rule["file"].is_null()) {
            let Some(id) = rule["id"].as_str() else { bail!("the answer has a rule without an id") };
            saved.insert(id.to_owned(), serde_json::from_value(rule["rule"].clone()).context("the answer")?);
        }
        Ok(saved)
    }

    async fn apply(&self, rules: Vec<FileRule>, is_plan: bool) -> Result<()> {
        let saved = self.saved().await?;
        for FileRule { id, body, .. } in rules {
            let what = match saved.get(&id) {
                Some(saved) if *saved == body => "as it is",
                Some(_) => "changed",
                None => "new",
            };
            println!("{what:>8}  {id}");
            if what != "as it is" && !is_plan {
                self.remote.put_json(&format!("/v1/alerts/{id}"), &self.key, &serde_json::to_value(body)?).await?;
            }
        }
        Ok(())
    }

    async fn export(&self) -> Result<Value> {
        let saved = self.saved().await?;
        // TOML has no null.
        Ok(without_nulls(serde_json::to_value(saved)?))
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            object.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, without_nulls(value))).collect()
        }
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// What a back-test found, for people.
fn shown(answer: &Value, from: &str) -> String {
    let mut text = format!("would have fired {} times in {} slots since {from}\n", answer["fired"], answer["slots"]);
    for change in answer["changes"].as_array().into_iter().flatten() {
        let part = |key: &str| change[key].as_str().unwrap_or_default().to_owned();
        let value = change["value"].as_f64().map(|value| value.to_string()).unwrap_or_default();
        text.push_str(&format!("{}  {:<12} {} {value} {}\n", part("slot"), part("change"), part("line"), part("reason")));
    }
    text
}
