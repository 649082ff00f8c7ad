//! Rules that were judged by a clock that was ahead: they go on by the clock that there is now.
//!
//! A clock that is ahead makes slots due that have not begun, and once it is right again none would be due before it is there again. So such a
//! rule goes on behind the newest slot that is ripe now. Promises: slots that such a clock made due are judged again once they have come, also
//! after an outage; late events revise them as any; alerts stay as they are until the next slot says more, so nothing is told twice for this
//! alone, and what is told of a slot once more has the id that it had. A clock that is behind for a while looks the same when it is found out: once
//! it is set forward, slots that were judged before are not judged again. An owner tells the two apart by the time that has passed; where the
//! clock was set forward while nobody owned the alerts, or the machine was suspended, it cannot: then slots are judged twice, or passed over.

use std::sync::Arc;

use serde_json::json;
use tokio::time::Instant;

use super::evaluate::row;
use super::{Owner, Work};
use crate::alert::catalogue::{KnownRule, RuleKey};
use crate::alert::judge::{Judged, RuleState};
use crate::alert::observe::instant;
use crate::alert::rule::Rule;
use crate::store::tables::alert_states::kind;

/// How far ahead of the clock what was judged may lie: clocks of instances that take over from each other differ, and are set by seconds.
const TOLERANCE_MS: i64 = 60_000;

/// What the clock said, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockReading {
    at: Instant,
    now_ms: i64,
}

impl ClockReading {
    /// Whether the clock was set forward since: more of its time has passed than time.
    fn has_leapt(self, now_ms: i64) -> bool {
        let passed = i64::try_from(self.at.elapsed().as_millis()).unwrap_or(i64::MAX);
        (now_ms - self.now_ms).saturating_sub(passed) > TOLERANCE_MS
    }
}

impl Owner {
    /// Takes note for each rule whether the clock was set forward.
    pub(super) fn note_leap(&mut self, now_ms: i64) {
        let before = self.clock.replace(ClockReading { at: Instant::now(), now_ms });
        if before.is_some_and(|before| before.has_leapt(now_ms)) {
            self.rules.values_mut().for_each(|owned| owned.has_leapt = true);
        }
    }

    /// Lets rules go on by the clock, where they were judged by another one.
    pub(super) fn follow_clock(&mut self, now_ms: i64) {
        let by_clock = self.rules.iter_mut().filter(|(_, owned)| !owned.is_busy);
        let by_clock = by_clock.filter_map(|(key, owned)| {
            let now = Now { ms: now_ms, has_leapt: std::mem::take(&mut owned.has_leapt) };
            Some((key.clone(), by_clock_of(&owned.known.rule, &owned.state, now)?))
        });
        let by_clock: Vec<(RuleKey, RuleState)> = by_clock.collect();
        if by_clock.is_empty() {
            return;
        }
        tracing::warn!(rules = by_clock.len(), "alerts were judged by another clock than that of now, and go on by this one");
        for (key, state) in by_clock {
            let Some(owned) = self.rules.get_mut(&key) else { continue };
            // What has arrived since is not known by a clock that was wrong: all slots are looked at again.
            (owned.is_busy, owned.arrived) = (true, None);
            let (known, was) = (Arc::clone(&owned.known), owned.state.clone());
            let work = self.gone_on(&known, state, &was, now_ms);
            self.gather(work);
        }
    }

    /// What is written of a rule that goes on by another clock.
    fn gone_on(&self, known: &KnownRule, state: RuleState, was: &RuleState, now_ms: i64) -> Work {
        let changed = state.lines.iter().filter(|(name, line)| was.lines.get(*name) != Some(*line)).map(|(name, _)| name.clone()).collect();
        let judged_through = was.cursor.and_then(|cursor| known.rule.next_slot(cursor)).map(instant);
        let slot = state.cursor.unwrap_or(now_ms);
        let mut work = self.work(known, state, &Judged { changed, ..Judged::default() }, Vec::new());
        let body = json!({"event": "clock", "judged_through": judged_through}).to_string();
        work.rows.push(row(&known.key, kind::HISTORY, slot, now_ms).with("clock".to_owned(), body));
        work
    }
}

