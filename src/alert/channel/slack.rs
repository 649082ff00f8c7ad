//! Slack's incoming webhooks: at most 50 blocks, sections of at most 3,000 characters, and always a `text` for what shows no blocks.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::{Channel, Delivery, Settings, cut, post_json};
use crate::alert::notice::Notice;
use crate::alert::target::{Sent, Target};

/// Slack's own limits.
const MOST_TITLE: usize = 150;
const MOST_SECTION: usize = 3_000;
/// Of 50 blocks; the longest text of a report takes fewer.
const MOST_SECTIONS: usize = 40;

struct Slack(Target);

pub(super) fn open(settings: &Settings<'_>) -> Result<Box<dyn Channel>, String> {
    settings.only(&["url"])?;
    Ok(Box::new(Slack(settings.target("url")?)))
}

impl Channel for Slack {
    fn tell<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Sent> {
        async move { post_json(&self.0, &message(&delivery.notice)).await }.boxed()
    }
}

/// What stands for `&`, `<` and `>`, which are Slack's own.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A text in parts of whole lines that fit into a section each.
fn sections(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines() {
        // Escapes take more room than what they stand for.
        let line = cut(&escaped(&cut(line, MOST_SECTION / 2)), MOST_SECTION);
        match parts.last_mut().filter(|part| part.chars().count() + 1 + line.chars().count() <= MOST_SECTION) {
            Some(part) => part.extend(["\n", line.as_str()]),
            None => parts.push(line),
        }
    }
    parts.truncate(MOST_SECTIONS);
    parts
}

fn message(notice: &Notice) -> Value {
    let title = notice.title();
    let mut blocks = vec![json!({"type": "header", "text": {"type": "plain_text", "text": cut(&title, MOST_TITLE)}})];
    let section = |text: String| json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}});
    blocks.extend(sections(&notice.body()).into_iter().map(section));
    if !notice.url.is_empty() {
        let button = json!({"type": "button", "text": {"type": "plain_text", "text": "Open"}, "url": notice.url});
        blocks.push(json!({"type": "actions", "elements": [button]}));
    }
    json!({"text": escaped(&cut(&title, MOST_SECTION)), "blocks": blocks})
}
