//! User and group ids: what the host has, what is presented.
//!
//! The mount belongs to the initial user namespace. Served to a container whose user namespace maps `inside` to
//! `outside`, the host's id `inside` is *presented* as `outside`: the container's processes, looking through their own map,
//! see `inside` again, that is the id the file has on the host. Callers' ids come in presented form and go back the
//! same way. Ids outside of the map are presented as [`UNMAPPED`], which no container maps, so that programs see
//! the overflow id; nothing can be created or given away as one.

use std::fs;

/// How an id without a mapping is presented.
pub const UNMAPPED: u32 = u32::MAX - 1;

/// A range of ids, as a line of `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First id in the container, and on the host's file system.
    pub inside: u32,
    /// First id outside of the container: how it is presented.
    pub outside: u32,
    /// Number of ids.
    pub count: u32,
}

/// Why a list of extents is not a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtentError {
    /// An extent goes beyond the largest id.
    #[error("the id range {0:?} goes beyond 2^32 - 2")]
    Range(Extent),
    /// Two extents share an id.
    #[error("the id ranges {0:?} and {1:?} overlap")]
    Overlap(Extent, Extent),
}

/// A mapping of ids of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids(Option<Extents>);

/// The extents in the orders to search them in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Extents {
    by_inside: Box<[Extent]>,
    by_outside: Box<[Extent]>,
}

impl Ids {
    /// Every id is presented as it is.
    pub const IDENTITY: Ids = Ids(None);

    /// The mapping that `extents` describe; any number of them, in any order. Empty ones are ignored.
    ///
    /// # Errors
    /// See [`ExtentError`].
    pub fn new(extents: impl IntoIterator<Item = Extent>) -> Result<Ids, ExtentError> {
        let mut by_inside: Box<[Extent]> = extents
            .into_iter()
            .filter(|extent| extent.count > 0)
            .collect();
        for &extent in &by_inside {
            let last = u64::from(extent.inside.max(extent.outside)) + u64::from(extent.count) - 1;
            if last >= u64::from(u32::MAX) {
                return Err(ExtentError::Range(extent));
            }
        }
        let mut by_outside = by_inside.clone();
        by_inside.sort_unstable_by_key(|extent| extent.inside);
        by_outside.sort_unstable_by_key(|extent| extent.outside);
        for (sorted, start) in [(&by_inside, inside as Start), (&by_outside, outside)] {
            if let Some(pair) = sorted
                .windows(2)
                .find(|pair| start(&pair[1]) - start(&pair[0]) < pair[0].count)
            {
                return Err(ExtentError::Overlap(pair[0], pair[1]));
            }
        }
        Ok(Ids(Some(Extents {
            by_inside,
            by_outside,
        })))
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.0.is_none()
    }

    /// How the host's `id` is presented.
    #[must_use]
    pub fn present(&self, id: u32) -> u32 {
        match &self.0 {
            None => id,
            Some(extents) => translate(&extents.by_inside, inside, outside, id).unwrap_or(UNMAPPED),
        }
    }

    /// The host's id for the presented `id`.
    #[must_use]
    pub fn host(&self, id: u32) -> Option<u32> {
        match &self.0 {
            _ if id == u32::MAX => None,
            None => Some(id),
            Some(extents) => translate(&extents.by_outside, outside, inside, id),
        }
    }
}

/// Which end of an extent is looked at.
type Start = fn(&Extent) -> u32;

fn inside(extent: &Extent) -> u32 {
    extent.inside
}

fn outside(extent: &Extent) -> u32 {
    extent.outside
}

/// `id` moved from one end of the extent it is in to the other; `sorted` is sorted by `from`.
fn translate(sorted: &[Extent], from: Start, to: Start, id: u32) -> Option<u32> {
    let next = sorted.partition_point(|extent| from(extent) <= id);
    let extent = sorted.get(next.checked_sub(1)?)?;
    let offset = id - from(extent);
    (offset < extent.count).then(|| to(extent) + offset)
}

/// The mappings of user and group ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// User ids.
    pub uids: Ids,
    /// Group ids.
    pub gids: Ids,
}

impl IdMap {
    /// Every id is presented as it is.
    pub const IDENTITY: IdMap = IdMap {
        uids: Ids::IDENTITY,
        gids: Ids::IDENTITY,
    };

    /// The mappings that the extents describe; no extent at all leaves the ids of that kind as they are.
    ///
    /// # Errors
    /// See [`ExtentError`].
    pub fn new(uids: Vec<Extent>, gids: Vec<Extent>) -> Result<IdMap, ExtentError> {
        let ids = |extents: Vec<Extent>| {
            if extents.is_empty() {
                Ok(Ids::IDENTITY)
            } else {
                Ids::new(extents)
            }
        };
        Ok(IdMap {
            uids: ids(uids)?,
            gids: ids(gids)?,
        })
    }
}

