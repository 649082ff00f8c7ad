//! How many events a question has left out because no person made them.
//!
//! Promise: exact. They are counted by one statement beside those of the report, which reads its ranges once more: the column that
//! tells bots, and of their events alone what the filters of the report read. An event in several sets of the report counts once.

use super::reader::StatementRunner;
use super::report::Plan;
use crate::query::ask::selection::Traffic;
use crate::query::ask::{Select, Selection};
use crate::query::sql::Statement;

/// The number for `plan`; none where the report does not tell which events it is about, or one statement cannot tell all of them.
/// May go wrong: the time of the question is over, or the store refuses; the answer is there all the same.
pub(super) async fn count(plan: &dyn Plan, runner: &mut StatementRunner<'_>) -> Option<u64> {
    let sets = plan.event_sets();
    let first = sets.first()?;
    let scope = runner.scope(first.range);
    if scope.traffic() == Traffic::All {
        return Some(0);
    }
    let bots = Selection::of_bots(scope, &sets);
    let statement = Statement::from(Select::default().column("count()").from(bots));
    if !statement.fits() {
        return None;
    }
    match runner.rows(statement).await {
        Ok(rows) => rows.first().map(|row| row.cell(0).uint()),
        Err(problem) => {
            tracing::debug!(%problem, "the events of bots are not counted");
            None
        }
    }
}
