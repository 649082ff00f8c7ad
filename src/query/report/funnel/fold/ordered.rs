//! Steps one after the other.

use super::matching::{Matching, Pool};
use super::{Budget, Candidate, History, Journey, Link, MOST_STEPS, Numbered, TooMuchWork, shown, steps_of};

/// The times of a chain by step, as far as it goes; meaningless for steps that it leaves out.
type Times = [i64; MOST_STEPS];

/// How far a history comes.
pub(super) fn journey(history: History<'_>, budget: &mut Budget) -> Result<Option<Journey>, TooMuchWork> {
    let mut latest = Latest { history, chains: [None; MOST_STEPS], reached: 0 };
    for moment in history.moments() {
        budget.spend(moment.len() as u64)?;
        match moment {
            [only] => latest.take_one(*only),
            several => latest.take(several, budget)?,
        }
    }
    let Some(depth) = latest.reached.checked_ilog2() else { return Ok(None) };
    let shown = match depth {
        // Who goes no further has nothing to be completed.
        0 => history
            .events
            .iter()
            .find(|event| enters(history, event))
            .map(|event| Link { step: 0, event: event.event })
            .into_iter()
            .collect(),
        depth => shown::chain(history, depth as usize, budget)?,
    };
    Ok(Some(Journey { reached: latest.reached, shown }))
}

/// Whether a chain can begin with an event.
fn enters(history: History<'_>, event: &Candidate) -> bool {
    event.steps & 1 != 0 && history.funnel.entries.contains(&event.at_ms)
}

/// To each step that is needed the chain that is the latest in all its steps. It leaves out what it may: what is left out forbids nothing.
struct Latest<'h> {
    history: History<'h>,
    chains: [Option<Times>; MOST_STEPS],
    reached: u32,
}

impl Latest<'_> {
    /// Takes the only event of its millisecond.
    fn take_one(&mut self, event: Candidate) {
        // From the last step on: no step is reached from one that the same event has just filled.
        for step in steps_of(event.steps) {
            let run = Run { first: step, step };
            if let Some(times) = self.chain(run, event.at_ms) {
                self.note(step, times);
            }
        }
    }

    /// Takes all events of a millisecond.
    fn take(&mut self, moment: &[Candidate], budget: &mut Budget) -> Result<(), TooMuchWork> {
        let (pool, at_ms) = (Pool::of(moment), moment.first().map_or(0, |event| event.at_ms));
        let mut found: Vec<(usize, Times)> = Vec::new();
        for step in steps_of(moment.iter().fold(0, |steps, event| steps | event.steps)) {
            // The more of its steps a chain does now the later it is in them, so the longest run that may be is the best.
            let mut runs = Vec::new();
            let mut matching = Matching::new(&pool, &[]);
            let mut first = step;
            while matching.add(first, budget)? {
                runs.push(Run { first, step });
                if first == 0 {
                    break;
                }
                first = self.history.funnel.needed_before(first);
            }
            found.extend(runs.into_iter().rev().find_map(|run| self.chain(run, at_ms)).map(|times| (step, times)));
        }
        found.into_iter().for_each(|(step, times)| self.note(step, times));
        Ok(())
    }

    fn note(&mut self, step: usize, times: Times) {
        self.reached |= 1 << step;
        if !self.history.funnel.is_optional(step)
            && let Some(chain) = self.chains.get_mut(step)
        {
            *chain = Some(times);
        }
    }

    /// The latest chain that ends with `run`, all of which happens at `at_ms`.
    fn chain(&self, run: Run, at_ms: i64) -> Option<Times> {
        let History { funnel, excluded, .. } = self.history;
        if run.first == 0 {
            return funnel.entries.contains(&at_ms).then_some([at_ms; MOST_STEPS]);
        }
        let mut times = (*self.chains.get(funnel.needed_before(run.first))?)?;
        let is_inside = at_ms - times.first()? <= funnel.window_ms;
        let is_barred = |between: Numbered| {
            let is_of_run = between.to == run.step || (between.to >= run.first && between.to < run.step && !funnel.is_optional(between.to));
            let is_before = between.from < run.first && !funnel.is_optional(between.from);
            is_of_run && is_before && times.get(between.from).is_some_and(|from_ms| excluded.is_between(between.number, *from_ms, at_ms))
        };
        if !is_inside || funnel.numbered().any(is_barred) {
            return None;
        }
        times.iter_mut().skip(run.first).for_each(|time| *time = at_ms);
        Some(times)
    }
}

/// Steps that are done in one millisecond: from `first` to `step`, but for those in between that may be left out.
#[derive(Clone, Copy)]
struct Run {
    first: usize,
    step: usize,
}
