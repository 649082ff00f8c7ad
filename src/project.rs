//! What is set for single projects: `[projects.NAME]`, and the settings that follow for each.
//!
//! A project that is not named there has the settings of all. Promise: what is asked of one project's settings costs a look into a table
//! of those that have any, and nothing where none has. May go wrong: a name that no key knows changes nothing; the start warns of it.

pub mod internal;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::internal::{InternalRules, WrittenRules};
use crate::event::ids::ProjectId;
use crate::event::session::{Days, SessionRules};

/// `[projects]` as written in the file: the settings of projects by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectsConfig(pub BTreeMap<String, ProjectConfig>);

/// `[projects.NAME]` as written in the file. What is not written is as for all projects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectConfig {
    /// In place of `load.session_gap`.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub session_gap: Option<Duration>,
    /// In place of `load.longest_session`.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub longest_session: Option<Duration>,
    /// Whether the first event of a day begins a new session.
    pub session_cut_at_midnight: bool,
    /// Whether an event of another campaign begins a new session.
    pub session_cut_at_campaign: bool,
    /// IANA name of the zone whose days these are; empty is UTC.
    pub timezone: String,
    /// Addresses and networks whose traffic is the project's own.
    pub internal_networks: Vec<String>,
    /// A cookie (name, or name=value) that marks a browser as the project's own.
    pub internal_cookie: String,
    /// A parameter (name, or name=value) in the address of a page that marks the event as the project's own.
    pub internal_parameter: String,
    /// Whether traffic out of data centres is left out as bots are.
    pub exclude_data_centres: bool,
}

impl ProjectConfig {
    /// One in which every key is written, for the names and kinds of the keys.
    pub fn with_every_key() -> Self {
        Self { session_gap: Some(Duration::from_secs(1)), longest_session: Some(Duration::from_secs(1)), ..Self::default() }
    }

    fn check(&self, section: &str, of_all: &ProjectSettings) -> Result<ProjectSettings, String> {
        let Self { session_gap, longest_session, session_cut_at_midnight, session_cut_at_campaign, timezone, .. } = self;
        let ms = |own: &Option<Duration>, of_all_ms: i64| own.unwrap_or(Duration::from_millis(of_all_ms.unsigned_abs()));
        let (gap, longest) = (ms(session_gap, of_all.sessions.idle_gap_ms), ms(longest_session, of_all.sessions.longest_ms));
        let zone = if timezone.is_empty() { "UTC" } else { timezone };
        let days = Days::of_zone(zone).ok_or_else(|| format!("{section}.timezone: there is no IANA time zone `{timezone}`"))?;
        let sessions = SessionRules {
            days: session_cut_at_midnight.then_some(days),
            cuts_at_campaign: *session_cut_at_campaign,
            ..SessionRules::of_times(section, gap, longest)?
        };
        Ok(ProjectSettings { sessions, internal: InternalRules::check(section, self.internal())?, timezone: zone.into() })
    }

    fn internal(&self) -> WrittenRules<'_> {
        WrittenRules {
            networks: &self.internal_networks,
            cookie: &self.internal_cookie,
            parameter: &self.internal_parameter,
            excludes_data_centres: self.exclude_data_centres,
        }
    }
}

impl ProjectsConfig {
    /// The only way to make [`Projects`]; `sessions` are the rules of projects that set none.
    pub fn check(&self, sessions: SessionRules) -> Result<Projects, String> {
        let of_all = ProjectSettings { sessions, ..ProjectSettings::default() };
        let mut own = HashMap::new();
        for (name, config) in &self.0 {
            let settings = config.check(&format!("projects.{name}"), &of_all)?;
            if name.is_empty() || own.insert(ProjectId::of_name(name), settings).is_some() {
                return Err(format!("projects.{name}: no name of a project, or the id of another one"));
            }
        }
        Ok(Projects(Arc::new(Inner { of_all, own })))
    }
}

/// The settings of one project.
#[derive(Clone, Debug, Default)]
pub struct ProjectSettings {
    /// What cuts its sessions.
    pub sessions: SessionRules,
    /// Which traffic is its own.
    pub internal: InternalRules,
    /// IANA name of the zone of its days; empty is UTC.
    pub timezone: Arc<str>,
}

impl ProjectSettings {
    /// The name of the zone of its days.
    pub fn timezone(&self) -> &str {
        if self.timezone.is_empty() { "UTC" } else { &self.timezone }
    }
}

/// The settings of every project. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Projects(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    of_all: ProjectSettings,
    own: HashMap<ProjectId, ProjectSettings>,
}

impl Projects {
    /// Those of a project.
    pub fn of(&self, project: ProjectId) -> &ProjectSettings {
        let Inner { of_all, own } = &*self.0;
        if own.is_empty() { of_all } else { own.get(&project).unwrap_or(of_all) }
    }

    /// No project's idle gap is longer, milliseconds.
    pub fn longest_gap_ms(&self) -> i64 {
        self.all().map(|settings| settings.sessions.idle_gap_ms).max().unwrap_or_default()
    }

    /// No project's sessions are longer, milliseconds.
    pub fn longest_session_ms(&self) -> i64 {
        self.all().map(|settings| settings.sessions.longest_ms).max().unwrap_or_default()
    }

    fn all(&self) -> impl Iterator<Item = &ProjectSettings> {
        std::iter::once(&self.0.of_all).chain(self.0.own.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: ProjectConfig) -> Result<SessionRules, String> {
        let projects = ProjectsConfig([("shop".to_owned(), config)].into()).check(SessionRules::default())?;
        assert_eq!(projects.of(ProjectId::of_name("other")).sessions, SessionRules::default());
        Ok(projects.of(ProjectId::of_name("shop")).sessions.clone())
    }

    #[test]
    fn what_a_project_does_not_set_is_as_for_all() {
        assert_eq!(check(ProjectConfig::default()).unwrap(), SessionRules::default());
        let gap = Duration::from_secs(60);
        let rules = check(ProjectConfig { session_gap: Some(gap), session_cut_at_midnight: true, ..ProjectConfig::default() }).unwrap();
        assert_eq!((rules.idle_gap_ms, rules.longest_ms), (60_000, SessionRules::default().longest_ms));
        assert_eq!((rules.days, rules.cuts_at_campaign), (Days::of_zone("UTC"), false));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_key_and_value() {
        let refused = |config: ProjectConfig| check(config).unwrap_err();
        let day = Duration::from_secs(86_400);
        let problem = refused(ProjectConfig { session_gap: Some(2 * day), ..ProjectConfig::default() });
        assert!(problem.contains("projects.shop.longest_session: 86400s"), "{problem}");
        let problem = refused(ProjectConfig { longest_session: Some(31 * day), ..ProjectConfig::default() });
        assert!(problem.contains("projects.shop.longest_session: 2678400s"), "{problem}");
        let problem = refused(ProjectConfig { timezone: "Mars/Base".to_owned(), ..ProjectConfig::default() });
        assert!(problem.contains("projects.shop.timezone") && problem.contains("Mars/Base"), "{problem}");
    }
}
