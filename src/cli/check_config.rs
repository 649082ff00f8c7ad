//! `pulse check-config`

use anyhow::Result;
use clap::Args;

use super::ConfigArgs;

#[derive(Debug, Args)]
#[command(after_help = "Example: PULSE__LOAD__MAX_AGE=100ms pulse check-config --config config/pulse.toml")]
pub(super) struct CheckConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &CheckConfigArgs) -> Result<()> {
    // Secrets show themselves as set.
    print!("{}", toml::to_string_pretty(&args.config.load(Vec::new())?.config)?);
    Ok(())
}
