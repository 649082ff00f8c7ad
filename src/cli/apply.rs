//! `pulse apply`: brings a project to what files say.
//!
//! Promises: nothing is written unless all can be saved, as far as can be said before (what names a cohort or a board of the same files that is
//! still to be made is looked at when it is written); each write is on condition of what was compared, so nobody's change is overwritten unseen; what
//! is in no file stays, and is told. Applied again it changes nothing. What is written is of its file from then on: nobody changes it elsewhere.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};

use super::ConfigArgs;
use super::config_files::{Entry, Files, NoteEntry, Project, SECTIONS, Saved};
use super::instance::{InstanceArgs, asking_settings};
use super::remote::{Refused, VersionedWrite};
use crate::alert::{channel_digest, read_secret};
use crate::config::ConfigError;
use crate::query::notes::note_id;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse apply --plan config/shop --project shop
  pulse apply config/shop --project shop
  pulse apply deploy/alerts/examples.toml

Files are as `pulse export-config` writes them: [boards.<id>], [cohorts.<id>], [alerts.<id>] and [channels.<id>], each the body of
PUT /v1/…/<id>, and [[notes]]. What is in no file stays as it is. What a file says is changed there alone, and applied again: the
screen and the API show which file it is, and refuse to change it. With --editable they do not.

Exit code 0: all is as the files say; 4: --plan found something to do; 2: the files hold what cannot be saved, and nothing was
written; 1: it failed.")]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    instance: InstanceArgs,
    /// Only say what would be done
    #[arg(long)]
    plan: bool,
    /// What is saved may be changed elsewhere, too: no file says it any more
    #[arg(long)]
    editable: bool,
    /// Files, and folders of *.toml
    #[arg(required = true, value_name = "DIR|FILE")]
    files: Vec<PathBuf>,
}

/// A plan that is not empty.
#[derive(Debug, thiserror::Error)]
#[error("{0} to be saved")]
pub(super) struct WouldChange(usize);

/// What is to be done about an entry.
struct Step<'a> {
    entry: &'a Entry,
    what: What,
    /// What is sent: of a channel with its address.
    body: Value,
    /// The file that says it from then on; empty without one.
    file: &'a str,
    /// What is there.
    version: Option<u64>,
}

enum What {
    New,
    /// The keys that are not as they were.
    Changed(Vec<String>),
    AsItIs,
}

pub(super) fn run(args: &ApplyArgs) -> Result<()> {
    super::start_logging("warn");
    let files = Files::read(&args.files, &args.instance.project)?;
    files.of_others.iter().for_each(|place| eprintln!("left out: {place}: say --project"));
    refuse(&files.problems)?;
    Project::ask(asking_settings(&args.config)?, &args.instance, async |project| project.apply(&files, args).await)
}

fn refuse(problems: &[String]) -> Result<(), ConfigError> {
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    if problems.is_empty() { Ok(()) } else { Err(ConfigError(format!("{} cannot be saved; nothing was written", problems.len()))) }
}

impl Project {
    async fn apply(&self, files: &Files, args: &ApplyArgs) -> Result<()> {
        let is_plan = args.plan;
        let (mut problems, mut steps, mut unlisted) = (Vec::new(), Vec::new(), Vec::new());
        for section in SECTIONS {
            let entries: Vec<&Entry> = files.entries.iter().filter(|entry| entry.section == section).collect();
            if entries.is_empty() {
                continue;
            }
            let saved = self.saved(section).await?;
            unlisted.extend(saved.keys().filter(|id| entries.iter().all(|entry| entry.id != **id)).map(|id| format!("{section}.{id}")));
            for entry in entries {
                match step(entry, saved.get(&entry.id), file_of(entry, args)) {
                    Ok(step) => steps.push(step),
                    Err(problem) => problems.push(format!("{}: {problem}", entry.place)),
                }
            }
        }
        let notes = self.new_notes(&files.notes, &mut problems).await?;
        for step in steps.iter().filter(|step| !matches!(step.what, What::AsItIs)) {
            problems.extend(self.trial(step, &steps).await?);
        }
        refuse(&problems)?;

        let count = steps.iter().filter(|step| !matches!(step.what, What::AsItIs)).count() + notes.len();
        for step in &steps {
            if !is_plan && !matches!(step.what, What::AsItIs) {
                self.write(step).await.with_context(|| step.entry.place.clone())?;
            }
            println!("{step}");
        }
        for note in &notes {
            if !is_plan {
                self.remote.post_json("/v1/notes", &self.key, &note.body).await.with_context(|| note.place.clone())?;
            }
            println!("{:>8}  note of {}", "new", note.body["at"]);
        }
        unlisted.iter().for_each(|name| println!("{:>8}  {name}", "no file"));
        if is_plan && count > 0 { Err(WouldChange(count).into()) } else { Ok(()) }
    }

