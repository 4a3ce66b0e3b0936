//! Node ids to inodes, and back from what statx(2) says.
//!
//! Sharded by key, one lock per shard over both directions: a lookup is counted, and a forgotten inode removed, in one critical
//! section, so the kernel can never be handed a node id that is just going away. A node id is a slot and the
//! generation of the slot; an id that was forgotten is refused, it does not name somebody else.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::Mutex;

use super::inode::{Inode, Key};
use crate::engine::NodeId;

const SHARD_BITS: u32 = 6;
const INDEX_BITS: u32 = 30;
const GENERATION_BITS: u32 = 27;

/// Set in node ids of synthetic inodes, which are not in the table.
pub const SYNTHETIC: u64 = 1 << 63;

const _: () = assert!(SHARD_BITS + INDEX_BITS + GENERATION_BITS == 63);

/// The inodes the kernel knows.
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    /// Slots by the keys of their inodes, which are there and need not be here as well.
    keys: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    lookups: u64,
    inode: Option<Arc<Inode>>,
}

/// Where a node id leads.
struct Address {
    shard: usize,
    index: u32,
    generation: u32,
}

impl Address {
    fn of(node: NodeId) -> Address {
        Address {
            shard: (node.0 & ((1 << SHARD_BITS) - 1)) as usize,
            index: (node.0 >> SHARD_BITS & ((1 << INDEX_BITS) - 1)) as u32,
            generation: (node.0 >> (SHARD_BITS + INDEX_BITS)) as u32,
        }
    }

    fn node(&self) -> NodeId {
        NodeId(
            self.shard as u64
                | u64::from(self.index) << SHARD_BITS
                | u64::from(self.generation) << (SHARD_BITS + INDEX_BITS),
        )
    }
}

impl Shard {
    fn slot(&mut self, address: &Address) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(address.index as usize)?;
        (slot.generation == address.generation && slot.inode.is_some()).then_some(slot)
    }

    fn by_key(&mut self, hash: u64, key: &Key) -> Option<&mut Slot> {
        let index = *self
            .keys
            .find(hash, |index| has(&self.slots, *index, key))?;
        self.slots.get_mut(index as usize)
    }
}

/// Whether the inode in the slot `index` has this key.
fn has(slots: &[Slot], index: u32, key: &Key) -> bool {
    let inode = slots
        .get(index as usize)
        .and_then(|slot| slot.inode.as_ref());
    inode.is_some_and(|inode| inode.key == *key)
}

impl Table {
    /// Knows nothing yet.
    pub fn new() -> Table {
        let shards = (0..1 << SHARD_BITS)
            .map(|_| Mutex::new(Shard::default()))
            .collect();
        Table {
            shards,
            hasher: RandomState::new(),
        }
    }

    /// The hash of `key`, and the shard it belongs to: by bits that a table uses least.
    fn shard_of(&self, key: &Key) -> (u64, usize) {
        let hash = self.hasher.hash_one(key);
        (hash, (hash >> 32) as usize & ((1 << SHARD_BITS) - 1))
    }

    /// The hash of the inode in the slot `index`.
    fn hash_of(&self, slots: &[Slot], index: u32) -> u64 {
        let inode = slots
            .get(index as usize)
            .and_then(|slot| slot.inode.as_ref());
        inode.map_or(0, |inode| self.hasher.hash_one(inode.key))
    }

    /// The inode of `node`.
    pub fn get(&self, node: NodeId) -> Option<Arc<Inode>> {
        let address = Address::of(node);
        self.shards[address.shard]
            .lock()
            .slot(&address)?
            .inode
            .clone()
    }

    /// Whether there is an inode of `node`.
    pub fn contains(&self, node: NodeId) -> bool {
        let address = Address::of(node);
        self.shards[address.shard].lock().slot(&address).is_some()
    }

    /// The inode of `key`, without counting a lookup.
    pub fn peek(&self, key: &Key) -> Option<Arc<Inode>> {
        let (hash, index) = self.shard_of(key);
        self.shards[index].lock().by_key(hash, key)?.inode.clone()
    }

