//! What people save in a project, as files: one `[section.id]` each, and `[[notes]]`.
//!
//! A body in a file is the body of `PUT /v1/SECTION/ID`. TOML has no null, which says nothing in any of them; what still has one (in a list
//! of a `view`), or a number beyond TOML's, stands as text under the only key `json`. The address of a channel is a secret: a file names where
//! it is (`env:NAME`, `file:PATH`), and `pulse apply` reads it there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hyper::header::HeaderValue;
use serde_json::{Map, Value, json};

use super::instance::InstanceArgs;
use super::remote::{Remote, bearer};
use crate::alert::RuleBody;
use crate::config::Settings;
use crate::secret::without_line;

/// What has a name of its own, in an order in which later ones may name earlier ones.
pub(super) const SECTIONS: [&str; 4] = ["cohorts", "channels", "boards", "alerts"];
/// What has none.
pub(super) const NOTES: &str = "notes";
/// Largest file.
const MOST_BYTES: u64 = 64 << 20;

/// A project of a running pulse.
pub(super) struct Project {
    pub(super) remote: Remote,
    pub(super) key: HeaderValue,
}

/// Something that is saved there.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) version: u64,
    /// In its one form; of a channel without its address.
    pub(super) body: Value,
    /// Of a channel with its address.
    pub(super) digest: String,
    /// The file that says it; empty without one.
    pub(super) file: String,
}

impl Project {
    /// Does `work` with the project of a pulse.
    pub(super) fn ask<T>(settings: Settings, instance: &InstanceArgs, work: impl AsyncFnOnce(Self) -> Result<T>) -> Result<T> {
        let key = bearer(&instance.read_key_of_existing(&settings)?, "read key")?;
        let asking = instance.with(settings, |address| async move { work(Self { remote: Remote::new(&address)?, key }).await });
        super::runtime()?.block_on(asking)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value> {
        serde_json::from_slice(&self.remote.get(path, &self.key).await?).with_context(|| format!("the answer of {path}"))
    }

    /// What is saved of a section, by id, without what a file of the instance says.
    pub(super) async fn saved(&self, section: &str) -> Result<BTreeMap<String, Saved>> {
        let all = self.get(&format!("/v1/{section}")).await?;
        let mut found = BTreeMap::new();
        for listed in all[section].as_array().into_iter().flatten() {
            // Of a file: it has no version.
            let (Some(id), Some(version)) = (listed["id"].as_str().or(listed["name"].as_str()), listed["version"].as_u64()) else {
                continue;
            };
            let file = listed["file"].as_str().unwrap_or_default().to_owned();
            let (version, body) = match section {
                "alerts" => (version, listed["rule"].clone()),
                "channels" => (version, listed["settings"].clone()),
                _ => {
                    let mut whole = self.get(&format!("/v1/{section}/{id}")).await?;
                    let version = whole["version"].as_u64().unwrap_or(version);
                    if let Some(object) = whole.as_object_mut() {
                        object.retain(|key, _| !["id", "name", "version", "file", "by"].contains(&key.as_str()));
                    }
                    (version, whole)
                }
            };
            let body = in_one_form(section, body).map_err(|problem| anyhow::anyhow!("the answer: {section}.{id}: {problem}"))?;
            let digest = listed["digest"].as_str().unwrap_or_default().to_owned();
            found.insert(id.to_owned(), Saved { version, body, digest, file });
        }
        Ok(found)
    }

    /// All notes, in the order of time.
    pub(super) async fn notes(&self) -> Result<Vec<Value>> {
        let (mut all, mut path) = (Vec::new(), "/v1/notes".to_owned());
        loop {
            let mut page = self.get(&path).await?;
            if let Some(notes) = page["notes"].as_array_mut() {
                all.append(notes);
            }
            let Some(next) = page["next"].as_str() else { return Ok(all) };
            path = format!("/v1/notes?cursor={next}");
        }
    }
}

/// Something that a file says.
#[derive(Debug)]
pub(super) struct Entry {
    /// File and section, for messages.
    pub(super) place: String,
    /// The file.
    pub(super) file: String,
    pub(super) section: &'static str,
    pub(super) id: String,
    /// In its one form.
    pub(super) body: Value,
}

/// A note that a file says.
#[derive(Debug)]
pub(super) struct NoteEntry {
    pub(super) place: String,
    pub(super) body: Value,
}

/// All that files say about a project.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// In the order of [`SECTIONS`].
    pub(super) entries: Vec<Entry>,
    pub(super) notes: Vec<NoteEntry>,
    /// What cannot be read, each with its place.
    pub(super) problems: Vec<String>,
    /// What is about other projects.
    pub(super) of_others: Vec<String>,
}

