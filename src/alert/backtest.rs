//! What a rule would have done: its slots of the past, judged as the live engine judges them.
//!
//! A long past is gone through in pieces, each a question of its own, with the state carried over. Two things differ from a rule that has
//! been there all the time: it begins without alerts, so hours that one had alarmed about are in the baseline of the first; and of a
//! breakdown the largest of each piece are watched, not the largest of each slot.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::ask::{Asked, Unanswered, observe};
use super::catalogue::KnownRule;
use super::judge::{Entry, Occasion, RuleState, judge};
use super::machine::{Change, Quiet};
use super::observe::{Observed, Source, Span, instant};
use super::rule::Rule;
use crate::query::{Queries, QueryError};

/// Most slots of one back-test: the minutes of a month.
const MOST_SLOTS: usize = 31 * 24 * 60;
/// Slots of one question; with the week that a verdict by the minute may look back on, fewer than the 20,000 buckets of a question.
const PIECE: usize = 9_800;
/// Most verdicts of one back-test, and most numbers that they are made of: some seconds of work, and some megabytes of an answer.
const MOST_VERDICTS: usize = 100_000;
const MOST_NUMBERS: usize = 20_000_000;
/// One at a time: there are others who need the processor.
static RUNNING: Semaphore = Semaphore::const_new(1);
/// How long one waits for those before it.
const PATIENCE: Duration = Duration::from_secs(20);
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

/// Judges all slots of a span that would have been judged by now: their numbers are over, and all of their events are in the table.
pub(crate) async fn backtest(queries: &Queries, known: &KnownRule, span: Span, now_ms: i64) -> Result<Tested, QueryError> {
    let through = queries.data_through(now_ms).await.unwrap_or(now_ms);
    let slots = slots(&known.rule, span, now_ms.min(through))?;
    let mut replay = Replay::default();
    for piece in slots.chunks(piece(&known.rule)) {
        let observed = observed(queries, known, piece, now_ms).await?;
        check_work(&known.rule, &observed, slots.len())?;
        let _turn = turn().await?;
        let (rule, piece) = (known.rule.clone(), piece.to_vec());
        let judged = tokio::task::spawn_blocking(move || {
            replay.go_on(&rule, &observed, &piece);
            replay
        });
        replay = judged.await.map_err(|_| QueryError::internal("the test did not come to its end"))?;
    }
    Ok(replay.tested)
}

/// How many slots are asked about at a time: fewer where an answer has several numbers for each of many lines.
fn piece(rule: &Rule) -> usize {
    if rule.most_lines() == 1 { PIECE } else { (PIECE / rule.numbers_of_line()).max(1) }
}

/// Asks about the newest slot as a rule would, so that what cannot be asked is refused. Nothing is judged, so this waits for no other.
pub(crate) async fn try_question(queries: &Queries, known: &KnownRule, now_ms: i64) -> Result<(), QueryError> {
    if known.rule.source() == Source::Lag {
        return Ok(());
    }
    let newest = known.rule.newest_span(now_ms);
    let observed = observed(queries, known, &[newest.from_ms], now_ms).await?;
    check_work(&known.rule, &observed, 1)
}

/// Waits until no other is judged.
///
/// # Errors
/// 503 `overloaded`.
async fn turn() -> Result<SemaphorePermit<'static>, QueryError> {
    let overloaded = || QueryError::unavailable("overloaded", "other rules are being tested: try again in a moment");
    let turn = tokio::time::timeout(PATIENCE, RUNNING.acquire()).await;
    turn.map_err(|_| overloaded())?.map_err(|_| overloaded())
}

