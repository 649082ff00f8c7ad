//! A bar of a funnel, as the people behind it.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::lines::{self, Lines};
use super::outcomes::{Outcome, Outcomes};
use super::{Funnel, Whole};
use crate::query::ask::breakdown::LineOf;
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Range};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;
use crate::query::report::{Actors, Bar, People, Report};

/// Keys that name a bar of a funnel.
pub(super) const KEYS: [&str; 5] = ["step", "converted", "bucket", LineOf::KEYS[0], LineOf::KEYS[1]];

/// A bar of a funnel, or those who stopped before it.
pub(super) struct FunnelBar {
    funnel: Funnel,
    is_compared: bool,
    /// Numbered from 0.
    step: usize,
    converted: bool,
    /// Those who entered in it; the range of the funnel, or the part that a bucket of its trend covers.
    entries: Range,
    /// Their line; none without a breakdown.
    line: Option<LineOf>,
}

impl FunnelBar {
    /// Reads `step` (from 1), `converted` (true by default; false: those of the bar before who are not in this one), `bucket` (a start
    /// of the trend; the whole range without one), `breakdown_value` and `breakdown_kind`.
    ///
    /// # Errors
    /// 400 `invalid_of` where there is no such bar.
    pub(super) fn parse(funnel: Funnel, bar: Bar<'_>) -> Result<Self, QueryError> {
        let Bar { fields, is_compared, .. } = bar;
        let invalid = |message: String| QueryError::invalid("invalid_of", message);
        let steps = funnel.steps.len() as u64;
        let step = fields.value("step").and_then(serde_json::Value::as_u64).filter(|step| (1..=steps).contains(step));
        let step = step.ok_or_else(|| invalid(format!("`step` must be a whole number from 1 to {steps}")))? as usize - 1;
        let converted = fields.value("converted").is_none() || fields.flag("converted", "invalid_of")?;
        if step == 0 && !converted {
            return Err(invalid("nobody stops before the first step: `converted` false needs a `step` from 2 on".to_owned()));
        }
        let whole = bar.range(&funnel.whole.range, funnel.compare.as_ref().map(|compare| &compare.compared))?;
        let entries = bar.part(whole, funnel.interval)?;
        let line = LineOf::of_bar(fields, &funnel.breakdown)?;
        Ok(Self { is_compared, step, converted, entries, line, funnel })
    }

    fn whole(&self) -> &Whole {
        let compared = self.funnel.compare.as_ref().filter(|_| self.is_compared);
        compared.map_or(&self.funnel.whole, |compared| &compared.whole)
    }

    async fn found(&self, runner: &mut StatementRunner<'_>) -> Result<Actors, QueryError> {
        let funnel = &self.funnel;
        let outcomes = funnel.outcomes(runner, self.whole(), None).await?;
        let seen = funnel.seen(self.whole(), runner.now_ms()).unwrap_or_else(|| self.entries.clone());
        let events = funnel.step_events(runner.scope(&seen));
        let is_in_line = self.in_line(runner, &outcomes).await?;
        let is_of_bar = |outcome: &&Outcome| {
            let entry_ms = outcomes.entry_ms(outcome);
            (self.entries.from_ms..self.entries.until_ms).contains(&entry_ms) && is_in_line(outcome)
        };
        // Of sessions and attempts somebody may have one that went on and one that did not: behind both bars.
        let is_behind = |outcome: &&Outcome| match self.converted {
            true => outcome.reaches(self.step),
            false => outcome.reaches(self.step.saturating_sub(1)) && !outcome.reaches(self.step),
        };
        let those = outcomes.all().iter().filter(is_of_bar).filter(is_behind);
        let persons: BTreeSet<u64> = those.map(|outcome| outcome.person).collect();
        Ok(Actors::Known { persons: persons.into_iter().collect(), events })
    }

    /// Whether an outcome counts for the line.
    async fn in_line(
        &self,
        runner: &mut StatementRunner<'_>,
        outcomes: &Outcomes,
    ) -> Result<Box<dyn Fn(&Outcome) -> bool + Send + Sync>, QueryError> {
        let (Some(by), Some(line)) = (&self.funnel.breakdown.by, &self.line) else { return Ok(Box::new(|_| true)) };
        let lines = match self.is_compared {
            // The largest values are those of the funnel itself.
            true => {
                let own = self.funnel.outcomes(runner, &self.funnel.whole, None).await?;
                self.funnel.lines(runner, &own).await?
            }
            false => self.funnel.lines(runner, outcomes).await?,
        };
        if let Some(number) = lines.named(line) {
            return Ok(Box::new(move |outcome| Lines::of(&lines, outcome.group) == number));
        }
        let seen = self.funnel.seen(self.whole(), runner.now_ms()).unwrap_or_else(|| self.entries.clone());
        let events = self.funnel.attributed_events(runner.scope(&seen));
        let numbers = lines::numbers_of(runner, by, line, events).await?;
        Ok(Box::new(move |outcome| numbers.contains(&outcome.group)))
    }
}

impl Canonical for FunnelBar {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { funnel, is_compared, step, converted, entries, line } = self;
        to.field(Funnel::NAME, funnel).field("is_compared", is_compared).field("step", step).field("converted", converted);
        to.field("entries", entries).field("line", line);
    }
}

impl People for FunnelBar {
    fn ranges(&self) -> Vec<&Range> {
        // The largest values of the funnel decide what is left over for `$other`.
        self.funnel.ranges()
    }

    fn event_sets(&self) -> Vec<EventSet<'_>> {
        self.funnel.event_sets()
    }

    fn actors<'a, 'r: 'a>(&'a self, runner: &'a mut StatementRunner<'r>) -> BoxFuture<'a, Result<Actors, QueryError>> {
        self.found(runner).boxed()
    }
}
