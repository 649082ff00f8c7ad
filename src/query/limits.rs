//! What keeps the reader of a server within bounds: a profile of that server, of which pulse can only ask.

use super::error::QueryError;
use super::run::{Run, StatementRunner};
use super::sql::Statement;

/// Settings without which a question may change something, or take all there is: of the embedded engine pulse sets them itself.
const LIMITS: [&str; 6] = [
    "readonly",
    "max_execution_time",
    "max_memory_usage",
    "max_rows_to_read",
    "max_result_bytes",
    "cancel_http_readonly_queries_on_client_close",
];
const ASK: &str = "SELECT name, value FROM system.settings WHERE name IN ('readonly', 'max_execution_time', 'max_memory_usage', \
    'max_rows_to_read', 'max_result_bytes', 'cancel_http_readonly_queries_on_client_close')";

/// The limits that are not set for who reads through `run`.
///
/// # Errors
/// The server does not answer.
pub async fn missing(run: &impl Run) -> Result<Vec<&'static str>, QueryError> {
    let rows = StatementRunner::new(run, 0).rows(Statement::default().sql(ASK)).await?;
    let is_set = |name: &str| rows.iter().any(|row| row.text(0) == name && row.text(1) != "0");
    Ok(LIMITS.into_iter().filter(|name| !is_set(name)).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::query::run::Answer;

    struct Profile(&'static str);

    impl Run for Profile {
        async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
            assert!(LIMITS.iter().all(|name| statement.text().contains(&format!("'{name}'"))));
            Ok(Answer { body: Bytes::from_static(self.0.as_bytes()), read_rows: 0 })
        }
    }

    #[tokio::test]
    async fn a_limit_is_missing_that_is_nought_or_not_there() {
        let profile = Profile("[\"readonly\",\"1\"]\n[\"max_execution_time\",\"0\"]\n[\"max_memory_usage\",\"1000\"]\n");
        let expected = ["max_execution_time", "max_rows_to_read", "max_result_bytes", "cancel_http_readonly_queries_on_client_close"];
        assert_eq!(missing(&profile).await.unwrap(), expected);
    }
}
