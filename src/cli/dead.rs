//! `pulse dead`: what could not be read, and why; also while pulse runs.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use super::ConfigArgs;
use super::instance::InstanceArgs;
use super::printable::printable;
use super::remote::{Remote, bearer};

/// Letters of a page asked for.
const PAGE: usize = 100;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse dead
  pulse dead --reason line_malformed --limit 200 --json

Addresses are masked. What could not be read for a limit since raised is tried again by `pulse replay --dead`.")]
pub(super) struct DeadArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    instance: InstanceArgs,
    /// Only letters of this reason, such as line_malformed or event_invalid
    #[arg(long, value_name = "NAME")]
    reason: Option<String>,
    /// Only letters of this file
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Received at this time or later: RFC 3339, or relative such as -2d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Received before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// Letters shown, the newest first
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,
    /// One JSON object instead of a list
    #[arg(long)]
    json: bool,
}

/// A page of letters.
#[derive(Deserialize)]
struct Page {
    reasons: Vec<Value>,
    letters: Vec<Value>,
    next: Option<String>,
}

pub(super) fn run(args: &DeadArgs) -> Result<()> {
    super::start_logging("warn");
    let own_flags = vec![("http.listen", "127.0.0.1:0".to_owned()), ("roles", "process,load,query".to_owned())];
    let settings = args.config.load(own_flags)?;
    let key = bearer(&args.instance.read_key_of_existing(&settings)?, "read key")?;
    let page = super::runtime()?.block_on(args.instance.with(settings, |address| async move {
        let remote = Remote::new(&address)?;
        let mut whole = Page { reasons: Vec::new(), letters: Vec::new(), next: None };
        loop {
            let size = (args.limit - whole.letters.len()).clamp(1, PAGE);
            let answer = remote.get(&format!("/v1/dead-letters?{}", args.query(size, whole.next.as_deref())), &key).await?;
            let page: Page = serde_json::from_slice(&answer).context("the answer")?;
            whole.letters.extend(page.letters);
            whole = Page { reasons: page.reasons, next: page.next, ..whole };
            if whole.next.is_none() || whole.letters.len() >= args.limit {
                return Ok(whole);
            }
        }
    }))?;
    if args.json {
        println!("{}", serde_json::json!({"reasons": page.reasons, "letters": page.letters, "next": page.next}));
    } else {
        print!("{}", page.shown());
    }
    Ok(())
}

impl DeadArgs {
    fn query(&self, limit: usize, cursor: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &limit.to_string());
        let options = [("reason", self.reason.as_deref()), ("source", self.source.as_deref()), ("from", self.from.as_deref())];
        for (name, value) in options.into_iter().chain([("to", self.to.as_deref()), ("cursor", cursor)]) {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

impl Page {
    fn shown(&self) -> String {
        let mut out = String::new();
        let text = |value: &Value| printable(value.as_str().unwrap_or_default());
        for reason in &self.reasons {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{:>9}  {} {}", reason["letters"].to_string(), text(&reason["reason"]), text(&reason["code"]));
        }
        if self.reasons.is_empty() {
            out.push_str("no dead letters\n");
        }
        for letter in &self.letters {
            let line = letter["line"].as_u64().map(|line| format!(":{line}")).unwrap_or_default();
            let (at, source, message) = (text(&letter["receivedAt"]), text(&letter["source"]), text(&letter["message"]));
            let _ = writeln!(out, "\n{at}  {source}{line}  {message}");
            let _ = writeln!(out, "  {}", text(&letter["original"]));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_of_a_line_commands_the_terminal() {
        let letter = json!({
            "receivedAt": "2026-01-01T00:00:00Z", "source": "a\u{1b}]0;x\u{7}.log", "line": 3, "message": "no_time: time `\u{1b}[2J\u{9b}1m` is none",
            "original": "\u{1b}[2J",
        });
        let event = json!({"receivedAt": "", "source": "b.log", "line": null, "message": "no_type", "original": "{}"});
        let page =
            Page { reasons: vec![json!({"letters": 1, "reason": "r\u{1b}", "code": "c"})], letters: vec![letter, event], next: None };
        let shown = page.shown();
        assert!(shown.chars().all(|letter| letter == '\n' || !letter.is_control()), "{shown:?}");
        assert!(shown.contains("a\\u{1b}]0;x\\u{7}.log:3  no_time: time `\\u{1b}[2J\\u{9b}1m` is none"), "{shown}");
        assert!(shown.contains("  b.log  no_type\n"), "{shown}");
    }
}
