//! What the host changes, and what the kernel would be told of it.

use std::fs;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::*;
use crate::engine::TRUST;
use crate::fs::attr::attr_ttl;
use crate::fs::inode::Key;
use crate::fs::lookup::Node;
use crate::fs::watch::Shown;
use crate::fs::watch::numbers::Numbers;
use crate::fs::watch::resolve::Resolver;
use crate::sys::fanotify::{Events, Group, Happened, Queue, Renames, Report, file_system_id};
use crate::sys::{clock, stat};

type Told = (NodeId, Option<i64>, Option<std::ffi::OsString>);

/// Waits until the kernel was told what `condition` wants; gives everything it was told.
fn told(detached: &Detached, condition: impl Fn(&[Told]) -> bool) -> Vec<Told> {
    let end = Instant::now() + Duration::from_secs(20);
    let mut told = Vec::new();
    while !condition(&told) {
        assert!(Instant::now() < end, "the kernel is only told {told:?}");
        told.extend(detached.notifier().take_queued());
        std::thread::sleep(Duration::from_millis(1));
    }
    told
}

/// A tmpfs of its own with a watch that listens.
fn watched(dir: &TempDir) -> Served {
    private_mounts();
    mount_tmpfs(dir.path());
    let served = Served::over(dir.path(), |_| ());
    let (negotiated, notifier) = (served.detached.negotiated(), served.detached.notifier());
    served.fs.init(negotiated, notifier);
    let up = Instant::now() + Duration::from_secs(20);
    while served.fs.statistics().covered_mounts == 0 {
        assert!(Instant::now() < up, "the tmpfs is not covered");
        std::thread::sleep(Duration::from_millis(1));
    }
    served
}

#[test]
fn covered_answers_live_long_and_changes_are_told() {
    if not_root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let served = watched(&dir);
    fs::write(served.host("file"), "text").unwrap();
    // The events of that may still be on their way.
    let lasting = || {
        let entry = served.lookup("file").unwrap();
        let lasts = entry.entry_ttl > Duration::from_secs(60) && entry.attr_ttl == entry.entry_ttl;
        served.fs.forget(entry.node, 1);
        lasts
    };
    let end = Instant::now() + Duration::from_secs(20);
    while !lasting() {
        assert!(Instant::now() < end, "no answer lives long");
    }
    let file = served.node("file");
    served.detached.notifier().take_queued();
    fs::write(served.host("file"), "changed").unwrap();
    told(&served.detached, |told| {
        told.contains(&(file, Some(0), None))
    });
    fs::rename(served.host("file"), served.host("other")).unwrap();
    told(&served.detached, |told| {
        let name = |name: &str| told.contains(&(NodeId::ROOT, None, Some(name.into())));
        name("file") && name("other") && told.contains(&(NodeId::ROOT, Some(0), None))
    });
    // The kernel knows what it has asked for itself. What it asked for less than a second ago is told once more.
    std::thread::sleep(TRUST + Duration::from_millis(200));
    served.detached.notifier().take_queued();
    let (done, over) = (Barrier::new(2), Barrier::new(2));
    let told = std::thread::scope(|scope| {
        scope.spawn(|| {
            served.fs.enter_thread().unwrap();
            let events = served.fs.statistics().events;
            served
                .fs
                .unlink(&served.cx(), NodeId::ROOT, OsStr::new("other"))
                .unwrap();
            // In one round with what the host does next to the same directory it would be told as well.
            let end = Instant::now() + Duration::from_secs(20);
            while served.fs.statistics().events == events {
                assert!(Instant::now() < end, "the watch hears nothing");
                std::thread::sleep(Duration::from_millis(1));
            }
            done.wait();
            // What a thread did is nobody's once it has ended.
            over.wait();
        });
        done.wait();
        fs::write(served.host("marker"), "").unwrap();
        let told = told(&served.detached, |told| {
            told.contains(&(NodeId::ROOT, None, Some("marker".into())))
        });
        over.wait();
        told
    });
    assert!(
        !told.contains(&(NodeId::ROOT, None, Some("other".into()))),
        "{told:?}"
    );
    served.fs.destroy();
    assert_eq!(served.fs.statistics().covered_mounts, 0);
    served.fs.forget(file, 1);
}

#[test]
fn an_answer_that_is_overtaken_does_not_live() {
    if not_root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let served = watched(&dir);
    let Node::Host(root) = served.fs.node(NodeId::ROOT).unwrap() else {
        panic!("the root is the host's");
    };
    let asked = clock::now();
    fs::write(served.host("file"), "").unwrap();
    told(&served.detached, |told| !told.is_empty());
    assert_eq!(served.fs.ttl(&root, asked), Duration::ZERO);
    assert_eq!(
        served.fs.ttl(&root, asked.saturating_sub(10_000_000_000)),
        Duration::ZERO
    );
    served.fs.destroy();
}

