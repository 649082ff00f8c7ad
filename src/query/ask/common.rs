//! What every question may say beside the fields of its report.

use serde_json::Value;

use super::as_of::AsOf;
use super::selection::Traffic;
use crate::query::error::QueryError;

/// Checked; no longer in the request that is left for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Common {
    /// `refresh`: the answer is computed anew.
    pub(crate) refresh: bool,
    /// `include_bots`: whose events are looked at.
    pub(crate) traffic: Traffic,
    /// `as_of`: what was there when another question was answered; everything without.
    pub(crate) as_of: Option<AsOf>,
}

impl Common {
    /// When it is asked, as far as its answer is concerned, of a question asked at `now_ms`; milliseconds since 1970.
    pub(crate) fn now_ms(&self, now_ms: i64) -> i64 {
        self.as_of.as_ref().map_or(now_ms, |as_of| as_of.now_ms)
    }

    /// Takes it out of a request. A bar's people are those of the bar's own request: what that says of bots, and of what was there,
    /// counts.
    ///
    /// # Errors
    /// 400 `invalid_refresh`, `invalid_include_bots`, `invalid_as_of`.
    pub(crate) fn take(request: &mut Value) -> Result<Self, QueryError> {
        let refresh = take_flag(request, "refresh", "invalid_refresh")?;
        let is_of_bar = request.get("of").is_some_and(Value::is_object);
        let request = if is_of_bar { &mut request["of"] } else { request };
        let includes_bots = take_flag(request, "include_bots", "invalid_include_bots")?;
        let as_of = take_as_of(request)?;
        Ok(Self { refresh, traffic: if includes_bots { Traffic::All } else { Traffic::People }, as_of })
    }
}

fn take_as_of(request: &mut Value) -> Result<Option<AsOf>, QueryError> {
    let unknown = || QueryError::invalid("invalid_as_of", "`as_of` must be what `meta.as_of` of an answer says");
    match request.as_object_mut().and_then(|object| object.remove("as_of")) {
        None | Some(Value::Null) => Ok(None),
        Some(text) => text.as_str().and_then(AsOf::parse).map(Some).ok_or_else(unknown),
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