impl Files {
    /// Reads files, and the `*.toml` of folders.
    ///
    /// # Errors
    /// A path that cannot be read.
    pub(super) fn read(paths: &[PathBuf], project: &str) -> Result<Self> {
        let mut files = Self::default();
        for path in paths {
            for file in files_of(path)? {
                let place = file.display().to_string();
                let size = std::fs::metadata(&file).with_context(|| place.clone())?.len();
                if size > MOST_BYTES {
                    bail!("{place}: {size} bytes are more than {MOST_BYTES}");
                }
                let text = std::fs::read_to_string(&file).with_context(|| place.clone())?;
                files.add(&Source { place: &place, project }, &text);
            }
        }
        let mut places = BTreeMap::new();
        for Entry { place, section, id, .. } in &files.entries {
            if let Some(other) = places.insert((section, id), place) {
                files.problems.push(format!("{place}: it is in {other} too"));
            }
        }
        let order = |entry: &Entry| SECTIONS.iter().position(|section| *section == entry.section);
        files.entries.sort_by(|one, other| (order(one), &one.id).cmp(&(order(other), &other.id)));
        Ok(files)
    }

    fn add(&mut self, source: &Source<'_>, text: &str) {
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(problem) => return self.problems.push(format!("{}: {}", source.place, without_line(text, &problem))),
        };
        for (section, written) in table {
            let place = format!("{}: {section}", source.place);
            let known = SECTIONS.into_iter().find(|known| *known == section);
            match (known, written) {
                (Some(section), toml::Value::Table(entries)) => {
                    for (id, written) in entries {
                        let place = format!("{place}.{id}");
                        if !is_name(&id) {
                            self.problems.push(format!("{place}: a name has letters, digits, `.`, `_` and `-`"));
                            continue;
                        }
                        match entry(section, written, source.project) {
                            Ok(Read::Own(body)) => self.entries.push(Entry { place, file: source.place.to_owned(), section, id, body }),
                            Ok(Read::OfAnother(project)) => self.of_others.push(format!("{place} is of `{project}`")),
                            Err(problem) => self.problems.push(format!("{place}: {problem}")),
                        }
                    }
                }
                (None, toml::Value::Array(notes)) if section == NOTES => {
                    for (index, written) in notes.into_iter().enumerate() {
                        let place = format!("{place}[{index}]");
                        match json_of(written) {
                            Ok(body) => self.notes.push(NoteEntry { place, body }),
                            Err(problem) => self.problems.push(format!("{place}: {problem}")),
                        }
                    }
                }
                (Some(_), _) => self.problems.push(format!("{place}: it is no section")),
                (None, _) if section == NOTES => self.problems.push(format!("{place}: it is no list: write [[notes]]")),
                (None, _) => {
                    let known = SECTIONS.join(", ");
                    self.problems.push(format!("{place}: unknown section: {known} and {NOTES} are known"));
                }
            }
        }
    }
}

/// Whether something may be called so: the name stands in the path of a request.
fn is_name(id: &str) -> bool {
    !matches!(id, "" | "." | "..") && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A file, and the project that it is read for.
struct Source<'a> {
    place: &'a str,
    project: &'a str,
}

/// What was read.
enum Read {
    Own(Value),
    OfAnother(String),
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let place = || path.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(place)? {
        found.push(entry.with_context(place)?.path());
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    found.sort_unstable();
    if found.is_empty() {
        bail!("{}: the folder has no *.toml", place());
    }
    Ok(found)
}

fn entry(section: &str, written: toml::Value, project: &str) -> Result<Read, String> {
    let Value::Object(mut object) = json_of(written)? else { return Err("it is no section".to_owned()) };
    match object.remove("project") {
        None => {}
        Some(Value::String(name)) if name == project => {}
        Some(Value::String(name)) => return Ok(Read::OfAnother(name)),
        Some(_) => return Err("project: it must be text".to_owned()),
    }
    let body = match (object.len(), object.get("json")) {
        (1, Some(Value::String(text))) => serde_json::from_str(text).map_err(|problem| format!("json: {problem}"))?,
        _ => Value::Object(object),
    };
    in_one_form(section, body).map(Read::Own)
}

/// A value of TOML as JSON; a time as its text.
fn json_of(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Float(number) => {
            let known = serde_json::Number::from_f64(number);
            known.ok_or_else(|| format!("`{number}` is no number here"))?.into()
        }
        toml::Value::Array(list) => Value::Array(list.into_iter().map(json_of).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => {
            let read = |(key, value)| json_of(value).map(|value| (key, value));
            Value::Object(table.into_iter().map(read).collect::<Result<_, _>>()?)
        }
    })
}

