//! Jitsu's calls: those of Segment, one a request, with a key of two parts of which the first is the write key.

use hyper::Response;
use serde_json::json;

use super::{Batch, Head, LARGEST_BATCH, Protocol, Received, pulse, segment};
use crate::auth::{AuthError, credential};
use crate::http::respond::Body;
use crate::ingest::envelope::{self, Envelope};
use crate::ingest::intake::Intake;
use crate::ingest::refusal::Refusal;
use crate::ingest::verdict::Verdicts;

pub(super) struct Jitsu;

impl Protocol for Jitsu {
    fn paths(&self) -> &'static [&'static str] {
        &["/api/s/{kind}", "/api/s/s2s/{kind}"]
    }

    fn credential(&self, head: &Head) -> Result<Option<String>, AuthError> {
        let key = credential::in_headers(&head.headers)?;
        Ok(key.map(|key| key.split(':').next().unwrap_or_default().to_owned()))
    }

    fn is_of_server(&self, head: &Head) -> bool {
        head.uri.path().contains("/s2s/")
    }

    fn batch_of_clients(&self) -> Batch {
        LARGEST_BATCH
    }

    fn events(&self, request: &Received<'_>, intake: &mut Intake<'_>) -> Result<(), Refusal> {
        let envelope = Envelope { keys: &[], read: segment::reader(request.head.uri.path()), ..segment::ENVELOPE };
        envelope::json(request.body, &envelope, intake)
    }

    fn answer(&self, head: &Head, verdicts: &Verdicts) -> Response<Body> {
        pulse::answer_with(head, verdicts, json!({"ok": true}))
    }
}
