//! Contents of files.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::thread;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, SeekFrom};

use crate::support::backing::Kind;
use crate::support::kernel;
use crate::support::mapping::Mapping;
use crate::support::mount::Mount;
use crate::support::runner::Suite;

pub fn add(suite: &mut Suite) {
    suite.test("short_direct_read", short_direct_read);
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs, Kind::Tmpfs] {
        suite.test(format!("holes_{kind}"), move || holes(kind));
        suite.test(format!("mapped_write_reaches_the_host_{kind}"), move || {
            mapped_write(kind)
        });
        suite.test(format!("copy_file_range_{kind}"), move || copy_range(kind));
    }
    suite.test("append_from_both_sides", append_from_both_sides);
    suite.test("host_write_is_read_after_open", host_write);
    suite.test("open_truncates", open_truncates);
    suite.test("large_file", large_file);
    suite.test("fsync_and_fdatasync", syncs);
}

fn short_direct_read() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let text = b"twenty-five bytes of text";
    fs::write(mount.at("short"), text)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(mount.at("short"))?;
    let mut buffer = vec![0xaa; 8192];
    let skip = buffer.as_ptr().align_offset(4096);
    let got = file
        .read_at(&mut buffer[skip..skip + 4096], 0)
        .context("O_DIRECT read")?;
    ensure!(got == 25, "read {got} bytes of 25");
    ensure!(&buffer[skip..skip + 25] == text);
    ensure!(file.read_at(&mut buffer[skip..skip + 4096], 4096)? == 0);
    drop(file);
    mount.close()
}

fn holes(kind: Kind) -> Result<()> {
    const MIB: u64 = 1 << 20;
    let mount = Mount::new(kind, &[])?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.at("sparse"))?;
    file.write_all_at(&[1; 4096], 4 * MIB)?;
    file.set_len(8 * MIB)?;
    file.sync_all()?;
    ensure!(
        rustix::fs::seek(&file, SeekFrom::Data(0))? == 4 * MIB,
        "SEEK_DATA"
    );
    ensure!(
        rustix::fs::seek(&file, SeekFrom::Hole(4 * MIB))? < 5 * MIB,
        "SEEK_HOLE"
    );
    ensure!(
        rustix::fs::seek(&file, SeekFrom::Data(5 * MIB)) == Err(rustix::io::Errno::NXIO),
        "SEEK_DATA in the last hole"
    );
    let stat = file.metadata()?;
    ensure!(
        stat.len() == 8 * MIB && stat.blocks() * 512 < MIB,
        "{} blocks",
        stat.blocks()
    );
    rustix::fs::fallocate(
        &file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        4 * MIB,
        4096,
    )?;
    let mut buffer = [1; 16];
    file.read_exact_at(&mut buffer, 4 * MIB)?;
    ensure!(buffer == [0; 16], "the punched hole is not zero");
    rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 8 * MIB, MIB)?;
    ensure!(
        file.metadata()?.len() == 8 * MIB,
        "KEEP_SIZE changed the size"
    );
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 8 * MIB, 100)?;
    ensure!(file.metadata()?.len() == 8 * MIB + 100);
    ensure!(fs::metadata(mount.host("sparse"))?.len() == 8 * MIB + 100);
    drop(file);
    mount.close()
}

fn mapped_write(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    fs::write(mount.at("mapped"), vec![b'.'; 10_000])?;
    let before = fs::metadata(mount.at("mapped"))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(mount.at("mapped"))?;
    let mut mapping = Mapping::shared(file.as_fd(), 0, 10_000, true).context("mmap(MAP_SHARED)")?;
    mapping.write(5000, b"mapped");
    mapping.sync()?;
    ensure!(
        &fs::read(mount.host("mapped"))?[4999..5007] == b".mapped.",
        "the host does not see it"
    );
    let mut text = [0; 6];
    file.read_exact_at(&mut text, 5000)?;
    ensure!(&text == b"mapped", "read(2) does not see it");
    let after = fs::metadata(mount.at("mapped"))?;
    let moment = |stat: &fs::Metadata| (stat.mtime(), stat.mtime_nsec());
    ensure!(moment(&after) > moment(&before), "mtime did not move");
    ensure!(
        moment(&after) == moment(&fs::metadata(mount.host("mapped"))?),
        "mtime is not the host's"
    );
    // The other way: what the host writes is in the mapping.
    File::options()
        .write(true)
        .open(mount.host("mapped"))?
        .write_all_at(b"host", 100)?;
    drop(mapping);
    let fresh = Mapping::shared(File::open(mount.at("mapped"))?.as_fd(), 0, 10_000, false)?;
    let mut text = [0; 4];
    fresh.read(100, &mut text);
    ensure!(
        &text == b"host",
        "a new mapping does not show what the host wrote"
    );
    drop((fresh, file));
    mount.close()
}

