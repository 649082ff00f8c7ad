//! The client: statements with bound values, inserts of ready-made blocks.
//!
//! Built on the `clickhouse` crate, which finds the errors that come after a 200 has begun; the code is read from the
//! exception's text, as the HTTP status says little (159 comes as 408, 241 and 252 as 500).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};

use super::arrivals::Arrivals;
use super::breaker::Breaker;
use super::fleet::{Fleet, Node, Shard, checked_url, host_and_port};
use crate::metrics::Counter;
use crate::secret::{Address, Secret};

/// `[clickhouse]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouseConfig {
    /// Address of a server's HTTP port, such as `http://ch1:8123`; with `shards` the one that queries ask. Empty: the first of
    /// the shards, or the embedded engine.
    pub url: Address,
    /// Name of the cluster in the servers' `remote_servers`. Empty: one server.
    pub cluster: String,
    /// The shards of the cluster, each the addresses of its replicas, separated by commas or blanks.
    pub shards: Vec<Address>,
    /// Whether tables are replicated: needs Keeper.
    pub replicated: bool,
    /// Path of a replicated table in Keeper; the servers fill in the braces.
    pub replica_path: String,
    /// Database of pulse's tables.
    pub database: String,
    /// User that inserts; needs SELECT and INSERT on the database and SELECT on `system.processes`.
    pub user: String,
    /// Password of `user`.
    pub password: Secret,
    /// User of the query role, with `readonly = 1` in its profile. Empty: the same as `user`.
    pub reader_user: String,
    /// Password of `reader_user`.
    pub reader_password: Secret,
    /// User of `pulse migrate`. Empty: the same as `user`.
    pub migrator_user: String,
    /// Password of `migrator_user`.
    pub migrator_password: Secret,
    /// Longest time one request may take.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The embedded engine.
    pub engine: super::engine::EngineConfig,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            url: Address::default(),
            cluster: String::new(),
            shards: Vec::new(),
            replicated: false,
            replica_path: "/clickhouse/tables/{shard}/{database}/{table}".to_owned(),
            database: "pulse".to_owned(),
            user: "default".to_owned(),
            password: Secret::default(),
            reader_user: String::new(),
            reader_password: Secret::default(),
            migrator_user: String::new(),
            migrator_password: Secret::default(),
            request_timeout: Duration::from_secs(30),
            engine: super::engine::EngineConfig::default(),
        }
    }
}

/// Where ClickHouse is and who may do what: the checked form of [`ClickHouseConfig`].
#[derive(Clone, Debug)]
pub struct ClickHouseSettings {
    /// Address of the HTTP port that queries ask.
    pub url: Address,
    /// The cluster, if there is more than that one server.
    pub fleet: Option<Fleet>,
    /// Database of pulse's tables; a plain identifier.
    pub database: String,
    /// User that inserts.
    pub writer: Login,
    /// User that only reads.
    pub reader: Login,
    /// User that changes the schema.
    pub migrator: Login,
    /// Longest time one request may take.
    pub request_timeout: Duration,
}

/// A user of ClickHouse.
#[derive(Clone, Debug)]
pub struct Login {
    /// Name.
    pub user: String,
    /// Password; empty if there is none.
    pub password: Secret,
}

impl ClickHouseConfig {
    /// The only way to make [`ClickHouseSettings`] for a server of one's own.
    pub fn check(&self) -> Result<ClickHouseSettings, String> {
        let database = checked_identifier("clickhouse.database", &self.database)?;
        if !self.url.is_empty() {
            checked_url("clickhouse.url", &self.url)?;
        }
        let fleet = Fleet::check(self)?;
        let first = fleet.as_ref().and_then(|fleet| fleet.shards.first()?.first()).filter(|_| self.url.is_empty());
        let writer = Login { user: self.user.clone(), password: self.password.clone() };
        let or_writer = |user: &String, password: &Secret| {
            if user.is_empty() { writer.clone() } else { Login { user: user.clone(), password: password.clone() } }
        };
        Ok(ClickHouseSettings {
            url: first.unwrap_or(&self.url).clone(),
            fleet,
            database,
            reader: or_writer(&self.reader_user, &self.reader_password),
            migrator: or_writer(&self.migrator_user, &self.migrator_password),
            writer,
            request_timeout: self.request_timeout,
        })
    }
}

/// A name that can stand in SQL as it is.
fn checked_identifier(key: &str, name: &str) -> Result<String, String> {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && name.chars().next().is_some_and(|c| !c.is_ascii_digit());
    if is_plain { Ok(name.to_owned()) } else { Err(format!("{key}: `{name}` is not a plain identifier")) }
}

