//! By which rule, and so to which channels, was told what is told of it.

use super::{Owned, Owner};
use crate::alert::catalogue::KnownRule;
use crate::alert::judge::RuleState;
use crate::alert::rule::SavedRule;

impl Owned {
    /// The channels that were told what is told of it: those of the rule as it was then, which may name others now.
    pub(super) fn told_channels(&self) -> &[String] {
        let told = self.state.told_as.as_ref().map(|told| &told.rule);
        &told.unwrap_or(&self.known.rule.body).channels
    }
}

impl Owner {
    /// The channels that are told what comes of a rule. Those that it names anew are left out until they were told what goes on
    /// ([`Owner::change_channels`]): else they would hear of it twice, or of its end alone.
    pub(super) fn listening(&self, known: &KnownRule) -> Vec<String> {
        let told = self.rules.get(&known.key).map_or(known.rule.body.channels.as_slice(), Owned::told_channels);
        known.rule.body.channels.iter().filter(|id| told.contains(id)).cloned().collect()
    }
}

/// Keeps by which rule channels were told what they know. One that names other channels counts once these were told so
/// ([`Owner::change_channels`]).
pub(super) fn keep_told_as(state: &mut RuleState, known: &KnownRule) {
    let named = &known.rule.body.channels;
    let is_told = state.told_episode != 0 || state.health.told_failed_at != 0;
    let are_others = |told: &SavedRule| !without(&told.rule.channels, named).is_empty() || !without(named, &told.rule.channels).is_empty();
    if !is_told {
        state.told_as = None;
    } else if !state.told_as.as_ref().is_some_and(are_others) {
        state.told_as = Some(known.as_told());
    }
}

/// Those of `told` that are not `named`.
pub(super) fn without(told: &[String], named: &[String]) -> Vec<String> {
    told.iter().filter(|id| !named.contains(id)).cloned().collect()
}
