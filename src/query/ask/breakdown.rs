//! Breakdowns: the largest values have lines of their own, `$other` stands for all beyond them and `$none` for events without a value.
//! Of several fields it is the largest combinations of values, among them those in which some are missing; `$none` stands for events
//! without any of them.
//!
//! An event is assigned to its line by value, and rows of the answer carry the line's number, never the value, which may be long. A
//! statement carries the values themselves up to [`MOST_TEXT`] bytes, and beyond that their hashes. Those are keyed by a secret of the
//! process, so no client can send a value that counts as another. Two values of one meaning (objects in arrays whose keys are in
//! another order) are one line.

mod line;
mod meaning;

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

pub(crate) use self::line::{LineOf, ValueOf};
use self::meaning::Meaning;
use super::canonical::{Canonical, CanonicalForm};
use super::dimensions::Dimensions;
use super::expr::Expr;
use super::field::Kind;
use super::fields::Fields;
use super::secret;
use super::selection::{PERSON, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Cell, Row, StatementRunner, number as shown_number};

/// The line of all values that are not among the largest.
pub(crate) const OTHER: i64 = -1;
/// Bytes of values that a statement carries as they are.
const MOST_TEXT: usize = 65_536;

/// `breakdown` and `limit` of a request.
#[derive(Clone, Debug)]
pub(crate) struct Breakdown {
    /// The fields; none means one line of all events.
    pub(crate) by: Option<Dimensions>,
    /// Most values with a line of their own.
    pub(crate) limit: u64,
}

impl Breakdown {
    /// Reads `breakdown` and `limit`.
    ///
    /// # Errors
    /// 400 `invalid_limit`, and as [`Dimensions::parse`].
    pub(crate) fn parse(fields: Fields<'_>) -> Result<Self, QueryError> {
        Self::parse_by(fields, Dimensions::parse)
    }

    fn parse_by(fields: Fields<'_>, parse: fn(&Value) -> Result<Dimensions, QueryError>) -> Result<Self, QueryError> {
        let by = fields.value("breakdown").map(parse).transpose()?;
        Ok(Self { by, limit: fields.limit("limit", 25, 1_000)? })
    }

    /// The same where columns of sessions may be named without `session.`.
    pub(crate) fn parse_of_sessions(fields: Fields<'_>) -> Result<Self, QueryError> {
        Self::parse_by(fields, Dimensions::parse_of_sessions)
    }

    /// Most lines of an answer, `$other` and `$none` included.
    pub(crate) fn most_lines(&self) -> u64 {
        if self.by.is_some() { self.limit + 2 } else { 1 }
    }

    /// Ranks the values: the columns `key`, `hash` and, by `measure`, `size`.
    pub(crate) fn ranking(by: &Dimensions, measure: Expr) -> super::Select {
        Self::ranking_of(by.key(), measure)
    }

    /// The same of values that are there as keys.
    pub(crate) fn ranking_of(key: Expr, measure: Expr) -> super::Select {
        super::Select::default().named(key, " AS key").named(hash("key".into()), " AS hash").named(measure, " AS size")
    }

    /// What follows a ranking's selection: the largest values, the largest first. Missing ones have no rank.
    pub(crate) fn largest(&self) -> Expr {
        Expr::from(" GROUP BY key ORDER BY size DESC NULLS LAST, key LIMIT ").then(Expr::uint(self.limit))
    }

    /// The largest values of `events` by how many persons have them; none without a breakdown.
    pub(crate) async fn tops_by_people(&self, runner: &mut StatementRunner<'_>, events: Selection) -> Result<Tops, QueryError> {
        let Some(by) = &self.by else { return Ok(Tops::default()) };
        let ranking = Self::ranking(by, Expr::call("uniqExact", [PERSON.into()]));
        let ranked = ranking.from(events.clone().and(Self::is_ranked(by))).then(self.largest());
        let rows = match runner.rows(ranked.into()).await {
            Err(problem) if problem.takes_too_much() => {
                runner.rows(self.largest_of_groups(by, "count()", [PERSON.into(), "1".into()], events).into()).await?
            }
            rows => rows?,
        };
        Ok(Tops::read(&rows, by))
    }

    /// The largest values of `events` by `size`, which is one of groups: of a value and a unit that counts once, such as a person. `unit` is its
    /// key, and the condition that an event has it. A group has `events`, and whether the unit `is_there`. For when the units of a
    /// value are more than a question may hold at once: groups are put aside on the server's disk.
    pub(crate) fn largest_of_groups(&self, by: &Dimensions, size: &'static str, unit: [Expr; 2], events: Selection) -> Expr {
        let [key, is_there] = unit;
        let columns = super::Select::default().named(by.key(), " AS value").named("count()", " AS events");
        let groups = columns.named(Expr::call("max", [is_there]), " AS is_there").from(events).then(" GROUP BY value, ").then(key);
        let ranking = Self::ranking_of("value".into(), size.into()).into_expr().then(" FROM ").then(groups.enclosed());
        ranking.then(" WHERE ").then(Self::is_ranked(by)).then(self.largest())
    }

