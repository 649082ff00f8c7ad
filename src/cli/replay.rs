//! `pulse replay`

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::ConfigArgs;
use crate::replay::{From, Request, check_table};
use crate::{app, clock, query};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  pulse replay --from-offset 0 --dry-run\n  \
    pulse replay --from-time -2d --partition 3\n  pulse replay --from-offset 0 --to-table events_rebuilt --swap")]
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
    /// Only count what would be read
    #[arg(long)]
    dry_run: bool,
    /// One JSON object instead of a summary
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ReplayArgs) -> Result<()> {
    super::start_logging();
    let settings = args.config.load(Vec::new())?;
    let from = match &args.from_time {
        None => From::Offset(args.from_offset),
        Some(text) => match query::instant(text, clock::now_ms()) {
            Some(at_ms) => From::Time(at_ms),
            None => bail!("--from-time `{text}`: neither RFC 3339 nor a relative time such as -2d"),
        },
    };
    if let Some(name) = &args.to_table {
        check_table(name).map_err(anyhow::Error::msg)?;
    }
    let request = Request { from, partition: args.partition, to_table: args.to_table.clone(), swap: args.swap, dry_run: args.dry_run };
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} events  {eta}")?);
    let progress = |read, all| {
        bar.set_length(all);
        bar.set_position(read);
    };
    let summary = super::runtime()?.block_on(app::replay(&settings, &request, progress))?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!(
            "read       {}\nstored     {}\nduplicate  {}\ndead       {}\nskipped    {}",
            summary.read, summary.stored, summary.duplicate, summary.dead, summary.skipped
        );
    }
    if summary.interrupted {
        bail!("stopped before the end; run again, it goes on where it was and counts nothing twice");
    }
    Ok(())
}
