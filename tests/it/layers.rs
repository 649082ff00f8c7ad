//! How the sources hang together and read: imports point down only and in no circle, parameters and types have names of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The layer of each module; a module may import what lies lower.
const LAYERS: [(&str, u8); 30] = [
    ("cli", 5),
    ("app", 4),
    ("config", 4),
    ("replay", 4),
    ("ingest", 3),
    ("process", 3),
    ("load", 3),
    ("query", 3),
    ("alert", 3),
    ("store", 2),
    ("auth", 2),
    ("log", 1),
    ("clickhouse", 1),
    ("http", 1),
    ("redis", 1),
    ("lifecycle", 0),
    ("event", 0),
    ("project", 0),
    ("outcome", 0),
    ("role", 0),
    ("metrics", 0),
    ("clock", 0),
    ("backoff", 0),
    ("outage", 0),
    ("byte_budget", 0),
    ("byte_size", 0),
    ("failpoint", 0),
    ("secret", 0),
    ("wire", 0),
    ("main", 5),
];

/// Layer 0 is pure: nothing that does I/O or knows a protocol. [`RUNS_TASKS`] is there because every layer runs tasks.
const NOT_IN_LAYER_0: [&str; 5] = ["tokio", "hyper", "clickhouse", "rdkafka", "http_body_util"];

