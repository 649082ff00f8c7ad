//! The guarded way to ClickHouse, the only one of this role.
//!
//! Promises: every statement runs within a deadline, and as part of a question that holds a permit or of a watcher that sends one
//! statement at a time; dropping the future cancels the statement; an error names neither hosts nor SQL. One question has one
//! deadline, its turn and all its statements together. A statement that would read another project, or all of them, is not sent.
//! May go wrong: too much runs at once (429, 503), the store is away (503), a statement is too expensive (422) or too slow (504).

mod guard;
mod memory;
mod profile;
mod rows;
mod rows_read;
mod scope;
mod store;
mod turn;

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

pub(crate) use self::guard::Guard;
pub use self::guard::{QueryConfig, QueryLimits};
pub(crate) use self::memory::{Held, OutOfMemory};
pub use self::profile::missing_limits;
pub(crate) use self::rows::{Cell, Row, number, to_json};
pub(crate) use self::rows_read::RowsRead;
pub(crate) use self::scope::PLACES;
pub use self::store::StoreReader;
pub(crate) use self::turn::{Permit, Turn};
use super::ask::secret;
use super::ask::selection::{PERSON, Traffic};
use super::ask::{AsOf, Range, Scope};
use super::error::QueryError;
use super::pending::{Backlog, PendingEvents, Watermark};
use super::people::map::PersonMap;
use super::sources::LoadLatency;
use super::sql::Statement;
use crate::event::ids::ProjectId;
use crate::project::{ProjectSettings, Projects};

pub use crate::clickhouse::Answer;
use crate::clickhouse::{Block, BlockReader};

/// Most statements of a question that are shown, most characters of each and of one of its values, and most of these.
const MOST_NOTED: usize = 50;
const MOST_OF_SQL: usize = 20_000;
const MOST_OF_VALUE: usize = 200;
const MOST_VALUES: usize = 100;

/// Sends statements to a store. Dropping the future must cancel the statement.
pub trait Run: Send + Sync + 'static {
    /// Runs one statement; the rows come as `JSONCompactEachRow`.
    fn run(&self, statement: Statement) -> impl Future<Output = Result<Answer, QueryError>> + Send;

    /// Runs one statement and hands on its answer in Native format, piece by piece, until `take` breaks off; returns the rows read. A store
    /// that has only whole answers hands on a whole one.
    fn stream<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> impl Future<Output = Result<u64, QueryError>> + Send {
        async {
            let answer = self.run(statement).await?;
            let _ = take(&answer.body);
            Ok(answer.read_rows)
        }
    }

    /// Runs one statement; the rows come as a file of a format by its name to the server. A store that writes none refuses.
    fn file(&self, _statement: Statement, _format: &'static str) -> impl Future<Output = Result<Answer, QueryError>> + Send {
        async { Err(QueryError::internal("the store writes no files")) }
    }

    /// The statements that run now and whose ids begin so. A store that does not know says none.
    fn running(&self, _ids: String) -> impl Future<Output = Result<Vec<RunningStatement>, QueryError>> + Send {
        async { Ok(Vec::new()) }
    }
}

/// A statement that the store is running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningStatement {
    /// Its id.
    pub id: String,
    /// Rows that it has read so far.
    pub rows_read: u64,
}

/// Takes a piece of an answer.
pub type TakePiece<'t> = dyn FnMut(&[u8]) -> ControlFlow<()> + Send + 't;

impl<R: Run> Run for Arc<R> {
    fn run(&self, statement: Statement) -> impl Future<Output = Result<Answer, QueryError>> + Send {
        R::run(self, statement)
    }

    fn stream<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> impl Future<Output = Result<u64, QueryError>> + Send {
        R::stream(self, statement, take)
    }

    fn file(&self, statement: Statement, format: &'static str) -> impl Future<Output = Result<Answer, QueryError>> + Send {
        R::file(self, statement, format)
    }

    fn running(&self, ids: String) -> impl Future<Output = Result<Vec<RunningStatement>, QueryError>> + Send {
        R::running(self, ids)
    }
}

/// [`Run`] of any store.
trait AnyStore: Send + Sync {
    fn send(&self, statement: Statement) -> BoxFuture<'_, Result<Answer, QueryError>>;

    fn pieces<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> BoxFuture<'a, Result<u64, QueryError>>;

