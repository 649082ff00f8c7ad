//! `pulse import`: history from files, each line of it an event or a dead letter.
//!
//! Talks to the pulse that uses the data directory, or to the one at `--url`, or starts the roles itself. Ends when every
//! line has its outcome. Lines have fixed ids: importing a file again, or after a failure, counts nothing twice.

mod combined;
mod csv;
mod ids;
mod lines;
mod ndjson;
mod read;
mod send;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::combined::Site;
use self::csv::MapConfig;
use self::ids::AddressHasher;
use self::read::{Format, ReadError, Recipe};
use self::send::{AccessKeys, Books, Connection};
use super::ConfigArgs;
use crate::app::{self, Run};
use crate::config::Settings;
use crate::http::keys::{self, KeysError};

/// Batches read ahead of the one being sent.
const READ_AHEAD: usize = 4;
const REDRAW: Duration = Duration::from_millis(200);

/// What is wrong with a line, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Malformed(String);

impl<T: Into<String>> From<T> for Malformed {
    fn from(message: T) -> Self {
        Self(message.into())
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse import --format combined --site www.example.com /var/log/nginx/access.log*
  pulse import --format csv --map orders.toml --json orders.csv

A map names fields and the columns they come from:
  unmapped = \"properties\"        # or \"ignore\"
  strings = [\"zip\"]              # columns that stay text
  [columns]
  userId = \"customer\"
  \"properties.amount\" = \"total\"
  [defaults]
  type = \"order\"")]
pub(super) struct ImportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How the files are laid out
    #[arg(long, value_enum)]
    format: Format,
    /// Map from columns to fields, for csv
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// Host name of the web server, for combined: its own pages are then no referrers
    #[arg(long, value_name = "HOST")]
    site: Option<String>,
    /// Whose events they are
    #[arg(long, value_name = "NAME", default_value = "default")]
    project: String,
    /// Print the outcomes as one JSON object
    #[arg(long)]
    json: bool,
    /// Another pulse than the data directory's own
    #[arg(long)]
    url: Option<String>,
    /// Import key of the project [default: the one in the keys file, else the read key]
    #[arg(long, value_name = "KEY")]
    import_key: Option<String>,
    /// Read key of the project [default: the one in the keys file]
    #[arg(long, value_name = "KEY")]
    read_key: Option<String>,
    /// Files to read, gzip or not; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &ImportArgs) -> Result<()> {
    // Warnings only: the terminal belongs to the progress bar.
    super::start_logging("warn");
    let own_flags = vec![("http.listen", "127.0.0.1:0".to_owned()), ("roles", "ingest,process,load,query".to_owned())];
    let settings = args.config.load(own_flags)?;
    let recipe = recipe(args, &settings)?;
    let keys = access_keys(args, &settings)?;
    let runtime = super::runtime()?;
    let result = runtime.block_on(import(args, settings, (recipe, keys)));
    // A reader that waits for standard input would be waited for.
    runtime.shutdown_background();
    result
}

/// Everything that can be refused before anything is sent.
fn recipe(args: &ImportArgs, settings: &Settings) -> Result<Recipe> {
    let map = match &args.map {
        Some(_) if args.format != Format::Csv => bail!("map: only csv has columns"),
        Some(path) => MapConfig::read(path).map_err(anyhow::Error::msg).context("map")?,
        None => MapConfig::default(),
    };
    let host = args.site.clone();
    if let Some(host) = &host {
        let is_host =
            url::Url::parse(&format!("https://{host}/")).is_ok_and(|url| url.host_str().is_some_and(|known| host.starts_with(known)));
        if args.format != Format::Combined || !is_host {
            bail!("--site `{host}`: the host name of a web server, such as www.example.com, for combined logs only");
        }
    }
    let site = Site { addresses: AddressHasher::open(&settings.config.data_dir).context("secret of imports")?, host };
    let progress = progress_bar(&args.files)?;
    Ok(Recipe { format: args.format, project: args.project.clone(), map, site, progress })
}

