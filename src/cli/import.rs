//! `pulse import`: history from files, each line of it an event or a dead letter.
//!
//! Talks to the pulse that uses the data directory, or to the one at `--url`, or starts the roles itself. Ends when every
//! line has its outcome, and tells what could not be read and why. Lines have fixed ids: importing a file again, or after a failure,
//! counts nothing twice.

mod access;
mod compare;
mod csv;
mod format;
mod given;
mod history;
mod ids;
mod input;
mod joined;
mod lines;
mod malformed;
mod ndjson;
mod read;
mod send;
mod summary;
mod survey;
mod times;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use self::access::{ClientField, Site};
use self::compare::{Compared, Counts};
use self::csv::{Dialect, MapConfig};
use self::format::Format;
use self::given::Given;
use self::history::{Export, export_of};
use self::ids::{AddressHasher, Masker};
pub(super) use self::read::Batch;
use self::read::{Findings, ReadError, Recipe};
pub(super) use self::send::{AccessKeys, Connection};
pub(super) use self::summary::{Books, NothingStored};
use self::summary::{Reasons, Summary};
use self::times::Times;
use super::ConfigArgs;
use super::bucket::is_address;
use super::instance::InstanceArgs;
use crate::clickhouse::engine::cache_dir;
use crate::config::Settings;
use crate::ingest::Geo;

/// Batches read ahead of the one being sent.
const READ_AHEAD: usize = 4;
const REDRAW: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse import --format combined --site www.example.com /var/log/nginx/access.log*
  pulse import --format combined --client-field -1 access.log      # behind a proxy: the last field is the client
  pulse import --format posthog --compare export-*.jsonl.gz            # also mixpanel, amplitude, segment, umami, ga4, plausible
  pulse import --format csv --map orders.toml --timezone Europe/Berlin --id-column order --json orders.csv

