//! The days of the demo, and what is different about some of them.
//!
//! Every four weeks the same happens: a release after which payment fails on iPhones, an hour in which the shop does not answer, the
//! release that mends the payment, a sale at the end of a week, and a letter each Tuesday.

use super::random::Random;

pub(super) const DAY_MS: i64 = 86_400_000;
pub(super) const HOUR_MS: i64 = 3_600_000;
/// Shares of a day's visits by the hour, UTC.
const HOURS: [f64; 24] =
    [1.0, 0.6, 0.4, 0.3, 0.4, 0.9, 2.0, 3.2, 4.0, 4.6, 5.0, 5.4, 5.6, 5.0, 4.8, 5.0, 5.6, 6.4, 7.4, 8.0, 7.2, 5.4, 3.4, 1.9];
/// From Monday on.
const WEEKDAYS: [f64; 7] = [1.02, 0.98, 0.94, 0.95, 0.85, 1.0, 1.26];

/// A day, by its number since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day(pub(super) i64);

impl Day {
    pub(super) fn of_ms(at_ms: i64) -> Self {
        Self(at_ms.div_euclid(DAY_MS))
    }

    pub(super) fn begin_ms(self) -> i64 {
        self.0 * DAY_MS
    }

    /// Of four weeks.
    fn of_cycle(self) -> i64 {
        self.0.rem_euclid(28)
    }

    /// 0 is Monday.
    fn of_week(self) -> usize {
        (self.0 + 3).rem_euclid(7) as usize
    }

    /// A Monday.
    pub(super) fn is_release(self) -> bool {
        self.of_cycle() == 11
    }

    /// A Wednesday.
    pub(super) fn is_outage(self) -> bool {
        self.of_cycle() == 13
    }

    /// A Tuesday.
    pub(super) fn is_repair(self) -> bool {
        self.of_cycle() == 19
    }

    /// A Friday and the two days after it.
    pub(super) fn is_sale(self) -> bool {
        (22..25).contains(&self.of_cycle())
    }

    pub(super) fn is_first_of_sale(self) -> bool {
        self.of_cycle() == 22
    }

    /// A Tuesday.
    pub(super) fn has_letter(self) -> bool {
        self.of_week() == 1
    }

    /// Whether payment fails on iPhones.
    pub(super) fn is_broken(self) -> bool {
        (11..19).contains(&self.of_cycle())
    }

    /// What the shop runs.
    pub(super) fn version(self) -> String {
        let number = (self.0 - 11).div_euclid(28).rem_euclid(10);
        format!("4.{number}.{}", u8::from(!self.is_broken()))
    }

    /// The hour in which the shop does not answer.
    pub(super) fn outage_ms(self) -> Option<i64> {
        self.is_outage().then(|| self.begin_ms() + 18 * HOUR_MS)
    }

    /// How many come, beside an ordinary day.
    pub(super) fn weight(self) -> f64 {
        WEEKDAYS.get(self.of_week()).copied().unwrap_or(1.0)
    }

    /// A moment of it, as likely as people are about.
    pub(super) fn moment_ms(self, random: &mut Random) -> i64 {
        let hours: Vec<(i64, f64)> = (0..).zip(HOURS).collect();
        let hour = random.one_of(&hours, |(_, share)| *share).map_or(0, |(hour, _)| *hour);
        self.begin_ms() + hour * HOUR_MS + random.below(HOUR_MS as u64) as i64
    }
}
