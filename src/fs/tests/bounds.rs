//! Descriptors, memory and mounts are given back; inodes are found again without their descriptors.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::mount::{MntFlags, umount2};

use super::*;
use crate::engine::Errno;

const DIRS: usize = 40;
const FILES: usize = 50;

fn walk_with_few_descriptors(served: &Served) {
    for dir in 0..DIRS {
        fs::create_dir(served.host(&format!("d{dir}"))).unwrap();
        for file in 0..FILES {
            fs::write(served.host(&format!("d{dir}/f{file}")), "").unwrap();
        }
    }
    let mut known: HashMap<String, NodeId> = HashMap::new();
    for dir in 0..DIRS {
        let parent = format!("d{dir}");
        known.insert(parent.clone(), served.node(&parent));
        for file in 0..FILES {
            let name = format!("d{dir}/f{file}");
            known.insert(name.clone(), served.node(&name));
            let held = served.fs.statistics().descriptors;
            assert!(held <= 24, "{held} descriptors");
        }
    }
    assert_eq!(served.fs.statistics().inodes as usize, DIRS * (FILES + 1));
    for (name, &node) in &known {
        let attr = served.fs.getattr(&served.cx(), node, None).unwrap().attr;
        assert_eq!(
            attr.ino,
            fs::metadata(served.host(name)).unwrap().ino(),
            "{name}"
        );
        assert_eq!(served.node(name), node, "{name}: looked up again");
        served.fs.forget(node, 1);
    }
    // What was only known by name is found after its name, or that of its directory, has changed or gone.
    let (cx, name) = (served.cx(), |name: &'static str| OsStr::new(name));
    served
        .fs
        .rename(
            &cx,
            (NodeId::ROOT, name("d0")),
            (NodeId::ROOT, name("moved")),
            0,
        )
        .unwrap();
    served
        .fs
        .rename(
            &cx,
            (known["d1"], name("f0")),
            (known["d2"], name("new")),
            0,
        )
        .unwrap();
    served
        .fs
        .rename(&cx, (known["d3"], name("f0")), (known["d3"], name("f1")), 0)
        .unwrap();
    let exchange = libc::RENAME_EXCHANGE;
    served
        .fs
        .rename(
            &cx,
            (known["d4"], name("f0")),
            (known["d5"], name("f1")),
            exchange,
        )
        .unwrap();
    served.fs.unlink(&cx, known["d6"], name("f0")).unwrap();
    for (name, &node) in &known {
        let attr = served
            .fs
            .getattr(&cx, node, None)
            .map(|attributes| attributes.attr);
        let gone = ["d3/f1", "d6/f0"].contains(&name.as_str());
        let links = attr.map(|attr| attr.nlink);
        assert_eq!(links.map(|links| links == 0), Ok(gone), "{name}");
    }
    for &node in known.values() {
        served.fs.forget(node, 1);
    }
    let statistics = served.fs.statistics();
    assert_eq!((statistics.inodes, statistics.handles), (0, 0));
    assert_eq!(statistics.descriptors, 1, "the root's");
}

fn few(options: &mut Options) {
    options.descriptor_budget = Some(16);
}

#[test]
fn sixteen_descriptors_are_enough_by_handle() {
    if not_root() {
        return;
    }
    walk_with_few_descriptors(&Served::new(tempfile::tempdir().unwrap(), few));
}

#[test]
fn sixteen_descriptors_are_enough_on_tmpfs() {
    if not_root() {
        return;
    }
    private_mounts();
    let dir = tempfile::tempdir().unwrap();
    mount_tmpfs(dir.path());
    walk_with_few_descriptors(&Served::over(dir.path(), few));
}

#[test]
fn sixteen_descriptors_are_enough_by_name() {
    if not_root() {
        return;
    }
    private_mounts();
    let dir = tempfile::tempdir().unwrap();
    mount_tmpfs(dir.path());
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off",
        path("lower"),
        path("upper"),
        path("work")
    );
    let merged = dir.path().join("merged");
    if let Err(error) = mount(
        Some("test"),
        &merged,
        Some("overlay"),
        MsFlags::empty(),
        Some(&*options),
    ) {
        eprintln!("skipped: cannot mount an overlay: {error}");
        return;
    }
    let served = Served::over(&merged, few);
    assert!(
        !served.fs.root.mount.has_handles(),
        "overlay without nfs_export has no handles to open"
    );
    walk_with_few_descriptors(&served);
}

