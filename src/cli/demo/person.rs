//! The people of the demo: known by the day on which they came first and their number among those of that day.

use super::calendar::Day;
use super::random::Random;

/// Somebody: the how manieth of those who came first on a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) first: Day,
    pub(super) number: i64,
}

impl Person {
    /// What is theirs alone; `about` tells one thing from another.
    pub(super) fn random(self, about: i64) -> Random {
        Random::of(&[self.first.0, self.number, about])
    }

    /// Whether they have an account.
    pub(super) fn is_member(self) -> bool {
        self.random(1).is(0.22)
    }

    /// Whether they come again on a later day.
    pub(super) fn comes_back(self, day: Day, random: &mut Random) -> bool {
        let age = (day.0 - self.first.0) as f64;
        let (loyalty, letter) = if self.is_member() { (2.2, 0.09) } else { (0.6, 0.0) };
        let by_letter = if day.has_letter() { letter } else { 0.0 };
        random.is(0.16 * loyalty * day.weight() / age.powf(0.55) + by_letter)
    }
}
