//! Notes: what happened when, beside the charts: a release, an incident, a holiday.
//!
//! A note follows from its time and its text, so one that is sent again is the same one. Those of a time are found without a look at the
//! others. Bounds: those of [`NOTE`], [`MAX_TEXT`] bytes each, [`PAGE`] an answer.

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::Queries;
use super::ask::Fields;
use super::ask::fields::shortened;
use super::ask::range::{LATEST_MS, check_order, instant_in_utc, show_ms};
use super::error::QueryError;
use super::saved::Kind;
use crate::event::ids::ProjectId;
use crate::store::tables::saved::{NameRange, Saved};

/// A text at a time.
pub(super) const NOTE: Kind =
    Kind { word: "note", invalid: "invalid_note", unknown: "unknown_note", too_many: "too_many_notes", most: 10_000, most_names: 50_000 };
/// Largest request, bytes.
pub(super) const MAX_NOTE: usize = 8 << 10;
/// Longest text, bytes.
const MAX_TEXT: usize = 1_000;
/// Most notes of an answer.
pub(super) const PAGE: usize = 1_000;
/// Longest time that one is about.
const LONGEST_MS: i64 = 31 * 86_400_000;
/// What a note may be about.
const KINDS: [&str; 5] = ["note", "release", "campaign", "incident", "holiday"];
/// Behind every name.
const LAST: &str = "~";

/// A checked note.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) id: String,
    /// As it is saved.
    pub(super) body: String,
}

impl Note {
    /// Reads `{"at", "until", "text", "kind"}`, sent at `now_ms`.
    ///
    /// # Errors
    /// 400 `invalid_note`, `unknown_key`.
    pub(super) fn parse(body: &Value, now_ms: i64) -> Result<Self, QueryError> {
        let fields = Fields::open(body, &["at", "until", "text", "kind"])?;
        let text = fields.text("text", NOTE.invalid)?.map(str::trim).unwrap_or_default();
        if text.is_empty() || text.len() > MAX_TEXT {
            return Err(invalid(format!("`text` has {} bytes: it must have 1 to {MAX_TEXT}", text.len())));
        }
        let kind = fields.text("kind", NOTE.invalid)?.unwrap_or("note");
        if !KINDS.contains(&kind) {
            return Err(invalid(format!("`kind` is `{}`: it must be one of {}", shortened(kind), KINDS.join(", "))));
        }
        let at_ms = match fields.text("at", NOTE.invalid)? {
            None => now_ms,
            Some(text) => instant(text, now_ms).ok_or_else(|| invalid(format!("`at` is `{}`, which is no time", shortened(text))))?,
        };
        let mut note = json!({"at_ms": at_ms, "text": text, "kind": kind});
        if let Some(text) = fields.text("until", NOTE.invalid)? {
            let until_ms = instant(text, now_ms).filter(|until_ms| (at_ms + 1..=at_ms + LONGEST_MS).contains(until_ms));
            let wrong = || invalid(format!("`until` is `{}`, which is no time within 31 days behind `at`", shortened(text)));
            note["until_ms"] = until_ms.ok_or_else(wrong)?.into();
        }
        let body = note.to_string();
        Ok(Self { id: format!("{}-{:016x}", prefix(at_ms), xxh3_64(body.as_bytes())), body })
    }
}

impl Queries {
    /// What somebody has noted as an incident or a holiday, from `from_ms` until `until_ms`.
    ///
    /// # Errors
    /// The store is away.
    pub(crate) async fn unusual(&self, project: ProjectId, from_ms: i64, until_ms: i64) -> Result<Vec<Unusual>, QueryError> {
        let [after, until] = about(from_ms, until_ms);
        let range = NameRange { after: &after, until: &until, limit: NOTE.most };
        Ok(self.0.saved.between(&NOTE, project, range).await?.iter().filter_map(unusual).collect())
    }
}

/// The id that a note of a file has.
///
/// # Errors
/// As [`Note::parse`]; also where its time is none that stays: missing, or relative.
pub(crate) fn note_id(written: &Value) -> Result<String, QueryError> {
    let read = |now_ms| Note::parse(written, now_ms).map(|note| note.id);
    let (id, later) = (read(LATEST_MS / 4)?, read(LATEST_MS / 2)?);
    let invalid = || invalid("`at` must be a time that stays, such as 2026-01-02T09:00:00Z".to_owned());
    if id == later { Ok(id) } else { Err(invalid()) }
}

/// The names of notes of a time begin with this, in the order of times.
fn prefix(at_ms: i64) -> String {
    format!("{at_ms:012x}")
}

fn instant(text: &str, now_ms: i64) -> Option<i64> {
    instant_in_utc(text, now_ms).filter(|at_ms| (0..LATEST_MS).contains(at_ms))
}

/// Which notes are asked for: names behind `after` and before `until`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AskedNotes {
    pub(super) after: String,
    pub(super) until: String,
}

