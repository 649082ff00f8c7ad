//! Alertmanager, `POST /api/v2/alerts`: it must be told again and again while an alert goes on, else it takes it for resolved.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Channel, Delivery, Settings, no_report, post_json};
use crate::alert::notice::{Kind, NamedLine, Notice};
use crate::alert::observe::instant;
use crate::alert::target::{Sent, Target};

/// How long an alert lasts without being told again, milliseconds: at least twice `alerts.repeat_every`.
pub(in crate::alert) const LASTS_MS: i64 = 240_000;

struct Alertmanager(Target);

pub(super) fn open(settings: &Settings<'_>) -> Result<Box<dyn Channel>, String> {
    settings.only(&["url"])?;
    Ok(Box::new(Alertmanager(settings.target("url")?)))
}

impl Channel for Alertmanager {
    fn tell<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Sent> {
        async move {
            match delivery.notice.kind {
                Kind::Summary | Kind::Revision => Sent::Done,
                Kind::Report => no_report(),
                _ => post_json(&self.0, &alerts(&delivery.notice, delivery.now_s * 1_000)).await,
            }
        }
        .boxed()
    }

    fn wants_repeats(&self) -> bool {
        true
    }

    fn takes_reports(&self) -> bool {
        false
    }
}

fn alerts(notice: &Notice, now_ms: i64) -> Value {
    let alert = |line: Option<&NamedLine>| {
        let is_firing = line.map_or(notice.is_firing(), |line| line.is_firing);
        let since = line.map_or(notice.episode, |line| line.since);
        json!({
            "labels": super::webhook::labels(notice, line),
            "annotations": super::webhook::annotations(notice, line),
            "startsAt": instant(since),
            // One that ends before it starts is refused, and the time of sending is one of whole seconds.
            "endsAt": instant(if is_firing { now_ms + LASTS_MS } else { now_ms }.max(since)),
            "generatorURL": notice.url,
        })
    };
    match notice.lines.is_empty() {
        true => json!([alert(None)]),
        false => notice.lines.iter().map(|line| alert(Some(line))).collect(),
    }
}
