//! Access logs: what a web server says of a request, as an event.
//!
//! One reader for all layouts ([`text`]: common and combined, with or without a virtual host, behind syslog or a container's prefix;
//! [`json`]: Caddy, Traefik, nginx and others), recognised line by line. Owns what a line says as an event. Promises: the address
//! leaves here only as the context's `ip`, by which pulse finds the place and names the visitor before it drops it; a line in which no address
//! of a client can be found is refused, never stored as somebody; one address in two spellings is one visitor.

mod foreign;
mod head;
mod hit;
mod json;
mod request;
mod text;
mod words;

use uuid::Uuid;

use super::lines::Line;
use super::malformed::Malformed;

pub(super) use self::foreign::whole_file;
pub(super) use self::hit::{ClientField, Remarks, Site};

/// One line as the JSON of an event.
pub(super) fn event(line: Line<'_>, id: Uuid, site: &Site) -> Result<(Vec<u8>, Remarks), Malformed> {
    let text = String::from_utf8_lossy(line.bytes);
    // Where a log was truncated while its server went on writing there is a hole of zeros.
    let text = text.trim_start_matches('\0').trim();
    let hit = match text.starts_with('{') {
        true => json::hit(text, site)?,
        false => text::hit(text, site)?,
    };
    let remarks = hit.remarks;
    Ok((hit.into_event(id, site)?, remarks))
}

#[cfg(test)]
mod tests;
