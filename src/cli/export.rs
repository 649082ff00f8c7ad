//! `pulse export`: all events of a project as lines of JSON, into a file or a bucket that a later run goes on with.
//!
//! Promises: a file holds every event once, also after a run that was cut at any moment: beside it stands how much of it is whole and where it
//! goes on, and what is behind that is cut off first. The objects of a bucket do, too: see [`objects`].

mod objects;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use hyper::Response;
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::form_urlencoded;

use self::objects::{Cut, Objects};
use super::ConfigArgs;
use super::bucket::{Bucket, is_address};
use super::instance::InstanceArgs;
use super::remote::{Remote, bearer};
use crate::query::output::{FILE_COMPLETE, FILE_EVENTS, FILE_NEXT, FILE_THROUGH, Output as Table};

/// Events of a page.
const PAGE: u64 = 5_000;
/// Events of a page that is a table: what pulse gives at once.
const TABLE: u64 = 100_000;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse export --output events.ndjson
  pulse export --from 2026-01-01 --to 2026-02-01 --output january.ndjson
  pulse export --output - | gzip > events.ndjson.gz
  pulse export --output s3://bucket/events                      # 0000000001.ndjson.gz and on
  pulse export --output s3://bucket/events --format parquet     # the same as tables, for tools that read such

Times are those of receipt. Run again, it goes on where the file or the last object ends. `pulse import` takes both back;
of tables it reads none.

A bucket is opened by AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or by the role of the machine; AWS_ENDPOINT_URL names
another store than AWS's.")]
pub(super) struct ExportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    instance: InstanceArgs,
    /// Received at this time or later: RFC 3339, a date, or relative such as -2d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<String>,
    /// Received before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<String>,
    /// The file, - for standard output, or s3://bucket/prefix
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// How the objects of a bucket are written; a file holds lines
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Most events of an object of a bucket; lines also end at 64 MiB compressed, tables at 100,000 events or 24 MiB
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    object_events: u64,
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// An event a line, as JSON, compressed
    #[default]
    Ndjson,
    /// A table, as text
    Csv,
    /// A table, for tools of analysis
    Parquet,
    /// A table, as a stream of Arrow
    Arrow,
}

impl Format {
    /// The table that is asked for; none where lines are made of pages of JSON.
    fn table(self) -> Option<Table> {
        match self {
            Self::Ndjson => None,
            Self::Csv => Some(Table::Csv),
            Self::Parquet => Some(Table::Parquet),
            Self::Arrow => Some(Table::Arrow),
        }
    }

    /// What the names of its objects end with.
    fn suffix(self) -> &'static str {
        match self {
            Self::Ndjson => ".ndjson.gz",
            Self::Csv => ".csv",
            Self::Parquet => ".parquet",
            Self::Arrow => ".arrow",
        }
    }

    /// The type of an object.
    fn content_type(self) -> &'static str {
        self.table().map_or("application/gzip", Table::content_type)
    }

    /// Most events of a page.
    fn page(self) -> u64 {
        if self == Self::Ndjson { PAGE } else { TABLE }
    }

    /// A page of an answer.
    fn read(self, answer: Response<Bytes>) -> Result<Page> {
        match self.table() {
            None => Page::of_lines(answer.body()),
            Some(_) => Page::of_table(answer),
        }
    }
}

/// A page of events.
struct Page {
    body: PageBody,
    events: u64,
    next: Option<String>,
    complete: bool,
    through: String,
}

enum PageBody {
    Lines(Vec<Box<RawValue>>),
    Table(Bytes),
}

impl Page {
    fn of_lines(answer: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Answer {
            events: Vec<Box<RawValue>>,
            next: Option<String>,
            complete: bool,
            through: String,
        }
        let Answer { events: lines, next, complete, through } = serde_json::from_slice(answer).context("the answer")?;
        Ok(Self { events: lines.len() as u64, body: PageBody::Lines(lines), next, complete, through })
    }

    /// What a table cannot say stands in headers.
    fn of_table(answer: Response<Bytes>) -> Result<Self> {
        let (head, body) = answer.into_parts();
        let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let needed =
            |name: &'static str| header(name).with_context(|| format!("the answer has no `{name}`; is it a pulse of this release?"));
        let events = needed(FILE_EVENTS)?.parse().context(FILE_EVENTS)?;
        let (complete, through) = (needed(FILE_COMPLETE)? == "true", needed(FILE_THROUGH)?.to_owned());
        Ok(Self { events, next: header(FILE_NEXT).map(str::to_owned), complete, through, body: PageBody::Table(body) })
    }
}