    fn written(&self, statement: Statement, format: &'static str) -> BoxFuture<'_, Result<Answer, QueryError>>;

    fn running_now(&self, ids: String) -> BoxFuture<'_, Result<Vec<RunningStatement>, QueryError>>;
}

impl<R: Run> AnyStore for R {
    fn send(&self, statement: Statement) -> BoxFuture<'_, Result<Answer, QueryError>> {
        self.run(statement).boxed()
    }

    fn pieces<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> BoxFuture<'a, Result<u64, QueryError>> {
        self.stream(statement, take).boxed()
    }

    fn written(&self, statement: Statement, format: &'static str) -> BoxFuture<'_, Result<Answer, QueryError>> {
        self.file(statement, format).boxed()
    }

    fn running_now(&self, ids: String) -> BoxFuture<'_, Result<Vec<RunningStatement>, QueryError>> {
        self.running(ids).boxed()
    }
}

/// Guards a store.
pub(crate) struct Reader {
    store: Box<dyn AnyStore>,
    guard: Guard,
    deadline: Duration,
    pending: Option<Arc<dyn PendingEvents>>,
    export_delay: Duration,
    latency: Option<LoadLatency>,
    projects: Projects,
    /// What the ids of its statements begin with, and those of no other process.
    ids: String,
}

impl Reader {
    /// Guards `store` with `limits`.
    pub(crate) fn new(store: impl Run, limits: QueryLimits) -> Self {
        Self {
            store: Box::new(store),
            guard: Guard::new(limits),
            deadline: limits.time,
            pending: None,
            export_delay: limits.export_delay,
            latency: None,
            projects: Projects::default(),
            ids: format!("pulse-question-{}-", Uuid::new_v4().simple()),
        }
    }

    /// The statements of questions that run now, as far as the store says so `within` that time. Takes no permit: see [`Self::watch`].
    ///
    /// # Errors
    /// The store is away, says nothing in time, or not to this user.
    pub(crate) async fn running(&self, within: Duration) -> Result<Vec<RunningStatement>, QueryError> {
        timeout(within, self.store.running_now(self.ids.clone())).await.unwrap_or_else(|_| Err(QueryError::too_slow()))
    }

    /// Knows, beside the store, what waits in the log and how long loading takes.
    pub(crate) fn beside(self, pending: Option<Arc<dyn PendingEvents>>, latency: Option<LoadLatency>) -> Self {
        Self { pending, latency, ..self }
    }

    /// Knows what is set for single projects.
    pub(crate) fn with_projects(self, projects: Projects) -> Self {
        Self { projects, ..self }
    }

    /// No session of `project` is longer, milliseconds.
    pub(crate) fn longest_session_ms(&self, project: ProjectId) -> i64 {
        self.projects.of(project).sessions.longest_ms
    }

    /// The settings of `project`.
    pub(crate) fn settings(&self, project: ProjectId) -> &ProjectSettings {
        self.projects.of(project)
    }

    /// Begins a question of `project`, asked at `now_ms` (milliseconds since 1970), once it is its turn.
    ///
    /// # Errors
    /// 429 `too_many_queries`, 503 `overloaded`, 504 `query_timeout`.
    pub(crate) async fn begin(&self, project: ProjectId, now_ms: i64) -> Result<StatementRunner<'_>, QueryError> {
        self.begin_with(None, project, now_ms).await
    }

    /// Permits beside those of all, `most` of them.
    pub(crate) fn permits_apart(&self, most: usize) -> Guard {
        self.guard.apart(most)
    }

    /// Reads the books, which concern all projects, `within` that time. Takes no permit, so that watching goes on under load: each
    /// watcher sends one statement at a time.
    pub(crate) fn watch(&self, now_ms: i64, within: Duration) -> StatementRunner<'_> {
        self.runner(ProjectId::BOOKS, now_ms, Instant::now() + within)
    }

    fn runner(&self, project: ProjectId, now_ms: i64, deadline: Instant) -> StatementRunner<'_> {
        let (traffic, people) = (Traffic::People, Arc::default());
        StatementRunner {
            reader: self,
            project,
            now_ms,
            deadline,
            traffic,
            rows_read: 0,
            known_rows_read: Arc::default(),
            is_sampled: false,
            people,
            counts_people: false,
            data_through_ms: None,
            as_of: None,
            noted: None,
            memory: self.guard.memory(),
            permit: None,
        }
    }
}

/// A statement as people read it.
fn shown(statement: &Statement) -> Value {
    let cut = |text: &str, most: usize| match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    let value = |value: &str| if secret::is_part(value) { "…".to_owned() } else { cut(value, MOST_OF_VALUE) };
    let params = statement.params().take(MOST_VALUES).map(|(name, text)| (name, Value::from(value(text))));
    json!({"sql": cut(statement.text(), MOST_OF_SQL), "params": params.collect::<Map<_, _>>()})
}

