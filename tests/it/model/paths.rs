//! Paths: every node, link and drop-off, session by session, their balance, and the people behind.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::lines::{check_bar, is_in};
use super::trends::shown;
use super::{Breakdown, Event};
use crate::report::{Asker, Case};

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    node: &'static str,
    /// Whether it is the end, and the node.
    anchor: Option<(bool, usize)>,
    steps: usize,
    limit: usize,
    is_collapsed: bool,
}

const NODES: [&str; 5] = ["type", "page_path", "properties.plan", "properties.amount", "country"];

pub(crate) fn options() -> impl Strategy<Value = Paths> {
    let anchor = prop::option::of((any::<bool>(), 0_usize..8));
    (prop::sample::select(NODES.to_vec()), anchor, 2_usize..6, 1_usize..5, any::<bool>())
        .prop_map(|(node, anchor, steps, limit, is_collapsed)| Paths { node, anchor, steps, limit, is_collapsed })
}

/// The path of a session by keys of nodes, and its person.
struct Path {
    nodes: Vec<String>,
    person: u64,
}

/// How a node of a step is shown: name and kind.
type Name = (Value, Value);

/// Compares the chart, and looks at its balance.
pub(crate) fn check(asker: Asker<'_>, case: &Case) -> Result<(), TestCaseError> {
    let paths = paths(case);
    let request = request(case);
    let chart = asker.ask("paths", &request);
    let expected = Expected::of(&case.options.paths, &paths);
    expected.is(&chart).map_err(|reason| TestCaseError::fail(format!("{reason}\n{request}")))?;
    balances(&chart)?;
    check_people(asker, &request, &chart, &expected)
}

fn key(event: &Event, case: &Case) -> String {
    match case.options.paths.node {
        "type" => format!("s{}", event.kind),
        "page_path" if event.page_path().is_empty() => "z".to_owned(),
        "page_path" => format!("s{}", event.page_path()),
        "properties.plan" => event.key(Breakdown { fields: &["properties.plan"], is_list: false }).remove(0),
        "properties.amount" => event.key(Breakdown { fields: &["properties.amount"], is_list: false }).remove(0),
        _ => event.key(Breakdown { fields: &["country"], is_list: false }).remove(0),
    }
}

/// The nodes of each session that begins in the range.
fn sessions(case: &Case) -> Vec<Path> {
    let mut sessions: BTreeMap<(u64, u64, i64), Vec<&Event>> = BTreeMap::new();
    for event in case.events.iter().filter(|event| case.passes(event) && is_in(case.range, event.of_session.start_ms)) {
        sessions.entry(event.session_key()).or_default().push(event);
    }
    let path = |mut events: Vec<&Event>| {
        // Those of one moment in the order of their ids, which is that of the list.
        events.sort_by_key(|event| event.at_ms);
        Path { person: events[0].of_session.person, nodes: events.iter().map(|event| key(event, case)).collect() }
    };
    sessions.into_values().map(path).collect()
}

/// The anchor's node: one that there is, mostly.
fn anchor(case: &Case) -> Option<(bool, String)> {
    let nodes: BTreeSet<String> = sessions(case).into_iter().flat_map(|path| path.nodes).collect();
    // An object is not named by the text that it was sent as.
    let nodes: Vec<String> = nodes.into_iter().filter(|node| !node.starts_with("o[") && node != "s$none" && node != "s$other").collect();
    let (is_end, number) = case.options.paths.anchor?;
    Some((is_end, nodes.get(number % nodes.len().max(1)).cloned().unwrap_or_else(|| "snowhere".to_owned())))
}

fn paths(case: &Case) -> Vec<Path> {
    let asked = &case.options.paths;
    let anchor = anchor(case);
    let mut paths = sessions(case);
    for path in &mut paths {
        if let Some((is_end, node)) = &anchor {
            if *is_end {
                path.nodes.reverse();
            }
            let first = path.nodes.iter().position(|own| own == node).unwrap_or(path.nodes.len());
            path.nodes.drain(..first);
        }
        if asked.is_collapsed {
            path.nodes.dedup();
        }
        path.nodes.truncate(asked.steps);
    }
    paths.into_iter().filter(|path| !path.nodes.is_empty()).collect()
}

fn request(case: &Case) -> Value {
    let asked = &case.options.paths;
    let mut request = case.request();
    let object = request.as_object_mut().unwrap();
    ["formula", "series", "interval", "compare", "breakdown"].iter().for_each(|key| drop(object.remove(*key)));
    let options = json!({"node": asked.node, "steps": asked.steps, "limit": asked.limit, "collapse": asked.is_collapsed});
    object.extend(options.as_object().unwrap().clone());
    if let Some((is_end, node)) = anchor(case) {
        object.insert(if is_end { "end" } else { "start" }.to_owned(), name(&node).0);
    }
    request
}

fn name(key: &str) -> Name {
    shown(&vec![key.to_owned()], Breakdown { fields: &["type"], is_list: false })
}

/// Sessions of each number of the chart, by their place in the list.
struct Expected {
    nodes: BTreeMap<String, (Value, BTreeSet<usize>)>,
    links: BTreeMap<String, (Value, BTreeSet<usize>)>,
    dropoffs: BTreeMap<String, (Value, BTreeSet<usize>)>,
    persons: Vec<u64>,
}

