//! Files into batches: every line becomes an event or a dead line, in the order of the file.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use encoding_rs::Encoding;
use indicatif::ProgressBar;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::access::{self, Remarks, Site};
use super::compare::Counts;
use super::csv::{Dialect, MapConfig, Rows, Table};
use super::format::Format;
use super::given::Given;
use super::history::{self, Archive, Export, Raw, Records, Users, export_of};
use super::ids::{EventIds, Masker};
use super::input::{self, Text};
use super::joined::Joined;
use super::lines::{Line, Lines, MAX_LINE};
use super::malformed::{Malformed, whole};
use super::ndjson;
use super::summary::{Example, Reasons};
use super::survey::{Reading, Survey};
use super::times::{Timed, Times};
use crate::event::dead_letter::{DeadLine, DeadText};
use crate::event::text::clip;

/// Lines of a batch: what one round trip to the disk should carry.
const MAX_LINES: usize = 1_000;
/// Most bytes of a batch, but for a line that is longer by itself: a quarter of what the log takes as one record, and half of a body.
const MAX_BYTES: usize = 4 << 20;
/// Most bytes of what is wrong with a line, which may quote all of it: more than pulse keeps.
const MAX_MESSAGE: usize = 1_000;
/// A quarter of an hour: clocks of zones differ by such.
const QUARTER_MS: i64 = 900_000;
/// Longest name of where lines come from, bytes: what pulse takes.
const MAX_SOURCE: usize = 255;

/// What is the same for all files of an import.
pub(super) struct Recipe {
    /// Layout of the lines.
    pub(super) format: Format,
    /// Name of the project: part of the ids.
    pub(super) project: String,
    /// Name of the server: part of the ids, if given.
    pub(super) source: Option<String>,
    /// Columns to fields.
    pub(super) map: MapConfig,
    /// What separates cells, if it was said.
    pub(super) dialect: Option<Dialect>,
    /// What the files are written in, if it was said.
    pub(super) encoding: Option<&'static Encoding>,
    /// What access logs do not say.
    pub(super) site: Site,
    /// Names for the addresses of lines that are kept.
    pub(super) masker: Masker,
    /// Moves by the bytes read.
    pub(super) progress: ProgressBar,
    /// Whether it is counted what the files have of each type of event and day.
    pub(super) compares: bool,
}

impl Recipe {
    fn tables(&self) -> Reading<'_> {
        let Self { map, dialect, encoding, site, progress, .. } = self;
        Reading { map, dialect: *dialect, encoding: *encoding, times: &site.times, progress }
    }
}

/// Lines of one file, ready to be sent.
#[derive(Debug)]
pub(in crate::cli) struct Batch {
    /// Name of the file.
    pub(super) source: Arc<str>,
    /// An event or a dead line each.
    pub(super) body: Vec<u8>,
    /// Where each stands in the file.
    pub(super) numbers: Vec<u64>,
    /// Why some are dead.
    pub(super) reasons: Reasons,
}

impl Batch {
    /// So many lines that are events.
    pub(in crate::cli) fn of_lines(source: &Arc<str>, body: Vec<u8>, lines: u64) -> Self {
        Self { body, numbers: (1..=lines).collect(), ..Self::new(source) }
    }

    fn new(source: &Arc<str>) -> Self {
        Self { source: Arc::clone(source), body: Vec::new(), numbers: Vec::new(), reasons: Reasons::default() }
    }

    fn push(&mut self, line: &[u8], number: u64) {
        self.body.extend_from_slice(line);
        self.body.push(b'\n');
        self.numbers.push(number);
    }

    fn has_room(&self, line: &[u8]) -> bool {
        self.numbers.is_empty() || self.numbers.len() < MAX_LINES && self.body.len() + line.len() < MAX_BYTES
    }
}

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The file or the map.
    #[error("{0}")]
    Input(String),
    /// The receiver of the batches is gone.
    #[error("sending ended before reading did")]
    Abandoned,
}

/// What the user should know about the files, beside the lines that could not be read.
#[derive(Default)]
pub(super) struct Findings {
    /// Times without a zone, taken for times of UTC.
    zones_assumed: u64,
    /// Lines whose client is a proxy, and which hold the address of the client behind it.
    unused_forwards: u64,
    /// Lines with bytes that are no UTF-8.
    replaced: u64,
    /// Files whose encoding was guessed.
    recoded: Vec<String>,
    /// What is known of users.
    users: Users,
    /// Events that say what is news of a user, beside those that happened.
    said: u64,
    /// Files of archives that have no events.
    passed_over: Vec<String>,
    /// What belongs to records and stands in tables of its own.
    joined: Option<Joined>,
    /// By how many quarters of an hour events happened after they were received.
    ahead: BTreeMap<i64, u64>,
    /// Lines that do not say when they happened. Which of them are events pulse says, and of a batch not line by line.
    without_time: u64,
    /// What is known of tables.
    survey: Survey,
    /// What the files have, if that is counted.
    pub(super) counts: Counts,
}

