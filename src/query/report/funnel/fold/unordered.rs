//! Steps as they come: as many as can be done within one window of the first.
//!
//! For each event that may be the first, the most steps that can be matched to it and the events behind it. An exclusion holds between its
//! two steps, whichever comes first: either one of them is not done, or both are within one span between two of the excluded events; all of
//! these ways are tried.

use super::matching::{Matching, Pool};
use super::{Budget, History, Journey, Link, MOST_STEPS, TooMuchWork, steps_of};

/// How far a history comes.
pub(super) fn journey(history: History<'_>, budget: &mut Budget) -> Result<Option<Journey>, TooMuchWork> {
    let funnel = history.funnel;
    let of_step: Vec<Vec<usize>> = (0..funnel.steps).map(|step| history.positions(step)).collect();
    let mut best: Option<(usize, usize)> = None;
    for (first, event) in history.events.iter().enumerate().filter(|(_, event)| funnel.entries.contains(&event.at_ms)) {
        let window = Window { history, of_step: &of_step, first, until_ms: event.at_ms.saturating_add(funnel.window_ms) };
        let done = window.most([Choice::Open; MOST_STEPS], budget)?;
        if best.is_none_or(|(most, _)| done > most) {
            best = Some((done, first));
        }
        if done == funnel.steps {
            break;
        }
    }
    let Some((done, first)) = best else { return Ok(None) };
    let at_ms = history.events.get(first).map_or(0, |event| event.at_ms);
    let window = Window { history, of_step: &of_step, first, until_ms: at_ms.saturating_add(funnel.window_ms) };
    let shown = window.shown(done, budget)?;
    Ok(Some(Journey { reached: (1 << done) - 1, shown }))
}

/// What is done of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Not chosen yet.
    Open,
    /// It is left out.
    Out,
    /// The event at this position does it.
    By(usize),
}

type Choices = [Choice; MOST_STEPS];
/// When each step may be done, both ends included.
type Bounds = [(i64, i64); MOST_STEPS];

/// The events from one on that are within its window.
#[derive(Clone, Copy)]
struct Window<'h> {
    history: History<'h>,
    /// The positions of the events that fit each step.
    of_step: &'h [Vec<usize>],
    first: usize,
    until_ms: i64,
}

impl History<'_> {
    fn positions(self, step: usize) -> Vec<usize> {
        let fits = self.events.iter().enumerate().filter(|(_, event)| event.steps & (1 << step) != 0);
        fits.map(|(position, _)| position).collect()
    }

    fn at_ms(self, position: usize) -> i64 {
        self.events.get(position).map_or(0, |event| event.at_ms)
    }
}

