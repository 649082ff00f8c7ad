//! The routes of the role: rules, channels, and what people say of alerts.
//!
//! The project comes from the read key. What a file says can be read and tried here, not changed. No secret is shown.

mod history;
mod shown;

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use self::shown::{ShownDeliveries, is_switched_off, ongoing, shown, shown_channel};
use super::backtest::{backtest, try_question};
use super::catalogue::{CHANNELS, Catalogue, CatalogueSource, KnownRule, Note, Origin, RULES, RuleKey};
use super::channel::{Delivery, NamedChannel};
use super::judge::RuleState;
use super::machine::Line;
use super::notice::{Kind, Notice};
use super::observe::{Span, instant};
use super::outbox::Ended;
use super::rule::{Rule, RuleBody, SavedRule};
use super::saving::{self, Expected, Write, unknown};
use super::target::Sent;
use super::{Alerts, Parts};
use crate::auth::{Grant, KeyKind, Keys};
use crate::event::ids::ProjectId;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::of_file::written_for;
use crate::http::respond::{ApiError, Body, json_response, method_not_allowed};
use crate::http::server::Call;
use crate::query::{ErrorClass, QueryError, dry_run, of_file};
use crate::store::tables::alert_states::{self, Stored, kind};
use crate::store::tables::saved::{By, Shelf};

const ALERTS: &str = "/v1/alerts";
const CHANNEL_PATHS: &str = "/v1/channels";
/// The paths of the role with the methods that each takes.
pub const PATHS: &[(&str, &[&str])] = &[
    ("/v1/alerts", &["GET"]),
    ("/v1/alerts/{id}", &["GET", "PUT", "DELETE"]),
    ("/v1/alerts/{id}/history", &["GET"]),
    ("/v1/alerts/{id}/test", &["POST"]),
    ("/v1/alerts/{id}/ack", &["POST"]),
    ("/v1/alerts/{id}/silence", &["POST"]),
    ("/v1/channels", &["GET"]),
    ("/v1/channels/{id}", &["GET", "PUT", "DELETE"]),
    ("/v1/channels/{id}/test", &["POST"]),
];
/// Largest body.
const MAX_BODY: usize = 64 << 10;
/// Channels that are tried at a time.
const MOST_TRIES: usize = 4;
/// How far back a rule is tested without a time.
const TESTED: &str = "-30d";
const MOST_NOTE: usize = 2_000;

/// The role over HTTP. Cheap to clone.
#[derive(Clone)]
pub struct AlertApi {
    alerts: Alerts,
    keys: Keys,
    body: BodyLimits,
    tries: Arc<Semaphore>,
}

/// What a path is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Rules,
    Rule(String),
    History(String),
    Of(String, &'static str),
    Channels,
    Channel(String),
    TestChannel(String),
}

impl Asked {
    fn of(path: &str) -> Option<Self> {
        let parts = |prefix: &str| {
            let rest = path.strip_prefix(prefix)?;
            let rest: Vec<&str> = rest.split('/').skip(1).collect();
            (path == prefix || path.starts_with(&format!("{prefix}/"))).then_some(rest)
        };
        if let Some(parts) = parts(ALERTS) {
            return match parts.as_slice() {
                [] => Some(Self::Rules),
                [id] => Some(Self::Rule((*id).to_owned())),
                [id, "history"] => Some(Self::History((*id).to_owned())),
                [id, what] => {
                    let known = ["test", "ack", "silence"].into_iter().find(|known| known == what)?;
                    Some(Self::Of((*id).to_owned(), known))
                }
                _ => None,
            };
        }
        match parts(CHANNEL_PATHS)?.as_slice() {
            [] => Some(Self::Channels),
            [id] => Some(Self::Channel((*id).to_owned())),
            [id, "test"] => Some(Self::TestChannel((*id).to_owned())),
            _ => None,
        }
    }

    const fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Rules | Self::Channels => &["GET"],
            Self::Rule(_) | Self::Channel(_) => &["GET", "PUT", "DELETE"],
            Self::History(_) => &["GET"],
            Self::Of(..) | Self::TestChannel(_) => &["POST"],
        }
    }
}

impl AlertApi {
    /// Shows and changes what `alerts` watch, to the holders of `keys`. `body_timeout` is the listener's.
    pub fn new(alerts: Alerts, keys: Keys, body_timeout: Duration) -> Self {
        let body = BodyLimits { max_wire: MAX_BODY, max_inflated: MAX_BODY, timeout: body_timeout, claim: Claim::Live, finds_gzip: false };
        Self { alerts, keys, body, tries: Arc::new(Semaphore::new(MOST_TRIES)) }
    }

