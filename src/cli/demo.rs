//! `pulse demo`: two months of a tea shop, through the pipeline into a project of its own, so that there is something to look at.
//!
//! Promises: a second run stores nothing twice and goes on where the first one ended; a project that is there already and is no demo's is
//! left alone. The entry of the keys file says from the first moment whose it is: a run that was cut off can be repeated and removed, and
//! so can a demo whose boards were deleted. May go wrong: what is stored of a project cannot be taken out of tables that all projects
//! share, so removing the demo takes its keys and what was made in it; its events are then out of sight, and end with their retention.

mod calendar;
mod person;
mod random;
mod setup;
mod shop;
mod visit;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use self::calendar::Day;
use self::shop::Shop;
use self::visit::Event;
use super::ConfigArgs;
use super::config_files::Project;
use super::import::{AccessKeys, Batch, Books, Connection};
use super::instance::InstanceArgs;
use super::remote::{Address, Remote, bearer};
use crate::app;
use crate::auth::KeyKind;
use crate::auth::keys::{self, KeyEntry};
use crate::clock;
use crate::config::Settings;

/// Days before today that the demo shows: the month before is there too, to be compared with.
const DAYS: i64 = 60;
/// Events of a request: about 2 MB.
const BATCH: usize = 4_000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse demo                       # beside `pulse serve` on the same data directory: prints where to look
  pulse demo --people 100000
  pulse demo --remove

The same people do the same each time: running it again stores only what happened since.
Removing it takes the project's keys, also those with a name, boards and their links, cohorts, notes, alerts and channels. Its events are then out of sight but
still in the tables that all projects share, until their retention (90 days) is over; `pulse demo --data-dir ./demo` keeps them in a folder that can be deleted.")]
pub(super) struct DemoArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Name of the demo's project, which is made
    #[arg(long, value_name = "NAME", default_value = "demo")]
    project: String,
    /// Persons that are seen in a month
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    people: u32,
    /// Take the demo away again
    #[arg(long)]
    remove: bool,
    /// Print the outcome as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DemoArgs) -> Result<()> {
    // Warnings only: the terminal belongs to the progress bar.
    super::start_logging("warn");
    let own_flags = vec![("http.listen", "127.0.0.1:0".to_owned()), ("roles", "ingest,process,load,query".to_owned())];
    let listen = args.config.load(Vec::new())?.config.http.listen.clone();
    let settings = args.config.load(own_flags)?;
    let instance = InstanceArgs::of_project(&args.project);
    let is_running = app::running_address(&settings.config.data_dir).context("data_dir")?.is_some();
    let keys_file = keys::path(&settings.config.keys, &settings.config.data_dir);
    let entry = entry(args, &settings)?;
    ensure!(!entry.read_key.starts_with("sha256:"), "project: of the read key of `{}` only the hash is kept", args.project);
    let runtime = super::runtime()?;
    let worked = runtime.block_on(instance.with(settings, |address| async move {
        let project = Project { remote: Remote::new(&address)?, key: bearer(&entry.read_key, "read key")? };
        project.remote.knows("/v1/boards", &project.key).await?;
        match args.remove {
            true => project.clear(&bearer(&entry.admin_key, "admin key")?).await.map(|()| None),
            false => fill(args, &project, Target { address, entry: &entry }).await.map(Some),
        }
    }));
    match worked? {
        None => {
            keys::change(&keys_file, |entries| {
                entries.retain(|entry| entry.project != args.project);
                Ok::<_, anyhow::Error>(())
            })?;
            print_removed(args);
        }
        Some(filled) => filled.print(args, (!is_running).then_some(&*listen)),
    }
    Ok(())
}

/// The project's keys, made where there are none; with an admin key where the demo is to go, because keys with a name go too.
fn entry(args: &DemoArgs, settings: &Settings) -> Result<KeyEntry> {
    let config = &settings.config;
    if args.remove {
        super::instance::require(settings)?;
    }
    std::fs::create_dir_all(&config.data_dir).context("data_dir")?;
    let entries = keys::change(&keys::path(&config.keys, &config.data_dir), |entries| prepare(args, entries))?;
    let entry = entries.into_iter().find(|entry| entry.project == args.project).context("the keys file")?;
    ensure!(!entry.disabled, "project: the keys of `{}` are disabled", args.project);
    Ok(entry)
}

