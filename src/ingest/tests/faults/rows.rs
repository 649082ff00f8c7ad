//! Rows of what is sent, and how they are held against the answers.

use crate::event::field::Field;
use crate::ingest::tests::fake_log::{FakeLog, Mood};
use crate::ingest::tests::golden::cases::{Case, WRITE};
use crate::ingest::tests::golden::{self, Edge};
use crate::ingest::tests::read::events_of;

pub(super) const GOOD: &str = r#"{"type":"view","anonymousId":"ada"}"#;

/// What is sent, and the status and code of the answer: of the request, or of its only event.
struct Row {
    name: String,
    case: Case,
    status: u16,
    code: &'static str,
    /// Codes and fields of the warnings, where they are looked at.
    warned: Option<Vec<String>>,
    /// Name and properties of the event as it stands in the log, where they are looked at.
    stored: Option<Vec<String>>,
}

/// All rows of a kind.
#[derive(Default)]
pub(super) struct Rows(Vec<Row>);

impl Rows {
    pub(super) fn add(&mut self, case: Case, status: u16, code: &'static str) {
        self.0.push(Row { name: case.name.clone(), case, status, code, warned: None, stored: None });
    }

    /// A body to `/v1/events`.
    pub(super) fn body(&mut self, name: &str, body: impl Into<Vec<u8>>, status: u16, code: &'static str) {
        self.add(Case::post(name, "/v1/events", WRITE, body), status, code);
    }

    /// An event with these members, of which only `type` and a visitor are given.
    pub(super) fn event(&mut self, members: &str, status: u16, code: &'static str) {
        self.body(
            members.chars().take(60).collect::<String>().as_str(),
            format!(r#"{{"type":"view","anonymousId":"ada"{members}}}"#),
            status,
            code,
        );
    }

    /// An event with this as its JSON `properties`.
    pub(super) fn properties(&mut self, properties: &str, status: u16, code: &'static str) {
        self.event(&format!(r#","properties":{properties}"#), status, code);
    }

    /// The event of the last row is in the log with this name and these properties, exactly.
    pub(super) fn stored(&mut self, name: &str, properties: &[&str]) {
        let row = self.0.last_mut().unwrap();
        row.stored = Some([name].iter().chain(properties).map(|text| (*text).to_owned()).collect());
    }

    /// The answer to the last row warns of these fields, each as `code field`, and of no others.
    pub(super) fn warned(&mut self, warnings: &[&str]) {
        let row = self.0.last_mut().unwrap();
        row.warned = Some(warnings.iter().map(|text| (*text).to_owned()).collect());
    }

    /// Sends all; after each the next good request is taken, on the same connection and on another one.
    pub(super) async fn hold(self) {
        let log = FakeLog::new(Mood::Willing);
        let edge = Edge::start(log.clone(), golden::config()).await;
        let good = Case::post("good", "/v1/events", WRITE, GOOD);
        let mut wrong = Vec::new();
        for Row { name, case, status, code, warned, stored } in self.0 {
            let mut connection = edge.connect().await;
            let (answered, answer) = connection.respond(&case).await.unwrap_or_else(|| panic!("{name}: no answer"));
            let said = match answer["rejected"].as_array().map(Vec::as_slice) {
                Some([rejected, ..]) => rejected["code"].as_str(),
                _ => answer["code"].as_str(),
            };
            if (answered, said.unwrap_or_default()) != (status, code) {
                wrong.push(format!("{name}: {answered} {answer}, not {status} {code}"));
            }
            let warnings = answer["warnings"].as_array().into_iter().flatten();
            let warnings: Vec<String> = warnings
                .filter(|warning| warning["code"] != "event_id_missing")
                .map(|warning| format!("{} {}", warning["code"].as_str().unwrap(), warning["field"].as_str().unwrap()))
                .collect();
            if let Some(warned) = warned.filter(|warned| *warned != warnings) {
                wrong.push(format!("{name}: warns of {warnings:?}, not {warned:?}"));
            }
            if let Some(expected) = stored {
                let event = events_of(&log.last().unwrap().body).remove(0);
                let is: Vec<String> = std::iter::once(event.text(Field::Type)).chain(event.properties()).collect();
                if is != expected {
                    wrong.push(format!("{name}: stored as {is:?}, not {expected:?}"));
                }
            }
            // A body that is not read to its end ends its connection.
            match connection.respond(&good).await {
                Some((status, _)) => assert_eq!(status, 200, "behind {name}"),
                None => assert_eq!(status, 413, "{name}: the connection is closed"),
            }
            assert_eq!(edge.connect().await.respond(&good).await.map(|(status, _)| status), Some(200), "after {name}");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
