//! The store of the reports: ClickHouse, as a user who can only read and only within limits.

use super::error::QueryError;
use super::run::{Answer, Run};
use super::sql::Statement;
use crate::clickhouse::{self, ClickHouse, ClickHouseError, Client};

/// Runs statements as the guarded reader.
pub struct Reader(Client);

impl Reader {
    /// Reads from `store`.
    pub fn new(store: &ClickHouse) -> Self {
        Self(store.reader.clone())
    }
}

impl Run for Reader {
    async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
        let params = statement.params().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let statement = clickhouse::Statement { sql: statement.text().to_owned(), params, query_id: None };
        match self.0.query(&statement, "JSONCompactEachRow").await {
            Ok(answer) => Ok(Answer { body: answer.body, read_rows: answer.read_rows }),
            Err(ClickHouseError::Server { code, message }) => {
                tracing::warn!(code, message, "query refused by the store");
                Err(QueryError::of_clickhouse(code))
            }
            Err(problem) => {
                tracing::warn!(%problem, "query");
                Err(QueryError::unavailable("store_unavailable", "the store cannot answer now"))
            }
        }
    }
}
