//! What the reports say.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use perf::report::{Analysis, Exporter, Format, Html, Markdown, Terminal, write_all};
use perf::result::Run;

use crate::specimen::{self, WEIRD_TARGET, WEIRD_WORKLOAD};

fn export(run: &Run, exporter: &dyn Exporter) -> anyhow::Result<String> {
    let mut text = Vec::new();
    exporter.export(&Analysis::of(run), &mut text)?;
    Ok(String::from_utf8(text)?)
}

pub fn every_row() -> anyhow::Result<()> {
    let run = specimen::run(5);
    let analysis = Analysis::of(&run);
    ensure!(run.workloads.len() >= 30 && analysis.targets.len() >= 6);
    ensure!(analysis.lines.len() == run.workloads.len() * analysis.targets.len());
    for line in &analysis.lines {
        let shown = line.figures.is_some() || !line.failures.is_empty() || line.absent.is_some();
        ensure!(shown, "{} on {} is a hole", line.workload.name, line.target);
    }
    let texts = [
        export(&run, &Terminal { width: 160 })?,
        export(&run, &Markdown)?.replace('\\', ""),
        export(&run, &Html)?,
    ];
    for text in &texts {
        for workload in run.workloads.iter().filter(|w| w.name != WEIRD_WORKLOAD) {
            ensure!(
                text.contains(&workload.name),
                "{} is missing",
                workload.name
            );
        }
        for target in run.targets.iter().filter(|t| t.name != WEIRD_TARGET) {
            ensure!(text.contains(&target.name), "{} is missing", target.name);
        }
        for word in [
            "mergerfs is not installed",
            "it did not finish in time",
            "measured once",
        ] {
            ensure!(text.contains(word), "{word} is missing");
        }
    }
    Ok(())
}

pub fn widths() -> anyhow::Result<()> {
    let run = specimen::run(5);
    for width in [80, 120, 200] {
        let text = export(&run, &Terminal { width })?;
        let widest = text.lines().map(|line| line.chars().count()).max();
        ensure!(widest <= Some(width), "{width}: {widest:?}");
        ensure!(!text.lines().any(|line| line.ends_with(' ')));
    }
    Ok(())
}

pub fn snippets() -> anyhow::Result<()> {
    let run = specimen::run(5);
    let text = export(&run, &Terminal { width: 200 })?;
    ensure!(
        text.starts_with("cntr-perf 3.0.0-alpha.1, profile full, 5 rounds, scale 1\n2026-01-01 00:00 UTC, took 1 h 10 min\n"),
        "{text:.200}"
    );
    let line = |start: &str| -> anyhow::Result<Vec<String>> {
        let line = text
            .lines()
            .find(|line| line.trim_start().starts_with(start));
        let words = line.with_context(|| start.to_owned())?.split_whitespace();
        Ok(words.map(str::to_owned).collect())
    };
    let status = line("tree-git-status")?;
    ensure!(
        status[1] == "25.4" && status[2] == "ms" && status.contains(&"FAIL".into()),
        "{status:?}"
    );
    let skipped = line("attach-true")?;
    // A target that was skipped in all of a group has no column there; the reason is told below.
    ensure!(skipped.len() == 7, "{skipped:?}");
    ensure!(text.contains("skipped: only for sessions & native"));
    let direct = line("fio-direct-q16")?;
    ensure!(
        direct
            .iter()
            .any(|mark| mark.starts_with('<') && mark.ends_with('f')),
        "{direct:?}"
    );
    ensure!(line("WARNING:")?.len() > 5);
    for legend in [
        " <  below 0.95 of the baseline\n",
        " f  some rounds failed\n",
        " o  a round is an outlier\n",
    ] {
        ensure!(text.contains(legend), "{legend}");
    }
    Ok(())
}

