//! Inode numbers of one mount for inodes of many host devices.
//!
//! An inode on the root's device keeps its number. On another device the upper 16 bits are changed by a hash of the device
//! number, so that numbers of different devices differ and are the same in every session; only if two devices have the
//! same hash does the one met later get another, which then depends on the order.

use parking_lot::RwLock;

/// Upper 16 bits that no device gets: synthetic inodes.
const SYNTHETIC: u16 = u16::MAX;

/// Presents inode numbers.
pub struct Numbers {
    root: u64,
    devices: RwLock<Vec<(u64, u16)>>,
}

impl Numbers {
    /// For a tree whose root is on device `root`.
    pub fn new(root: u64) -> Numbers {
        Numbers {
            root,
            devices: RwLock::new(vec![(root, 0)]),
        }
    }

    /// The presented number of the inode `ino` of device `dev`.
    pub fn present(&self, dev: u64, ino: u64) -> u64 {
        if dev == self.root {
            ino
        } else {
            ino ^ u64::from(self.salt(dev)) << 48
        }
    }

    /// The number of the synthetic inode `index`.
    pub fn synthetic(index: usize) -> u64 {
        u64::from(SYNTHETIC) << 48 | index as u64
    }

    fn salt(&self, dev: u64) -> u16 {
        let find = |devices: &[(u64, u16)]| {
            devices
                .iter()
                .find(|known| known.0 == dev)
                .map(|known| known.1)
        };
        if let Some(salt) = find(&self.devices.read()) {
            return salt;
        }
        let mut devices = self.devices.write();
        if let Some(salt) = find(&devices) {
            return salt;
        }
        let taken = |salt: u16| salt == SYNTHETIC || devices.iter().any(|known| known.1 == salt);
        let first = (dev.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16;
        // With more devices than salts some share one.
        let salt = (0..u16::MAX)
            .map(|step| first.wrapping_add(step))
            .find(|&salt| !taken(salt))
            .unwrap_or(first);
        devices.push((dev, salt));
        salt
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn devices_do_not_share_numbers() {
        let numbers = Numbers::new(8 << 32);
        let all: HashSet<u64> = (0..5000)
            .map(|minor| numbers.present(8 << 32 | minor, 2))
            .collect();
        assert_eq!(all.len(), 5000);
        assert_eq!(numbers.present(8 << 32, 2), 2);
        assert!(!all.contains(&Numbers::synthetic(2)));
    }

    #[test]
    fn numbers_do_not_depend_on_the_session() {
        let (one, two) = (Numbers::new(1), Numbers::new(1));
        assert_eq!(two.present(9, 5), one.present(9, 5));
        assert_eq!(two.present(7, 5), one.present(7, 5));
    }
}
