//! Managed keys as they are asked for: what is written, checked and shown of them, and the audit log of all that.
//!
//! Promises: a secret is shown once, when it is made; nothing changes without an entry in the log, which is written first and says so if
//! the change was not made after all. Bounds: those of [`KEY`], [`MOST_LIMITS`] origins and paths, two secrets that are valid at a time.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::ask::Fields;
use super::ask::fields::shortened;
use super::ask::range::{instant_in_utc, show_ms};
use super::error::QueryError;
use super::saved::Kind;
use crate::auth::managed::{self, KeySecret, ManagedKey};
use crate::auth::origin::normal_origin;
use crate::auth::{Grant, KeyKind, keys};
use crate::event::ids::ProjectId;
use crate::store::tables::saved::Saved;

/// A managed key.
pub(super) const KEY: Kind = Kind {
    word: managed::DOCUMENT,
    invalid: INVALID,
    unknown: "unknown_key_id",
    too_many: "too_many_keys",
    most: 1_000,
    most_names: 10_000,
};
/// What changed of keys: an entry a change, named by its time.
pub(super) const AUDIT: Kind =
    Kind { word: "audit", invalid: INVALID, unknown: "unknown_entry", too_many: "too_many_entries", most: u64::MAX, most_names: u64::MAX };
/// Largest request, bytes.
pub(super) const MAX_KEY: usize = 64 << 10;
const INVALID: &str = "invalid_key_settings";
/// Longest name of a key, and longest path, bytes.
const MAX_NAME: usize = 100;
const MAX_PATH: usize = 200;
/// Most origins, and most paths.
const MOST_LIMITS: usize = 50;
/// Highest rate that can be set, events a second.
const MOST_RATE: u64 = 10_000_000;
/// How long the secret before stays valid where a rotation does not say, and longest.
const OVERLAP_MS: i64 = 7 * DAY_MS;
const LONGEST_OVERLAP_MS: i64 = 90 * DAY_MS;
const DAY_MS: i64 = 86_400_000;

/// What is written of a key.
#[derive(Debug, PartialEq)]
pub(super) struct WrittenKey {
    name: String,
    kind: Option<KeyKind>,
    origins: Vec<String>,
    requires_origin: bool,
    paths: Vec<String>,
    rate: Option<u32>,
    expires_ms: Option<i64>,
}

/// A key with a secret that is shown this once.
pub(super) struct Made {
    pub(super) key: ManagedKey,
    pub(super) secret: String,
}

