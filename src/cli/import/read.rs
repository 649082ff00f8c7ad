//! Files into batches: every line becomes an event or a dead line, in the order of the file.
//!
//! Order matters: a visitor's sessions follow from the order of the events.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::combined::Site;
use super::csv::{MapConfig, Quotes, Table};
use super::ids::{AddressHasher, EventIds};
use super::lines::{Line, Lines, MAX_LINE};
use super::{Malformed, combined, ndjson};
use crate::event::letter::{DeadLine, DeadText};
use crate::event::mask;

/// Lines of a batch: what one round trip to the disk should carry.
const MAX_LINES: u64 = 1_000;
/// Bytes after which a batch is full: a quarter of what the log takes as one record.
const MAX_BYTES: usize = 4 << 20;

/// How the lines of a file are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// One JSON object a line: an event in pulse's own form
    Ndjson,
    /// A table with a header row
    Csv,
    /// Access log of Apache or nginx
    Combined,
}

impl Format {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Combined => "combined",
        }
    }
}

/// What is the same for all files of an import.
pub(super) struct Recipe {
    /// Layout of the lines.
    pub(super) format: Format,
    /// Name of the project: part of the ids.
    pub(super) project: String,
    /// Columns to fields.
    pub(super) map: MapConfig,
    /// What access logs do not say.
    pub(super) site: Site,
    /// Moves by the bytes read.
    pub(super) progress: ProgressBar,
}

/// Lines of one file, ready to be sent.
#[derive(Debug)]
pub(super) struct Batch {
    /// Name of the file.
    pub(super) source: Arc<str>,
    /// An event or a dead line each.
    pub(super) body: Vec<u8>,
    /// How many.
    pub(super) lines: u64,
}

impl Batch {
    fn new(source: &Arc<str>) -> Self {
        Self { source: Arc::clone(source), body: Vec::new(), lines: 0 }
    }

    fn push(&mut self, line: &[u8]) {
        self.body.extend_from_slice(line);
        self.body.push(b'\n');
        self.lines += 1;
    }

    fn is_full(&self) -> bool {
        self.lines >= MAX_LINES || self.body.len() >= MAX_BYTES
    }
}

/// Why a file was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The file or the map.
    #[error("{0}")]
    Input(String),
    /// Nobody takes batches any more.
    #[error("sending ended before reading did")]
    Abandoned,
}

/// Reads a file into `batches`; blocks while they are not taken. What was read before an error is sent.
pub(super) fn file(path: &Path, recipe: &Recipe, batches: &mpsc::Sender<Batch>) -> Result<(), ReadError> {
    let fail = |problem: String| ReadError::Input(format!("{}: {problem}", path.display()));
    let mut lines = Lines::open(path, &recipe.progress).map_err(|problem| fail(problem.to_string()))?;
    let source: Arc<str> = path.file_name().map_or_else(|| "-".into(), |name| name.to_string_lossy().into());
    let mut ids = EventIds::new(&recipe.project, recipe.format.as_str());
    let parser = Parser::begin(&mut lines, recipe).map_err(fail)?;
    let mut batch = Batch::new(&source);
    let ended = loop {
        let line = match parser.next(&mut lines) {
            Ok(Some(line)) => line,
            Ok(None) => break Ok(()),
            Err(problem) => break Err(fail(problem.to_string())),
        };
        let id = ids.next(line.bytes);
        match parser.event(line, id) {
            Ok(event) => batch.push(&event),
            Err(malformed) => {
                batch.push(&dead_line(line, &malformed, (id, &recipe.site.addresses)).map_err(|problem| fail(problem.to_string()))?)
            }
        }
        if batch.is_full() {
            let full = std::mem::replace(&mut batch, Batch::new(&source));
            batches.blocking_send(full).map_err(|_| ReadError::Abandoned)?;
        }
    };
    if batch.lines > 0 {
        batches.blocking_send(batch).map_err(|_| ReadError::Abandoned)?;
    }
    ended
}

/// Makes events of the lines of one file.
enum Parser<'r> {
    Ndjson,
    Csv(Table),
    Combined(&'r Site),
}

impl<'r> Parser<'r> {
    /// Takes what comes before the first event. Errors: a table's header and the map do not fit.
    fn begin(lines: &mut Lines, recipe: &'r Recipe) -> Result<Self, String> {
        Ok(match recipe.format {
            Format::Ndjson => Self::Ndjson,
            Format::Combined => Self::Combined(&recipe.site),
            Format::Csv => {
                let mut quotes = Quotes::default();
                let header = lines.next(|line| quotes.continues(line)).map_err(|problem| problem.to_string())?;
                Self::Csv(Table::new(header.ok_or("there is no header row")?.bytes, &recipe.map)?)
            }
        })
    }

