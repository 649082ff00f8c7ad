//! Managed keys over HTTP, for the holders of admin keys: each manages the keys of its project.

use hyper::header::HeaderValue;
use hyper::{Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::QueryApi;
use super::saved::{expected, versioned};
use crate::auth::KeyKind;
use crate::auth::managed::ManagedKey;
use crate::clock;
use crate::http::body::{self, BodyLimits};
use crate::http::respond::{ApiError, Body, json_response};
use crate::http::server::Call;
use crate::query::ask::fields;
use crate::query::error::QueryError;
use crate::query::keys::{self, AUDIT, Action, Author, KEY, MAX_KEY, Made, WrittenKey};
use crate::query::notes::{AskedNotes, PAGE};
use crate::query::saved::{Expected, Write};
use crate::store::tables::saved::NameRange;

/// A change that is to be made to a key.
struct Change<'a> {
    action: Action,
    id: &'a str,
    /// The key then; none deletes it.
    key: Option<&'a ManagedKey>,
    expected: Expected,
}

impl QueryApi {
    /// Lists the keys, or makes one.
    pub(super) async fn managed_keys(&self, call: Call) -> Result<Response<Body>, ApiError> {
        let author = self.author(&call)?;
        if *call.request.method() == Method::GET {
            let answer = keys::listed(&author.project_name, &self.queries.0.saved.all(&KEY, author.project).await?);
            return Ok(uncached(json_response(StatusCode::OK, answer.to_string().into_bytes())));
        }
        let body = fields::parse(&body::read(call.request, self.key_limits()).await?)?;
        let now_ms = clock::now_ms();
        let made = WrittenKey::parse(&body, now_ms)?.make(now_ms)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let change = Change { action: Action::Created, id: &id, key: Some(&made.key), expected: Expected::None };
        let version = self.change_key(&author, change).await?;
        let mut response = json_response(StatusCode::CREATED, answer(&id, version, &made));
        response.headers_mut().extend(HeaderValue::try_from(format!("\"{version}\"")).ok().map(|tag| (header::ETAG, tag)));
        Ok(uncached(response))
    }

    /// Shows, changes or revokes a key. One that is revoked already, or cannot be read, is deleted.
    pub(super) async fn managed_key(&self, call: Call, id: &str) -> Result<Response<Body>, ApiError> {
        let author = self.author(&call)?;
        let expected = expected(call.request.headers())?;
        let saved = self.queries.0.saved.get(&KEY, author.project, id).await?;
        let read = keys::read(&saved);
        if !matches!(expected, Expected::Anything | Expected::Some) && expected != Expected::Version(saved.version) {
            return Err(KEY.changed(Some(&saved)).into());
        }
        // What was looked at is what is changed, or nothing is.
        let expected = Expected::Version(saved.version);
        let is_deleted = *call.request.method() == Method::DELETE && read.as_ref().map_or(true, |key| key.revoked_ms.is_some());
        let (action, key) = match *call.request.method() {
            _ if is_deleted => (Action::Deleted, None),
            Method::GET => return Ok(uncached(versioned(saved.version, &keys::shown(id, saved.version, &read?)))),
            Method::PUT => {
                let key = read?;
                keys::check_live(&key)?;
                let body = fields::parse(&body::read(call.request, self.key_limits()).await?)?;
                (Action::Changed, Some(WrittenKey::parse(&body, clock::now_ms())?.change(key)?))
            }
            _ => (Action::Revoked, Some(ManagedKey { revoked_ms: Some(clock::now_ms()), ..read? })),
        };
        let version = self.change_key(&author, Change { action, id, key: key.as_ref(), expected }).await?;
        let shown = key.map_or_else(|| json!({"id": id, "version": version}), |key| keys::shown(id, version, &key));
        Ok(uncached(versioned(version, &shown)))
    }

    /// Gives a key another secret.
    pub(super) async fn rotate_key(&self, call: Call, id: &str) -> Result<Response<Body>, ApiError> {
        let author = self.author(&call)?;
        let bytes = body::read(call.request, self.key_limits()).await?;
        let body = if bytes.is_empty() { json!({}) } else { fields::parse(&bytes)? };
        let saved = self.queries.0.saved.get(&KEY, author.project, id).await?;
        let made = keys::rotate(keys::read(&saved)?, &body, clock::now_ms())?;
        let change = Change { action: Action::Rotated, id, key: Some(&made.key), expected: Expected::Version(saved.version) };
        let version = self.change_key(&author, change).await?;
        Ok(uncached(json_response(StatusCode::OK, answer(id, version, &made))))
    }

    /// What was changed of keys, in the order of time.
    pub(super) async fn audit(&self, call: &Call) -> Result<Response<Body>, ApiError> {
        let author = self.author(call)?;
        let AskedNotes { after, until } = AskedNotes::parse(call.request.uri().query().unwrap_or_default(), clock::now_ms())?;
        let range = NameRange { after: &after, until: &until, limit: PAGE as u64 + 1 };
        let mut found = self.queries.0.saved.between(&AUDIT, author.project, range).await?;
        let has_more = found.len() > PAGE;
        found.truncate(PAGE);
        let next = found.last().filter(|_| has_more).map(|entry| &entry.name);
        let shown = json!({"entries": found.iter().map(keys::shown_entry).collect::<Vec<_>>(), "next": next});
        Ok(uncached(json_response(StatusCode::OK, shown.to_string().into_bytes())))
    }

    /// Makes a change, after the log says so; the version of the key then. The instance goes by it at once, others within seconds.
    async fn change_key(&self, author: &Author, change: Change<'_>) -> Result<u64, ApiError> {
        let Change { action, id, key, expected } = change;
        let saved = &self.queries.0.saved;
        let body = key.map(serde_json::to_string).transpose().map_err(|_| QueryError::internal("the key cannot be written"))?;
        let after = key.map(|key| keys::shown(id, 0, key)).map_or(Value::Null, without_version);
        saved.append(&AUDIT, author.project, &author.entry(action, id, &after)).await?;
        match saved.put(&KEY, author.project, Write::new(id, body.as_deref(), expected)).await {
            Ok(version) => {
                self.keys.put_managed(author.project, id, body);
                tracing::info!(key = id, version, action = ?action, "a managed key is changed");
                Ok(version)
            }
            Err(problem) => {
                // Where this fails too the change may have been made: its answer was lost.
                drop(saved.append(&AUDIT, author.project, &author.entry(Action::Failed, id, &after)).await);
                Err(problem.into())
            }
        }
    }

    fn author(&self, call: &Call) -> Result<Author, ApiError> {
        let grant = self.keys.caller(call, KeyKind::Admin)?;
        let address = call.peer.client_ip(call.request.headers());
        Ok(Author::new(&grant, address.to_string(), call.peer.user(call.request.headers()), clock::now_ms()))
    }

    fn key_limits(&self) -> BodyLimits {
        BodyLimits { max_wire: MAX_KEY, max_inflated: MAX_KEY, ..self.body }
    }
}

/// A key with its new secret.
fn answer(id: &str, version: u64, made: &Made) -> Vec<u8> {
    keys::shown_once(keys::shown(id, version, &made.key), &made.secret).to_string().into_bytes()
}

fn without_version(mut shown: Value) -> Value {
    shown.as_object_mut().map(|members| members.remove("version"));
    shown
}

/// Kept by nobody on the way.
fn uncached(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