impl Findings {
    /// In words.
    pub(super) fn notes(&self) -> Vec<String> {
        let Self { zones_assumed, unused_forwards, replaced, recoded, said, passed_over, joined, ahead, without_time, survey, .. } = self;
        let mut notes = Vec::new();
        if *without_time > 0 {
            notes.push(format!(
                "{without_time} lines say no time: what is stored of them is of the time of this import, and stored again if imported again after 30 days"
            ));
        }
        if *zones_assumed > 0 {
            notes.push(format!("{zones_assumed} times named no zone and were read as UTC; --timezone names another one"));
        }
        if *unused_forwards > 0 {
            notes.push(format!(
                "{unused_forwards} lines have a client with a private address and a forwarded address that was not used; \
                 http.trusted_proxies or --client-field says that the latter is the client"
            ));
        }
        if *replaced > 0 {
            notes.push(format!("{replaced} lines held bytes that are no UTF-8, which were replaced; --encoding names their encoding"));
        }
        if *said > 0 {
            notes.push(format!("{said} more events were made, `identify`, of what was said of users in passing"));
        }
        notes.extend(survey.mixed().map(|name| {
            format!("`{name}` is of one kind in some objects and of another in others, which are looked at one by one; `strings` or `numbers` of a map say its kind")
        }));
        notes.extend(joined.iter().flat_map(Joined::notes));
        notes.extend(passed_over.iter().map(|file| format!("{file} has no events and was passed over")));
        let most = ahead.iter().max_by_key(|(_, count)| **count).filter(|(quarters, _)| **quarters != 0);
        if let Some((quarters, count)) = most.filter(|(_, count)| **count * 2 > ahead.values().sum()) {
            let hours = *quarters as f64 / 4.0;
            notes.push(format!(
                "{count} events are {hours:+} hours from when they were received: times of this project are by its own clocks; import it \
                 again with --timezone into an empty project"
            ));
        }
        notes.extend(recoded.iter().map(|file| format!("{file} is no UTF-8 and was read as windows-1252; --encoding names another one")));
        notes
    }
}

/// Reads all files into `batches`, one after the other; blocks while they are not taken. What was read before an error is sent.
pub(super) fn files(given: &[Given], recipe: &Recipe, batches: &mpsc::Sender<Batch>, findings: &mut Findings) -> Result<(), ReadError> {
    let paths: Vec<PathBuf> = given.iter().filter_map(Given::file).collect();
    findings.joined = Joined::read(&paths, recipe.format, recipe.encoding).map_err(ReadError::Input)?;
    for path in paths.iter().filter(|_| recipe.format == Format::Csv) {
        let seen = findings.survey.see(path, recipe.tables());
        seen.map_err(|problem| ReadError::Input(format!("{}: {problem}", path.display())))?;
    }
    given.iter().try_for_each(|given| match given {
        Given::File(path) => file(OneFile { path, shown: &path.display().to_string() }, recipe, batches, findings),
        Given::Object(bucket, object) => {
            // A file for as long as it is read, so of tables it is looked at one after the other.
            let fetched = Handle::current().block_on(bucket.fetch(&object.path));
            let (_folder, path) = fetched.map_err(|problem| ReadError::Input(format!("{problem:#}")))?;
            file(OneFile { path: &path, shown: &bucket.shown(&object.path) }, recipe, batches, findings)
        }
    })
}

/// A file.
#[derive(Clone, Copy)]
struct OneFile<'r> {
    path: &'r Path,
    /// What the user calls it: an object is fetched to a path that is nobody's.
    shown: &'r str,
}

impl OneFile<'_> {
    fn failed(self, problem: impl Display) -> ReadError {
        ReadError::Input(format!("{}: {problem}", self.shown))
    }
}

fn file(one: OneFile<'_>, recipe: &Recipe, batches: &mpsc::Sender<Batch>, findings: &mut Findings) -> Result<(), ReadError> {
    let path = one.path;
    let name = path.file_name().map_or_else(|| "-".into(), |name| name.to_string_lossy());
    if findings.joined.as_ref().is_some_and(|joined| joined.has(path)) {
        return Ok(());
    }
    let export = export_of(recipe.format);
    let archive = match export.filter(|_| path.as_os_str() != "-") {
        Some(_) => Archive::open(path).map_err(|problem| one.failed(problem))?,
        None => None,
    };
    let (Some(mut archive), Some(export)) = (archive, export) else {
        let reader = Reader::open(one, recipe, findings).map_err(|problem| one.failed(problem))?;
        return Part { name: &name, of: one, recipe, batches }.read(reader, findings);
    };
    for index in 0..archive.len() {
        let Some(inner) = archive.name(index) else { continue };
        let failed = |problem: String| one.failed(format!("{inner}: {problem}"));
        if export.attached().is_some_and(|tables| tables.is_one(&inner)) {
            continue;
        }
        if !export.has_events(&inner) {
            findings.passed_over.push(format!("{name}/{inner}"));
            continue;
        }
        let text = archive.text(index, recipe.encoding).map_err(|problem| failed(problem.to_string()))?;
        let reader = Reader::export(text, export, recipe).map_err(failed)?;
        Part { name: &format!("{name}/{inner}"), of: one, recipe, batches }.read(reader, findings)?;
    }
    Ok(())
}

