//! The pulse that a command talks to: one that is named, the one that uses the data directory, or one of its own for as long as the
//! command runs.

use std::future::Future;

use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::ConfigArgs;
use super::remote::Address;
use crate::app::{self, Run};
use crate::auth::keys::{self, KeyEntry, KeysError};
use crate::config::{ConfigError, Settings};

/// Options of commands that talk to a pulse.
#[derive(Clone, Debug, Args)]
pub(super) struct InstanceArgs {
    /// Whose events they are
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) project: String,
    /// Another pulse than the data directory's own
    #[arg(long)]
    pub(super) url: Option<String>,
    /// Send keys over the network as they are, to a URL that begins with http://
    #[arg(long, requires = "url")]
    plain_http: bool,
    /// Read key of the project [default: the one in the keys file]
    #[arg(long, value_name = "KEY")]
    pub(super) read_key: Option<String>,
}

/// The settings of a pulse that is only asked, should none be running.
pub(super) fn asking_settings(config: &ConfigArgs) -> Result<Settings, ConfigError> {
    config.load(vec![("http.listen", "127.0.0.1:0".to_owned()), ("roles", "query".to_owned())])
}

/// Refuses a data directory that no pulse has used: a new one would be made, and nothing would be in it.
pub(super) fn require(settings: &Settings) -> Result<()> {
    let config = &settings.config;
    let keys_file = keys::path(&config.keys, &config.data_dir);
    // With Kafka there is nothing in the directory but the address of a running instance.
    if settings.config.log.kind == "embedded" && !keys_file.exists() {
        bail!(
            "data_dir: there is no pulse in `{}`: {} is not there; say where it is with --data-dir",
            config.data_dir.display(),
            keys_file.display()
        );
    }
    Ok(())
}

impl InstanceArgs {
    /// The pulse of the data directory, about a project of the keys file.
    pub(super) fn of_project(project: &str) -> Self {
        Self { project: project.to_owned(), url: None, plain_http: false, read_key: None }
    }

    /// Those of a command that has other words for them.
    pub(super) fn of(project: String, url: Option<String>, plain_http: bool) -> Self {
        Self { project, url, plain_http, read_key: None }
    }

    /// The read key, where only a pulse that is there already is of use: none is made.
    pub(super) fn read_key_of_existing(&self, settings: &Settings) -> Result<String> {
        if self.url.is_none() {
            require(settings)?;
        }
        self.read_key(settings)
    }

    /// The project's entry in the keys file, which is made first if it is the data directory's own and there is none.
    pub(super) fn keys_of(&self, settings: &Settings) -> Result<KeyEntry> {
        let config = &settings.config;
        let path = keys::path(&config.keys, &config.data_dir);
        if config.keys.file.is_empty() && !path.exists() && self.url.is_none() {
            std::fs::create_dir_all(&config.data_dir).context("data_dir")?;
            keys::change(&path, |_| Ok::<_, KeysError>(()))?;
        }
        let project = &self.project;
        let entry = keys::read(&path)?.into_iter().find(|entry| &entry.project == project);
        let Some(entry) = entry else { bail!("project: `{project}` has no keys; `pulse keys create {project}` makes some") };
        if entry.disabled {
            bail!("project: the keys of `{project}` are disabled");
        }
        Ok(entry)
    }

    /// The read key given, else the one of the keys file.
    pub(super) fn read_key(&self, settings: &Settings) -> Result<String> {
        if let Some(key) = &self.read_key {
            return Ok(key.clone());
        }
        let key = self.keys_of(settings)?.read_key;
        if key.starts_with("sha256:") {
            bail!("project: of the read key of `{}` only the hash is kept; give it with --read-key", self.project);
        }
        Ok(key)
    }

    /// Does `work` with a pulse: the one named, the one that runs, or one of its own with the roles of `settings`.
    pub(super) async fn with<T, W>(&self, settings: Settings, work: impl FnOnce(Address) -> W) -> Result<T>
    where
        W: Future<Output = Result<T>>,
    {
        let running = match &self.url {
            Some(url) => Some(url.clone()),
            None => app::running_address(&settings.config.data_dir).context("data_dir")?.map(|address| format!("http://{address}")),
        };
        if let Some(url) = running {
            return work(Address { url, may_be_plain: self.plain_http }).await;
        }
        let (ready, address) = oneshot::channel();
        let stop = CancellationToken::new();
        let serve = app::serve(settings, Run { ready: Some(ready), stop: stop.clone(), greets: false });
        let work = async {
            // No address: the end of `serve` says why.
            let Ok(address) = address.await else { return std::future::pending().await };
            work(Address { url: format!("http://{address}"), may_be_plain: false }).await
        };
        tokio::pin!(serve);
        tokio::select! {
            served = &mut serve => {
                served?;
                bail!("stopped before it was done; running it again counts nothing twice")
            }
            worked = work => {
                stop.cancel();
                serve.await?;
                worked
            }
        }
    }
}
