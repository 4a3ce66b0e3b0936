//! POSIX access control lists: the ids in them, from the host's to the presented ones and back.
//!
//! The value of `system.posix_acl_access` and `system.posix_acl_default` is a version, 2, and entries of tag, permissions and
//! id, all little-endian (the kernel's `posix_acl_xattr.h`).

use std::ffi::CStr;

use super::idmap::{IdMap, UNMAPPED};
use crate::engine::{Errno, Result};

const HEADER: usize = 4;
const ENTRY: usize = 8;
const VERSION: u32 = 2;
const TAG_USER: u16 = 0x02;
const TAG_GROUP: u16 = 0x08;

/// Name of the ACL that is checked at each access.
pub const ACCESS: &CStr = c"system.posix_acl_access";

/// Whether the extended attribute `name` is an ACL.
pub fn is_acl(name: &CStr) -> bool {
    name == ACCESS || name == c"system.posix_acl_default"
}

/// Takes the entries out of the ACL `value` that name a user or group whom the server's user namespace does not know (the host
/// gives their id as 2^32 - 1), and gives the length that is left. The kernel would take the whole list for damaged and refuse
/// all access; such entries grant nothing to anybody in the namespace.
pub fn without_unknown(value: &mut [u8]) -> usize {
    let mut len = HEADER.min(value.len());
    for start in (HEADER..value.len()).step_by(ENTRY) {
        let end = (start + ENTRY).min(value.len());
        if !is_unknown(&value[start..end]) {
            value.copy_within(start..end, len);
            len += end - start;
        }
    }
    len
}

/// Whether the ACL `value` says no more than a mode does.
pub fn is_mode(value: &[u8]) -> bool {
    value.len() <= HEADER + 3 * ENTRY
}

/// Whether the ACL `value` has entries that [`without_unknown`] takes out.
pub fn has_unknown(value: &[u8]) -> bool {
    let entries = value.get(HEADER..).unwrap_or_default();
    entries.chunks_exact(ENTRY).any(is_unknown)
}

fn is_unknown(entry: &[u8]) -> bool {
    let is = |tag: u16| entry.starts_with(&tag.to_le_bytes());
    (is(TAG_USER) || is(TAG_GROUP)) && entry.ends_with(&u32::MAX.to_le_bytes())
}

/// Changes the ids in the ACL `value` from the host's to the presented ones.
///
/// # Errors
/// `EIO` for what is no ACL.
pub fn present(value: &mut [u8], ids: &IdMap) -> Result<()> {
    if ids.uids.is_identity() && ids.gids.is_identity() {
        return Ok(());
    }
    translate(value, |tag, id| match tag {
        TAG_USER => Ok(ids.uids.present(id)),
        _ => Ok(ids.gids.present(id)),
    })
    .map_err(|_| Errno::EIO)
}

/// Changes the ids in the ACL `value` from the presented ones to the host's.
///
/// # Errors
/// `EINVAL` for what is no ACL, and for ids the host does not have.
pub fn to_host(value: &mut [u8], ids: &IdMap) -> Result<()> {
    if ids.uids.is_identity() && ids.gids.is_identity() {
        return Ok(());
    }
    translate(value, |tag, id| {
        let host = match tag {
            TAG_USER => ids.uids.host(id),
            _ => ids.gids.host(id),
        };
        host.filter(|_| id != UNMAPPED).ok_or(Errno::EINVAL)
    })
}

fn translate(value: &mut [u8], map: impl Fn(u16, u32) -> Result<u32>) -> Result<()> {
    let Some((version, entries)) = value.split_first_chunk_mut::<HEADER>() else {
        return Err(Errno::EINVAL);
    };
    if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY != 0 {
        return Err(Errno::EINVAL);
    }
    for entry in entries.chunks_exact_mut(ENTRY) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        if tag == TAG_USER || tag == TAG_GROUP {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            entry[4..].copy_from_slice(&map(tag, id)?.to_le_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::idmap::{Extent, Ids};
    use super::*;

    /// u::rwx u:1000:r-- g::r-x g:100:rw- m::rwx o::---
    const HOST: [u8; 52] = [
        2, 0, 0, 0, //
        0x01, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, //
        0x02, 0, 4, 0, 0xe8, 0x03, 0, 0, //
        0x04, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, //
        0x08, 0, 6, 0, 0x64, 0, 0, 0, //
        0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, //
        0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
    ];

    fn ids() -> IdMap {
        let extent = |outside| Extent {
            inside: 0,
            outside,
            count: 65536,
        };
        IdMap {
            uids: Ids::new([extent(100_000)]).unwrap(),
            gids: Ids::new([extent(200_000)]).unwrap(),
        }
    }

    #[test]
    fn ids_of_named_entries_are_mapped_and_nothing_else() {
        let mut value = HOST;
        present(&mut value, &ids()).unwrap();
        let mut expected = HOST;
        expected[16..20].copy_from_slice(&101_000_u32.to_le_bytes());
        expected[32..36].copy_from_slice(&200_100_u32.to_le_bytes());
        assert_eq!(value, expected);
        to_host(&mut value, &ids()).unwrap();
        assert_eq!(value, HOST);
    }

    #[test]
    fn unmapped_ids_are_shown_but_not_taken() {
        let mut value = HOST;
        value[16..20].copy_from_slice(&70_000_u32.to_le_bytes());
        present(&mut value, &ids()).unwrap();
        assert_eq!(value[16..20], UNMAPPED.to_le_bytes());
        assert_eq!(to_host(&mut value, &ids()), Err(Errno::EINVAL));
    }

    #[test]
    fn entries_of_unknown_ids_are_taken_out() {
        assert!(!has_unknown(&HOST) && !is_mode(&HOST));
        let mut value = HOST;
        assert_eq!(without_unknown(&mut value), HOST.len());
        assert_eq!(value, HOST);
        value[16..20].copy_from_slice(&[0xff; 4]);
        assert!(has_unknown(&value));
        assert_eq!(without_unknown(&mut value), HOST.len() - ENTRY);
        assert_eq!(value[..12], HOST[..12]);
        assert_eq!(value[12..44], HOST[20..]);
        assert_eq!(without_unknown(&mut [2, 0]), 2);
    }

    #[test]
    fn what_is_no_acl_is_refused() {
        for bad in [&[][..], &[2, 0, 0], &[1, 0, 0, 0], &[2, 0, 0, 0, 1]] {
            assert_eq!(to_host(&mut bad.to_vec(), &ids()), Err(Errno::EINVAL));
        }
    }
}