/// The module of layer 0 that knows tokio.
const RUNS_TASKS: &str = "lifecycle";

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn module_of(path: &Path) -> String {
    let relative = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
    relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

/// The modules of the crate that a source names, by path or in the braces of a `use`: `crate::a`, `crate::{a, b::{c, d}}`.
fn modules_named(text: &str) -> Vec<&str> {
    let name = |text: &'_ str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push(&rest[..name(rest)]);
            continue;
        };
        let mut depth = 0_usize;
        let mut starts = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' => starts |= depth == 0,
                _ if c.is_whitespace() => {}
                _ if starts && depth == 0 => {
                    found.push(&group[at..at + name(&group[at..])]);
                    starts = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn a_module_is_found_in_every_form_of_use() {
    let text = "use crate::log::{Log, Topic};\nuse crate::{clock, failpoint};\nuse crate::{\n    event::{ids::LogEpoch, record},\n    query,\n};\n\
                fn f() { crate::metrics::count(crate::load::GROUP) }\npub(in crate::http) struct S;";
    assert_eq!(modules_named(text), ["log", "clock", "failpoint", "event", "query", "metrics", "load", "http"]);
}

#[test]
fn imports_point_down_only() {
    let layers: HashMap<&str, u8> = LAYERS.into_iter().collect();
    let mut files = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
    assert!(files.len() > 50, "the sources were not found");
    let mut breaches = Vec::new();
    for file in files {
        let module = module_of(&file);
        if module == "lib" {
            continue;
        }
        let own = *layers.get(module.as_str()).unwrap_or_else(|| panic!("module {module} has no layer"));
        let text = std::fs::read_to_string(&file).unwrap();
        for target in modules_named(&text) {
            let Some(other) = layers.get(target) else { continue };
            // Within layer 0 outcomes and events know each other; elsewhere equals are strangers, and layer 4 is one room. Alerts ask.
            let may =
                target == module || *other < own || (own == *other && matches!(own, 0 | 4)) || (&*module, target) == ("alert", "query");
            if !may {
                breaches.push(format!("{} imports {target}", file.display()));
            }
        }
        for word in NOT_IN_LAYER_0.iter().filter(|_| own == 0 && module != RUNS_TASKS) {
            if text.contains(&format!("use {word}::")) {
                breaches.push(format!("{} imports {word}", file.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}

/// A path of the sources, as a module: `src/log/kafka/pool.rs` is `log::kafka::pool`.
fn module_path(path: &Path) -> String {
    let relative = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap().with_extension("");
    relative.iter().map(|part| part.to_str().unwrap()).collect::<Vec<_>>().join("::")
}

/// The paths that the `use` declarations of a source name, braces taken apart.
fn used_paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for statement in text.split("\nuse ").skip(1).chain(text.split("\npub use ").skip(1)).chain(text.split("\npub(crate) use ").skip(1)) {
        let tree: String = statement.split(';').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        expand("", &tree, &mut found);
    }
    found
}

/// Adds the paths of a tree such as `a::{b, c::{d, e}}`.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        found.push(format!("{prefix}{}", tree.trim().split(" as ").next().unwrap_or_default()));
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &group[start..at], found);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !group[start..].trim().is_empty() {
        expand(&prefix, &group[start..], found);
    }
}

/// The module of a `use` of `own`, as far as it is one of ours.
fn target_of(path: &str, own: &str, modules: &HashSet<String>) -> Option<String> {
    let mut base: Vec<&str> = own.split("::").collect();
    let mut rest = path;
    if let Some(after) = rest.strip_prefix("crate::") {
        (base, rest) = (Vec::new(), after);
    } else if let Some(after) = rest.strip_prefix("self::") {
        rest = after;
    } else if rest.starts_with("super::") {
        while let Some(after) = rest.strip_prefix("super::") {
            base.pop();
            rest = after;
        }
    }
    let full: Vec<&str> = base.into_iter().chain(rest.split("::")).collect();
    let longest = (1..=full.len()).rev().map(|parts| full[..parts].join("::")).find(|name| modules.contains(name))?;
    // What a file has of those around it, and they of it, is one piece.
    let is_around = |inner: &str, outer: &str| inner == outer || inner.starts_with(&format!("{outer}::"));
    (!is_around(own, &longest) && !is_around(&longest, own)).then_some(longest)
}

/// Looks for circles of imports, depth first.
struct Search {
    graph: BTreeMap<String, BTreeSet<String>>,
    way: Vec<String>,
    done: BTreeSet<String>,
    circles: Vec<Vec<String>>,
}

impl Search {
    /// Goes on from a module, and through all that it imports.
    fn visit(&mut self, at: &str) {
        if let Some(begins) = self.way.iter().position(|module| module == at) {
            self.circles.push(self.way[begins..].to_vec());
            return;
        }
        if !self.done.insert(at.to_owned()) {
            return;
        }
        self.way.push(at.to_owned());
        for next in self.graph.get(at).cloned().unwrap_or_default() {
            self.visit(&next);
        }
        self.way.pop();
    }
}

/// The sources that are no tests.
fn product_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut files);
    files.retain(|file| !file.iter().any(|part| part == "tests" || part == "tests.rs"));
    files
}

/// The source without its tests.
fn product_text(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

#[test]
fn a_use_is_expanded_with_all_its_braces() {
    let text = "//! x\nuse crate::a::{self, b::{c, d as e}, F};\nuse super::g::{\n    h,\n    i::J,\n};\npub use self::k::L;\n";
    let mut paths = used_paths(text);
    paths.sort_unstable();
    assert_eq!(paths, ["crate::a::F", "crate::a::b::c", "crate::a::b::d", "crate::a::self", "self::k::L", "super::g::h", "super::g::i::J"]);
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files = product_files();
    let modules: HashSet<String> = files.iter().map(|file| module_path(file)).collect();
    let graph: BTreeMap<String, BTreeSet<String>> = files
        .iter()
        .map(|file| {
            let own = module_path(file);
            let targets = used_paths(&product_text(file)).iter().filter_map(|path| target_of(path, &own, &modules)).collect();
            (own, targets)
        })
        .collect();
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 200, "imports were not found");
    let mut search = Search { graph, way: Vec::new(), done: BTreeSet::new(), circles: Vec::new() };
    modules.iter().for_each(|module| search.visit(module));
    assert!(search.circles.is_empty(), "{:#?}", search.circles);
}

/// Parameters that are tuples: several values under one name hide what each is. `(a, b): (A, B)` in the head of a function.
fn tuple_parameters(text: &str) -> usize {
    let is_pattern =
        |inner: &str| !inner.is_empty() && inner.chars().all(|c| c.is_alphanumeric() || "_, \n&".contains(c)) && inner.contains(',');
    let is_parameter = |open: usize, end: usize| is_pattern(&text[open + 1..end]) && !text[..open].ends_with("let ");
    text.match_indices("): (").filter(|(at, _)| text[..*at].rfind('(').is_some_and(|open| is_parameter(open, *at))).count()
}

#[test]
fn a_parameter_that_is_a_tuple_is_counted() {
    assert_eq!(tuple_parameters("fn f(&self, (a, b): (A, B), c: C) {}\nlet (x, y) = z;\nfn g((a, mut b): (\n&A, B)) {}"), 2);
    assert_eq!(tuple_parameters("fn f(a: (A, B)) -> (A, B) {}\nlet x: (A, B) = y;\nlet (x, z): (A, B) = y;"), 0);
}

#[test]
fn parameters_have_names_of_their_own() {
    let files = product_files();
    let counts: Vec<(String, usize)> =
        files.iter().map(|file| (module_path(file), tuple_parameters(&product_text(file)))).filter(|(_, count)| *count > 0).collect();
    assert!(counts.is_empty(), "parameters are tuples: make them structs. {counts:#?}");
}

/// Types named by a metaphor of our own, or by a word without a meaning: use the field's word.
const NO_TYPE_NAMES: [&str; 11] =
    ["Convoy", "Passenger", "Tenure", "Timetable", "Home", "Lane", "Mend", "LastWord", "Look", "Want", "Place"];

/// Phrases of comments that make a sentence hard to read.
const NO_PHRASES: [&str; 5] = ["for company", "is heard", "was heard", "has not heard", "whoever"];

#[test]
fn names_are_the_words_of_the_field() {
    let mut breaches = Vec::new();
    for file in product_files() {
        let (module, text) = (module_path(&file), product_text(&file));
        for name in NO_TYPE_NAMES {
            let declares = |kind: &str| {
                text.lines().any(|line| line.contains(&format!("{kind} {name} ")) || line.contains(&format!("{kind} {name}<")))
            };
            if ["struct", "enum", "trait", "type"].into_iter().any(declares) {
                breaches.push(format!("{module} declares {name}"));
            }
        }
        let comments = text.lines().filter(|line| line.trim_start().starts_with("//"));
        let comments = comments.collect::<Vec<_>>().join("\n");
        breaches.extend(
            NO_PHRASES.iter().filter(|phrase| comments.to_lowercase().contains(**phrase)).map(|phrase| format!("{module} says `{phrase}`")),
        );
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}
