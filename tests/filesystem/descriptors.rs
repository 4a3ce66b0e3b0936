//! Open files leave the server the descriptors it needs for anything else.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, XattrFlags, fcntl_lock, flock, getxattr, listxattr, setxattr};
use rustix::io::Errno;

use crate::support::backing::Kind;
use crate::support::mount::Mount;
use crate::support::runner::{Skip, Suite};
use crate::support::server::{Peer, Setup, peer};
use crate::support::wait;

/// The limit on open files the server must live with.
const OPEN_FILES: u64 = 1024;
/// More than it can have open.
const FILES: usize = 1100;
/// Who uses everything at the same time.
const THREADS: usize = 8;
/// Files each of them has for itself.
const OWN: usize = 40;
/// Directories each of them lists, and what is in one: more than an answer to READDIR holds.
const LISTED: usize = 8;
const ENTRIES: usize = 300;

pub fn add(suite: &mut Suite) {
    for kind in [Kind::Ext4, Kind::Overlay] {
        suite.test(
            format!("all_works_while_no_more_files_can_be_opened_{kind}"),
            move || all_works(kind),
        );
    }
    suite.test("locks_that_cannot_be_kept_are_refused", locks);
}

fn setup() -> Result<Setup> {
    if peer() != Peer::Cntr {
        return Err(Skip::new("it is about the server").into());
    }
    Ok(Setup {
        open_files: Some(OPEN_FILES),
        ..Setup::default()
    })
}

fn is_refusal(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENFILE | libc::EMFILE))
}

/// Opens files of `directory` for writing, which takes a descriptor of the server each, until one is refused.
fn open_all(mount: &Mount, directory: &str) -> Result<Vec<File>> {
    let mut open = Vec::new();
    for file in 0..FILES {
        let path = mount.at(directory).join(format!("f{file}"));
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => open.push(file),
            Err(error) if is_refusal(&error) => return Ok(open),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    anyhow::bail!("{FILES} files are open with {OPEN_FILES} descriptors");
}

fn make_files(mount: &Mount, directory: &str) -> Result<()> {
    fs::create_dir(mount.host(directory))?;
    for file in 0..FILES {
        let path = mount.host(directory).join(format!("f{file}"));
        fs::write(path, file.to_string())?;
    }
    Ok(())
}

/// What each thread has for itself, made on the host: the kernel knows none of it.
fn make_own(directory: &Path) -> Result<()> {
    for file in 0..OWN {
        let path = directory.join(format!("f{file}"));
        fs::create_dir_all(directory)?;
        fs::write(&path, "text")?;
        setxattr(&path, "user.test", b"value", XattrFlags::empty())?;
    }
    for listed in 0..LISTED {
        let path = directory.join(format!("d{listed}"));
        fs::create_dir(&path)?;
        for entry in 0..ENTRIES {
            fs::write(path.join(format!("entry-with-a-long-name-{entry:040}")), "")?;
        }
    }
    Ok(())
}

/// Everything that can be done to the file `name` without opening it.
fn use_by_name(directory: &Path, name: &str) -> Result<()> {
    let path = directory.join(name);
    ensure!(fs::metadata(&path).context("stat")?.len() == 4);
    let mut value = [0; 16];
    let len = getxattr(&path, "user.test", &mut value).context("getxattr")?;
    ensure!(&value[..len] == b"value");
    listxattr(&path, &mut [0; 256]).context("listxattr")?;
    setxattr(&path, "user.test", b"other", XattrFlags::empty()).context("setxattr")?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).context("chmod")?;
    nix::unistd::truncate(&path, 2).context("truncate")?;
    rustix::fs::statvfs(&path).context("statvfs")?;
    let (moved, linked) = (path.with_extension("moved"), path.with_extension("link"));
    fs::rename(&path, &moved).context("rename")?;
    fs::hard_link(&moved, &linked).context("link")?;
    fs::remove_file(&moved).context("unlink")?;
    symlink("target", &moved).context("symlink")?;
    ensure!(fs::read_link(&moved).context("readlink")? == Path::new("target"));
    fs::rename(&linked, &moved).context("rename over")?;
    fs::create_dir(&path).context("mkdir")?;
    fs::remove_dir(&path).context("rmdir")?;
    ensure!(fs::metadata(&moved).context("stat of the renamed")?.len() == 2);
    fs::remove_file(&moved).context("unlink of the last name")
}

fn list(directory: &Path) -> Result<()> {
    let mut found = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry.context("readdir")?;
        entry.metadata().context("stat of an entry")?;
        found += 1;
    }
    ensure!(found == ENTRIES, "{found} entries");
    Ok(())
}

