//! What people would have made in the project of the demo: a board, notes of what happened, rules of alerts.

use anyhow::{Context, Result};
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use super::calendar::{Day, HOUR_MS};
use crate::cli::config_files::Project;

const BOARD: &str = "/v1/boards/demo-shop";
const BOARD_BODY: &str = include_str!("board.json");
const RULES: &str = include_str!("../../../deploy/alerts/examples.toml");
const TEN: i64 = 10 * HOUR_MS;

impl Project {
    pub(super) async fn put_board(&self) -> Result<()> {
        let board: Value = serde_json::from_str(BOARD_BODY).context("the board")?;
        self.remote.put_json(BOARD, &self.key, &board).await.map(drop)
    }

    /// Notes of the days, and the rules that pulse comes with.
    pub(super) async fn put_notes_and_rules(&self, days: impl Iterator<Item = Day>, now_ms: i64) -> Result<()> {
        for (at_ms, kind, text) in days.flat_map(happenings).filter(|(at_ms, ..)| *at_ms <= now_ms) {
            let note = json!({"at": jiff::Timestamp::from_millisecond(at_ms)?.to_string(), "kind": kind, "text": text});
            self.remote.post_json("/v1/notes", &self.key, &note).await?;
        }
        for (id, rule) in rules()? {
            self.remote.put_json(&format!("/v1/alerts/{id}"), &self.key, &rule).await?;
        }
        Ok(())
    }

    /// Takes away what was made in the project, by the demo and by anybody; `admin` is its admin key.
    pub(super) async fn clear(&self, admin: &HeaderValue) -> Result<()> {
        self.forget_named_keys(admin).await?;
        // Those of the files of the server have no version; what was applied from a file has one.
        for rule in self.list("/v1/alerts", "alerts").await?.iter().filter(|rule| !rule["version"].is_null()) {
            self.delete("/v1/alerts", text(rule, "id")).await?;
        }
        for channel in self.list("/v1/channels", "channels").await?.iter().filter(|channel| channel["of_file"] == false) {
            self.delete("/v1/channels", text(channel, "id")).await?;
        }
        for cohort in self.list("/v1/cohorts", "cohorts").await? {
            self.delete("/v1/cohorts", text(&cohort, "name")).await?;
        }
        loop {
            let notes = self.list("/v1/notes", "notes").await?;
            if notes.is_empty() {
                break;
            }
            for note in notes {
                self.delete("/v1/notes", text(&note, "id")).await?;
            }
        }
        for board in self.list("/v1/boards", "boards").await? {
            let id = text(&board, "id");
            for share in self.list(&format!("/v1/boards/{id}/shares"), "shares").await? {
                self.delete("/v1/shares", text(&share, "id")).await?;
            }
            self.delete("/v1/boards", id).await?;
        }
        Ok(())
    }

    /// Revokes them, and then forgets those that are revoked: a project that is made again under this name has none of them.
    async fn forget_named_keys(&self, admin: &HeaderValue) -> Result<()> {
        self.remote.knows("/v1/keys", admin).await?;
        loop {
            let keys = self.list_with(admin, "/v1/keys", "keys").await?;
            if keys.is_empty() {
                return Ok(());
            }
            for key in keys {
                self.remote.delete(&format!("/v1/keys/{}", text(&key, "id")), admin).await?;
            }
        }
    }

    /// What a path lists under `name`.
    async fn list(&self, path: &str, name: &str) -> Result<Vec<Value>> {
        self.list_with(&self.key, path, name).await
    }

    async fn list_with(&self, key: &HeaderValue, path: &str, name: &str) -> Result<Vec<Value>> {
        let mut listed: Value = serde_json::from_slice(&self.remote.get(path, key).await?).context("a list")?;
        Ok(listed[name].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    async fn delete(&self, path: &str, id: &str) -> Result<()> {
        self.remote.delete(&format!("{path}/{id}"), &self.key).await.map(drop)
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// What was worth a note on a day: when, of which kind, and the text.
fn happenings(day: Day) -> Vec<(i64, &'static str, String)> {
    let at_ten = day.begin_ms() + TEN;
    let mut found = Vec::new();
    if day.is_release() || day.is_repair() {
        found.push((at_ten, "release", format!("Release {}", day.version())));
    }
    if let Some(at_ms) = day.outage_ms() {
        found.push((at_ms, "incident", "The shop does not answer for an hour".to_owned()));
    }
    if day.is_first_of_sale() {
        found.push((at_ten, "campaign", "Tea days: 15 % off until Sunday".to_owned()));
    }
    found
}

/// The rules of the examples, by id.
fn rules() -> Result<Vec<(String, Value)>> {
    let file: toml::Table = toml::from_str(RULES).context("the rules")?;
    let rules = file.get("alerts").and_then(toml::Value::as_table).into_iter().flatten();
    rules.map(|(id, rule)| Ok((id.clone(), serde_json::to_value(rule)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_has_two_releases_an_outage_and_a_sale() {
        let kinds: Vec<&str> = (20_720..20_748).flat_map(|day| happenings(Day(day))).map(|(_, kind, _)| kind).collect();
        assert_eq!(kinds, ["release", "incident", "release", "campaign"]);
        assert_eq!(rules().unwrap().len(), RULES.matches("[alerts.").count());
    }
}
