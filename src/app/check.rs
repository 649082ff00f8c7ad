//! Whether an instance could open what its settings name: what is written may be well and still not be there.

use std::path::Path;

use super::routes;
use crate::alert;
use crate::auth::Keys;
use crate::auth::keys;
use crate::clickhouse::engine;
use crate::config::Settings;

/// Opens what `serve` reads before it serves, and changes nothing.
///
/// # Errors
/// The key of the setting, and what is wrong with its value.
pub fn check_files(settings: &Settings) -> Result<(), String> {
    let config = &settings.config;
    config.http.check_files()?;
    routes::geo(settings)?;
    alert::check_files(&config.alerts.files)?;
    if !config.keys.file.is_empty() && keys::path(&config.keys, &config.data_dir).exists() {
        Keys::open(&config.keys, &config.data_dir).map_err(|problem| problem.to_string())?;
    }
    if !config.clickhouse.engine.library.is_empty() {
        engine::find_library(&config.clickhouse.engine).map_err(|problem| problem.to_string())?;
    }
    check_folder(&config.data_dir)
}

/// Whether the data directory is there or can be made.
fn check_folder(folder: &Path) -> Result<(), String> {
    let nearest = folder.ancestors().find(|ancestor| ancestor.exists()).filter(|nearest| !nearest.as_os_str().is_empty());
    let nearest = nearest.unwrap_or_else(|| Path::new("."));
    let problem = |what: String| Err(format!("data_dir: `{}`: {what}", folder.display()));
    if !nearest.is_dir() {
        return problem(format!("`{}` is no folder", nearest.display()));
    }
    match rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Ok(()),
        Err(why) => problem(format!("`{}` cannot be written: {why}", nearest.display())),
    }
}
