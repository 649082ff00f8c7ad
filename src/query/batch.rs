//! Several questions in one request, for a page that shows many answers: each is answered as if it had been asked alone, on a line of
//! its own, as soon as it is known.
//!
//! Promises: a question that is refused costs itself; of questions that are equal one is computed; those that read the same events read them once
//! (`shared_scan`); no more than [`AT_ONCE`] of a request, or groups of up to eight that share a scan, run or wait to be sent at a time, so a client that
//! reads slowly holds few answers, and none of them longer than it runs what others wait for; a client that leaves ends what runs for it. A client
//! that wants to know is told on lines between the answers how many rows those questions have read that take long.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::task::AbortOnDropHandle;

use super::ask::fields;
use super::error::QueryError;
use super::progress::Watch;
use super::question::Request;
use super::shared_scan::{Seat, Seated};
use super::{Queries, Reply};
use crate::event::ids::ProjectId;
use crate::http::respond::ApiError;
use crate::lifecycle;

/// Most questions of a request.
const MOST: usize = 100;
/// Questions of a request, or groups that share a scan, at a time: half of what a project may ask, so that others of it get their turn.
const AT_ONCE: usize = 4;
/// How often is said how far the questions are that are not answered yet: the first time once one of them takes as long.
const SAID_EVERY: Duration = Duration::from_secs(1);

/// The questions of a request, in order.
pub(super) struct Batch {
    questions: Vec<Line<Asked>>,
    shows_progress: bool,
}

/// One of them.
struct Asked {
    report: String,
    /// The request of the report.
    body: Vec<u8>,
    /// By this it is found until it is answered.
    watch: Arc<Watch>,
    /// Where it may read together with others.
    seat: Option<Seat>,
}

impl Asked {
    fn request(&self, now_ms: i64) -> Request<'_> {
        Request { watch: Some(&self.watch), ..Request::of(&self.report, &self.body, now_ms) }
    }
}

impl Batch {
    /// Reads `{"queries":[{"report":…, …}, …]}`.
    ///
    /// # Errors
    /// 400: it is no such list, or too long a one. What is wrong with one of the questions is its answer.
    pub(super) fn parse(body: &[u8]) -> Result<Self, QueryError> {
        let invalid = |message: String| QueryError::invalid("invalid_batch", message);
        let mut body = fields::parse(body)?;
        if let Some(key) = body.as_object().and_then(|body| body.keys().find(|key| *key != "queries")) {
            return Err(QueryError::invalid("unknown_key", format!("unknown key `{}`: `queries` is known", fields::shortened(key))));
        }
        let Some(Value::Array(queries)) = body.get_mut("queries").map(Value::take) else {
            return Err(invalid("the body must be an object with a list `queries`".into()));
        };
        if queries.is_empty() || queries.len() > MOST {
            return Err(invalid(format!("`queries` has {} questions: it must have 1 to {MOST}", queries.len())));
        }
        let questions = queries.into_iter().enumerate().map(|(index, query)| Line::of(index, query)).collect();
        Ok(Self { questions, shows_progress: false })
    }

    /// The same; whether how far questions are stands between the answers.
    pub(super) fn showing_progress(self, shows_progress: bool) -> Self {
        Self { shows_progress, ..self }
    }

    /// The answers, asked at `now_ms`, as [`lines`].
    pub(super) fn answers(self, queries: Queries, project: ProjectId, now_ms: i64) -> impl Stream<Item = Bytes> + Send + 'static {
        let watched = self.questions.iter().filter(|_| self.shows_progress).filter_map(Watched::of).collect();
        let watching = Watching::new(queries.clone(), watched);
        let groups = groups(queries.clone(), project, now_ms, self.questions);
        let groups = stream::once(groups).flat_map(stream::iter);
        let answers = whole_lines(groups, AT_ONCE, move |mut asked: Asked| {
            let queries = queries.clone();
            async move {
                let seat = asked.seat.take();
                queries.reply(project, asked.request(now_ms), seat).await
            }
        });
        beside(answers, watching).flat_map(stream::iter)
    }
}

