//! The binary called as `mount.fuse.cntr`, the way mount(8) calls its helpers.
//!
//! `mount.fuse.cntr SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`; it returns when the file system can be
//! used.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::Global;
use super::mount::{MountArgs, run};
use super::mount_options::MountTable;

/// Mount helper of cntr, called by mount(8)
#[derive(Parser)]
#[command(name = "mount.fuse.cntr", version)]
struct Helper {
    /// Directory to show
    source: PathBuf,
    /// Directory to show it at
    target: PathBuf,
    /// Options, separated by commas: see `cntr mount --help`
    #[arg(short = 'o', value_name = "OPTIONS", value_delimiter = ',')]
    options: Vec<String>,
    /// Ignore options that are unknown
    #[arg(short = 's')]
    sloppy: bool,
    /// Check the arguments, do not mount
    #[arg(short = 'f')]
    fake: bool,
    /// Accepted: there is no /etc/mtab to write
    #[arg(short = 'n')]
    no_mtab: bool,
    /// Say what is done
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    verbose: u8,
    /// Accepted: mount(8) has changed to the namespace already
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<OsString>,
    /// Accepted: the type is that of the helper
    #[arg(short = 't', value_name = "TYPE")]
    fs_type: Option<OsString>,
}

/// Runs the helper.
pub fn main(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let helper = match Helper::try_parse_from(arguments) {
        Ok(helper) => helper,
        Err(error) => {
            let _ = error.print();
            // mount(8): 1 is incorrect invocation.
            return Ok(if error.use_stderr() {
                ExitCode::from(1)
            } else {
                ExitCode::SUCCESS
            });
        }
    };
    super::log_to_stderr(helper.verbose);
    let mut options = helper.options;
    if helper.sloppy {
        options.retain(|option| MountTable::parse(std::slice::from_ref(option)).is_ok());
    }
    let args = MountArgs {
        source: helper.source,
        target: helper.target,
        options,
        cache: None,
        daemonize: true,
        tell: false,
    };
    let global = Global {
        verbose: helper.verbose,
        json: false,
    };
    if helper.fake {
        MountTable::parse(&args.options)?;
        return Ok(ExitCode::SUCCESS);
    }
    match run(&args, &global) {
        // mount(8): 32 is a failure to mount.
        Ok(code) if code == ExitCode::from(super::FAILED) => Ok(ExitCode::from(32)),
        Ok(code) => Ok(code),
        Err(error) => {
            eprintln!("mount.fuse.cntr: {error:#}");
            Ok(ExitCode::from(32))
        }
    }
}