    /// Counts a lookup of the inode of `key` if `same` says that it is the one.
    pub fn acquire(&self, key: &Key, same: impl FnOnce(&Inode) -> bool) -> Option<Arc<Inode>> {
        let (hash, index) = self.shard_of(key);
        let mut shard = self.shards[index].lock();
        let slot = shard.by_key(hash, key)?;
        let inode = slot.inode.as_ref().filter(|inode| same(inode))?.clone();
        slot.lookups += 1;
        Some(inode)
    }

    /// Counts a lookup of `node`; false if it was forgotten in the meantime.
    pub fn retain(&self, node: NodeId) -> bool {
        let address = Address::of(node);
        let mut shard = self.shards[address.shard].lock();
        let slot = shard.slot(&address);
        slot.map(|slot| slot.lookups += 1).is_some()
    }

    /// Adds the inode that `make` makes for the node id it is given, with one lookup, unless there is one with this key: then
    /// that, uncounted, and `make` are given back. `expected`, which is another inode with the same key, is no hindrance:
    /// the new one takes its place.
    pub fn insert<F: FnOnce(NodeId) -> Inode>(
        &self,
        key: &Key,
        expected: Option<NodeId>,
        make: F,
    ) -> Result<Arc<Inode>, (Arc<Inode>, F)> {
        let (hash, number) = self.shard_of(key);
        let mut guard = self.shards[number].lock();
        let shard = &mut *guard;
        let slots = &shard.slots;
        let same = |index: &u32| has(slots, *index, key);
        let again = |index: &u32| self.hash_of(slots, *index);
        let entry = shard.keys.entry(hash, same, again);
        if let Entry::Occupied(entry) = &entry
            && let Some(present) = &slots[*entry.get() as usize].inode
            && Some(present.node) != expected
        {
            return Err((Arc::clone(present), make));
        }
        let index = shard.free.pop().unwrap_or(shard.slots.len() as u32);
        match entry {
            Entry::Occupied(mut entry) => *entry.get_mut() = index,
            Entry::Vacant(entry) => drop(entry.insert(index)),
        }
        if index as usize == shard.slots.len() {
            shard.slots.push(Slot {
                generation: 1,
                lookups: 0,
                inode: None,
            });
        }
        let slot = &mut shard.slots[index as usize];
        let address = Address {
            shard: number,
            index,
            generation: slot.generation,
        };
        let inode = Arc::new(make(address.node()));
        slot.lookups = 1;
        slot.inode = Some(Arc::clone(&inode));
        Ok(inode)
    }

    /// Takes back `lookups` lookups of `node`; gives back the inode if these were the last.
    pub fn forget(&self, node: NodeId, lookups: u64) -> Option<Arc<Inode>> {
        let address = Address::of(node);
        let mut guard = self.shards[address.shard].lock();
        let shard = &mut *guard;
        let slot = shard.slot(&address)?;
        slot.lookups = slot.lookups.saturating_sub(lookups);
        if slot.lookups > 0 {
            return None;
        }
        let inode = slot.inode.clone()?;
        let hash = self.hasher.hash_one(inode.key);
        // Another one may have come in its place.
        if let Ok(entry) = shard.keys.find_entry(hash, |index| *index == address.index) {
            entry.remove();
        }
        let slot = &mut shard.slots[address.index as usize];
        slot.inode = None;
        slot.generation = (slot.generation + 1) & ((1 << GENERATION_BITS) - 1);
        // Generation 0 would make node ids 0 and 1, which mean something else.
        slot.generation = slot.generation.max(1);
        shard.free.push(address.index);
        if shard.free.len() == shard.slots.len() && shard.slots.len() > 4096 {
            // Generations must go on, so the slots stay; the map gives its memory back.
            let slots = &shard.slots;
            shard
                .keys
                .shrink_to_fit(|index| self.hash_of(slots, *index));
        }
        Some(inode)
    }

    /// All inodes.
    pub fn all(&self) -> Vec<Arc<Inode>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(shard.slots.iter().filter_map(|slot| slot.inode.clone()));
        }
        all
    }

    /// Number of inodes.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| {
                let shard = shard.lock();
                shard.slots.len() - shard.free.len()
            })
            .sum()
    }
}