/// Why ClickHouse did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClickHouseError {
    /// It answered with an error of its own.
    #[error("clickhouse error {code}: {message}")]
    Server {
        /// The number of the error.
        code: i32,
        /// What it said; not for users' eyes, it may name hosts and SQL.
        message: String,
    },
    /// It could not be reached, or the connection broke: whether the statement ran is unknown.
    #[error("clickhouse unreachable: {0}")]
    Network(String),
    /// It did not answer in time: whether the statement ran is unknown.
    #[error("clickhouse did not answer within {0:?}")]
    TimedOut(Duration),
    /// Its answer has more bytes than whoever asked takes.
    #[error("clickhouse's answer has more than {0} bytes")]
    TooLarge(usize),
    /// It was not asked: it is away or overloaded, and left alone for this long.
    #[error("clickhouse is left alone for {0:?}")]
    LeftAlone(Duration),
}

impl From<clickhouse::error::Error> for ClickHouseError {
    fn from(error: clickhouse::error::Error) -> Self {
        match error {
            clickhouse::error::Error::BadResponse(text) => Self::of_text(text),
            other => Self::Network(chain(&other)),
        }
    }
}

impl ClickHouseError {
    fn of_text(text: String) -> Self {
        let code = text.split_once("Code: ").map_or(text.as_str(), |(_, rest)| rest);
        let digits: String = code.chars().take_while(char::is_ascii_digit).collect();
        match digits.parse() {
            Ok(code) => Self::Server { code, message: text },
            Err(_) => Self::Network(text),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// One statement. Values go into `params` and stand in the text as `{name:Type}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// The text; no FORMAT clause.
    pub sql: String,
    /// Values by name, written as ClickHouse reads them in text.
    pub params: Vec<(String, String)>,
    /// A name by which others can find it while it runs.
    pub query_id: Option<String>,
}

impl Statement {
    /// A statement without values.
    pub fn of(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), ..Self::default() }
    }

    /// Binds a value.
    pub fn bind(mut self, name: &str, value: impl ToString) -> Self {
        self.params.push((name.to_owned(), value.to_string()));
        self
    }
}

/// What a statement answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The rows, in the format asked for.
    pub body: Bytes,
    /// Rows the server read.
    pub read_rows: u64,
}

/// How the rows of an answer are written.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// One JSON array a line.
    Json,
    /// Binary, every row as many bytes.
    Fixed(usize),
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSONCompactEachRow",
            Self::Fixed(_) => "RowBinary",
        }
    }

    /// What is counted of an answer: the ends of lines, or bytes.
    fn measure(self, chunk: &[u8]) -> u64 {
        match self {
            Self::Json => chunk.iter().filter(|byte| **byte == b'\n').count() as u64,
            Self::Fixed(_) => chunk.len() as u64,
        }
    }

    /// How many rows that is.
    fn rows(self, measured: u64) -> u64 {
        match self {
            Self::Json => measured,
            Self::Fixed(width) => measured / width as u64,
        }
    }
}

/// Bytes of an answer that the server keeps in memory. Larger ones wait in a file of its own; when its disk is full it cuts them
/// short there and says nothing of it, not even in the status (seen with 26.7): see [`Client::query`].
const ANSWER_IN_MEMORY: &str = "1048576";

/// Most bytes of an answer to the reader, whose questions come from outside.
const LARGEST_ANSWER: usize = 32 << 20;

/// Idle connections are closed before the server closes them, by its default after 3 s.
const IDLE: Duration = Duration::from_secs(2);

/// The way to a server: encrypted where its address says so, checked against the system's authorities or those of the file that
/// SSL_CERT_FILE names.
fn transport(url: &str) -> clickhouse::Client {
    if !url.starts_with("https:") {
        return clickhouse::Client::default();
    }
    match HttpsConnectorBuilder::new().with_native_roots() {
        Ok(authorities) => {
            let connector = authorities.https_only().enable_http1().build();
            let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector);
            clickhouse::Client::with_http_client(client)
        }
        Err(problem) => {
            tracing::error!(%problem, "no certificate of a server can be checked: set SSL_CERT_FILE");
            clickhouse::Client::default()
        }
    }
}

/// One kind of access to ClickHouse. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    client: clickhouse::Client,
    timeout: Duration,
    /// Most bytes of an answer.
    max_answer: usize,
    /// None for who waits for a server that starts, or changes it by hand.
    breaker: Option<Arc<Breaker>>,
    /// Whether the user may write, and so may change settings: what it asks ends with the one who asks.
    is_writer: bool,
}

