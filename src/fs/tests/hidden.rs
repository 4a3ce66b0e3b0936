//! Hidden paths.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::engine::Errno;

fn hiding(paths: &[&str]) -> impl FnOnce(&mut Options) {
    let hidden = paths.iter().map(PathBuf::from).collect();
    |options| options.hidden = hidden
}

/// Has `secret`, `vault/in`, `vault/sub/deep`, `plain/file`.
fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("vault/sub")).unwrap();
    fs::create_dir(dir.path().join("plain")).unwrap();
    for name in ["secret", "vault/in", "vault/sub/deep", "plain/file"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    dir
}

impl Served {
    fn is_there(&self, path: &str) -> bool {
        match self.lookup(path) {
            Ok(entry) => {
                let node = entry.node;
                if node != NodeId(0) {
                    self.fs.forget(node, 1);
                }
                node != NodeId(0)
            }
            Err(Errno::ENOENT) => false,
            Err(errno) => panic!("{path}: {errno:?}"),
        }
    }

    fn sorted(&self, node: NodeId) -> String {
        let mut names = self.names(node);
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names.join(" ")
    }

    /// The names that READDIRPLUS gives.
    fn names_with_attributes(&self, node: NodeId) -> String {
        let opened = self.fs.opendir(&self.cx(), node, 0).unwrap();
        let mut buffer = [0; 4096];
        let mut out = DirentPlusWriter::new(&mut buffer);
        self.fs
            .readdirplus(&self.cx(), node, opened.fh, 0, &mut out)
            .unwrap();
        let len = out.len();
        let mut names = Vec::new();
        for record in fuse_proto::dirent::DirentsPlus::new(&buffer[..len]) {
            if record.entry.nodeid != 0 {
                self.fs.forget(NodeId(record.entry.nodeid), 1);
            }
            let name = String::from_utf8_lossy(record.dirent.name);
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        names.sort();
        self.fs.releasedir(node, opened.fh);
        names.join(" ")
    }
}

#[test]
fn what_is_hidden_is_neither_found_nor_listed() {
    let dir = tree();
    fs::hard_link(dir.path().join("secret"), dir.path().join("plain/hard")).unwrap();
    symlink("/vault", dir.path().join("alias")).unwrap();
    let served = Served::new(dir, hiding(&["/secret", "/vault", "/nothing/yet"]));
    for gone in ["secret", "vault", "plain/hard"] {
        assert!(!served.is_there(gone), "{gone}");
    }
    assert!(served.is_there("plain/file") && served.is_there("alias"));
    assert_eq!(served.sorted(NodeId::ROOT), "alias plain");
    assert_eq!(served.names_with_attributes(NodeId::ROOT), "alias plain");
    assert_eq!(served.sorted(served.node("plain")), "file");
    // Nothing was counted for what was not handed out.
    assert_eq!(served.fs.statistics().inodes, 1);
    fs::create_dir(served.host("nothing")).unwrap();
    fs::write(served.host("nothing/yet"), "").unwrap();
    assert!(!served.is_there("nothing/yet"));
}

#[test]
fn what_a_hidden_link_leads_to_is_hidden() {
    let dir = tree();
    symlink("/plain/file", dir.path().join("link")).unwrap();
    let served = Served::new(dir, hiding(&["/link"]));
    assert!(!served.is_there("link") && !served.is_there("plain/file"));
    // Also another file of that name.
    fs::write(served.host("plain/new"), "").unwrap();
    fs::rename(served.host("plain/new"), served.host("plain/file")).unwrap();
    assert!(!served.is_there("plain/file"));
}

#[test]
fn the_host_cannot_show_it_by_moving_things() {
    let served = Served::new(tree(), hiding(&["/secret", "/vault/sub"]));
    assert!(served.is_there("vault/in"));
    fs::rename(served.host("vault"), served.host("moved")).unwrap();
    assert!(!served.is_there("moved/sub") && served.is_there("moved/in"));
    assert_eq!(served.sorted(served.node("moved")), "in");
    // Another file of the same name: both are hidden.
    fs::write(served.host("other"), "new").unwrap();
    fs::rename(served.host("secret"), served.host("old")).unwrap();
    fs::rename(served.host("other"), served.host("secret")).unwrap();
    assert!(!served.is_there("secret") && !served.is_there("old"));
    fs::hard_link(served.host("secret"), served.host("hard")).unwrap();
    assert!(!served.is_there("hard"));
    // Another directory of the same path.
    fs::create_dir_all(served.host("vault/sub")).unwrap();
    assert!(!served.is_there("vault/sub"));
    assert_eq!(served.sorted(NodeId::ROOT), "moved plain vault");
}

#[test]
fn a_number_that_is_used_again_hides_nothing() {
    let served = Served::new(tree(), hiding(&["/secret"]));
    let number = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = number(&served.host("secret"));
    fs::remove_file(served.host("secret")).unwrap();
    let mut again = 0;
    for name in 0..1000 {
        let path = served.host(&format!("plain/{name}"));
        fs::write(&path, "").unwrap();
        again += u32::from(number(&path) == before);
        assert!(served.is_there(&format!("plain/{name}")), "{name}");
    }
    eprintln!("the number was used again {again} times");
}

#[test]
fn what_is_hidden_cannot_be_made_or_removed() {
    let served = Served::new(tree(), hiding(&["/secret", "/vault"]));
    let (cx, fs) = (served.cx(), &served.fs);
    let (root, plain) = (NodeId::ROOT, served.node("plain"));
    let name = OsStr::new;
    for hidden in ["secret", "vault"] {
        let hidden = name(hidden);
        let made = creation(0o644, 0);
        assert_eq!(
            fs.mkdir(&cx, root, hidden, &made).err(),
            Some(Errno::EACCES)
        );
        assert_eq!(
            fs.mknod(&cx, root, hidden, &creation(libc::S_IFIFO, 0))
                .err(),
            Some(Errno::EACCES)
        );
        assert_eq!(
            fs.symlink(&cx, root, hidden, c"x", &made).err(),
            Some(Errno::EACCES)
        );
        let flags = (libc::O_CREAT | libc::O_RDWR) as u32;
        assert_eq!(
            fs.create(&cx, root, hidden, flags, &made).err(),
            Some(Errno::EACCES)
        );
        assert_eq!(fs.unlink(&cx, root, hidden).err(), Some(Errno::ENOENT));
        assert_eq!(fs.rmdir(&cx, root, hidden).err(), Some(Errno::ENOENT));
        let to = (plain, name("new"));
        assert_eq!(
            fs.rename(&cx, (root, hidden), to, 0).err(),
            Some(Errno::ENOENT)
        );
        for flags in [0, libc::RENAME_EXCHANGE] {
            let from = (plain, name("file"));
            assert_eq!(
                fs.rename(&cx, from, (root, hidden), flags).err(),
                Some(Errno::EACCES)
            );
        }
        let file = served.node("plain/file");
        assert_eq!(fs.link(&cx, file, root, hidden).err(), Some(Errno::EACCES));
    }
    assert_eq!(
        std::fs::read_to_string(served.host("secret")).unwrap(),
        "secret"
    );
    assert!(served.host("vault/in").exists() && served.host("plain/file").exists());
}

#[test]
fn bind_mounts_of_what_is_hidden_are_hidden() {
    if not_root() {
        return;
    }
    let dir = tree();
    let test = move || {
        private_mounts();
        let bind = |from: PathBuf, to: PathBuf| {
            let flags = MsFlags::MS_BIND;
            mount(Some(&from), &to, None::<&str>, flags, None::<&str>).unwrap();
        };
        let served = Served::new(dir, hiding(&["/secret", "/vault"]));
        for name in ["all", "part", "deep", "other", "whole"] {
            fs::create_dir(served.host(name)).unwrap();
        }
        for name in ["file", "inner"] {
            fs::write(served.host(name), "").unwrap();
        }
        bind(served.host("vault"), served.host("all"));
        bind(served.host("vault/sub"), served.host("part"));
        bind(served.host("vault/in"), served.host("inner"));
        bind(served.host("secret"), served.host("file"));
        bind(served.host("plain"), served.host("other"));
        bind(served.path.clone(), served.host("whole"));
        // A bind mount of a bind mount.
        bind(served.host("part"), served.host("deep"));
        for gone in [
            "all",
            "part",
            "deep",
            "inner",
            "file",
            "whole/vault",
            "whole/secret",
        ] {
            assert!(!served.is_there(gone), "{gone}");
        }
        for there in ["other/file", "whole/plain/file"] {
            assert!(served.is_there(there), "{there}");
        }
        assert_eq!(served.sorted(NodeId::ROOT), "other plain whole");
        assert_eq!(
            served.names_with_attributes(NodeId::ROOT),
            "other plain whole"
        );
    };
    std::thread::spawn(test).join().unwrap();
}

/// The limits, as docs/files.md tells them.
#[test]
fn another_name_of_a_file_in_a_hidden_directory_is_another_path() {
    let dir = tree();
    fs::hard_link(dir.path().join("vault/in"), dir.path().join("plain/hard")).unwrap();
    let served = Served::new(dir, hiding(&["/vault"]));
    assert!(served.is_there("plain/hard"));
}

#[test]
fn paths_that_cannot_be_hidden_are_refused() {
    for wrong in ["secret", "/", "/a/../b", ""] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::new(open_root(dir.path()));
        options.hidden = vec![PathBuf::from(wrong)];
        let made = PassthroughFs::new(options);
        assert!(matches!(made, Err(Error::HiddenPath(path)) if path == Path::new(wrong)));
    }
}
