//! The dead letters of a project: how many for which reason, and page by page what was kept of them, the newest first.
//!
//! Promises: no address leaves here, also where an earlier release kept one; an answer is bounded, for of each original only the
//! beginning is shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use strum::VariantArray;

use super::{Ask, Report, Route};
use crate::event::dead_letter::DeadLetterId;
use crate::event::ids::ProjectId;
use crate::event::mask;
use crate::outcome::DeadReason;
use crate::query::ask::fields::shortened;
use crate::query::ask::page::{self, Page};
use crate::query::ask::range::{LATEST_MS, check_order, instant_in_utc};
use crate::query::ask::{Canonical, CanonicalForm, EventSet, Range};
use crate::query::error::QueryError;
use crate::query::reader::StatementRunner;
use crate::query::sql::Statement;

/// Most letters of a page.
const MAX_PAGE: u64 = 1_000;
/// Most reasons of an answer.
const MAX_REASONS: u64 = 100;
/// The columns of a [`Letter`]; of its original the beginning.
const LETTER: &str = "SELECT toString(toUnixTimestamp64Milli(received_at)), toString(log_epoch), toString(log_partition), \
    toString(log_offset), toString(log_index), reason, message, source, toString(line), is_copy, toString(length(original)), \
    base64Encode(substring(original, 1, 8192))";

/// A checked request.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetters {
    reason: Option<DeadReason>,
    source: Option<String>,
    /// Bounds of receipt, milliseconds since 1970.
    from_ms: i64,
    to_ms: i64,
    page: Page<Cursor>,
}

/// The last letter of a page: its receipt and its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    received_ms: i64,
    epoch: u64,
    partition: u64,
    offset: i64,
    index: u64,
}

impl page::Cursor for Cursor {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '.');
        let mut next = || parts.next();
        Some(Self {
            received_ms: next()?.parse().ok()?,
            epoch: next()?.parse().ok()?,
            partition: next()?.parse().ok()?,
            offset: next()?.parse().ok()?,
            index: next()?.parse().ok()?,
        })
    }
}

impl Canonical for Cursor {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { received_ms, epoch, partition, offset, index } = self;
        to.field("received", received_ms).field("epoch", epoch).field("partition", partition);
        to.field("offset", offset).field("index", index);
    }
}

impl Canonical for DeadLetters {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { reason, source, from_ms, to_ms, page } = self;
        to.field("reason", &reason.map(|reason| reason.as_str())).field("source", source);
        to.field("from", from_ms).field("to", to_ms).field("page", page);
    }
}

impl Report for DeadLetters {
    const NAME: &'static str = "dead-letters";
    const ROUTE: Route = Route::Get("/v1/dead-letters");
    const IS_KEPT: bool = false;

    fn parse(ask: Ask<'_>) -> Result<Self, QueryError> {
        let page = Page { limit: Page::<Cursor>::DEFAULT, after: None };
        let mut asked = Self { reason: None, source: None, from_ms: 0, to_ms: LATEST_MS, page };
        for (key, value) in ask.parameters() {
            asked.read(key, value, ask.now_ms)?;
        }
        check_order(asked.from_ms, asked.to_ms)?;
        Ok(asked)
    }

    /// None: it is about receipt, and never kept.
    fn ranges(&self) -> Vec<&Range> {
        Vec::new()
    }

    /// None: it counts whatever was received.
    fn event_sets(&self) -> Vec<EventSet<'_>> {
        Vec::new()
    }

    async fn answer(&self, runner: &mut StatementRunner<'_>) -> Result<Vec<u8>, QueryError> {
        let project = runner.project();
        let reasons: Vec<Reason> = runner.typed_rows(self.reasons(project)).await?;
        let mut letters: Vec<Letter> = runner.typed_rows(self.letters(project)).await?;
        let next = self.page.cut(&mut letters);
        let next = next.map(Letter::cursor);
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        let reasons = reasons.iter().map(
            |(reason, code, letters, copies)| json!({"reason": reason, "code": code, "letters": number(letters), "copies": number(copies)}),
        );
        let answer =
            json!({"reasons": reasons.collect::<Vec<_>>(), "letters": letters.iter().map(shown).collect::<Vec<_>>(), "next": next});
        Ok(answer.to_string().into_bytes())
    }
}