/// The questions, those together that may share a scan: each group where its first question stands.
async fn groups(queries: Queries, project: ProjectId, now_ms: i64, questions: Vec<Line<Asked>>) -> Vec<Vec<Line<Asked>>> {
    let asked = questions.iter().enumerate().filter_map(|(place, line)| Some((place, line.asked.as_ref().ok()?.request(now_ms))));
    let seats = queries.seats(project, asked.collect()).await;
    let mut seats: HashMap<usize, Seated> = seats.into_iter().map(|seated| (seated.place, seated)).collect();
    let mut groups: BTreeMap<usize, Vec<Line<Asked>>> = BTreeMap::new();
    for (place, mut line) in questions.into_iter().enumerate() {
        let mut first = place;
        if let (Ok(asked), Some(seated)) = (&mut line.asked, seats.remove(&place)) {
            (asked.seat, first) = (Some(seated.seat), seated.first);
        }
        groups.entry(first).or_default().push(line);
    }
    groups.into_values().collect()
}

/// A question that may not be answered yet.
struct Watched {
    index: usize,
    id: Value,
    watch: Weak<Watch>,
    /// What was said of it last.
    rows_read: u64,
}

impl Watched {
    fn of(line: &Line<Asked>) -> Option<Self> {
        let watch = Arc::downgrade(&line.asked.as_ref().ok()?.watch);
        Some(Self { index: line.index, id: line.id.clone(), watch, rows_read: 0 })
    }

    /// A line that says how far it is, if it is further than was said.
    fn line(&mut self, queries: &Queries) -> Option<Bytes> {
        let watch = self.watch.upgrade()?;
        let rows_read = queries.rows_read(&watch).filter(|rows_read| *rows_read > self.rows_read)?;
        self.rows_read = rows_read;
        let about = about(self.index, &self.id);
        Some(format!("{{{about}\"progress\":{{\"rows_read\":{rows_read}}}}}\n").into())
    }
}

/// Looks again and again how far questions are.
struct Watching {
    queries: Queries,
    watched: Vec<Watched>,
    ticks: Interval,
}

