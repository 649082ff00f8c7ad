//! The last look at a statement before it is sent: whatever reads a table of projects reads one project of it.

use crate::event::ids::ProjectId;
use crate::query::sql::Statement;

/// Tables that hold rows of all projects.
const TABLES: [&str; 2] = [" FROM events", " FROM dead_letters"];
/// The books, which concern all projects.
const BOOKS: &str = " WHERE project_id = 0 AND type = '$books'";

/// Whether `statement` reads rows of `project` alone, and books.
pub(super) fn is_of(project: ProjectId, statement: &Statement) -> bool {
    let text = statement.text();
    TABLES.iter().flat_map(|table| text.match_indices(table)).all(|(at, table)| {
        let rest = &text[at + table.len()..];
        let rest = rest.strip_prefix(" FINAL").unwrap_or(rest);
        rest.starts_with(BOOKS) || parameter(statement, rest).is_some_and(|bound| bound == project.0)
    })
}

/// The value of `project_id` that a text behind the name of a table asks for.
fn parameter(statement: &Statement, rest: &str) -> Option<u64> {
    let index: usize = rest.strip_prefix(" WHERE project_id = {p")?.split_once(':')?.0.parse().ok()?;
    statement.params().nth(index)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: ProjectId = ProjectId(7);

    fn of(project: u64) -> Statement {
        Statement::default().sql("SELECT count() FROM events WHERE project_id = ").uint(project)
    }

    #[test]
    fn a_statement_of_one_project_and_the_books_are_sent() {
        let join = of(7).sql(" AND person_id IN (SELECT person_id FROM events WHERE project_id = ").uint(7).sql(")");
        let letters = Statement::default().sql("SELECT 1 FROM dead_letters FINAL WHERE project_id = ").uint(7);
        let books = Statement::default().sql("SELECT 1 FROM events WHERE project_id = 0 AND type = '$books'");
        for sent in [of(7), join, letters, books, Statement::default().sql("SELECT 1 FROM system.settings")] {
            assert!(is_of(OWN, &sent), "{}", sent.text());
        }
    }

    #[test]
    fn a_statement_without_its_project_in_every_part_is_not_sent() {
        let everyone = Statement::default().sql("SELECT count() FROM events");
        let half = of(7).sql(" AND person_id IN (SELECT person_id FROM events)");
        let others = of(7).sql(" AND person_id IN (SELECT person_id FROM events WHERE project_id = ").uint(8).sql(")");
        let letters = Statement::default().sql("SELECT 1 FROM dead_letters FINAL");
        let fixed = Statement::default().sql("SELECT count() FROM events WHERE project_id = 0");
        for kept in [of(8), everyone, half, others, letters, fixed] {
            assert!(!is_of(OWN, &kept), "{}", kept.text());
        }
    }
}
