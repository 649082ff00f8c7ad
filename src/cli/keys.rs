//! `pulse keys`: the keys file, and the keys that a running pulse manages.

use anyhow::{Result, bail, ensure};
use clap::{Args, Subcommand};
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use super::ConfigArgs;
use super::instance::{InstanceArgs, asking_settings};
use super::remote::{Remote, bearer};
use crate::auth::KeyKind;
use crate::auth::keys::{self, KeyEntry};
use crate::config::Settings;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pulse keys create shop
  pulse keys create shop --if-missing
  pulse keys admin shop
  pulse keys create shop --name web --origin https://shop.example --rate 500
  pulse keys rotate shop --id 3f2b… --overlap 7d
  pulse keys revoke shop --id 3f2b…

Keys with a name are managed by the running pulse: all instances know them within seconds. They need an admin key of the
project, which `pulse keys admin` puts into the keys file.")]
pub(super) struct KeysArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a project with a key of each kind, or a named key of a project
    Create {
        /// Name of the project
        project: String,
        /// Where the project has keys, only print them
        #[arg(long, conflicts_with = "name")]
        if_missing: bool,
        #[command(flatten)]
        named: NamedKey,
        #[command(flatten)]
        at: AtArgs,
    },
    /// Forget a project's keys, its events stay; or revoke a single key. One that is revoked already is forgotten.
    /// Named keys and links open nothing without their project, and open again should it be created again: revoke those first
    Revoke {
        /// Name of the project
        project: String,
        /// The key
        #[arg(long)]
        id: Option<String>,
        #[command(flatten)]
        at: AtArgs,
    },
    /// Make the project's admin key if it has none, and print its keys
    Admin {
        /// Name of the project
        project: String,
    },
    /// Print the named keys of a project
    List {
        /// Name of the project
        project: String,
        #[command(flatten)]
        at: AtArgs,
    },
    /// Give a named key another secret; the one before stays valid for a while
    Rotate {
        /// Name of the project
        project: String,
        /// The key
        #[arg(long)]
        id: String,
        /// How long, such as 7d; 0s ends it at once
        #[arg(long, default_value = "7d")]
        overlap: String,
        #[command(flatten)]
        at: AtArgs,
    },
    /// Set the name and all limits of a named key anew
    Set {
        /// Name of the project
        project: String,
        /// The key
        #[arg(long)]
        id: String,
        #[command(flatten)]
        named: NamedKey,
        #[command(flatten)]
        at: AtArgs,
    },
    /// Print what was changed of named keys, by whom and when
    Audit {
        /// Name of the project
        project: String,
        #[command(flatten)]
        at: AtArgs,
    },
}

/// Settings of a named key.
#[derive(Debug, Args)]
struct NamedKey {
    /// What the key is called
    #[arg(long)]
    name: Option<String>,
    /// What it opens: write, read, import or admin
    #[arg(long, requires = "name")]
    kind: Option<String>,
    /// A page that may use it, such as https://shop.example or https://*.shop.example [default: any]
    #[arg(long = "origin", requires = "name")]
    origins: Vec<String>,
    /// Refuse requests that are of no page
    #[arg(long, requires = "origins")]
    requires_origin: bool,
    /// A path that it may be used for, such as /v1/events [default: any]
    #[arg(long = "path", requires = "name")]
    paths: Vec<String>,
    /// Events a second that an instance takes with it
    #[arg(long, requires = "name")]
    rate: Option<u64>,
    /// When it ends: RFC 3339, or a date
    #[arg(long, requires = "name")]
    expires_at: Option<String>,
}

/// The pulse that manages keys.
#[derive(Debug, Args)]
struct AtArgs {
    /// Another pulse than the data directory's own
    #[arg(long)]
    url: Option<String>,
    /// Send keys over the network as they are, to a URL that begins with http://
    #[arg(long, requires = "url")]
    plain_http: bool,
    /// Admin key of the project [default: the one in the keys file]
    #[arg(long, value_name = "KEY")]
    admin_key: Option<String>,
}

const MAX_NAME: usize = 100;

pub(super) fn run(args: &KeysArgs) -> Result<()> {
    if let Some(Managed { project, at, request }) = args.action.as_ref().and_then(Action::managed) {
        return at.ask(&args.config, project, request);
    }
    let settings = args.config.load(Vec::new())?;
    let data_dir = &settings.config.data_dir;
    let path = keys::path(&settings.config.keys, data_dir);
    if args.action.is_none() {
        super::instance::require(&settings)?;
        if path.exists() {
            println!("{}", serde_json::to_string_pretty(&keys::read_checked(&path)?)?);
            return Ok(());
        }
    }
    std::fs::create_dir_all(data_dir)?;
    // Asked under the lock: of two that come at once only one is the first.
    let mut entries = keys::change(&path, |entries| apply(args.action.as_ref(), entries, !path.exists()))?;
    if let Some(Action::Create { project, .. } | Action::Admin { project }) = &args.action {
        entries.retain(|entry| &entry.project == project);
    }
    if let Some(Action::Create { project, .. }) = &args.action {
        ensure!(entries.iter().all(|entry| !entry.disabled), "project: the keys of `{project}` are disabled");
    }
    println!("{}", serde_json::to_string_pretty(&entries)?);
    Ok(())
}

/// Refuses what is no name of a project.
pub(super) fn check_name(project: &str) -> Result<()> {
    if project.trim().is_empty() || project.len() > MAX_NAME || project.chars().any(char::is_control) {
        bail!("project: `{}` is not a name of 1 to {MAX_NAME} bytes", project.escape_debug());
    }
    Ok(())
}