    /// Answers a request if its path is one of this role's.
    pub async fn answer(&self, call: Call) -> Result<Response<Body>, Call> {
        let Some(asked) = Asked::of(call.request.uri().path()) else { return Err(call) };
        let id = call.request_id.clone();
        if !asked.methods().contains(&call.request.method().as_str()) {
            return Ok(method_not_allowed(&asked.methods().join(", "), &id));
        }
        Ok(self.respond(asked, call).await.unwrap_or_else(|error| error.into_response(&id)))
    }

    async fn respond(&self, asked: Asked, call: Call) -> Result<Response<Body>, ApiError> {
        let grant = self.keys.caller(&call, KeyKind::Read)?;
        let (method, query) = (call.request.method().clone(), call.request.uri().query().unwrap_or_default().to_owned());
        // What a browser sends of itself when it reads again is no condition of a write.
        let expected = if method == Method::GET { Expected::Anything } else { expected(call.request.headers())? };
        let is_trial = method == Method::PUT && dry_run(&query)?;
        let file = written_for(call.request.headers())?;
        let user = call.peer.user(call.request.headers());
        let body = body::read(call.request, self.body).await?;
        let asking = Asking { parts: &self.alerts.0, grant: &grant, tries: &self.tries, is_trial, by: By::of(file.as_deref()), user };
        let answer = match (asked, method) {
            (Asked::Rules, _) => asking.rules().await?,
            (Asked::Rule(id), Method::GET) => asking.rule(&id).await?,
            (Asked::Rule(id), Method::PUT) => asking.put_rule(&id, &body, expected).await?,
            (Asked::Rule(id), _) => asking.delete(RULES, &id, expected).await?,
            (Asked::Of(id, "test"), _) => asking.test(&id, &body).await?,
            (Asked::History(id), _) => return Ok(json_response(StatusCode::OK, asking.history(&id, &query).await?)),
            (Asked::Of(id, what), _) => asking.note(&id, what == "ack", &body).await?,
            (Asked::Channels, _) => asking.channels().await?,
            (Asked::Channel(id), Method::GET) => asking.channel(&id).await?,
            (Asked::Channel(id), Method::PUT) => asking.put_channel(&id, &body, expected).await?,
            (Asked::Channel(id), _) => asking.delete(CHANNELS, &id, expected).await?,
            (Asked::TestChannel(id), _) => asking.test_channel(&id).await?,
        };
        let version = answer.get("version").and_then(Value::as_u64);
        let mut response = json_response(StatusCode::OK, answer.to_string().into_bytes());
        if let Some(tag) = version.and_then(|version| HeaderValue::try_from(format!("\"{version}\"")).ok()) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        Ok(response)
    }
}

/// Who asks.
struct Asking<'a> {
    parts: &'a Arc<Parts>,
    grant: &'a Grant,
    tries: &'a Semaphore,
    /// Whether a write is only to be checked.
    is_trial: bool,
    by: By<'a>,
    /// Who is signed in with a proxy.
    user: Option<String>,
}

/// What is to be saved.
struct Written<'a> {
    body: &'a str,
    expected: Expected,
}

