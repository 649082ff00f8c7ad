use super::*;

/// Hours of some weeks: a curve over the day, less at weekends, growing.
fn weeks(weeks: usize, level: f64) -> Vec<f64> {
    let hour = |at: usize| {
        let (day, hour) = (at / 24 % 7, at % 24);
        let curve = 0.4 + 0.6 * (1.0 - ((hour as f64 - 14.0) / 12.0).powi(2)).max(0.0);
        let weekend = if day >= 5 { 0.6 } else { 1.0 };
        (level * curve * weekend * 1.001_f64.powf(at as f64 / 24.0)).round()
    };
    (0..weeks * WEEK).map(hour).collect()
}

fn scored(values: &[f64], is_excluded: &[bool]) -> Scored {
    let of_week: Vec<u8> = (0..values.len()).map(|at| (at % WEEK) as u8).collect();
    score(Hours { values, of_week: &of_week, is_excluded })
}

fn sigmas(values: &[f64]) -> f64 {
    match scored(values, &vec![false; values.len()]) {
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
    assert_eq!(scored(&values, &vec![false; values.len()]), Scored::Learning);
}

#[test]
fn where_few_are_expected_hours_are_taken_together() {
    let values = weeks(6, 8.0);
    let Scored::Known(score) = scored(&values, &vec![false; values.len()]) else { panic!("learning") };
    assert!(score.width > 1 && score.expected >= LEAST_EXPECTED, "{score:?}");
}

#[test]
fn hours_that_were_alarmed_about_are_in_no_baseline() {
    let mut values = weeks(6, 1_000.0);
    let last = values.len() - 1;
    let mut is_excluded = vec![false; values.len()];
    for week in 1..=3 {
        values[last - week * WEEK] = 0.0;
    }
    let width = |is_excluded: &[bool]| match scored(&values, is_excluded) {
        Scored::Known(score) => score.width,
        Scored::Learning => 0,
    };
    assert!(width(&is_excluded) > 1, "three of five weeks had nothing: alone the hour is expected to have nothing");
    (1..=3).for_each(|week| is_excluded[last - week * WEEK] = true);
    assert_eq!(width(&is_excluded), 1);
}

/// Numbers between 0 and 1 that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
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

/// Ten weeks of hours as they may come: counting and other noise, growth, and now and then an hour that is far off.
fn noisy(random: &mut Random, level: f64) -> Vec<f64> {
    let mut day = 0.0;
    let noisy = |(at, expected): (usize, f64)| {
        if at % 24 == 0 {
            // A day is as a whole a bit more or less than usual.
            day = 0.03 * random.normal();
        }
        let outlier = if random.next() < 0.002 { 1.0 + random.next() } else { 1.0 };
        let expected = expected * (1.0_f64 + day + 0.03 * random.normal()).max(0.1) * outlier;
        (expected + expected.sqrt() * random.normal()).max(0.0).round()
    };
    weeks(10, level).into_iter().enumerate().map(noisy).collect()
}

/// Judges the hours from `first` on as a rule with two in a row does: in which of them it fires.
fn fires(values: &[f64], first: usize) -> Vec<usize> {
    let mut is_excluded = vec![false; values.len()];
    let mut fired = Vec::new();
    let mut streak = 0;
    for at in first..values.len() {
        let begins = at.saturating_sub(6 * WEEK);
        let of_week: Vec<u8> = (begins..=at).map(|at| (at % WEEK) as u8).collect();
        let hours = Hours { values: &values[begins..=at], of_week: &of_week, is_excluded: &is_excluded[begins..=at] };
        let is_wrong = matches!(score(hours), Scored::Known(score) if score.sigmas.abs() > 3.0);
        is_excluded[at] = is_wrong;
        streak = if is_wrong { streak + 1 } else { 0 };
        fired.extend((streak == 2).then_some(at));
    }
    fired
}

/// The figures of `tests/README.md`: `cargo test --lib series_as_they_come -- --nocapture`.
#[test]
fn over_series_as_they_come_false_alarms_are_rare_and_falls_are_found() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut false_alarms, mut weeks_judged, mut stops, mut falls, mut tried) = (0, 0, 0, 0, 0);
    for level in [60.0, 300.0, 2_000.0, 20_000.0] {
        for _ in 0..2 {
            let values = noisy(&mut random, level);
            false_alarms += fires(&values, 8 * WEEK).len();
            weeks_judged += 2;
            let at = 9 * WEEK + 40 + (random.next() * 60.0) as usize;
            let found = |rest: f64| {
                let mut broken = values[..at + 12].to_vec();
                broken[at..].iter_mut().for_each(|value| *value = (*value * rest).round());
                usize::from(!fires(&broken, at).is_empty())
            };
            (stops, falls, tried) = (stops + found(0.0), falls + found(0.4), tried + 1);
        }
    }
    let a_week = false_alarms as f64 / f64::from(weeks_judged);
    println!(
        "false alarms a week {a_week:.2} ({false_alarms} in {weeks_judged} weeks), stops found {stops}/{tried}, falls by 60 % {falls}/{tried}"
    );
    assert!(a_week <= 0.5 && stops == tried && falls * 100 >= tried * 85, "{a_week} {stops} {falls} of {tried}");
}