/// The only user and the only group of the server's user namespace: what `unshare --map-root-user` makes, as anybody may.
///
/// Files of this user may have a group that is not mapped there (one of the user's other groups, or that of a directory with set-group-id).
/// The kernel cannot represent it as the group of an inode, and lets nobody write to an inode whose owner or group it
/// cannot represent. So these files are presented with the only group there is. Everybody in such a namespace is the same user and group, so
/// nobody gets more by that than the owner has. An *owner* that is not mapped is never presented as another one, since programs
/// trust what belongs to their user: what others own can be read only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Only {
    uid: u32,
    gid: u32,
}

impl Only {
    /// Those of this process's user namespace; none if there may be others.
    #[must_use]
    pub fn of_namespace() -> Option<Only> {
        let map = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        Only::of_maps(&map("uid_map")?, &map("gid_map")?)
    }

    /// Those of the maps, each as in `/proc/PID/uid_map`.
    fn of_maps(uids: &str, gids: &str) -> Option<Only> {
        let only = |map: &str| {
            let numbers: Vec<u32> = map
                .split_ascii_whitespace()
                .map(|number| number.parse().ok())
                .collect::<Option<_>>()?;
            match numbers[..] {
                [inside, _, 1] => Some(inside),
                _ => None,
            }
        };
        Some(Only {
            uid: only(uids)?,
            gid: only(gids)?,
        })
    }

    /// The group of a file of `uid` and `gid`.
    #[must_use]
    pub fn group(self, uid: u32, gid: u32) -> u32 {
        if uid == self.uid { self.gid } else { gid }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extents(sizes: &[(u32, u32, u32)]) -> Vec<Extent> {
        let (mut inside, mut outside) = (0, 1000);
        sizes
            .iter()
            .map(|&(gap, other, count)| {
                let extent = Extent {
                    inside: inside + gap,
                    outside: outside + other,
                    count,
                };
                inside = extent.inside + count;
                outside = extent.outside + count;
                extent
            })
            .collect()
    }

    proptest! {
        #[test]
        fn mapped_ids_come_back_and_others_do_not(
            sizes in prop::collection::vec((0..5000_u32, 0..5000_u32, 0..1000_u32), 1..=340),
            id in 0..2_000_000_u32,
        ) {
            let extents = extents(&sizes);
            let ids = Ids::new(extents.iter().rev().copied()).unwrap();
            let expected = extents.iter().find(|e| e.inside <= id && id - e.inside < e.count);
            match expected {
                Some(extent) => {
                    prop_assert_eq!(ids.present(id), extent.outside + (id - extent.inside));
                    prop_assert_eq!(ids.host(ids.present(id)), Some(id));
                }
                None => prop_assert_eq!(ids.present(id), UNMAPPED),
            }
            if let Some(host) = ids.host(id) {
                prop_assert_eq!(ids.present(host), id);
            }
        }
    }

    #[test]
    fn the_only_group_is_that_of_the_only_users_files() {
        let one = "         0       1000          1\n";
        let only = Only::of_maps(one, "         5        100          1\n").unwrap();
        assert_eq!(only.group(0, 65534), 5);
        assert_eq!(only.group(0, 5), 5);
        assert_eq!(only.group(65534, 65534), 65534);
        let many = "0 1000 1\n1 100000 65536\n";
        let all = "         0          0 4294967295\n";
        for other in [many, all, ""] {
            assert_eq!(Only::of_maps(other, one), None);
            assert_eq!(Only::of_maps(one, other), None);
        }
    }

    #[test]
    fn the_largest_ids_do_not_overflow() {
        let whole = Extent {
            inside: 0,
            outside: 0,
            count: u32::MAX,
        };
        let ids = Ids::new([whole]).unwrap();
        assert_eq!(ids.present(UNMAPPED), UNMAPPED);
        assert_eq!(ids.host(u32::MAX), None);
        let beyond = Extent {
            inside: 1,
            outside: 0,
            count: u32::MAX,
        };
        assert_eq!(Ids::new([beyond]), Err(ExtentError::Range(beyond)));
        assert_eq!(Ids::IDENTITY.host(u32::MAX), None);
    }

    #[test]
    fn overlapping_extents_are_refused() {
        let a = Extent {
            inside: 0,
            outside: 1000,
            count: 10,
        };
        let b = Extent {
            inside: 9,
            outside: 2000,
            count: 1,
        };
        let c = Extent {
            inside: 10,
            outside: 1005,
            count: 1,
        };
        assert_eq!(Ids::new([b, a]), Err(ExtentError::Overlap(a, b)));
        assert_eq!(Ids::new([c, a]), Err(ExtentError::Overlap(a, c)));
    }
}
