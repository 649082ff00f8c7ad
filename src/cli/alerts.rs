//! `pulse alerts`: checks rules in files and tries them on the past. `pulse apply` saves them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ConfigArgs;
use super::config_files::Project;
use super::instance::{InstanceArgs, asking_settings};
use crate::alert::{FileRule, check_files};
use crate::config::{ConfigError, Settings};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse alerts check --files config/alerts
  pulse alerts test --files config/alerts checkout --from -30d

Files hold [alerts.<id>] sections, each the body of PUT /v1/alerts/<id>. `pulse apply` saves them, `pulse export-config` writes them.")]
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

pub(super) fn run(args: &AlertsArgs) -> Result<()> {
    super::start_logging("warn");
    let settings = asking_settings(&args.config)?;
    let rules = |files: &FilesArgs| files.read(&settings);
    match &args.action {
        Action::Check(files) => {
            let rules = rules(files)?;
            for rule in &rules {
                println!("{}  {}", rule.project, rule.id);
                let missing = rule.missing_channels.iter();
                missing.for_each(|id| {
                    eprintln!("{}  {}: channels: no file says `{id}`: nobody is told through it unless it is saved", rule.project, rule.id)
                });
            }
            println!("{} alerts are sound", rules.len());
            Ok(())
        }
        Action::Test(test) => {
            let (own, others): (Vec<_>, Vec<_>) = rules(&test.files)?.into_iter().partition(|rule| rule.project == args.instance.project);
            let rule = own.into_iter().find(|rule| rule.id == test.id);
            if let (None, Some(other)) = (&rule, others.iter().find(|rule| rule.id == test.id)) {
                bail!("`{}` is of the project `{}`: `pulse alerts --project {1} test …`", other.id, other.project);
            }
            let answer = Project::ask(settings.clone(), &args.instance, async |project| project.test(test, rule).await)?;
            if test.json {
                println!("{answer:#}")
            } else {
                print!("{}", shown(&answer, &test.from))
            }
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

impl Project {
    async fn test(&self, test: &TestArgs, rule: Option<FileRule>) -> Result<Value> {
        let mut body = json!({"from": test.from});
        if let Some(rule) = rule {
            body["rule"] = serde_json::to_value(rule.body)?;
        }
        let answer = self.remote.post_json(&format!("/v1/alerts/{}/test", test.id), &self.key, &body).await?;
        serde_json::from_slice(&answer).context("the answer")
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