impl WrittenKey {
    /// Reads `{"name", "kind", "origins", "requires_origin", "paths", "rate", "expires_at"}`, sent at `now_ms`.
    ///
    /// # Errors
    /// 400 `invalid_key_settings`, `unknown_key`.
    pub(super) fn parse(body: &Value, now_ms: i64) -> Result<Self, QueryError> {
        let fields = Fields::open(body, &["name", "kind", "origins", "requires_origin", "paths", "rate", "expires_at"])?;
        let name = fields.text("name", INVALID)?.map(str::trim).unwrap_or_default();
        if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(invalid(format!("`name` must have 1 to {MAX_NAME} bytes and no control characters")));
        }
        let kind = fields.text("kind", INVALID)?.map(kind_of).transpose()?;
        let rate = match fields.value("rate") {
            None => None,
            Some(rate) => Some(
                rate.as_u64()
                    .filter(|rate| (1..=MOST_RATE).contains(rate))
                    .and_then(|rate| u32::try_from(rate).ok())
                    .ok_or_else(|| invalid(format!("`rate` must be a whole number of events a second from 1 to {MOST_RATE}")))?,
            ),
        };
        let expires_ms = match fields.text("expires_at", INVALID)? {
            None => None,
            Some(text) => {
                let at_ms = instant_in_utc(text, now_ms).filter(|at_ms| *at_ms > now_ms);
                Some(at_ms.ok_or_else(|| invalid(format!("`expires_at` is `{}`: it must be a time to come", shortened(text))))?)
            }
        };
        Ok(Self {
            name: name.to_owned(),
            kind,
            origins: limits(fields, "origins", normal_origin)?,
            requires_origin: fields.flag("requires_origin", INVALID)?,
            paths: limits(fields, "paths", |text| is_path(text).then(|| text.to_owned()))?,
            rate,
            expires_ms,
        })
    }

    /// A new key, made at `now_ms`.
    ///
    /// # Errors
    /// 400 `invalid_key_settings`.
    pub(super) fn make(self, now_ms: i64) -> Result<Made, QueryError> {
        let kind = self.kind.ok_or_else(|| invalid("`kind` is missing: it must be write, read, import or admin".to_owned()))?;
        let secret = keys::new_secret(kind);
        let key = ManagedKey {
            name: String::new(),
            kind,
            secrets: vec![KeySecret::of(&secret, now_ms)],
            origins: Vec::new(),
            requires_origin: false,
            paths: Vec::new(),
            rate: None,
            created_ms: now_ms,
            expires_ms: None,
            revoked_ms: None,
        };
        Ok(Made { key: self.change(key)?, secret })
    }

    /// `key` with other settings; its kind stays.
    ///
    /// # Errors
    /// 400 `invalid_key_settings`.
    pub(super) fn change(self, key: ManagedKey) -> Result<ManagedKey, QueryError> {
        let Self { name, kind, origins, requires_origin, paths, rate, expires_ms } = self;
        if kind.is_some_and(|kind| kind != key.kind) {
            return Err(invalid(format!("`kind` is {} and cannot be changed: make another key", key.kind.as_str())));
        }
        if rate.is_some() && !matches!(key.kind, KeyKind::Write | KeyKind::Import) {
            return Err(invalid(format!("`rate` counts events, and a key of the kind {} sends none", key.kind.as_str())));
        }
        if requires_origin && origins.is_empty() {
            return Err(invalid("`requires_origin` needs `origins`".to_owned()));
        }
        Ok(ManagedKey { name, origins, requires_origin, paths, rate, expires_ms, ..key })
    }
}

fn kind_of(text: &str) -> Result<KeyKind, QueryError> {
    let found = KeyKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| invalid(format!("`kind` is `{}`: it must be write, read, import or admin", shortened(text))))
}

/// The texts under `name`, each as `normal` makes it.
fn limits(fields: Fields<'_>, name: &str, normal: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, QueryError> {
    let written = fields.list(name, INVALID)?;
    if written.len() > MOST_LIMITS {
        return Err(invalid(format!("`{name}` has {} members: at most {MOST_LIMITS} are taken", written.len())));
    }
    let mut read = Vec::new();
    for (at, value) in written.iter().enumerate() {
        let text = value.as_str().unwrap_or_default();
        read.push(normal(text).ok_or_else(|| invalid(format!("`{name}[{at}]` is `{}`, which is none", shortened(text))))?);
    }
    Ok(read)
}

/// `/v1/events`, `/i/v0/*`.
fn is_path(text: &str) -> bool {
    let plain = text.strip_suffix('*').unwrap_or(text);
    text.starts_with('/') && text.len() <= MAX_PATH && plain.bytes().all(|byte| byte.is_ascii_graphic() && !b"*?#".contains(&byte))
}

