//! Who asks: a read key is exchanged for a cookie, shown, and forgotten again.

use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::QueryApi;
use crate::auth::KeyKind;
use crate::auth::cookie::Sender;
use crate::http::respond::{ApiError, Body, json_response};
use crate::http::server::Call;
use crate::project::ProjectSettings;

impl QueryApi {
    /// `POST` gives the cookie of the key that is shown, `GET` says whose it is and gives it anew, `DELETE` takes it away.
    pub(super) fn session(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let sender = Sender::of(call);
        let key = sender.key()?;
        if *call.request.method() == Method::DELETE {
            // Also where the key is known no longer.
            return Ok(with_cookie(empty(), sender.forget()));
        }
        let grant = self.keys.grant(key.as_deref(), KeyKind::Read)?;
        grant.admits(call.request.uri().path(), call.request.headers())?;
        let given = sender.give(&key.unwrap_or_default());
        if *call.request.method() == Method::POST {
            return Ok(with_cookie(empty(), given));
        }
        let settings = self.queries.settings(grant.project);
        let shown = json!({
            "project": {"name": &*grant.name, "timezone": settings.timezone()},
            "rules": rules(settings),
            "key": {"name": grant.shown(), "kind": grant.kind.as_str()},
            "user": call.peer.user(call.request.headers()),
        });
        let answer = json_response(StatusCode::OK, shown.to_string().into_bytes());
        Ok(with_cookie(answer, given.filter(|_| sender.shows_cookie())))
    }
}

/// What cuts the sessions of a project, and what is left out of its reports; of its own traffic only by what it is known.
fn rules(ProjectSettings { sessions, internal, .. }: &ProjectSettings) -> Value {
    json!({
        "session_gap_ms": sessions.idle_gap_ms, "longest_session_ms": sessions.longest_ms,
        "session_cut_at_midnight": sessions.days.is_some(), "session_cut_at_campaign": sessions.cuts_at_campaign,
        "internal": internal.known_by().collect::<Vec<_>>(), "exclude_data_centres": internal.excludes_data_centres,
    })
}

fn empty() -> Response<Body> {
    let mut response = json_response(StatusCode::NO_CONTENT, Vec::new());
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

fn with_cookie(mut response: Response<Body>, cookie: Option<HeaderValue>) -> Response<Body> {
    response.headers_mut().extend(cookie.map(|cookie| (header::SET_COOKIE, cookie)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
