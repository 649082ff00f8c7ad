//! The client: statements with bound values, inserts of ready-made blocks.
//!
//! Built on the `clickhouse` crate, which finds the errors that come after a 200 has begun.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::rt::TokioExecutor;

use super::answer::{Answer, Format};
use super::breaker::Breaker;
use super::config::{ClickHouseSettings, Login};
use super::error::ClickHouseError;
use super::fleet::{Fleet, Node, Shard, host_and_port};
use super::statement::{Identifier, Statement, TableName};
use crate::metrics::Counter;
use crate::secret::Address;

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

    /// A statement as it is sent: its text, its id, and its values, which the server binds.
    fn prepared(&self, statement: &Statement) -> clickhouse::query::Query {
        let query = self.client.query_raw(statement.text());
        let query = statement.id().into_iter().fold(query, |query, id| query.with_setting("query_id", id));
        statement.params().fold(query, |query, (name, value)| query.with_setting(format!("param_{name}"), value))
    }

    /// Runs one exchange with the server within the timeout, if the breaker lets it.
    async fn exchange<T>(&self, run: impl Future<Output = Result<T, ClickHouseError>>) -> Result<T, ClickHouseError> {
        let permit = self.breaker.as_ref().map(|breaker| breaker.permit()).transpose().map_err(ClickHouseError::CircuitOpen)?;
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
        // Of a file it could not be told that it was cut short: all of it is kept in memory.
        let in_memory = if matches!(format, Format::File(_)) { (2 * LARGEST_ANSWER).to_string() } else { ANSWER_IN_MEMORY.to_owned() };
        let mut query = self.prepared(statement).with_setting("wait_end_of_query", "1").with_setting("buffer_size", in_memory);
        if self.is_writer {
            query = query.with_setting("cancel_http_readonly_queries_on_client_close", "1");
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

    /// Runs a statement and hands on its answer in Native format as it comes, until `take` breaks off; returns how many rows the server is
    /// known to have read. An answer that is cut short is an error: the server ends it otherwise than one that is whole. After an error some
    /// of it was handed on.
    pub async fn stream(&self, statement: &Statement, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) -> Result<u64, ClickHouseError> {
        let query = self.prepared(statement);
        let answer = async {
            let mut cursor = query.fetch_bytes("Native")?;
            while let Some(piece) = cursor.next().await? {
                if take(&piece).is_break() {
                    break;
                }
            }
            Ok(cursor.summary().and_then(|summary| summary.read_rows()).unwrap_or(0))
        };
        self.exchange(answer).await
    }

    /// Runs a statement that somebody wrote and returns its answer in the format that it names: all of it or an error. Dropping the future
    /// ends it on the server, where the user's profile asks for that.
    pub async fn ask(&self, statement: &RawStatement<'_>) -> Result<Answer, ClickHouseError> {
        let query = self.client.query_raw(statement.text).with_setting("query_id", statement.id);
        // In memory as much as is accepted: see [`ANSWER_IN_MEMORY`].
        let query = query.with_setting("wait_end_of_query", "1").with_setting("buffer_size", (2 * LARGEST_ANSWER).to_string());
        let answer = async {
            let (mut cursor, mut body) = (query.fetch_bytes(statement.format)?, BytesMut::new());
            while let Some(chunk) = cursor.next().await? {
                if body.len() + chunk.len() > self.max_answer {
                    return Err(ClickHouseError::TooLarge(self.max_answer));
                }
                body.extend_from_slice(&chunk);
            }
            let read_rows = cursor.summary().and_then(|summary| summary.read_rows()).unwrap_or(0);
            Ok(Answer { body: body.freeze(), read_rows })
        };
        self.exchange(answer).await
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
    pub async fn execute(&self, statement: &Statement) -> Result<(), ClickHouseError> {
        let query = self.prepared(statement).with_setting("wait_end_of_query", "1");
        self.exchange(async { Ok(query.execute().await?) }).await
    }

    /// Inserts a block in Native format, given in pieces. `into` is `INSERT INTO` a table and its columns. It becomes one part for
    /// each partition of the table that it touches; each part comes whole or not at all.
    pub async fn insert(&self, into: &Statement, block: impl IntoIterator<Item = Bytes>, query_id: &str) -> Result<(), ClickHouseError> {
        let mut insert = self.client.insert_formatted_with(format!("{} FORMAT Native", into.text()));
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

/// A statement that somebody wrote.
#[derive(Clone, Copy, Debug)]
pub struct RawStatement<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its id, which no other has.
    pub id: &'a str,
    /// How its rows are written, unless it says so itself.
    pub format: &'static str,
}

/// Access for statements that others have written.
#[derive(Clone)]
pub struct SqlAccess {
    /// Its user has no right but to read the views. Has no breaker: such a statement must not keep others from the server.
    pub client: Client,
    /// Where the views are.
    pub database: Identifier,
    /// The user with whose rights they are read.
    pub owner: Identifier,
    /// That of all others, which is asked alone whether the store is being mended.
    breaker: Arc<Breaker>,
}

impl SqlAccess {
    /// Whether the store is being mended: rows may be missing.
    pub fn is_being_mended(&self) -> bool {
        self.breaker.is_held()
    }
}

/// What granules a condition found nothing in: some releases of the server remember it wrongly, and leave rows out of later answers. The
/// profile of the reader, who may set nothing, must have it off.
const CONDITION_CACHE: &str = "use_query_condition_cache";

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
    /// Asks what others have written; none unless there is a user for it.
    pub sql: Option<SqlAccess>,
    /// Database of each node's own tables.
    pub database: Identifier,
    /// Where rows are kept: one shard of one server, or those of the cluster. Never empty.
    pub shards: Arc<[Shard]>,
    /// The cluster, if there is one.
    pub fleet: Option<Arc<Fleet>>,
    /// Shared by `writer` and `reader`. The nodes of a cluster have none: one that is away must not stop the others, and the
    /// loader makes its own pauses.
    pub breaker: Arc<Breaker>,
}

impl ClickHouse {
    /// Clients for a server; connects when first used.
    pub fn new(settings: &ClickHouseSettings) -> Self {
        let breaker = Arc::<Breaker>::default();
        let client = |url: &str, login| Client::new(url, login, settings.request_timeout);
        let within = |mut client: Client, database: &Identifier| {
            client.client = client.client.with_database(&**database);
            client
        };
        let exact = |mut client: Client| {
            client.client = client.client.with_setting(CONDITION_CACHE, "0");
            client
        };
        let writing = |client: Client| Client { is_writer: true, ..exact(within(client, &settings.database)) };
        let guarded = |client: Client| Client { breaker: Some(Arc::clone(&breaker)), ..client };
        let read_database = settings.fleet.as_ref().map_or(settings.database.clone(), |_| Fleet::read_database(&settings.database));
        let writer = guarded(writing(client(&settings.url, &settings.writer)));
        let migrator = exact(client(&settings.url, &settings.migrator));
        let node = |url: &Address| Node {
            name: host_and_port(url),
            writer: writing(client(url, &settings.writer)),
            migrator: exact(client(url, &settings.migrator)),
        };
        let shards: Vec<Shard> = match &settings.fleet {
            Some(fleet) => fleet.shards.iter().filter_map(|replicas| Shard::of(replicas.iter().map(node))).collect(),
            None => Shard::of([Node { name: String::new(), writer: writer.clone(), migrator: migrator.clone() }]).into_iter().collect(),
        };
        Self {
            writer,
            reader: Client { max_answer: LARGEST_ANSWER, ..guarded(within(client(&settings.url, &settings.reader), &read_database)) },
            migrator,
            sql: settings.sql.as_ref().map(|login| {
                let database = settings.database.with("_sql");
                let client = within(client(&settings.url, &login.login), &database);
                SqlAccess {
                    client: Client { max_answer: LARGEST_ANSWER, ..client },
                    database,
                    owner: login.owner.clone(),
                    breaker: Arc::clone(&breaker),
                }
            }),
            database: settings.database.clone(),
            shards: shards.into(),
            fleet: settings.fleet.clone().map(Arc::new),
            breaker,
        }
    }

    /// A table of each node's own.
    pub fn table(&self, name: Identifier) -> TableName {
        TableName::new(&self.database, name)
    }

    /// Rows of one server of each shard, as the one who inserts reads them; each may take as long as `limit`.
    pub async fn rows_of_shards<T: serde::de::DeserializeOwned>(
        &self,
        statement: &Statement,
        limit: Duration,
    ) -> Result<Vec<T>, ClickHouseError> {
        let mut rows = Vec::new();
        for shard in self.shards.iter() {
            rows.extend(shard.first().writer.with_timeout(limit).rows(statement).await?);
        }
        Ok(rows)
    }

    /// Every server, shard by shard.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.shards.iter().flat_map(Shard::replicas)
    }
}
