//! Statements sent to ClickHouse as its reading user.
//!
//! Owns the translation both ways. An error of ClickHouse becomes one for people; its own words go to the log alone, because they
//! may name hosts and SQL.

use super::{Answer, Run, TakePiece};
use crate::clickhouse::{ClickHouse, ClickHouseError, Client, ErrorClass, Format, Statement};
use crate::metrics::Counter;
use crate::query::error::QueryError;

/// Runs statements as the reader of a store. Cheap to clone.
#[derive(Clone)]
pub struct StoreReader(Client);

impl StoreReader {
    /// Reads the tables of `store`.
    pub fn new(store: &ClickHouse) -> Self {
        Self(store.reader.clone())
    }
}

impl Run for StoreReader {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        Counter::Statements.add(1);
        let answer = self.0.query(&statement, Format::Json).await.map_err(|problem| refused(&problem))?;
        Counter::StatementRowsRead.add(answer.read_rows);
        Ok(answer)
    }

    async fn stream<'a>(&'a self, statement: Statement, take: &'a mut TakePiece<'a>) -> Result<u64, QueryError> {
        Counter::Statements.add(1);
        let rows = self.0.stream(&statement, take).await.map_err(|problem| refused(&problem))?;
        Counter::StatementRowsRead.add(rows);
        Ok(rows)
    }

    async fn file(&self, statement: Statement, format: &'static str) -> Result<Answer, QueryError> {
        Counter::Statements.add(1);
        let answer = self.0.query(&statement, Format::File(format)).await.map_err(|problem| refused(&problem))?;
        Counter::StatementRowsRead.add(answer.read_rows);
        Ok(answer)
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
}