impl Window<'_> {
    /// The most steps that can be done with what is chosen, the first event among those that do them; 0 if that cannot be.
    fn most(&self, choices: Choices, budget: &mut Budget) -> Result<usize, TooMuchWork> {
        let everywhere = [(i64::MIN, i64::MAX); MOST_STEPS];
        if choices.contains(&Choice::By(self.first)) {
            return self.most_within(choices, everywhere, 0, budget);
        }
        let mut most = 0;
        for step in steps_of(self.history.events.get(self.first).map_or(0, |event| event.steps)) {
            let mut with_first = choices;
            match with_first.get_mut(step) {
                Some(choice) if *choice == Choice::Open => *choice = Choice::By(self.first),
                _ => continue,
            }
            most = most.max(self.most_within(with_first, everywhere, 0, budget)?);
        }
        Ok(most)
    }

    /// The same, once it is said for all exclusions before `exclusion` how they are met.
    fn most_within(&self, choices: Choices, bounds: Bounds, exclusion: usize, budget: &mut Budget) -> Result<usize, TooMuchWork> {
        budget.spend(4)?;
        let Some(between) = self.history.funnel.exclusions.get(exclusion) else { return self.matched(choices, bounds, budget) };
        let steps = [between.from, between.to];
        if steps.iter().any(|step| choices.get(*step) == Some(&Choice::Out)) {
            return self.most_within(choices, bounds, exclusion + 1, budget);
        }
        let mut most = 0;
        for step in steps {
            let mut without = choices;
            match without.get_mut(step) {
                Some(choice) if *choice == Choice::Open => *choice = Choice::Out,
                _ => continue,
            }
            most = most.max(self.most_within(without, bounds, exclusion + 1, budget)?);
        }
        for (from_ms, until_ms) in self.spans(exclusion) {
            let mut within = bounds;
            for step in steps {
                if let Some(bound) = within.get_mut(step) {
                    *bound = (bound.0.max(from_ms), bound.1.min(until_ms));
                }
            }
            most = most.max(self.most_within(choices, within, exclusion + 1, budget)?);
        }
        Ok(most)
    }

    /// The spans of the window between an exclusion's events, both ends included.
    fn spans(&self, exclusion: usize) -> Vec<(i64, i64)> {
        let History { excluded, .. } = self.history;
        let mut spans = Vec::new();
        let mut from_ms = i64::MIN;
        let mut next = excluded.after(exclusion, self.history.at_ms(self.first).saturating_sub(1));
        while next < self.until_ms {
            spans.push((from_ms, next));
            from_ms = next;
            next = excluded.after(exclusion, next);
        }
        spans.push((from_ms, i64::MAX));
        spans
    }

    /// The most steps that can be done, each within its bounds.
    fn matched(&self, choices: Choices, bounds: Bounds, budget: &mut Budget) -> Result<usize, TooMuchWork> {
        let mut pool = Pool::empty();
        let (mut done, mut open) = (0, Vec::new());
        let each = choices.iter().zip(bounds).zip(self.of_step).enumerate();
        for (step, ((choice, (from_ms, until_ms)), positions)) in each {
            match choice {
                Choice::Out => {}
                Choice::By(position) => {
                    if !(from_ms..=until_ms).contains(&self.history.at_ms(*position)) {
                        return Ok(0);
                    }
                    done += 1;
                }
                Choice::Open => {
                    let begin = |position: &usize| *position <= self.first || self.history.at_ms(*position) < from_ms;
                    let own = positions.iter().skip(positions.partition_point(begin));
                    let own = own.take_while(|position| self.history.at_ms(**position) <= until_ms.min(self.until_ms));
                    let free = own.filter(|position| !choices.contains(&Choice::By(**position)));
                    free.take(2 * MOST_STEPS).for_each(|position| pool.add_to(step, *position));
                    budget.spend(8)?;
                    open.push(step);
                }
            }
        }
        let mut matching = Matching::new(&pool, &[]);
        for step in open {
            done += usize::from(matching.add(step, budget)?);
        }
        Ok(done)
    }

    /// Of the chains of `done` steps that begin with the first event the one with the earliest event at each step, step by step.
    fn shown(&self, done: usize, budget: &mut Budget) -> Result<Vec<Link>, TooMuchWork> {
        let mut choices = [Choice::Open; MOST_STEPS];
        for step in 0..self.history.funnel.steps {
            let choice = self.earliest(step, choices, done, budget)?;
            if let Some(chosen) = choices.get_mut(step) {
                *chosen = choice;
            }
        }
        let links = choices.iter().enumerate().filter_map(|(step, choice)| match choice {
            Choice::By(position) => self.history.events.get(*position).map(|event| Link { step, event: event.event }),
            _ => None,
        });
        let mut links: Vec<Link> = links.collect();
        links.sort_by_key(|link| link.event);
        Ok(links)
    }

    fn earliest(&self, step: usize, choices: Choices, done: usize, budget: &mut Budget) -> Result<Choice, TooMuchWork> {
        let positions = self.of_step.get(step).map_or(&[][..], Vec::as_slice);
        let inside = positions.iter().copied().skip(positions.partition_point(|position| *position < self.first));
        let inside = inside.take_while(|position| self.history.at_ms(*position) <= self.until_ms);
        let mut tried: Vec<u32> = Vec::new();
        for position in inside.filter(|position| !choices.contains(&Choice::By(*position))) {
            budget.spend(1)?;
            let steps = self.history.events.get(position).map_or(0, |event| event.steps);
            // Where time forbids nothing, of two events that fit the same steps one can as little as the other.
            let is_known = position != self.first && self.history.funnel.exclusions.is_empty() && tried.contains(&steps);
            let mut with = choices;
            if let Some(choice) = with.get_mut(step) {
                *choice = Choice::By(position);
            }
            if !is_known && self.most(with, budget)? == done {
                return Ok(Choice::By(position));
            }
            if position != self.first {
                tried.push(steps);
            }
        }
        Ok(Choice::Out)
    }
}