impl Client {
    fn new(url: &str, login: &Login, timeout: Duration) -> Self {
        let client = transport(url).with_url(url).with_user(&login.user).with_password(login.password.reveal());
        let client = client.with_compression(clickhouse::Compression::None);
        Self { client, timeout, max_answer: usize::MAX, breaker: None, is_writer: false }
    }

    /// The same access for statements that may take as long as `timeout`.
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Runs one exchange with the server within the timeout, if the breaker lets it.
    async fn exchange<T>(&self, run: impl Future<Output = Result<T, ClickHouseError>>) -> Result<T, ClickHouseError> {
        let permit = self.breaker.as_ref().map(|breaker| breaker.permit()).transpose().map_err(ClickHouseError::LeftAlone)?;
        let result = tokio::time::timeout(self.timeout, run).await.unwrap_or(Err(ClickHouseError::TimedOut(self.timeout)));
        if let Some(permit) = permit {
            permit.end(&result);
        }
        result
    }

    /// Runs a statement and returns its rows in `format`: all of them or an error. Dropping the future ends the statement on the
    /// server, where the user may write or the user's profile asks for that.
    pub async fn query(&self, statement: &Statement, format: Format) -> Result<Answer, ClickHouseError> {
        let mut body = BytesMut::new();
        let read_rows = self.fetch(statement, format, |chunk| body.extend_from_slice(chunk)).await?;
        Ok(Answer { body: body.freeze(), read_rows })
    }

    /// Runs a statement whose rows are `W` bytes each, and hands them on one by one as they come; after an error some of them were.
    pub async fn each<const W: usize>(&self, statement: &Statement, mut take: impl FnMut(&[u8; W])) -> Result<(), ClickHouseError> {
        let mut rest = BytesMut::new();
        let split = |chunk: &[u8]| {
            rest.extend_from_slice(chunk);
            let (rows, _) = rest.as_chunks::<W>();
            rows.iter().for_each(&mut take);
            let taken = rows.len() * W;
            let _ = rest.split_to(taken);
        };
        self.fetch(statement, Format::Fixed(W), split).await.map(drop)
    }

    /// Runs a statement, hands on what comes of its answer, and returns how many rows the server read.
    async fn fetch(&self, statement: &Statement, format: Format, mut take: impl FnMut(&[u8])) -> Result<u64, ClickHouseError> {
        let mut query = self.client.query_raw(&statement.sql).with_setting("wait_end_of_query", "1");
        query = query.with_setting("buffer_size", ANSWER_IN_MEMORY);
        if self.is_writer {
            query = query.with_setting("cancel_http_readonly_queries_on_client_close", "1");
        }
        for (name, value) in &statement.params {
            query = query.with_setting(format!("param_{name}"), value);
        }
        if let Some(id) = &statement.query_id {
            query = query.with_setting("query_id", id);
        }
        let answer = async {
            let mut cursor = query.fetch_bytes(format.name())?;
            let (mut came, mut bytes) = (0, 0);
            while let Some(chunk) = cursor.next().await? {
                bytes += chunk.len();
                if bytes > self.max_answer {
                    return Err(ClickHouseError::TooLarge(self.max_answer));
                }
                came += format.measure(&chunk);
                take(&chunk);
            }
            let summary = cursor.summary();
            let said = summary.and_then(|summary| summary.result_rows()).unwrap_or(0);
            let came = format.rows(came);
            if came < said {
                return Err(ClickHouseError::Network(format!("{came} of {said} rows came; is the disk of the server full?")));
            }
            Ok(summary.and_then(|summary| summary.read_rows()).unwrap_or(0))
        };
        let read_rows = self.exchange(answer).await?;
        if self.is_writer {
            Counter::LoadRowsRead.add(read_rows);
        }
        Ok(read_rows)
    }

