//! An engine, or two servers, with the events that the reports are asked about.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use pulse::clickhouse::engine::{Engine, EngineConfig};
use pulse::clickhouse::{ClickHouse, ClickHouseConfig, ClickHouseSettings, Statement};
use pulse::clock;
use pulse::event::ids::ProjectId;
use pulse::query::{Answer, Get, LoadedBy, Queries, QueryConfig, QueryError, Run, Sources, StoreReader, TakePiece};
use pulse::store::migrate;
use serde_json::{Value, json};

use super::{Case, NOW_MS};
use crate::harness::clickhouse::Cluster;
use crate::harness::openapi::{self, Exchange};
use crate::model::people::{self, Ties};
use crate::model::{self, Event};

/// How long a statement may take: no case fails because the machine is slow.
const PATIENT: Duration = Duration::from_secs(600);

/// A server that has no room for the sets of what trends count once, and refuses them as it refuses what has no room.
struct WithoutSets(StoreReader);

/// Of no more than some events.
const PROBE: &str = "SELECT uniqExact(key)";

impl Run for WithoutSets {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        let holds_set = statement.text().contains("uniqExact") && !statement.text().starts_with(PROBE);
        let too_much = || Statement::raw("SELECT groupArray(number) FROM numbers(1000000000)");
        self.0.run(if holds_set { too_much() } else { statement }).await
    }

    async fn stream<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> Result<u64, QueryError> {
        self.0.stream(statement, take).await
    }
}

/// An engine with the schema, and the reports over it.
pub(super) struct Store {
    pub(super) store: ClickHouse,
    pub(super) queries: Queries,
    // Held for their ends: processes and files.
    _runs_on: Box<dyn std::any::Any>,
}

impl Store {
    pub(super) async fn start() -> Self {
        Self::holding(EngineConfig::default().max_query_memory).await
    }

    /// Where a question may hold so many bytes.
    pub(super) async fn holding(max_query_memory: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = ClickHouseConfig { request_timeout: PATIENT, ..ClickHouseConfig::default() }.check().unwrap();
        let executable = PathBuf::from(env!("CARGO_BIN_EXE_pulse"));
        let config = EngineConfig { max_query_time: PATIENT, max_query_memory, ..EngineConfig::default() };
        let engine = Engine::start(&config, base, folder.path(), executable).await.unwrap();
        let settings = engine.settings().clone();
        Self::on(Box::new((engine, folder)), &settings).await
    }

    /// Where no question may hold a set of what it counts once.
    pub(super) async fn without_sets() -> Self {
        let own = Self::holding(64 << 20).await;
        let queries = Self::queries(&own.store, WithoutSets(StoreReader::new(&own.store)));
        Self { queries, ..own }
    }

    /// Two servers, each with a part of everybody's events.
    pub(super) async fn start_cluster() -> Self {
        let cluster = Cluster::start(2).await;
        let config = ClickHouseConfig { request_timeout: PATIENT, ..cluster.config() };
        let settings = config.check().unwrap();
        Self::on(Box::new(cluster), &settings).await
    }

    async fn on(runs_on: Box<dyn std::any::Any>, settings: &ClickHouseSettings) -> Self {
        let store = ClickHouse::new(settings);
        migrate::run(&store).await.unwrap();
        let queries = Self::queries(&store, StoreReader::new(&store));
        Self { store, queries, _runs_on: runs_on }
    }

    fn queries(store: &ClickHouse, reader: impl Run) -> Queries {
        let limits = QueryConfig { max_time: PATIENT, ..QueryConfig::default() }.check().unwrap();
        let sources = Sources { identities: Some(store.clone()), ..LoadedBy::ThisProcess(Arc::default()).into() };
        Queries::new(reader, limits, sources)
    }

