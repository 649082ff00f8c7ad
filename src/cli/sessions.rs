//! `pulse sessions`

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::ConfigArgs;
use super::instance::InstanceArgs;
use super::replay::{print, rework};
use crate::auth::keys;
use crate::event::ids::ProjectId;
use crate::event::time::CLAMP_FUTURE_MS;
use crate::load::{RebuildRequest, RebuildSummary};
use crate::{clock, query};

#[derive(Debug, Args)]
pub(super) struct SessionsArgs {
    #[command(subcommand)]
    command: SessionsCommand,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// Compute the sessions of the past again, by the rules that are configured now
    Rebuild(RebuildArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse sessions rebuild --from -30d
  pulse sessions rebuild --from 2026-03-01 --to 2026-04-01 --project shop

Events keep their rows; what changes is stored beside them, and every report follows. Interrupted, it may be run again. \
The rules are those of the configuration and no others: by them instances load what arrives next, and both must agree. \
With the embedded log it runs instead of `pulse serve`, with Kafka beside it.")]
struct RebuildArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// First moment: RFC 3339, a date in UTC, or relative such as -30d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: String,
    /// The moment behind the last; without it there is none, also of events whose clocks are ahead
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Only this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// One JSON object instead of a summary
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &SessionsArgs) -> Result<()> {
    super::start_logging("info");
    let SessionsCommand::Rebuild(args) = &args.command;
    let from_ms = instant("from", &args.from)?;
    // Twice as far as events are taken: the clock of the instance that took them may be ahead as well.
    let behind_all = || Ok(clock::now_ms() + 2 * CLAMP_FUTURE_MS);
    let until_ms = args.to.as_ref().map_or_else(behind_all, |to| instant("to", to))?;
    if from_ms >= until_ms {
        bail!("--from must be before --to");
    }
    let request = RebuildRequest { from_ms, until_ms, project: args.project.as_deref().map(ProjectId::of_name) };
    let settings = args.config.load(Vec::new())?;
    let keys_file = keys::path(&settings.config.keys, &settings.config.data_dir);
    if let Some(project) = args.project.as_ref().filter(|_| keys_file.exists()) {
        InstanceArgs::of_project(project).keys_of(&settings)?;
    }
    let summary = rework(&settings, &request, "days of partitions")?;
    let RebuildSummary { visitors, changed, revisions, skipped, interrupted } = &summary;
    print(
        args.json,
        &summary,
        &format!("visitor-days  {visitors}\nchanged       {changed}\nrevisions     {revisions}\nskipped       {skipped}"),
    )?;
    if *interrupted {
        bail!("stopped before the end; run again, it goes on where it was");
    }
    Ok(())
}

fn instant(name: &str, text: &str) -> Result<i64> {
    match query::instant(text, clock::now_ms()) {
        Some(at_ms) => Ok(at_ms),
        None => bail!("--{name} `{text}`: neither RFC 3339, a date, nor a relative time such as -30d"),
    }
}
