//! The sessions that the table has: of the visitors who were seen last when a partition is taken, and of those that are looked up.
//!
//! Promise: what is read is bounded, however large the table is. Looked up is in the projection `visits`, which has the events of a
//! visitor by time, by a statement for those whose past is about as long; recalled is what happened within an idle gap of the last receipt, or
//! within less where that are too many events.

use std::collections::HashSet;

use super::TableError;
use super::past::{Back, Past, by_span, since};
use crate::clickhouse::{Statement, native};
use crate::clock;
use crate::event::ids::{ProjectId, VisitorKey};
use crate::event::session::{Campaign, Moment, SessionId, Visitor};
use crate::load::memory::MemoryLimits;
use crate::load::sessions::{Anew, MOST_VISITS, NOBODY_MS, Pasts, Question, Revision, Sessions, Visit};
use crate::store::books::{Held, IS_EVENT};
use crate::store::data_version::DataVersions;
use crate::store::revisions::{FROM, IS_REVISION, LENGTH, PROJECT, UNTIL, VERSION};

/// Visitors asked for in one statement: the server takes form fields of up to 128 KiB, and a visitor takes 21 bytes of one.
const VISITORS_PER_STATEMENT: usize = 2_000;
const DAY_MS: i64 = 86_400_000;
/// An event is stored on the day of its receipt, which may be this much before its own time: a clock that is ahead, and a block of two days.
const AHEAD_MS: i64 = 2 * DAY_MS;

/// Events of a server that are read to recall the latest sessions of one of its partitions: with more of them it recalls less, and looks up
/// more.
const RECALLED_EVENTS: u64 = 10_000_000;
/// How far back is counted first.
const FIRST_SPAN_MS: i64 = 60 * 60_000;

/// Project, visitor, moment, session.
const LAST_BYTES: usize = 40;
/// Project, visitor, moment, session, campaign, person, flags.
const VISIT_BYTES: usize = 56;

