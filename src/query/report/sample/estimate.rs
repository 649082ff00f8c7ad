//! How many events of a kind there are, from those in a few slices of time, and by how much that may be off. Pure.
//!
//! How many events there are in all is known, so what is estimated is the share of them that is of the kind: that of the events in the slices, whose
//! number then need not be that of others (Cochran, Sampling Techniques, 3rd edition, 6.11: combined ratio estimate). Events of
//! a slice come together, so how far it may be off is told by how much the two slices of each stratum differ, beside what the number of all
//! events in them says (5A.11, two units a stratum); it is never less than if events had come one by one, of which up to three could be
//! of another kind though none was seen. Where the differences are those of few strata, they are themselves uncertain: they count as
//! so many as make their sum (5.4, effective degrees of freedom, after Satterthwaite), down to one, where it may be off by twelve of them.
//!
//! What is in no slice is not known of: a kind of events that comes in one hour of a month may be missing. If it is there, its error says
//! that it may be nearly nothing, or several times as much.

use super::Count;

/// Of a number of a kind that was found: the stratum (below 0 where all events are looked at), how many, and how many more of these are in the
/// first slice of the stratum than in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::query::report) struct Part {
    pub(super) stratum: i64,
    pub(super) found: u64,
    pub(super) difference: i64,
}

/// All events of which slices are looked at.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// How many there are.
    events: u64,
    /// How many are in the two slices of each stratum.
    strata: Vec<[u64; 2]>,
}

/// What holds 95 of 100 samples, in standard deviations that were estimated from at least so many differences.
const DEVIATIONS: [(f64, f64); 10] =
    [(1.0, 12.71), (2.0, 4.31), (3.0, 3.19), (4.0, 2.78), (5.0, 2.58), (6.0, 2.45), (8.0, 2.31), (12.0, 2.18), (20.0, 2.09), (60.0, 2.01)];
/// Where none of a number of events is of a kind, up to as many may be in 95 of 100 samples.
const UNSEEN: f64 = 3.0;

impl Seen {
    pub(super) fn new(events: u64, strata: Vec<[u64; 2]>) -> Self {
        Self { events, strata }
    }

    /// How many are in the slices.
    pub(super) fn in_slices(&self) -> u64 {
        self.strata.iter().flatten().sum()
    }

    /// How many events each of those in the slices stands for.
    pub(super) fn factor(&self) -> f64 {
        self.events as f64 / self.in_slices().max(1) as f64
    }

