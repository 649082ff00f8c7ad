//! The context of an event: which values are kept, and how much of each.

use super::device_types::device_type;
use crate::event::field::Field;
use crate::event::packed::EventWriter;
use crate::event::page;
use crate::event::text::{clip, trim};
use crate::ingest::draft::{Draft, Fact, FactKind};
use crate::ingest::tape::Value;
use crate::ingest::warning::{UNKNOWN_FIELD, VALUE_TRUNCATED, VALUE_UNREADABLE};

const MAX_URL: usize = 2_048;
/// Addresses whose query is still to be read: it is cut only when it has been (load keeps less).
const MAX_WHOLE_URL: usize = 16 << 10;
const MAX_TEXT: usize = 512;
/// Longest user agent, bytes.
pub(in crate::ingest) const MAX_AGENT: usize = 1_024;

/// What the client itself says of the circumstances, so that the server has no say.
#[derive(Default)]
pub(super) struct Said {
    pub(super) has_agent: bool,
    pub(super) has_place: bool,
    pub(super) has_network: bool,
    pub(super) is_bot: bool,
}

/// Writes what the client says of the circumstances. Wrong types cost the field, never the event; only history says what else pulse finds out by
/// itself.
pub(super) fn context(draft: &mut Draft<'_, '_>, writer: &mut EventWriter<'_>, is_import: bool) -> Said {
    let mut said = Said::default();
    let (facts, warnings) = draft.facts();
    for (Fact { kind, scope, .. }, value) in facts {
        let is_said = || value.text().is_some_and(|text| !text.is_empty());
        let problem = match kind {
            FactKind::Of(Field::Country | Field::Region | Field::City | Field::Network | Field::Bot) if !is_import => Some(UNKNOWN_FIELD),
            FactKind::Of(field) => {
                match field {
                    Field::UserAgent => said.has_agent = is_said(),
                    Field::Country | Field::Region | Field::City => said.has_place |= is_said(),
                    Field::Network => said.has_network |= is_said(),
                    Field::Bot => said.is_bot |= is_said(),
                    _ => {}
                }
                write_fact(field, value, writer).err()
            }
            FactKind::Unknown => Some(UNKNOWN_FIELD),
            FactKind::Unreadable => Some(VALUE_UNREADABLE),
            // Properties come last.
            FactKind::Property(_) => None,
        };
        if let Some(code) = problem {
            warnings.add(code, &scope.name(value));
        }
    }
    said
}

/// Writes the value of a field. Errors: what is to be warned of.
fn write_fact(field: Field, value: Value<'_>, writer: &mut EventWriter<'_>) -> Result<(), &'static str> {
    match field {
        Field::ScreenDensity => match value.number() {
            Some(number) if number > 0.0 && number < 100.0 => writer.field(field, &(number as f32).to_le_bytes()),
            _ => return Err(VALUE_UNREADABLE),
        },
        Field::Country => match value.text() {
            Some(code) if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => writer.field(field, code.as_bytes()),
            _ => return Err(VALUE_UNREADABLE),
        },
        Field::ScreenWidth | Field::ScreenHeight => match value.number() {
            Some(number) if (0.0..=f64::from(u16::MAX)).contains(&number) => writer.field(field, &(number as u16).to_le_bytes()),
            _ => return Err(VALUE_UNREADABLE),
        },
        _ => return write_text(field, value, writer),
    }
    Ok(())
}

/// Writes a field of text; a number is text too: builds and versions often come as one.
fn write_text(field: Field, value: Value<'_>, writer: &mut EventWriter<'_>) -> Result<(), &'static str> {
    // No screen or sheet that makes links of addresses is to run one.
    if matches!(field, Field::PageUrl | Field::Referrer) && value.text().is_some_and(page::is_code) {
        return Err(VALUE_UNREADABLE);
    }
    let max = match field {
        Field::PageUrl | Field::PageSearch => MAX_WHOLE_URL,
        Field::Referrer | Field::PagePath => MAX_URL,
        Field::UserAgent => MAX_AGENT,
        _ => MAX_TEXT,
    };
    let write = |text: &str| {
        // What browsers call the host of a page has its port.
        let text = match field {
            Field::PageHost => page::host(trim(text)),
            Field::DeviceType => device_type(text),
            _ => text,
        };
        let kept = clip(text, max);
        writer.field(field, kept.as_bytes());
        kept.len() < text.len()
    };
    match value.with_text(write) {
        Some(false) => Ok(()),
        Some(true) => Err(VALUE_TRUNCATED),
        None => Err(VALUE_UNREADABLE),
    }
}
