//! The embedded engine by itself, with the tables of pulse.

use std::path::Path;

use pulse::clickhouse::engine::{Engine, EngineConfig};
use pulse::clickhouse::{ClickHouse, ClickHouseConfig};
use pulse::store::migrate;
use tempfile::TempDir;

use super::program;

/// An engine, its folder and what speaks with it.
pub(crate) async fn alone() -> (TempDir, Engine, ClickHouse) {
    let folder = tempfile::tempdir().unwrap();
    let (engine, store) = alone_in(folder.path()).await;
    (folder, engine, store)
}

pub(crate) async fn alone_in(folder: &Path) -> (Engine, ClickHouse) {
    let base = ClickHouseConfig::default().check().unwrap();
    let engine = Engine::start(&EngineConfig::default(), base, folder, program()).await.unwrap();
    let store = ClickHouse::new(engine.settings());
    migrate::run(&store).await.unwrap();
    (engine, store)
}
