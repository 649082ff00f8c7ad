//! `pulse keys`

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::ConfigArgs;
use crate::auth::keys::{self, KeyEntry};

#[derive(Debug, Args)]
#[command(after_help = "Example: pulse keys create shop")]
pub(super) struct KeysArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a project with a key of each kind
    Create {
        /// Name of the project
        project: String,
    },
    /// Forget a project's keys; its events stay
    Revoke {
        /// Name of the project
        project: String,
    },
}

const MAX_NAME: usize = 100;

pub(super) fn run(args: &KeysArgs) -> Result<()> {
    let settings = args.config.load(Vec::new())?;
    let data_dir = &settings.config.data_dir;
    std::fs::create_dir_all(data_dir)?;
    let path = keys::path(&settings.config.keys, data_dir);
    let mut entries = keys::change(&path, |entries| apply(args.action.as_ref(), entries))?;
    if let Some(Action::Create { project }) = &args.action {
        entries.retain(|entry| &entry.project == project);
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

fn apply(action: Option<&Action>, entries: &mut Vec<KeyEntry>) -> Result<()> {
    match action {
        None => {}
        Some(Action::Create { project }) => {
            check_name(project)?;
            if entries.iter().any(|entry| &entry.project == project) {
                bail!("project: `{project}` has keys already");
            }
            entries.push(keys::new_entry(project));
        }
        Some(Action::Revoke { project }) => {
            let before = entries.len();
            entries.retain(|entry| &entry.project != project);
            if entries.len() == before {
                bail!("project: `{project}` has no keys");
            }
        }
    }
    Ok(())
}
