use std::os::unix::fs::{MetadataExt, PermissionsExt};

use base64::Engine;
use hyper::header::{self, HeaderValue};
use proptest::prelude::*;

use super::keys::{KeyEntry, change, hash, new_entry, read, write};
use super::*;

fn keys_of(entries: &[KeyEntry]) -> (tempfile::TempDir, Keys) {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("keys.json"), entries).unwrap();
    let keys = Keys::open(&KeysConfig::default(), dir.path()).unwrap();
    (dir, keys)
}

fn bearer(key: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
    headers
}

#[test]
fn a_key_opens_what_it_is_for_and_nothing_else() {
    let entry = new_entry("shop");
    let (_dir, keys) = keys_of(std::slice::from_ref(&entry));
    let grant = keys.authorize(&bearer(&entry.write_key), KeyKind::Write).unwrap();
    assert_eq!(grant.project, ProjectId::of_name("shop"));
    assert_eq!(keys.authorize(&bearer(&entry.write_key), KeyKind::Read).unwrap_err(), AuthError::WrongKind(KeyKind::Read));
    assert_eq!(keys.authorize(&bearer("pulse_wk_x"), KeyKind::Write).unwrap_err(), AuthError::Unknown);
    assert_eq!(keys.authorize(&HeaderMap::new(), KeyKind::Write).unwrap_err(), AuthError::Missing(KeyKind::Write));
}

#[test]
fn a_read_key_may_be_given_as_its_hash() {
    let entry = KeyEntry { read_key: format!("sha256:{}", hex::encode(hash("secret"))), ..new_entry("shop") };
    let (_dir, keys) = keys_of(&[entry]);
    assert_eq!(keys.authorize(&bearer("secret"), KeyKind::Read).unwrap().kind, KeyKind::Read);
}

#[test]
fn the_secret_of_a_project_lasts_as_long_as_its_first_read_key() {
    let entry = new_entry("shop");
    let secret = |entries: &[KeyEntry]| keys_of(entries).1.secret_of(ProjectId::of_name("shop")).unwrap();
    let first = secret(std::slice::from_ref(&entry));
    assert_eq!(secret(&[entry.clone(), new_entry("shop")]), first, "an entry is added");
    let write_only = KeyEntry { read_key: String::new(), import_key: String::new(), ..new_entry("shop") };
    assert_eq!(secret(&[write_only, entry.clone()]), first, "one without a read key before it");
    let hashed = KeyEntry { read_key: format!("sha256:{}", hex::encode(hash(&entry.read_key))), ..entry.clone() };
    assert_eq!(secret(&[hashed]), first, "the same key by its hash");
    let others = KeyEntry { write_key: "w".to_owned(), import_key: String::new(), ..entry };
    assert_eq!(secret(&[others]), first, "the others are exchanged");
    assert_ne!(secret(&[new_entry("shop")]), first);
}

#[test]
fn basic_and_the_header_of_its_own_are_read_too() {
    let entry = new_entry("shop");
    let (_dir, keys) = keys_of(std::slice::from_ref(&entry));
    let mut headers = HeaderMap::new();
    headers.insert("x-write-key", entry.write_key.parse().unwrap());
    assert!(keys.authorize(&headers, KeyKind::Write).is_ok());
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:", entry.write_key));
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("Basic {basic}").parse().unwrap());
    assert!(keys.authorize(&headers, KeyKind::Write).is_ok());
}

