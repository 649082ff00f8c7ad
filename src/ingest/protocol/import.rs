//! `POST /v1/import`: history in pulse's own dialect, line by line. What is no event is kept as a dead letter, never refused.
//!
//! Segment's API has the same path, and some of its SDKs send live events there: with a write key, which imports nothing, and without a run.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use hyper::{Response, StatusCode, Uri};
use serde_json::json;
use serde_json::value::RawValue;

use super::{Delivery, Head, Protocol, Received, Run, pulse, segment};
use crate::auth::{KeyKind, credential};
use crate::event::address::parse_forwarded;
use crate::event::dead_letter::{DEAD_LINE_MARK, DeadLetterId, DeadLine};
use crate::event::mask;
use crate::event::text::clip;
use crate::http::respond::{ApiError, Body, json_response};
use crate::ingest::dead_letters::{DeadEntry, DeadLetters, beginning};
use crate::ingest::draft::{Draft, ReadEvent};
use crate::ingest::envelope::{self, filled_lines};
use crate::ingest::import_runs::MAX_LINES;
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::tape::Value;
use crate::ingest::verdict::{Rejection, Verdicts};
use crate::outcome::DeadReason;

/// Longest name of where lines come from, bytes.
const MAX_SOURCE: usize = 255;

pub(super) struct Import;

impl Protocol for Import {
    fn paths(&self) -> &'static [&'static str] {
        &["/v1/import"]
    }

    fn key_kind(&self) -> KeyKind {
        KeyKind::Import
    }

    /// One that names its run is an import, with the wrong key.
    fn with_write_key(&self, uri: &Uri) -> Option<&'static dyn Protocol> {
        match credential::in_query(uri.query().unwrap_or_default(), "run") {
            None => Some(&segment::Segment),
            Some(_) => None,
        }
    }

    fn check(&self, head: &Head) -> Result<Delivery, ApiError> {
        run(head.query()).map(Delivery::Import)
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        match request.delivery {
            Delivery::Import(run) => lines(request.body, run, intake),
            Delivery::Live => {
                debug_assert!(false, "what is imported has a run");
                Err(Refusal::NoEvent)
            }
        }
    }

    fn answer(&self, _head: &Head, verdicts: &Verdicts) -> Response<Body> {
        let answer = json!({"accepted": verdicts.accepted, "dead": verdicts.dead, "reasons": verdicts.reasons});
        json_response(StatusCode::OK, answer.to_string().into_bytes())
    }
}

/// What an import's address says.
fn run(query: &str) -> Result<Run, ApiError> {
    let find = |name: &str| url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let (run, source) = (find("run").unwrap_or_default(), find("source").unwrap_or_default());
    if source.len() > MAX_SOURCE {
        return Err(ApiError::bad_request("invalid_source", format!("`source` has {} bytes, more than {MAX_SOURCE}", source.len())));
    }
    let has_visitors_by_address = match find("visitors").as_deref() {
        None => false,
        Some("address") => true,
        Some(other) => {
            return Err(ApiError::bad_request("invalid_visitors", format!("`visitors` is `{}`, not `address`", clip(other, 60))));
        }
    };
    match run.parse() {
        Ok(id) if id > 0 => Ok(Run { id, source, has_visitors_by_address }),
        _ => Err(ApiError::bad_request("invalid_run", format!("`run` is `{}`, not a positive number", clip(&run, 60)))),
    }
}

/// Takes a body apart: events are packed, everything else becomes a letter.
fn lines(bytes: &[u8], run: &Run, intake: &mut Intake<'_>) -> Result<(), Refusal> {
    let mut letters = DeadLetters::new(intake.project()?, intake.received_ms(), &run.source);
    let read: ReadEvent = if run.has_visitors_by_address { of_address } else { pulse::event };
    for (index, line) in filled_lines(envelope::strip_bom(bytes)) {
        if index >= MAX_LINES {
            return Err(Refusal::TooManyEvents(MAX_LINES));
        }
        if line.starts_with(DEAD_LINE_MARK) {
            dead_line(line, &mut letters)?;
            continue;
        }
        envelope::alone(line, index, read, intake);
        let named = (run.has_visitors_by_address && intake.has_rejected()).then(|| named(line, intake)).flatten();
        intake.bury_rejected(index, named.as_deref().unwrap_or(line), &mut letters);
    }
    intake.keep(letters);
    Ok(())
}

/// Reads an event whose visitor has no name but an address.
fn of_address<'t>(event: Value<'t>, draft: &mut Draft<'t, '_>) -> Result<(), Rejection> {
    draft.is_named_by_address = true;
    pulse::event(event, draft)
}

/// A line whose visitor has no name but an address, with the name that stands for it: a letter keeps no address, and is nobody's event
/// without. `None` if there is none to be given.
fn named(line: &[u8], intake: &Intake<'_>) -> Option<Vec<u8>> {
    type Members<'l> = BTreeMap<Cow<'l, str>, &'l RawValue>;
    let event: Members<'_> = serde_json::from_slice(line).ok()?;
    let is_nobody =
        |id: &RawValue| serde_json::from_str::<Option<String>>(id.get()).is_ok_and(|id| id.is_none_or(|id| id.trim().is_empty()));
    if ["userId", "anonymousId"].iter().any(|key| event.get(*key).is_some_and(|id| !is_nobody(id))) {
        return None;
    }
    let context: Members<'_> = serde_json::from_str(event.get("context")?.get()).ok()?;
    let address: String = serde_json::from_str(context.get("ip")?.get()).ok()?;
    let name = intake.lasting_name(parse_forwarded(&address)?)?;
    // All else stays as it was written.
    let (start, length, member) = match event.get("anonymousId") {
        Some(id) => ((id.get().as_ptr() as usize).checked_sub(line.as_ptr() as usize)?, id.get().len(), format!("\"{name}\"")),
        None => (line.iter().position(|byte| *byte == b'{')? + 1, 0, format!("\"anonymousId\":\"{name}\",")),
    };
    let (before, behind) = (line.get(..start)?, line.get(start + length..)?);
    Some([before, member.as_bytes(), behind].concat())
}

/// A line that stands for one that is no event.
fn dead_line(line: &[u8], letters: &mut DeadLetters<'_>) -> Result<(), Refusal> {
    let DeadLine { dead } = serde_json::from_slice(line).map_err(|problem| Refusal::DeadLine(problem.to_string()))?;
    let original = base64::engine::general_purpose::STANDARD.decode(dead.original_base64.as_bytes());
    let original = original.map_err(|problem| Refusal::DeadLineBytes(problem.to_string()))?;
    // The importer has masked what it took for an address, with a name for each; what is left of them goes here.
    let original = mask::masked(beginning(&original), |_| mask::ADDRESS.to_owned());
    let message = mask::masked_text(&dead.message, |_| mask::ADDRESS.to_owned());
    let id = if dead.id.is_empty() { DeadLetterId::NONE } else { DeadLetterId::of(&dead.id) };
    letters.put(&DeadEntry { reason: DeadReason::LineMalformed, message: &message, line: dead.line, original: &original, id });
    Ok(())
}

#[cfg(test)]
mod tests;
