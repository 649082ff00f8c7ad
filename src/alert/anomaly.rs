//! What is to be expected of an hour, and how far a number is from it.
//!
//! Expected is the median of the same hour of the week over six weeks, times the level of the last 24 hours. Its variance is
//! e + (c·e)²: counting alone gives e, and c, by which hours differ beside that, is estimated robustly from the last three weeks and is at
//! least 3 %. Where fewer than 30 events are expected, hours are taken together. Hours that were alarmed about are in no baseline; they
//! are in the level again once they are half of the last day, so that what stays is the new normal after a day. Hours that somebody has
//! noted as not as ever are in neither: the level is then of the hours before them.
//! A ratio of counts is judged as the count above the line, of which is expected what the same hours had for each below it: six of eight are
//! no fall from six hundred of eight hundred, and few below it widen the hours as few events do.
//! May go wrong: with less than three weeks of history nothing is said ([`Scored::Learning`]).

/// Hours of a week.
const WEEK: usize = 168;
/// The least history, and what `c` is estimated from.
const LEAST_HISTORY: usize = 3 * WEEK;
/// How many hours may be taken together.
const WIDTHS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 24];
/// The median of the square of a standard normal number.
const MEDIAN_OF_SQUARE: f64 = 0.454_936;
const DAY: usize = 24;
/// How far back the level looks for hours that are not noted.
const LONGEST_NOTED: usize = 2 * WEEK;

/// What is chosen, by the figures of `benches/README.md` (`cargo bench --bench anomaly`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// Weeks of which the same hour is looked at.
    pub(crate) weeks: usize,
    /// Hours that the level is of.
    pub(crate) level: usize,
    /// The least of `c`.
    pub(crate) least_spread: f64,
    /// The least expected of what is judged at a time.
    pub(crate) least_expected: f64,
}

/// What rules are judged by.
pub(crate) const TUNING: Tuning = Tuning { weeks: 6, level: DAY, least_spread: 0.03, least_expected: 30.0 };

/// What is known of the hours up to the one that is judged, which is the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hours<'a> {
    /// Their numbers; of a ratio the counts above the line.
    pub(crate) values: &'a [f64],
    /// Of a ratio the counts below the line; else none.
    pub(crate) whole: &'a [f64],
    /// Which hour of the week each is, by the local clock.
    pub(crate) of_week: &'a [u8],
    pub(crate) marks: &'a [Mark],
    pub(crate) tuning: Tuning,
}

/// What is known of an hour beside its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Usual,
    /// It was alarmed about.
    Alarmed,
    /// Somebody has said that it is not as ever.
    Noted,
}

/// How far the last hour is from what is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scored {
    /// There is too little history.
    Learning,
    /// It is known.
    Known(Score),
}

/// A score and its reason.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Score {
    /// Standard deviations from what is expected.
    pub(crate) sigmas: f64,
    /// What was there, and what is expected, of `width` hours; of a ratio for each below the line, as the deviation is.
    pub(crate) value: f64,
    pub(crate) expected: f64,
    /// One standard deviation.
    pub(crate) deviation: f64,
    pub(crate) width: usize,
}

/// Judges the last of `hours`.
pub(crate) fn score(hours: Hours<'_>) -> Scored {
    let Some(last) = hours.values.len().checked_sub(1).filter(|last| *last >= LEAST_HISTORY) else { return Scored::Learning };
    let baseline: Vec<Option<f64>> = (last.saturating_sub(LEAST_HISTORY)..=last).map(|at| hours.baseline(at)).collect();
    let begins = last.saturating_sub(LEAST_HISTORY);
    let of = |at: usize| baseline.get(at.wrapping_sub(begins)).copied().flatten();
    let Some(level) = hours.level(last, of) else { return Scored::Learning };
    let spread = hours.spread(begins, last, of);
    for width in WIDTHS {
        let span = last + 1 - width..=last;
        let expected: f64 = span.clone().filter_map(of).sum::<f64>() * level;
        if expected < hours.tuning.least_expected && width < DAY {
            continue;
        }
        let value: f64 = hours.values.get(span.clone()).unwrap_or_default().iter().sum();
        let whole: f64 = hours.whole.get(span).map_or(1.0, |whole| whole.iter().sum());
        if whole <= 0.0 {
            return Scored::Learning;
        }
        // Nothing is expected: one event is one deviation.
        let deviation = (expected + (spread * expected).powi(2)).sqrt().max(1.0);
        let sigmas = (value - expected) / deviation;
        return Scored::Known(Score { sigmas, value: value / whole, expected: expected / whole, deviation: deviation / whole, width });
    }
    Scored::Learning
}

