//! Totals: each beginning is an attempt, and each event is used once.
//!
//! An event moves on the oldest attempt, still inside its window, that stands where its step is the next, the deepest place first; if
//! there is none and it matches the first step it begins another. Where steps may be left out several may be next; the nearest is tried
//! first. An attempt whose window is over never moves again and is forgotten, so n events take n·log n.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::{Budget, Event, Funnel, Journey, Link, MOST_STEPS, TooMuchWork, steps_of};

/// All attempts, in the order in which they begin.
pub(super) fn attempts(funnel: &Funnel, events: &[Event], budget: &mut Budget) -> Result<Vec<Journey>, TooMuchWork> {
    let mut field = Field { funnel, attempts: Vec::new(), standing: HashMap::new(), ended: [0; MOST_STEPS] };
    for (number, event) in events.iter().enumerate() {
        budget.spend(4)?;
        field.exclude(number, *event);
        let before = field.attempts.len();
        if !field.move_on(number, *event) && event.steps & 1 != 0 && funnel.entries.contains(&event.at_ms) {
            field.begin(number, *event);
        }
        let begun = field.attempts.len() - before;
        budget.keep(begun * 2 * size_of::<Attempt>() + PER_LINK)?;
    }
    Ok(field.attempts.into_iter().map(|attempt| attempt.journey).collect())
}

/// What an event takes of a journey and of the queue in which its attempt stands, bytes.
const PER_LINK: usize = 2 * (size_of::<Link>() + size_of::<usize>());

struct Attempt {
    journey: Journey,
    begun_ms: i64,
    /// Of the event that brought it where it stands.
    last: usize,
}

/// Attempts that stand at a step, the oldest first.
type Queue = BinaryHeap<Reverse<usize>>;

struct Field<'h> {
    funnel: &'h Funnel,
    attempts: Vec<Attempt>,
    /// By what they hold and where they stand.
    standing: HashMap<(u64, usize), Queue>,
    /// All that stood at a step before the event of this number have ended there.
    ended: [usize; MOST_STEPS],
}

impl Field<'_> {
    /// Ends what the event ends.
    fn exclude(&mut self, number: usize, event: Event) {
        let matched = |(exclusion, _): &(usize, &super::Between)| event.excluded & (1 << exclusion) != 0;
        for (_, between) in self.funnel.exclusions.iter().enumerate().filter(matched) {
            let standing = self.ended.iter_mut().take(between.to).skip(between.from);
            standing.for_each(|ended| *ended = number);
        }
    }

    fn begin(&mut self, number: usize, event: Event) {
        let attempt = self.attempts.len();
        let journey = Journey { reached: 1, shown: vec![Link { step: 0, event: number }] };
        self.attempts.push(Attempt { journey, begun_ms: event.at_ms, last: number });
        self.standing.entry((event.held, 0)).or_default().push(Reverse(attempt));
    }

    /// Moves an attempt on; whether there was one.
    fn move_on(&mut self, number: usize, event: Event) -> bool {
        // From the deepest place on, and from there to the nearest step.
        let mut ways: Vec<(usize, usize)> = Vec::new();
        for step in steps_of(event.steps).filter(|step| *step > 0) {
            ways.extend((self.funnel.needed_before(step)..step).map(|from| (from, step)));
        }
        ways.sort_by_key(|(from, step)| (Reverse(*from), *step));
        ways.into_iter().any(|(from, step)| self.move_from(from, Link { step, event: number }, event))
    }

    fn move_from(&mut self, from: usize, link: Link, event: Event) -> bool {
        let Some(queue) = self.standing.get_mut(&(event.held, from)) else { return false };
        let ended = self.ended.get(from).copied().unwrap_or(0);
        while let Some(Reverse(oldest)) = queue.pop() {
            let Some(attempt) = self.attempts.get_mut(oldest) else { continue };
            if attempt.last < ended || event.at_ms - attempt.begun_ms > self.funnel.window_ms {
                continue;
            }
            attempt.journey.reached |= 1 << link.step;
            attempt.journey.shown.push(link);
            attempt.last = link.event;
            self.standing.entry((event.held, link.step)).or_default().push(Reverse(oldest));
            return true;
        }
        false
    }
}
