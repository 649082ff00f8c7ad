//! Statements sent to ClickHouse as its reading user.
//!
//! Owns the translation both ways. An error of ClickHouse becomes one for people; its own words go to the log alone, because they
//! may name hosts and SQL.

use super::{Answer, Run, RunningStatement, TakePiece};
use crate::clickhouse::{ClickHouse, ClickHouseError, Client, ErrorClass, Format, Statement, Whole};
use crate::metrics::Counter;
use crate::query::error::QueryError;

/// Runs statements as the reader of a store. Cheap to clone.
#[derive(Clone)]
pub struct StoreReader {
    reader: Client,
    /// Who may see what runs, which the reader may not.
    writer: Client,
}

impl StoreReader {
    /// Reads the tables of `store`.
    pub fn new(store: &ClickHouse) -> Self {
        Self { reader: store.reader.clone(), writer: store.writer.clone() }
    }
}

impl Run for StoreReader {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        Counter::Statements.add(1);
        let answer = self.reader.query(&statement, Format::Json).await.map_err(|problem| refused(&problem))?;
        Counter::StatementRowsRead.add(answer.read_rows);
        Ok(answer)
    }

    async fn stream<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> Result<u64, QueryError> {
        Counter::Statements.add(1);
        let rows = self.reader.stream(&statement, take).await.map_err(|problem| refused(&problem))?;
        Counter::StatementRowsRead.add(rows);
        Ok(rows)
    }

    async fn file(&self, statement: Statement, format: &'static str) -> Result<Answer, QueryError> {
        Counter::Statements.add(1);
        let answer = self.reader.query(&statement, Format::File(format)).await.map_err(|problem| refused(&problem))?;
        Counter::StatementRowsRead.add(answer.read_rows);
        Ok(answer)
    }

    async fn running(&self, ids: String) -> Result<Vec<RunningStatement>, QueryError> {
        let to = Statement::of("SELECT query_id, read_rows FROM system.processes WHERE startsWith(query_id, ").string(&ids).sql(")");
        let running = self.writer.rows::<(String, Whole<u64>)>(&to).await.map_err(|problem| QueryError::of_store(problem.class()))?;
        Ok(running.into_iter().map(|(id, rows_read)| RunningStatement { id, rows_read: rows_read.0 }).collect())
    }
}

fn refused(problem: &ClickHouseError) -> QueryError {
    let class = problem.class();
    let shown = QueryError::of_store(class);
    // An open breaker was logged when it opened.
    if shown.class.is_ours() && !matches!(class, ErrorClass::NotSent(_)) {
        tracing::warn!(code = shown.code, %problem, "query failed");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_store_says_never_reaches_the_client() {
        let secret = "host ch1 in SELECT".to_owned();
        for problem in [
            ClickHouseError::Server { code: 62, message: secret.clone() },
            ClickHouseError::Server { code: 241, message: secret.clone() },
            ClickHouseError::Network(secret),
        ] {
            assert!(!refused(&problem).to_string().contains("ch1"), "{problem}");
        }
    }

    #[test]
    fn a_store_that_has_too_much_to_do_is_asked_again() {
        // Memory that the machine does not have, threads, a server that refuses at once, and too many statements.
        for code in [173, 439, 745, 202] {
            let refused = refused(&ClickHouseError::Server { code, message: String::new() });
            assert_eq!((refused.code, refused.retry_after), ("overloaded", Some(1)), "{code}");
            assert!(refused.is_overload(), "an older answer is better than none: {code}");
        }
    }

    #[test]
    fn memory_of_the_whole_server_is_asked_for_again_and_that_of_one_query_is_not() {
        let refused = |message: &str| refused(&ClickHouseError::Server { code: 241, message: message.to_owned() });
        let whole = refused(
            "Code: 241. DB::Exception: (total) memory limit exceeded: would use 10.08 GiB (attempt to allocate chunk of 4.49 MiB), \
             current RSS: 1.83 GiB, maximum: 8.40 GiB. (MEMORY_LIMIT_EXCEEDED)",
        );
        assert_eq!((whole.code, whole.retry_after, whole.is_overload()), ("overloaded", Some(1), true));
        assert!(whole.takes_too_much(), "what takes less is tried at once");
        assert!(!whole.has_cost_nothing(), "it ran");
        let of_one = refused("Code: 241. DB::Exception: Query memory limit exceeded: would use 2.01 GiB, maximum: 2.00 GiB.");
        assert_eq!((of_one.code, of_one.retry_after, of_one.is_overload()), ("query_too_expensive", None, false));
        assert!(of_one.takes_too_much() && refused("User memory limit exceeded").is_overload());
    }
}