/// A bar on standard error if that is a terminal.
fn progress_bar(files: &[PathBuf]) -> Result<ProgressBar> {
    let mut total = Some(0);
    for path in files {
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
    if let Some(read) = &args.read_key {
        return Ok(AccessKeys { import: args.import_key.as_ref().unwrap_or(read).clone(), read: read.clone() });
    }
    let config = &settings.config;
    let path = keys::path(&config.keys, &config.data_dir);
    if config.keys.file.is_empty() && !path.exists() && args.url.is_none() {
        std::fs::create_dir_all(&config.data_dir).context("data_dir")?;
        keys::change(&path, |_| Ok::<_, KeysError>(()))?;
    }
    let project = &args.project;
    let entry = keys::read(&path)?.into_iter().find(|entry| &entry.project == project);
    let Some(entry) = entry else { bail!("project: `{project}` has no keys; `pulse keys create {project}` makes some") };
    if entry.disabled {
        bail!("project: the keys of `{project}` are disabled");
    }
    let read = entry.read_key;
    if read.starts_with("sha256:") {
        bail!("project: of the read key of `{project}` only the hash is kept; give it with --read-key");
    }
    let kept = Some(entry.import_key).filter(|key| !key.is_empty() && !key.starts_with("sha256:"));
    let import = args.import_key.clone().or(kept).unwrap_or_else(|| read.clone());
    Ok(AccessKeys { import, read })
}

/// Imports into the pulse that is there, or into one of its own.
async fn import(args: &ImportArgs, settings: Settings, (recipe, keys): (Recipe, AccessKeys)) -> Result<()> {
    let running = match &args.url {
        Some(url) => Some(url.clone()),
        None => running_instance(&settings.config.data_dir).await,
    };
    if let Some(url) = running {
        return transfer(args, recipe, &Connection::new(&url, &keys)?).await;
    }
    let (ready, address) = oneshot::channel();
    let stop = CancellationToken::new();
    let serve = app::serve(settings, Run { ready: Some(ready), stop: stop.clone(), greets: false });
    let work = async {
        // No address: the end of `serve` says why.
        let Ok(address) = address.await else { return std::future::pending().await };
        transfer(args, recipe, &Connection::new(&format!("http://{address}"), &keys)?).await
    };
    tokio::pin!(serve);
    tokio::select! {
        served = &mut serve => {
            served?;
            bail!("stopped before every line had its outcome; importing again counts nothing twice")
        }
        worked = work => {
            stop.cancel();
            serve.await?;
            worked
        }
    }
}

async fn running_instance(data_dir: &Path) -> Option<String> {
    let url = format!("http://{}", app::running_address(data_dir)?);
    send::is_alive(&url).await.then_some(url)
}

/// Sends all files, waits for the outcomes and prints them.
async fn transfer(args: &ImportArgs, recipe: Recipe, connection: &Connection) -> Result<()> {
    let progress = recipe.progress.clone();
    let (sender, mut batches) = mpsc::channel(READ_AHEAD);
    let files = args.files.clone();
    let reader = tokio::task::spawn_blocking(move || -> Result<(), ReadError> {
        files.iter().try_for_each(|path| read::file(path, &recipe, &sender))
    });
    let mut read = 0;
    // One batch after another, because a visitor's sessions follow from the order; reading goes on meanwhile.
    while let Some(batch) = batches.recv().await {
        let lines = batch.lines;
        connection.send(batch).await?;
        read += lines;
        progress.set_message(format!("{read} lines"));
    }
    let ended = reader.await.context("reading")?;
    let show = |books: &Books| progress.set_message(format!("{read} lines, {} of them waiting", books.waiting));
    let books = connection.settle(read, show).await?;
    progress.finish_and_clear();
    Summary::of(read, &books).print(args.json)?;
    ended.context("what was read before this is imported")
}

/// What is printed at the end.
#[derive(Serialize)]
struct Summary {
    read: u64,
    stored: u64,
    duplicate: u64,
    filtered: u64,
    rejected: u64,
    dead: u64,
}

impl Summary {
    fn of(read: u64, books: &Books) -> Self {
        let Books { stored, duplicate, filtered, rejected, dead, .. } = *books;
        Self { read, stored, duplicate, filtered, rejected, dead }
    }

    fn print(&self, as_json: bool) -> Result<()> {
        if as_json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let Self { read, stored, duplicate, filtered, rejected, dead } = self;
        println!(
            "read       {read}\nstored     {stored}\nduplicate  {duplicate}\nfiltered   {filtered}\nrejected   {rejected}\ndead       {dead}"
        );
        Ok(())
    }
}