/// Gives a key another secret at `now_ms`; the one before is valid for as long as the body says (`{"overlap": "7d"}`).
///
/// # Errors
/// 400 `invalid_key_settings`; 412 `rotation_running`, `key_revoked`.
pub(super) fn rotate(key: ManagedKey, body: &Value, now_ms: i64) -> Result<Made, QueryError> {
    let fields = Fields::open(body, &["overlap"])?;
    let overlap_ms = match fields.text("overlap", INVALID)? {
        None => OVERLAP_MS,
        Some(text) => {
            let overlap = humantime_serde::re::humantime::parse_duration(text).ok();
            let overlap_ms = overlap.and_then(|overlap| i64::try_from(overlap.as_millis()).ok());
            let message = || format!("`overlap` is `{}`: it must be a time of at most 90 days, such as 7d or 0s", shortened(text));
            overlap_ms.filter(|overlap_ms| *overlap_ms <= LONGEST_OVERLAP_MS).ok_or_else(|| invalid(message()))?
        }
    };
    check_live(&key)?;
    let mut secrets: Vec<KeySecret> = key.secrets.iter().filter(|secret| secret.is_valid(now_ms)).cloned().collect();
    if overlap_ms == 0 {
        secrets.clear();
    }
    if let [_, .., last] = secrets.as_slice()
        && last.ends_ms.is_none()
    {
        let ends = secrets.iter().filter_map(|secret| secret.ends_ms).max().map(show_ms).unwrap_or_default();
        let message = format!("the secret before the last one is valid until {ends}; rotate with `\"overlap\": \"0s\"` to end both now");
        return Err(QueryError::conflict("rotation_running", message));
    }
    secrets.iter_mut().for_each(|secret| secret.ends_ms = Some(secret.ends_ms.unwrap_or(i64::MAX).min(now_ms + overlap_ms)));
    let secret = keys::new_secret(key.kind);
    secrets.push(KeySecret::of(&secret, now_ms));
    Ok(Made { key: ManagedKey { secrets, ..key }, secret })
}

/// # Errors
/// 412 `key_revoked`.
pub(super) fn check_live(key: &ManagedKey) -> Result<(), QueryError> {
    match key.revoked_ms {
        None => Ok(()),
        Some(at_ms) => Err(QueryError::conflict("key_revoked", format!("the key was revoked at {}", show_ms(at_ms)))),
    }
}

/// A key as it is saved.
///
/// # Errors
/// 500: a later release has written it, and this one does not know all that it says.
pub(super) fn read(saved: &Saved) -> Result<ManagedKey, QueryError> {
    ManagedKey::read(&saved.body)
        .ok_or_else(|| QueryError::internal("the key that is saved cannot be read: a later release has written it"))
}

/// The keys of the project with this name as they are listed. One that cannot be read is named alone, and opens nothing here.
pub(super) fn listed(project: &str, saved: &[Saved]) -> Value {
    let there = || saved.iter().filter(|saved| !saved.body.is_empty());
    let shown = |saved: &Saved| Some(shown(&saved.name, saved.version, &read(saved).ok()?));
    let unreadable: Vec<&str> = there().filter(|saved| read(saved).is_err()).map(|saved| saved.name.as_str()).collect();
    let mut listed = json!({"project": project, "keys": there().filter_map(shown).collect::<Vec<_>>()});
    if !unreadable.is_empty() {
        listed["unreadable"] = json!(unreadable);
    }
    listed
}

/// A key as it is shown: of its secrets only what tells them apart, as `GET /v1/session` names keys.
pub(super) fn shown(id: &str, version: u64, key: &ManagedKey) -> Value {
    let time = |at_ms: Option<i64>| at_ms.map(show_ms);
    let secret = |secret: &KeySecret| {
        json!({"name": format!("{} {}", key.kind.as_str(), secret.sha256.get(..8).unwrap_or_default()),
            "created_at": show_ms(secret.created_ms), "ends_at": time(secret.ends_ms)})
    };
    json!({
        "id": id, "version": version, "name": key.name, "kind": key.kind, "origins": key.origins, "requires_origin": key.requires_origin,
        "paths": key.paths, "rate": key.rate, "created_at": show_ms(key.created_ms), "expires_at": time(key.expires_ms),
        "revoked_at": time(key.revoked_ms), "secrets": key.secrets.iter().map(secret).collect::<Vec<_>>(),
    })
}

