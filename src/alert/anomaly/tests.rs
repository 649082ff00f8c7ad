use super::simulated::{Detector, Random, Window, fires, noisy, parts, usual};
use super::*;

fn weeks(weeks: usize, level: f64) -> Vec<f64> {
    simulated::weeks(weeks, usual(level))
}

fn scored(values: &[f64], marks: &[Mark]) -> Scored {
    let of_week: Vec<u8> = (0..values.len()).map(|at| (at % WEEK) as u8).collect();
    score(Hours { values, whole: &[], of_week: &of_week, marks, tuning: TUNING })
}

fn sigmas(values: &[f64]) -> f64 {
    match scored(values, &vec![Mark::Usual; values.len()]) {
        Scored::Known(score) => score.sigmas,
        Scored::Learning => f64::NAN,
    }
}

#[test]
fn what_is_as_ever_is_near_nothing_and_a_fall_is_far() {
    let mut values = weeks(6, 1_000.0);
    assert!(sigmas(&values).abs() < 1.0, "{}", sigmas(&values));
    *values.last_mut().unwrap() *= 0.4;
    assert!(sigmas(&values) < -5.0, "{}", sigmas(&values));
    *values.last_mut().unwrap() = 0.0;
    assert!(sigmas(&values) < -10.0, "{}", sigmas(&values));
}

#[test]
fn before_three_weeks_nothing_is_said() {
    let values = weeks(3, 1_000.0);
    assert_eq!(scored(&values, &vec![Mark::Usual; values.len()]), Scored::Learning);
}

#[test]
fn where_few_are_expected_hours_are_taken_together() {
    let values = weeks(6, 8.0);
    let Scored::Known(score) = scored(&values, &vec![Mark::Usual; values.len()]) else { panic!("learning") };
    assert!(score.width > 1 && score.expected >= TUNING.least_expected, "{score:?}");
}

#[test]
fn hours_that_were_alarmed_about_are_in_no_baseline() {
    let mut values = weeks(6, 1_000.0);
    let last = values.len() - 1;
    let mut marks = vec![Mark::Usual; values.len()];
    for week in 1..=3 {
        values[last - week * WEEK] = 0.0;
    }
    let width = |marks: &[Mark]| match scored(&values, marks) {
        Scored::Known(score) => score.width,
        Scored::Learning => 0,
    };
    assert!(width(&marks) > 1, "three of five weeks had nothing: alone the hour is expected to have nothing");
    (1..=3).for_each(|week| marks[last - week * WEEK] = Mark::Alarmed);
    assert_eq!(width(&marks), 1);
}

/// What rules are judged by; of a ratio with the counts below the line.
struct Ours<'a> {
    whole: &'a [f64],
}

impl Detector for Ours<'_> {
    fn is_wrong(&self, Window { first, values, of_week, marks }: Window<'_>) -> bool {
        let whole = self.whole.get(first..first + values.len()).unwrap_or_default();
        matches!(score(Hours { values, whole, of_week, marks, tuning: TUNING }), Scored::Known(score) if score.sigmas.abs() > 3.0)
    }
}

const OURS: Ours<'static> = Ours { whole: &[] };

/// What became of series that were judged as they came, and broken off.
#[derive(Debug, Default)]
struct Found {
    false_alarms: usize,
    weeks_judged: u32,
    stops: usize,
    falls: usize,
    tried: usize,
}

impl Found {
    /// Judges the last two weeks of a series as it is, and what comes of its last days where it stops or falls by 60 %.
    fn add(&mut self, random: &mut Random, detector: &impl Detector, values: &[f64]) {
        self.false_alarms += fires(detector, values, &mut vec![Mark::Usual; values.len()], 8 * WEEK, 2).len();
        self.weeks_judged += 2;
        let at = 9 * WEEK + 40 + (random.next() * 60.0) as usize;
        let found = |rest: f64| {
            let mut broken = values[..at + 12].to_vec();
            broken[at..].iter_mut().for_each(|value| *value = (*value * rest).round());
            usize::from(!fires(detector, &broken, &mut vec![Mark::Usual; broken.len()], at, 2).is_empty())
        };
        (self.stops, self.falls, self.tried) = (self.stops + found(0.0), self.falls + found(0.4), self.tried + 1);
    }

