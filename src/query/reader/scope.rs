//! The last look at a statement before it is sent: whatever reads a table of projects reads one project of it.

use crate::event::ids::ProjectId;
use crate::query::sql::Statement;
use crate::store::revisions::SESSION;

/// Tables that hold rows of all projects.
const TABLES: [&str; 3] = [" FROM events", " FROM dead_letters", " FROM identities"];
/// What stands between the table and the condition where a statement reads sessions or traits too. Within the first of them is another table, and
/// within the second another one with its first.
const REVISED: [&str; 2] = [" GLOBAL ANY LEFT JOIN (SELECT visitor_id", ") AS revisions USING (visitor_id)"];
const OF_SESSION: [&str; 2] = [" GLOBAL ANY LEFT JOIN (SELECT ", ") AS of_session ON of_session_key = "];
const OF_PERSON: [&str; 2] = [" GLOBAL ANY LEFT JOIN (SELECT ", ") AS of_person ON "];
/// Ends what the traits of a person are joined by.
const OF_PERSON_KEY: &str = " = of_person_key";
/// What is said of sessions, by project.
const REVISIONS: &str = " WHERE project_id = 0 AND type = '$session' AND person_id = ";
/// The condition of a project's rows.
const OWN: &str = " WHERE project_id = ";
/// The books and arrivals, which concern all projects.
const BOOKS: [&str; 2] = [" WHERE project_id = 0 AND type = '$books'", " WHERE project_id = 0 AND type = '$arrivals'"];
/// How far each partition of the log is stored, of all rows: a projection answers it, which a condition would keep from doing so.
pub(crate) const PLACES: &str = "SELECT log_epoch, log_partition, max(log_offset) FROM events GROUP BY log_epoch, log_partition";

/// Whether `statement` reads rows of `project` alone, books, and places of the log.
pub(super) fn is_of(project: ProjectId, statement: &Statement) -> bool {
    let text = statement.text();
    text == PLACES
        || TABLES.iter().flat_map(|table| text.match_indices(table)).all(|(at, table)| {
            let rest = &text[at + table.len()..];
            let rest = rest.strip_prefix(" FINAL").unwrap_or(rest);
            let rest = without_sessions(rest).unwrap_or(rest);
            let rest = without_traits(rest).unwrap_or(rest);
            let bound = parameter(statement, rest, REVISIONS).or_else(|| parameter(statement, rest, OWN));
            BOOKS.iter().any(|books| rest.starts_with(books)) || bound.is_some_and(|bound| bound == project.0)
        })
}

/// What follows on the joins of sessions. What is in it is looked at by itself: it reads a table too.
fn without_sessions<'t>(rest: &'t str) -> Option<&'t str> {
    let behind = |rest: &'t str, [begin, end]: [&str; 2]| rest.strip_prefix(begin)?.split_once(end).map(|(_, rest)| rest);
    let rest = behind(rest, REVISED)?;
    Some(behind(rest, OF_SESSION).and_then(|rest| rest.strip_prefix(SESSION)).unwrap_or(rest))
}

/// What follows on the join of traits. What is in it, and in who they are joined to, is looked at by itself.
fn without_traits(rest: &str) -> Option<&str> {
    let [begin, end] = OF_PERSON;
    let (_, rest) = rest.strip_prefix(begin)?.split_once(end)?;
    rest.split_once(OF_PERSON_KEY).map(|(_, rest)| rest)
}

/// The project that a text behind the name of a table asks for by `condition`.
fn parameter(statement: &Statement, rest: &str, condition: &str) -> Option<u64> {
    let index: usize = rest.strip_prefix(condition)?.strip_prefix("{p")?.split_once(':')?.0.parse().ok()?;
    statement.params().nth(index)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ProjectId = ProjectId(7);

    fn of(project: u64) -> Statement {
        Statement::default().sql("SELECT count() FROM events WHERE project_id = ").uint(project)
    }

    fn with_sessions(project: u64, of_revisions: u64) -> Statement {
        let to = Statement::default().sql("SELECT count() FROM events GLOBAL ANY LEFT JOIN (SELECT visitor_id FROM events");
        let to = to.sql(" WHERE project_id = 0 AND type = '$session' AND person_id = ").uint(of_revisions);
        to.sql(" GROUP BY visitor_id) AS revisions USING (visitor_id) WHERE project_id = ").uint(project)
    }

    fn with_columns_of_sessions(project: u64, of_sessions: u64) -> Statement {
        let revised = |to: Statement| {
            let to = to.sql(" FROM events GLOBAL ANY LEFT JOIN (SELECT visitor_id FROM events");
            let to = to.sql(" WHERE project_id = 0 AND type = '$session' AND person_id = ").uint(7);
            to.sql(" GROUP BY visitor_id) AS revisions USING (visitor_id)")
        };
        let to = revised(Statement::default().sql("SELECT count()")).sql(" GLOBAL ANY LEFT JOIN (");
        let to = revised(to.sql("SELECT 1")).sql(" WHERE project_id = ").uint(of_sessions).sql(" GROUP BY of_session_key");
        to.sql(") AS of_session ON of_session_key = ").sql(SESSION).sql(" WHERE project_id = ").uint(project)
    }

    fn with_traits(project: u64, of_traits: u64) -> Statement {
        let to = Statement::of("SELECT count() FROM events GLOBAL ANY LEFT JOIN (SELECT person_id AS of_person_key FROM events");
        let to = to.sql(" WHERE project_id = ").uint(of_traits).sql(" GROUP BY of_person_key) AS of_person ON person_id = of_person_key");
        to.sql(" WHERE project_id = ").uint(project)
    }

    #[test]
    fn a_statement_of_one_project_and_the_books_are_sent() {
        let join = of(7).sql(" AND person_id IN (SELECT person_id FROM events WHERE project_id = ").uint(7).sql(")");
        let letters = Statement::default().sql("SELECT 1 FROM dead_letters FINAL WHERE project_id = ").uint(7);
        let books = Statement::default().sql("SELECT 1 FROM events WHERE project_id = 0 AND type = '$books'");
        for sent in [
            of(7),
            with_sessions(7, 7),
            with_columns_of_sessions(7, 7),
            with_traits(7, 7),
            join,
            letters,
            books,
            Statement::default().sql("SELECT 1 FROM system.settings"),
            Statement::default().sql(PLACES),
        ] {
            assert!(is_of(OURS, &sent), "{}", sent.text());
        }
    }

    #[test]
    fn a_statement_without_its_project_in_every_part_is_not_sent() {
        let everyone = Statement::default().sql("SELECT count() FROM events");
        let half = of(7).sql(" AND person_id IN (SELECT person_id FROM events)");
        let others = of(7).sql(" AND person_id IN (SELECT person_id FROM events WHERE project_id = ").uint(8).sql(")");
        let letters = Statement::default().sql("SELECT 1 FROM dead_letters FINAL");
        let fixed = Statement::default().sql("SELECT count() FROM events WHERE project_id = 0");
        for kept in [
            of(8),
            with_sessions(8, 7),
            with_sessions(7, 8),
            with_columns_of_sessions(8, 7),
            with_columns_of_sessions(7, 8),
            with_traits(8, 7),
            with_traits(7, 8),
            everyone,
            half,
            others,
            letters,
            fixed,
            Statement::default().sql(PLACES).sql(" UNION ALL SELECT count() FROM events"),
        ] {
            assert!(!is_of(OURS, &kept), "{}", kept.text());
        }
    }
}