/// The same with its new secret.
pub(super) fn shown_once(mut shown: Value, secret: &str) -> Value {
    if let Some(members) = shown.as_object_mut() {
        members.insert("key".to_owned(), Value::from(secret));
    }
    shown
}

/// What is done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Created,
    Changed,
    Rotated,
    Revoked,
    Deleted,
    /// The change of the entry before was not made.
    Failed,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Rotated => "rotated",
            Self::Revoked => "revoked",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
        }
    }
}

/// Who changes keys, from where and when.
#[derive(Clone, Debug)]
pub(super) struct Author {
    pub(super) project: ProjectId,
    pub(super) project_name: Arc<str>,
    by: Value,
    address: String,
    at_ms: i64,
}

impl Author {
    /// `user` is who is signed in with a proxy.
    pub(super) fn new(grant: &Grant, address: String, user: Option<String>, at_ms: i64) -> Self {
        let key = grant.shown();
        let by = json!({"id": grant.key_id(), "name": grant.key_name(), "key": key, "user": user});
        Self { project: grant.project, project_name: Arc::clone(&grant.name), by, address, at_ms }
    }

    /// The entry of a change to the key `id`, which is `after` then.
    pub(super) fn entry(&self, action: Action, id: &str, after: &Value) -> Saved {
        let Self { by, address, .. } = self;
        // Behind the entry that it takes back.
        let at_ms = self.at_ms + i64::from(action == Action::Failed);
        let body = json!({"at_ms": at_ms, "by": by, "address": address, "action": action.as_str(), "id": id, "after": after}).to_string();
        // In the order of time; two changes of a moment differ, for each makes another version.
        Saved { name: format!("{at_ms:012x}-{:016x}", xxh3_64(body.as_bytes())), version: 1, body }
    }
}

/// An entry as it is shown.
pub(super) fn shown_entry(Saved { body, .. }: &Saved) -> Value {
    let entry: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
    let value = |name: &str| entry.get(name).cloned().unwrap_or_default();
    json!({"at": value("at_ms").as_i64().map(show_ms), "by": value("by"), "address": value("address"), "action": value("action"),
        "id": value("id"), "after": value("after")})
}

