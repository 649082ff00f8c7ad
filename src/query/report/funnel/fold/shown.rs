//! The chain that is shown of steps one after the other: of the deepest chains the one that starts first, of those the one with the
//! earliest event at each step, step by step. A step that may be left out is, where no such chain has it.

use std::ops::Range;

use super::matching::{Matching, Pool};
use super::{Budget, Candidate, History, Link, Numbered, TooMuchWork, steps_of};

/// The chain to `depth`, which some chain reaches.
pub(super) fn chain(history: History<'_>, depth: usize, budget: &mut Budget) -> Result<Vec<Link>, TooMuchWork> {
    let mut walk = Walk { ends: Ends::of(history, depth, budget)?, chosen: Vec::new(), at: 0 };
    for step in 0..=depth {
        walk.choose(step, budget)?;
    }
    Ok(walk.chosen.iter().map(|chosen| chosen.link).collect())
}

/// How a chain is completed from some needed step on.
#[derive(Clone, Debug)]
struct End {
    /// The steps that are done at this time, by their place among those that are needed.
    at_ms: i64,
    done: Range<usize>,
    /// How it goes on.
    then: usize,
    /// When it ends.
    last_ms: i64,
}

/// The number of the end that has nothing left to do.
const DONE: usize = 0;

/// How chains can be completed, from each needed step and each time: always the way that is the earliest in every step. Found from the
/// end, by what [`super::ordered`] does from the beginning.
struct Ends<'h> {
    history: History<'h>,
    /// The steps to the depth that no chain leaves out; the depth itself is the last.
    needed: Vec<usize>,
    ends: Vec<End>,
    /// By place among the needed steps, the latest first.
    of_step: Vec<Vec<usize>>,
}

impl<'h> Ends<'h> {
    fn of(history: History<'h>, depth: usize, budget: &mut Budget) -> Result<Self, TooMuchWork> {
        let needed: Vec<usize> = (0..=depth).filter(|step| *step == depth || !history.funnel.is_optional(*step)).collect();
        let (done, of_step) = (End { at_ms: i64::MIN, done: 0..0, then: DONE, last_ms: i64::MIN }, vec![Vec::new(); needed.len()]);
        let mut ends = Self { history, needed, ends: vec![done], of_step };
        for moment in history.moments().rev() {
            budget.spend(moment.len() as u64)?;
            ends.take(moment, budget)?;
        }
        Ok(ends)
    }

    fn take(&mut self, moment: &[Candidate], budget: &mut Budget) -> Result<(), TooMuchWork> {
        let at_ms = moment.first().map_or(0, |event| event.at_ms);
        // The only event of its millisecond fills one step.
        let pool = if moment.len() > 1 { Pool::of(moment) } else { Pool::none() };
        let mut found = Vec::new();
        for step in steps_of(moment.iter().fold(0, |steps, event| steps | event.steps)) {
            let Some(first) = self.needed.iter().position(|needed| *needed == step) else { continue };
            let run = if moment.len() > 1 { self.run(first, &mut Matching::new(&pool, &[]), budget)? } else { 1 };
            // The more is done now the earlier all of it is.
            found.extend((first + 1..=first + run).rev().find_map(|until| self.end(first..until, at_ms)));
        }
        for end in found {
            if let Some(of_step) = self.of_step.get_mut(end.done.start) {
                // Both lists may have twice the room that they need.
                budget.keep(2 * (size_of::<End>() + size_of::<usize>()))?;
                of_step.push(self.ends.len());
                self.ends.push(end);
            }
        }
        Ok(())
    }

    /// How many of the needed steps, from the one at `first` on, can be done in one millisecond.
    fn run(&self, first: usize, matching: &mut Matching<'_>, budget: &mut Budget) -> Result<usize, TooMuchWork> {
        let mut run = 0;
        for step in self.needed.iter().skip(first) {
            if !matching.add(*step, budget)? {
                break;
            }
            run += 1;
        }
        Ok(run)
    }

    /// The end that does these of the needed steps at `at_ms` and goes on later.
    fn end(&self, done: Range<usize>, at_ms: i64) -> Option<End> {
        let then = self.later(done.end, at_ms)?;
        let History { funnel, excluded, .. } = self.history;
        let own = self.needed.get(done.clone())?;
        let is_barred = funnel.numbered().any(|between| {
            let ends_at = || self.steps(then).find(|(step, _)| *step == between.to);
            own.contains(&between.from) && ends_at().is_some_and(|(_, until_ms)| excluded.is_between(between.number, at_ms, until_ms))
        });
        let last_ms = at_ms.max(self.ends.get(then)?.last_ms);
        (!is_barred).then_some(End { at_ms, done, then, last_ms })
    }

    /// The end that begins with the needed step at `first` after `at_ms`.
    fn later(&self, first: usize, at_ms: i64) -> Option<usize> {
        let Some(ends) = self.of_step.get(first) else { return Some(DONE) };
        let later = ends.partition_point(|end| self.ends.get(*end).is_some_and(|end| end.at_ms > at_ms));
        ends.get(later.checked_sub(1)?).copied()
    }