impl Expected {
    fn of(asked: &Paths, paths: &[Path]) -> Self {
        let names: Vec<BTreeMap<String, Name>> = (0..asked.steps).map(|step| names(asked, paths, step)).collect();
        let persons = paths.iter().map(|path| path.person).collect();
        let mut expected = Self { nodes: BTreeMap::new(), links: BTreeMap::new(), dropoffs: BTreeMap::new(), persons };
        let name = |step: usize, key: &String| names[step].get(key).cloned().unwrap_or((json!("$other"), json!("other")));
        for (number, path) in paths.iter().enumerate() {
            for (step, key) in path.nodes.iter().enumerate() {
                let (own, kind) = name(step, key);
                let node = json!({"step": step + 1, "name": own, "kind": kind});
                add(&mut expected.nodes, &node, number);
                match path.nodes.get(step + 1) {
                    Some(next) => {
                        let (to, to_kind) = name(step + 1, next);
                        let link = json!({"step": step + 1, "from": own, "from_kind": kind, "to": to, "to_kind": to_kind});
                        add(&mut expected.links, &link, number);
                    }
                    None => add(&mut expected.dropoffs, &node, number),
                }
            }
        }
        expected
    }

    fn is(&self, chart: &Value) -> Result<(), String> {
        for (list, expected) in [("nodes", &self.nodes), ("links", &self.links), ("dropoffs", &self.dropoffs)] {
            let found: BTreeMap<String, u64> = chart[list].as_array().unwrap().iter().map(split).collect();
            let expected: BTreeMap<String, u64> =
                expected.iter().map(|(name, (_, sessions))| (name.clone(), sessions.len() as u64)).collect();
            if found != expected {
                return Err(format!("{list}: {found:#?}\nexpected {expected:#?}"));
            }
        }
        Ok(())
    }
}

/// The nodes of a step that are shown by name.
fn names(asked: &Paths, paths: &[Path], step: usize) -> BTreeMap<String, Name> {
    let mut sizes: BTreeMap<&String, usize> = BTreeMap::new();
    paths.iter().filter_map(|path| path.nodes.get(step)).for_each(|key| *sizes.entry(key).or_default() += 1);
    let mut sizes: Vec<(&String, usize)> = sizes.into_iter().collect();
    sizes.sort_by(|left, right| right.1.cmp(&left.1).then_with(|| left.0.cmp(right.0)));
    sizes.into_iter().take(asked.limit).map(|(key, _)| (key.clone(), name(key))).collect()
}

fn add(to: &mut BTreeMap<String, (Value, BTreeSet<usize>)>, named: &Value, session: usize) {
    to.entry(named.to_string()).or_insert_with(|| (named.clone(), BTreeSet::new())).1.insert(session);
}

/// What names a number of the answer, and the number.
fn split(found: &Value) -> (String, u64) {
    let mut named = found.clone();
    let sessions = named.as_object_mut().unwrap().remove("sessions").unwrap();
    (named.to_string(), sessions.as_u64().unwrap())
}

/// What enters a node leaves it or is its drop-off.
fn balances(chart: &Value) -> Result<(), TestCaseError> {
    let list = |name: &str| chart[name].as_array().unwrap().clone();
    let sum = |of: &[Value], is: &dyn Fn(&Value) -> bool| {
        of.iter().filter(|one| is(one)).map(|one| one["sessions"].as_u64().unwrap()).sum::<u64>()
    };
    let (links, dropoffs) = (list("links"), list("dropoffs"));
    for node in list("nodes") {
        let step = node["step"].as_u64().unwrap();
        let is_node = |other: &Value| [&other["step"], &other["name"], &other["kind"]] == [&node["step"], &node["name"], &node["kind"]];
        let leaves = |link: &Value| [&link["step"], &link["from"], &link["from_kind"]] == [&node["step"], &node["name"], &node["kind"]];
        let enters = |link: &Value| link["step"] == json!(step - 1) && [&link["to"], &link["to_kind"]] == [&node["name"], &node["kind"]];
        let out = sum(&links, &leaves) + sum(&dropoffs, &is_node);
        prop_assert_eq!(node["sessions"].as_u64().unwrap(), out, "{}", chart);
        prop_assert!(step == 1 || sum(&links, &enters) == out, "{}", chart);
    }
    Ok(())
}

/// The people behind the first node, link and drop-off of the last step that has one.
fn check_people(asker: Asker<'_>, request: &Value, chart: &Value, expected: &Expected) -> Result<(), TestCaseError> {
    for (list, own) in [("nodes", &expected.nodes), ("links", &expected.links), ("dropoffs", &expected.dropoffs)] {
        let Some(found) = chart[list].as_array().unwrap().last() else { continue };
        let (named, _) = split(found);
        let Some((bar, sessions)) = own.get(&named) else { continue };
        let mut of = request.clone();
        of["report"] = json!("paths");
        of["step"] = bar["step"].clone();
        if list == "links" {
            for (key, of_link) in [("name", "from"), ("kind", "from_kind"), ("next", "to"), ("next_kind", "to_kind")] {
                of[key] = bar[of_link].clone();
            }
        } else {
            of["name"] = bar["name"].clone();
            of["kind"] = bar["kind"].clone();
        }
        if list == "dropoffs" {
            of["dropped"] = json!(true);
        }
        let persons: BTreeSet<u64> = sessions.iter().map(|session| expected.persons[*session]).collect();
        check_bar(asker, &of, false, persons.len())?;
    }
    Ok(())
}