/// A file, or one of an archive.
struct Part<'r> {
    name: &'r str,
    of: OneFile<'r>,
    recipe: &'r Recipe,
    batches: &'r mpsc::Sender<Batch>,
}

impl Part<'_> {
    fn read(&self, mut reader: Reader<'_>, findings: &mut Findings) -> Result<(), ReadError> {
        let Self { name, of, recipe, batches } = self;
        let name = recipe.source.as_ref().map_or_else(|| (*name).to_owned(), |source| format!("{source}/{name}"));
        let source: Arc<str> = name.get(..name.floor_char_boundary(MAX_SOURCE)).unwrap_or(&name).into();
        let mut ids = EventIds::new(&recipe.project, recipe.format.as_str(), recipe.source.as_deref());
        let mut outlet = Outlet { batch: Batch::new(&source), source, batches };
        let ended = loop {
            match reader.next(&mut ids, findings) {
                Ok(Some(item)) => {
                    item.events.iter().flatten().filter(|_| recipe.compares).for_each(|event| findings.counts.add(event));
                    outlet.put(&item, recipe)?;
                }
                Ok(None) => break Ok(()),
                Err(problem) => break Err(of.failed(problem)),
            }
        };
        outlet.send()?;
        ended
    }
}

/// Lines of a file on their way, a batch at a time.
struct Outlet<'r> {
    source: Arc<str>,
    batch: Batch,
    batches: &'r mpsc::Sender<Batch>,
}

impl Outlet<'_> {
    fn put(&mut self, item: &Item<'_>, recipe: &Recipe) -> Result<(), ReadError> {
        let Malformed { reason, message } = match &item.events {
            Ok(events) => return events.iter().try_for_each(|event| self.push(event, item.number)),
            Err(malformed) => malformed,
        };
        let message = recipe.masker.text(message);
        let kept = item.kept(reason, &message, &recipe.masker).map_err(|problem| ReadError::Input(problem.to_string()))?;
        self.push(&kept, item.number)?;
        self.batch.reasons.add(reason, 1, Example { file: Arc::clone(&self.source), line: item.number, message });
        Ok(())
    }

    fn push(&mut self, line: &[u8], number: u64) -> Result<(), ReadError> {
        if !self.batch.has_room(line) {
            self.send()?;
        }
        self.batch.push(line, number);
        Ok(())
    }

    fn send(&mut self) -> Result<(), ReadError> {
        let batch = std::mem::replace(&mut self.batch, Batch::new(&self.source));
        if batch.numbers.is_empty() {
            return Ok(());
        }
        self.batches.blocking_send(batch).map_err(|_| ReadError::Abandoned)
    }
}

/// A line, and what became of it.
struct Item<'l> {
    number: u64,
    bytes: &'l [u8],
    id: Uuid,
    /// More than one where it also says something of its user.
    events: Result<Vec<Vec<u8>>, Malformed>,
}

impl Item<'_> {
    /// What is kept of it, as it is no event. Addresses leave here as their names only, which may be longer than they are.
    fn kept(&self, reason: &str, message: &str, masker: &Masker) -> serde_json::Result<Vec<u8>> {
        let mut original = masker.line(self.bytes, reason == "no_address");
        original.truncate(MAX_LINE);
        let dead = DeadText {
            message: format!("{reason}: {}", clip(message, MAX_MESSAGE)).into(),
            line: self.number,
            id: self.id.to_string().into(),
            original_base64: STANDARD.encode(original).into(),
        };
        serde_json::to_vec(&DeadLine { dead })
    }
}

