//! The `cntr` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    cntr::cli::main()
}
