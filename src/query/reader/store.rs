//! Statements sent to ClickHouse as its reading user.
//!
//! Owns the translation both ways. An error of ClickHouse becomes one for people; its own words go to the log alone, because they
//! may name hosts and SQL.

use super::{Answer, Run};
use crate::clickhouse::{ClickHouse, ClickHouseError, Client, Format, Statement};
use crate::metrics::Counter;
use crate::query::error::QueryError;
use crate::query::sql;

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
    async fn run(&self, statement: sql::Statement) -> Result<Answer, QueryError> {
        let asked = statement.params().fold(Statement::of(statement.text()), |asked, (name, value)| asked.bind(&name, value));
        Counter::Statements.add(1);
        match self.0.query(&asked, Format::Json).await {
            Ok(answer) => Ok(Answer { body: answer.body, read_rows: answer.read_rows }),
            Err(problem) => Err(refused(&problem)),
        }
    }
}

fn refused(problem: &ClickHouseError) -> QueryError {
    let shown = match problem {
        ClickHouseError::Server { code, .. } => QueryError::of_clickhouse(*code),
        ClickHouseError::Network(_) => unavailable(),
        ClickHouseError::TimedOut(_) => QueryError::too_slow(),
        ClickHouseError::TooLarge(_) => QueryError::too_large(),
        ClickHouseError::LeftAlone(pause) => QueryError { retry_after: Some(pause.as_secs() as u32 + 1), ..unavailable() },
    };
    // An open breaker was logged when it opened.
    if shown.class.is_ours() && !matches!(problem, ClickHouseError::LeftAlone(_)) {
        tracing::warn!(code = shown.code, %problem, "query failed");
    }
    shown
}

fn unavailable() -> QueryError {
    QueryError::unavailable("store_unavailable", "the store cannot be reached")
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
