//! `pulse check-config`

use anyhow::Result;
use clap::Args;

use super::ConfigArgs;
use crate::log::kafka::is_secret;

#[derive(Debug, Args)]
#[command(after_help = "Example: PULSE__LOAD__MAX_AGE=100ms pulse check-config --config config/pulse.toml")]
pub(super) struct CheckConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) fn run(args: &CheckConfigArgs) -> Result<()> {
    let mut config = args.config.load(Vec::new())?.config;
    for password in [&mut config.clickhouse.password, &mut config.clickhouse.reader_password, &mut config.clickhouse.migrator_password] {
        if !password.is_empty() {
            *password = "(set)".to_owned();
        }
    }
    for (_, value) in config.log.kafka.options.iter_mut().filter(|(name, _)| is_secret(name)) {
        *value = "(set)".to_owned();
    }
    print!("{}", toml::to_string_pretty(&config)?);
    Ok(())
}
