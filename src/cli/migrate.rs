//! `pulse migrate`

use anyhow::{Context, Result};
use clap::Args;

use super::ConfigArgs;
use crate::app;
use crate::config::Settings;
use crate::store::migrate::{self, OfNodes};

#[derive(Debug, Args)]
#[command(after_help = "Example: pulse migrate --status")]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only say what is applied and what is not
    #[arg(long)]
    status: bool,
}

pub(super) fn run(args: &MigrateArgs) -> Result<()> {
    super::start_logging("info");
    let settings = args.config.load(Vec::new())?;
    let only_status = args.status;
    super::runtime()?.block_on(async {
        if !only_status {
            app::prepare_log(&settings).await?;
        }
        migrate_store(&settings, only_status).await
    })
}

async fn migrate_store(settings: &Settings, only_status: bool) -> Result<()> {
    app::with_store(settings, |store| async move {
        if !only_status {
            for name in migrate::run(&store).await?.found {
                println!("applied  {name}");
            }
        }
        let OfNodes { found, away } = migrate::status(&store).await.context("reading the schema")?;
        for migration in found {
            let behind = if migration.behind.is_empty() { String::new() } else { format!("  behind: {}", migration.behind.join(", ")) };
            println!("{}  {}{behind}", if migration.applied { "present" } else { "missing" }, migration.name);
        }
        match away.into_iter().next() {
            None => Ok(()),
            Some(problem) => Err(problem).context("run this again when all servers answer"),
        }
    })
    .await
}
