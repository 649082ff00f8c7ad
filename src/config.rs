//! The configuration of the whole binary, composed of the sections that the modules own.
//!
//! What is written is a `…Config`; `check` makes its checked form, which has a noun of its own (`…Limits`; `…Settings` where it is
//! more than limits).
//!
//! Defaults < file < environment (`PULSE__SECTION__KEY`) < flags. A key that does not exist is refused with the nearest one that does,
//! wherever it came from: a misspelt limit must not silently be no limit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::alert::{AlertLimits, AlertsConfig};
use crate::auth::keys::KeysConfig;
use crate::clickhouse::{ClickHouseConfig, ClickHouseSettings};
use crate::http::HttpConfig;
use crate::ingest::{GeoConfig, IngestConfig, IngestLimits};
use crate::load::{BlockLimits, LoadConfig};
use crate::log::embedded::{EmbeddedLimits, EmbeddedLogConfig};
use crate::log::kafka::{KafkaLimits, KafkaLogConfig};
use crate::process::{ProcessConfig, ProcessLimits};
use crate::project::{ProjectConfig, ProjectsConfig};
use crate::query::{QueryConfig, QueryLimits};
use crate::redis::RedisConfig;
use crate::role::Role;
use crate::secret::{PLACEHOLDER, without_line};

/// Prefix of the environment's keys; `__` separates sections.
const ENV_PREFIX: &str = "PULSE__";

/// Sections whose keys belong to someone else. In the environment `__` stands for the dots of such a key:
/// `PULSE__LOG__KAFKA__OPTIONS__SASL__USERNAME` is `sasl.username`.
const FREE_SECTIONS: [&str; 1] = ["log.kafka.options."];

/// Section whose sections are named after projects: each may have some keys of a [`ProjectConfig`].
const PROJECTS: &str = "projects.";

/// Everything that can be configured, as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the embedded log, the embedded engine and the keys live.
    pub data_dir: PathBuf,
    /// The roles of this instance.
    pub roles: Vec<String>,
    /// Bring the schema up to date at start.
    pub migrate_at_start: bool,
    /// Longest time a clean stop may take.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// `[http]`
    pub http: HttpConfig,
    /// `[keys]`
    pub keys: KeysConfig,
    /// `[ingest]`
    pub ingest: IngestConfig,
    /// `[geo]`
    pub geo: GeoConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[process]`
    pub process: ProcessConfig,
    /// `[load]`
    pub load: LoadConfig,
    /// `[clickhouse]`
    pub clickhouse: ClickHouseConfig,
    /// `[query]`
    pub query: QueryConfig,
    /// `[alerts]`
    pub alerts: AlertsConfig,
    /// `[redis]`
    pub redis: RedisConfig,
    /// `[projects]`
    pub projects: ProjectsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./pulse-data"),
            roles: Role::ALL.map(|role| role.as_str().to_owned()).to_vec(),
            migrate_at_start: true,
            drain_timeout: Duration::from_secs(30),
            http: HttpConfig::default(),
            keys: KeysConfig::default(),
            ingest: IngestConfig::default(),
            geo: GeoConfig::default(),
            log: LogConfig::default(),
            process: ProcessConfig::default(),
            load: LoadConfig::default(),
            clickhouse: ClickHouseConfig::default(),
            query: QueryConfig::default(),
            alerts: AlertsConfig::default(),
            redis: RedisConfig::default(),
            projects: ProjectsConfig::default(),
        }
    }
}

/// `[log]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// What carries the log: `embedded` or `kafka`.
    pub kind: String,
    /// `[log.embedded]`
    pub embedded: EmbeddedLogConfig,
    /// `[log.kafka]`
    pub kafka: KafkaLogConfig,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { kind: "embedded".to_owned(), embedded: EmbeddedLogConfig::default(), kafka: KafkaLogConfig::default() }
    }
}

impl LogConfig {
    /// Checks the section of the kind that was chosen.
    fn check(&self) -> Result<LogSettings, String> {
        match self.kind.as_str() {
            "embedded" => Ok(LogSettings::Embedded(self.embedded.clone().check()?)),
            "kafka" => Ok(LogSettings::Kafka(Box::new(self.kafka.clone().check()?))),
            other => Err(format!("log.kind: `{other}` is neither `embedded` nor `kafka`")),
        }
    }
}

/// The checked form of [`LogConfig`].
#[derive(Clone, Debug)]
pub enum LogSettings {
    /// On the local disk.
    Embedded(EmbeddedLimits),
    /// On Apache Kafka.
    Kafka(Box<KafkaLimits>),
}

/// The checked form of [`Config`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// As written, for what needs no check.
    pub config: Config,
    /// The roles of this instance, each once.
    pub roles: Vec<Role>,
    /// What carries the log, and its limits.
    pub log: LogSettings,
    /// Limits of ingest.
    pub ingest: IngestLimits,
    /// Limits of process.
    pub process: ProcessLimits,
    /// Limits of load.
    pub load: BlockLimits,
    /// Where ClickHouse is; without a URL the embedded engine fills it in.
    pub clickhouse: ClickHouseSettings,
    /// Limits of query.
    pub query: QueryLimits,
    /// What alerts are made of.
    pub alerts: AlertLimits,
}

