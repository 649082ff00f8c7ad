//! `person.NAME`: what is known of the person of an event.
//!
//! A trait is the last value that an `identify` event of any id of the person set: by time, then by place in the log, whatever the time of
//! the event that is looked at. What a bot or a server said counts, too: it is about the person, not traffic. `null` sets nothing.
//! Nothing of it is stored by person, so a tie or an event that comes late changes it as if it had come in time.
//!
//! Cost: a statement that names traits reads the `identify` events of the project once, which lie together, and holds the traits that
//! it names for each person who has one.
//! May go wrong: there are more of them than the memory of a statement holds; then it is refused as too expensive.

use super::as_of::UP_TO;
use super::expr::Expr;
use super::field::{Field, TRAITS, TRAITS_OF};
use crate::event::ids::ProjectId;
use crate::store::schema::IN_ORDER;

/// The person whose traits they are.
const KEY: &str = "of_person_key";

/// Joins the traits that `wanted` names to rows of people; none if it names none. `person` is who a row belongs to, `of_event` who an
/// event does.
pub(super) fn join(wanted: &Expr, project: ProjectId, [person, of_event]: [&'static str; 2]) -> Option<Expr> {
    let names = wanted.texts_behind(TRAITS_OF);
    if names.is_empty() {
        return None;
    }
    let is_said = |name: &&str| Field::Property((*name).to_owned()).is_missing().negated();
    let last = |name: &&str| {
        let said = Field::Property((*name).to_owned());
        let value = Expr::list(", ", [said.key(), said.number()]).grouped();
        [Expr::text(*name), Expr::call("argMaxIf", [value, IN_ORDER.into(), is_said(name)])]
    };
    let traits = Expr::call("map", names.iter().flat_map(last)).then(" AS ").then(TRAITS);
    let events = Expr::from(" FROM events WHERE project_id = ").then(Expr::uint(project.0)).then(" AND type = 'identify' AND ");
    let events = events.then(Expr::any(names.iter().map(is_said)).grouped()).then(UP_TO).then(" GROUP BY ").then(KEY);
    let traits = Expr::from(of_event).then(" AS ").then(KEY).then(", ").then(traits);
    let people = Expr::from("SELECT ").then(traits).then(events).enclosed();
    Some(Expr::from(" GLOBAL ANY LEFT JOIN ").then(people).then(" AS of_person ON ").then(person).then(" = ").then(KEY))
}
