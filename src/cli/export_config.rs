//! `pulse export-config`: what people have saved in a project, as files for git.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::ConfigArgs;
use super::config_files::{NOTES, Project, SECTIONS, text_of};
use super::instance::{InstanceArgs, asking_settings};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse export-config config/shop --project shop
  pulse export-config saved --url https://pulse.example --read-key …

Writes boards.toml, cohorts.toml, alerts.toml, channels.toml and notes.toml, over those that are there. `pulse apply` takes them.
No secret is written: the address of a channel is named as env:NAME, and read there by `pulse apply`. What the files of the instance
itself say (alerts.files) is left out.")]
pub(super) struct ExportConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    instance: InstanceArgs,
    /// Folder to write into
    dir: PathBuf,
}

pub(super) fn run(args: &ExportConfigArgs) -> Result<()> {
    super::start_logging("warn");
    let texts = Project::ask(asking_settings(&args.config)?, &args.instance, async |project| project.texts().await)?;
    std::fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
    for (section, (count, text)) in texts {
        let path = args.dir.join(format!("{section}.toml"));
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        println!("{count:>8}  {}", path.display());
    }
    Ok(())
}

/// A note as it is written; the file has no place for an end that it does not have.
fn noted(note: &Value) -> Value {
    let mut written = json!({"at": note["at"], "text": note["text"], "kind": note["kind"]});
    if !note["until"].is_null() {
        written["until"] = note["until"].clone();
    }
    written
}

impl Project {
    /// The files by section, with how many things each has.
    async fn texts(&self) -> Result<BTreeMap<&'static str, (usize, String)>> {
        const HEADER: &str = "# Written by `pulse export-config`; `pulse apply` brings it back.\n";
        let mut texts = BTreeMap::new();
        for section in SECTIONS {
            let saved: BTreeMap<String, Value> = self.saved(section).await?.into_iter().map(|(id, saved)| (id, saved.body)).collect();
            let count = saved.len();
            texts.insert(section, (count, format!("{HEADER}\n{}", text_of(section, saved)?)));
        }
        let notes = self.notes().await?;
        let written: Vec<Value> = notes.iter().map(noted).collect();
        let text = if written.is_empty() { String::new() } else { toml::to_string_pretty(&json!({NOTES: written}))? };
        texts.insert(NOTES, (notes.len(), format!("{HEADER}\n{text}")));
        Ok(texts)
    }
}