/// The numbers that verdicts on `slots` need.
async fn observed(queries: &Queries, known: &KnownRule, slots: &[i64], now_ms: i64) -> Result<Observed, QueryError> {
    let rule = &known.rule;
    let (Some(first), Some(last)) = (slots.first().copied(), slots.last().copied()) else { return Ok(Observed::default()) };
    let beyond = || QueryError::invalid("invalid_range", "the range is beyond the years that there are");
    let from_ms = rule.look_back(first).ok_or_else(beyond)?;
    let until_ms = rule.next_slot(last).ok_or_else(beyond)?;
    let asked = Asked { span: Span { from_ms, until_ms }, ripe_ms: i64::MIN, now_ms, is_anew: false };
    match observe(queries, known, asked).await {
        Ok(observed) => Ok(observed),
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

/// How far a back-test is.
#[derive(Default)]
struct Replay {
    state: RuleState,
    tested: Tested,
}

impl Replay {
    /// Judges slots one after the other, as they would have been.
    fn go_on(&mut self, rule: &Rule, observed: &Observed, slots: &[i64]) {
        let never_quiet = |_: &str, _: &super::machine::Line| Quiet::default();
        self.tested.left_out = self.tested.left_out.max(observed.left_out);
        for slot in slots {
            let judged = judge(rule, &mut self.state, observed, &Occasion { slots: &[*slot], is_late: false, quiet: &never_quiet });
            self.tested.entries.extend(judged.entries);
            let seen = judged.seen.get(slot).map(|seen| json!(seen)).unwrap_or_default();
            self.tested.values.push(json!({"slot": instant(*slot), "seen": seen}));
        }
        self.tested.slots.extend(slots);
    }
}

fn slots(rule: &Rule, span: Span, now_ms: i64) -> Result<Vec<i64>, QueryError> {
    let mut slots = Vec::new();
    if rule.source() == Source::Lag {
        // It is known of now alone: nothing of the past can be judged.
        return Ok(slots);
    }
    let mut slot = rule.interval.start_ms(span.from_ms, &rule.zone);
    while let Some(at) = slot {
        let end = rule.next_slot(at);
        // None before it would be judged: events of it may be on their way.
        if end.is_none_or(|end| end > span.until_ms) || rule.ripe_ms(at).is_none_or(|ripe_ms| ripe_ms > now_ms) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::machine::tests::rule;
    use crate::alert::observe::Series;

    #[test]
    fn of_the_lag_no_past_is_judged() {
        let span = Span { from_ms: 0, until_ms: 3_600_000 };
        for (delay, judged) in [("0s", 60), ("1m", 59), ("10m", 50)] {
            let rule = rule(json!({"evaluation_delay": delay}));
            assert_eq!(slots(&rule, span, span.until_ms).unwrap().len(), judged, "{delay}");
        }
        assert_eq!(slots(&rule(json!({"report": "lag", "question": {}})), span, span.until_ms).unwrap(), Vec::<i64>::new());
    }

    #[test]
    fn a_past_in_pieces_is_judged_as_one() {
        let rule = rule(json!({"for": 2, "keep_firing_for": 1, "reduce": {"sum": 3}}));
        let slots: Vec<i64> = (0..200).map(|minute| minute * 60_000).collect();
        let number = |slot: &i64| (*slot, ((slot / 60_000 * 7) % 13) as f64);
        let of = |slots: &[i64]| {
            let series = Series { values: slots.iter().map(number).collect(), ..Series::default() };
            Observed { lines: [(String::new(), series)].into(), ..Observed::default() }
        };
        let (mut whole, mut pieces) = (Replay::default(), Replay::default());
        whole.go_on(&rule, &of(&slots), &slots);
        for (at, piece) in slots.chunks(37).enumerate() {
            // With what the first verdict looks back on.
            let from = (at * 37).saturating_sub(2);
            pieces.go_on(&rule, &of(&slots[from..at * 37 + piece.len()]), piece);
        }
        assert!(whole.tested.entries.iter().any(|entry| entry.change == Change::Fired));
        assert_eq!(pieces.tested, whole.tested);
    }

    /// Judges 40 days in pieces of so many, each asked about by itself: "FR" is there on each, "DE" on the first, the fourth and the
    /// twentieth.
    fn in_pieces(of: usize) -> Tested {
        let question = json!({"series": [{"event": "a"}], "breakdown": "country"});
        let rule = rule(json!({"interval": "day", "condition": {"below": 1}, "resolve": null, "question": question}));
        let slots: Vec<i64> = (1..41).map(|day| day * 86_400_000).collect();
        let series = |slots: Vec<i64>| Series { values: slots.into_iter().map(|slot| (slot, 3.0)).collect(), ..Series::default() };
        let mut replay = Replay::default();
        for piece in slots.chunks(of) {
            let seldom = [slots[0], slots[3], slots[19]].into_iter().filter(|slot| piece.contains(slot)).collect();
            let lines = [("FR", series(piece.to_vec())), ("DE", series(seldom))];
            let lines = lines.into_iter().filter(|(_, series)| !series.values.is_empty());
            let lines = lines.map(|(name, series)| (name.to_owned(), series)).collect();
            replay.go_on(&rule, &Observed { lines, absent: Some(0.0), ..Observed::default() }, piece);
        }
        replay.tested
    }

    #[test]
    fn a_value_that_comes_and_vanishes_is_judged_in_one_piece_as_slot_by_slot() {
        let live = in_pieces(1);
        let changes: Vec<Change> = live.entries.iter().map(|entry| entry.change).collect();
        let expected = [Change::Fired, Change::Resolved, Change::Fired, Change::Vanished, Change::Fired, Change::Vanished];
        assert_eq!(changes, expected);
        for of in [7, 13, 40] {
            assert_eq!(in_pieces(of), live, "{of}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_test_does_not_wait_for_others_without_an_end() {
        let held = turn().await.unwrap();
        assert_eq!(turn().await.map(drop).unwrap_err().code, "overloaded");
        drop(held);
        assert!(turn().await.is_ok());
    }

    #[test]
    fn pieces_of_a_breakdown_are_as_large_as_questions_may_be() {
        let by_country = |more: serde_json::Value| {
            let mut body = json!({"question": {"series": [{"event": "a", "math": "avg", "property": "p"}], "breakdown": "country"}});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            rule(body)
        };
        for (rule, slots) in [(rule(json!({})), 9_800), (by_country(json!({})), 9_800), (by_country(json!({"min_count": 5})), 4_900)] {
            assert_eq!(piece(&rule), slots);
            assert!(slots * rule.numbers_of_slot() <= 1_000_000);
        }
    }

    #[test]
    fn a_month_of_minutes_can_be_tested() {
        let span = Span { from_ms: 0, until_ms: 31 * 86_400_000 };
        assert_eq!(slots(&rule(json!({})), span, i64::MAX / 2).unwrap().len(), MOST_SLOTS);
        let longer = Span { until_ms: span.until_ms + 60_000, ..span };
        assert_eq!(slots(&rule(json!({})), longer, i64::MAX / 2).unwrap_err().code, "too_many_buckets");
    }
}