/// What says the same in the same form: without nulls, with what is left out.
///
/// # Errors
/// The field that makes no sense, as far as that can be said here.
fn in_one_form(section: &str, body: Value) -> Result<Value, String> {
    let Value::Object(mut body) = without_nulls(body) else { return Err("it must be an object".to_owned()) };
    match section {
        "alerts" => {
            let rule = RuleBody::read(body)?.check().map_err(|problem| problem.to_string())?;
            let body = serde_json::to_value(rule.body).map_err(|problem| problem.to_string())?;
            return Ok(without_nulls(body));
        }
        "boards" => drop(body.entry("tiles").or_insert_with(|| json!([]))),
        _ => {}
    }
    Ok(Value::Object(body))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            object.into_iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key, without_nulls(value))).collect()
        }
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// The text of a section.
pub(super) fn text_of(section: &str, bodies: BTreeMap<String, Value>) -> Result<String> {
    let mut names = BTreeSet::new();
    let mut entries = toml::Table::new();
    for (id, mut body) in bodies {
        if let ("channels", Some(settings)) = (section, body.as_object_mut()) {
            add_address(&id, settings, &mut names);
        }
        let written = toml::Value::try_from(&body).or_else(|_| toml::Value::try_from(json!({"json": body.to_string()})))?;
        entries.insert(id, written);
    }
    Ok(toml::to_string_pretty(&BTreeMap::from([(section, entries)]))?)
}

/// Says where the address of a channel is to be found.
fn add_address(id: &str, settings: &mut Map<String, Value>, names: &mut BTreeSet<String>) {
    let letters = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    let mut name = format!("PULSE_CHANNEL_{}_URL", id.chars().map(letters).collect::<String>());
    while !names.insert(name.clone()) {
        name.push('_');
    }
    settings.insert("url".to_owned(), format!("env:{name}").into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Files {
        let mut files = Files::default();
        files.add(&Source { place: "a.toml", project: "shop" }, text);
        files
    }

    #[test]
    fn what_is_written_is_read_back_as_it_was() {
        let board = json!({"title": "ü \"x\"\n", "tiles": [{"report": "trends", "question": {"from": "-7d", "series": [{"event": "a", "n": 2.0}]}}]});
        let odd = json!({"title": "Odd", "tiles": [], "view": {"list": [null, 18_446_744_073_709_551_615_u64]}});
        let bodies = BTreeMap::from([("a.b".to_owned(), board.clone()), ("odd".to_owned(), odd.clone())]);
        let files = read(&text_of("boards", bodies).unwrap());
        assert_eq!(files.problems, Vec::<String>::new());
        let found: Vec<_> = files.entries.into_iter().map(|entry| (entry.id, entry.body)).collect();
        assert_eq!(found, [("a.b".to_owned(), board), ("odd".to_owned(), odd)]);
        assert_eq!(read(&text_of("boards", BTreeMap::new()).unwrap()).problems, Vec::<String>::new());
    }

    #[test]
    fn the_address_of_a_channel_is_named_and_no_two_have_the_same() {
        let bodies = ["a-b", "a.b"].map(|id| (id.to_owned(), json!({"kind": "slack"})));
        let text = text_of("channels", bodies.into()).unwrap();
        assert!(text.contains("\"env:PULSE_CHANNEL_A_B_URL\"") && text.contains("\"env:PULSE_CHANNEL_A_B_URL_\""), "{text}");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place() {
        let cases = [
            ("a = ", "a.toml: line 1: "),
            ("[boards]\nx = 7", "a.toml: boards.x: it is no section"),
            ("boards = 7", "a.toml: boards: it is no section"),
            ("[people.x]\na = 1", "a.toml: people: unknown section"),
            ("[notes]\na = 1", "a.toml: notes: it is no list"),
            ("[boards.x]\ntitle = 'x'\nproject = 7", "a.toml: boards.x: project:"),
            ("[boards.x]\njson = '{'", "a.toml: boards.x: json:"),
            ("[boards.'a b']\ntitle = 'x'", "a.toml: boards.a b: a name has"),
            ("[cohorts.'..']\nfilters = []", "a.toml: cohorts...: a name has"),
            ("[boards.x]\nwidth = nan", "a.toml: boards.x: `NaN`"),
            ("[alerts.x]\nreport = 'trends'\nconditions = 1", "a.toml: alerts.x: conditions: unknown field"),
            ("[alerts.x]\nreport = 'sums'\ncondition = {above = 1}", "a.toml: alerts.x: report: `sums`"),
        ];
        for (text, part) in cases {
            let problems = read(text).problems;
            assert!(problems.len() == 1 && problems[0].contains(part), "{text}: {problems:?}");
        }
        let files = read(
            "[boards.x]\ntitle = 'x'\nproject = 'other'\n[boards.y]\nproject = 'shop'\ntitle = 'y'\n[[notes]]\nat = 2026-01-02\ntext = 'x'",
        );
        assert_eq!((files.of_others.len(), files.entries.len()), (1, 1));
        assert_eq!(files.notes[0].body, json!({"at": "2026-01-02", "text": "x"}));
    }
}