impl DeadLetters {
    /// Reads one parameter: `reason`, `source`, `from` and `to` (by receipt), `limit`, `cursor`.
    fn read(&mut self, key: &str, value: &str, now_ms: i64) -> Result<(), QueryError> {
        let invalid = |code, what: &str| QueryError::invalid(code, format!("`{key}` is `{}`, {what}", shortened(value)));
        let time = || instant_in_utc(value, now_ms).ok_or_else(|| invalid("invalid_range", "which cannot be read"));
        match key {
            "reason" => {
                let known = || DeadReason::VARIANTS.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ");
                let unknown = || invalid("invalid_reason", &format!("none of {}", known()));
                self.reason = Some(DeadReason::named(value).ok_or_else(unknown)?);
            }
            "source" => self.source = Some(value.to_owned()),
            "from" => self.from_ms = time()?.clamp(0, LATEST_MS),
            "to" => self.to_ms = time()?.clamp(0, LATEST_MS),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                self.page.limit = limit.ok_or_else(|| invalid("invalid_limit", &format!("not from 1 to {MAX_PAGE}")))?;
            }
            "cursor" => {
                let cursor = page::Cursor::parse(value);
                self.page.after = Some(cursor.ok_or_else(|| invalid("invalid_cursor", "which is not a cursor of an earlier answer"))?);
            }
            _ => {
                let message = format!("unknown parameter `{}`: reason, source, from, to, limit and cursor are known", shortened(key));
                return Err(QueryError::invalid("invalid_parameter", message));
            }
        }
        Ok(())
    }

    /// `FROM` the letters `WHERE`, limited to one project. Every statement starts here.
    fn scope(&self, to: Statement, project: ProjectId) -> Statement {
        let to = to.sql(" FROM dead_letters FINAL WHERE project_id = ").uint(project.0);
        let to = to.sql(" AND received_at >= fromUnixTimestamp64Milli(").int(self.from_ms);
        let to = to.sql(") AND received_at < fromUnixTimestamp64Milli(").int(self.to_ms).sql(")");
        let to = match self.reason {
            Some(reason) => to.sql(" AND reason = ").string(reason.as_str()),
            None => to,
        };
        match &self.source {
            Some(source) => to.sql(" AND source = ").string(source),
            None => to,
        }
    }

    fn reasons(&self, project: ProjectId) -> Statement {
        let to = Statement::default().sql(
            "SELECT reason, extract(message, '^([a-z_]+): ') AS code, toString(count()) AS letters, toString(countIf(is_copy = 1)) AS copies",
        );
        self.scope(to, project).sql(" GROUP BY reason, code ORDER BY count() DESC, reason, code LIMIT ").uint(MAX_REASONS)
    }

    fn letters(&self, project: ProjectId) -> Statement {
        let mut to = self.scope(Statement::default().sql(LETTER), project);
        if let Some(Cursor { received_ms, epoch, partition, offset, index }) = self.page.after {
            to = to.sql(" AND (toUnixTimestamp64Milli(received_at), log_epoch, log_partition, log_offset, log_index) < (");
            to = to.int(received_ms).sql(", ").uint(epoch).sql(", ").uint(partition).sql(", ").int(offset).sql(", ").uint(index).sql(")");
        }
        to.sql(" ORDER BY received_at DESC, log_epoch DESC, log_partition DESC, log_offset DESC, log_index DESC LIMIT ")
            .uint(self.page.rows())
    }
}

/// The letters about a line or event that calls itself `id`, the first ones first; each with where it stands in the log.
pub(crate) async fn of_id(id: DeadLetterId, limit: u64, runner: &mut StatementRunner<'_>) -> Result<Vec<Value>, QueryError> {
    let to = Statement::default().sql(LETTER).sql(" FROM dead_letters FINAL WHERE project_id = ").uint(runner.project().0);
    let to = to.sql(" AND is_copy IN (0, 1) AND letter_id IN ").uints128([u128::from_le_bytes(id.0)]);
    let to = to.sql(" ORDER BY is_copy, received_at, log_epoch, log_partition, log_offset, log_index LIMIT ").uint(limit);
    let letters: Vec<Letter> = runner.typed_rows(to).await?;
    let with_place = |letter: &Letter| {
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        let epoch = format!("{:016x}", letter.epoch.parse::<u64>().unwrap_or(0));
        let mut shown = shown(letter);
        shown["log"] = json!({
            "epoch": epoch, "partition": number(&letter.partition), "offset": number(&letter.offset), "index": number(&letter.index),
        });
        shown
    };
    Ok(letters.iter().map(with_place).collect())
}

/// Reason, code, letters and copies.
type Reason = (String, String, String, String);

/// A letter as the store answers it.
#[derive(Debug, Deserialize)]
struct Letter {
    received_ms: String,
    epoch: String,
    partition: String,
    offset: String,
    index: String,
    reason: String,
    message: String,
    source: String,
    line: String,
    is_copy: u8,
    /// Length of the original, and its beginning in base64.
    length: String,
    original: String,
}

impl Letter {
    fn cursor(&self) -> String {
        let Self { received_ms, epoch, partition, offset, index, .. } = self;
        format!("{received_ms}.{epoch}.{partition}.{offset}.{index}")
    }
}

