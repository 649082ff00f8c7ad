//! What the anomaly detector finds and what it cries for nothing, beside two that are simpler and beside itself with other parameters.
//!
//! `cargo bench --bench anomaly`; `-- 50` for fifty series of each kind in place of ten. Pure computation, the same in every run.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench may panic")]

#[path = "../src/alert"]
#[allow(dead_code, unused_imports, reason = "the tests of the module are no part of the bench")]
mod alert {
    pub(crate) mod anomaly;
}

use std::process::Command;

use alert::anomaly::simulated::{Detector, Random, Shape, Window, fires, noisy, usual};
use alert::anomaly::{Hours, Mark, Scored, TUNING, Tuning, score};

const WEEK: usize = 168;
/// Weeks of a series, and those that are judged.
const WEEKS: usize = 10;
const FIRST: usize = 7 * WEEK;
/// Within so many hours a fall must be found.
const WITHIN: usize = 12;
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// Ours, as rules have it or with something else.
#[derive(Clone, Copy)]
struct Ours {
    tuning: Tuning,
    sigmas: f64,
}

const SHIPPED: Ours = Ours { tuning: TUNING, sigmas: 3.0 };

impl Detector for Ours {
    fn is_wrong(&self, Window { values, of_week, marks, .. }: Window<'_>) -> bool {
        matches!(score(Hours { values, whole: &[], of_week, marks, tuning: self.tuning }), Scored::Known(score) if score.sigmas.abs() > self.sigmas)
    }
}

/// How much more than a week ago, in standard deviations of that over three weeks.
struct Differences;

impl Detector for Differences {
    fn is_wrong(&self, Window { values, .. }: Window<'_>) -> bool {
        let last = values.len() - 1;
        let Some(first) = last.checked_sub(3 * WEEK).filter(|first| *first >= WEEK) else { return false };
        let difference = |at: usize| values[at] - values[at - WEEK];
        let past: Vec<f64> = (first..last).map(difference).collect();
        let mean = past.iter().sum::<f64>() / past.len() as f64;
        let variance = past.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / past.len() as f64;
        (difference(last) - mean).abs() > 3.0 * variance.sqrt()
    }
}

/// The same hour of the weeks before, and how far those are from their own median.
struct SameHour;

impl Detector for SameHour {
    fn is_wrong(&self, Window { values, .. }: Window<'_>) -> bool {
        let last = values.len() - 1;
        let median = |mut of: Vec<f64>| {
            of.sort_by(f64::total_cmp);
            f64::midpoint(of[of.len() / 2], of[(of.len() - 1) / 2])
        };
        let same: Vec<f64> = (1..=6).filter_map(|week| last.checked_sub(week * WEEK)).map(|at| values[at]).collect();
        if same.len() < 3 {
            return false;
        }
        let middle = median(same.clone());
        let spread = median(same.iter().map(|value| (value - middle).abs()).collect());
        (values[last] - middle).abs() > 3.0 * (1.4826 * spread).max(1.0)
    }
}

/// What a detector showed over some series.
#[derive(Default)]
struct Found {
    weeks: f64,
    cried: usize,
    tried: usize,
    stops: usize,
    /// Falls by 60 % and by 30 %.
    falls: [usize; 2],
    /// Hours until one by 60 % was found.
    after: Vec<usize>,
}

impl Found {
    fn look(&mut self, detector: &impl Detector, values: &[f64], in_a_row: usize, random: &mut Random) {
        let mut marks = vec![Mark::Usual; values.len()];
        self.cried += fires(detector, values, &mut marks, FIRST, in_a_row).len();
        self.weeks += ((values.len() - FIRST) / WEEK) as f64;
        for at in [8 * WEEK, 9 * WEEK].map(|from| from + (random.next() * 150.0) as usize) {
            let found = |rest: f64| {
                let mut broken = values[..at + WITHIN].to_vec();
                broken[at..].iter_mut().for_each(|value| *value = (*value * rest).round());
                let mut marks = marks[..at + WITHIN].to_vec();
                marks[at..].fill(Mark::Usual);
                fires(detector, &broken, &mut marks, at, in_a_row).first().map(|found| found - at + 1)
            };
            self.tried += 1;
            self.stops += usize::from(found(0.0).is_some());
            let fall = found(0.4);
            self.falls[0] += usize::from(fall.is_some());
            self.falls[1] += usize::from(found(0.7).is_some());
            self.after.extend(fall);
        }
    }

