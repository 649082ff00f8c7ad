//! `pulse serve`

use anyhow::Result;
use clap::Args;

use super::ConfigArgs;
use crate::app::{self, Run};

/// Example: pulse serve --roles ingest,query --listen 0.0.0.0:8080
#[derive(Debug, Args)]
#[command(after_help = "Example: pulse serve --roles ingest,query --listen 0.0.0.0:8080")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Roles of this instance, separated by commas [default: ingest,process,load,query,alert]
    #[arg(long)]
    roles: Option<String>,
    /// Address and port to listen on; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

pub(super) fn run(args: &ServeArgs) -> Result<()> {
    super::start_logging("info");
    let mut flags = Vec::new();
    flags.extend(args.roles.clone().map(|roles| ("roles", roles)));
    flags.extend(args.listen.clone().map(|listen| ("http.listen", listen)));
    let settings = args.config.load(flags)?;
    let runtime = super::runtime()?;
    let ended = runtime.block_on(app::serve(settings, Run { greets: true, ..Run::default() }));
    // What was to be waited for was waited for, or a second signal said not to.
    runtime.shutdown_background();
    ended
}
