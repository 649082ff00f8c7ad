//! The sessions of a visitor's new events among those that the table has around them.

use super::{MOST_VISITS, Past, Question, Revision, Row};
use crate::event::session::{Campaign, Moment, SessionId, SessionRules, Span, Visitor};

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
    /// The session of the last event, up to that event.
    pub(super) span: Span,
}

/// An event of the visitor.
struct Event {
    moment: Moment,
    /// Whether new events give the moment another campaign than the table's events have.
    is_altered: bool,
    /// Where the table says that its session begins; what it would say of a new one, if it says something.
    known_ms: Option<i64>,
    /// The row of a new one.
    row: Option<usize>,
}

/// The session so far.
struct Open {
    span: Span,
    /// Whether its first event has another campaign than before.
    is_altered: bool,
}

/// Cuts the events of one visitor. A stored event keeps its session unless a new one before it changes it; the change ends with the first
/// event whose session begins where it did before, and with the same campaign.
pub(super) fn resolve(rules: &SessionRules, question: &Question, past: &Past, rows: &[Row]) -> Resolved {
    let visitor = question.visitor;
    let events = events(rules, past, rows);
    let mut changes = Changes::new(visitor, past);
    let mut found = Found::default();
    let mut session: Option<Open> = None;
    let mut is_changed = false;
    for event in &events {
        let at_ms = event.moment.at_ms;
        is_changed |= event.is_altered || question.is_anew(at_ms);
        let known_ms = event.known_ms.filter(|_| event.row.is_none() && !is_changed);
        let start_ms = known_ms.unwrap_or_else(|| match &session {
            Some(open) if rules.continues(&open.span, event.moment) => open.span.start_ms,
            _ => at_ms,
        });
        let open = match session.take().filter(|open| open.span.start_ms == start_ms) {
            Some(Open { span, is_altered }) => Open { span: Span { last_ms: at_ms, ..span }, is_altered },
            None => beginning(start_ms, event, &events),
        };
        if let Some(row) = event.row {
            found.rows.push((row, SessionId::beginning_at(visitor, start_ms)));
            is_changed = true;
        } else if event.known_ms == Some(start_ms) && !open.is_altered {
            is_changed = false;
        }
        changes.note(event, start_ms);
        session = Some(open);
    }
    found.span = session.map(|open| open.span).unwrap_or_default();
    let last_ms = found.span.last_ms;
    let is_open = is_changed && last_ms.saturating_add(rules.idle_gap_ms) > question.to_ms;
    if is_open && past.visits.len() < MOST_VISITS {
        return Resolved::Needs { to_ms: last_ms.saturating_add(rules.longest_ms).saturating_add(rules.idle_gap_ms) };
    }
    found.revisions = changes.end();
    Resolved::Done(found)
}

/// A session of which `event` is the first that is seen. Where the first of all was before, its campaign is that of then, if that was
/// asked for.
fn beginning(start_ms: i64, event: &Event, events: &[Event]) -> Open {
    let first = events.binary_search_by_key(&start_ms, |event| event.moment.at_ms).ok().and_then(|at| events.get(at));
    let (campaign, is_altered) = first.map_or((Campaign::NONE, false), |first| (first.moment.campaign, first.is_altered));
    Open { span: Span { start_ms, last_ms: event.moment.at_ms, campaign }, is_altered }
}

/// The events of the visitor by time, those of the table before new ones of the same moment, each with the campaign of its moment.
fn events(rules: &SessionRules, past: &Past, rows: &[Row]) -> Vec<Event> {
    let revised = |at_ms: i64| {
        let holds = past.revisions.iter().filter(|revision| revision.from_ms <= at_ms && at_ms <= revision.to_ms);
        holds.max_by_key(|revision| revision.version).and_then(|revision| revision.session.start_ms())
    };
    let seen = |moment: Moment| Moment { campaign: rules.seen(moment.campaign), ..moment };
    let stored = past.visits.iter().map(|visit| Event {
        moment: seen(visit.moment),
        is_altered: false,
        known_ms: revised(visit.moment.at_ms).or_else(|| visit.session.start_ms()),
        row: None,
    });
    let new = rows.iter().map(|row| Event {
        moment: seen(row.moment),
        is_altered: false,
        known_ms: revised(row.moment.at_ms),
        row: Some(row.row),
    });
    let mut events: Vec<Event> = stored.chain(new).collect();
    events.sort_by_key(|event| (event.moment.at_ms, event.row));
    for together in events.chunk_by_mut(|left, right| left.moment.at_ms == right.moment.at_ms) {
        let largest = |of: &dyn Fn(&&Event) -> bool| together.iter().filter(of).map(|event| event.moment.campaign).max();
        let (before, now) = (largest(&|event| event.row.is_none()), largest(&|_| true).unwrap_or_default());
        let is_altered = before.is_some_and(|before| before != now);
        for event in together {
            (event.moment.campaign, event.is_altered) = (now, is_altered);
        }
    }
    events
}

/// Gathers what the table says wrongly, neighbours together. A revision reaches from one event of its session to the next, also to one
/// of which the table says it rightly: what was said before shows nowhere between two events of one session.
struct Changes {
    visitor: Visitor,
    version: u32,
    done: Vec<Revision>,
    /// With where its session begins.
    open: Option<(i64, Revision)>,
    /// The event before, and where its session begins.
    previous: Option<(i64, i64)>,
}

impl Changes {
    fn new(visitor: Visitor, past: &Past) -> Self {
        let version = past.revisions.iter().map(|revision| revision.version).max().unwrap_or(0).saturating_add(1);
        Self { visitor, version, done: Vec::new(), open: None, previous: None }
    }

    fn note(&mut self, event: &Event, start_ms: i64) {
        let at_ms = event.moment.at_ms;
        // Of a new row of which no revision holds, the row itself will say it.
        let is_said = event.known_ms.map_or(event.row.is_some(), |known_ms| known_ms == start_ms);
        let is_neutral = event.row.is_some() && event.known_ms.is_none();
        let previous = self.previous.replace((at_ms, start_ms));
        if let Some((_, revision)) = self.open.as_mut().filter(|(open_ms, _)| *open_ms == start_ms) {
            revision.to_ms = at_ms;
            if is_said && !is_neutral {
                self.close();
            }
            return;
        }
        self.close();
        if !is_said {
            let from_ms = previous.filter(|(_, of_ms)| *of_ms == start_ms).map_or(at_ms, |(before_ms, _)| before_ms);
            let session = SessionId::beginning_at(self.visitor, start_ms);
            self.open = Some((start_ms, Revision { visitor: self.visitor, from_ms, to_ms: at_ms, session, version: self.version }));
        }
    }

    fn close(&mut self) {
        self.done.extend(self.open.take().map(|(_, revision)| revision));
    }

    fn end(mut self) -> Vec<Revision> {
        self.close();
        self.done
    }
}