    fn print(mut self, name: &str) {
        self.after.sort_unstable();
        let share = |of: usize| 100.0 * of as f64 / self.tried as f64;
        let after = self.after.get(self.after.len() / 2).map_or_else(|| "-".to_owned(), usize::to_string);
        let [most, some] = self.falls.map(share);
        println!("| {name} | {:.2} | {:.0} | {most:.0} | {some:.0} | {after} |", self.cried as f64 / self.weeks, share(self.stops));
    }
}

fn head(what: &str) {
    println!("\n| {what} | false alarms a week | stops found, % | falls by 60 %, % | by 30 %, % | hours until a fall by 60 % is found |");
    println!("|---|---|---|---|---|---|");
}

/// The series that all are judged by: four sizes, with and without growth.
fn usual_series(each: usize) -> Vec<Vec<f64>> {
    let mut random = Random(SEED);
    let mut all = Vec::new();
    for level in [60.0, 300.0, 2_000.0, 20_000.0] {
        for growth in [1.0, 1.001, 1.01] {
            all.extend((0..each).map(|_| noisy(&mut random, Shape { growth, ..usual(level) })));
        }
    }
    all
}

fn judge(name: &str, detector: &impl Detector, in_a_row: usize, series: &[Vec<f64>]) {
    let (mut found, mut random) = (Found::default(), Random(SEED));
    series.iter().for_each(|values| found.look(detector, values, in_a_row, &mut random));
    found.print(name);
}

fn main() {
    let each = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(10);
    let series = usual_series(each);
    head(&format!("detector, over {} series of {WEEKS} weeks", series.len()));
    judge("ours, two in a row", &SHIPPED, 2, &series);
    judge("differences from a week ago", &Differences, 1, &series);
    judge("the same, two in a row", &Differences, 2, &series);
    judge("MAD of the same hour", &SameHour, 1, &series);
    judge("the same, two in a row", &SameHour, 2, &series);

    head("ours with something else");
    let sweep = series.iter().step_by(2).cloned().collect::<Vec<_>>();
    judge("as rules have it", &SHIPPED, 2, &sweep);
    for (in_a_row, sigmas) in [(1, 3.0), (3, 3.0), (2, 2.5), (2, 3.5), (2, 4.0), (1, 4.0)] {
        judge(&format!("{in_a_row} in a row outside {sigmas} σ"), &Ours { sigmas, ..SHIPPED }, in_a_row, &sweep);
    }
    let others = [
        ("3 weeks", Tuning { weeks: 3, ..TUNING }),
        ("4 weeks", Tuning { weeks: 4, ..TUNING }),
        ("level of 6 hours", Tuning { level: 6, ..TUNING }),
        ("level of 12 hours", Tuning { level: 12, ..TUNING }),
        ("level of 48 hours", Tuning { level: 48, ..TUNING }),
        ("level of 36 hours", Tuning { level: 36, ..TUNING }),
        ("c at least 1 %", Tuning { least_spread: 0.01, ..TUNING }),
        ("c at least 5 %", Tuning { least_spread: 0.05, ..TUNING }),
        ("c at least 10 %", Tuning { least_spread: 0.10, ..TUNING }),
        ("10 expected", Tuning { least_expected: 10.0, ..TUNING }),
        ("100 expected", Tuning { least_expected: 100.0, ..TUNING }),
    ];
    for (name, tuning) in others {
        judge(name, &Ours { tuning, ..SHIPPED }, 2, &sweep);
    }

    head("series, judged as rules do");
    let shape = usual(2_000.0);
    let shapes = [
        ("8 events in the best hour", usual(8.0)),
        ("60 events", usual(60.0)),
        ("20,000 events", usual(20_000.0)),
        ("2,000 events, noise of 6 %", Shape { noise: 0.06, ..shape }),
        ("noise of 10 %", Shape { noise: 0.10, ..shape }),
        ("one hour in a hundred far off", Shape { outliers: 0.01, ..shape }),
        ("3 % more each day", Shape { growth: 1.03, ..shape }),
        ("1 % less each day", Shape { growth: 0.99, ..shape }),
    ];
    for (name, shape) in shapes {
        let mut random = Random(SEED);
        judge(name, &SHIPPED, 2, &(0..4 * each).map(|_| noisy(&mut random, shape)).collect::<Vec<_>>());
    }
    let log = hours_of_log();
    let learning = (0..log.len())
        .filter(|at| {
            !SHIPPED.is_wrong(Window { first: 0, values: &log[..=*at], of_week: &vec![0; at + 1], marks: &vec![Mark::Usual; at + 1] })
        })
        .count();
    let mut random = Random(SEED);
    let name = format!("hours of the access log ({} of {} alone: learning)", learning, log.len());
    judge(&name, &SHIPPED, 2, &(0..4 * each).map(|_| like(&log, &mut random)).collect::<Vec<_>>());

    holidays(4 * each);
}

