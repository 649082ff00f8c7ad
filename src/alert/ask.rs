//! Asking what a rule asks: through the cache and the guards of all questions.
//!
//! Promise: an answer is used only if it is complete up to the time that the verdict needs. One that was kept from before is asked anew.

use std::collections::BTreeMap;

use serde_json::Value;

use super::catalogue::KnownRule;
use super::observe::{Observed, ObservedTile, OfTile, Series, Source, Span, of_whole};
use super::rule::{Against, Reduce};
use crate::event::ids::ProjectId;
use crate::metrics::Evaluation;
use crate::query::board_tiles::BoardTile;
use crate::query::{Get, Queries, QueryError};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Events are still on their way into the table.
    NotYet,
    /// It was refused or failed.
    Failed(QueryError),
}

impl Unanswered {
    /// Where asking broke off.
    pub(crate) fn of_bug() -> Self {
        Self::Failed(QueryError::internal("asking failed"))
    }

    /// As what it is counted.
    pub(crate) fn outcome(&self) -> Evaluation {
        match self {
            Self::NotYet => Evaluation::NotYet,
            Self::Failed(problem) if problem.is_overload() => Evaluation::Overloaded,
            Self::Failed(_) => Evaluation::Failed,
        }
    }
}

impl From<QueryError> for Unanswered {
    fn from(problem: QueryError) -> Self {
        Self::Failed(problem)
    }
}

/// What is asked, when, and up to when the answer must be complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) span: Span,
    pub(crate) ripe_ms: i64,
    /// Whether an answer that is kept will not do.
    pub(crate) is_anew: bool,
    pub(crate) now_ms: i64,
}

/// The numbers of a span of slots.
pub(crate) async fn observe(queries: &Queries, known: &KnownRule, asked: Asked) -> Result<Observed, Unanswered> {
    let rule = &known.rule;
    match rule.source() {
        Source::Report => {
            let numbers = result(queries, known, rule.question(asked.span), asked).await?;
            let mut observed = rule.observe(&numbers);
            if let Some(question) = rule.count_question(asked.span) {
                rule.count(&mut observed, &result(queries, known, question, asked).await?);
            }
            if rule.body.reduce == Reduce::Anomaly {
                let noted = queries.unusual(ProjectId(known.key.project), asked.span.from_ms, asked.span.until_ms).await?;
                observed.unusual = rule.unusual(noted, asked.span);
            }
            Ok(observed)
        }
        Source::Ledger => {
            let (project, query) = (ProjectId(known.key.project), rule.ledger_query(asked.span));
            let get = Get { project, project_name: &known.project_name, report: "ledger", query: &query };
            let ledger = queries.get(get, asked.now_ms).await?;
            Ok(rule.observe(&serde_json::from_slice(&ledger).unwrap_or_default()))
        }
        Source::Board => board(queries, known, asked).await,
        Source::Lag => {
            let through = queries.data_through(asked.now_ms).await.ok_or(Unanswered::NotYet)?;
            let slot = rule.closed_slot(asked.span.until_ms).unwrap_or(asked.span.from_ms);
            let lag_s = (asked.now_ms - through).max(0) as f64 / 1_000.0;
            let series = Series { values: [(slot, lag_s)].into(), ..Series::default() };
            Ok(Observed { lines: [(String::new(), series)].into(), ..Observed::default() })
        }
    }
}

/// The numbers of all tiles of a board, of the last slot and of the one before. What a tile is refused stands in its place; the others are told.
async fn board(queries: &Queries, known: &KnownRule, asked: Asked) -> Result<Observed, Unanswered> {
    let mut observed = Observed::default();
    for tile in queries.board_tiles(ProjectId(known.key.project), known.rule.board()).await? {
        let (lines, problem) = match lines_of_tile(queries, known, asked, &tile).await {
            Ok(lines) => (lines, String::new()),
            Err(Unanswered::Failed(problem)) if !problem.is_overload() => (BTreeMap::new(), problem.message),
            Err(problem) => return Err(problem),
        };
        observed.tiles.push(ObservedTile { title: tile.title, lines, problem });
    }
    Ok(observed)
}

async fn lines_of_tile(
    queries: &Queries,
    known: &KnownRule,
    asked: Asked,
    tile: &BoardTile,
) -> Result<BTreeMap<String, Series>, Unanswered> {
    let BoardTile { report, question, .. } = tile;
    let rule = &known.rule;
    let slots = match rule.of_tile(report, question) {
        OfTile::Nothing(why) => return Err(QueryError::invalid("invalid_alert", why).into()),
        OfTile::Slots(rule) => {
            let known = KnownRule { rule: *rule, ..known.clone() };
            let numbers = result(queries, &known, known.rule.question(asked.span), asked).await?;
            return Ok(known.rule.observe(&numbers).lines);
        }
        OfTile::Whole => {
            let last = rule.closed_slot(asked.span.until_ms);
            [last.and_then(|last| rule.compared(last, Against::Previous)), last]
        }
    };
    let mut known = known.clone();
    report.clone_into(&mut known.rule.body.report);
    let mut lines: BTreeMap<String, Series> = BTreeMap::new();
    for slot in slots.into_iter().flatten() {
        let span = Span { from_ms: slot, until_ms: rule.next_slot(slot).unwrap_or(slot) };
        let numbers = result(queries, &known, rule.whole_question(question, span), asked).await?;
        for (name, value) in of_whole(report, &numbers) {
            lines.entry(name).or_default().values.insert(slot, value);
        }
    }
    Ok(lines)
}

async fn result(queries: &Queries, known: &KnownRule, mut question: Value, asked: Asked) -> Result<Value, Unanswered> {
    for is_second in [false, true] {
        if is_second || asked.is_anew {
            // What is kept is older than the verdict needs.
            question["refresh"] = true.into();
        }
        let body = question.to_string();
        let answer = queries.answer(ProjectId(known.key.project), &known.rule.body.report, body.as_bytes(), asked.now_ms).await?;
        let unreadable = |_| Unanswered::Failed(QueryError::internal("an answer cannot be read"));
        let meta: Value = serde_json::from_slice(answer.meta()).map_err(unreadable)?;
        let is_stale = meta.get("stale").is_some();
        let through = meta.get("data_through").and_then(Value::as_str).and_then(|text| text.parse::<jiff::Timestamp>().ok());
        if !is_stale && through.is_some_and(|through| through.as_millisecond() >= asked.ripe_ms) {
            return serde_json::from_slice(answer.result()).map_err(unreadable);
        }
    }
    Err(Unanswered::NotYet)
}