impl Asking<'_> {
    fn project(&self) -> ProjectId {
        self.grant.project
    }

    fn key(&self, id: &str) -> RuleKey {
        RuleKey { project: self.project().0, id: id.to_owned() }
    }

    /// What there is in the project, and in files.
    async fn catalogue(&self) -> Result<Catalogue, QueryError> {
        let files = self.parts.files.now();
        let from = CatalogueSource { files: &files, store: &self.parts.store, trust: &self.parts.trust };
        let read = Catalogue::read(from, Some(self.project()), &Catalogue::default()).await;
        read.map_err(|problem| QueryError::of_store(problem.class()))
    }

    async fn known(&self, id: &str) -> Result<(Arc<KnownRule>, Catalogue), QueryError> {
        let catalogue = self.catalogue().await?;
        let known = catalogue.rules.get(&self.key(id)).cloned().ok_or_else(|| unknown(RULES, id))?;
        Ok((known, catalogue))
    }

    async fn rules(&self) -> Result<Value, QueryError> {
        let catalogue = self.catalogue().await?;
        let states = self.states(None).await?;
        let of_project = catalogue.rules.values().filter(|known| known.key.project == self.project().0);
        let shown: Vec<Value> = of_project.map(|known| shown(known, &states, &catalogue)).collect();
        Ok(json!({"alerts": shown}))
    }

    async fn rule(&self, id: &str) -> Result<Value, QueryError> {
        let (known, catalogue) = self.known(id).await?;
        let states = self.states(Some(id)).await?;
        let mut answer = shown(&known, &states, &catalogue);
        let lines = states.iter().filter(|row| row.kind == kind::LINE).map(|row| {
            let line: Line = serde_json::from_str(&row.body).unwrap_or_default();
            let since = instant(line.since);
            json!({"line": row.entry, "state": line.phase, "since": since, "value": line.value, "flapping": line.is_flapping})
        });
        answer["lines"] = lines.collect();
        Ok(answer)
    }

    async fn states(&self, rule: Option<&str>) -> Result<Vec<Stored>, QueryError> {
        let states = alert_states::states_of(&self.parts.store, self.project().0, rule).await;
        states.map_err(|problem| QueryError::of_store(problem.class()))
    }

    async fn put_rule(&self, id: &str, body: &[u8], expected: Expected) -> Result<Value, QueryError> {
        let catalogue = self.catalogue().await?;
        self.check_of_no_file(&catalogue, RULES, id)?;
        let rule = checked(saving::object(body)?)?;
        rule.check_hours().map_err(|problem| invalid(problem.to_string()))?;
        for id in &rule.body.channels {
            let channel = catalogue.channel(self.project(), id);
            let channel = channel.ok_or_else(|| invalid(format!("channels: there is no channel `{id}`")))?;
            channel.check_told(&rule).map_err(invalid)?;
        }
        self.try_question(id, &rule).await?;
        let saved = SavedRule { project: self.grant.name.to_string(), rule: rule.body, saved_ms: (self.parts.now_ms)() };
        let body = serde_json::to_string(&saved).map_err(|problem| QueryError::invalid("invalid_alert", problem.to_string()))?;
        if !self.is_trial {
            saving::unmute_new(&self.parts.store, &self.key(id)).await?;
        }
        let version = saving::put(&self.parts.store, self.write(RULES, id, Written { body: &body, expected })).await?;
        Ok(json!({"id": id, "version": version}))
    }

    /// Asks about the newest slot once, so that what cannot be asked is refused when it is saved.
    async fn try_question(&self, id: &str, rule: &Rule) -> Result<(), QueryError> {
        rule.check_question()?;
        let now_ms = (self.parts.now_ms)();
        let known = self.unsaved(id, rule.clone());
        match try_question(&self.parts.queries, &known, now_ms).await {
            Err(problem) if matches!(problem.class, ErrorClass::Invalid | ErrorClass::NotFound) => {
                Err(QueryError { class: ErrorClass::Invalid, message: format!("question: {}", problem.message), ..problem })
            }
            _ => Ok(()),
        }
    }

    fn write<'a>(&'a self, kind: &'static str, id: &'a str, written: Written<'a>) -> Write<'a> {
        Write { kind, project: self.project(), id, body: written.body, expected: written.expected, is_trial: self.is_trial, by: self.by }
    }

    fn unsaved(&self, id: &str, rule: Rule) -> KnownRule {
        KnownRule { key: self.key(id), project_name: self.grant.name.to_string(), rule, origin: Origin::UNSAVED }
    }

    /// What a file of the instance says is changed there alone.
    ///
    /// # Errors
    /// 412 `owned_by_file`.
    fn check_of_no_file(&self, catalogue: &Catalogue, kind: &'static str, id: &str) -> Result<(), QueryError> {
        let file = match kind {
            RULES => catalogue.file_of_rule(&self.key(id)),
            _ => catalogue.file_of_channel(self.project(), id).map(str::to_owned),
        };
        file.map_or(Ok(()), |file| Err(of_file(&file)))
    }

    async fn delete(&self, kind: &'static str, id: &str, expected: Expected) -> Result<Value, QueryError> {
        // What is saved in the shadow of a file can be cleared away; what the file says stays.
        let saved = saving::find(&self.parts.store, Shelf { project: self.project(), kind }, id).await?;
        if saved.is_none_or(|saved| saved.body.is_empty()) {
            self.check_of_no_file(&self.catalogue().await?, kind, id)?;
        }
        let version = saving::put(&self.parts.store, self.write(kind, id, Written { body: "", expected })).await?;
        Ok(json!({"id": id, "version": version}))
    }

    /// What a rule would have done: the one of this id, or the one in the body.
    async fn test(&self, id: &str, body: &[u8]) -> Result<Value, QueryError> {
        let mut asked = saving::object(body)?;
        if let Some(key) = asked.keys().find(|key| !["rule", "from", "to"].contains(&key.as_str())) {
            return Err(invalid(format!("unknown key `{}`: rule, from and to are known", super::rule::short(key))));
        }
        let now_ms = (self.parts.now_ms)();
        let known = match asked.remove("rule") {
            Some(Value::Object(written)) => {
                let rule = checked(written)?;
                rule.check_question()?;
                self.unsaved(id, rule)
            }
            Some(_) => return Err(invalid("rule: it must be an object".to_owned())),
            None => KnownRule::clone(&*self.known(id).await?.0),
        };
        let span = Span { from_ms: time(&asked, "from", TESTED, now_ms)?, until_ms: time(&asked, "to", "now", now_ms)? };
        Ok(backtest(&self.parts.queries, &known, span, now_ms).await?.to_json())
    }

    /// Says that somebody knows of an alert, or that nobody is to be told.
    async fn note(&self, id: &str, is_ack: bool, body: &[u8]) -> Result<Value, QueryError> {
        let known = self.known(id).await?.0;
        let asked = saving::object(body)?;
        if let Some(key) = asked.keys().find(|key| !["by", "note", "until"].contains(&key.as_str())) {
            return Err(invalid(format!("unknown key `{}`: by, note and until are known", super::rule::short(key))));
        }
        let text = |key: &str| match asked.get(key) {
            None => Ok(String::new()),
            Some(Value::String(text)) if text.len() <= MOST_NOTE => Ok(text.clone()),
            Some(_) => Err(invalid(format!("{key}: text of at most {MOST_NOTE} bytes"))),
        };
        let now_ms = (self.parts.now_ms)();
        let until = match asked.contains_key("until") {
            true => time(&asked, "until", "now", now_ms)?,
            // An acknowledgement lasts as long as the alert.
            false if is_ack => i64::MAX / 1_000_000,
            false => return Err(invalid("until: until when nobody is to be told is missing".to_owned())),
        };
        // Who is signed in is nobody else.
        let said = Some(text("by")?).filter(|by| !by.is_empty());
        let by = self.user.clone().or(said).unwrap_or_else(|| self.grant.signature());
        let states = self.states(Some(id)).await?;
        let state = states.iter().find(|row| row.kind == kind::RULE).map(|row| serde_json::from_str(&row.body).unwrap_or_default());
        let state: RuleState = state.unwrap_or_default();
        let lines = states.iter().filter(|row| row.kind == kind::LINE).filter_map(|row| serde_json::from_str(&row.body).ok());
        let episode = ongoing(&state, &lines.collect::<Vec<Line>>());
        if is_ack && episode == 0 {
            return Err(QueryError::conflict("not_firing", format!("`{id}` is no alert now")));
        }
        let through = state.cursor.unwrap_or_default();
        let note = Note { by, note: text("note")?, at: now_ms, until, episode, through, began: state.since };
        let mute = saving::mute(&self.parts.store, &known.key, |mute| {
            let place = if is_ack { &mut mute.ack } else { &mut mute.silence };
            *place = Some(note.clone());
        });
        Ok(json!(mute.await?))
    }

    async fn channels(&self) -> Result<Value, QueryError> {
        let catalogue = self.catalogue().await?;
        let (gone, deliveries) = tokio::try_join!(self.gone(), self.deliveries())?;
        let own = catalogue.channels.iter().filter(|channel| channel.is_of(self.project()));
        Ok(json!({"channels": own.map(|channel| shown_channel(channel, &gone, &deliveries)).collect::<Vec<_>>()}))
    }

    async fn channel(&self, id: &str) -> Result<Value, QueryError> {
        let catalogue = self.catalogue().await?;
        let (gone, deliveries) = tokio::try_join!(self.gone(), self.deliveries())?;
        let found = catalogue.channel(self.project(), id);
        found.map(|channel| shown_channel(channel, &gone, &deliveries)).ok_or_else(|| unknown(CHANNELS, id))
    }

    async fn deliveries(&self) -> Result<ShownDeliveries, QueryError> {
        let deliveries = alert_states::deliveries(&self.parts.store, self.project().0).await;
        deliveries.map(ShownDeliveries::of).map_err(|problem| QueryError::of_store(problem.class()))
    }

    async fn gone(&self) -> Result<Vec<Stored>, QueryError> {
        alert_states::gone(&self.parts.store, self.project().0).await.map_err(|problem| QueryError::of_store(problem.class()))
    }

    async fn put_channel(&self, id: &str, body: &[u8], expected: Expected) -> Result<Value, QueryError> {
        self.check_of_no_file(&self.catalogue().await?, CHANNELS, id)?;
        let written = saving::object(body)?;
        if written.contains_key("project") {
            return Err(QueryError::invalid("invalid_channel", "project: it follows from the key"));
        }
        let refused = |problem: String| {
            let code = if problem.starts_with("url:") { "webhook_url_forbidden" } else { "invalid_channel" };
            QueryError::invalid(code, problem)
        };
        NamedChannel::open(id, &written, &self.parts.trust).and_then(|_| NamedChannel::check_saved(&written)).map_err(refused)?;
        let body = Value::Object(written).to_string();
        let version = saving::put(&self.parts.store, self.write(CHANNELS, id, Written { body: &body, expected })).await?;
        Ok(json!({"id": id, "version": version}))
    }

    /// Tells a channel something, as an alert would. One that was switched off and takes it is on again, of a file too.
    async fn test_channel(&self, id: &str) -> Result<Value, QueryError> {
        let catalogue = self.catalogue().await?;
        let channel = catalogue.channel(self.project(), id).ok_or_else(|| unknown(CHANNELS, id))?;
        let _permit = self.tries.try_acquire().map_err(|_| QueryError::too_many())?;
        let now_ms = (self.parts.now_ms)();
        let mut notice = Notice::about_pulse(Kind::Test, now_ms);
        notice.project = self.project().0;
        let delivery = Delivery { id: uuid::Uuid::new_v4(), notice, now_s: now_ms / 1_000 };
        let is_off = is_switched_off(channel, &self.gone().await?);
        let sent = channel.channel.tell(&delivery).await;
        let is_on_again = is_off && sent.is_taken();
        if is_on_again {
            saving::switch_on(&self.parts.store, channel).await?;
        }
        // A test is not tried again.
        let outcome = if matches!(sent, Sent::Later { .. }) { "failed" } else { Ended::of(&sent).as_str() };
        let why = match sent {
            Sent::Done if is_on_again => "it answered 410 before, and is switched on again".to_owned(),
            Sent::Done => String::new(),
            Sent::Gone => "the receiver answers 410".to_owned(),
            Sent::Partly(why) | Sent::Skipped(why) | Sent::Never(why) | Sent::Later { why, .. } => why,
        };
        Ok(json!({"id": id, "outcome": outcome, "why": why, "webhook_id": delivery.id, "switched_off": is_off && !is_on_again}))
    }
}