fn shown(letter: &Letter) -> Value {
    let Letter { received_ms, reason, message, source, line, is_copy, length, original, .. } = letter;
    let at = received_ms.parse().ok().and_then(|at_ms| jiff::Timestamp::from_millisecond(at_ms).ok());
    let original = STANDARD.decode(original).unwrap_or_default();
    let original = match reason == DeadReason::EventInvalid.as_str() {
        true => mask::without_address(&original),
        false => mask::masked(&original, |_| mask::ADDRESS.to_owned()),
    };
    json!({
        "receivedAt": at.map(|at| at.to_string()),
        "reason": reason,
        "message": mask::masked_text(message, |_| mask::ADDRESS.to_owned()),
        "source": source,
        // An event of an import is not of a line that was counted.
        "line": line.parse::<u64>().ok().filter(|line| *line > 0),
        "original": String::from_utf8_lossy(&original),
        "bytes": length.parse::<u64>().unwrap_or(0),
        "isCopy": *is_copy == 1,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::query::ask::Context;
    use crate::query::reader::{Answer, QueryLimits, Reader, Run};

    const SHOP: ProjectId = ProjectId(7);

    struct Store;

    impl Run for Store {
        async fn run(&self, statement: Statement) -> Result<Answer, QueryError> {
            let original = STANDARD.encode("203.0.113.7 - broken");
            let letter = |index: u32| {
                json!([
                    "1700000000000",
                    "1",
                    "0",
                    "5",
                    index.to_string(),
                    "line_malformed",
                    "no_time: from 203.0.113.7",
                    "a.log",
                    "3",
                    0,
                    "20",
                    original
                ])
            };
            let body = match statement.text().contains("GROUP BY") {
                true => format!("{}\n", json!(["line_malformed", "no_time", "3", "1"])),
                false => format!("{}\n{}\n{}\n", letter(9), letter(8), letter(7)),
            };
            Ok(Answer { body: Bytes::from(body), read_rows: 3 })
        }
    }

    fn parse(query: &str, now_ms: i64) -> Result<DeadLetters, QueryError> {
        let parameters = url::form_urlencoded::parse(query.as_bytes());
        let body = parameters.map(|(key, value)| (key.into_owned(), Value::from(value))).collect();
        DeadLetters::parse(Ask { project_name: "shop", body: &Value::Object(body), now_ms, context: &Context::new(now_ms) })
    }

    async fn answer(asked: &DeadLetters) -> Value {
        let reader = Reader::new(Store, QueryLimits::default());
        let mut runner = reader.begin(SHOP, 0).await.unwrap();
        serde_json::from_slice(&asked.answer(&mut runner).await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_page_has_reasons_letters_without_addresses_and_a_way_on() {
        let answer = answer(&parse("limit=2", 0).unwrap()).await;
        assert_eq!(answer["reasons"], json!([{"reason": "line_malformed", "code": "no_time", "letters": 3, "copies": 1}]));
        assert_eq!(answer["letters"].as_array().unwrap().len(), 2);
        assert_eq!(
            answer["letters"][0],
            json!({
                "receivedAt": "2023-11-14T22:13:20Z", "reason": "line_malformed", "message": "no_time: from [address]", "source": "a.log",
                "line": 3, "original": "[address] - broken", "bytes": 20, "isCopy": false,
            })
        );
        let next = answer["next"].as_str().unwrap();
        let asked = parse(&format!("limit=3&cursor={next}"), 0).unwrap();
        let after = Cursor { received_ms: 1_700_000_000_000, epoch: 1, partition: 0, offset: 5, index: 8 };
        assert_eq!(asked.page.after, Some(after));
        let last = super::tests::answer(&asked).await;
        assert_eq!(last["next"], Value::Null);
    }

    #[test]
    fn what_is_asked_for_is_bound_and_what_cannot_be_meant_is_refused() {
        let query = "reason=event_invalid&source=a'b&from=-1d&to=2026-01-01T00:00:00Z&limit=5";
        let asked = parse(query, 1_700_000_000_000).unwrap();
        let statement = asked.letters(SHOP);
        assert!(!statement.text().contains("a'b") && !statement.text().contains("event_invalid"), "{}", statement.text());
        let values: Vec<&str> = statement.params().map(|(_, value)| value).collect();
        assert_eq!(values[..5], ["7", "1699913600000", "1767225600000", "event_invalid", "a\\'b"]);
        for (query, code) in [
            ("reason=bad_luck", "invalid_reason"),
            ("limit=0", "invalid_limit"),
            ("limit=1001", "invalid_limit"),
            ("from=soon", "invalid_range"),
            ("from=2026-01-02&to=2026-01-01", "invalid_range"),
            ("cursor=1.2.3", "invalid_cursor"),
            ("project=other", "invalid_parameter"),
        ] {
            assert_eq!(parse(query, 0).unwrap_err().code, code, "{query}");
        }
    }
}
