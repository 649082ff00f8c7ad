//! Revisions: rows of the event table that say to which session events belong that were stored before.
//!
//! A late event can move others to another session. Their rows stay as they are; a revision, stored in one part with the event that made
//! it necessary, says so for a visitor's events in a span of time. It belongs to project 0 as the books do, and uses columns of an event:
//! [`FROM`] and [`UNTIL`] for the span, `session_id` for the session, [`PROJECT`] for the project, [`VERSION`] for which of several that
//! hold for an event counts: the highest. The projection of visits has no [`UNTIL`]; there [`LENGTH`] says it.

/// The `type` of a revision; no event can have it, `$` is reserved.
pub const REVISION_TYPE: &str = "$session";
/// The condition that a row is a revision.
pub const IS_REVISION: &str = "project_id = 0 AND type = '$session'";
/// Column of a revision that holds the time of the first event meant.
pub const FROM: &str = "timestamp";
/// Column of a revision that holds the time of the last event meant.
pub const UNTIL: &str = "original_timestamp";
/// Column of a revision that holds by how many milliseconds [`UNTIL`] is after [`FROM`], and one more. Of other rows of project 0 it is 0.
pub const LENGTH: &str = "campaign_hash";
/// Column of a revision that holds the project of the visitor.
pub const PROJECT: &str = "person_id";
/// Column of a revision that holds its version.
pub const VERSION: &str = "flags";
/// What a statement that names a session calls the revisions of the event's visitor, the newest first: [`FROM`], [`UNTIL`], session and
/// [`VERSION`] of each.
pub const REVISED: &str = "revised";
/// The session of an event: that of its row, unless events that came later moved it; then the newest revision counts. A session that
/// the client named is moved by nothing.
pub const SESSION: &str = "if(empty(revised) OR client_session_id != '', session_id, \
    arrayFirst(span -> span.1 <= timestamp AND timestamp <= span.2, arrayPushBack(revised, (timestamp, timestamp, session_id, toUInt32(0)))).3)";
/// The same as text, as the client called it where it did.
pub const SESSION_NAME: &str = "if(client_session_id != '', client_session_id, toString(if(empty(revised), session_id, \
    arrayFirst(span -> span.1 <= timestamp AND timestamp <= span.2, arrayPushBack(revised, (timestamp, timestamp, session_id, toUInt32(0)))).3)))";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ids::ProjectId;

    #[test]
    fn the_condition_of_revisions_is_that_of_their_rows() {
        assert_eq!(IS_REVISION, format!("project_id = {} AND type = '{REVISION_TYPE}'", ProjectId::BOOKS.0));
    }

    #[test]
    fn a_session_and_its_name_are_found_in_the_same_way() {
        let find = |text: &'static str| text.split_once("arrayFirst(").map(|(_, find)| find.trim_end_matches(')'));
        assert_eq!(find(SESSION), find(SESSION_NAME));
        assert!(SESSION.contains(REVISED) && SESSION_NAME.contains(REVISED));
    }
}
