//! Plausible: rows of `events_v2`, the table of events of an instance of one's own, as JSON or as a table.
//!
//! What its screen exports are sums by day, of which no event can be made: such files are refused. `user_id` is a visitor of one day.

use serde_json::{Map, Value as Json, json};

use super::words::as_live;
use super::{CAMPAIGN, Export, Record, Translation, no_event, properties, say, say_columns, say_place, time_of};
use crate::cli::import::malformed::Malformed;
use crate::cli::import::times::Times;

pub(super) struct Plausible;

/// Why an export of its screen is none of events.
const SUMS: &str = "what Plausible exports are sums by day, of which no event can be made: who came, when and in what order is not in \
                    them. Of an instance of your own import the rows of `events_v2`, \
                    `SELECT * FROM events_v2 FORMAT JSONEachRow`; else keep the file, and count from the day on which you changed";

impl Export for Plausible {
    fn event(&self, mut record: Record, times: &Times) -> Result<Translation, Malformed> {
        if record.get("name").is_none() && record.get("visitors").is_some() {
            return Err(no_event("sums, not an event".to_owned()));
        }
        let mut event = Map::new();
        event.insert("timestamp".to_owned(), time_of(record.take("timestamp"), times)?);
        let name = record.take("name").ok_or_else(|| no_event("the record has no `name`".to_owned()))?;
        // Of any other event a column says 0, and of one that knows none 255.
        let depth = number(record.take("scroll_depth")).filter(|depth| name == "engagement" && *depth != json!(255.0));
        event.insert("type".to_owned(), if name == "pageview" { json!("page") } else { name });
        for (name, column) in [("anonymousId", "user_id"), ("sessionId", "session_id")] {
            // Numbers of 64 bits, which JSON may hold as a text.
            let id = record.take(column).map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
            event.extend(id.map(|id| (name.to_owned(), Json::from(id))));
        }
        let text = |record: &Record, name: &str| record.text(name).unwrap_or_default().to_owned();
        let url = format!("https://{}{}", text(&record, "hostname"), text(&record, "pathname"));
        say(&mut event, ["page", "url"], record.get("hostname").map(|_| json!(url)));
        // Of a page that is told apart by what stands behind `#` that is a part of the path.
        say(&mut event, ["page", "path"], record.text("pathname").filter(|path| path.contains('#')).map(Json::from));
        let referrer = record.text("referrer").map(|to| if to.contains("://") { to.to_owned() } else { format!("https://{to}") });
        say(&mut event, ["page", "referrer"], referrer.map(Json::from));
        let columns = [
            ("browser", ["browser", "name"]),
            ("browser_version", ["browser", "version"]),
            ("operating_system", ["os", "name"]),
            ("operating_system_version", ["os", "version"]),
        ];
        say_columns(&mut event, &mut record, &columns);
        say_columns(&mut event, &mut record, &CAMPAIGN);
        let size = record.text("screen_size").map(str::to_lowercase);
        say(&mut event, ["device", "type"], size.map(Json::from));
        as_live(&mut event);
        // A country of which nothing is known is two zeros.
        let country = record.take("country_code").filter(|code| code.as_str().is_some_and(|code| !code.contains('\0')));
        say_place(&mut event, [country, record.take("subdivision1_code"), None]);
        let (keys, values) = (list(&record, "meta.key")?, list(&record, "meta.value")?);
        let meta = keys.iter().zip(values).filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value)));
        let amount = number(record.take("revenue_source_amount"));
        let currency = record.take("revenue_source_currency").filter(|_| amount.is_some());
        let engagement = number(record.take("engagement_time")).filter(|spent| *spent != json!(0.0));
        let kept = [("revenue", amount), ("currency", currency), ("engagement_ms", engagement), ("scroll_depth", depth)];
        let kept = kept.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        if let Some(properties) = properties(&mut event) {
            properties.extend(meta.chain(kept));
        }
        Ok(Translation { event, traits: None })
    }

    fn columns(&self) -> &'static [&'static str] {
        &["name", "timestamp", "user_id"]
    }

    fn refuse(&self, columns: &[String]) -> Option<&'static str> {
        let has = |name: &str| columns.iter().any(|column| column == name);
        (has("date") && !has("timestamp")).then_some(SUMS)
    }
}

/// A list, which tables hold as a text. Errors: it is something else.
fn list(record: &Record, name: &str) -> Result<Vec<Json>, Malformed> {
    let none = || Malformed::new("invalid_json", format!("`{name}` is no list"));
    match record.get(name) {
        None => Ok(Vec::new()),
        Some(Json::Array(list)) => Ok(list.clone()),
        Some(Json::String(text)) => serde_json::from_str(text).ok().or_else(|| texts(text)).ok_or_else(none),
        Some(_) => Err(none()),
    }
}

/// The texts of a list as ClickHouse writes it: `['a','it\'s']`.
fn texts(list: &str) -> Option<Vec<Json>> {
    let mut letters = list.strip_prefix('[')?.strip_suffix(']')?.chars();
    let mut texts = Vec::new();
    while let Some(first) = letters.next() {
        match first {
            '\'' => texts.push(Json::String(text(&mut letters)?)),
            ',' => {}
            _ => return None,
        }
    }
    Some(texts)
}

/// What stands before the quote that closes.
fn text(letters: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::new();
    loop {
        match letters.next()? {
            '\'' => return Some(text),
            '\\' => text.push(match letters.next()? {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                letter => letter,
            }),
            letter => text.push(letter),
        }
    }
}

/// A number, which JSON of ClickHouse may hold as a text.
fn number(value: Option<Json>) -> Option<Json> {
    let value = value?;
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).map(Json::from)
}