    /// The largest values of a breakdown by `by`, ranked as [`Self::ranking`] does, of `rows` whose column `line` is a key: those of most
    /// rows.
    pub(crate) fn largest_lines(&self, by: &Dimensions, rows: Expr) -> Expr {
        let ranking = Expr::from("SELECT line AS key, ").then(hash("key".into())).then(" AS hash, count() AS size FROM ");
        ranking.then(rows.enclosed()).then(" WHERE ").then(Self::is_ranked(by)).then(self.largest())
    }

    /// The line of an event.
    pub(crate) fn line(&self, tops: &Tops) -> Expr {
        self.by.as_ref().map_or("toInt64(0)".into(), |by| tops.line(by))
    }

    /// What a line shows; nothing without a breakdown.
    pub(crate) fn shown(&self, tops: &Tops, line: i64) -> Option<Shown> {
        self.by.as_ref().map(|_| tops.shown(line))
    }

    /// The lines that are there even where nothing happened.
    pub(crate) fn own_lines(&self, tops: &Tops) -> i64 {
        self.by.as_ref().map_or(1, |_| tops.lines as i64)
    }

    /// The condition that an event is in `line`.
    pub(crate) fn condition(&self, line: Option<&LineOf>, tops: &Tops) -> Option<Expr> {
        Some(line?.condition(self.by.as_ref()?, tops))
    }

    /// The condition of a ranking that there is a value.
    pub(crate) fn is_ranked(by: &Dimensions) -> Expr {
        Expr::from("key != ").then(by.none())
    }
}

impl Canonical for Breakdown {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { by, limit } = self;
        to.field("by", by).field("limit", limit);
    }
}

/// The values with lines of their own, the largest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tops {
    values: Vec<Top>,
    /// Lines with a value of their own.
    lines: usize,
    /// How many values a line shows as an array; none if it shows its only value.
    listed: Option<usize>,
}

#[derive(Clone, Debug)]
struct Top {
    /// The key of each field.
    parts: Vec<KeyPart>,
    hash: u64,
    line: i64,
}

/// The key of a field.
#[derive(Clone, Debug)]
struct KeyPart {
    key: String,
    /// What it means, if it is an array or an object.
    meaning: Option<Meaning>,
}

impl KeyPart {
    fn of(key: &str) -> Self {
        let json = Kind::split(key).filter(|(kind, _)| *kind == Kind::Json);
        let meaning = json.and_then(|(_, text)| Meaning::of_json(text));
        Self { key: key.to_owned(), meaning }
    }

    fn is(&self, other: &Self) -> bool {
        self.key == other.key || self.meaning.is_some() && self.meaning == other.meaning
    }
}

impl Tops {
    /// Reads the rows of a ranking by `by`.
    pub(crate) fn read(rows: &[Row], by: &Dimensions) -> Self {
        Self::read_keys(rows.iter().map(|row| (row.cell(0), row.cell(1).uint())), by)
    }

