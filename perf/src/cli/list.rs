//! `perf list`: what there is.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

use super::CatalogueArgs;
use crate::result::{TargetInfo, TargetKind, WorkloadInfo};
use crate::workload;

/// Arguments of `perf list`.
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    catalogue: CatalogueArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Listing {
    targets: Vec<TargetInfo>,
    workloads: Vec<Listed>,
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    info: WorkloadInfo,
    quick: bool,
    sessions: bool,
    missing: Option<String>,
}

/// Runs `perf list`.
///
/// # Errors
/// A file of targets cannot be used.
pub fn run(arguments: &ListArgs) -> anyhow::Result<ExitCode> {
    let catalogue = arguments.catalogue.load()?;
    let listing = Listing {
        targets: catalogue
            .targets()
            .iter()
            .map(|target| {
                let mut info = target.info();
                info.unavailable = target.unavailable();
                info
            })
            .collect(),
        workloads: workload::all(1.0)
            .iter()
            .map(|workload| Listed {
                info: workload.info(),
                quick: workload.quick(),
                sessions: workload.applies(TargetKind::Session),
                missing: workload.missing(),
            })
            .collect(),
    };
    let text = if arguments.json {
        serde_json::to_string_pretty(&listing)? + "\n"
    } else {
        table(&listing)
    };
    // A reader that went away is not an error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn table(listing: &Listing) -> String {
    let mut text = String::from("Targets:\n");
    let width = |names: &mut dyn Iterator<Item = usize>| names.max().unwrap_or(0);
    let wide = width(&mut listing.targets.iter().map(|target| target.name.len()));
    for target in &listing.targets {
        let kind = match target.kind {
            TargetKind::Native => "native",
            TargetKind::Mount => "mount",
            TargetKind::Session => "session",
        };
        text += &format!("  {:wide$}  {kind:7}  {}", target.name, target.about);
        if let Some(reason) = &target.unavailable {
            text += &format!(" - not available: {reason}");
        }
        text.push('\n');
    }
    text += "\nWorkloads (q: in the quick profile, s: in sessions, too):\n";
    let wide = width(
        &mut listing
            .workloads
            .iter()
            .map(|workload| workload.info.name.len()),
    );
    let mut group = "";
    for workload in &listing.workloads {
        if workload.info.group != group {
            group = &workload.info.group;
            text += &format!(" {group}\n");
        }
        text += &format!(
            "  {:wide$}  {}{}  {} [{}]",
            workload.info.name,
            if workload.quick { 'q' } else { '-' },
            if workload.sessions { 's' } else { '-' },
            workload.info.about,
            workload.info.unit,
        );
        if let Some(reason) = &workload.missing {
            text += &format!(" - {reason}");
        }
        text.push('\n');
    }
    text
}
