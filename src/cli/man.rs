//! `cntr man`: manual pages, made from the same description as `--help`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

/// Write manual pages, one for cntr and one for each subcommand
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  cntr man /usr/local/share/man/man1      then: man cntr-attach")]
pub struct ManArgs {
    /// Directory to write them to; made if it is missing
    pub directory: PathBuf,
}

/// Runs `cntr man`.
pub fn run(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let directory = &args.directory;
    let name = || directory.display().to_string();
    std::fs::create_dir_all(directory).with_context(name)?;
    clap_mangen::generate_to(super::command(), directory).with_context(name)?;
    Ok(ExitCode::SUCCESS)
}