    /// The notes that are not there yet, each once.
    async fn new_notes<'a>(&self, notes: &'a [NoteEntry], problems: &mut Vec<String>) -> Result<Vec<&'a NoteEntry>> {
        if notes.is_empty() {
            return Ok(Vec::new());
        }
        let saved = self.notes().await?;
        let mut known: BTreeSet<String> = saved.iter().filter_map(|note| note["id"].as_str().map(str::to_owned)).collect();
        let mut new = Vec::new();
        for note in notes {
            match note_id(&note.body) {
                Ok(id) => new.extend(known.insert(id).then_some(note)),
                Err(problem) => problems.push(format!("{}: {}", note.place, problem.message)),
            }
        }
        Ok(new)
    }

    /// What pulse has against a step; nothing is written.
    async fn trial(&self, step: &Step<'_>, all: &[Step<'_>]) -> Result<Option<String>> {
        let new = |section: &'static str| {
            let is_new = move |step: &&Step<'_>| step.entry.section == section && matches!(step.what, What::New);
            all.iter().filter(is_new).map(|step| step.entry.id.as_str())
        };
        let mut body = step.body.clone();
        if let Some(channels) = body.get_mut("channels").and_then(Value::as_array_mut).filter(|_| step.entry.section == "alerts") {
            channels.retain(|channel| new("channels").all(|id| channel != id));
        }
        let write = VersionedWrite { body: &body, version: step.version, file: step.file };
        let path = format!("/v1/{}/{}?dry_run=true", step.entry.section, step.entry.id);
        let Err(problem) = self.remote.put_version(&path, &self.key, &write).await else { return Ok(None) };
        let refused = problem.downcast::<Refused>()?;
        let (code, message) = (refused.says("code"), refused.says("message"));
        let will_be_there = [("unknown_cohort", "cohorts"), ("unknown_board", "boards")]
            .into_iter()
            .any(|(missing, section)| code == missing && new(section).any(|name| message.contains(&format!("`{name}`"))));
        Ok((!will_be_there).then(|| format!("{}: {message}", step.entry.place)))
    }

    async fn write(&self, step: &Step<'_>) -> Result<()> {
        let write = VersionedWrite { body: &step.body, version: step.version, file: step.file };
        let Entry { section, id, .. } = step.entry;
        let Err(problem) = self.remote.put_version(&format!("/v1/{section}/{id}"), &self.key, &write).await else { return Ok(()) };
        if problem.downcast_ref::<Refused>().is_some_and(|refused| refused.says("code") == "version_mismatch") {
            // The answer to an earlier attempt may have been lost.
            let saved = self.saved(section).await?;
            if matches!(self::step(step.entry, saved.get(id), step.file), Ok(Step { what: What::AsItIs, .. })) {
                return Ok(());
            }
        }
        Err(problem)
    }
}

/// Longest name of a file that is told, bytes.
const MOST_FILE: usize = 200;

/// The file that is to say an entry: the end of its name, where that is long.
fn file_of<'a>(entry: &'a Entry, args: &ApplyArgs) -> &'a str {
    let name = entry.file.trim();
    let from = (name.len().saturating_sub(MOST_FILE)..name.len()).find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    if args.editable { "" } else { &name[from..] }
}

/// What is to be done about an entry that `file` is to say, where `saved` is there.
///
/// # Errors
/// The address of a channel that is not to be found.
fn step<'a>(entry: &'a Entry, saved: Option<&Saved>, file: &'a str) -> Result<Step<'a>, String> {
    let (mut body, mut known) = (entry.body.clone(), saved.map(|saved| saved.body.clone()));
    if let ("channels", Some(settings)) = (entry.section, body.as_object_mut()) {
        let named = settings.get("url").and_then(Value::as_str).filter(|url| url.starts_with("env:") || url.starts_with("file:"));
        match named.map(|named| read_secret("url", named)).transpose() {
            Ok(None) => {}
            Ok(Some(address)) => drop(settings.insert("url".to_owned(), address.reveal().into())),
            Err(problem) => {
                settings.remove("url");
                if known.as_ref() != Some(&Value::Object(settings.clone())) {
                    return Err(problem);
                }
                eprintln!("{}: {problem}: the address that is saved stays", entry.place);
                return Ok(Step { entry, what: What::AsItIs, version: saved.map(|saved| saved.version), body, file });
            }
        }
        if let (Some(saved), Some(Value::Object(known))) = (saved, &mut known) {
            // The address is not told; whether it is the same one is.
            let is_same = channel_digest(settings) == saved.digest;
            known.insert("url".to_owned(), if is_same { settings.get("url").cloned().unwrap_or_default() } else { json!(null) });
        }
    }
    let what = match &known {
        None => What::New,
        Some(known) => {
            let mut keys = differing(known, &body);
            // Which file does not matter: the same files may be applied from another folder, and are no change then.
            keys.extend(saved.is_some_and(|saved| saved.file.is_empty() != file.is_empty()).then(|| "file".to_owned()));
            if keys.is_empty() { What::AsItIs } else { What::Changed(keys) }
        }
    };
    Ok(Step { entry, what, version: saved.map(|saved| saved.version), body, file })
}

/// The keys whose values are not the same.
fn differing(one: &Value, other: &Value) -> Vec<String> {
    let keys = |value: &Value| value.as_object().map(|object| object.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default();
    keys(one).union(&keys(other)).filter(|key| one.get(key) != other.get(key)).cloned().collect()
}

impl std::fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, keys) = match &self.what {
            What::New => ("new", String::new()),
            What::AsItIs => ("as it is", String::new()),
            What::Changed(keys) => ("changed", format!(": {}", keys.join(", "))),
        };
        write!(f, "{what:>8}  {}.{}{keys}", self.entry.section, self.entry.id)
    }
}