impl AskedNotes {
    /// Reads the parameters `from` (included), `to` (excluded) and `cursor`.
    ///
    /// # Errors
    /// 400 `invalid_range`, `invalid_cursor`, `invalid_parameter`.
    pub(super) fn parse(query: &str, now_ms: i64) -> Result<Self, QueryError> {
        let mut asked = Self { after: String::new(), until: LAST.to_owned() };
        let [mut from_ms, mut to_ms] = [0, LATEST_MS];
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let refused = |code| QueryError::invalid(code, format!("`{key}` is `{}`, which cannot be read", shortened(&value)));
            let time = || instant(&value, now_ms).ok_or_else(|| refused("invalid_range"));
            match &*key {
                "from" => {
                    from_ms = time()?;
                    // No name ends here, so none of that time is left out.
                    asked.after = asked.after.max(prefix(from_ms));
                }
                "to" => {
                    to_ms = time()?;
                    asked.until = prefix(to_ms);
                }
                "cursor" => {
                    let is_name = value.len() == 29 && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
                    asked.after = asked.after.max(is_name.then(|| value.to_string()).ok_or_else(|| refused("invalid_cursor"))?);
                }
                _ => {
                    let message = format!("unknown parameter `{}`: from, to and cursor are known", shortened(&key));
                    return Err(QueryError::invalid("invalid_parameter", message));
                }
            }
        }
        check_order(from_ms, to_ms)?;
        Ok(asked)
    }
}

/// A note as it is shown.
pub(super) fn shown(saved: &Saved) -> Value {
    let note: Value = serde_json::from_str(&saved.body).unwrap_or_default();
    let time = |key: &str| note[key].as_i64().map(show_ms);
    let (at, until) = (time("at_ms"), time("until_ms"));
    json!({"id": saved.name, "at": at, "until": until, "text": note["text"], "kind": note["kind"], "by": saved.writer()})
}

/// A time that somebody has said was not as ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusual {
    /// Whether it is about whole days.
    pub(crate) is_holiday: bool,
    pub(crate) at_ms: i64,
    /// Excluded; without it, it is about the day or the hour of `at_ms`.
    pub(crate) until_ms: Option<i64>,
}

/// The names of notes that may be about a time from `from_ms` until `until_ms`: behind the first and before the second.
pub(super) fn about(from_ms: i64, until_ms: i64) -> [String; 2] {
    // A holiday may begin in the day before, wherever that is.
    [from_ms - LONGEST_MS - 2 * 86_400_000, until_ms].map(|at_ms| prefix(at_ms.max(0)))
}

/// What a note says of a time; nothing if it is about something else.
pub(super) fn unusual(Saved { body, .. }: &Saved) -> Option<Unusual> {
    let note: Value = serde_json::from_str(body).ok()?;
    let is_holiday = match note["kind"].as_str()? {
        "holiday" => true,
        "incident" => false,
        _ => return None,
    };
    Some(Unusual { is_holiday, at_ms: note["at_ms"].as_i64()?, until_ms: note["until_ms"].as_i64() })
}

fn invalid(message: String) -> QueryError {
    QueryError::invalid(NOTE.invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_767_355_200_000;

    #[test]
    fn a_note_that_is_sent_again_is_the_same_and_stands_in_the_order_of_time() {
        let note = |at: &str, text: &str| Note::parse(&json!({"at": at, "text": text, "kind": "release"}), NOW_MS).unwrap();
        assert_eq!(note("2026-01-02", " 4.2 "), note("2026-01-02T00:00:00Z", "4.2"));
        assert_ne!(note("2026-01-02", "4.2").id, note("2026-01-02", "4.3").id);
        assert!(note("1970-01-01", "z").id < note("2001-01-01", "y").id && note("2001-01-01", "y").id < note("2298-01-01", "a").id);
        let of_a_day = AskedNotes::parse("from=2026-01-02&to=2026-01-03", NOW_MS).unwrap();
        let is_in = |at: &str| (of_a_day.after.as_str()..of_a_day.until.as_str()).contains(&note(at, "x").id.as_str());
        assert!(is_in("2026-01-02") && is_in("2026-01-02T23:59:59.999Z") && !is_in("2026-01-03") && !is_in("2026-01-01T23:59:59.999Z"));
        let on = AskedNotes::parse(&format!("cursor={}&from=2026-01-02", note("2026-01-02", "x").id), NOW_MS).unwrap();
        assert_eq!(on.after, note("2026-01-02", "x").id);
    }

    #[test]
    fn what_is_no_note_is_refused_by_name() {
        let cases = [
            (json!({}), "invalid_note"),
            (json!({"text": "  "}), "invalid_note"),
            (json!({"text": "x".repeat(1_001)}), "invalid_note"),
            (json!({"text": 7}), "invalid_note"),
            (json!({"text": "x", "kind": "party"}), "invalid_note"),
            (json!({"text": "x", "at": "soon"}), "invalid_note"),
            (json!({"text": "x", "at": "1969-12-31"}), "invalid_note"),
            (json!({"text": "x", "at": "2026-01-02", "until": "2026-01-02"}), "invalid_note"),
            (json!({"text": "x", "at": "2026-01-02", "until": "2026-02-03"}), "invalid_note"),
            (json!({"text": "x", "until": "later"}), "invalid_note"),
            (json!({"text": "x", "author": "eve"}), "unknown_key"),
        ];
        for (body, code) in cases {
            assert_eq!(Note::parse(&body, NOW_MS).unwrap_err().code, code, "{body}");
        }
        for (query, code) in [
            ("from=soon", "invalid_range"),
            ("from=2026-01-02&to=2026-01-01", "invalid_range"),
            ("cursor=%25", "invalid_cursor"),
            ("project=1", "invalid_parameter"),
        ] {
            assert_eq!(AskedNotes::parse(query, NOW_MS).unwrap_err().code, code, "{query}");
        }
    }
}
