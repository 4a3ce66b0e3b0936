//! What the server may use.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::support::backing::Kind;
use crate::support::kernel;
use crate::support::mount::Mount;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, Setup, peer};
use crate::support::wait;

/// The limit on open files it must live with.
const OPEN_FILES: u64 = 1024;
/// Memory for each known file, generously, and for everything else.
const BYTES_PER_FILE: u64 = 1500;
const BYTES_AT_REST: u64 = 96 << 20;
const FILES_PER_DIRECTORY: usize = 1000;

pub fn add(suite: &mut Suite) {
    suite.long_test("walk_with_few_descriptors", Duration::from_secs(600), walk);
    suite.test("many_open_files", many_open_files);
    suite.test("files_deleted_on_the_host_are_let_go", deleted_on_host);
}

fn walk() -> Result<()> {
    if peer() == Peer::Bind {
        return Err(Skip::new("a bind mount has no server").into());
    }
    let files: usize = match std::env::var("CNTR_WALK_FILES") {
        Ok(text) => text.parse().context("CNTR_WALK_FILES")?,
        Err(_) => 50_000,
    };
    let setup = Setup {
        open_files: Some(OPEN_FILES),
        ..Setup::default()
    };
    let mut mount = Mount::with(Kind::Ext4, &setup)?;
    for directory in 0..files.div_ceil(FILES_PER_DIRECTORY) {
        let path = mount.host(format!("d{directory}"));
        fs::create_dir(&path)?;
        for file in 0..FILES_PER_DIRECTORY.min(files - directory * FILES_PER_DIRECTORY) {
            File::create(path.join(format!("f{file}")))?;
        }
    }
    let root = mount.path().to_owned();
    let server = mount.server().context("there is a server")?;
    let before = server.descriptors();
    let (peak, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let found = thread::scope(|scope| {
        let walker = scope.spawn(|| {
            let found = count(&root);
            done.store(true, Ordering::Relaxed);
            found
        });
        while !done.load(Ordering::Relaxed) && !walker.is_finished() {
            peak.fetch_max(server.descriptors(), Ordering::Relaxed);
            thread::yield_now();
        }
        walker.join().expect("no panic")
    })?;
    ensure!(found == files, "found {found} of {files} files");
    let peak = peak.into_inner();
    ensure!((peak as u64) < OPEN_FILES, "{peak} descriptors");
    let resident = server.status("VmRSS:").context("the server runs")? * 1024;
    let bound = BYTES_AT_REST + files as u64 * BYTES_PER_FILE;
    println!(
        "walk of {files} files: at most {peak} descriptors ({before} before), {} MiB resident",
        resident >> 20
    );
    ensure!(
        resident < bound,
        "{} MiB resident, bound {} MiB",
        resident >> 20,
        bound >> 20
    );
    // The kernel forgets: the descriptors are given back.
    let back = wait::until(Duration::from_secs(10), || {
        kernel::drop_caches();
        server.descriptors() <= before + 16
    });
    ensure!(
        back,
        "{} descriptors after the kernel forgot everything, {before} before",
        server.descriptors()
    );
    mount.close()
}

fn count(directory: &Path) -> Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let stat = fs::symlink_metadata(entry.path())
            .with_context(|| entry.path().display().to_string())?;
        found += if stat.is_dir() {
            count(&entry.path())?
        } else {
            1
        };
    }
    Ok(found)
}

/// More open files than the server may have gives an error, and afterwards everything works.
fn many_open_files() -> Result<()> {
    if peer() == Peer::Bind {
        return Err(Skip::new("a bind mount has no server").into());
    }
    let setup = Setup {
        open_files: Some(OPEN_FILES),
        ..Setup::default()
    };
    let mount = Mount::with(Kind::Ext4, &setup)?;
    for file in 0..1500 {
        fs::write(mount.host(format!("f{file}")), file.to_string())?;
    }
    let mut open = Vec::new();
    let mut refused = 0;
    for file in 0..1500 {
        match File::open(mount.at(format!("f{file}"))) {
            Ok(file) => open.push(file),
            Err(error) => {
                ensure!(
                    matches!(error.raw_os_error(), Some(libc::ENFILE | libc::EMFILE)),
                    "{error}"
                );
                refused += 1;
            }
        }
    }
    // Names and attributes need no descriptor each.
    let stat = fs::metadata(mount.at("f1499"));
    drop(open);
    stat.with_context(|| format!("stat while {refused} files could not be opened"))?;
    let works = wait::until(wait::LONG, || {
        fs::read(mount.at("f1499")).is_ok_and(|text| text == b"1499")
    });
    ensure!(works, "files cannot be opened after others were closed");
    mount.close()
}

/// A file the host deletes must not stay, with the space it takes, because the view has shown it once.
fn deleted_on_host() -> Result<()> {
    if peer() == Peer::Bind {
        return Err(Skip::new("a bind mount has no server").into());
    }
    if !kernel::is_at_least(6, 18) {
        return Err(Skip::new("letting go of what the host deletes needs Linux 6.18").into());
    }
    let setup = Setup {
        open_files: Some(OPEN_FILES),
        ..Setup::default()
    };
    let mut mount = Mount::with(Kind::Ext4, &setup)?;
    let before = mount.server().context("there is a server")?.descriptors();
    for round in 0..4 {
        let directory = format!("d{round}");
        fs::create_dir(mount.host(&directory))?;
        for file in 0..1000 {
            fs::write(mount.host(&directory).join(format!("f{file}")), "text")?;
        }
        for file in 0..1000 {
            let path = mount.at(&directory).join(format!("f{file}"));
            ensure!(fs::read(&path).with_context(|| path.display().to_string())? == b"text");
        }
        fs::remove_dir_all(mount.host(&directory))?;
    }
    let server = mount.server().context("there is a server")?;
    // The directory of the server's descriptors names those of deleted files.
    let held = || {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", server.pid())) else {
            return 0;
        };
        let targets = entries
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok());
        targets
            .filter(|target| {
                target
                    .as_os_str()
                    .as_encoded_bytes()
                    .ends_with(b" (deleted)")
            })
            .count()
    };
    let let_go = wait::until(Duration::from_secs(10), || held() <= 16);
    ensure!(
        let_go,
        "{} deleted files are still held open ({before} descriptors at first)",
        held()
    );
    mount.close()
}
