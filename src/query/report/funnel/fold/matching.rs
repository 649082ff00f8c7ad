//! Steps matched to events, of which each fills one step: by augmenting paths.

use super::{Budget, Candidate, MOST_STEPS, TooMuchWork, steps_of};

/// The events that fit each step, as many as can matter: of more than there are steps, and of those that are spoken for, any do.
const MOST_OF_STEP: usize = 2 * MOST_STEPS;

/// Events to choose from.
#[derive(Debug)]
pub(super) struct Pool {
    /// By step, in order.
    of_step: Vec<Vec<usize>>,
    /// Whether an event fits more than one step.
    has_choice: bool,
}

impl Pool {
    /// The events that are given; the first of those that fit a step are as good as all.
    pub(super) fn of<'c>(candidates: impl IntoIterator<Item = &'c Candidate>) -> Self {
        let mut pool = Self::empty();
        for candidate in candidates {
            let has_choice = pool.has_choice || candidate.steps.count_ones() > 1;
            steps_of(candidate.steps).for_each(|step| pool.add_to(step, candidate.event));
            pool.has_choice = has_choice;
        }
        pool
    }

    /// No event, for good.
    pub(super) fn none() -> Self {
        Self { of_step: Vec::new(), has_choice: false }
    }

    /// No event yet.
    pub(super) fn empty() -> Self {
        Self { of_step: vec![Vec::new(); MOST_STEPS], has_choice: false }
    }

    /// Adds an event that fits `step`, and perhaps others.
    pub(super) fn add_to(&mut self, step: usize, event: usize) {
        self.has_choice = true;
        if let Some(events) = self.of_step.get_mut(step).filter(|events| events.len() < MOST_OF_STEP) {
            events.push(event);
        }
    }

    fn events(&self, step: usize) -> &[usize] {
        self.of_step.get(step).map_or(&[], Vec::as_slice)
    }
}

/// Steps that have an event each.
#[derive(Debug)]
pub(super) struct Matching<'p> {
    pool: &'p Pool,
    /// Events that are spoken for.
    used: &'p [usize],
    /// The event and the step that it fills.
    pairs: Vec<(usize, usize)>,
}

impl<'p> Matching<'p> {
    /// None yet.
    pub(super) fn new(pool: &'p Pool, used: &'p [usize]) -> Self {
        Self { pool, used, pairs: Vec::new() }
    }

    /// Matches one more step, if all that are matched can still be.
    pub(super) fn add(&mut self, step: usize, budget: &mut Budget) -> Result<bool, TooMuchWork> {
        if !self.pool.has_choice && self.used.is_empty() {
            // Events of one step each do not compete.
            budget.spend(1)?;
            return Ok(!self.pool.events(step).is_empty());
        }
        self.find(step, &mut Vec::new(), budget)
    }

    fn find(&mut self, step: usize, seen: &mut Vec<usize>, budget: &mut Budget) -> Result<bool, TooMuchWork> {
        let pool = self.pool;
        for event in pool.events(step) {
            budget.spend(1 + seen.len() as u64 / 8)?;
            if self.used.contains(event) || seen.contains(event) {
                continue;
            }
            seen.push(*event);
            let taken = self.pairs.iter().position(|(other, _)| other == event);
            let Some(taken) = taken else {
                self.pairs.push((*event, step));
                return Ok(true);
            };
            let owner = self.pairs.get(taken).map_or(step, |(_, owner)| *owner);
            if self.find(owner, seen, budget)? {
                // The owner has another event now, in a pair of its own.
                if let Some(pair) = self.pairs.get_mut(taken) {
                    pair.1 = step;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }
}