fn prepare(args: &DemoArgs, entries: &mut Vec<KeyEntry>) -> Result<()> {
    let project = &args.project;
    let Some(entry) = entries.iter_mut().find(|entry| &entry.project == project) else {
        ensure!(!args.remove, "project: there is no `{project}`");
        super::keys::check_name(project)?;
        entries.push(KeyEntry { demo: true, ..keys::new_entry(project) });
        return Ok(());
    };
    ensure!(
        entry.demo,
        "project: `{project}` is there already and is no demo's (its entry of the keys file has no `\"demo\": true`); name another one with --project"
    );
    // One of which only the hash is kept is of no use here, and goes with the project.
    if args.remove && (entry.admin_key.is_empty() || entry.admin_key.starts_with("sha256:")) {
        entry.admin_key = keys::new_secret(KeyKind::Admin);
    }
    Ok(())
}

fn print_removed(args: &DemoArgs) {
    let project = &args.project;
    match args.json {
        true => println!("{}", json!({"project": project, "removed": true})),
        false => println!(
            "`{project}` is gone: its keys and all that was made in it. Its events are out of sight, and deleted 90 days after they were sent."
        ),
    }
}

/// Where the events go.
struct Target<'a> {
    address: Address,
    entry: &'a KeyEntry,
}

/// What became of them.
struct Filled {
    address: Address,
    read_key: String,
    sent: u64,
    books: Books,
}

async fn fill(args: &DemoArgs, project: &Project, target: Target<'_>) -> Result<Filled> {
    let Target { address, entry } = target;
    project.put_board().await?;
    let read = entry.read_key.clone();
    let import =
        Some(entry.import_key.clone()).filter(|key| !key.is_empty() && !key.starts_with("sha256:")).unwrap_or_else(|| read.clone());
    let connection = Connection::new(&address, &AccessKeys { import, read: read.clone() })?;
    let (shop, now_ms) = (Shop { people: args.people }, clock::now_ms());
    let today = Day::of_ms(now_ms).0;
    let bar = ProgressBar::new(DAYS.unsigned_abs() + 1);
    bar.set_style(ProgressStyle::with_template("{bar:30} day {pos} of {len}  {msg}")?);
    let mut sent = 0;
    for day in (today - DAYS..=today).map(Day) {
        let mut events = shop.events(day);
        events.retain(|event| event.at_ms <= now_ms);
        for part in events.chunks(BATCH) {
            send(&connection, part).await?;
            sent += part.len() as u64;
            bar.set_message(format!("{sent} events"));
        }
        bar.inc(1);
    }
    let books = connection.settle(sent, |books| bar.set_message(format!("{sent} events, {} of them waiting", books.waiting))).await?;
    bar.finish_and_clear();
    project.put_notes_and_rules((today - DAYS..=today).map(Day), now_ms).await?;
    Ok(Filled { address, read_key: read, sent, books })
}

async fn send(connection: &Connection, events: &[Event]) -> Result<()> {
    let mut body = Vec::with_capacity(600 * events.len());
    for event in events {
        body.extend_from_slice(event.line.as_bytes());
        body.push(b'\n');
    }
    let refused = connection.send(Batch::of_lines(&Arc::from("demo"), body, events.len() as u64)).await?;
    ensure!(refused.lines() == 0, "events of the demo were refused: {refused:?}");
    Ok(())
}

impl Filled {
    /// For people, or as JSON. `later` is where pulse will listen, if the one that took the events has gone.
    fn print(&self, args: &DemoArgs, later: Option<&str>) {
        let Self { address, read_key, sent, books } = self;
        let url = later.map_or_else(|| address.url.clone(), |listen| format!("http://{listen}"));
        let url = format!("{url}/#key={read_key}");
        if args.json {
            println!(
                "{}",
                json!({"project": args.project, "sent": sent, "stored": books.stored, "duplicate": books.duplicate, "url": url})
            );
            return;
        }
        println!("{sent} events in project `{}`, {} of them new", args.project, books.stored);
        println!("{}{url}", if later.is_none() { "" } else { "start `pulse serve`, then open " });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(project: &str, remove: bool) -> DemoArgs {
        let config = ConfigArgs { config: None, data_dir: None };
        DemoArgs { config, project: project.to_owned(), people: 100, remove, json: false }
    }

    #[test]
    fn a_project_is_known_as_a_demos_from_its_keys_on() {
        let mut entries = vec![keys::new_entry("default")];
        prepare(&args("demo", false), &mut entries).unwrap();
        let begun = entries.clone();
        assert!(begun[1].demo && begun[1].admin_key.is_empty());
        // Cut off here, it is run again as if nothing had been.
        prepare(&args("demo", false), &mut entries).unwrap();
        assert_eq!(entries, begun);
        prepare(&args("demo", true), &mut entries).unwrap();
        assert!(entries[1].admin_key.starts_with("pulse_ak_"));
        assert!(prepare(&args("default", true), &mut entries).unwrap_err().to_string().contains("is no demo's"));
        assert!(prepare(&args("other", true), &mut entries).unwrap_err().to_string().contains("there is no `other`"));
    }
}