    /// Reads keys and their hashes, those of the largest values first.
    pub(crate) fn read_keys<'r>(keys: impl Iterator<Item = (Cell<'r>, u64)>, by: &Dimensions) -> Self {
        let mut tops = Self { listed: by.is_list.then_some(by.fields.len()), ..Self::default() };
        for (key, hash) in keys {
            let parts: Vec<KeyPart> = match key.json() {
                Value::Array(keys) => keys.iter().map(|key| KeyPart::of(key.as_str().unwrap_or_default())).collect(),
                _ => vec![KeyPart::of(key.text())],
            };
            let known =
                parts.iter().any(|part| part.meaning.is_some()).then(|| tops.find(|top| is_each(top, &parts, KeyPart::is))).flatten();
            let line = known.unwrap_or(tops.lines as i64);
            tops.lines += usize::from(known.is_none());
            tops.values.push(Top { parts, hash, line });
        }
        tops
    }

    /// The hash of each value and the line that it has.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (u64, i64)> {
        self.values.iter().map(|top| (top.hash, top.line))
    }

    /// The line of the key whose [`hash`] is `of`; it may be that of a missing value if it is among the largest.
    pub(crate) fn line_of_hash(&self, of: Expr) -> Expr {
        if self.values.is_empty() {
            return Expr::call("toInt64", [Expr::int(OTHER)]);
        }
        let lines = Expr::ints(self.values.iter().map(|top| top.line));
        let hashes = Expr::uints(self.values.iter().map(|top| top.hash));
        Expr::call("transform", [of, hashes, lines, Expr::call("toInt64", [Expr::int(OTHER)])])
    }

    /// The line of a value, if it is among the largest.
    pub(crate) fn line_of_value(&self, value: &ValueOf) -> Option<i64> {
        self.find(|parts| is_each(parts, std::slice::from_ref(value), ValueOf::is))
    }

    /// What its values take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.values.iter().flat_map(|top| &top.parts).map(|part| part.key.len() + size_of::<KeyPart>()).sum()
    }

    /// Lines with a value of their own.
    pub(crate) fn len(&self) -> usize {
        self.lines
    }

    /// The line of a missing value.
    pub(crate) fn none(&self) -> i64 {
        self.lines as i64
    }

    /// Where a line stands in an answer: those of values in their order, then `$other`, then `$none`.
    pub(crate) fn place(&self, line: i64) -> (i64, bool) {
        if line == OTHER { (self.none(), false) } else { (line, true) }
    }

    /// The line of which `is` holds.
    fn find(&self, is: impl Fn(&[KeyPart]) -> bool) -> Option<i64> {
        self.values.iter().find(|top| is(&top.parts)).map(|top| top.line)
    }

    /// The line of an event.
    pub(crate) fn line(&self, by: &Dimensions) -> Expr {
        let lines = Expr::ints(self.values.iter().map(|top| top.line).chain([self.none()]));
        let (value, values) = match self.only_keys() {
            Some(keys) => (by.key(), Expr::texts(keys.chain([Kind::Missing.letter()]))),
            None => {
                let none = Expr::from("[").then(hash(by.none())).then("]");
                (hash(by.key()), Expr::call("arrayConcat", [Expr::uints(self.values.iter().map(|top| top.hash)), none]))
            }
        };
        Expr::call("transform", [value, values, lines, "toInt64(-1)".into()])
    }

    /// The keys of the only field, if they are short enough to be written out.
    fn only_keys(&self) -> Option<impl Iterator<Item = &str>> {
        let is_only = self.listed.is_none_or(|fields| fields == 1);
        let is_short = self.values.iter().flat_map(|top| &top.parts).map(|part| part.key.len()).sum::<usize>() <= MOST_TEXT;
        (is_only && is_short).then(|| self.values.iter().flat_map(|top| &top.parts).map(|part| &*part.key))
    }

    /// What `line` shows, and which kind of line that is.
    pub(crate) fn shown(&self, line: i64) -> Shown {
        let same = |value: &str, kind| vec![(raw(value), kind); self.listed.unwrap_or(1)];
        let shown = match self.values.iter().find(|top| top.line == line) {
            _ if line == OTHER => same("$other", "other"),
            Some(top) => top.parts.iter().map(|part| shown(&part.key)).collect(),
            None => same("$none", "none"),
        };
        let (values, kinds) = shown.into_iter().unzip::<_, _, Vec<Box<RawValue>>, Vec<&str>>();
        match (self.listed, values.first(), kinds.first()) {
            (None, Some(value), Some(kind)) => Shown { value: value.clone(), kind: raw(kind) },
            _ => Shown { value: to_raw_value(&values).unwrap_or_default(), kind: to_raw_value(&kinds).unwrap_or_default() },
        }
    }
}

/// Whether `is` holds of each part and the value in its place.
fn is_each<T>(parts: &[KeyPart], values: &[T], is: impl Fn(&T, &KeyPart) -> bool) -> bool {
    parts.len() == values.len() && values.iter().zip(parts).all(|(value, part)| is(value, part))
}

/// What a line shows: a value and its kind (`value`, `none` or `other`), or arrays of both.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) value: Box<RawValue>,
    pub(crate) kind: Box<RawValue>,
}

/// The hash of a key.
pub(crate) fn hash(key: Expr) -> Expr {
    let key_of_hashes = Expr::list(", ", secret::key().map(Expr::uint)).grouped();
    Expr::call("sipHash64Keyed", [key_of_hashes, key])
}

/// A key as texts, which sort as the server sorts it.
pub(crate) fn texts(key: Cell<'_>) -> Vec<String> {
    match key.json() {
        Value::Array(keys) => keys.iter().map(|key| key.as_str().unwrap_or_default().to_owned()).collect(),
        _ => vec![key.text().to_owned()],
    }
}

/// Whether a key is that of no value.
pub(crate) fn is_none(key: Cell<'_>) -> bool {
    texts(key).iter().all(|text| text == Kind::Missing.letter())
}

fn raw(text: &str) -> Box<RawValue> {
    to_raw_value(text).unwrap_or_default()
}

/// A value as it was sent, and its kind.
fn shown(key: &str) -> (Box<RawValue>, &'static str) {
    let value = match Kind::split(key) {
        Some((Kind::Missing, _)) => return (raw("$none"), "none"),
        Some((Kind::Number, float)) => to_raw_value(&float.parse().map_or(Value::Null, shown_number)).unwrap_or_default(),
        Some((Kind::Json, json)) => RawValue::from_string(json.to_owned()).unwrap_or_default(),
        Some((Kind::Text, text)) => raw(text),
        None => raw(key),
    };
    (value, "value")
}

#[cfg(test)]
mod tests;