/// What is wrong with the configuration; the message names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

impl Config {
    /// Reads the configuration: `file` if given, then `environment`, then `flags` (keys with dots and their values).
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        let defaults = Table::try_from(Self::default()).map_err(|problem| ConfigError(problem.to_string()))?;
        let mut merged = defaults.clone();
        if let Some(path) = file {
            let place = path.display();
            let text = std::fs::read_to_string(path).map_err(|problem| ConfigError(format!("{place}: {problem}")))?;
            let written: Table = text.parse().map_err(|problem| ConfigError(format!("{place}: {}", without_line(&text, &problem))))?;
            overlay(&mut merged, written, "").map_err(|problem| ConfigError(format!("{place}: {problem}")))?;
        }
        for (name, value) in environment {
            let Some(key) = name.strip_prefix(ENV_PREFIX) else { continue };
            let path: Vec<String> = key.split("__").map(str::to_lowercase).collect();
            set(&mut merged, &path, &value).map_err(|problem| ConfigError(format!("environment {name}: {problem}")))?;
        }
        for (key, value) in flags {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            set(&mut merged, &path, value).map_err(|problem| ConfigError(format!("flag for {key}: {problem}")))?;
        }
        if let Some(key) = placeholder(&merged, "") {
            return Err(ConfigError(format!("{key}: `{PLACEHOLDER}` is what an example says; a secret of your own belongs there")));
        }
        merged.try_into().map_err(|problem: toml::de::Error| ConfigError(problem.to_string().trim().to_owned()))
    }

    /// The only way to make [`Settings`].
    pub fn check(self) -> Result<Settings, ConfigError> {
        let mut roles = Vec::new();
        for word in &self.roles {
            let role: Role = word.parse().map_err(|problem| ConfigError(format!("roles: {problem}")))?;
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        if roles.is_empty() {
            return Err(ConfigError("roles: at least one of ingest, process, load, query, alert is needed".to_owned()));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(ConfigError("data_dir: it is empty: `.` is the folder in which pulse is started".to_owned()));
        }
        self.http.check().map_err(ConfigError)?;
        self.redis.check().map_err(ConfigError)?;
        let log = self.log.check().map_err(ConfigError)?;
        let load = self.load.check(&self.projects).map_err(ConfigError)?;
        let ingest = self.ingest.check().map_err(ConfigError)?.for_projects(load.projects().clone());
        let process = self.process.check().map_err(ConfigError)?;
        check_fits(&log, &ingest).map_err(ConfigError)?;
        if self.http.largest_body() < ingest.largest_body() {
            let (memory, needed) = (self.http.max_body_memory, ingest.largest_body());
            return Err(ConfigError(format!("http.max_body_memory: half of {memory} is less than {needed}, which one request may need")));
        }
        let clickhouse = self.clickhouse.check().map_err(ConfigError)?;
        if self.query.sql && !clickhouse.url.is_empty() && clickhouse.sql.is_none() {
            return Err(ConfigError("query.sql: `true` needs clickhouse.sql_user on a server of one's own".to_owned()));
        }
        Ok(Settings {
            roles,
            log,
            ingest,
            process,
            load,
            clickhouse,
            query: self.query.clone().check().map_err(ConfigError)?,
            alerts: self.alerts.check().map_err(ConfigError)?,
            config: self,
        })
    }
}

/// Whether what the roles write fits the log.
fn check_fits(log: &LogSettings, ingest: &IngestLimits) -> Result<(), String> {
    let (kind, max_record) = match log {
        LogSettings::Embedded(limits) => ("embedded", limits.max_record_bytes()),
        LogSettings::Kafka(limits) => ("kafka", limits.max_record_bytes()),
    };
    let least = ingest.largest_record();
    if max_record < least {
        return Err(format!(
            "log.{kind}.max_record_bytes = {max_record}: with ingest.seal_size = {} and ingest.max_event_size = {} it must be at least {least}",
            ingest.seal_size, ingest.max_event_size
        ));
    }
    Ok(())
}

/// Puts what is written over what is there; every key must be there already, but for sections whose keys are not ours.
fn overlay(target: &mut Table, written: Table, prefix: &str) -> Result<(), String> {
    if FREE_SECTIONS.contains(&prefix) {
        return flatten(target, written, "");
    }
    if prefix == PROJECTS {
        return overlay_projects(target, written);
    }
    for (key, value) in written {
        let Some(place) = target.get_mut(&key) else { return Err(unknown(target, prefix, &key)) };
        match (place, value) {
            (Value::Table(section), Value::Table(inner)) => overlay(section, inner, &format!("{prefix}{key}."))?,
            (place, value) => *place = value,
        }
    }
    Ok(())
}

