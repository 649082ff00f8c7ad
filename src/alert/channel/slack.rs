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

fn message(notice: &Notice) -> Value {
    let title = notice.title();
    // Escapes take more room than what they stand for.
    let body = cut(&escaped(&cut(&notice.body(), MOST_SECTION / 2)), MOST_SECTION);
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": cut(&title, MOST_TITLE)}}),
        json!({"type": "section", "text": {"type": "mrkdwn", "text": body, "verbatim": true}}),
    ];
    if !notice.url.is_empty() {
        let button = json!({"type": "button", "text": {"type": "plain_text", "text": "Open"}, "url": notice.url});
        blocks.push(json!({"type": "actions", "elements": [button]}));
    }
    json!({"text": escaped(&cut(&title, MOST_SECTION)), "blocks": blocks})
}
