//! When channels are told nothing of a rule: while it is silenced and outside of its hours. What was kept back is told once they may be.
//!
//! Promise: what still holds then is told then, whenever the next slot is judged: that may be a day or a month later, and at the same hour,
//! at which nobody may be told again. Not of a rule of which a slot is due: what is told then is how it stands with that.

use std::sync::Arc;

use super::told::keep_told_as;
use super::{Owned, Owner, Work};
use crate::alert::catalogue::{KnownRule, RuleKey};
use crate::alert::judge::{RuleState, tell_kept_back};
use crate::alert::machine::{Line, Quiet};
use crate::alert::notice::Notice;

impl Owner {
    /// Whether channels may not be told of a rule now.
    pub(super) fn is_muted(&self, known: &KnownRule, now_ms: i64) -> bool {
        let silence = self.catalogue.mutes.get(&known.key).and_then(|mute| mute.silence.as_ref());
        silence.is_some_and(|silence| silence.until > now_ms) || !known.rule.is_active(now_ms)
    }

    /// Whether channels may be told of its lines.
    pub(super) fn quiet(&self, known: &KnownRule, state: &RuleState, now_ms: i64) -> impl Fn(&str, &Line) -> Quiet + Send + use<> {
        let ack = self.catalogue.mutes.get(&known.key).and_then(|mute| mute.ack.clone());
        let ack = ack.filter(|ack| ack.is_of(state) && ack.until > now_ms);
        let is_muted = self.is_muted(known, now_ms);
        move |_, line| Quiet { is_muted, is_acked: ack.as_ref().is_some_and(|ack| ack.covers(line.began())) }
    }

    /// Tells what was kept back and still holds.
    pub(super) fn tell_kept_back(&mut self, now_ms: i64) {
        let may_be_told = |owned: &Owned| owned.keeps_back(now_ms) && !self.is_muted(&owned.known, now_ms);
        let keys: Vec<RuleKey> = self.rules.iter().filter(|(_, owned)| may_be_told(owned)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(owned) = self.rules.get_mut(&key) else { continue };
            owned.is_busy = true;
            let (known, state) = (Arc::clone(&owned.known), owned.state.clone());
            let work = self.kept_back(&known, state, now_ms);
            self.gather(work);
        }
    }

    fn kept_back(&self, known: &KnownRule, mut state: RuleState, now_ms: i64) -> Work {
        let quiet = self.quiet(known, &state, now_ms);
        let judged = tell_kept_back(&known.rule, &mut state, &quiet);
        keep_told_as(&mut state, known);
        let mut notices: Vec<Notice> = self.about(known).of_judged(&state, &judged, now_ms).into_iter().collect();
        let slot = state.cursor.unwrap_or(now_ms);
        let again = self.judging_again(known, &mut state, slot);
        notices.extend(again.notice);
        notices.extend(self.revision(known, &mut state, &[]));
        let mut work = self.work(known, state, &judged, notices);
        work.rows.extend(again.row);
        work
    }
}

impl Owned {
    /// Whether there is something that channels could not be told, and no slot is due with which they are.
    fn keeps_back(&self, now_ms: i64) -> bool {
        let (state, health) = (&self.state, &self.state.health);
        // It can be judged, and is not known to be.
        let is_judged_again = health.told_failed_at != 0 && health.failures == 0;
        let keeps_back = state.is_kept_back || is_judged_again || state.untold_revisions.is_some();
        keeps_back && !self.is_busy && self.ripe_ms(now_ms).is_some_and(|ripe| ripe > now_ms)
    }
}