fn overlay_projects(target: &mut Table, written: Table) -> Result<(), String> {
    for (name, value) in written {
        let Value::Table(keys) = value else { return Err(format!("{PROJECTS}{name} is a section, not a key")) };
        for key in keys.keys() {
            project_key(&name, key)?;
        }
        put_of_project(target, &name, keys);
    }
    Ok(())
}

/// A value of the kind that a key of a project's section has.
fn project_key(name: &str, key: &str) -> Result<Value, String> {
    let keys = Table::try_from(ProjectConfig::with_every_key()).map_err(|problem| problem.to_string())?;
    keys.get(key).cloned().ok_or_else(|| unknown(&keys, &format!("{PROJECTS}{name}."), key))
}

/// Puts keys into the section of a project.
fn put_of_project(projects: &mut Table, name: &str, keys: Table) {
    match projects.get_mut(name) {
        Some(Value::Table(section)) => section.extend(keys),
        _ => drop(projects.insert(name.to_owned(), Value::Table(keys))),
    }
}

/// Puts the keys of a free section into one table, however they were written: `sasl.username` unquoted is a table in TOML.
fn flatten(target: &mut Table, written: Table, prefix: &str) -> Result<(), String> {
    for (key, value) in written {
        let name = format!("{prefix}{key}");
        let text = match value {
            Value::Table(inner) => {
                flatten(target, inner, &format!("{name}."))?;
                continue;
            }
            Value::String(text) => text,
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string(),
            Value::Array(_) | Value::Datetime(_) => return Err(format!("`{name}` is neither text nor a number")),
        };
        target.insert(name, Value::String(text));
    }
    Ok(())
}

/// Sets one key from text, read as the type its default has.
fn set(target: &mut Table, path: &[String], text: &str) -> Result<(), String> {
    let mut table = target;
    let Some((last, sections)) = path.split_last() else { return Err("no key".to_owned()) };
    let mut prefix = String::new();
    for section in sections {
        let message = unknown(table, &prefix, section);
        table = match table.get_mut(section) {
            Some(Value::Table(inner)) => inner,
            Some(_) => return Err(format!("{prefix}{section} is a key, not a section: nothing is below it")),
            None => return Err(message),
        };
        prefix = format!("{prefix}{section}.");
        if FREE_SECTIONS.contains(&prefix.as_str()) {
            let name = path.get(prefix.matches('.').count()..).unwrap_or_default().join(".");
            table.insert(name, Value::String(text.to_owned()));
            return Ok(());
        }
        if let (PROJECTS, [_, name, key]) = (prefix.as_str(), path) {
            let value = typed(&project_key(name, key)?, &format!("{PROJECTS}{name}.{key}"), text)?;
            put_of_project(table, name, Table::from_iter([(key.clone(), value)]));
            return Ok(());
        }
    }
    let message = unknown(table, &prefix, last);
    let Some(place) = table.get_mut(last) else { return Err(message) };
    *place = typed(place, &format!("{prefix}{last}"), text)?;
    Ok(())
}

/// The value of `key` that is written as `text`, of the kind of `like`.
fn typed(like: &Value, key: &str, text: &str) -> Result<Value, String> {
    let wrong = |kind: &str| format!("{key}: `{text}` is not {kind}");
    Ok(match like {
        Value::Integer(_) => Value::Integer(text.parse().map_err(|_| wrong("a whole number"))?),
        Value::Float(_) => Value::Float(text.parse().map_err(|_| wrong("a number"))?),
        Value::Boolean(_) => Value::Boolean(text.parse().map_err(|_| wrong("true or false"))?),
        Value::Array(_) => Value::Array(
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| Value::String(part.to_owned())).collect(),
        ),
        Value::Table(_) => return Err(format!("{key} is a section, not a key")),
        Value::String(_) | Value::Datetime(_) => Value::String(text.to_owned()),
    })
}

/// The first key whose value is that of an example.
fn placeholder(table: &Table, prefix: &str) -> Option<String> {
    let is_placeholder = |value: &Value| value.as_str().is_some_and(|text| text.contains(PLACEHOLDER));
    table.iter().find_map(|(key, value)| match value {
        Value::Table(inner) => placeholder(inner, &format!("{prefix}{key}.")),
        Value::Array(values) => values.iter().any(is_placeholder).then(|| format!("{prefix}{key}")),
        value => is_placeholder(value).then(|| format!("{prefix}{key}")),
    })
}

fn unknown(table: &Table, prefix: &str, key: &str) -> String {
    let nearest = table.keys().max_by(|a, b| strsim::jaro_winkler(a, key).total_cmp(&strsim::jaro_winkler(b, key)));
    match nearest {
        Some(nearest) => format!("unknown key `{prefix}{key}`: did you mean `{prefix}{nearest}`?"),
        None => format!("unknown key `{prefix}{key}`"),
    }
}

#[cfg(test)]
mod tests;