/// What the clock says, and whether it was set forward for that.
#[derive(Clone, Copy, Debug)]
struct Now {
    ms: i64,
    has_leapt: bool,
}

/// The state by which a rule goes on, where the clock is not that by which it was judged.
fn by_clock_of(rule: &Rule, state: &RuleState, now: Now) -> Option<RuleState> {
    let Now { ms: now_ms, has_leapt } = now;
    let cursor = state.cursor?;
    // As it was when it was judged, whatever its delay is now.
    let ripe_ms = if state.ripe_ms == 0 { rule.next_slot(cursor)? } else { state.ripe_ms };
    let is_ahead = ripe_ms > now_ms + TOLERANCE_MS;
    if !is_ahead && state.judged_to.is_none() {
        return None;
    }
    let newest = rule.ripe_slot(now_ms)?;
    if is_ahead && cursor > newest {
        return Some(set_back(rule, state, newest, now_ms));
    }
    // Slots that have come since, one by one or while nothing was judged, are those of a clock that was ahead: they are judged with what came
    // in them.
    let judged_to = state.judged_to.filter(|judged_to| has_leapt && *judged_to <= newest)?;
    let (is_leap, ripe_ms) = (rule.next_slot(cursor)? < judged_to, rule.ripe_ms(judged_to)?);
    is_leap.then(|| RuleState { cursor: Some(judged_to), ripe_ms, judged_to: None, ..state.clone() })
}