fn copy_range(kind: Kind) -> Result<()> {
    let mount = Mount::new(kind, &[])?;
    let data: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
    fs::write(mount.at("from"), &data)?;
    let from = File::open(mount.at("from"))?;
    let to = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.at("to"))?;
    let (mut at, mut into) = (1000, 50);
    let mut left = 200_000;
    while left > 0 {
        let copied = rustix::fs::copy_file_range(&from, Some(&mut at), &to, Some(&mut into), left)?;
        ensure!(copied > 0, "nothing copied");
        left -= copied;
    }
    ensure!(fs::read(mount.host("to"))?[50..] == data[1000..201_000]);
    drop((from, to));
    mount.close()
}

fn append_from_both_sides() -> Result<()> {
    const LINES: usize = 1000;
    kernel::need("appending past the page cache", (6, 6))?;
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.host("log"), "")?;
    let sides = [
        mount.at("log"),
        mount.host("log"),
        mount.at("log"),
        mount.host("log"),
    ];
    thread::scope(|scope| {
        let threads: Vec<_> = sides
            .iter()
            .enumerate()
            .map(|(side, path)| {
                scope.spawn(move || -> Result<()> {
                    let mut file = OpenOptions::new().append(true).open(path)?;
                    for line in 0..LINES {
                        file.write_all(format!("side {side} line {line}\n").as_bytes())?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    for path in [mount.host("log"), mount.at("log")] {
        let text = fs::read_to_string(path)?;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let mut expected: Vec<String> = (0..4)
            .flat_map(|side| (0..LINES).map(move |line| format!("side {side} line {line}")))
            .collect();
        expected.sort_unstable();
        ensure!(
            lines == expected,
            "{} of {} lines, or torn ones",
            lines.len(),
            expected.len()
        );
    }
    mount.close()
}

fn host_write() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.at("file"), "view")?;
    for round in 0..100 {
        let text = format!("host {round:04}");
        fs::write(mount.host("file"), &text)?;
        let seen = crate::support::wait::until(std::time::Duration::from_secs(2), || {
            fs::read(mount.at("file")).is_ok_and(|got| got == text.as_bytes())
        });
        ensure!(seen, "{text} is not seen");
    }
    mount.close()
}

fn open_truncates() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    fs::write(mount.at("file"), "something long")?;
    drop(
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(mount.at("file"))?,
    );
    ensure!(
        fs::metadata(mount.at("file"))?.len() == 0 && fs::metadata(mount.host("file"))?.len() == 0
    );
    mount.close()
}

fn large_file() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let block: Vec<u8> = (0..1_000_003_u32).map(|i| (i % 251) as u8).collect();
    let mut file = File::create(mount.at("large"))?;
    for _ in 0..40 {
        file.write_all(&block)?;
    }
    drop(file);
    let got = fs::read(mount.at("large"))?;
    ensure!(got.len() == 40 * block.len() && got.chunks(block.len()).all(|chunk| chunk == block));
    ensure!(fs::read(mount.host("large"))? == got);
    mount.close()
}

fn syncs() -> Result<()> {
    let mount = Mount::new(Kind::Ext4, &[])?;
    let mut file = File::create(mount.at("file"))?;
    file.write_all(b"text")?;
    file.sync_data()?;
    file.sync_all()?;
    File::open(mount.path())?
        .sync_all()
        .context("fsync of a directory")?;
    rustix::fs::syncfs(&file).context("syncfs")?;
    drop(file);
    mount.close()
}