    /// Stores events with the books and the dead letters of their case.
    pub(super) async fn insert(&self, project: u64, events: &[Event], ties: &Ties) {
        people::insert(&self.store, project, events, ties).await;
        let rows = events.iter().enumerate().map(|(index, event)| placed(event.row(project, index), 0, index));
        self.insert_rows("events", rows.chain(model::ledger::rows(project, events)).collect()).await;
        self.insert_rows("dead_letters", model::dead_letters::rows(project, events)).await;
    }

    /// Stores the events of a case and then later ones, of whatever times, with what ties their ids; what names those of the case.
    pub(super) async fn insert_in_turn(&self, project: u64, case: &Case, later: &[Event]) -> String {
        let last = case.events.len() / IN_RECORD;
        people::insert(&self.store, project, &case.events, &case.ties).await;
        let rows = case.events.iter().enumerate().map(|(index, event)| placed(event.row(project, index), 0, index));
        self.insert_rows("events", rows.collect()).await;
        let people_ms = clock::now_ms();
        // The server writes with its own clock, which is this machine's.
        while clock::now_ms() <= people_ms {}
        let is_known = |event: &Event| case.events.iter().any(|known| (known.device, known.user) == (event.device, event.user));
        let new: Vec<Event> = later.iter().filter(|event| !is_known(event)).cloned().collect();
        // A loader that has forgotten what it knew writes it once more.
        let new: Vec<Event> = case.events.iter().cloned().chain(new).collect();
        people::insert(&self.store, project, &new, &case.ties).await;
        // Some in a partition that had none yet.
        let behind = (last + 1) * IN_RECORD;
        let later = later.iter().enumerate().map(|(index, event)| placed(event.row(project, 1_000 + index), index % 2, behind + index));
        self.insert_rows("events", later.collect()).await;
        format!("1.{NOW_MS}.-.{people_ms}.7_0-{last}")
    }

    /// Inserts rows into a table, some into each shard.
    async fn insert_rows(&self, table: &str, rows: Vec<Value>) {
        let shards = &self.store.shards;
        for (number, shard) in shards.iter().enumerate() {
            let own = rows.iter().enumerate().filter(|(index, _)| index % shards.len() == number);
            let own: Vec<String> = own.map(|(_, row)| row.to_string()).collect();
            let insert = format!("INSERT INTO pulse.{table} SETTINGS async_insert = 0 FORMAT JSONEachRow {}", own.join("\n"));
            shard.first().writer.execute(&Statement::raw(insert)).await.unwrap();
        }
    }

    pub(super) async fn ask(&self, project: u64, report: &str, request: &Value) -> Value {
        self.answer(project, report, request).await["result"].take()
    }

    pub(super) async fn answer(&self, project: u64, report: &str, request: &Value) -> Value {
        let body = serde_json::to_vec(request).unwrap();
        let answer = self.queries.answer(ProjectId(project), report, &body, NOW_MS).await;
        let answer = answer.unwrap_or_else(|problem| panic!("{report} {request}: {problem}"));
        let answer = serde_json::from_slice::<Value>(&answer.to_json()).unwrap();
        let path = format!("/v1/query/{report}");
        openapi::check(&Exchange { method: &Method::POST, path: &path, sent: request, status: StatusCode::OK, answer: &answer });
        answer
    }

    pub(super) async fn get(&self, project: u64, report: &str, query: &str) -> Value {
        let asked = Get { project: ProjectId(project), project_name: "shop", report, query };
        let answer = self.queries.get(asked, NOW_MS).await;
        let answer = answer.unwrap_or_else(|problem| panic!("{report} {query}: {problem}"));
        serde_json::from_slice(&answer).unwrap()
    }
}

/// How many events share a record.
const IN_RECORD: usize = 3;

/// A row with its place in the log, in which it comes as the one of that number.
fn placed(mut row: Value, partition: usize, number: usize) -> Value {
    let (offset, index) = (number / IN_RECORD, number % IN_RECORD);
    (row["log_epoch"], row["log_partition"], row["log_offset"], row["log_index"]) =
        (json!(7), json!(partition), json!(offset), json!(index));
    row
}
