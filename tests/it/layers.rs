//! Imports point down only.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The layer of each module; a module may import what lies lower, and alert-like exceptions are listed below.
const LAYERS: [(&str, u8); 20] = [
    ("cli", 4),
    ("app", 3),
    ("config", 3),
    ("replay", 3),
    ("ingest", 2),
    ("process", 2),
    ("load", 2),
    ("query", 2),
    ("log", 1),
    ("clickhouse", 1),
    ("http", 1),
    ("lifecycle", 1),
    ("redis", 1),
    ("event", 0),
    ("outcome", 0),
    ("role", 0),
    ("metrics", 0),
    ("clock", 0),
    ("crash", 0),
    ("main", 4),
];

/// Layer 0 is pure: nothing that does I/O or knows a protocol.
const NOT_IN_LAYER_0: [&str; 5] = ["tokio", "hyper", "clickhouse", "rdkafka", "http_body_util"];

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
        for part in text.split("crate::").skip(1) {
            let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let Some(other) = layers.get(target.as_str()) else { continue };
            // Within layer 0 outcomes and events know each other; elsewhere equals are strangers, and layer 3 is one room.
            let may = target == module || *other < own || (own == *other && matches!(own, 0 | 3));
            if !may {
                breaches.push(format!("{} imports {target}", file.display()));
            }
        }
        for word in NOT_IN_LAYER_0.iter().filter(|_| own == 0) {
            if text.contains(&format!("use {word}::")) {
                breaches.push(format!("{} imports {word}", file.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}