impl Past<'_> {
    /// The latest sessions of visitors who were seen within an idle gap of the last receipt. `held` is what the server has.
    pub(super) async fn recall_sessions(&self, held: &[Held], limits: &MemoryLimits) -> Result<Sessions, TableError> {
        let MemoryLimits { projects, max_visitors, .. } = limits;
        let nobody_after = |horizon_ms| Sessions::new(projects.clone(), *max_visitors, horizon_ms);
        let Some(newest_ms) = held.iter().map(|held| held.newest_ms).max() else {
            return Ok(nobody_after(NOBODY_MS));
        };
        let since_ms = self.recalled_since(newest_ms.min(clock::now_ms()), projects.longest_gap_ms()).await?;
        let mut last = Vec::new();
        self.server.each(&self.ask_last(since_ms, *max_visitors), |row: &[u8; LAST_BYTES]| last.extend(last_of(row))).await?;
        if last.len() > *max_visitors {
            // More than are remembered: of a visitor who is not, any event may be in the table that can have been received by now.
            return Ok(nobody_after(newest_ms.saturating_add(AHEAD_MS)));
        }
        let to = Statement::of("SELECT ").sql(PROJECT).sql(", visitor_id FROM ").table(self.events).sql(" WHERE ").sql(IS_REVISION);
        let to = to.sql(" AND ").sql(FROM).sql(" > fromUnixTimestamp64Milli(").int(since_ms.saturating_sub(projects.longest_session_ms()));
        let revised = to.sql(") AND ").sql(UNTIL).sql(" > fromUnixTimestamp64Milli(").int(since_ms).sql(")");
        let mut in_doubt = HashSet::new();
        self.server.each(&revised, |row: &[u8; 16]| in_doubt.extend(visitor(row))).await?;
        let mut sessions = nobody_after(since_ms);
        for (visitor, at_ms, session) in last {
            sessions.recall(visitor, at_ms, Some(session).filter(|_| !in_doubt.contains(&visitor)));
        }
        Ok(sessions)
    }

    /// Since when latest sessions are recalled: for an idle gap, or less where there were more events than are read. What was before is
    /// looked up: a shorter past is as right as a longer one.
    async fn recalled_since(&self, until_ms: i64, gap_ms: i64) -> Result<i64, TableError> {
        let mut span_ms = gap_ms.min(FIRST_SPAN_MS);
        loop {
            let minutes = self.minutes(until_ms.saturating_sub(span_ms), false).await?;
            let events = minutes.iter().map(|minute| minute.events).sum();
            match wider(span_ms, gap_ms, events) {
                Some(wider_ms) => span_ms = wider_ms,
                None => return Ok(since(&minutes, RECALLED_EVENTS, Back { until_ms, span_ms })),
            }
        }
    }

    fn ask_last(&self, since_ms: i64, max_visitors: usize) -> Statement {
        let to =
            Statement::of("SELECT project_id, visitor_id, max(toUnixTimestamp64Milli(timestamp)), argMax(session_id, timestamp) FROM ");
        let to = to.table(self.events).sql(" WHERE ").sql(IS_EVENT).sql(" AND received_day >= toDate(").uint16(first_day(since_ms));
        let to = to.sql(") AND timestamp > fromUnixTimestamp64Milli(").int(since_ms).sql(") AND client_session_id = ''");
        let to = to.sql(" AND bitShiftRight(bitShiftRight(visitor_id, 32) * ").uint(self.partitions.into());
        let to = to.sql(", 32) = ").uint(self.key.partition.into());
        to.sql(" GROUP BY project_id, visitor_id LIMIT ").uint(max_visitors as u64 + 1)
    }

    /// The visitors of the partition who have events of a time, in sessions by time; of one project if one is given.
    pub(super) async fn visitors(&self, time: Anew, project: Option<ProjectId>) -> Result<Vec<Visitor>, TableError> {
        let to = Statement::of("SELECT DISTINCT project_id, visitor_id FROM ").table(self.events).sql(" WHERE ").sql(IS_EVENT);
        let to = to.sql(" AND received_day >= toDate(").uint16(first_day(time.from_ms));
        let to = to.sql(") AND timestamp >= fromUnixTimestamp64Milli(").int(time.from_ms);
        let to = to.sql(") AND timestamp < fromUnixTimestamp64Milli(").int(time.until_ms).sql(") AND client_session_id = ''");
        let to = to.sql(" AND bitShiftRight(bitShiftRight(visitor_id, 32) * ").uint(self.partitions.into());
        let to = to.sql(", 32) = ").uint(self.key.partition.into());
        let to = match project {
            Some(project) => to.sql(" AND project_id = ").uint(project.0),
            None => to,
        };
        let mut visitors = Vec::new();
        self.server.each(&to, |row: &[u8; 16]| visitors.extend(visitor(row))).await?;
        Ok(visitors)
    }

    /// What the table has of the visitors in the spans that are asked for.
    pub(super) async fn visits(&self, questions: &[Question]) -> Result<Pasts, TableError> {
        let mut pasts = Pasts::default();
        for questions in statements(questions) {
            let asked: HashSet<Visitor> = questions.iter().map(|question| question.visitor).collect();
            let take = |row: &[u8; VISIT_BYTES]| {
                let Some(row) = VisitRow::of(row) else { return };
                let revision = row.revision();
                let visitor = revision.map_or(row.visitor, |revision| revision.visitor);
                // Another project's visitor of the same key: nobody has asked, or another statement does.
                if !asked.contains(&visitor) {
                    return;
                }
                let past = pasts.entry(visitor).or_default();
                match revision {
                    Some(revision) => past.revisions.push(revision),
                    None => past.visits.push(row.visit()),
                }
            };
            self.server.each(&self.ask_visits(&questions), take).await?;
        }
        Ok(pasts)
    }

    /// Events, and what was said of their sessions since: both are beside each other in the projection.
    fn ask_visits(&self, questions: &[&Question]) -> Statement {
        let first = |from: fn(&Question) -> i64| questions.iter().map(|question| from(question)).min().unwrap_or_default();
        let (from_ms, revised_from_ms) = (first(|question| question.from_ms), first(|question| question.revised_from_ms));
        let to_ms = questions.iter().map(|question| question.to_ms).max().unwrap_or_default();
        let visitors = || questions.iter().map(|question| question.visitor.key.0);
        let to = Statement::of("SELECT project_id, visitor_id, toUnixTimestamp64Milli(timestamp) AS at, session_id, campaign_hash, ");
        let to = to.sql(PROJECT).sql(", ").sql(VERSION).sql(" FROM ").projection(self.events, "visits");
        let to = to.sql(" WHERE received_day >= toDate(").uint16(first_day(from_ms));
        let to = to.sql(") AND visitor_id IN ").uints(visitors());
        let to = to.sql(" AND timestamp >= fromUnixTimestamp64Milli(").int(revised_from_ms.min(from_ms));
        let to = to.sql(") AND timestamp <= fromUnixTimestamp64Milli(").int(to_ms);
        let to = to.sql(") AND if(project_id = 0, ").sql(LENGTH).sql(" > 0, at >= transform(visitor_id, ").uints(visitors()).sql(", ");
        let to = to.ints(questions.iter().map(|question| question.from_ms)).sql(", toInt64(0)) AND at <= transform(visitor_id, ");
        let to = to.uints(visitors()).sql(", ").ints(questions.iter().map(|question| question.to_ms));
        // Sessions by time have ids of another kind than those that clients name.
        let to = to.sql(", toInt64(0)) AND substring(toString(session_id), 15, 1) = '7') LIMIT ");
        to.uint(MOST_VISITS as u64).sql(" BY project_id, visitor_id")
    }
}

