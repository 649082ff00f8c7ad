//! How many events questions have left out because no person made them.
//!
//! Promise: exact. They are counted by one statement beside those of the report, which reads its ranges once more: the column that
//! tells bots, and of their events alone what the filters of the report read. An event in several sets of the report counts once.

use super::ask::{EventSet, Selection};
use super::reader::StatementRunner;
use super::report::Plan;
use super::sql::Statement;
use crate::query::ask::filter::Filter;
use crate::query::ask::selection::Traffic;

/// The number for `plan`; none where the report does not tell which events it is about, or one statement cannot tell all of them.
/// May go wrong: the time of the question is over, or the store refuses; the answer is there all the same.
pub(super) async fn count(plan: &dyn Plan, runner: &mut StatementRunner<'_>) -> Option<u64> {
    count_each(&[plan.event_sets()], &[], runner).await?.first().copied()
}

/// The number for each of some questions, by their sets of events and by what `filters` they have in common; none where one statement does not tell
/// all of them: then each may ask for its own.
pub(super) async fn count_each(questions: &[Vec<EventSet<'_>>], filters: &[Filter], runner: &mut StatementRunner<'_>) -> Option<Vec<u64>> {
    let first = questions.first().filter(|_| questions.iter().all(|sets| !sets.is_empty()))?.first()?;
    let scope = runner.scope(first.range);
    if scope.traffic() == Traffic::All {
        return Some(vec![0; questions.len()]);
    }
    let statement = Statement::from(Selection::numbers_of_bots(scope, questions, filters));
    if !statement.fits() {
        return None;
    }
    match runner.rows(statement).await {
        Ok(rows) => rows.first().map(|row| (0..questions.len()).map(|question| row.cell(question).uint()).collect()),
        Err(problem) => {
            tracing::debug!(%problem, "the events of bots are not counted");
            None
        }
    }
}