    /// Runs a statement and returns its rows, each as the values of its columns.
    pub async fn rows<T: serde::de::DeserializeOwned>(&self, statement: &Statement) -> Result<Vec<T>, ClickHouseError> {
        let answer = self.query(statement, Format::Json).await?;
        serde_json::Deserializer::from_slice(&answer.body)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|problem| ClickHouseError::Network(format!("unreadable answer: {problem}")))
    }

    /// Runs a statement that answers nothing.
    pub async fn execute(&self, sql: &str) -> Result<(), ClickHouseError> {
        let run = async { Ok(self.client.query_raw(sql).with_setting("wait_end_of_query", "1").execute().await?) };
        self.exchange(run).await
    }

    /// Inserts a block in Native format, given in pieces. `into` is the table and its columns: `db.t (a, b)`. It becomes one part for
    /// each partition of the table that it touches; each part comes whole or not at all.
    pub async fn insert(&self, into: &str, block: impl IntoIterator<Item = Bytes>, query_id: &str) -> Result<(), ClickHouseError> {
        let mut insert = self.client.insert_formatted_with(format!("INSERT INTO {into} FORMAT Native"));
        for (name, value) in ONE_PART {
            insert = insert.with_setting(name, value);
        }
        let mut insert = insert.with_setting("query_id", query_id);
        let run = async {
            for piece in block {
                insert.send(piece).await?;
            }
            Ok(insert.end().await?)
        };
        self.exchange(run).await
    }
}

/// What makes an insert one part: no queue (asynchronous inserts are the default since 26.2), gathering until far
/// more rows than there can be, no splitting by rows or bytes, one thread.
const ONE_PART: [(&str, &str); 7] = [
    ("async_insert", "0"),
    ("wait_end_of_query", "1"),
    ("max_insert_block_size", "10000000"),
    ("min_insert_block_size_rows", "10000000"),
    ("min_insert_block_size_bytes", "0"),
    ("max_insert_threads", "1"),
    ("input_format_parallel_parsing", "0"),
];

/// The three kinds of access, and every server there is. Cheap to clone.
#[derive(Clone)]
pub struct ClickHouse {
    /// Inserts, and reads what concerns inserts; on the server that queries ask. In a cluster see `shards`.
    pub writer: Client,
    /// Only reads, within limits. A table without a database is that of the whole store, however many shards it has.
    pub reader: Client,
    /// Changes the schema; on the server that queries ask. In a cluster see `shards`.
    pub migrator: Client,
    /// Database of each node's own tables; a plain identifier.
    pub database: String,
    /// Where rows are kept: one shard of one server, or those of the cluster. Never empty.
    pub shards: Arc<[Shard]>,
    /// The cluster, if there is one.
    pub fleet: Option<Arc<Fleet>>,
    /// What has arrived in the event table.
    pub arrivals: Arc<Arrivals>,
    /// Shared by `writer` and `reader`. The nodes of a cluster have none: one that is away must not stop the others, and the
    /// loader makes its own pauses.
    pub breaker: Arc<Breaker>,
}

impl ClickHouse {
    /// Clients for a server; connects when first used.
    pub fn new(settings: &ClickHouseSettings) -> Self {
        let breaker = Arc::<Breaker>::default();
        let client = |url: &str, login| Client::new(url, login, settings.request_timeout);
        let within = |mut client: Client, database: &str| {
            client.client = client.client.with_database(database);
            client
        };
        let writing = |client: Client| Client { is_writer: true, ..within(client, &settings.database) };
        let guarded = |client: Client| Client { breaker: Some(Arc::clone(&breaker)), ..client };
        let read_database = settings.fleet.as_ref().map_or(settings.database.clone(), |_| Fleet::read_database(&settings.database));
        let writer = guarded(writing(client(&settings.url, &settings.writer)));
        let migrator = client(&settings.url, &settings.migrator);
        let node = |url: &Address| Node {
            name: host_and_port(url),
            writer: writing(client(url, &settings.writer)),
            migrator: client(url, &settings.migrator),
        };
        let shards: Vec<Shard> = match &settings.fleet {
            Some(fleet) => fleet.shards.iter().filter_map(|replicas| Shard::of(replicas.iter().map(node))).collect(),
            None => Shard::of([Node { name: String::new(), writer: writer.clone(), migrator: migrator.clone() }]).into_iter().collect(),
        };
        Self {
            writer,
            reader: Client { max_answer: LARGEST_ANSWER, ..guarded(within(client(&settings.url, &settings.reader), &read_database)) },
            migrator,
            database: settings.database.clone(),
            shards: shards.into(),
            fleet: settings.fleet.clone().map(Arc::new),
            arrivals: Arc::default(),
            breaker,
        }
    }

    /// Rows of one server of each shard, as the one who inserts reads them.
    pub async fn rows_of_shards<T: serde::de::DeserializeOwned>(&self, statement: &Statement) -> Result<Vec<T>, ClickHouseError> {
        let mut rows = Vec::new();
        for shard in self.shards.iter() {
            rows.extend(shard.first().writer.rows(statement).await?);
        }
        Ok(rows)
    }

    /// Every server, shard by shard.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.shards.iter().flat_map(Shard::replicas)
    }
}

#[cfg(test)]
mod tests;