/// Questions that are asked together: their pasts begin within about the same time, since one statement reads all its visitors as far back as it
/// goes back for any, and no key is there twice, since a span is told by it.
fn statements(questions: &[Question]) -> Vec<Vec<&Question>> {
    let mut statements = Vec::new();
    for (_, together) in by_span(questions, |question| first_day(question.from_ms)) {
        let mut rest = together;
        while !rest.is_empty() {
            let mut keys = HashSet::new();
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|question| keys.insert(question.visitor.key));
            statements.extend(now.chunks(VISITORS_PER_STATEMENT).map(<[_]>::to_vec));
            rest = later;
        }
    }
    statements
}

/// How far back to count next, after a span with so many events; `None` if that is enough.
fn wider(span_ms: i64, gap_ms: i64, events: u64) -> Option<i64> {
    let has_room = events < RECALLED_EVENTS / 2;
    (span_ms < gap_ms && has_room).then(|| span_ms.saturating_mul(2).min(gap_ms))
}

fn first_day(at_ms: i64) -> u16 {
    DataVersions::day(at_ms.saturating_sub(AHEAD_MS))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

fn visitor(row: &[u8]) -> Option<Visitor> {
    let (project, key) = row.split_at_checked(8)?;
    Some(Visitor { project: ProjectId(number(project)), key: VisitorKey(number(key.get(..8)?)) })
}

fn session(bytes: &[u8]) -> SessionId {
    SessionId(native::uuid_bytes(bytes.try_into().unwrap_or_default()))
}

fn last_of(row: &[u8; LAST_BYTES]) -> Option<(Visitor, i64, SessionId)> {
    Some((visitor(row)?, number(&row[16..24]) as i64, session(&row[24..])))
}

/// A row of the projection of visits: an event, or in project 0 a revision.
struct VisitRow {
    visitor: Visitor,
    at_ms: i64,
    session: SessionId,
    /// The campaign; of a revision its length.
    hash: u32,
    /// Of a revision the project of the visitor.
    person: u64,
    /// Of a revision its version.
    flags: u32,
}

impl VisitRow {
    fn of(row: &[u8; VISIT_BYTES]) -> Option<Self> {
        let short = |at: usize| row[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
        let (at_ms, session) = (number(&row[16..24]) as i64, session(&row[24..40]));
        Some(Self { visitor: visitor(row)?, at_ms, session, hash: short(40), person: number(&row[44..52]), flags: short(52) })
    }

    fn visit(&self) -> Visit {
        Visit { moment: Moment { at_ms: self.at_ms, campaign: Campaign(self.hash) }, session: self.session }
    }

    fn revision(&self) -> Option<Revision> {
        if self.visitor.project != ProjectId::BOOKS {
            return None;
        }
        let visitor = Visitor { project: ProjectId(self.person), key: self.visitor.key };
        let to_ms = self.at_ms.saturating_add(i64::from(self.hash) - 1);
        Some(Revision { visitor, from_ms: self.at_ms, to_ms, session: self.session, version: self.flags })
    }
}

#[cfg(test)]
mod tests;
