//! What a rule would have done: its slots of the past, judged as the live engine judges them.

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::ask::{Asked, Unanswered, observe};
use super::catalogue::KnownRule;
use super::judge::{Entry, Occasion, RuleState, judge};
use super::machine::{Change, Quiet};
use super::observe::{Observed, Span, instant};
use super::rule::Rule;
use crate::query::{Queries, QueryError};

/// Most slots of one back-test.
const MOST_SLOTS: usize = 10_000;
/// Most verdicts of one back-test, and most numbers that they are made of: some seconds of work, and some megabytes of an answer.
const MOST_VERDICTS: usize = 100_000;
const MOST_NUMBERS: usize = 20_000_000;
/// One at a time: there are others who need the processor.
static RUNNING: Semaphore = Semaphore::const_new(1);
/// Most changes that are shown.
const MOST_SHOWN: usize = 1_000;

/// What a back-test found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tested {
    pub(crate) slots: Vec<i64>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) values: Vec<Value>,
    pub(crate) left_out: usize,
}

/// Judges all slots of `from_ms` to `until_ms` whose numbers are over.
pub(crate) async fn backtest(queries: &Queries, known: &KnownRule, span: Span, now_ms: i64) -> Result<Tested, QueryError> {
    let rule = &known.rule;
    let slots = slots(rule, span, now_ms)?;
    let (Some(first), Some(last)) = (slots.first().copied(), slots.last().copied()) else { return Ok(Tested::default()) };
    let beyond = || QueryError::invalid("invalid_range", "the range is beyond the years that there are");
    let from_ms = rule.look_back(first).ok_or_else(beyond)?;
    let until_ms = rule.next_slot(last).ok_or_else(beyond)?;
    let asked = Asked { span: Span { from_ms, until_ms }, ripe_ms: i64::MIN, now_ms };
    match observe(queries, known, asked).await {
        Ok(observed) => {
            check_work(rule, &observed, slots.len())?;
            let _turn = RUNNING.acquire().await.map_err(|_| QueryError::too_many())?;
            let rule = rule.clone();
            let judged = tokio::task::spawn_blocking(move || replay(&rule, &observed, &slots)).await;
            judged.map_err(|_| QueryError::internal("the test did not come to its end"))
        }
        Err(Unanswered::NotYet) => Err(QueryError::unavailable("not_ready", "it is not known yet up to when answers are complete")),
        Err(Unanswered::Failed(problem)) => Err(problem),
    }
}

/// Judging takes a thread while it goes on.
///
/// # Errors
/// 400 `too_many_buckets`.
fn check_work(rule: &Rule, observed: &Observed, slots: usize) -> Result<(), QueryError> {
    let (lines, window) = (observed.lines.len(), rule.look_back_slots());
    if slots * lines > MOST_VERDICTS || (slots * lines).saturating_mul(window) > MOST_NUMBERS {
        let message =
            format!("{slots} slots of {lines} lines, {window} looked at for each, are too many for a test: ask for a shorter range");
        return Err(QueryError::invalid("too_many_buckets", message));
    }
    Ok(())
}

/// Judges slots one after the other, as they would have been.
pub(crate) fn replay(rule: &Rule, observed: &Observed, slots: &[i64]) -> Tested {
    let mut state = RuleState::default();
    let mut tested = Tested { slots: slots.to_vec(), left_out: observed.left_out, ..Tested::default() };
    let never_quiet = |_: &str, _: &super::machine::Line| Quiet::default();
    for slot in slots {
        let judged = judge(rule, &mut state, observed, &Occasion { slots: &[*slot], is_late: false, quiet: &never_quiet });
        tested.entries.extend(judged.entries);
        let seen = judged.seen.get(slot).map(|seen| json!(seen)).unwrap_or_default();
        tested.values.push(json!({"slot": instant(*slot), "seen": seen}));
    }
    tested
}

fn slots(rule: &Rule, span: Span, now_ms: i64) -> Result<Vec<i64>, QueryError> {
    let mut slots = Vec::new();
    let mut slot = rule.interval.start_ms(span.from_ms, &rule.zone);
    while let Some(at) = slot {
        let end = rule.next_slot(at);
        if end.is_none_or(|end| end > span.until_ms.min(now_ms - rule.open_ms())) {
            break;
        }
        slots.push(at);
        if slots.len() > MOST_SLOTS {
            return Err(QueryError::invalid("too_many_buckets", format!("a test has at most {MOST_SLOTS} slots: ask for a shorter range")));
        }
        slot = end;
    }
    Ok(slots)
}

impl Tested {
    /// As the wire shows it.
    pub(crate) fn to_json(&self) -> Value {
        let fired = self.entries.iter().filter(|entry| entry.change == Change::Fired).count();
        let changes: Vec<Value> = self
            .entries
            .iter()
            .take(MOST_SHOWN)
            .map(|entry| {
                json!({
                    "slot": instant(entry.slot), "line": entry.line, "change": entry.change, "value": entry.value, "reason": entry.reason,
                })
            })
            .collect();
        let range = match (self.slots.first(), self.slots.last()) {
            (Some(first), Some(last)) => json!({"from": instant(*first), "last": instant(*last)}),
            _ => Value::Null,
        };
        json!({
            "slots": self.slots.len(), "range": range, "fired": fired, "changes": changes, "left_out": self.left_out,
            "values": self.values,
        })
    }
}