/// Makes events of the lines of one file.
enum Reader<'r> {
    Ndjson { lines: Lines, times: &'r Times },
    Access { lines: Lines, site: &'r Site, has_combined: bool },
    Table { rows: Rows, table: Table, row: Vec<u8> },
    Export { records: Records, export: &'static dyn Export, times: &'r Times },
}

impl<'r> Reader<'r> {
    /// Takes what comes before the first event. Errors: the file is of another kind, or a table's header and the map do not fit.
    fn open(file: OneFile<'_>, recipe: &'r Recipe, findings: &mut Findings) -> Result<Self, String> {
        let OneFile { path, shown } = file;
        let failed = |problem: io::Error| problem.to_string();
        if recipe.format == Format::Csv {
            let (rows, table, is_guessed) = findings.survey.open(path, recipe.tables())?;
            if is_guessed {
                findings.recoded.push(shown.to_owned());
            }
            return Ok(Self::Table { rows, table, row: Vec::new() });
        }
        let text = input::open(path, recipe.encoding, &recipe.progress).map_err(failed)?;
        if let Some(export) = export_of(recipe.format) {
            return Self::export(text, export, recipe);
        }
        let lines = Lines::new(text);
        Ok(match recipe.format {
            Format::Ndjson => Self::Ndjson { lines, times: &recipe.site.times },
            _ => Self::Access { lines, site: &recipe.site, has_combined: false },
        })
    }

    fn export(text: Text, export: &'static dyn Export, recipe: &'r Recipe) -> Result<Self, String> {
        Ok(Self::Export { records: Records::open(text, export)?, export, times: &recipe.site.times })
    }

    fn next<'l>(&'l mut self, ids: &mut EventIds, findings: &mut Findings) -> io::Result<Option<Item<'l>>> {
        match self {
            Self::Ndjson { lines, times } => {
                let Some(line) = lines.next()? else { return Ok(None) };
                let id = ids.next(line.bytes);
                let event = whole(line.is_cut).and_then(|()| ndjson::event(line.bytes, id, times));
                let event = event.map(|event| findings.timed(event));
                Ok(Some(Item { number: line.number, bytes: line.bytes, id, events: event.map(|event| vec![event]) }))
            }
            Self::Access { lines, site, has_combined } => {
                let Some(line) = lines.next()? else { return Ok(None) };
                if line.number == 1
                    && let Some(other) = access::whole_file(line.bytes)
                {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, other));
                }
                let id = ids.next(line.bytes);
                let event = whole(line.is_cut).and_then(|()| access::event(line, id, site)).and_then(|(event, remarks)| {
                    findings.note(line, &remarks, has_combined)?;
                    Ok(event)
                });
                Ok(Some(Item { number: line.number, bytes: line.bytes, id, events: event.map(|event| vec![event]) }))
            }
            Self::Table { rows, table, row } => {
                let Some(next) = table.next(rows)? else { return Ok(None) };
                let id = ids.next(&next.bytes);
                let event = whole(next.is_cut).and_then(|()| table.event(&next, id)).map(|event| findings.timed(event));
                *row = next.bytes;
                Ok(Some(Item { number: next.number, bytes: row, id, events: event.map(|event| vec![event]) }))
            }
            Self::Export { records, export, times } => {
                let Some(Raw { number, bytes, mut record }) = records.next()? else { return Ok(None) };
                let id = ids.next(bytes);
                if let (Some(joined), Ok(record)) = (&mut findings.joined, &mut record) {
                    joined.join(record)?;
                }
                let events = record.and_then(|record| {
                    findings.note_receipt(export.receipt(&record).filter(|_| times.zone.is_none()));
                    export.event(record, times).and_then(|event| history::lines(event, id, &mut findings.users))
                });
                findings.said += events.as_ref().map_or(0, |events| events.len() as u64 - 1);
                Ok(Some(Item { number, bytes, id, events }))
            }
        }
    }
}

impl Findings {
    /// Notes whether an event says when it happened.
    fn timed(&mut self, event: Timed) -> Vec<u8> {
        self.without_time += u64::from(!event.has_time);
        event.line
    }

    /// Notes by how much an event happened after it was received.
    fn note_receipt(&mut self, receipt: Option<[i64; 2]>) {
        let Some([at_ms, received_ms]) = receipt else { return };
        let quarters = (at_ms - received_ms + QUARTER_MS / 2).div_euclid(QUARTER_MS);
        // No zone is further away.
        if (-60..=60).contains(&quarters) {
            *self.ahead.entry(quarters).or_default() += 1;
        }
    }

    /// Notes what is remarkable about a line of an access log; `has_combined` is whether any line had a referrer and an agent.
    fn note(&mut self, line: Line<'_>, remarks: &Remarks, has_combined: &mut bool) -> Result<(), Malformed> {
        // The last line of a file that is still written may end anywhere, also where a common line would.
        if *has_combined && !remarks.is_combined && line.end.is_empty() && !line.bytes.starts_with(b"{") {
            return Err(Malformed::new("line_cut", "the last line ends without a referrer and an agent, which others have"));
        }
        *has_combined |= remarks.is_combined;
        self.zones_assumed += u64::from(remarks.is_zone_assumed);
        self.unused_forwards += u64::from(remarks.has_unused_forward);
        self.replaced += u64::from(std::str::from_utf8(line.bytes).is_err());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
