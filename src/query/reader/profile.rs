//! The settings profile of the reading user. On a server of one's own pulse can only read it, and warn.

use std::time::Duration;

use super::{Reader, StoreReader};
use crate::query::error::QueryError;
use crate::query::sql::Statement;

/// Settings without which a question may change something, or take all there is: of the embedded engine pulse sets them itself.
const LIMITS: [&str; 6] = [
    "readonly",
    "max_execution_time",
    "max_memory_usage",
    "max_rows_to_read",
    "max_result_bytes",
    "cancel_http_readonly_queries_on_client_close",
];
/// What must be off, and how that is written: see the engine's configuration.
const OFF: [&str; 2] = ["use_query_condition_cache", "use_query_condition_cache = 0"];
const ASK: &str = "SELECT name, value FROM system.settings WHERE name IN ('readonly', 'max_execution_time', 'max_memory_usage', \
    'max_rows_to_read', 'max_result_bytes', 'cancel_http_readonly_queries_on_client_close', 'use_query_condition_cache')";

/// How long the server may take to name its limits.
const WITHIN: Duration = Duration::from_secs(30);

/// The limits that are not set for the user of `store`.
///
/// # Errors
/// The server does not answer.
pub async fn missing_limits(store: &StoreReader) -> Result<Vec<&'static str>, QueryError> {
    missing(&Reader::new(store.clone(), super::QueryLimits::default())).await
}

pub(crate) async fn missing(reader: &Reader) -> Result<Vec<&'static str>, QueryError> {
    let rows = reader.watch(0, WITHIN).rows(Statement::default().sql(ASK)).await?;
    let is_set = |name: &str| {
        rows.iter().any(|row| {
            let [setting, value] = row.columns();
            setting.text() == name && value.text() != "0"
        })
    };
    let is_on = is_set(OFF[0]).then_some(OFF[1]);
    Ok(LIMITS.into_iter().filter(|name| !is_set(name)).chain(is_on).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::query::reader::{Answer, QueryLimits, Run};

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
        assert_eq!(missing(&Reader::new(profile, QueryLimits::default())).await.unwrap(), expected);
        let profile = Profile("[\"use_query_condition_cache\",\"1\"]\n");
        let named = missing(&Reader::new(profile, QueryLimits::default())).await.unwrap();
        assert_eq!((named.len(), named.last()), (LIMITS.len() + 1, Some(&OFF[1])));
    }
}
