//! `pulse replay`

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use strum::VariantArray as _;

use super::ConfigArgs;
use crate::config::Settings;
use crate::outcome::DeadReason;
use crate::replay::{From, Request, Summary, dead};
use crate::store::tables;
use crate::{app, clock, query};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse replay --from-offset 0 --dry-run
  pulse replay --from-time -2d --partition 3
  pulse replay --from-offset 0 --to-table events_rebuilt --swap
  pulse replay --dead --reason event_invalid

Dead letters: what can be read today is appended to the raw log and stored once `pulse serve` runs. \
The ledger counts it as received again, now, and as stored; the letter stays, and so does its `dead`. \
A letter redriven again is a `duplicate`. What still cannot be read stays as it is. \
Of `line_malformed` only the importer knows the layout: import the file again.")]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Raw offset to begin at, in every partition [default: the first one held]
    #[arg(long, value_name = "OFFSET", conflicts_with = "from_time")]
    from_offset: Option<i64>,
    /// Begin with what was received at this time: RFC 3339, or relative such as -2d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from_time: Option<String>,
    /// Only this partition of the log
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u16>,
    /// Build a table beside the events table; without it, store what the events table lacks
    #[arg(long, value_name = "NAME")]
    to_table: Option<String>,
    /// Put the finished table in the place of the events table; the old rows stay under its name
    #[arg(long, requires = "to_table", conflicts_with = "partition")]
    swap: bool,
    /// Try dead letters again, instead of working through the raw log
    #[arg(long, conflicts_with_all = ["from_offset", "from_time", "partition", "to_table", "swap"])]
    dead: bool,
    /// Only dead letters of this reason
    #[arg(long, value_name = "NAME", requires = "dead", value_parser = reason_parser())]
    reason: Option<DeadReason>,
    /// Only count what would be read
    #[arg(long)]
    dry_run: bool,
    /// One JSON object instead of a summary
    #[arg(long)]
    json: bool,
}

fn reason_parser() -> impl TypedValueParser<Value = DeadReason> {
    PossibleValuesParser::new(DeadReason::VARIANTS.iter().map(|reason| reason.as_str()))
        .try_map(|name| DeadReason::named(&name).ok_or("not a reason of dead letters"))
}

pub(super) fn run(args: &ReplayArgs) -> Result<()> {
    super::start_logging("info");
    let settings = args.config.load(Vec::new())?;
    if args.dead { redrive(args, &settings) } else { replay(args, &settings) }
}

/// Works through the raw log again.
fn replay(args: &ReplayArgs, settings: &Settings) -> Result<()> {
    let from = match &args.from_time {
        None => From::Offset(args.from_offset),
        Some(text) => match query::instant(text, clock::now_ms()) {
            Some(at_ms) => From::Time(at_ms),
            None => bail!("--from-time `{text}`: neither RFC 3339 nor a relative time such as -2d"),
        },
    };
    let to_table = args.to_table.as_deref().map(tables::new_name).transpose().map_err(anyhow::Error::msg)?;
    let request = Request { from, partition: args.partition, to_table, swap: args.swap, dry_run: args.dry_run };
    let summary = rework(settings, &request, "events")?;
    let Summary { read, stored, duplicate, dead, skipped, interrupted } = &summary;
    let text = format!("read       {read}\nstored     {stored}\nduplicate  {duplicate}\ndead       {dead}\nskipped    {skipped}");
    print(args.json, &summary, &text)?;
    if *interrupted {
        bail!("stopped before the end; run again, it goes on where it was and counts nothing twice");
    }
    Ok(())
}

/// Tries dead letters again.
fn redrive(args: &ReplayArgs, settings: &Settings) -> Result<()> {
    let request = dead::Request { reason: args.reason, dry_run: args.dry_run };
    let summary = rework(settings, &request, "letters")?;
    let dead::Summary { read, redriven, events, unchanged, interrupted } = &summary;
    let mut text = format!("read       {read}\nredriven   {redriven}  ({events} events)\nunchanged  {}", unchanged.values().sum::<u64>());
    for (reason, letters) in unchanged {
        let is_foreign = *reason == DeadReason::LineMalformed.as_str();
        let advice = if is_foreign { "  (only `pulse import` knows their layout: import the file again)" } else { "" };
        text.push_str(&format!("\n  {reason}  {letters}{advice}"));
    }
    print(args.json, &summary, &text)?;
    if *interrupted {
        bail!("stopped before the end; run again, nothing is counted twice");
    }
    Ok(())
}

/// Does it behind a progress bar that counts `unit`.
pub(super) fn rework<R: app::Rework>(settings: &Settings, request: &R, unit: &str) -> Result<R::Summary> {
    super::instance::require(settings)?;
    let style = ProgressStyle::with_template(&format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{eta}}"))?;
    let bar = ProgressBar::new(0).with_style(style);
    let progress = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let summary = super::runtime()?.block_on(app::replay(settings, request, progress))?;
    bar.finish_and_clear();
    Ok(summary)
}

/// Prints one JSON object, or a text.
pub(super) fn print(as_json: bool, summary: &impl Serialize, text: &str) -> Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(summary)?);
    } else {
        println!("{text}");
    }
    Ok(())
}