#[test]
fn a_reused_number_is_another_inode() {
    if not_root() {
        return;
    }
    let served = Served::new(tempfile::tempdir().unwrap(), |options| {
        options.descriptor_budget = Some(0)
    });
    fs::write(served.host("old"), "").unwrap();
    let old = served.lookup("old").unwrap();
    // Pushes out the descriptor of the first.
    fs::write(served.host("other"), "").unwrap();
    let other = served.node("other");
    served.fs.forget(other, 1);
    for round in 0..200 {
        let name = format!("new{round}");
        let _ = fs::remove_file(served.host("old"));
        fs::write(served.host(&name), "").unwrap();
        let new = served.lookup(&name).unwrap();
        assert_ne!(new.node, old.node);
        if new.attr.ino == old.attr.ino {
            let stale = served.fs.getattr(&served.cx(), old.node, None);
            assert_eq!(
                stale.map(|attributes| attributes.attr.ino),
                Err(Errno::ESTALE)
            );
            return;
        }
    }
    eprintln!("skipped: the file system did not reuse the inode number");
}

#[test]
fn a_visited_mount_can_be_unmounted_when_it_is_forgotten() {
    if not_root() {
        return;
    }
    private_mounts();
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    fs::create_dir(served.host("sub")).unwrap();
    mount_tmpfs(&served.host("sub"));
    fs::write(served.host("sub/file"), "x").unwrap();
    let (dir, file) = (
        served.lookup("sub").unwrap(),
        served.lookup("sub/file").unwrap(),
    );
    let inner = fs::metadata(served.host("sub")).unwrap();
    assert_ne!(
        dir.attr.ino,
        inner.ino(),
        "numbers of another device are made different"
    );
    assert_eq!(
        served
            .fs
            .numbers
            .present(served.fs.root.key.dev, inner.ino()),
        inner.ino()
    );
    let unmount = || umount2(&served.host("sub"), MntFlags::empty());
    assert_eq!(unmount(), Err(nix::errno::Errno::EBUSY));
    served.fs.forget(dir.node, 1);
    assert_eq!(unmount(), Err(nix::errno::Errno::EBUSY));
    served.fs.forget(file.node, 1);
    assert_eq!(unmount(), Ok(()));
}

#[test]
fn inode_numbers_are_the_same_in_every_session() {
    if not_root() {
        return;
    }
    private_mounts();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    mount_tmpfs(&dir.path().join("sub"));
    fs::write(dir.path().join("sub/file"), "x").unwrap();
    let number = || {
        Served::over(dir.path(), |_| ())
            .lookup("sub/file")
            .unwrap()
            .attr
            .ino
    };
    assert_eq!(number(), number());
}

#[test]
fn lookups_and_forgets_of_many_threads_add_up() {
    let served = Served::new(tempfile::tempdir().unwrap(), |options| {
        options.descriptor_budget = Some(8)
    });
    for file in 0..20 {
        fs::write(served.host(&format!("f{file}")), "").unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let served = &served;
            scope.spawn(move || {
                for round in 0..2000 {
                    let entry = served
                        .lookup(&format!("f{}", (round * 7 + thread * 3) % 20))
                        .unwrap();
                    served.fs.getattr(&served.cx(), entry.node, None).unwrap();
                    served.fs.forget(entry.node, 1);
                }
            });
        }
    });
    let statistics = served.fs.statistics();
    assert_eq!((statistics.inodes, statistics.descriptors), (0, 1));
}

#[test]
fn an_inode_is_as_small_as_stated() {
    let inode = size_of::<Inode>() + 2 * size_of::<usize>();
    assert!(inode <= 208, "{inode} bytes");
}
