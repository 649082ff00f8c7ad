//! What persons are called.

use super::expr::Expr;
use crate::event::ids::ProjectId;
use crate::store::tables::identities::TieKind;

/// The id of the user of an event; empty without one, or if it stands for nobody: then the event is that of its visitor.
pub(crate) const USER_ID: &str = "if(anonymous_id = '' OR person_id != visitor_id, user_id, '')";
/// The id that says whose an event is, before anything is tied.
pub(super) const OWN_ID: &str = "if(user_id != '' AND (anonymous_id = '' OR person_id != visitor_id), user_id, anonymous_id)";

/// `SELECT key, name` of the ids of a project that are tied as those of users, any of which may stand for a person.
pub(crate) fn names_of_persons(project: ProjectId) -> Expr {
    let alias = Expr::uint(TieKind::Alias.code().into());
    let ids =
        Expr::from("SELECT arrayJoin(if(kind = ").then(alias).then(", [(from_key, from_id), (to_key, to_id)], [(to_key, to_id)])) AS id");
    let ids = ids.then(" FROM identities WHERE project_id = ").then(Expr::uint(project.0)).enclosed();
    // What was ruled of ids that no event has brought is without their texts.
    Expr::from("SELECT id.1 AS key, max(id.2) AS name FROM ").then(ids).then(" GROUP BY key HAVING name != ''")
}
