//! Reads the managed keys of all projects again and again, for every instance that lets somebody in.
//!
//! May go wrong: the store is away. That is logged once, and the keys that were read last stay in force: ingest goes on without it.

use std::convert::Infallible;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::auth::Keys;
use crate::auth::managed;
use crate::clickhouse::ClickHouse;
use crate::store::tables::saved;

/// How often they are read: a change at another instance is in force here after this time. Only a look at a few rows.
const POLL: Duration = Duration::from_secs(3);

/// Keeps `keys` up to date until asked to stop.
pub(super) async fn watch(keys: Keys, store: ClickHouse, stop: CancellationToken) -> Result<(), Infallible> {
    let following = async {
        let mut is_away = false;
        loop {
            let changes = keys.managed_changes();
            match saved::all_of_kinds(&store, [managed::DOCUMENT], None).await {
                Ok(read) => {
                    is_away = false;
                    let mut documents: Vec<_> = read.into_iter().map(|(_, project, saved)| (project.0, saved.name, saved.body)).collect();
                    documents.sort();
                    keys.replace_managed(documents, changes);
                }
                Err(problem) if !is_away => {
                    is_away = true;
                    tracing::warn!(%problem, "managed keys cannot be read: those that were read last stay in force");
                }
                Err(_) => {}
            }
            tokio::time::sleep(POLL).await;
        }
    };
    stop.run_until_cancelled(following).await;
    Ok(())
}