/// A request about managed keys.
struct Managed<'a> {
    project: &'a str,
    at: &'a AtArgs,
    request: Request,
}

enum Request {
    Get(&'static str),
    Post(String, Value),
    Put(String, Value),
    Delete(String),
}

impl Action {
    /// What a pulse is asked; `None` if it is a matter of the keys file.
    fn managed(&self) -> Option<Managed<'_>> {
        let of_key =
            |id: &str, then: &str| format!("/v1/keys/{}{then}", url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>());
        let (project, at, request) = match self {
            Self::Create { project, named, at, .. } if named.name.is_some() => {
                (project, at, Request::Post("/v1/keys".to_owned(), named.written(Some(KeyKind::Write))))
            }
            Self::Revoke { project, id: Some(id), at } => (project, at, Request::Delete(of_key(id, ""))),
            Self::List { project, at } => (project, at, Request::Get("/v1/keys")),
            Self::Rotate { project, id, overlap, at } => (project, at, Request::Post(of_key(id, "/rotate"), json!({"overlap": overlap}))),
            Self::Set { project, id, named, at } => (project, at, Request::Put(of_key(id, ""), named.written(None))),
            Self::Audit { project, at } => (project, at, Request::Get("/v1/audit")),
            Self::Create { .. } | Self::Revoke { .. } | Self::Admin { .. } => return None,
        };
        Some(Managed { project, at, request })
    }
}

impl NamedKey {
    /// As `/v1/keys` takes it; `kind` is that of a key of which nothing else is said.
    fn written(&self, kind: Option<KeyKind>) -> Value {
        let Self { name, origins, requires_origin, paths, rate, expires_at, .. } = self;
        json!({"name": name, "kind": self.kind.as_deref().or(kind.map(KeyKind::as_str)), "origins": origins, "requires_origin": requires_origin,
            "paths": paths, "rate": rate, "expires_at": expires_at})
    }
}

impl AtArgs {
    fn ask(&self, config: &ConfigArgs, project: &str, request: Request) -> Result<()> {
        super::start_logging("warn");
        let settings = asking_settings(config)?;
        if self.url.is_none() {
            super::instance::require(&settings)?;
        }
        let instance = InstanceArgs::of(project.to_owned(), self.url.clone(), self.plain_http);
        let key = bearer(&self.admin_key(&settings, &instance)?, "admin key")?;
        let is_of_file = self.admin_key.is_none();
        let answer = super::runtime()?.block_on(instance.with(settings, |address| async move {
            let remote = Remote::new(&address)?;
            if is_of_file {
                remote.knows("/v1/keys", &key).await?;
            }
            match &request {
                Request::Get("/v1/audit") => audit(&remote, &key).await,
                Request::Get(path) => Ok(serde_json::from_slice(&remote.get(path, &key).await?)?),
                Request::Post(path, body) => Ok(serde_json::from_slice(&remote.ask_once(&Method::POST, path, &key, Some(body)).await?)?),
                Request::Put(path, body) => Ok(serde_json::from_slice(&remote.put_json(path, &key, body).await?)?),
                Request::Delete(path) => Ok(serde_json::from_slice::<Value>(&remote.ask_once(&Method::DELETE, path, &key, None).await?)?),
            }
        }))?;
        println!("{}", serde_json::to_string_pretty(&answer)?);
        Ok(())
    }

    fn admin_key(&self, settings: &Settings, instance: &InstanceArgs) -> Result<String> {
        if let Some(key) = &self.admin_key {
            return Ok(key.clone());
        }
        let (key, project) = (instance.keys_of(settings)?.admin_key, &instance.project);
        match key {
            key if key.is_empty() => bail!("project: `{project}` has no admin key; `pulse keys admin {project}` makes one"),
            key if key.starts_with("sha256:") => {
                bail!("project: of the admin key of `{project}` only the hash is kept; give it with --admin-key")
            }
            key => Ok(key),
        }
    }
}

/// All pages of the audit log.
async fn audit(remote: &Remote, key: &HeaderValue) -> Result<Value> {
    let (mut entries, mut path) = (Vec::new(), "/v1/audit".to_owned());
    loop {
        let mut page: Value = serde_json::from_slice(&remote.get(&path, key).await?)?;
        entries.extend(page["entries"].as_array_mut().map(std::mem::take).unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => path = format!("/v1/audit?cursor={next}"),
            None => return Ok(json!({"entries": entries})),
        }
    }
}

fn apply(action: Option<&Action>, entries: &mut Vec<KeyEntry>, is_first: bool) -> Result<()> {
    match action {
        Some(Action::Create { project, if_missing, .. }) => {
            check_name(project)?;
            let has_keys = entries.iter().any(|entry| &entry.project == project);
            // A file that is made now begins with the keys of `default`.
            if has_keys && !is_first && !if_missing {
                bail!("project: `{project}` has keys already");
            }
            if !has_keys {
                entries.push(keys::new_entry(project));
            }
        }
        Some(Action::Revoke { project, .. }) => {
            let before = entries.len();
            entries.retain(|entry| &entry.project != project);
            if entries.len() == before {
                bail!("project: `{project}` has no keys");
            }
        }
        Some(Action::Admin { project }) => {
            let mut own = entries.iter_mut().filter(|entry| &entry.project == project);
            let Some(entry) = own.next() else { bail!("project: `{project}` has no keys; `pulse keys create {project}` makes some") };
            if entry.admin_key.is_empty() {
                entry.admin_key = keys::new_secret(KeyKind::Admin);
            }
        }
        _ => {}
    }
    Ok(())
}