    /// What an end does, and when.
    fn steps(&self, end: usize) -> impl Iterator<Item = (usize, i64)> {
        let ends = std::iter::successors(self.ends.get(end), |end| self.ends.get(end.then).filter(|_| end.then != DONE));
        ends.flat_map(|end| self.needed.get(end.done.clone()).into_iter().flatten().map(|step| (*step, end.at_ms)))
    }
}

#[derive(Clone, Copy, Debug)]
struct Chosen {
    link: Link,
    at_ms: i64,
}

/// Chooses the events of the chain, step by step.
struct Walk<'h> {
    ends: Ends<'h>,
    chosen: Vec<Chosen>,
    /// Where the millisecond of the last one begins.
    at: usize,
}

impl Walk<'_> {
    /// Chooses the first event for `step` with which the chain can be completed, if there is one.
    fn choose(&mut self, step: usize, budget: &mut Budget) -> Result<(), TooMuchWork> {
        let History { funnel, events, .. } = self.ends.history;
        let mut at = self.at;
        for moment in events.get(at..).unwrap_or_default().chunk_by(|left, right| left.at_ms == right.at_ms) {
            budget.spend(moment.len() as u64)?;
            let at_ms = moment.first().map_or(0, |event| event.at_ms);
            match self.chosen.first() {
                Some(first) if at_ms - first.at_ms > funnel.window_ms => return Ok(()),
                None if !funnel.entries.contains(&at_ms) => {}
                _ => {
                    if let Some(event) = self.first_of(moment, step, budget)? {
                        self.chosen.push(Chosen { link: Link { step, event }, at_ms });
                        self.at = at;
                        return Ok(());
                    }
                }
            }
            at += moment.len();
        }
        Ok(())
    }

    /// The first event of a millisecond that can fill `step`.
    fn first_of(&self, moment: &[Candidate], step: usize, budget: &mut Budget) -> Result<Option<usize>, TooMuchWork> {
        let mut pool = None;
        // Of events that fit the same steps one can as little as the other.
        let mut tried: Vec<u32> = Vec::new();
        for candidate in moment.iter().filter(|candidate| candidate.steps & (1 << step) != 0) {
            let is_used = self.chosen.iter().any(|chosen| chosen.link.event == candidate.event);
            budget.spend(1 + tried.len() as u64 / 8)?;
            if is_used || tried.contains(&candidate.steps) {
                continue;
            }
            let pool = pool.get_or_insert_with(|| if moment.len() > 1 { Pool::of(moment) } else { Pool::none() });
            if self.completes(*candidate, step, pool, budget)? {
                return Ok(Some(candidate.event));
            }
            tried.push(candidate.steps);
        }
        Ok(None)
    }

    /// Whether the chain can be completed once `candidate` fills `step`.
    fn completes(&self, candidate: Candidate, step: usize, pool: &Pool, budget: &mut Budget) -> Result<bool, TooMuchWork> {
        let mut chosen = self.chosen.clone();
        chosen.push(Chosen { link: Link { step, event: candidate.event }, at_ms: candidate.at_ms });
        let used: Vec<usize> = chosen.iter().map(|chosen| chosen.link.event).collect();
        let next = self.ends.needed.partition_point(|needed| *needed <= step);
        let run = self.ends.run(next, &mut Matching::new(pool, &used), budget)?;
        Ok((next..=next + run).rev().any(|until| self.is_completed(&chosen, next..until)))
    }

    /// Whether a chain of `chosen` is completed by these of the needed steps in the same millisecond, and what comes later.
    fn is_completed(&self, chosen: &[Chosen], run: Range<usize>) -> bool {
        let History { funnel, excluded, .. } = self.ends.history;
        let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else { return false };
        let Some(then) = self.ends.later(run.end, last.at_ms) else { return false };
        let last_ms = self.ends.ends.get(then).map_or(last.at_ms, |end| end.last_ms.max(last.at_ms));
        let run = self.ends.needed.get(run).unwrap_or_default();
        let is_now = |step: usize| run.contains(&step).then_some(last.at_ms);
        let begun = |step: usize| chosen.iter().find(|chosen| chosen.link.step == step).map(|chosen| chosen.at_ms).or_else(|| is_now(step));
        let to_come = |step: usize| {
            let is_last = last.link.step == step;
            let now = is_last.then_some(last.at_ms).or_else(|| is_now(step));
            now.or_else(|| self.ends.steps(then).find(|(other, _)| *other == step).map(|(_, at_ms)| at_ms))
        };
        let is_barred = |between: Numbered| {
            let times = begun(between.from).zip(to_come(between.to));
            times.is_some_and(|(from_ms, until_ms)| excluded.is_between(between.number, from_ms, until_ms))
        };
        last_ms - first.at_ms <= funnel.window_ms && !funnel.numbered().any(is_barred)
    }
}