pub(super) fn run(args: &ExportArgs) -> Result<()> {
    super::start_logging("warn");
    let own_flags = vec![("http.listen", "127.0.0.1:0".to_owned()), ("roles", "process,load,query".to_owned())];
    let settings = args.config.load(own_flags)?;
    let key = bearer(&args.instance.read_key_of_existing(&settings)?, "read key")?;
    let runtime = super::runtime()?;
    let mut output = runtime.block_on(Output::open(args))?;
    runtime.block_on(args.instance.with(settings, |address| async move {
        let remote = Remote::new(&address)?;
        let (progress, mut events) = (ProgressBar::new_spinner(), 0);
        loop {
            let path = format!("/v1/export?{}", args.query(&output));
            let page = args.format.read(remote.get_whole(&path, &key).await?)?;
            output.add(&page).await?;
            events += page.events;
            progress.set_message(format!("{events} events{}", output.next().and_then(received).unwrap_or_default()));
            progress.tick();
            if page.complete {
                progress.finish_and_clear();
                eprintln!("{events} events: all that were received before {}", page.through);
                return Ok(());
            }
        }
    }))
}

/// How far an export is, in words: a place begins with the receipt of its event.
fn received(place: &str) -> Option<String> {
    let at_ms = place.split('.').next()?.parse().ok()?;
    Some(format!(", received up to {}", jiff::Timestamp::from_millisecond(at_ms).ok()?))
}

impl ExportArgs {
    fn query(&self, output: &Output) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &output.room().min(self.format.page()).to_string());
        let format = self.format.table().map(Table::name);
        for (name, value) in [("from", self.from.as_deref()), ("to", self.to.as_deref()), ("cursor", output.next()), ("format", format)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.finish()
    }
}

/// What is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Wanted {
    project: String,
    from: Option<String>,
    to: Option<String>,
}

impl Wanted {
    fn of(args: &ExportArgs) -> Self {
        Self { project: args.instance.project.clone(), from: args.from.clone(), to: args.to.clone() }
    }
}

/// How much of a file is whole, and how it goes on.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    #[serde(flatten)]
    wanted: Wanted,
    bytes: u64,
    next: Option<String>,
}

/// Where the events go.
enum Output {
    Stdout { next: Option<String> },
    File { file: File, checkpoint: Checkpoint, beside: PathBuf },
    Objects(Box<Objects>),
}

impl Output {
    async fn open(args: &ExportArgs) -> Result<Self> {
        ensure!(
            args.format == Format::Ndjson || is_address(&args.output),
            "--format: a file is gone on with and holds lines; tables are written into a bucket, s3://bucket/prefix"
        );
        if args.output == Path::new("-") {
            return Ok(Self::Stdout { next: None });
        }
        if is_address(&args.output) {
            let bucket = Bucket::open(&args.output.to_string_lossy())?;
            let objects = Objects::open(bucket, Wanted::of(args), Cut { format: args.format, events: args.object_events }).await?;
            return Ok(Self::Objects(Box::new(objects)));
        }
        Self::file(args)
    }

    fn file(args: &ExportArgs) -> Result<Self> {
        let name = || args.output.display().to_string();
        let mut beside = args.output.clone().into_os_string();
        beside.push(".checkpoint");
        let beside = PathBuf::from(beside);
        let new = Checkpoint { wanted: Wanted::of(args), bytes: 0, next: None };
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&args.output).with_context(name)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{}: another export writes it", name()),
            // Not every file system has locks.
            Err(TryLockError::Error(problem)) => {
                tracing::warn!(%problem, "{} is not locked: no other export may write it meanwhile", name())
            }
        }
        let length = file.metadata().with_context(name)?.len();
        let checkpoint = match std::fs::read(&beside) {
            Ok(checkpoint) => serde_json::from_slice(&checkpoint).with_context(|| beside.display().to_string())?,
            Err(problem) if problem.kind() == std::io::ErrorKind::NotFound => {
                ensure!(length == 0, "{}: it is there already, and no export began it", name());
                // Before the first byte: a run that is cut in its first page is gone on with too.
                keep(&new, &beside)?;
                new
            }
            Err(problem) => return Err(problem).with_context(|| beside.display().to_string()),
        };
        if checkpoint.wanted != Wanted::of(args) {
            bail!("{}: it is an export of another project or range; {} says of which", name(), beside.display());
        }
        ensure!(length >= checkpoint.bytes, "{}: it has {length} bytes and had {}; something else changed it", name(), checkpoint.bytes);
        // What a run that was cut wrote behind the last whole page comes again.
        file.set_len(checkpoint.bytes).with_context(name)?;
        file.seek(SeekFrom::End(0)).with_context(name)?;
        Ok(Self::File { file, checkpoint, beside })
    }

    /// Where it goes on.
    fn next(&self) -> Option<&str> {
        match self {
            Self::Stdout { next } => next.as_deref(),
            Self::File { checkpoint, .. } => checkpoint.next.as_deref(),
            Self::Objects(objects) => objects.next(),
        }
    }

    /// How many events it takes at once, at most.
    fn room(&self) -> u64 {
        match self {
            Self::Stdout { .. } | Self::File { .. } => u64::MAX,
            Self::Objects(objects) => objects.room(),
        }
    }

    /// Writes a page down, in whole or, as far as a later run sees, not at all.
    async fn add(&mut self, page: &Page) -> Result<()> {
        match self {
            Self::Stdout { next } => {
                written(std::io::stdout().lock(), page).context("standard output")?;
                next.clone_from(&page.next);
            }
            Self::File { file, checkpoint, beside } => {
                checkpoint.bytes += written(&*file, page).context("the file")?;
                checkpoint.next.clone_from(&page.next);
                file.sync_data().context("the file")?;
                keep(checkpoint, beside)?;
            }
            Self::Objects(objects) => objects.add(page).await?,
        }
        Ok(())
    }
}

