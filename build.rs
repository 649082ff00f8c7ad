//! Puts the screen and the SDK for pages, as `web/build.mjs` leaves them in `web/dist`, into the program, and says how it is linked.
//!
//! Writes `screen.rs` and `sdk.rs` with one entry a file. Without a screen the program has a page that says how to build it; with
//! `PULSE_REQUIRE_WEB=1` that is an error. Compiles anew where `web/dist` or a source has changed.
//! Says what the program is built from (`PULSE_SOURCES`): the same for the same sources, wherever they are built.

#![expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// How a file may be stored beside itself: the ending of its name, and what HTTP calls it.
const ENCODINGS: [(&str, &str); 3] = [(".br", "br"), (".gz", "gzip"), ("", "identity")];

/// What decides what the program does.
const SOURCES: [&str; 5] = ["src", "data", "migrations", "Cargo.toml", "Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=PULSE_SOURCES={:016x}", sources());
    println!("cargo::rerun-if-changed=web/dist");
    println!("cargo::rerun-if-env-changed=PULSE_REQUIRE_WEB");
    // The engine's library finds the `write` of the program: see `clickhouse::engine::writes`.
    println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol=write");
    let dist = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo says where it builds")).join("web/dist");
    let mut files = Vec::new();
    find(&dist, &mut files);
    files.sort();
    if !files.iter().any(|file| file.ends_with("index.html")) {
        let problem = "the screen is not built: run `make web`, which leaves it in web/dist";
        if env::var("PULSE_REQUIRE_WEB").is_ok_and(|required| required == "1") {
            println!("cargo::error={problem}");
        } else {
            println!("cargo::warning={problem}");
        }
        files.clear();
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo says where to write"));
    let sdk = dist.join("sdk");
    let (sdk, screen): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().partition(|file| file.starts_with(&sdk));
    for (name, files) in [("screen", screen), ("sdk", sdk)] {
        let mut source = "/// Every file of it, by path.\nstatic FILES: &[File] = &[\n".to_owned();
        for (number, file) in files.iter().enumerate() {
            source.push_str(&entry(&dist, file, &out.join(format!("{name}-{number}"))));
        }
        source.push_str("];\n");
        fs::write(out.join(format!("{name}.rs")), source).expect("the list of files cannot be written");
    }
}

/// A hash of the sources, by their paths in order.
fn sources() -> u64 {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo says where it builds"));
    let mut files = Vec::new();
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
        let path = root.join(source);
        if path.is_dir() { find(&path, &mut files) } else { files.push(path) }
    }
    files.sort();
    let mut all = Vec::new();
    for file in files {
        all.extend_from_slice(file.strip_prefix(&root).expect("it was found there").as_os_str().as_encoded_bytes());
        let bytes = fs::read(&file).unwrap_or_else(|problem| panic!("{}: {problem}", file.display()));
        all.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        all.extend_from_slice(&bytes);
    }
    hash(&all)
}

/// The files below `folder`, without those that are another one's compressed form.
fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            find(&path, found);
        } else if !(name.starts_with('.') || name.ends_with(".br") || name.ends_with(".gz")) {
            found.push(path);
        }
    }
}

/// The entry of a file, whose forms are kept as `kept` with their endings: the screen may be built anew while this is compiled.
fn entry(dist: &Path, file: &Path, kept: &Path) -> String {
    let path = file.strip_prefix(dist).expect("it was found there").to_string_lossy().replace('\\', "/");
    let bytes = fs::read(file).expect("a file of the screen cannot be read");
    let mut entry =
        format!("    File {{ path: {path:?}, content_type: {:?}, tag: \"\\\"{:016x}\\\"\", bodies: &[", kind(&path), hash(&bytes));
    for (ending, encoding) in ENCODINGS {
        let kept = format!("{}{ending}", kept.display());
        if fs::copy(format!("{}{ending}", file.display()), &kept).is_ok() {
            let _ = write!(entry, "({encoding:?}, include_bytes!({kept:?})), ");
        }
    }
    entry.push_str("] },\n");
    entry
}

fn kind(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

/// FNV-1a: tells one build's file from another's.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