    /// How many events of a kind there are where these parts were found.
    pub(super) fn count(&self, parts: impl Iterator<Item = Part>) -> Count {
        let (mut whole, mut found) = (0, vec![(0_u64, 0_i64); self.strata.len()]);
        for part in parts {
            match usize::try_from(part.stratum).ok().and_then(|stratum| found.get_mut(stratum)) {
                Some((events, difference)) => {
                    *events += part.found;
                    *difference += part.difference;
                }
                None => whole += part.found,
            }
        }
        let (all, factor) = (self.in_slices().max(1) as f64, self.factor());
        let of_kind: u64 = found.iter().map(|(events, _)| events).sum();
        let share = of_kind as f64 / all;
        let squares = self.strata.iter().zip(&found).map(|([first, other], (events, difference))| {
            let beside = *difference as f64 - share * (*first as f64 - *other as f64);
            let one_by_one = *events as f64 * ((1.0 - share).max(0.0) + UNSEEN / all);
            (beside * beside).max(one_by_one)
        });
        let (sum, of_squares) = squares.fold((0.0, 0.0), |(sum, of_squares), square| (sum + square, of_squares + square * square));
        let differences = if of_squares > 0.0 { sum * sum / of_squares } else { 1.0 };
        let deviations =
            DEVIATIONS.iter().rev().find(|(least, _)| differences >= *least).map_or(DEVIATIONS[0].1, |(_, deviations)| *deviations);
        // Where all events are in the slices nothing is unknown.
        let unknown = (1.0 - 1.0 / factor).max(0.0);
        let error = deviations * factor * (unknown * sum).sqrt();
        Count { events: whole + (factor * of_kind as f64).round() as u64, error: Some(error.ceil() as u64) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::slices::{Slices, Span};
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const MONTH_MS: i64 = 30 * 24 * HOUR_MS;

    fn random(number: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes())
    }

    /// When an event is after the beginning, and whether it is of the kind that is counted.
    struct Event {
        after_ms: i64,
        is_of_kind: bool,
    }

    /// What a sample says of the events of a month that begins at `from_ms`; nothing if none of the kind is in its slices.
    fn estimate(events: &[Event], from_ms: i64) -> Option<Count> {
        let slices = Slices::of(Span { from_ms, until_ms: from_ms + MONTH_MS }, 16, 5);
        let (mut seen, mut parts) = (vec![[0, 0]; slices.strata()], Vec::new());
        for event in events {
            let Some((stratum, side)) = slices.place(slices.of_moment(from_ms + event.after_ms)) else { continue };
            seen[stratum][side] += 1;
            if event.is_of_kind {
                parts.push(Part { stratum: stratum as i64, found: 1, difference: [1, -1][side] });
            }
        }
        let is_found = !parts.is_empty();
        let count = Seen::new(events.len() as u64, seen).count(parts.into_iter());
        is_found.then_some(count)
    }

    /// Of 200 samples of events, each `event` of a random number: the share that says a number which is off by no more than its error, and the
    /// middle one of the errors beside the number itself.
    fn held(event: impl Fn(u64) -> Event) -> (f64, f64) {
        let events: Vec<Event> = (0..10_000).map(|number| event(random(number))).collect();
        let truth = events.iter().filter(|event| event.is_of_kind).count() as f64;
        let (mut held, mut errors, mut begun) = (0, Vec::new(), 0);
        while errors.len() < 200 {
            // Each beginning has slices of its own.
            begun += 7_919_000;
            let Some(count) = estimate(&events, begun) else { continue };
            let error = count.error.unwrap_or_default() as f64;
            held += usize::from((count.events as f64 - truth).abs() <= error);
            errors.push(error / truth);
        }
        errors.sort_by(f64::total_cmp);
        (held as f64 / errors.len() as f64, errors[errors.len() / 2])
    }

    fn anywhere(random: u64) -> i64 {
        ((random >> 20) % MONTH_MS as u64) as i64
    }

    /// Three of four events are in the third of a day that is busy.
    fn by_day(random: u64) -> i64 {
        let after_ms = anywhere(random);
        let (day, hour) = (after_ms / (24 * HOUR_MS), after_ms % (24 * HOUR_MS));
        day * 24 * HOUR_MS + if random.is_multiple_of(4) { hour } else { 9 * HOUR_MS + hour / 3 }
    }

    fn is_one_in(of: u64, random: u64) -> bool {
        (random % 10_007).is_multiple_of(of)
    }

    #[test]
    fn the_truth_is_within_the_error_whatever_comes_when() {
        let evening = |random: u64| {
            // The share of the kind is another one in each hour of the day.
            let after_ms = by_day(random);
            Event { after_ms, is_of_kind: (random % 24) < (after_ms / HOUR_MS % 24) as u64 }
        };
        // A tenth of all events, in one hour of the month.
        let burst = |random: u64| match random % 10 {
            0 => Event { after_ms: 400 * HOUR_MS + anywhere(random) % HOUR_MS, is_of_kind: true },
            _ => Event { after_ms: by_day(random), is_of_kind: false },
        };
        for (case, (held, error), most) in [
            ("a third, at any time", held(|random| Event { after_ms: anywhere(random), is_of_kind: is_one_in(3, random) }), 0.15),
            ("a third, by day", held(|random| Event { after_ms: by_day(random), is_of_kind: is_one_in(3, random) }), 0.15),
            ("one in 200", held(|random| Event { after_ms: by_day(random), is_of_kind: is_one_in(200, random) }), 1.5),
            ("more in the evening", held(evening), 0.3),
            ("a burst", held(burst), f64::INFINITY),
        ] {
            println!("{case}: {held} of the samples hold the truth, the middle error is {error} of it");
            assert!(held >= 0.92, "{case}: only {held} of the samples hold the truth");
            assert!(error <= most, "{case}: the middle error is {error} of the number itself");
        }
    }

    #[test]
    fn what_is_looked_at_as_a_whole_is_never_off() {
        let all = Part { stratum: -1, found: 40, difference: 0 };
        let seen = Seen::new(1_000, vec![[6, 4], [5, 5]]);
        assert_eq!(seen.count([all].into_iter()), Count { events: 40, error: Some(0) });
        // Two of the twenty events that are in slices, each of which stands for fifty, beside the forty.
        let some = Part { stratum: 1, found: 2, difference: 0 };
        let count = seen.count([all, some].into_iter());
        assert!(count.events == 140 && count.error > Some(100), "{count:?}");
    }
}