/// Everything that can be done to an open file, which then loses its name.
fn use_open(path: &Path, file: &File) -> Result<()> {
    ensure!(fs::metadata(path).context("stat")?.nlink() == 1);
    fs::remove_file(path).context("unlink of an open file")?;
    ensure!(file.metadata().context("fstat")?.nlink() == 0);
    file.write_all_at(b"written", 0).context("write")?;
    let mut bytes = [0; 7];
    file.read_exact_at(&mut bytes, 0).context("read")?;
    ensure!(&bytes == b"written");
    file.set_len(3).context("ftruncate")?;
    file.set_permissions(PermissionsExt::from_mode(0o600))
        .context("fchmod")?;
    file.sync_all().context("fsync")?;
    ensure!(file.metadata().context("fstat")?.len() == 3);
    Ok(())
}

fn all_works(kind: Kind) -> Result<()> {
    let mut mount = Mount::with(kind, &setup()?)?;
    for directory in ["open", "again"] {
        make_files(&mount, directory)?;
    }
    for thread in 0..THREADS {
        make_own(&mount.host(format!("t{thread}")))?;
    }
    // Some are opened for reading only, which may take no descriptor.
    let readers: Vec<_> = (0..FILES / 10)
        .map(|file| File::open(mount.at("again").join(format!("f{file}"))))
        .collect::<Result<_, _>>()?;
    let open = open_all(&mount, "open")?;
    let server = mount.server().context("there is a server")?;
    println!(
        "{kind}: {} files and {} for reading are open, {} descriptors",
        open.len(),
        readers.len(),
        server.descriptors()
    );
    ensure!(open.len() > OPEN_FILES as usize / 4);
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let (mount, open, done) = (&mount, &open, &done);
        let users: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn(move || -> Result<()> {
                    let own = mount.at(format!("t{thread}"));
                    for file in 0..OWN {
                        use_by_name(&own, &format!("f{file}"))
                            .with_context(|| format!("t{thread}/f{file}"))?;
                        list(&own.join(format!("d{}", file % LISTED)))
                            .with_context(|| format!("t{thread}/d{}", file % LISTED))?;
                    }
                    for (number, file) in open.iter().enumerate().skip(thread).step_by(THREADS) {
                        let path = mount.at("open").join(format!("f{number}"));
                        use_open(&path, file).with_context(|| path.display().to_string())?;
                    }
                    Ok(())
                })
            })
            .collect();
        // Meanwhile others want to open more.
        let greedy = scope.spawn(move || -> Result<()> {
            let mut more = Vec::new();
            while !done.load(Ordering::Relaxed) {
                match File::create(mount.at("again").join(format!("new{}", more.len()))) {
                    Ok(file) => more.push(file),
                    Err(error) => ensure!(is_refusal(&error), "{error}"),
                }
            }
            Ok(())
        });
        let used = users
            .into_iter()
            .map(|user| user.join().expect("no panic"))
            .collect::<Result<Vec<()>>>();
        done.store(true, Ordering::Relaxed);
        let greedy = greedy.join().expect("no panic");
        used.and(greedy)
    })?;
    // None of them is in the way any more once they are closed.
    let before = open.len();
    drop((open, readers));
    let mut now = 0;
    let again = wait::until(wait::LONG, || {
        now = open_all(&mount, "again").map_or(0, |open| open.len());
        now >= before
    });
    ensure!(
        again,
        "{now} files can be opened after {before} were closed"
    );
    mount.close()
}

/// A lock needs an open file of its own. One that cannot be had must not look granted.
fn locks() -> Result<()> {
    let exclusive = FlockOperation::NonBlockingLockExclusive;
    let mount = Mount::with(Kind::Ext4, &setup()?)?;
    make_files(&mount, "open")?;
    let last = format!("open/f{}", FILES - 1);
    let reader = File::open(mount.at(&last))?;
    let open = open_all(&mount, "open")?;
    // An open may need two descriptors, and one be left that is enough for a lock.
    let refused = open
        .iter()
        .take(3)
        .find_map(|file| fcntl_lock(file, exclusive).err());
    ensure!(refused == Some(Errno::NOLCK), "{refused:?}");
    let taken = flock(&reader, exclusive);
    let seen = flock(File::open(mount.host(&last))?, exclusive);
    match taken {
        // The server had it open for that already.
        Ok(()) => ensure!(seen.is_err(), "the host does not see the lock"),
        Err(errno) => {
            ensure!(errno == Errno::NOLCK, "{errno}");
            ensure!(seen.is_ok(), "it was refused, and taken");
        }
    }
    // This needs no descriptor for long.
    reader.sync_all().context("fsync")?;
    drop(open);
    let works = wait::until(wait::LONG, || {
        let path = mount.at("open/f0");
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.is_ok_and(|file| fcntl_lock(&file, exclusive).is_ok())
    });
    ensure!(works, "nothing can be locked after files were closed");
    drop(reader);
    mount.close()
}