/// Replaces a checkpoint; never half.
fn keep(checkpoint: &Checkpoint, beside: &Path) -> Result<()> {
    let draft = beside.with_extension("checkpoint.new");
    let kept = File::create(&draft).and_then(|mut to| {
        to.write_all(&serde_json::to_vec(checkpoint)?)?;
        to.sync_data()
    });
    kept.and_then(|()| std::fs::rename(&draft, beside)).with_context(|| beside.display().to_string())
}

/// Writes the events of a page, a line each or as the table that they are; returns the bytes.
fn written(to: impl Write, page: &Page) -> std::io::Result<u64> {
    let (mut to, mut bytes) = (BufWriter::new(to), 0);
    match &page.body {
        PageBody::Lines(lines) => {
            for event in lines {
                to.write_all(event.get().as_bytes())?;
                to.write_all(b"\n")?;
                bytes += event.get().len() as u64 + 1;
            }
        }
        PageBody::Table(table) => {
            to.write_all(table)?;
            bytes += table.len() as u64;
        }
    }
    to.flush()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: ExportArgs,
    }

    fn args(typed: &[&str]) -> ExportArgs {
        Typed::parse_from(["pulse"].iter().chain(typed)).args
    }

    fn page(event: &str) -> Page {
        let event = RawValue::from_string(event.to_owned()).unwrap();
        Page { body: PageBody::Lines(vec![event]), events: 1, next: Some("a".to_owned()), complete: true, through: String::new() }
    }

    #[test]
    fn an_object_is_of_the_type_that_the_answer_had() {
        assert_eq!(Format::Csv.content_type(), "text/csv; charset=utf-8; header=present");
        assert_eq!((Format::Ndjson.content_type(), Format::Ndjson.table()), ("application/gzip", None));
    }

    #[test]
    fn a_place_says_how_far_it_is() {
        let place = "1767225600000.00000000-0000-4000-8000-000000000001.1";
        assert_eq!(received(place).unwrap(), ", received up to 2026-01-01T00:00:00Z");
        assert_eq!(received("a"), None);
    }

    #[tokio::test]
    async fn a_file_goes_on_behind_its_last_whole_page() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.ndjson");
        let typed = ["--output", file.to_str().unwrap()];
        let output = Output::file(&args(&typed)).unwrap();
        assert_eq!(output.next(), None);
        assert!(Output::file(&args(&typed)).err().unwrap().to_string().contains("another export writes it"));
        drop(output);
        // Cut in its first page, too.
        std::fs::write(&file, "{\"a\"").unwrap();
        let mut output = Output::file(&args(&typed)).unwrap();
        output.add(&page("{\"a\":1}")).await.unwrap();
        drop(output);
        // Cut in the middle of the next page.
        OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"b\":").unwrap();
        let mut output = Output::file(&args(&typed)).unwrap();
        assert_eq!(output.next(), Some("a"));
        output.add(&page("{\"b\":2}")).await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"a\":1}\n{\"b\":2}\n");
    }

    #[tokio::test]
    async fn a_file_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.ndjson");
        let typed = ["--output", file.to_str().unwrap()];
        std::fs::write(&file, "mine").unwrap();
        assert!(Output::file(&args(&typed)).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
        std::fs::write(&file, "").unwrap();
        Output::file(&args(&typed)).unwrap().add(&page("{}")).await.unwrap();
        for other in [["--project", "shop"], ["--from", "2026-01-01"], ["--to", "2026-02-01"]] {
            assert!(Output::file(&args(&[&typed[..], &other[..]].concat())).is_err(), "{other:?}");
        }
        std::fs::write(&file, "").unwrap();
        assert!(Output::file(&args(&typed)).is_err(), "it is shorter than it was");
    }
}
