//! Webhooks: the body is Alertmanager's (version 4) with a `pulse` object, the headers are those of Standard Webhooks.
//!
//! `webhook-signature` has one signature a secret, so that both work while one is exchanged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Channel, Delivery, Settings};
use crate::alert::notice::{CANNOT_JUDGE, Kind, NamedLine, Notice};
use crate::alert::observe::instant;
use crate::alert::target::{Outgoing, Sent, Target};
use crate::secret::Secret;

/// How secrets of Standard Webhooks begin.
const SECRET_PREFIX: &str = "whsec_";

struct Webhook {
    target: Target,
    secrets: Vec<Vec<u8>>,
}

pub(super) fn open(settings: &Settings<'_>) -> Result<Box<dyn Channel>, String> {
    settings.only(&["url", "secret", "next_secret"])?;
    let secrets = [settings.secret("secret")?, settings.secret("next_secret")?];
    Ok(Box::new(Webhook { target: settings.target("url")?, secrets: secrets.iter().flatten().map(key_of).collect() }))
}

/// A secret is Base64 behind its prefix, or the bytes as they are.
fn key_of(secret: &Secret) -> Vec<u8> {
    let text = secret.reveal();
    text.strip_prefix(SECRET_PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok()).unwrap_or_else(|| text.as_bytes().to_vec())
}

impl Channel for Webhook {
    fn tell<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Sent> {
        self.target.post(self.outgoing(delivery)).boxed()
    }
}

impl Webhook {
    fn outgoing(&self, delivery: &Delivery) -> Outgoing {
        let mut outgoing = Outgoing::json(&body(&delivery.notice));
        let id = delivery.id.to_string();
        let signatures: Vec<String> = self.secrets.iter().filter_map(|key| signature(key, &id, delivery.now_s, &outgoing.body)).collect();
        let headers = [("webhook-id", id), ("webhook-timestamp", delivery.now_s.to_string()), ("webhook-signature", signatures.join(" "))];
        for (name, value) in headers {
            if let (false, Ok(value)) = (value.is_empty(), HeaderValue::try_from(value)) {
                outgoing.headers.insert(HeaderName::from_static(name), value);
            }
        }
        outgoing
    }
}

fn signature(key: &[u8], id: &str, now_s: i64, body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(format!("{id}.{now_s}.").as_bytes());
    mac.update(body);
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// The labels of a line, as Alertmanager has them.
pub(super) fn labels(notice: &Notice, line: Option<&NamedLine>) -> Value {
    let mut labels: serde_json::Map<String, Value> = notice.labels.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    labels.insert("alertname".to_owned(), notice.name.clone().into());
    labels.insert("rule".to_owned(), notice.rule.clone().into());
    // Two projects may have a rule of one name.
    if !notice.project_name.is_empty() {
        labels.insert("project".to_owned(), notice.project_name.clone().into());
    }
    labels.insert("severity".to_owned(), notice.severity.as_str().into());
    if notice.kind.is_of_rule() {
        labels.insert("condition".to_owned(), CANNOT_JUDGE.into());
    }
    if let Some(line) = line.filter(|line| !line.name.is_empty()) {
        labels.insert("breakdown".to_owned(), line.name.clone().into());
    }
    Value::Object(labels)
}

pub(super) fn annotations(notice: &Notice, line: Option<&NamedLine>) -> Value {
    let mut all: serde_json::Map<String, Value> =
        notice.annotations.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
    all.entry("summary").or_insert_with(|| notice.title().into());
    // Each line says what is its own; all of them stand once, in the common annotations.
    let text = || match line {
        Some(line) if notice.kind == Kind::Report => notice.line_text(line),
        Some(line) => notice.body_of(std::slice::from_ref(line), 0),
        None => notice.body(),
    };
    all.entry("description").or_insert_with(|| text().into());
    if !notice.runbook.is_empty() {
        all.insert("runbook_url".to_owned(), notice.runbook.clone().into());
    }
    if let Some(value) = line.and_then(|line| line.value) {
        all.insert("value".to_owned(), value.to_string().into());
    }
    Value::Object(all)
}

/// Alertmanager's webhook, version 4, and what it has no place for.
pub(super) fn body(notice: &Notice) -> Value {
    let status = |is_firing: bool| if is_firing { "firing" } else { "resolved" };
    let alert = |line: Option<&NamedLine>| {
        let is_firing = line.map_or(notice.is_firing(), |line| line.is_firing);
        let since = line.map_or(notice.episode, |line| line.since);
        json!({
            "status": status(is_firing),
            "labels": labels(notice, line),
            "annotations": annotations(notice, line),
            "startsAt": instant(since),
            "endsAt": if is_firing { "0001-01-01T00:00:00Z".to_owned() } else { instant(notice.until) },
            "generatorURL": notice.url,
            "fingerprint": fingerprint(notice, line),
        })
    };
    let alerts: Vec<Value> = match notice.lines.is_empty() {
        true => vec![alert(None)],
        false => notice.lines.iter().map(|line| alert(Some(line))).collect(),
    };
    json!({
        "version": "4",
        "groupKey": notice.episode_key().to_string(),
        "truncatedAlerts": notice.unnamed,
        "status": status(notice.is_firing()),
        "receiver": "pulse",
        "groupLabels": {"rule": notice.rule, "project": notice.project_name},
        "commonLabels": labels(notice, None),
        "commonAnnotations": annotations(notice, None),
        "externalURL": notice.url,
        "alerts": alerts,
        "pulse": {
            "kind": notice.kind, "rule": notice.rule, "name": notice.name, "slot": instant(notice.slot), "until": instant(notice.until),
            "episode": instant(notice.episode), "timezone": notice.timezone, "condition": notice.condition, "late": notice.is_late,
            "firing": notice.firing, "text": notice.text, "lines": notice.lines.iter().map(|line| json!({
                "breakdown": line.name, "firing": line.is_firing, "value": line.value, "reason": line.reason, "since": instant(line.since),
            })).collect::<Vec<_>>(),
        },
    })
}

fn fingerprint(notice: &Notice, line: Option<&NamedLine>) -> String {
    let text = format!("{:x}/{}/{}", notice.project, notice.rule, line.map_or("", |line| line.name.as_str()));
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_example_of_standard_webhooks() {
        let key = key_of(&Secret::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()));
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