impl Watching {
    fn new(queries: Queries, watched: Vec<Watched>) -> Self {
        let mut ticks = interval_at(Instant::now() + SAID_EVERY, SAID_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { queries, watched, ticks }
    }

    /// The next lines that say how far they are; none come once all are answered.
    ///
    /// # Cancel safety
    /// What would have been said is said the next time.
    async fn next(&mut self) -> Vec<Bytes> {
        loop {
            self.ticks.tick().await;
            self.watched.retain(|watched| watched.watch.strong_count() > 0);
            if self.watched.is_empty() {
                std::future::pending().await
            }
            self.queries.poll_progress().await;
            let lines: Vec<Bytes> = self.watched.iter_mut().filter_map(|watched| watched.line(&self.queries)).collect();
            if !lines.is_empty() {
                return lines;
            }
        }
    }
}

/// The answers, and between them what is said of those that are missing.
fn beside(answers: impl Stream<Item = Vec<Bytes>> + Send + 'static, watching: Watching) -> impl Stream<Item = Vec<Bytes>> + Send + 'static {
    stream::unfold((answers.boxed(), watching), |(mut answers, mut watching)| async move {
        let lines = tokio::select! {
            biased;
            answer = answers.next() => answer?,
            said = watching.next() => said,
        };
        Some((lines, (answers, watching)))
    })
}

/// A question of several, or why it is none.
#[derive(Debug)]
pub(super) struct Line<Q> {
    pub(super) index: usize,
    /// What the client calls it; null where it does not.
    pub(super) id: Value,
    pub(super) asked: Result<Q, QueryError>,
}

/// The answers to questions as lines of JSON, `at_once` of them at a time, in the order in which they come.
pub(super) fn lines<Q, A>(
    asked: Vec<Line<Q>>,
    at_once: usize,
    answer: impl Fn(Q) -> A + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static
where
    Q: Send + 'static,
    A: Future<Output = Result<Reply, QueryError>> + Send + 'static,
{
    let alone = asked.into_iter().map(|line| vec![line]);
    whole_lines(stream::iter(alone), at_once, answer).flat_map(stream::iter)
}

/// The same of groups of questions, each line by itself: those of a group run together, and count as one.
fn whole_lines<Q, A>(
    groups: impl Stream<Item = Vec<Line<Q>>> + Send + 'static,
    at_once: usize,
    answer: impl Fn(Q) -> A + Send + 'static,
) -> impl Stream<Item = Vec<Bytes>> + Send + 'static
where
    Q: Send + 'static,
    A: Future<Output = Result<Reply, QueryError>> + Send + 'static,
{
    let answered = move |Line { index, id, asked }: Line<Q>| {
        // By itself, and at once: while a client does not read, nobody looks at its stream, and the question must end all the same, and keep no
        // other one of its group waiting.
        let answering = asked.map(|asked| AbortOnDropHandle::new(lifecycle::spawn_apart(answer(asked))));
        async move {
            let answer = match answering {
                Ok(answering) => answering.await.unwrap_or_else(|_| Err(QueryError::internal("the question was given up"))),
                Err(refused) => Err(refused),
            };
            line(index, &id, answer)
        }
    };
    groups.map(move |group| group.into_iter().map(&answered).collect::<FuturesUnordered<_>>()).flatten_unordered(at_once)
}

impl Line<Asked> {
    fn of(index: usize, query: Value) -> Self {
        let refused = |id, what: &str| {
            let message = format!("queries[{index}] {what}");
            Self { index, id, asked: Err(QueryError::invalid("invalid_batch", message)) }
        };
        let Value::Object(mut query) = query else { return refused(Value::Null, "must be an object") };
        let id = query.remove("id").unwrap_or_default();
        if !(id.is_null() || id.is_number() || id.as_str().is_some_and(|id| id.len() <= 200)) {
            return refused(Value::Null, "has an `id` that is no number and no text of up to 200 bytes");
        }
        match query.remove("report") {
            Some(Value::String(report)) => {
                let body = Value::Object(query).to_string().into_bytes();
                Self { index, id, asked: Ok(Asked { report, body, watch: Arc::default(), seat: None }) }
            }
            _ => refused(id, "has no `report`, which is the name of one"),
        }
    }
}

/// What a line says first: which question it is about.
fn about(index: usize, id: &Value) -> String {
    let id = if id.is_null() { String::new() } else { format!("\"id\":{id},") };
    format!("\"index\":{index},{id}")
}

/// The answer to the question at `index`, with the status that it would have had alone.
fn line(index: usize, id: &Value, answer: Result<Reply, QueryError>) -> Vec<Bytes> {
    let about = about(index, id);
    match answer {
        Ok(answer) => answer.pieces(&format!("{about}\"status\":200,"), "\n").into(),
        Err(refused) => {
            let ApiError { status, code, message, retry_after } = refused.into();
            let mut error = json!({"code": code, "message": message});
            // What `Retry-After` says of a question that is asked alone.
            if let Some(seconds) = retry_after {
                error["retry_after"] = seconds.into();
            }
            vec![format!("{{{about}\"status\":{},\"error\":{error}}}\n", status.as_u16()).into()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_list_of_questions_is_refused_and_what_is_wrong_with_one_costs_itself() {
        let long = json!({"queries": vec![json!({"report": "trends"}); MOST + 1]}).to_string();
        for body in
            ["[]", "{}", "{\"queries\":[{\"report\":\"trends\"}],\"x\":1}", "{\"queries\":{}}", "{\"queries\":[]}", "{\"queries\":", &long]
        {
            assert!(Batch::parse(body.as_bytes()).is_err(), "{body}");
        }
        let mixed = json!({"queries": [{"report": "trends", "from": "-1d", "id": "a"}, 7, {"report": 7, "id": "b"}, {"from": "-1d"}, {"report": "users", "id": []}]});
        let Batch { questions: asked, .. } = Batch::parse(mixed.to_string().as_bytes()).unwrap();
        assert_eq!(asked.iter().map(|line| line.asked.is_ok()).collect::<Vec<_>>(), [true, false, false, false, false]);
        let first = asked[0].asked.as_ref().unwrap();
        assert_eq!((&*first.report, &*first.body), ("trends", &br#"{"from":"-1d"}"#[..]));
        let ids: Vec<&Value> = asked.iter().map(|line| &line.id).collect();
        assert_eq!(ids, [&json!("a"), &Value::Null, &json!("b"), &Value::Null, &Value::Null]);
    }

    #[test]
    fn a_refusal_is_a_line_with_its_place() {
        let line = |id: Value, answer| String::from_utf8(super::line(3, &id, answer).concat()).unwrap();
        let refused = line(Value::Null, Err(QueryError::too_many()));
        assert!(refused.starts_with("{\"index\":3,\"status\":429,\"error\":{\"code\":\"too_many_queries\","), "{refused}");
        assert!(refused.ends_with(",\"retry_after\":1}}\n"), "{refused}");
    }
}
