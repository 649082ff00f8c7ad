//! The sessions of a visitor's new events among those that the table has around them.

use super::{MOST_VISITS, Past, Question, Revision, Row};
use crate::event::session::{SessionId, SessionRules, Visitor};

/// What became of a question.
pub(super) enum Resolved {
    /// Sessions change beyond what was asked for: the table must be asked up to `to_ms`.
    Needs {
        to_ms: i64,
    },
    Done(Found),
}

/// The sessions of a visitor in the span that was asked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Of the new rows.
    pub(super) rows: Vec<(usize, SessionId)>,
    /// Of what the table has, where they are others than it says.
    pub(super) revisions: Vec<Revision>,
    /// Where the session of the last event begins, and that event.
    pub(super) start_ms: i64,
    pub(super) last_ms: i64,
}

/// An event of the visitor.
struct Event {
    at_ms: i64,
    /// Where the table says that its session begins; what it would say of a new one, if it says something.
    known_ms: Option<i64>,
    /// The row of a new one.
    row: Option<usize>,
}

/// Cuts the events of one visitor. A stored event keeps its session unless a new one before it changes it; the change ends with the first
/// event that begins where it did before.
pub(super) fn resolve(rules: &SessionRules, question: &Question, past: &Past, rows: &[Row]) -> Resolved {
    let visitor = question.visitor;
    let mut changes = Changes::new(visitor, past);
    let mut found = Found::default();
    let mut session: Option<(i64, i64)> = None;
    let mut is_changed = false;
    for event in events(past, rows) {
        let known_ms = event.known_ms.filter(|_| event.row.is_none() && !is_changed);
        let start_ms = known_ms.unwrap_or_else(|| match session {
            Some((start_ms, last_ms)) if rules.continues(start_ms, last_ms, event.at_ms) => start_ms,
            _ => event.at_ms,
        });
        if let Some(row) = event.row {
            found.rows.push((row, SessionId::beginning_at(visitor, start_ms)));
            is_changed = true;
        } else if event.known_ms == Some(start_ms) {
            is_changed = false;
        }
        changes.note(&event, start_ms);
        session = Some((start_ms, event.at_ms));
    }
    let (start_ms, last_ms) = session.unwrap_or_default();
    let is_open = is_changed && last_ms.saturating_add(rules.idle_gap_ms) > question.to_ms;
    if is_open && past.visits.len() < MOST_VISITS {
        return Resolved::Needs { to_ms: last_ms.saturating_add(rules.longest_ms).saturating_add(rules.idle_gap_ms) };
    }
    (found.start_ms, found.last_ms) = (start_ms, last_ms);
    found.revisions = changes.end();
    Resolved::Done(found)
}

/// The events of the visitor by time, those of the table before new ones of the same moment.
fn events(past: &Past, rows: &[Row]) -> Vec<Event> {
    let revised = |at_ms: i64| {
        let holds = past.revisions.iter().filter(|revision| revision.from_ms <= at_ms && at_ms <= revision.to_ms);
        holds.max_by_key(|revision| revision.version).and_then(|revision| revision.session.start_ms())
    };
    let stored = past.visits.iter().map(|visit| Event {
        at_ms: visit.at_ms,
        known_ms: revised(visit.at_ms).or_else(|| visit.session.start_ms()),
        row: None,
    });
    let new = rows.iter().map(|row| Event { at_ms: row.at_ms, known_ms: revised(row.at_ms), row: Some(row.row) });
    let mut events: Vec<Event> = stored.chain(new).collect();
    events.sort_by_key(|event| (event.at_ms, event.row));
    events
}

/// Gathers what the table says wrongly, neighbours together.
struct Changes {
    visitor: Visitor,
    version: u32,
    done: Vec<Revision>,
    open: Option<(i64, Revision)>,
}

impl Changes {
    fn new(visitor: Visitor, past: &Past) -> Self {
        let version = past.revisions.iter().map(|revision| revision.version).max().unwrap_or(0).saturating_add(1);
        Self { visitor, version, done: Vec::new(), open: None }
    }

    fn note(&mut self, event: &Event, start_ms: i64) {
        // Of a new row of which no revision holds, the row itself will say it.
        let is_said = event.known_ms.map_or(event.row.is_some(), |known_ms| known_ms == start_ms);
        let is_neutral = event.row.is_some() && event.known_ms.is_none();
        match &mut self.open {
            Some((open_ms, revision)) if *open_ms == start_ms && !is_said => revision.to_ms = event.at_ms,
            Some((open_ms, _)) if *open_ms == start_ms && is_neutral => {}
            open => {
                self.done.extend(open.take().map(|(_, revision)| revision));
                if !is_said {
                    let session = SessionId::beginning_at(self.visitor, start_ms);
                    let Self { visitor, version, .. } = *self;
                    let revision = Revision { visitor, from_ms: event.at_ms, to_ms: event.at_ms, session, version };
                    self.open = Some((start_ms, revision));
                }
            }
        }
    }

    fn end(mut self) -> Vec<Revision> {
        self.done.extend(self.open.take().map(|(_, revision)| revision));
        self.done
    }
}