fn invalid(message: String) -> QueryError {
    QueryError::invalid(INVALID, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_767_355_200_000;

    fn written(body: &Value) -> Result<WrittenKey, QueryError> {
        WrittenKey::parse(body, NOW_MS)
    }

    fn made() -> Made {
        written(&json!({"name": "web", "kind": "write"})).unwrap().make(NOW_MS).unwrap()
    }

    #[test]
    fn what_is_no_key_is_refused_by_name() {
        let cases = [
            (json!({"kind": "write"}), "`name`"),
            (json!({"name": " ", "kind": "write"}), "`name`"),
            (json!({"name": "a\nb", "kind": "write"}), "`name`"),
            (json!({"name": "x".repeat(101), "kind": "write"}), "`name`"),
            (json!({"name": "a"}), "`kind`"),
            (json!({"name": "a", "kind": "root"}), "`kind`"),
            (json!({"name": "a", "kind": "write", "rate": 0}), "`rate`"),
            (json!({"name": "a", "kind": "write", "rate": 1.5}), "`rate`"),
            (json!({"name": "a", "kind": "read", "rate": 5}), "`rate`"),
            (json!({"name": "a", "kind": "write", "origins": ["https://a/b"]}), "`origins[0]`"),
            (json!({"name": "a", "kind": "write", "origins": "https://a"}), "`origins`"),
            (json!({"name": "a", "kind": "write", "origins": vec!["https://a"; 51]}), "`origins`"),
            (json!({"name": "a", "kind": "write", "requires_origin": true}), "`requires_origin`"),
            (json!({"name": "a", "kind": "write", "paths": ["/v1/events", "v1"]}), "`paths[1]`"),
            (json!({"name": "a", "kind": "write", "paths": ["/a*b"]}), "`paths[0]`"),
            (json!({"name": "a", "kind": "write", "expires_at": "2020-01-01"}), "`expires_at`"),
            (json!({"name": "a", "kind": "write", "project": "other"}), "`project`"),
            (json!({"name": "a", "kind": "write", "secrets": []}), "`secrets`"),
        ];
        for (body, part) in cases {
            let problem = written(&body).and_then(|written| written.make(NOW_MS).map(drop)).unwrap_err();
            assert!(problem.message.contains(part), "{body}: {problem}");
        }
        let kept = written(&json!({"name": "web", "kind": "read"})).unwrap().change(made().key).unwrap_err();
        assert!(kept.message.contains("`kind`"), "{kept}");
    }

    #[test]
    fn two_secrets_are_valid_at_a_time_and_the_old_one_has_an_end() {
        let Made { key, secret } = made();
        let rotated = rotate(key, &json!({"overlap": "1h"}), NOW_MS).unwrap();
        assert_ne!(rotated.secret, secret);
        let ends = |key: &ManagedKey| key.secrets.iter().map(|secret| secret.ends_ms).collect::<Vec<_>>();
        assert_eq!(ends(&rotated.key), [Some(NOW_MS + 3_600_000), None]);
        let again = rotate(rotated.key.clone(), &json!({}), NOW_MS + 1_000);
        assert_eq!(again.err().unwrap().code, "rotation_running");
        let at_once = rotate(rotated.key.clone(), &json!({"overlap": "0s"}), NOW_MS + 1_000).unwrap();
        assert_eq!(ends(&at_once.key), [None]);
        let later = rotate(rotated.key, &json!({}), NOW_MS + 3_600_000).unwrap();
        assert_eq!(ends(&later.key), [Some(NOW_MS + 3_600_000 + OVERLAP_MS), None]);
        for bad in [json!({"overlap": "91d"}), json!({"overlap": "-1s"}), json!({"overlap": "soon"}), json!({"overlap": 7})] {
            assert_eq!(rotate(later.key.clone(), &bad, NOW_MS).err().unwrap().code, INVALID, "{bad}");
        }
        let revoked = ManagedKey { revoked_ms: Some(NOW_MS), ..later.key };
        assert_eq!(rotate(revoked, &json!({}), NOW_MS).err().unwrap().code, "key_revoked");
    }

    #[test]
    fn a_key_of_a_later_release_is_named_beside_those_that_can_be_read() {
        let saved = |name: &str, body: String| Saved { name: name.to_owned(), version: 1, body };
        let body = serde_json::to_value(made().key).unwrap();
        let later = |member: &str, value: Value| {
            let mut body = body.clone();
            body[member] = value;
            body.to_string()
        };
        let all = [
            saved("a", body.to_string()),
            saved("b", later("kind", json!("ledger"))),
            saved("c", later("networks", json!(["10.0.0.0/8"]))),
            saved("d", String::new()),
            saved("e", later("networks", json!([]))),
        ];
        let listed = listed("shop", &all);
        let ids = listed["keys"].as_array().unwrap().iter().map(|key| key["id"].clone()).collect::<Vec<_>>();
        assert_eq!((ids, &listed["unreadable"]), (vec![json!("a"), json!("e")], &json!(["b", "c"])));
        assert!(super::listed("shop", &all[..1]).get("unreadable").is_none());
    }

    #[test]
    fn a_secret_is_shown_once_and_kept_nowhere() {
        let Made { key, secret } = made();
        let (kept, shown) = (serde_json::to_string(&key).unwrap(), shown("k", 1, &key));
        assert!(!kept.contains(&secret) && !shown.to_string().contains(&secret) && !shown.to_string().contains(&key.secrets[0].sha256));
        assert_eq!(shown_once(shown, &secret)["key"], json!(secret));
        assert_eq!(read(&Saved { name: "k".to_owned(), version: 1, body: kept }).unwrap(), key);
    }
}