pub fn markdown() -> anyhow::Result<()> {
    let text = export(&specimen::run(5), &Markdown)?;
    let mut columns = 0;
    let mut tables = 0;
    for line in text.lines() {
        // Bars that are escaped do not part cells.
        let bars = line
            .replace("\\\\", "")
            .replace("\\|", "")
            .matches('|')
            .count();
        match (line.starts_with('|'), columns) {
            (true, 0) => {
                columns = bars;
                tables += 1;
            }
            (true, expected) => ensure!(bars == expected, "{line}"),
            (false, _) => columns = 0,
        }
    }
    ensure!(tables > 20, "{tables} tables");
    ensure!(!text.contains("<script"), "a name is not escaped");
    ensure!(text.contains("fsync reaches the backing file system: VIOLATED"));
    Ok(())
}

pub fn well_formed() -> anyhow::Result<()> {
    for run in [specimen::run(5), specimen::run(1), empty()] {
        let page = export(&run, &Html)?;
        let options = roxmltree::ParsingOptions {
            allow_dtd: true,
            ..Default::default()
        };
        let document = roxmltree::Document::parse_with_options(&page, options)?;
        let mut ids = BTreeSet::new();
        for node in document.descendants().filter(|node| node.is_element()) {
            ensure!(
                !node.has_tag_name("script") && !node.has_tag_name("b")
                    || node.children().all(|c| !c.is_element())
            );
            if let Some(id) = node.attribute("id") {
                ensure!(ids.insert(id.to_owned()), "{id} is there twice");
            }
            for name in [
                "x", "y", "width", "height", "x1", "x2", "y1", "y2", "cx", "cy", "points", "d",
                "viewBox",
            ] {
                let value = node.attribute(name).unwrap_or_default();
                ensure!(
                    !value.contains("NaN") && !value.contains("inf"),
                    "{name}={value}"
                );
            }
        }
        for chart in document
            .descendants()
            .filter(|node| node.has_tag_name("svg"))
        {
            let labels = chart
                .attribute("aria-labelledby")
                .context("a chart without a name")?;
            ensure!(
                labels.split(' ').all(|label| ids.contains(label)),
                "{labels}"
            );
        }
    }
    Ok(())
}

fn empty() -> Run {
    let mut run = specimen::run(1);
    run.workloads.clear();
    run.rows.clear();
    run.targets.clear();
    run
}

pub fn self_contained() -> anyhow::Result<()> {
    let page = export(&specimen::run(5), &Html)?;
    for word in [
        "http:", "https:", "url(", "@import", "<script", "<link", "src=", "href=",
    ] {
        ensure!(!page.contains(word), "the page has {word}");
    }
    Ok(())
}

/// 70 workloads on 12 targets.
pub fn size() -> anyhow::Result<()> {
    let mut run = specimen::run(5);
    let (workloads, rows) = (run.workloads.clone(), run.rows.clone());
    for mut workload in workloads {
        workload.name += "-again";
        run.workloads.push(workload);
    }
    for mut row in rows {
        row.workload += "-again";
        run.rows.push(row);
    }
    for copy in run.targets.clone() {
        let name = format!("{}-copy", copy.name);
        if copy.name == "native" || copy.unavailable.is_some() {
            continue;
        }
        let rows: Vec<_> = run
            .rows
            .iter()
            .filter(|row| row.target == copy.name)
            .cloned()
            .collect();
        for mut row in rows {
            row.target.clone_from(&name);
            run.rows.push(row);
        }
        run.targets.push(perf::result::TargetInfo { name, ..copy });
    }
    let page = export(&run, &Html)?;
    ensure!(run.workloads.len() >= 60 && run.targets.len() >= 10);
    ensure!(page.len() < 2_000_000, "{} bytes", page.len());
    Ok(())
}

pub fn round_trip() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let kept = std::env::var_os("PERF_SPECIMEN_DIR");
    let directory = kept.as_ref().map_or(directory.path(), |kept| kept.as_ref());
    let run = specimen::run(5);
    let written = write_all(&run, directory)?;
    let names: Vec<_> = written
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    ensure!(
        names == ["run.json", "report.md", "report.html"],
        "{names:?}"
    );
    let again = Run::load(&written[0])?;
    for format in [Format::Json, Format::Markdown, Format::Html] {
        let exporter = format.exporter();
        ensure!(
            export(&run, &*exporter)? == export(&again, &*exporter)?,
            "{format:?}"
        );
    }
    Ok(())
}
