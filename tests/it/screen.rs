//! The screen: its files as the server sends them, and all of it in a real browser, against a pulse in which the same people have done
//! the same things each time.

use std::path::{Path, PathBuf};
use std::process::Command;

use hyper::header::{HeaderMap, HeaderName};
use hyper::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Pulse, output, program};

/// Most bytes, compressed, of the scripts and the style that a page needs at once; and of all pages.
const A_PAGE: usize = 70_000;
const ALL_PAGES: usize = 150_000;

fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web")
}

/// What is tested is the screen of these sources: a build by hand, without `make web`, puts an older one into the program.
fn is_of_these_sources() {
    let check = Command::new("node").args(["build.mjs", "--check"]).current_dir(web()).output().expect("node does not run");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

/// Status and headers of a path, asked for with these headers, and the length of the body.
async fn get(pulse: &Pulse, path: &str, asked: &[(&'static str, &str)]) -> (StatusCode, HeaderMap, usize) {
    let mut request = pulse.http.request(Method::GET, path, "none", "");
    for (name, value) in asked {
        request.headers_mut().insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    let response = pulse.http.client.request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    (head.status, head.headers, body.len())
}

/// The files that a page names: its style, its script and what that imports.
fn named_in(page: &str) -> Vec<String> {
    page.split('"').filter(|part| part.starts_with("/assets/")).map(str::to_owned).collect()
}

/// Bytes, compressed, of all files that a page names: the first page has no name.
fn bytes_of(page: &str) -> usize {
    let dist = web().join("dist");
    let html = std::fs::read_to_string(dist.join(format!("{}.html", if page.is_empty() { "index" } else { page }))).unwrap();
    let size = |file: String| std::fs::metadata(dist.join(format!("{}.gz", file.trim_start_matches('/')))).unwrap().len() as usize;
    named_in(&html).into_iter().map(size).sum()
}

#[tokio::test]
async fn the_files_of_the_screen_are_small_compressed_kept_and_let_nothing_else_run() {
    let pulse = Pulse::start().await;
    let page = pulse.http.text("/").await;
    let files = named_in(&page);
    assert!(files.len() >= 2, "pulse was built without its screen (`make web`): {page}");
    let (status, headers, _) = get(&pulse, "/trends?from=-7d", &[]).await;
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!((status, &*header("cache-control"), &*header("x-content-type-options")), (StatusCode::OK, "no-cache", "nosniff"));
    let policy = header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|own| own == part), "{policy}");
    }
    assert_eq!(get(&pulse, "/trends", &[("if-none-match", &header("etag"))]).await.0, StatusCode::NOT_MODIFIED);

    for file in files {
        let (status, headers, gzip) = get(&pulse, &file, &[("accept-encoding", "gzip")]).await;
        assert_eq!((status, headers["content-encoding"].as_bytes()), (StatusCode::OK, &b"gzip"[..]));
        assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
        let (_, headers, brotli) = get(&pulse, &file, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(headers["content-encoding"], "br");
        let (_, headers, plain) = get(&pulse, &file, &[]).await;
        assert!(headers.get("content-encoding").is_none() && brotli < gzip && gzip < plain, "{file}: {brotli} {gzip} {plain}");
    }
    // A browser that opens any of them waits for all that it names.
    let mut of_pages: Vec<(usize, &str)> = pulse::query::screen::pages().map(|page| (bytes_of(page), page)).collect();
    of_pages.sort_unstable();
    let all: usize = std::fs::read_dir(web().join("dist/assets"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".gz"))
        .map(|entry| entry.metadata().unwrap().len() as usize)
        .sum();
    println!("bytes, compressed: of each page {of_pages:?}, all pages {all}");
    assert!(
        of_pages.iter().all(|(bytes, _)| (1..=A_PAGE).contains(bytes)) && all <= ALL_PAGES,
        "of each page {of_pages:?}, all pages {all}"
    );

    // Each page names its own script too: it is not found out about once the first one runs. It is found by the name of its file in `web/src/pages`.
    for page in pulse::query::screen::pages().filter(|page| !page.is_empty()) {
        assert!(web().join(format!("dist/{page}.html")).exists(), "{page}");
    }
    for (path, own) in [("/trends", "/assets/trends-"), ("/alerts/visitors", "/assets/alerts-"), ("/embed/none", "/assets/shared-")] {
        let named = named_in(&pulse.http.text(path).await);
        assert!(named.iter().any(|file| file.starts_with(own)), "{path}: {named:?}");
        for file in named {
            assert_eq!(get(&pulse, &file, &[]).await.0, StatusCode::OK, "{path}: {file}");
        }
    }

    assert_eq!(get(&pulse, "/assets/none.js", &[]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&pulse, "/nothing", &[]).await.0, StatusCode::NOT_FOUND);
    for elsewhere in ["/assets/../index.html", "/assets/%2e%2e/index.html", "/assets/..%2f..%2fCargo.toml", "/.git/config", "/assets/%00"] {
        let (status, headers, _) = get(&pulse, elsewhere, &[]).await;
        assert!([StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&status), "{elsewhere}: {status}");
        assert_eq!(headers["content-type"], "application/json", "{elsewhere}");
    }
    assert_eq!(get(&pulse, "/healthz", &[("accept", "text/html")]).await.1["content-type"], "application/json");
    let posted = pulse.http.request(Method::POST, "/trends", "none", "");
    assert_eq!(pulse.http.send(posted).await.unwrap().0, StatusCode::METHOD_NOT_ALLOWED);
}

/// Keys of a project in a data directory in which no pulse has started yet: new ones (`create`), or with those for them (`admin`).
fn keys(dir: &TempDir, action: &str, project: &str) -> Value {
    let output = Command::new(program()).args(["keys", "--data-dir"]).arg(dir.path()).args([action, project]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()[0].take()
}

/// Makes a project; its keys.
fn project(dir: &TempDir, name: &str) -> (String, String) {
    let keys = keys(dir, "create", name);
    let key = |kind: &str| keys[kind].as_str().unwrap().to_owned();
    (key("write_key"), key("read_key"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_screen_shows_what_the_api_says_in_a_real_browser() {
    is_of_these_sources();
    let tests = web().join("e2e");
    let runner = tests.join("node_modules/@playwright/test/cli.js");
    assert!(runner.exists(), "the browser tests' packages are not there: `make fetch-test` brings them");
    let dir = tempfile::tempdir().unwrap();
    let (shop, empty, late) = (project(&dir, "shop"), project(&dir, "empty"), project(&dir, "late"));
    let [admin, shop_admin] = ["default", "shop"].map(|name| keys(&dir, "admin", name)["admin_key"].as_str().unwrap().to_owned());
    let pulse = Pulse::start_in::<&str>(dir, &[]).await;
    let environment = [
        ("ADDRESS", pulse.http.address()),
        ("READ_KEY", &pulse.http.read_key),
        ("WRITE_KEY", &pulse.http.write_key),
        ("ADMIN_KEY", &admin),
        ("SHOP_READ_KEY", &shop.1),
        ("SHOP_ADMIN_KEY", &shop_admin),
        ("EMPTY_WRITE_KEY", &empty.0),
        ("EMPTY_READ_KEY", &empty.1),
        ("LATE_WRITE_KEY", &late.0),
        ("LATE_READ_KEY", &late.1),
    ];
    let mut seed = tokio::process::Command::new("node");
    let sent = output(seed.args(["seed.mjs", pulse.http.address(), &pulse.http.write_key, "hostile"]).current_dir(&tests)).await;
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    pulse.http.settled().await;

    let out = tempfile::tempdir().unwrap();
    let mut tested = tokio::process::Command::new("node");
    tested.arg(&runner).arg("test").current_dir(&tests).envs(environment).env("SCREEN_OUT", out.path());
    let output = output(&mut tested).await;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    // What `make bench-screen` measures.
    said.lines().filter(|line| line.contains('\t')).for_each(|line| println!("{line}"));
    assert!(pulse.stop().await);
}

/// The client's types of what the API answers are generated and checked in, so that a build needs no generator.
#[test]
fn the_types_of_the_client_are_those_of_the_description() {
    let tests = web().join("e2e");
    let (description, checked_in) = (tempfile::NamedTempFile::new().unwrap(), web().join("src/api/openapi.ts"));
    std::fs::write(&description, pulse::app::openapi::document().to_string()).unwrap();
    let output = Command::new("node").arg("types.mjs").arg(description.path()).current_dir(&tests).output().expect("node does not run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    #[allow(clippy::disallowed_methods, reason = "who changes the description says so to this test alone")]
    if std::env::var_os("PULSE_WRITE_TYPES").is_some() {
        std::fs::write(&checked_in, &output.stdout).unwrap();
    }
    let is_same = std::fs::read(&checked_in).unwrap() == output.stdout;
    assert!(
        is_same,
        "{} is not what the description says: PULSE_WRITE_TYPES=1 cargo test --test it types_of_the_client",
        checked_in.display()
    );
}
