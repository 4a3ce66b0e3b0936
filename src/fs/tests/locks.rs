//! Locks, among callers and with processes of the host.

use std::fs;

use super::*;
use crate::engine::Errno;

fn lock(owner: u64, kind: i32, start: u64, end: u64) -> LockRequest {
    let lock = fuse_file_lock {
        start,
        end,
        r#type: kind as u32,
        pid: 1000 + owner as u32,
    };
    LockRequest {
        owner,
        lock,
        flock: false,
        wait: false,
    }
}

#[test]
fn owners_exclude_each_other_until_they_close() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    fs::write(served.host("file"), "").unwrap();
    let (cx, node) = (served.cx(), served.node("file"));
    let opened = served
        .fs
        .open(&cx, node, libc::O_RDWR as u32, false)
        .unwrap();
    let set = |request: LockRequest| served.fs.setlk(&cx, node, opened.fh, &request);
    let get = |request: LockRequest| served.fs.getlk(&cx, node, opened.fh, &request).unwrap();
    let end = i64::MAX as u64;
    set(lock(1, libc::F_WRLCK, 0, 9)).unwrap();
    set(lock(1, libc::F_WRLCK, 100, end)).unwrap();
    assert_eq!(set(lock(2, libc::F_RDLCK, 5, 5)), Err(Errno::EAGAIN));
    set(lock(2, libc::F_WRLCK, 10, 99)).unwrap();
    let held = get(lock(3, libc::F_WRLCK, 0, 5));
    assert_eq!(
        (held.pid, held.start, held.end, held.r#type),
        (1001, 0, 9, libc::F_WRLCK as u32)
    );
    let held = get(lock(3, libc::F_RDLCK, 50, 60));
    assert_eq!((held.pid, held.start, held.end), (1002, 10, 99));
    assert_eq!(get(lock(3, libc::F_RDLCK, 500, 600)).end, end);
    assert_eq!(
        get(lock(1, libc::F_RDLCK, 0, 5)).r#type,
        libc::F_UNLCK as u32
    );
    set(lock(1, libc::F_UNLCK, 0, 4)).unwrap();
    set(lock(2, libc::F_RDLCK, 0, 4)).unwrap();
    served.fs.flush(&cx, node, opened.fh, 1).unwrap();
    set(lock(2, libc::F_WRLCK, 0, end)).unwrap();
    served.fs.flush(&cx, node, opened.fh, 2).unwrap();
    assert_eq!(
        get(lock(3, libc::F_WRLCK, 0, end)).r#type,
        libc::F_UNLCK as u32
    );
    // An owner that holds nothing can give it up.
    set(lock(9, libc::F_UNLCK, 0, end)).unwrap();
}

#[test]
fn locks_are_shared_with_the_host() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    fs::write(served.host("file"), "").unwrap();
    let (cx, node) = (served.cx(), served.node("file"));
    let opened = served
        .fs
        .open(&cx, node, libc::O_RDWR as u32, false)
        .unwrap();
    let host = fs::File::options()
        .read(true)
        .write(true)
        .open(served.host("file"))
        .unwrap();
    host.lock().unwrap();
    let flock = |kind: i32| LockRequest {
        flock: true,
        ..lock(1, kind, 0, i64::MAX as u64)
    };
    let set = |request: &LockRequest| served.fs.setlk(&cx, node, opened.fh, request);
    assert_eq!(set(&flock(libc::F_RDLCK)), Err(Errno::EAGAIN));
    host.unlock().unwrap();
    set(&flock(libc::F_WRLCK)).unwrap();
    assert!(host.try_lock().is_err());
    served.fs.release(node, opened.fh, Some(1));
    assert!(host.try_lock().is_ok());
}

#[test]
fn what_was_locked_since_outlives_a_late_release() {
    let served = Served::new(tempfile::tempdir().unwrap(), |_| ());
    fs::write(served.host("file"), "").unwrap();
    let (cx, node) = (served.cx(), served.node("file"));
    let open = || {
        served
            .fs
            .open(&cx, node, libc::O_RDWR as u32, false)
            .unwrap()
            .fh
    };
    let set = |fh, request: LockRequest| served.fs.setlk(&cx, node, fh, &request);
    let (first, second, other) = (open(), open(), open());
    set(first, lock(1, libc::F_WRLCK, 0, 9)).unwrap();
    set(first, lock(1, libc::F_WRLCK, 20, 29)).unwrap();
    // The process has closed the first one and locks through the second before the kernel tells of that.
    set(second, lock(1, libc::F_WRLCK, 5, 14)).unwrap();
    served.fs.release(node, first, None);
    assert_eq!(set(other, lock(2, libc::F_WRLCK, 5, 5)), Err(Errno::EAGAIN));
    assert_eq!(
        set(other, lock(2, libc::F_WRLCK, 14, 14)),
        Err(Errno::EAGAIN)
    );
    set(other, lock(2, libc::F_WRLCK, 0, 4)).unwrap();
    set(other, lock(2, libc::F_WRLCK, 20, 29)).unwrap();
    served.fs.release(node, second, None);
    set(other, lock(2, libc::F_WRLCK, 0, 100)).unwrap();
}
