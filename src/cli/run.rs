use std::process::ExitCode;
/// x
#[derive(clap::Args, Debug)]
pub struct RunArgs {}
pub fn run(_a: &RunArgs, _g: &super::Global) -> anyhow::Result<ExitCode> { unimplemented!() }