/// A day with 40 % of what is usual: alarms of the week after it.
fn holidays(series: usize) {
    println!("\n| the week after a day with 40 % | alarms in it, a series | and a week later |\n|---|---|---|");
    for (name, mark) in [("nobody says so", Mark::Usual), ("noted as a holiday", Mark::Noted)] {
        let (mut random, mut after) = (Random(SEED), [0; 2]);
        for _ in 0..series {
            let mut values = noisy(&mut random, usual(2_000.0));
            let holiday = 8 * WEEK + 24..8 * WEEK + 48;
            values[holiday.clone()].iter_mut().for_each(|value| *value = (*value * 0.4).round());
            let mut marks = vec![Mark::Usual; values.len()];
            marks[holiday.clone()].fill(mark);
            let fired = fires(&SHIPPED, &values, &mut marks, FIRST, 2);
            for (count, week) in after.iter_mut().zip([holiday.end..holiday.end + WEEK - 24, holiday.start + WEEK..10 * WEEK]) {
                *count += fired.iter().filter(|at| week.contains(at)).count();
            }
        }
        let [first, second] = after.map(|alarms| alarms as f64 / series as f64);
        println!("| {name} | {first:.2} | {second:.2} |");
    }
}

/// Requests an hour of the real access log in `tests/data`, which has not quite four days, by the hour.
fn hours_of_log() -> Vec<f64> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/apache_access_combined.log.gz");
    let unpacked = Command::new("gzip").args(["-dc", path]).output().unwrap().stdout;
    let mut hours = Vec::new();
    for line in String::from_utf8_lossy(&unpacked).lines() {
        // [17/May/2015:10:05:03 +0000]
        let time = line.split_once('[').map(|(_, time)| time).unwrap_or_default();
        let [day, hour] = [0..2, 12..14].map(|part| time.get(part).and_then(|part| part.parse::<usize>().ok()));
        let (Some(day), Some(hour)) = (day, hour) else { continue };
        let at = (day - 17) * 24 + hour;
        hours.resize(hours.len().max(at + 1), 0.0);
        hours[at] += 1.0;
    }
    hours
}

/// Ten weeks of which each hour is one that the log has at this time of a day.
fn like(log: &[f64], random: &mut Random) -> Vec<f64> {
    // The first and the last hour are not whole.
    let begins = log.iter().position(|value| *value > 0.0).unwrap() + 1;
    let hour = |at: usize| {
        let same: Vec<f64> = (begins..log.len() - 1).filter(|of| of % 24 == at % 24).map(|of| log[of]).collect();
        same[(random.next() * same.len() as f64) as usize]
    };
    (0..WEEKS * WEEK).map(hour).collect()
}