A map names fields and the columns they come from:
  unmapped = \"properties\"        # or \"ignore\"
  strings = [\"zip\"]              # columns that stay text
  numbers = [\"amount\"]           # columns that are numbers wherever they can be read as such
  delimiter = \";\"                # also \"tab\", \"pipe\"; recognised where it is missing
  decimal = \",\"                  # 12,50 is a number
  timezone = \"Europe/Berlin\"     # of times that name none
  time_format = \"%d/%m/%Y %H:%M\"
  [columns]
  eventId = \"order\"
  userId = \"customer\"
  \"properties.amount\" = \"total\"
  [defaults]
  type = \"order\"
  timestamp = \"now\"            # of tables with a column that looks like a time and is not when it happened

Ends with 0 if lines were stored (what could not be read is told), 1 if it failed, 3 if not a single line could be read or there is none.")]
pub(super) struct ImportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    instance: InstanceArgs,
    /// How the files are laid out
    #[arg(long, value_enum)]
    format: Format,
    /// Map from columns to fields, for csv
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Column that holds the events' ids, for csv: exported again, the same rows are the same events
    #[arg(long, value_name = "NAME")]
    id_column: Option<String>,
    /// What separates cells, for csv: a character, or comma, semicolon, tab, pipe [default: recognised]
    #[arg(long, value_name = "NAME", value_parser = Dialect::named)]
    delimiter: Option<Dialect>,
    /// Encoding of the files, such as windows-1252, shift_jis, utf-16le [default: recognised]
    #[arg(long, value_name = "NAME", value_parser = input::encoding_named)]
    encoding: Option<&'static encoding_rs::Encoding>,
    /// Time zone of times that name none, such as Europe/Berlin, UTC or +02:00
    #[arg(long, value_name = "NAME", value_parser = times::zone_named, allow_hyphen_values = true)]
    timezone: Option<jiff::tz::TimeZone>,
    /// Name of the server whose log it is: equal lines of two servers are two events
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Host name of the web server, for combined: its own pages are then no referrers
    #[arg(long, value_name = "HOST")]
    site: Option<String>,
    /// Where the client's address stands, for combined, if a proxy stands in front: the number of a field (-1: the last), or the name
    /// of a JSON log's member; http.trusted_proxies works without
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    client_field: Option<ClientField>,
    /// Print, for each type of event and day of UTC, how many events the files have and how many the project then has
    #[arg(long)]
    compare: bool,
    /// Print the outcomes as one JSON object
    #[arg(long)]
    json: bool,
    /// Import key of the project [default: the one in the keys file, else the read key]
    #[arg(long, value_name = "KEY")]
    import_key: Option<String>,
    /// Files to read, as they are or compressed (gz, zst, xz, bz2), exports of other products in zip archives too; `-` is standard input,
    /// s3://bucket/prefix every object below
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &ImportArgs) -> Result<()> {
    // Warnings only: the terminal belongs to the progress bar.
    super::start_logging("warn");
    let own_flags = vec![("http.listen", "127.0.0.1:0".to_owned()), ("roles", "ingest,process,load,query".to_owned())];
    let settings = args.config.load(own_flags)?;
    let is_of_clients = args.format == Format::Combined;
    let runtime = super::runtime()?;
    check_format(args)?;
    let files = runtime.block_on(Given::all(&args.files))?;
    let recipe = recipe(args, &files, &settings)?;
    let keys = access_keys(args, &settings)?;
    let result = runtime.block_on(args.instance.with(settings, |address| async move {
        let connection = Connection::new(&address, &keys)?;
        let connection = if is_of_clients { connection.naming_visitors() } else { connection };
        transfer(Transfer { files, recipe, is_json: args.json }, &connection).await
    }));
    // A reader that waits for standard input would be waited for.
    runtime.shutdown_background();
    result
}

/// Everything that can be refused before anything is sent.
fn recipe(args: &ImportArgs, files: &[Given], settings: &Settings) -> Result<Recipe> {
    let mut map = match &args.map {
        Some(path) => MapConfig::read(path).map_err(anyhow::Error::msg).context("map")?,
        None => MapConfig::default(),
    };
    if let Some(column) = &args.id_column {
        map = map.with_ids_of(column).map_err(anyhow::Error::msg).context("--id-column")?;
    }
    let addresses = AddressHasher::open(&settings.config.data_dir)
        .with_context(|| format!("data_dir: `{}`: the secret of imports", settings.config.data_dir.display()))?;
    let geo = Geo::open(&settings.config.geo, cache_dir().map(|cache| cache.join("geo")).as_deref()).map_err(anyhow::Error::msg)?;
    let proxies = settings.config.http.peer(Ipv4Addr::UNSPECIFIED.into()).map_err(anyhow::Error::msg)?;
    let site = Site {
        host: args.site.clone(),
        client_field: args.client_field.clone(),
        proxies,
        times: Times { zone: args.timezone.clone(), format: None },
    };
    Ok(Recipe {
        format: args.format,
        project: args.instance.project.clone(),
        source: args.source.clone(),
        map,
        dialect: args.delimiter,
        encoding: args.encoding,
        site,
        masker: Masker { addresses, geo },
        progress: progress_bar(files)?,
        compares: args.compare,
    })
}

/// Options that say something of one layout only.
fn check_format(args: &ImportArgs) -> Result<()> {
    let of_tables = [("--map", args.map.is_some()), ("--id-column", args.id_column.is_some()), ("--delimiter", args.delimiter.is_some())];
    let of_logs = [("--site", args.site.is_some()), ("--client-field", args.client_field.is_some())];
    if let Some((name, _)) = of_tables.iter().find(|(_, is_given)| *is_given && args.format != Format::Csv) {
        bail!("{name}: only csv has columns");
    }
    if let Some((name, _)) = of_logs.iter().find(|(_, is_given)| *is_given && args.format != Format::Combined) {
        bail!("{name}: for combined only");
    }
    if export_of(args.format).and_then(Export::attached).is_some()
        && let Some(address) = args.files.iter().find(|path| is_address(path))
    {
        bail!("{}: this format has tables that belong to its records, and is read from files only", address.display());
    }
    let Some(host) = &args.site else { return Ok(()) };
    let is_host = url::Url::parse(&format!("https://{host}/")).is_ok_and(|url| url.host_str().is_some_and(|known| host.starts_with(known)));
    if !is_host {
        bail!("--site `{host}`: not the host name of a web server, such as www.example.com");
    }
    Ok(())
}

/// A bar on standard error if that is a terminal.
fn progress_bar(files: &[Given]) -> Result<ProgressBar> {
    let mut total = Some(0);
    for given in files {
        let path = match given {
            Given::File(path) => path,
            Given::Object(_, object) => {
                total = total.map(|total| total + object.bytes);
                continue;
            }
        };
        if path.as_os_str() == "-" {
            total = None;
            continue;
        }
        let file = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        if file.is_dir() {
            bail!("{}: is a directory", path.display());
        }
        total = total.filter(|_| file.is_file()).map(|total| total + file.len());
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:30} {bytes}/{total_bytes}  {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
    };
    bar.set_style(ProgressStyle::with_template(template)?);
    bar.enable_steady_tick(REDRAW);
    Ok(bar)
}

/// The keys given, else those of the project in the keys file.
fn access_keys(args: &ImportArgs, settings: &Settings) -> Result<AccessKeys> {
    let read = args.instance.read_key(settings)?;
    if let Some(import) = &args.import_key {
        return Ok(AccessKeys { import: import.clone(), read });
    }
    // With a key from the command line the file may belong to another pulse.
    let kept = if args.instance.read_key.is_some() { String::new() } else { args.instance.keys_of(settings)?.import_key };
    let import = Some(kept).filter(|key| !key.is_empty() && !key.starts_with("sha256:"));
    Ok(AccessKeys { import: import.unwrap_or_else(|| read.clone()), read })
}

/// What an import reads, how, and how it tells of it.
struct Transfer {
    files: Vec<Given>,
    recipe: Recipe,
    is_json: bool,
}

/// Sends all files, waits for the outcomes and prints them.
async fn transfer(Transfer { files, recipe, is_json }: Transfer, connection: &Connection) -> Result<()> {
    let progress = recipe.progress.clone();
    let (sender, mut batches) = mpsc::channel(READ_AHEAD);
    let reader = tokio::task::spawn_blocking(move || -> (Result<(), ReadError>, Findings) {
        let mut findings = Findings::default();
        let ended = read::files(&files, &recipe, &sender, &mut findings);
        (ended, findings)
    });
    let (mut read, mut reasons) = (0, Reasons::default());
    // One batch after another: the sessions of events in order need no look-up; reading goes on meanwhile.
    while let Some(batch) = batches.recv().await {
        let lines = batch.numbers.len() as u64;
        reasons.merge(connection.send(batch).await?);
        read += lines;
        progress.set_message(format!("{read} lines"));
    }
    let (ended, findings) = reader.await.context("reading")?;
    if read == 0 {
        ended?;
        progress.finish_and_clear();
        return Summary::of(0, &Books::default(), &reasons, &findings.notes()).print(is_json);
    }
    let show = |books: &Books| progress.set_message(format!("{read} lines, {} of them waiting", books.waiting));
    let books = connection.settle(read, show).await?;
    progress.finish_and_clear();
    let mut notes = findings.notes();
    let compared = compared(&findings.counts, connection).await.unwrap_or_else(|problem| {
        notes.push(format!("everything is imported, and was not compared: {problem:#}"));
        Vec::new()
    });
    let printed = Summary::of(read, &books, &reasons, &notes).with(&compared).print(is_json);
    ended.context("what was read before this is imported")?;
    printed
}

/// What was counted in the files, if anything was, beside what the project has of it now.
async fn compared(counts: &Counts, connection: &Connection) -> Result<Vec<Compared>> {
    match counts.question() {
        Some(question) => Ok(counts.beside(&connection.trends(&question).await?)),
        None => Ok(Vec::new()),
    }
}