fn invalid(message: String) -> QueryError {
    QueryError::invalid("invalid_alert", message)
}

fn checked(written: Map<String, Value>) -> Result<Rule, QueryError> {
    let body = RuleBody::read(written).map_err(invalid)?;
    body.check().map_err(|problem| invalid(problem.to_string()))
}

fn time(asked: &Map<String, Value>, key: &str, default: &str, now_ms: i64) -> Result<i64, QueryError> {
    let text = match asked.get(key) {
        None => default,
        Some(Value::String(text)) => text,
        Some(_) => return Err(QueryError::invalid("invalid_range", format!("{key}: a time as text"))),
    };
    let wrong = || QueryError::invalid("invalid_range", format!("{key}: `{}` is no time", super::rule::short(text)));
    crate::query::instant(text, now_ms).ok_or_else(wrong)
}

/// What `If-Match` and `If-None-Match` expect.
fn expected(headers: &HeaderMap) -> Result<Expected, ApiError> {
    let invalid = |name: &str| ApiError::bad_request("invalid_condition", format!("`{name}` must be the version, such as \"3\", or `*`"));
    let text = |name: header::HeaderName| headers.get(&name).map(|value| value.to_str().map_err(|_| invalid(name.as_str()))).transpose();
    match (text(header::IF_MATCH)?, text(header::IF_NONE_MATCH)?) {
        (None, None) => Ok(Expected::Anything),
        (Some("*"), None) => Ok(Expected::Something),
        (Some(tag), None) => tag.trim_matches('"').parse().map(Expected::Version).map_err(|_| invalid("If-Match")),
        (None, Some("*")) => Ok(Expected::Nothing),
        _ => Err(invalid("If-None-Match")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_are_answered_with_the_methods_that_are_said_of_them() {
        for (path, methods) in PATHS {
            assert_eq!(Asked::of(&path.replace("{id}", "a")).map(|asked| asked.methods()), Some(*methods), "{path}");
        }
    }
}
