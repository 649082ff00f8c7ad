//! What every question may say beside the fields of its report.

use serde_json::Value;

use super::selection::Traffic;
use crate::query::error::QueryError;

/// Checked; no longer in the request that is left for the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Common {
    /// `refresh`: the answer is computed anew.
    pub(crate) refresh: bool,
    /// `include_bots`: whose events are looked at.
    pub(crate) traffic: Traffic,
}

impl Common {
    /// Takes it out of a request. A bar's people are those of the bar's own request: what that says of bots counts.
    ///
    /// # Errors
    /// 400 `invalid_refresh`, `invalid_include_bots`.
    pub(crate) fn take(request: &mut Value) -> Result<Self, QueryError> {
        let refresh = take_flag(request, "refresh", "invalid_refresh")?;
        let is_of_bar = request.get("of").is_some_and(Value::is_object);
        let request = if is_of_bar { &mut request["of"] } else { request };
        let includes_bots = take_flag(request, "include_bots", "invalid_include_bots")?;
        Ok(Self { refresh, traffic: if includes_bots { Traffic::All } else { Traffic::People } })
    }
}

fn take_flag(request: &mut Value, key: &str, code: &'static str) -> Result<bool, QueryError> {
    let Value::Object(object) = request else { return Ok(false) };
    match object.remove(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(QueryError::invalid(code, format!("`{key}` must be true or false"))),
    }
}
