//! Imports point down only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The layer of each module; a module may import what lies lower.
const LAYERS: [(&str, u8); 25] = [
    ("cli", 5),
    ("app", 4),
    ("config", 4),
    ("replay", 4),
    ("ingest", 3),
    ("process", 3),
    ("load", 3),
    ("query", 3),
    ("auth", 2),
    ("log", 1),
    ("clickhouse", 1),
    ("http", 1),
    ("redis", 1),
    ("lifecycle", 0),
    ("event", 0),
    ("outcome", 0),
    ("role", 0),
    ("metrics", 0),
    ("clock", 0),
    ("backoff", 0),
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
            // Within layer 0 outcomes and events know each other; elsewhere equals are strangers, and layer 4 is one room.
            let may = target == module || *other < own || (own == *other && matches!(own, 0 | 4));
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
