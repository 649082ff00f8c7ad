//! `pulse check-config`

use anyhow::Result;
use clap::Args;

use super::ConfigArgs;
use crate::app::check::check_files;

#[derive(Debug, Args)]
#[command(after_help = "Example: PULSE__LOAD__MAX_AGE=100ms pulse check-config --config config/pulse.toml")]
pub(super) struct CheckConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &CheckConfigArgs) -> Result<()> {
    let settings = args.config.load(Vec::new())?;
    check_files(&settings).map_err(anyhow::Error::msg)?;
    // Secrets show themselves as set.
    print!("{}", toml::to_string_pretty(&settings.config)?);
    Ok(())
}
