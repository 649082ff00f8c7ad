//! Alertmanager, `POST /api/v2/alerts`: it must be told again and again while an alert goes on, else it takes it for resolved.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Channel, Delivery, Settings, no_report, no_word, post_json};
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
                Kind::Summary | Kind::Revision => no_word(),
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
            // To an Alertmanager whose clock is a little behind, an end of now is still to come, and it stays with the later one that it
            // knows: so the end is that of the slot, which is over. One before the start is refused.
            "endsAt": instant(if is_firing { now_ms + LASTS_MS } else { notice.until.min(now_ms) }.max(since)),
            "generatorURL": notice.url,
        })
    };
    match notice.lines.is_empty() {
        true => json!([alert(None)]),
        false => notice.lines.iter().map(|line| alert(Some(line))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_ends_with_the_slot_in_which_it_was_over_and_never_before_it_began() {
        let ends = |line: NamedLine| {
            let notice = Notice { lines: vec![line], until: 120_000, ..Notice::about_pulse(Kind::Resolved, 60_000) };
            alerts(&notice, 180_000)[0]["endsAt"].as_str().unwrap().to_owned()
        };
        let line = |is_firing, since| NamedLine { name: String::new(), is_firing, since, value: None, reason: String::new() };
        assert_eq!(ends(line(false, 60_000)), instant(120_000));
        assert_eq!(ends(line(false, 150_000)), instant(150_000));
        assert_eq!(ends(line(true, 60_000)), instant(180_000 + LASTS_MS));
    }
}
