//! The schema at the start of an instance, and after it where servers were away by then.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio_util::sync::CancellationToken;

use crate::clickhouse::ClickHouse;
use crate::config::Settings;
use crate::store::migrate::{self, MigrateError, OfNodes};

/// Between two looks for servers that were away.
const INTERVAL: Duration = Duration::from_secs(2);

/// Brings the schema up to date, or checks that it is, as the settings say. Returns whether every server has answered. Errors:
/// none has, or the schema is not what this release needs.
pub(super) async fn prepare(settings: &Settings, store: &ClickHouse) -> Result<bool> {
    if settings.config.migrate_at_start {
        let OfNodes { found: applied, away } = migrate::run(store).await.context("bringing the schema up to date")?;
        tell(&applied);
        if !applied.is_empty() {
            sync(settings)?;
        }
        warn_of(&away);
        return Ok(away.is_empty());
    }
    let OfNodes { found, away } = migrate::status(store).await.context("reading the schema")?;
    warn_of(&away);
    match found.into_iter().find(|migration| !migration.applied) {
        None => Ok(away.is_empty()),
        Some(migration) => bail!("migration {} is not applied: run `pulse migrate`", migration.name),
    }
}

/// Brings what the embedded engine has made of a migration to the disk: it syncs the rows of tables, but not the tables' own files.
pub(super) fn sync(settings: &Settings) -> Result<()> {
    if settings.clickhouse.url.is_empty() {
        let folder = std::fs::File::open(&settings.config.data_dir).context("data_dir")?;
        rustix::fs::syncfs(folder).context("writing the schema to the disk")?;
    }
    Ok(())
}

/// As [`prepare`], for the embedded engine, which is waited for however busy the machine is: without its tables nobody knows whether the
/// log has lost its end, and nothing may be written behind that.
pub(super) async fn prepare_embedded(settings: &Settings, store: &ClickHouse) -> Result<()> {
    loop {
        match prepare(settings, store).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(problem) if is_away(&problem) => {
                tracing::warn!(problem = %format!("{problem:#}"), "the embedded engine does not answer yet: it is waited for");
            }
            Err(problem) => return Err(problem),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn is_away(problem: &anyhow::Error) -> bool {
    problem.downcast_ref::<MigrateError>().is_some_and(MigrateError::is_away)
}

/// Whether the schema is complete, for an instance that also starts without any server: events are accepted, and wait in the log.
pub(super) fn is_complete(prepared: Result<bool>) -> Result<bool> {
    match prepared {
        Err(problem) if is_away(&problem) => {
            tracing::error!(problem = %format!("{problem:#}"), "no server answers: nothing loads, and no question is answered, until one does");
            Ok(false)
        }
        other => other,
    }
}

/// Brings the schema of servers that were away up to date once they are back.
pub(super) async fn complete(store: ClickHouse, stop: CancellationToken) -> Result<(), Infallible> {
    let completing = async {
        loop {
            tokio::time::sleep(INTERVAL).await;
            match migrate::run(&store).await {
                Ok(OfNodes { found: applied, away }) => {
                    tell(&applied);
                    if away.is_empty() {
                        return;
                    }
                }
                Err(problem) if problem.is_away() => tracing::debug!(%problem, "still away"),
                Err(problem) => tracing::error!(%problem, "the schema cannot be brought up to date"),
            }
        }
    };
    stop.run_until_cancelled(completing).await;
    stop.cancelled().await;
    Ok(())
}

fn tell(applied: &[&str]) {
    if !applied.is_empty() {
        tracing::info!(?applied, "schema brought up to date");
    }
}

/// A server of a cluster that is away keeps nobody from starting: events are accepted and the other shards load.
fn warn_of(away: &[MigrateError]) {
    for problem in away {
        tracing::error!(%problem, "a server is away: nothing loads into its shard until it is back");
    }
}