#[test]
fn a_file_that_is_open_for_writing_is_looked_at_often() {
    if not_root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let served = watched(&dir);
    fs::write(served.host("file"), "").unwrap();
    let file = served.node("file");
    let Node::Host(inode) = served.fs.node(file).unwrap() else {
        panic!("the file is the host's");
    };
    let opened = served
        .fs
        .open(&served.cx(), file, libc::O_RDWR as u32, false)
        .unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert!(attr_ttl(&inode, served.fs.ttl(&inode, clock::now())) <= Duration::from_millis(20));
    served.detached.notifier().take_queued();
    served.fs.release(file, opened.fh, None);
    told(&served.detached, |told| {
        told.contains(&(file, Some(-1), None))
    });
    assert!(attr_ttl(&inode, served.fs.ttl(&inode, clock::now())) > Duration::from_secs(60));
    served.fs.destroy();
}

#[test]
fn after_lost_events_everything_is_stale() {
    if not_root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    private_mounts();
    mount_tmpfs(dir.path());
    let mut served = Served::over(dir.path(), |_| ());
    // As the file system does, but with a queue that can overflow, and which nobody reads at first.
    let watch = Watch::new(Queue::Limited, Duration::ZERO, None);
    let mounts = Mounts::new(Arc::clone(&watch));
    let root = open_root(dir.path());
    let seen = stat::of(&root).unwrap();
    let mount = mounts.of(&root, &seen, |fd, flags| {
        let flags = nix::fcntl::OFlag::from_bits_truncate(flags);
        Ok(served
            .fs
            .descriptors
            .reopen(std::os::fd::AsFd::as_fd(fd), flags)?)
    });
    let ways = Ways {
        fd: Some(served.fs.descriptors.hold(root)),
        ..Ways::default()
    };
    served.fs.root = Arc::new(lookup::new_inode(
        NodeId::ROOT,
        &seen,
        mount.unwrap(),
        0,
        ways,
    ));
    served.fs.mounts = mounts;
    served.fs.watch = watch;
    fs::write(served.host("file"), "").unwrap();
    let file = served.node("file");
    assert!(served.fs.watch.listen(), "events are not reported");
    let limit = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap();
    for number in 0..=limit.trim().parse::<u32>().unwrap() {
        fs::File::create(served.host(&format!("flood-{number}"))).unwrap();
    }
    served
        .fs
        .init(served.detached.negotiated(), served.detached.notifier());
    told(&served.detached, |told| {
        told.contains(&(file, Some(0), None))
            && told.contains(&(NodeId::ROOT, Some(0), None))
            && told.contains(&(NodeId::ROOT, None, Some("file".into())))
            && told.contains(&(file, None, None))
    });
    assert!(served.fs.statistics().overflows > 0);
    // It goes on listening.
    fs::write(served.host("after"), "").unwrap();
    told(&served.detached, |told| {
        told.contains(&(NodeId::ROOT, None, Some("after".into())))
    });
    served.fs.destroy();
}

#[test]
fn a_new_file_is_known_by_what_events_call_it() {
    if not_root() {
        return;
    }
    private_mounts();
    let dir = TempDir::new().unwrap();
    mount_tmpfs(dir.path());
    let served = Served::over(dir.path(), |_| ());
    let group = match Group::new(Report::Inodes, Renames::Parts, Queue::default()) {
        Ok(group) => group,
        Err(error) => return eprintln!("skipped: no fanotify: {error}"),
    };
    let top = File::open(dir.path()).unwrap();
    group.mark(&top).unwrap();
    let (entry, opened) = served
        .fs
        .create(
            &served.cx(),
            NodeId::ROOT,
            OsStr::new("file"),
            libc::O_WRONLY as u32,
            &creation(0o644, 0),
        )
        .unwrap();
    served.fs.release(entry.node, opened.fh, None);
    let Node::Host(inode) = served.fs.node(entry.node).unwrap() else {
        panic!("the file is the host's");
    };
    let mut resolver = Resolver::default();
    resolver.learn(file_system_id(&top).unwrap(), &inode);
    let mut buffer = [0; 4096];
    let len = group.read(&mut buffer).unwrap();
    let closed = Events::new(&buffer[..len])
        .find(|event| event.happened.contains(Happened::CLOSE_WRITE))
        .expect("closing is told");
    let Key { dev, ino, .. } = inode.key;
    // Without a mount it cannot look for itself.
    let file = closed.inode.unwrap();
    let shown = |device, numbers| Shown {
        device,
        numbers,
        mounts: Vec::new(),
    };
    assert_eq!(resolver.find(file, &shown(dev, None)), Some((dev, ino)));
    assert_eq!(resolver.find(file, &shown(dev + 1, None)), None);
    // Nor does it have to where the number is in the handle.
    let mut knows_nothing = Resolver::default();
    let numbers = Some(Numbers::Tmpfs);
    assert_eq!(
        knows_nothing.find(file, &shown(dev, numbers)),
        Some((dev, ino))
    );
    served.fs.forget(entry.node, 1);
}
