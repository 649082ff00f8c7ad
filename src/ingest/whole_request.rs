//! A request held in memory, read without a listener and without a log: what a dialect costs by itself.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use hyper::Uri;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::accept::{facts_of, routes};
use super::geo::RequestGeo;
use super::intake::{Intake, Sender};
use super::protocol::{Head, Protocol, Received};
use super::refusal::Refusal;
use super::{Geo, IngestLimits};
use crate::event::ids::ProjectId;
use crate::http::respond::ApiError;

/// Whose events they are: no key is looked up.
const PROJECT: ProjectId = ProjectId(1);

/// A request in one of the dialects, its body inflated.
pub struct WholeRequest {
    pub(super) protocol: &'static dyn Protocol,
    pub(super) head: Head,
    pub(super) body: Bytes,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeResult {
    /// Events that were packed.
    pub accepted: u32,
    /// Events that were refused.
    pub refused: usize,
    /// Bytes of what was packed, as a record holds them before it is compressed.
    pub bytes: usize,
}

impl WholeRequest {
    /// Reads it from a file: a line of method and address, headers, an empty line, and the body. Errors: in words.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let end = memchr::memmem::find(file, b"\n\n").ok_or("no empty line")?;
        let (head, body) = file.split_at(end);
        let mut lines = std::str::from_utf8(head).map_err(|problem| problem.to_string())?.lines();
        let first = lines.next().unwrap_or_default();
        let uri: Uri = first.split_once(' ').and_then(|(_, uri)| uri.parse().ok()).ok_or(format!("`{first}`: no method and address"))?;
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or(format!("`{line}`: no header"))?;
            let (name, value) = (HeaderName::try_from(name), HeaderValue::try_from(value));
            headers.append(name.map_err(|problem| problem.to_string())?, value.map_err(|problem| problem.to_string())?);
        }
        let body = Bytes::copy_from_slice(body.get(2..).unwrap_or_default());
        Self::of(uri, headers, body).ok_or(format!("`{first}`: the path is no dialect's"))
    }

    /// `None` if its path is no dialect's.
    pub fn of(uri: Uri, headers: HeaderMap, body: Bytes) -> Option<Self> {
        let protocol = *routes().at(uri.path()).ok()?.value;
        let client_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Some(Self { protocol, head: Head { uri, headers, client_ip, is_https: false, request_id: String::new() }, body })
    }

    /// Reads its events as the role does between the body and the log, and forgets them. Whatever key is shown is taken. Errors: the
    /// request is refused as a whole.
    pub fn decode(&self, limits: &IngestLimits, geo: &Geo, received_ms: i64) -> Result<DecodeResult, ApiError> {
        let Self { protocol, head, body } = self;
        let key = protocol.credential(head)?;
        let delivery = protocol.check(head)?;
        let geo = RequestGeo::new(geo);
        let authorize = |_: Option<&str>| Ok::<ProjectId, Refusal>(PROJECT);
        let sender = if key.is_some() { Sender::Known(PROJECT) } else { Sender::InBody(&authorize) };
        let intake = Intake::new(sender, facts_of(*protocol, head, received_ms, &geo), limits).of_body(body.len());
        let mut intake = intake.of_at_least(protocol.batch_of_clients().events);
        protocol.events(&Received { head, body, delivery: &delivery }, &mut intake)?;
        let decoded = intake.finish()?;
        let bytes = decoded.partitions.iter().map(|packed| packed.bytes.len()).sum();
        Ok(DecodeResult { accepted: decoded.verdicts.accepted, refused: decoded.verdicts.rejected.len(), bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::IngestConfig;
    use crate::ingest::tests::recorded;

    #[test]
    fn what_sdks_were_recorded_to_send_is_taken_whole() {
        let (limits, geo) = (IngestConfig::default().check().unwrap(), Geo::default());
        let mut files = 0;
        for (name, file) in recorded() {
            let request = WholeRequest::parse(&file).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            let outcome = request.decode(&limits, &geo, 1_796_000_000_000).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert!(outcome.accepted > 0 && outcome.refused == 0 && outcome.bytes > 0, "{name}: {outcome:?}");
            files += 1;
        }
        assert!(files > 20, "{files}");
    }

    #[test]
    fn a_file_that_is_no_request_says_why() {
        for (file, why) in [
            ("", "no empty line"),
            ("POST\n\n", "`POST`: no method and address"),
            ("POST /v1/events\nx\n\n", "`x`: no header"),
            ("POST /nowhere\n\n", "`POST /nowhere`: the path is no dialect's"),
        ] {
            assert_eq!(WholeRequest::parse(file.as_bytes()).err().as_deref(), Some(why));
        }
    }
}