/// Runs the statements of one question and adds up the rows that they read.
pub(crate) struct StatementRunner<'a> {
    reader: &'a Reader,
    project: ProjectId,
    now_ms: i64,
    deadline: Instant,
    traffic: Traffic,
    rows_read: u64,
    /// The same for those who wait, with what is known of the statement that runs.
    known_rows_read: Arc<RowsRead>,
    is_sampled: bool,
    people: Arc<PersonMap>,
    counts_people: bool,
    data_through_ms: Option<i64>,
    /// What it sees; all without.
    as_of: Option<AsOf>,
    /// What it has sent, where that is asked for.
    noted: Option<Vec<Value>>,
    memory: Held,
    /// Held until the question is answered.
    permit: Option<Permit>,
}

impl StatementRunner<'_> {
    /// Whose question it is.
    pub(crate) fn project(&self) -> ProjectId {
        self.project
    }

    /// The events of the project in `range`: where every statement of events starts.
    pub(crate) fn scope(&self, range: &Range) -> Scope {
        Scope::new(self.project, range).with_traffic(self.traffic).with_longest_session(self.reader.longest_session_ms(self.project))
    }

    /// Whose events every scope from here on is of; those of people unless it is said.
    pub(crate) fn look_at(&mut self, traffic: Traffic) {
        self.traffic = traffic;
    }

    /// Sees what was there then.
    pub(crate) fn look_back_to(&mut self, as_of: AsOf) {
        self.as_of = Some(as_of);
    }

    /// Notes the statements that it sends from here on.
    pub(crate) fn note_statements(&mut self) {
        self.noted = Some(Vec::new());
    }

    /// Those that it has noted: `{"sql", "params"}`, what is long of them cut.
    pub(crate) fn noted(&mut self) -> Vec<Value> {
        self.noted.take().unwrap_or_default()
    }

    /// What the log holds above `watermarks`.
    ///
    /// # Errors
    /// 503 `log_unavailable`.
    pub(crate) async fn backlog(&self, watermarks: &[Watermark]) -> Result<Backlog, QueryError> {
        let Some(pending) = &self.reader.pending else { return Ok(Backlog::default()) };
        let backlog = self.within_deadline(pending.above(watermarks)).await?;
        backlog.map_err(|_| QueryError::unavailable("log_unavailable", "the log cannot be read now"))
    }

    /// The latencies of the project's events, as the loader of this process has measured them; null without one.
    pub(crate) fn latency(&self) -> Value {
        self.reader.latency.as_ref().map_or(Value::Null, |latency| latency(self.project))
    }

    /// When the question was asked, milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Rows read so far.
    pub(crate) fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// The same for those who wait for the answer.
    pub(crate) fn known_rows_read(&self) -> Arc<RowsRead> {
        Arc::clone(&self.known_rows_read)
    }

    /// Notes rows that a statement has read that is over, one of its own or beside these.
    pub(crate) fn add_rows_read(&mut self, rows: u64) {
        self.rows_read += rows;
        self.known_rows_read.end(self.rows_read);
    }

    /// Notes that the answer is scaled up from a part of the events.
    pub(crate) fn mark_sampled(&mut self) {
        self.is_sampled = true;
    }

    /// Whether the answer is scaled up from a part of the events.
    pub(crate) fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Answers with these people.
    pub(crate) fn set_people(&mut self, people: Arc<PersonMap>) {
        self.people = people;
    }

    /// The people of the project.
    pub(crate) fn people(&self) -> &PersonMap {
        &self.people
    }

    /// Whether any statement asked who is who.
    pub(crate) fn counts_people(&self) -> bool {
        self.counts_people
    }

    /// Notes up to when its answers are complete.
    pub(crate) fn set_data_through(&mut self, data_through_ms: Option<i64>) {
        self.data_through_ms = data_through_ms;
    }

    /// Before when nothing is received any more that is not in the table, milliseconds since 1970; `None` while that is not known.
    pub(crate) fn settled_through_ms(&self) -> Option<i64> {
        let delay_ms = i64::try_from(self.reader.export_delay.as_millis()).unwrap_or(i64::MAX);
        self.data_through_ms.map(|through_ms| through_ms.saturating_sub(delay_ms))
    }

    /// Memory of the question, of which nothing is held yet.
    pub(crate) fn memory(&self) -> Held {
        self.memory.another()
    }

    /// Waits for `work` until the deadline of the question.
    pub(crate) async fn within_deadline<T>(&self, work: impl Future<Output = T>) -> Result<T, QueryError> {
        timeout_at(self.deadline, work).await.map_err(|_| QueryError::too_slow())
    }

    /// Runs `statement` and parses its rows.
    pub(crate) async fn rows(&mut self, statement: Statement) -> Result<Vec<Row>, QueryError> {
        let mut rows = Vec::new();
        self.each(statement, |row| rows.push(row)).await?;
        Ok(rows)
    }

    /// Runs `statement` and takes its rows one by one, so that they are never all parsed at once.
    pub(crate) async fn each(&mut self, statement: Statement, mut take: impl FnMut(Row)) -> Result<(), QueryError> {
        self.typed_each(statement, |row| take(Row(row))).await
    }

    /// Runs `statement`; its rows come as a file of a format by its name to the server.
    pub(crate) async fn file(&mut self, statement: Statement, format: &'static str) -> Result<Bytes, QueryError> {
        let statement = self.checked(statement)?;
        let answer = self.within_deadline(self.reader.store.written(statement, format)).await??;
        self.add_rows_read(answer.read_rows);
        Ok(answer.body)
    }

    /// Runs `statement` and parses its rows, each the values of its columns.
    pub(crate) async fn typed_rows<T: DeserializeOwned>(&mut self, statement: Statement) -> Result<Vec<T>, QueryError> {
        let mut rows = Vec::new();
        self.typed_each(statement, |row| rows.push(row)).await?;
        Ok(rows)
    }

    /// Runs `statement`, whose columns have values of a fixed width, and takes its rows block by block as they come, until `take` breaks
    /// off: for more rows than an answer may have otherwise. What they take in memory is for `take` to bound, by [`Self::memory`].
    pub(crate) async fn blocks(
        &mut self,
        statement: Statement,
        mut take: impl FnMut(&Block<'_>) -> ControlFlow<()> + Send,
    ) -> Result<(), QueryError> {
        let statement = self.checked(statement)?;
        let (mut reader, mut problem, mut is_over, mut came) = (BlockReader::default(), None, false, 0);
        let mut take_piece = |piece: &[u8]| {
            let take_block = |block: &Block<'_>| {
                came += block.rows as u64;
                is_over |= take(block).is_break();
            };
            problem = reader.read(piece, take_block).err();
            if is_over || problem.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let rows = self.within_deadline(self.reader.store.pieces(statement, &mut take_piece)).await??;
        // What was read is known at the end only; at least what came was.
        self.add_rows_read(rows.max(came));
        if problem.is_some() || !(is_over || reader.is_whole()) {
            tracing::warn!(?problem, "an answer in blocks that cannot be read");
            return Err(QueryError::internal("the answer of the store cannot be read"));
        }
        Ok(())
    }

    /// The statement as it is sent, if it may be.
    fn checked(&mut self, statement: Statement) -> Result<Statement, QueryError> {
        self.counts_people |= statement.text().contains(PERSON);
        let statement = self.people.fill(statement, PERSON);
        let statement = AsOf::fill(self.as_of.as_ref(), statement);
        if !statement.fits() {
            let message = "the filters hold more different fields and values than one statement can carry";
            return Err(QueryError::invalid("filter_too_complex", message));
        }
        if !scope::is_of(self.project, &statement) {
            tracing::error!(sql = statement.text(), "not sent: a statement without its project");
            return Err(QueryError::internal("a statement was not limited to the project"));
        }
        if let Some(noted) = self.noted.as_mut().filter(|noted| noted.len() < MOST_NOTED) {
            noted.push(shown(&statement));
        }
        let id = format!("{}{}", self.reader.ids, Uuid::new_v4().simple());
        self.known_rows_read.begin(id.clone());
        Ok(statement.with_id(id))
    }

    async fn typed_each<T: DeserializeOwned>(&mut self, statement: Statement, mut take: impl FnMut(T)) -> Result<(), QueryError> {
        let statement = self.checked(statement)?;
        let answer = self.within_deadline(self.reader.store.send(statement)).await??;
        self.add_rows_read(answer.read_rows);
        // Text columns are bytes to the store; a sequence that is not UTF-8 must not cost the whole answer.
        let text = String::from_utf8_lossy(&answer.body);
        for line in text.lines().filter(|line| !line.is_empty()) {
            take(serde_json::from_str(line).map_err(|_| QueryError::internal("the answer of the store cannot be read"))?);
        }
        Ok(())
    }
}
