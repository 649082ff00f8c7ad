//! What persons are called.

use super::as_of::TIED_BY_THEN;
use super::expr::Expr;
use crate::event::ids::ProjectId;
use crate::store::tables::identities::TieKind;

/// The id of the user of an event; empty without one, or if it stands for nobody: then the event is that of its visitor.
pub(crate) const USER_ID: &str = "if(anonymous_id = '' OR person_id != visitor_id, user_id, '')";
/// The id that says whose an event is, before anything is tied.
pub(super) const OWN_ID: &str = "if(user_id != '' AND (anonymous_id = '' OR person_id != visitor_id), user_id, anonymous_id)";

/// `SELECT key, name` of the persons of a project that ties make, by the key of the one who stands for them; `person` is the expression of an
/// event's person, which puts the ids of users together. Of several users that aliases have made one that is it who is no other's former
/// id; so a person has one name wherever they are named.
pub(crate) fn names_of_persons(project: ProjectId, person: &'static str) -> Expr {
    let alias = Expr::uint(TieKind::Alias.code().into());
    let ties =
        Expr::from("SELECT kind, from_key, to_key, max(from_id) AS former, max(to_id) AS latter FROM identities WHERE project_id = ")
            .then(Expr::uint(project.0))
            // What is undone ties nobody.
            .then(" GROUP BY kind, from_key, to_key HAVING bitAnd(max(ruling), 1) = 0")
            .then(TIED_BY_THEN)
            .enclosed();
    let ids = Expr::from("SELECT arrayJoin(if(kind = ")
        .then(alias)
        .then(", [(from_key, former, 1), (to_key, latter, 0)], [(to_key, latter, 0)])) AS id FROM ")
        .then(ties)
        .enclosed();
    // What was ruled of ids that no event has brought is without their texts. A user is one at any time.
    let users =
        Expr::from("SELECT id.1 AS person_id, max(id.2) AS text, max(id.3) AS is_former, fromUnixTimestamp64Milli(0) AS timestamp FROM ")
            .then(ids)
            .then(" GROUP BY person_id HAVING text != ''")
            .enclosed();
    Expr::from("SELECT ").then(person).then(" AS key, argMax(text, (1 - is_former, text)) AS name FROM ").then(users).then(" GROUP BY key")
}
