//! PagerDuty, Events API v2: one incident an episode, named by its `dedup_key`, and one of their own for lines that became alerts later.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Channel, Delivery, Settings, cut, no_report, no_word, post_json};
use crate::alert::judge::Incident;
use crate::alert::notice::{Kind, Notice};
use crate::alert::observe::instant;
use crate::alert::rule::Severity;
use crate::alert::target::{Sent, Target};
use crate::secret::Secret;

/// PagerDuty's own limit.
const MOST_SUMMARY: usize = 1_024;
const EVENTS: &str = "https://events.pagerduty.com/v2/enqueue";

struct PagerDuty {
    target: Target,
    routing_key: Secret,
}

pub(super) fn open(settings: &Settings<'_>) -> Result<Box<dyn Channel>, String> {
    settings.only(&["routing_key", "url"])?;
    if settings.optional("heartbeat")?.is_some() {
        return Err("heartbeat: each one would be an incident: give it to a webhook of a dead man's switch".to_owned());
    }
    let routing_key = settings.secret("routing_key")?.ok_or("routing_key: it is missing")?;
    let target = match settings.optional("url")? {
        Some(_) => settings.target("url")?,
        None => Target::new(EVENTS, settings.trust.clone())?,
    };
    Ok(Box::new(PagerDuty { target, routing_key }))
}

impl Channel for PagerDuty {
    fn tell<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Sent> {
        async move {
            match delivery.notice.kind {
                Kind::Report => return no_report(),
                Kind::Summary | Kind::Revision => return no_word(),
                _ => {}
            }
            // What was taken of several is told again with what was not: it has its name.
            for event in events(&delivery.notice, self.routing_key.reveal()) {
                let sent = post_json(&self.target, &event).await;
                if sent != Sent::Done {
                    return sent;
                }
            }
            Sent::Done
        }
        .boxed()
    }

    fn takes_reports(&self) -> bool {
        false
    }
}

/// The events, one an incident; none where nobody is to be called.
fn events(notice: &Notice, routing_key: &str) -> Vec<Value> {
    let event = |key: Uuid, action: &str| event(notice, routing_key, Told { key, action });
    let of_incident = |incident: &Incident| event(notice.incident_key(incident), if incident.firing == 0 { "resolve" } else { "trigger" });
    match notice.kind {
        Kind::Summary | Kind::Revision | Kind::Report | Kind::Heartbeat => Vec::new(),
        // Nobody else would end the incident of a test.
        Kind::Test => ["trigger", "resolve"].map(|action| event(notice.episode_key(), action)).into(),
        _ if !notice.incidents.is_empty() => notice.incidents.iter().map(of_incident).collect(),
        Kind::Resolved | Kind::Judging if !notice.is_firing() => vec![event(notice.episode_key(), "resolve")],
        _ => vec![event(notice.episode_key(), "trigger")],
    }
}

/// What becomes of an incident.
struct Told<'a> {
    key: Uuid,
    action: &'a str,
}

fn event(notice: &Notice, routing_key: &str, told: Told<'_>) -> Value {
    let severity = match notice.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": told.action,
        "dedup_key": told.key.to_string(),
        "payload": {
            "summary": cut(&notice.title(), MOST_SUMMARY),
            "source": "pulse",
            "severity": severity,
            "timestamp": instant(notice.at),
            "custom_details": super::webhook::body(notice).get("pulse").cloned().unwrap_or_default(),
        },
    });
    if !notice.url.is_empty() {
        event["client"] = "pulse".into();
        event["client_url"] = notice.url.clone().into();
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_incident_is_told_by_its_own_name_until_it_is_over() {
        let told = |kind: Kind, incidents: &[(i64, usize)]| {
            let incidents = incidents.iter().map(|(since, firing)| Incident { since: *since, firing: *firing }).collect();
            let notice = Notice { incidents, firing: 2, ..Notice::about_pulse(kind, 60_000) };
            let of = |event: &Value| (event["event_action"].as_str().unwrap().to_owned(), event["dedup_key"].as_str().unwrap().to_owned());
            (notice.episode_key().to_string(), events(&notice, "key").iter().map(of).collect::<Vec<_>>())
        };
        let (episode, first) = told(Kind::Firing, &[(0, 1)]);
        assert_eq!(first, [("trigger".to_owned(), episode.clone())]);
        let (_, second) = told(Kind::Firing, &[(120_000, 1)]);
        assert!(second.len() == 1 && second[0].1 != episode, "{second:?}");
        let (_, ends) = told(Kind::Resolved, &[(0, 0), (120_000, 2)]);
        assert_eq!(ends, [("resolve".to_owned(), episode.clone()), ("trigger".to_owned(), second[0].1.clone())]);
        // What an earlier release has written says nothing of incidents; nor does what is about no lines.
        assert_eq!(told(Kind::Resolved, &[]).1, first, "another line goes on");
        assert_eq!(told(Kind::Test, &[]).1.len(), 2);
        assert!(told(Kind::Revision, &[]).1.is_empty());
    }
}