/// A state whose last slot is `cursor`, and of which nothing that times are reckoned from lies behind it.
fn set_back(rule: &Rule, state: &RuleState, cursor: i64, now_ms: i64) -> RuleState {
    let mut back = state.clone();
    back.judged_to = back.judged_to.max(back.cursor);
    (back.cursor, back.ripe_ms) = (Some(cursor), rule.ripe_ms(cursor).unwrap_or_default());
    back.alarmed.retain(|slot| *slot <= cursor);
    back.health.delayed_since = back.health.delayed_since.min(now_ms);
    for line in back.lines.values_mut() {
        for at in [&mut line.since, &mut line.episode, &mut line.absent_since, &mut line.written] {
            *at = (*at).min(cursor);
        }
    }
    back
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alert::machine::Line;
    use crate::alert::machine::tests::rule;
    use crate::alert::owner::due::due_slots;

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    /// The clock as it goes, and as it was set forward.
    fn at(ms: i64) -> Now {
        Now { ms, has_leapt: false }
    }

    fn set_to(ms: i64) -> Now {
        Now { ms, has_leapt: true }
    }

    /// That of a rule whose last slot is this.
    fn judged(rule: &Rule, cursor: i64) -> RuleState {
        RuleState { cursor: Some(cursor), ripe_ms: rule.ripe_ms(cursor).unwrap(), ..RuleState::default() }
    }

    #[test]
    fn a_rule_that_was_judged_by_a_clock_that_was_ahead_is_judged_on_and_no_slot_of_before_again() {
        let rule = rule(json!({"evaluation_delay": "1m"}));
        for ahead in [10 * MINUTE, 2 * HOUR, 10 * DAY] {
            let now = 100 * DAY;
            let state = judged(&rule, now + ahead);
            assert!(due_slots(&rule, state.cursor, now + 5 * MINUTE).0.is_empty(), "nothing would be due");
            let state = by_clock_of(&rule, &state, at(now)).expect("it lies ahead");
            assert!(due_slots(&rule, state.cursor, now).0.is_empty());
            assert_eq!(due_slots(&rule, state.cursor, now + MINUTE).0, [now - MINUTE], "the slot that is over then");
            assert_eq!(by_clock_of(&rule, &state, at(now)), None, "once");
            // Slot by slot up to where it was, and over that.
            let mut state = state;
            for time in (now..now + 3 * HOUR).step_by(MINUTE as usize) {
                assert_eq!(by_clock_of(&rule, &state, at(time)), None, "{ahead} {time}");
                for slot in due_slots(&rule, state.cursor, time).0 {
                    state = RuleState { judged_to: state.judged_to, ..judged(&rule, slot) };
                }
            }
            assert_eq!(state.cursor, rule.ripe_slot(now + 3 * HOUR - MINUTE));
        }
    }

    #[test]
    fn slots_are_judged_once_also_where_the_clock_was_behind_for_a_while() {
        let (rule, now) = (rule(json!({"evaluation_delay": "0s"})), 100 * DAY);
        let before = judged(&rule, now - MINUTE);
        let behind = by_clock_of(&rule, &before, at(now - 2 * HOUR)).expect("the clock is behind");
        assert_eq!(behind.cursor, Some(now - 2 * HOUR - MINUTE));
        let right = by_clock_of(&rule, &behind, set_to(now + MINUTE)).expect("it is right again");
        assert_eq!(due_slots(&rule, right.cursor, now + MINUTE), (vec![now], None));
        assert_eq!((right.judged_to, by_clock_of(&rule, &right, at(now + MINUTE))), (None, None));
    }

    #[test]
    fn slots_of_an_outage_after_a_clock_that_was_ahead_are_all_judged() {
        let (rule, now) = (rule(json!({"evaluation_delay": "0s"})), 100 * DAY);
        let back = by_clock_of(&rule, &judged(&rule, now + 2 * HOUR), at(now)).expect("it lies ahead");
        for away in [HOUR, 3 * HOUR] {
            assert_eq!(by_clock_of(&rule, &back, at(now + away)), None, "time has passed");
            let (slots, missed) = due_slots(&rule, back.cursor, now + away);
            assert_eq!((slots.len() as i64, slots[0], missed), (away / MINUTE, now, None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_forward_is_told_from_time_that_has_passed() {
        let looked = ClockReading { at: Instant::now(), now_ms: 0 };
        assert!(looked.has_leapt(HOUR) && !looked.has_leapt(30_000) && !looked.has_leapt(-HOUR));
        tokio::time::advance(std::time::Duration::from_secs(3_600)).await;
        assert!(!looked.has_leapt(HOUR) && looked.has_leapt(2 * HOUR));
    }

    #[test]
    fn clocks_that_differ_by_seconds_and_a_delay_that_is_longer_now_set_no_rule_back() {
        let short = rule(json!({"evaluation_delay": "0s"}));
        let (now, state) = (100 * DAY, judged(&short, 100 * DAY - MINUTE));
        assert_eq!(by_clock_of(&short, &state, at(now - 30_000)), None);
        let long = rule(json!({"evaluation_delay": "6h"}));
        assert_eq!(by_clock_of(&long, &state, at(now + 1_000)), None, "it waits for the slot behind it");
        let state = judged(&long, now - MINUTE);
        assert!(by_clock_of(&long, &state, at(now)).is_some(), "its slot is over, and is not ripe for hours");
        let of_earlier_release = RuleState { cursor: Some(now + DAY), ..RuleState::default() };
        assert_eq!(by_clock_of(&short, &of_earlier_release, at(now)).and_then(|state| state.cursor), Some(now - MINUTE));
        let daily = rule(json!({"condition": null, "resolve": null, "report_at": "09:00", "interval": "day"}));
        let told = judged(&daily, now + 9 * DAY);
        assert_eq!(by_clock_of(&daily, &told, at(now + 10 * HOUR)).and_then(|state| state.cursor), Some(now - DAY));
    }

    #[test]
    fn nothing_of_a_rule_that_was_set_back_is_reckoned_from_a_time_that_has_not_come() {
        let (rule, now) = (rule(json!({"evaluation_delay": "0s"})), 100 * DAY);
        let mut state = judged(&rule, now + DAY);
        let line = Line { since: now + HOUR, absent_since: now + HOUR, episode: 0, told_since: now - DAY, ..Line::default() };
        state.lines.insert(String::new(), line);
        state.alarmed.extend([now - HOUR, now + HOUR]);
        state.health.delayed_since = now + HOUR;
        let state = by_clock_of(&rule, &state, at(now)).unwrap();
        let line = &state.lines[""];
        assert_eq!((line.since, line.absent_since, line.episode, line.told_since), (now - MINUTE, now - MINUTE, 0, now - DAY));
        assert_eq!((state.alarmed.into_iter().collect::<Vec<_>>(), state.health.delayed_since), (vec![now - HOUR], now));
    }
}
