//! x
use std::process::ExitCode;
/// x
#[derive(clap::Args, Debug)]
pub struct DemoArgs {}
pub fn run(_a: &DemoArgs, _g: &super::Global) -> anyhow::Result<ExitCode> {
    unimplemented!()
}
