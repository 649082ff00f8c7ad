//! Steps one right after the other: the events of a chain follow each other in the history. Only steps that may be left out make more than
//! one chain from a beginning.

use std::collections::HashSet;

use super::{Budget, Event, ExcludedTimes, Funnel, Journey, Link, Numbered, TooMuchWork};

/// How far a history comes.
pub(super) fn journey(
    funnel: &Funnel,
    events: &[Event],
    excluded: &ExcludedTimes,
    budget: &mut Budget,
) -> Result<Option<Journey>, TooMuchWork> {
    let (mut reached, mut deepest) = (0, None);
    for first in 0..events.len() {
        budget.spend(1)?;
        let mut search = Search { funnel, events, excluded, first, known: HashSet::new(), path: Vec::new(), reached: 0, goal: None };
        search.begin(budget)?;
        budget.release(search.known_bytes());
        reached |= search.reached;
        let depth = search.reached.checked_ilog2();
        if depth > deepest.map(|(depth, _)| depth) {
            deepest = depth.map(|depth| (depth, first));
        }
    }
    let Some((depth, first)) = deepest else { return Ok(None) };
    let goal = Some(depth as usize);
    let mut search = Search { funnel, events, excluded, first, known: HashSet::new(), path: Vec::new(), reached: 0, goal };
    search.begin(budget)?;
    Ok(Some(Journey { reached, shown: search.path }))
}

/// Where a chain stands, as far as that decides how it may go on: its events, its last step, and for each exclusion that has begun when the
/// next of its events comes.
type Standing = (usize, usize, Vec<i64>);

/// Tries all chains from one beginning.
struct Search<'h> {
    funnel: &'h Funnel,
    events: &'h [Event],
    excluded: &'h ExcludedTimes,
    first: usize,
    known: HashSet<Standing>,
    path: Vec<Link>,
    reached: u32,
    /// The step at which the search ends; without one it goes everywhere.
    goal: Option<usize>,
}

impl Search<'_> {
    fn begin(&mut self, budget: &mut Budget) -> Result<(), TooMuchWork> {
        let enters = |event: &Event| event.steps & 1 != 0 && self.funnel.entries.contains(&event.at_ms);
        if self.events.get(self.first).is_some_and(enters) {
            self.path.push(Link { step: 0, event: self.first });
            self.reached |= 1;
            self.go_on(budget)?;
        }
        Ok(())
    }

    /// Goes on from the end of the path; whether the goal is reached. The steps are tried in order: what may be left out is not if it
    /// can be.
    fn go_on(&mut self, budget: &mut Budget) -> Result<bool, TooMuchWork> {
        budget.spend(4)?;
        let Some(last) = self.path.last().copied() else { return Ok(false) };
        if self.goal == Some(last.step) {
            return Ok(true);
        }
        for step in last.step + 1..self.funnel.steps {
            let link = Link { step, event: last.event + 1 };
            if self.may_follow(link) && self.is_new(link, budget)? {
                self.path.push(link);
                self.reached |= 1 << step;
                if self.go_on(budget)? {
                    return Ok(true);
                }
                self.path.pop();
            }
            if !self.funnel.is_optional(step) {
                break;
            }
        }
        Ok(false)
    }

    fn may_follow(&self, link: Link) -> bool {
        let (Some(first), Some(event)) = (self.events.get(self.first), self.events.get(link.event)) else { return false };
        let is_barred = |between: Numbered| {
            let begun = self.path.iter().find(|other| other.step == between.from).and_then(|begun| self.events.get(begun.event));
            between.to == link.step && begun.is_some_and(|begun| self.excluded.is_between(between.number, begun.at_ms, event.at_ms))
        };
        event.steps & (1 << link.step) != 0
            && event.held == first.held
            && event.at_ms - first.at_ms <= self.funnel.window_ms
            && !self.funnel.numbered().any(is_barred)
    }

    /// Whether no path that stood like the one with `link` was tried.
    fn is_new(&mut self, link: Link, budget: &mut Budget) -> Result<bool, TooMuchWork> {
        if self.funnel.optional == 0 {
            return Ok(true);
        }
        budget.spend(16)?;
        let begun = |step: usize| self.path.iter().chain([&link]).find(|link| link.step == step);
        let next = |between: Numbered| {
            let from = begun(between.from).filter(|_| between.to > link.step).and_then(|link| self.events.get(link.event));
            from.map_or(i64::MAX, |from| self.excluded.after(between.number, from.at_ms))
        };
        let standing = (link.event, link.step, self.funnel.numbered().map(next).collect());
        let is_new = self.known.insert(standing);
        if is_new {
            budget.keep(self.standing_bytes())?;
        }
        Ok(is_new)
    }

    /// What a standing takes among those that are known, bytes: the set may have twice the room that it needs.
    fn standing_bytes(&self) -> usize {
        2 * size_of::<Standing>() + self.funnel.exclusions.len() * size_of::<i64>()
    }

    fn known_bytes(&self) -> usize {
        self.known.len() * self.standing_bytes()
    }
}