#[test]
fn the_write_key_of_the_file_is_for_pages_of_its_origins() {
    let entry = KeyEntry { origins: vec!["https://Shop.example:443".to_owned(), "https://*.shop.example".to_owned()], ..new_entry("shop") };
    let (dir, keys) = keys_of(std::slice::from_ref(&entry));
    let sent = |key: &str, kind, origin: &str| {
        let mut headers = bearer(key);
        if !origin.is_empty() {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        keys.authorize(&headers, kind).unwrap().admits("/v1/events", &headers)
    };
    for origin in ["https://shop.example", "https://a.shop.example", ""] {
        assert_eq!(sent(&entry.write_key, KeyKind::Write, origin), Ok(()), "{origin}");
    }
    for origin in ["https://evil.example", "null", "http://shop.example", "https://shop.example.evil.example"] {
        assert_eq!(sent(&entry.write_key, KeyKind::Write, origin), Err(AuthError::ForbiddenOrigin), "{origin}");
        assert_eq!(sent(&entry.read_key, KeyKind::Read, origin), Ok(()), "{origin}");
    }
    // What stands there stays as it was written, and what is none is named.
    assert_eq!(read(&dir.path().join("keys.json")).unwrap(), [entry]);
    let wrong = KeyEntry { origins: vec!["shop.example".to_owned()], ..new_entry("shop") };
    write(&dir.path().join("keys.json"), &[wrong]).unwrap();
    let problem = Keys::open(&KeysConfig::default(), dir.path()).unwrap_err().to_string();
    assert!(problem.contains("`shop.example` is no origin"), "{problem}");
}

#[test]
fn the_file_is_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    Keys::open(&KeysConfig::default(), dir.path()).unwrap();
    let mode = std::fs::metadata(dir.path().join("keys.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn history_is_brought_with_an_import_key_or_a_read_key_and_never_with_the_public_one() {
    let entry = new_entry("shop");
    let (_dir, keys) = keys_of(std::slice::from_ref(&entry));
    assert!(keys.authorize(&bearer(&entry.import_key), KeyKind::Import).is_ok());
    assert!(keys.authorize(&bearer(&entry.read_key), KeyKind::Import).is_ok());
    assert_eq!(keys.authorize(&bearer(&entry.write_key), KeyKind::Import).unwrap_err(), AuthError::WrongKind(KeyKind::Import));
    for wanted in [KeyKind::Write, KeyKind::Read] {
        assert_eq!(keys.authorize(&bearer(&entry.import_key), wanted).unwrap_err(), AuthError::WrongKind(wanted));
    }
}

#[test]
fn a_file_without_import_keys_is_read_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    let text = r#"[{"project": "shop", "write_key": "w", "read_key": "r"}]"#;
    std::fs::write(&path, text).unwrap();
    let keys = Keys::open(&KeysConfig::default(), dir.path()).unwrap();
    assert!(keys.authorize(&bearer("r"), KeyKind::Import).is_ok());
    assert_eq!(keys.authorize(&bearer(""), KeyKind::Import).unwrap_err(), AuthError::Unreadable);
    change(&path, |_| Ok::<_, KeysError>(())).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn keys_that_change_after_they_were_read_are_noticed_whenever_watching_begins() {
    let (dir, mut keys) = keys_of(&[new_entry("shop")]);
    let other = new_entry("shop");
    write(&dir.path().join("keys.json"), std::slice::from_ref(&other)).unwrap();
    keys.reload();
    assert!(keys.authorize(&bearer(&other.write_key), KeyKind::Write).is_ok());
}

#[test]
fn a_copy_with_the_time_of_the_file_before_is_noticed() {
    let (dir, mut keys) = keys_of(&[new_entry("shop")]);
    let path = dir.path().join("keys.json");
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    let other = new_entry("shop");
    for in_place in [true, false] {
        let other = KeyEntry { write_key: format!("{}{in_place}", other.write_key), ..other.clone() };
        let target = if in_place { path.clone() } else { dir.path().join("other") };
        std::fs::write(&target, serde_json::to_string(&[&other]).unwrap()).unwrap();
        std::fs::File::options().write(true).open(&target).unwrap().set_modified(modified).unwrap();
        std::fs::rename(&target, &path).unwrap();
        keys.reload();
        assert!(keys.authorize(&bearer(&other.write_key), KeyKind::Write).is_ok(), "in place: {in_place}");
    }
}

#[test]
fn a_file_that_cannot_be_read_leaves_the_keys_and_is_told_once() {
    let entry = new_entry("shop");
    let (dir, mut keys) = keys_of(std::slice::from_ref(&entry));
    let path = dir.path().join("keys.json");
    for broken in [Some("{"), None] {
        match broken {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        keys.reload();
        assert!(keys.authorize(&bearer(&entry.write_key), KeyKind::Write).is_ok());
        let logged = keys.file.logged.clone();
        assert!(logged.is_some(), "not logged");
        keys.reload();
        assert_eq!(keys.file.logged, logged, "logged again");
    }
    write(&path, &[new_entry("other")]).unwrap();
    keys.reload();
    assert!(keys.authorize(&bearer(&entry.write_key), KeyKind::Write).is_err());
    assert_eq!(keys.file.logged, None);
}

#[test]
fn what_two_make_at_once_is_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let add = |entries: &mut Vec<KeyEntry>| {
                    entries.push(new_entry(&format!("project {number}")));
                    Ok::<_, KeysError>(())
                };
                change(path, add).unwrap();
            });
        }
    });
    // And the one that is made with the file.
    assert_eq!(read(&path).unwrap().len(), 9);
}

#[test]
fn a_file_that_others_may_read_stays_so_and_a_link_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (real, path) = (dir.path().join("real.json"), dir.path().join("keys.json"));
    std::fs::write(&real, "[]").unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &path).unwrap();
    write(&path, &[new_entry("shop")]).unwrap();
    assert_eq!(std::fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(read(&real).unwrap().len(), 1);
}

#[test]
fn two_names_of_one_id_are_refused() {
    // The hash of eight bytes can be turned around: a name is found for any id.
    let (name, twin) = ("p110401", "F=D{\u{606}\u{159}");
    assert_eq!(ProjectId::of_name(name), ProjectId::of_name(twin));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.json");
    write(&path, &[new_entry(name), new_entry(twin)]).unwrap();
    let problem = Keys::open(&KeysConfig::default(), dir.path()).unwrap_err().to_string();
    assert!(problem.contains("have the same id"), "{problem}");
    // The same name twice is a project with two sets of keys.
    write(&path, &[new_entry(name), new_entry(name)]).unwrap();
    assert!(Keys::open(&KeysConfig::default(), dir.path()).is_ok());
}

proptest! {
    #[test]
    fn fuzz_of_shown_keys(
        key in "[!-9;-~]{1,60}",
        scheme in "(?i)(bearer|basic|digest|)",
        rest in prop::collection::vec(any::<u8>(), 0..80),
        query in "[ -<>-jl-~]{0,60}",
    ) {
        let shown = |value: HeaderValue| credential::in_headers(&[(header::AUTHORIZATION, value)].into_iter().collect());
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{key}:anything"));
        for value in [format!("Bearer {key}"), format!("basic {basic}")] {
            prop_assert_eq!(shown(value.parse().unwrap()).unwrap(), Some(key.clone()));
        }
        if let Ok(value) = HeaderValue::from_bytes(&[scheme.as_bytes(), b" ", &rest].concat()) {
            // One that cannot be read is never taken for none: what is kept by a key would be open.
            prop_assert!(!matches!(shown(value), Ok(None)));
        }
        let escaped: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        let found = credential::in_query(&format!("{query}&key={escaped}"), "key");
        prop_assert_eq!(found, Some(key));
    }
}