impl Hours<'_> {
    /// What the same hour of the weeks before and, for hours of the past, after lets expect: their median, or of a ratio what they had together,
    /// for each below the line of `at`, since a median of few of few is nothing. None where there is no such hour.
    fn baseline(self, at: usize) -> Option<f64> {
        let hour = self.of_week.get(at)?;
        let last = self.values.len() - 1;
        // By the local clock the same hour is a week away, give or take the hour by which clocks are moved.
        let near = |week: usize| {
            let shift = week * WEEK;
            [at.checked_sub(shift), at.checked_add(shift)].into_iter().flatten().filter(|same| *same < last)
        };
        let is_same = |same: &usize| self.of_week.get(*same) == Some(hour) && *same != at && self.is_usual(*same);
        let around = |same: usize| [same, same.saturating_sub(1), same + 1].into_iter().find(|same| is_same(same));
        let same = (1..=self.weeks(last)).flat_map(near).filter_map(around);
        let Some(whole) = self.whole.get(at) else {
            return median(&mut same.filter_map(|same| self.values.get(same).copied()).collect::<Vec<_>>());
        };
        let parts = same.filter_map(|same| Some((*self.values.get(same)?, *self.whole.get(same)?)));
        let (value, of) = parts.fold((0.0, 0.0), |(value, of), part| (value + part.0, of + part.1));
        (of > 0.0).then_some(value / of * whole)
    }

    /// So many weeks as there are for all hours of the last day: of more weeks for some of them than for others, what grows would make
    /// another median.
    fn weeks(self, last: usize) -> usize {
        self.tuning.weeks.min(last.saturating_sub(self.tuning.level) / WEEK)
    }

    fn is_usual(self, at: usize) -> bool {
        self.marks.get(at) == Some(&Mark::Usual)
    }

    /// The last day beside its baseline.
    fn level(self, last: usize, of: impl Fn(usize) -> Option<f64>) -> Option<f64> {
        let is_noted = |at: &usize| self.marks.get(*at) == Some(&Mark::Noted);
        let day = || (last.saturating_sub(LONGEST_NOTED)..last).rev().filter(|at| !is_noted(at)).take(self.tuning.level);
        let alarmed = day().filter(|at| !self.is_usual(*at)).count();
        let counts = |at: &usize| 2 * alarmed > self.tuning.level || self.is_usual(*at);
        let pairs = day().filter(counts).filter_map(|at| Some((*self.values.get(at)?, of(at)?)));
        let (value, expected) = pairs.fold((0.0, 0.0), |(value, expected), pair| (value + pair.0, expected + pair.1));
        // Without anything expected in a day there is nothing that could be missed.
        (expected > 0.0).then_some(value / expected)
    }

    /// By which part hours differ from their baseline beside what counting makes of them.
    fn spread(self, begins: usize, last: usize, of: impl Fn(usize) -> Option<f64>) -> f64 {
        let one = |at: usize| {
            let (value, expected) = (*self.values.get(at)?, of(at)?);
            if !self.is_usual(at) || expected < self.tuning.least_expected {
                return None;
            }
            // Against the level of its own day, so that growth is no spread.
            let level = self.level(at, &of).filter(|_| at >= begins + self.tuning.level)?;
            let expected = expected * level;
            Some(((value - expected).powi(2) - MEDIAN_OF_SQUARE * expected).max(0.0) / expected.powi(2))
        };
        let mut squares: Vec<f64> = (begins..last).filter_map(one).collect();
        let square = median(&mut squares).unwrap_or_default() / MEDIAN_OF_SQUARE;
        square.sqrt().max(self.tuning.least_spread)
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get(values.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;
