//! stub
use serde::{Deserialize, Serialize};
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {}
#[derive(Clone, Debug, Default)]
pub struct QueryLimits {}
impl QueryConfig {
    pub fn check(&self) -> Result<QueryLimits, String> {
        Ok(QueryLimits {})
    }
}