    /// False alarms a week.
    fn a_week(&self) -> f64 {
        println!("{self:?}");
        self.false_alarms as f64 / f64::from(self.weeks_judged)
    }
}

/// A few of the series of `cargo bench --bench anomaly`.
#[test]
fn over_series_as_they_come_false_alarms_are_rare_and_falls_are_found() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut found = Found::default();
    for level in [60.0, 300.0, 2_000.0, 20_000.0] {
        for _ in 0..2 {
            let values = noisy(&mut random, usual(level));
            found.add(&mut random, &OURS, &values);
        }
    }
    assert!(found.a_week() <= 0.5 && found.stops == found.tried && found.falls * 100 >= found.tried * 85, "{found:?}");
}

#[test]
fn over_ratios_as_they_come_false_alarms_are_rare_and_falls_are_found() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut found = Found::default();
    for (level, rate) in [(40.0, 0.3), (60.0, 0.8), (300.0, 0.3), (2_000.0, 0.05), (20_000.0, 0.02)] {
        let whole = noisy(&mut random, usual(level));
        let values = parts(&mut random, &whole, rate);
        found.add(&mut random, &Ours { whole: &whole }, &values);
    }
    assert!(found.a_week() <= 0.5 && found.stops == found.tried && found.falls + 1 >= found.tried, "{found:?}");
}

#[test]
fn a_ratio_is_judged_by_how_much_is_below_its_line() {
    let whole = weeks(6, 1_000.0);
    let mut values: Vec<f64> = whole.iter().map(|whole| whole * 0.3).collect();
    let of_week: Vec<u8> = (0..values.len()).map(|at| (at % WEEK) as u8).collect();
    let marks = vec![Mark::Usual; values.len()];
    let last = values.len() - 1;
    let of = |values: &[f64], whole: &[f64]| match score(Hours { values, whole, of_week: &of_week, marks: &marks, tuning: TUNING }) {
        Scored::Known(score) => score,
        Scored::Learning => panic!("learning"),
    };
    let usual = of(&values, &whole);
    assert!(usual.sigmas.abs() < 1.0 && (usual.value - 0.3).abs() < 0.001 && (usual.expected - 0.3).abs() < 0.01, "{usual:?}");
    // Half as many of half as many are as ever.
    let mut fewer = whole.clone();
    (fewer[last], values[last]) = (fewer[last] / 2.0, values[last] / 2.0);
    assert!(of(&values, &fewer).sigmas.abs() < 1.0);
    assert!(of(&values, &whole).sigmas < -5.0, "of as many as ever they are not");
    // Of very few one more or less says nothing: hours are taken together.
    (fewer[last], values[last]) = (2.0, 0.0);
    let few = of(&values, &fewer);
    assert!(few.width > 1 && few.sigmas.abs() < 3.0, "{few:?}");
}

#[test]
fn a_day_that_somebody_has_noted_lowers_no_level() {
    let mut values = weeks(6, 1_000.0);
    let last = values.len() - 1;
    let holiday = last - 26..last - 2;
    values[holiday.clone()].iter_mut().for_each(|value| *value *= 0.4);
    let with = |mark: Mark| {
        let mut marks = vec![Mark::Usual; values.len()];
        marks[holiday.clone()].fill(mark);
        match scored(&values, &marks) {
            Scored::Known(score) => score.sigmas,
            Scored::Learning => f64::NAN,
        }
    };
    assert!(with(Mark::Usual) > 5.0, "the day after looks like much: {}", with(Mark::Usual));
    assert!(with(Mark::Noted).abs() < 1.0, "{}", with(Mark::Noted));
}
