//! What a filter, breakdown or math can name: a column or `properties.<name>`.

use super::error::{QueryError, nearest};
use super::request::shortened;
use super::sql::Statement;

/// Longest property name that can be asked for, in bytes.
const MAX_NAME: usize = 512;

/// Something an event has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Field {
    /// Text under this SQL expression; empty means missing.
    Text(&'static str),
    /// A whole number under this column; 0 means missing.
    Number(&'static str),
    /// A property by its (dotted) name.
    Property(String),
}

const SESSION: &str = "if(client_session_id != '', client_session_id, toString(session_id))";

/// Wire name and SQL of every text field.
const TEXTS: [(&str, &str); 42] = [
    ("type", "type"),
    ("eventId", "toString(event_id)"),
    ("userId", "user_id"),
    ("user_id", "user_id"),
    ("anonymousId", "anonymous_id"),
    ("anonymous_id", "anonymous_id"),
    ("sessionId", SESSION),
    ("session_id", SESSION),
    ("country", "country"),
    ("region", "region"),
    ("city", "city"),
    ("network", "network"),
    ("browser", "browser"),
    ("browser_version", "browser_version"),
    ("os", "os"),
    ("os_version", "os_version"),
    ("device_type", "device_type"),
    ("device_model", "device_model"),
    ("device_manufacturer", "device_manufacturer"),
    ("bot", "bot"),
    ("app_name", "app_name"),
    ("app_version", "app_version"),
    ("app_build", "app_build"),
    ("locale", "locale"),
    ("timezone", "timezone"),
    ("page_url", "page_url"),
    ("page_host", "page_host"),
    ("page_path", "page_path"),
    ("page_title", "page_title"),
    ("page_search", "page_search"),
    ("referrer", "referrer"),
    ("referrer_domain", "referrer_domain"),
    ("channel", "channel"),
    ("campaign_source", "campaign_source"),
    ("campaign_medium", "campaign_medium"),
    ("campaign_name", "campaign_name"),
    ("campaign_term", "campaign_term"),
    ("campaign_content", "campaign_content"),
    ("click_id_kind", "click_id_kind"),
    ("page_referrer", "referrer"),
    ("event_id", "toString(event_id)"),
    ("event", "type"),
];
const NUMBERS: [(&str, &str); 2] = [("screen_width", "screen_width"), ("screen_height", "screen_height")];

impl Field {
    /// The field called `name` on the wire.
    ///
    /// # Errors
    /// 400 `invalid_field` (naming the nearest) or `invalid_property`.
    pub(crate) fn parse(name: &str) -> Result<Self, QueryError> {
        if let Some(property) = name.strip_prefix("properties.") {
            return Self::property(property);
        }
        let find = |table: &[(&'static str, &'static str)]| table.iter().find(|(wire, _)| *wire == name).map(|(_, sql)| *sql);
        if let Some(sql) = find(&TEXTS) {
            return Ok(Self::Text(sql));
        }
        if let Some(sql) = find(&NUMBERS) {
            return Ok(Self::Number(sql));
        }
        let hint = nearest(name, TEXTS.iter().chain(&NUMBERS).map(|(wire, _)| *wire));
        let name = shortened(name);
        Err(QueryError::invalid("invalid_field", format!("unknown field `{name}`, did you mean `{hint}` or `properties.{name}`?")))
    }

    /// The number that a math works on: `properties.<name>`, a numeric column, or the bare name of a property.
    pub(crate) fn measured(name: &str) -> Result<Self, QueryError> {
        match NUMBERS.iter().find(|(wire, _)| *wire == name) {
            Some((_, sql)) => Ok(Self::Number(sql)),
            None => Self::property(name.strip_prefix("properties.").unwrap_or(name)),
        }
    }

    fn property(name: &str) -> Result<Self, QueryError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(QueryError::invalid("invalid_property", format!("a property name has 1 to {MAX_NAME} bytes")));
        }
        Ok(Self::Property(name.to_owned()))
    }

    /// Appends the value as a key: `n` + number, `s` + text, `o` + JSON (a number that a float cannot hold, too), or `z` where it is
    /// missing or null.
    pub(crate) fn key(&self, to: Statement) -> Statement {
        match self {
            Self::Text(sql) => to.sql("if(").sql(sql).sql(" = '', 'z', concat('s', ").sql(sql).sql("))"),
            Self::Number(sql) => to.sql("if(").sql(sql).sql(" = 0, 'z', concat('n', toString(").sql(sql).sql(")))"),
            Self::Property(name) => {
                let to = to.sql("multiIf(mapContains(strings, ").string(name).sql("), concat('s', strings[").string(name);
                // Adding zero makes one of the two.
                let to = to.sql("]), mapContains(numbers, ").string(name).sql("), concat('n', toString(numbers[").string(name);
                let to = to.sql("] + 0)), others[").string(name).sql("] NOT IN ('', 'null'), concat('o', others[").string(name);
                to.sql("]), 'z')")
            }
        }
    }

    /// Appends the condition that the value is missing or null.
    pub(crate) fn is_missing(&self, to: Statement) -> Statement {
        match self {
            Self::Text(sql) => to.sql(sql).sql(" = ''"),
            Self::Number(sql) => to.sql(sql).sql(" = 0"),
            Self::Property(name) => {
                let to = to.sql("NOT mapContains(strings, ").string(name).sql(") AND NOT mapContains(numbers, ").string(name);
                to.sql(") AND others[").string(name).sql("] IN ('', 'null')")
            }
        }
    }

    /// Appends the value as a float; meaningful where [`Field::has_number`] holds.
    pub(crate) fn number(&self, to: Statement) -> Statement {
        match self {
            Self::Text(sql) => to.sql("toFloat64OrZero(").sql(sql).sql(")"),
            Self::Number(sql) => to.sql(sql),
            Self::Property(name) => {
                let to = to.sql("if(mapContains(numbers, ").string(name).sql("), numbers[").string(name);
                to.sql("], toFloat64OrZero(others[").string(name).sql("]))")
            }
        }
    }

    /// Appends the condition that there is a number.
    pub(crate) fn has_number(&self, to: Statement) -> Statement {
        match self {
            Self::Text(_) => to.sql("0"),
            Self::Number(sql) => to.sql(sql).sql(" != 0"),
            Self::Property(name) => {
                let to = to.sql("(mapContains(numbers, ").string(name).sql(") OR match(others[").string(name);
                to.sql("], '^[-0-9]'))")
            }
        }
    }
}