    fn next<'l>(&self, lines: &'l mut Lines) -> std::io::Result<Option<Line<'l>>> {
        let mut quotes = Quotes::default();
        lines.next(|line| matches!(self, Self::Csv(_)) && quotes.continues(line))
    }

    fn event(&self, line: Line<'_>, id: Uuid) -> Result<Vec<u8>, Malformed> {
        if line.is_cut {
            return Err(format!("longer than {MAX_LINE} bytes").into());
        }
        match self {
            Self::Ndjson => ndjson::event(line.bytes, id),
            Self::Csv(table) => table.event(line.bytes, id),
            Self::Combined(site) => combined::event(line.bytes, id, site),
        }
    }
}

/// A line of which no event can be made. Addresses leave here as their names only.
fn dead_line(line: Line<'_>, Malformed(message): &Malformed, (id, addresses): (Uuid, &AddressHasher)) -> serde_json::Result<Vec<u8>> {
    let name = |address: &str| addresses.mask(address);
    let original = mask::masked(line.bytes, name);
    let message = mask::masked_text(message, name);
    let dead = DeadText {
        message: message.into(),
        line: line.number,
        id: id.to_string().into(),
        original_base64: STANDARD.encode(original).into(),
    };
    serde_json::to_vec(&DeadLine { dead })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::{Value, json};

    use super::*;
    use crate::event::letter::DEAD_LINE_MARK;

    fn batches(format: Format, text: &str) -> (Vec<Batch>, Result<(), ReadError>) {
        let mut input = tempfile::NamedTempFile::new().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        let recipe = Recipe {
            format,
            project: "shop".to_owned(),
            map: MapConfig::default(),
            site: Site { addresses: crate::cli::import::AddressHasher::new(&[7; 32]), host: None },
            progress: ProgressBar::hidden(),
        };
        let (sender, mut receiver) = mpsc::channel(100);
        let result = file(input.path(), &recipe, &sender);
        (std::iter::from_fn(|| receiver.try_recv().ok()).collect(), result)
    }

    #[test]
    fn every_line_is_an_event_or_a_dead_line_in_order() {
        let (batches, result) = batches(Format::Ndjson, "{\"type\":\"a\"}\n\nnonsense\n{\"type\":\"b\"}");
        result.unwrap();
        let [batch] = batches.as_slice() else { panic!("{batches:?}") };
        let lines: Vec<&[u8]> = batch.body.split(|byte| *byte == b'\n').collect();
        let [first, dead, last, b""] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(first.ends_with(b"\"type\":\"a\"}") && last.ends_with(b"\"type\":\"b\"}"));
        assert!(dead.starts_with(DEAD_LINE_MARK));
        let dead: Value = serde_json::from_slice(dead).unwrap();
        assert_eq!(
            dead,
            json!({"$dead": {
                "message": "not a JSON object", "line": 3, "id": EventIds::new("shop", "ndjson").next(b"nonsense").to_string(),
                "original_base64": STANDARD.encode("nonsense"),
            }})
        );
        assert_eq!(batch.lines, 3);
    }

    #[test]
    fn batches_are_bounded_by_lines_and_by_bytes() {
        let (by_lines, _) = batches(Format::Ndjson, &"{}\n".repeat(2_500));
        assert_eq!(by_lines.iter().map(|batch| batch.lines).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        let (by_bytes, _) = batches(Format::Ndjson, &format!("{}\n", "x".repeat(MAX_LINE)).repeat(7));
        assert_eq!(by_bytes.iter().map(|batch| batch.lines).collect::<Vec<_>>(), [3, 3, 1]);
    }

    #[test]
    fn a_row_over_several_lines_is_one_event_and_the_next_line_number_is_right() {
        let (batches, result) = batches(Format::Csv, "type,a\nbuy,\"x\ny\"\nbuy\n");
        result.unwrap();
        let body = String::from_utf8(batches[0].body.clone()).unwrap();
        assert!(body.contains("\"a\":\"x\\ny\"") && body.contains("\"line\":4"), "{body}");
        assert_eq!(batches[0].lines, 2);
    }

    #[test]
    fn a_table_without_a_header_names_the_file() {
        let (_, result) = batches(Format::Csv, "\n");
        assert!(result.unwrap_err().to_string().ends_with(": there is no header row"));
    }
}
