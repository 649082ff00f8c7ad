//! PagerDuty, Events API v2: one incident an episode, named by its `dedup_key`.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Channel, Delivery, Settings, cut, post_json};
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
            let Some(mut event) = event(&delivery.notice, self.routing_key.reveal()) else { return Sent::Done };
            let sent = post_json(&self.target, &event).await;
            if delivery.notice.kind != Kind::Test || sent != Sent::Done {
                return sent;
            }
            // Nobody else would end the incident of a test.
            event["event_action"] = "resolve".into();
            post_json(&self.target, &event).await
        }
        .boxed()
    }
}

/// The event; none where nobody is to be called.
fn event(notice: &Notice, routing_key: &str) -> Option<Value> {
    let action = match notice.kind {
        Kind::Summary | Kind::Revision | Kind::Report | Kind::Heartbeat => return None,
        Kind::Resolved | Kind::Judging if !notice.is_firing() => "resolve",
        _ => "trigger",
    };
    let severity = match notice.severity {
        Severity::Critical => "critical",
        Severity::Warning => "warning",
        Severity::Info => "info",
    };
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": notice.episode_key().to_string(),
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
    Some(event)
}
