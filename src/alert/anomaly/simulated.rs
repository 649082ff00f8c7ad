//! Series of hours as they may come, and what a detector finds in them.

use super::{Mark, WEEK};

/// Numbers between 0 and 1 that are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// What a series is like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Events of the best hour of the first day.
    pub(crate) level: f64,
    /// By what a day is more than the day before.
    pub(crate) growth: f64,
    /// By what a day as a whole, and an hour by itself, differ: one standard deviation.
    pub(crate) noise: f64,
    /// How often an hour has up to twice what it should have.
    pub(crate) outliers: f64,
}

/// What is usual: 0.1 % more each day, 3 % of noise, an hour in five hundred far off.
pub(crate) const fn usual(level: f64) -> Shape {
    Shape { level, growth: 1.001, noise: 0.03, outliers: 0.002 }
}

/// Hours of some weeks without noise: a curve over the day, less at weekends, growing.
pub(crate) fn weeks(weeks: usize, shape: Shape) -> Vec<f64> {
    let hour = |at: usize| {
        let (day, hour) = (at / 24 % 7, at % 24);
        let curve = 0.4 + 0.6 * (1.0 - ((hour as f64 - 14.0) / 12.0).powi(2)).max(0.0);
        let weekend = if day >= 5 { 0.6 } else { 1.0 };
        (shape.level * curve * weekend * shape.growth.powf(at as f64 / 24.0)).round()
    };
    (0..weeks * WEEK).map(hour).collect()
}

/// Ten weeks of hours as they may come: counting and other noise, growth, and now and then an hour that is far off.
pub(crate) fn noisy(random: &mut Random, shape: Shape) -> Vec<f64> {
    let mut day = 0.0;
    let mut noisy = |at: usize, expected: f64| {
        if at.is_multiple_of(24) {
            // A day is as a whole a bit more or less than usual.
            day = shape.noise * random.normal();
        }
        let outlier = if random.next() < shape.outliers { 1.0 + random.next() } else { 1.0 };
        let expected = expected * (1.0_f64 + day + shape.noise * random.normal()).max(0.1) * outlier;
        (expected + expected.sqrt() * random.normal()).max(0.0).round()
    };
    weeks(10, shape).into_iter().enumerate().map(|(at, expected)| noisy(at, expected)).collect()
}

/// Parts of the numbers of hours, as a rate of its own over the day and some noise make them.
pub(crate) fn parts(random: &mut Random, whole: &[f64], rate: f64) -> Vec<f64> {
    let mut part = |at: usize, whole: f64| {
        let curve = 1.0 + 0.2 * (at as f64 * std::f64::consts::TAU / 24.0).sin();
        let expected = whole * (rate * curve * (1.0 + 0.03 * random.normal())).min(0.97);
        let counted = expected + (expected * (1.0 - rate)).max(0.0).sqrt() * random.normal();
        counted.clamp(0.0, whole).round()
    };
    whole.iter().enumerate().map(|(at, whole)| part(at, *whole)).collect()
}

/// Hours of a series up to the one that is judged, which is the last.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    /// Which hour of the series the first of them is.
    pub(crate) first: usize,
    pub(crate) values: &'a [f64],
    pub(crate) of_week: &'a [u8],
    pub(crate) marks: &'a [Mark],
}

/// Whether the last of some hours is far from what is expected, beside the others as they are marked.
pub(crate) trait Detector {
    fn is_wrong(&self, window: Window<'_>) -> bool;
}

/// Judges the hours from `first` on as a rule with `in_a_row` does: in which of them it fires. What was alarmed about is left out of what
/// comes, and so it is marked.
pub(crate) fn fires(detector: &impl Detector, values: &[f64], marks: &mut [Mark], first: usize, in_a_row: usize) -> Vec<usize> {
    let mut fired = Vec::new();
    let mut streak = 0;
    for at in first..values.len() {
        let begins = at.saturating_sub(6 * WEEK + 24);
        let of_week: Vec<u8> = (begins..=at).map(|at| (at % WEEK) as u8).collect();
        let window = Window { first: begins, values: &values[begins..=at], of_week: &of_week, marks: &marks[begins..=at] };
        let is_wrong = detector.is_wrong(window);
        if is_wrong && marks[at] == Mark::Usual {
            marks[at] = Mark::Alarmed;
        }
        streak = if is_wrong { streak + 1 } else { 0 };
        fired.extend((streak == in_a_row).then_some(at));
    }
    fired
}
