//! What versions consist of, kept in memory within one budget for all tables of a process.
//!
//! A process can have thousands of tables open, and what it keeps must not grow with them. So all tables share a
//! [`Cache`]: the least recently used object goes first, whichever table it is of. A table that is closed, because
//! it was dropped or no handle refers to it any more, gives back at once what was kept for it.
//!
//! Owns: which objects stay in memory, and how many bytes they may take. Does not own: loading
//! them, or deciding that bytes are genuine (`reader` has verified the hash of what it inserts).
//! Invariant: the weights of what is held never exceed the capacity; an object heavier than the capacity is not kept.
//! Objects are immutable, so there is no invalidation. A crash leaves nothing: the cache is memory only.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use datafusion::execution::cache::lru_queue::LruQueue;
use roaring::RoaringBitmap;

use crate::format::{ContentHash, SidecarId, SuperfileId};
use crate::table::superfile::bloom::ColumnFilter;

/// What the tables of a process may keep, together.
const PROCESS_BYTES: usize = 256 << 20;

static PROCESS: LazyLock<Cache> = LazyLock::new(|| Cache::of_bytes(PROCESS_BYTES));

/// A budget that tables share. Clones are one cache.
#[derive(Clone)]
pub struct Cache(Arc<Mutex<CacheState>>);

/// One table's part of a [`Cache`]; what it holds is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct TableCache {
    cache: Cache,
    table: u64,
}

/// What an object is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key {
    Node(ContentHash),
    Bitmap(SidecarId),
    /// Of a superfile's column.
    Filter(SuperfileId, i32),
}

/// An object.
#[derive(Clone)]
enum Object {
    Node(Bytes),
    Bitmap(Arc<RoaringBitmap>),
    Filter(Arc<ColumnFilter>),
}

struct CacheState {
    capacity: usize,
    weight: usize,
    next_table: u64,
    /// By table and key, the least recently used first.
    objects: LruQueue<(u64, Key), Weighed>,
}

struct Weighed {
    object: Object,
    weight: usize,
}

impl Cache {
    /// The one of this process, which tables share unless they are given another.
    pub fn of_process() -> Self {
        PROCESS.clone()
    }

    /// An empty cache of its own, that holds at most `capacity` bytes.
    pub fn of_bytes(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(CacheState {
            capacity,
            weight: 0,
            next_table: 0,
            objects: LruQueue::new(),
        })))
    }

    /// The bytes that are held.
    pub fn weight(&self) -> usize {
        self.lock().weight
    }

    /// The part of a table that is being opened.
    pub(crate) fn open_table(&self) -> TableCache {
        let mut state = self.lock();
        let table = state.next_table;
        state.next_table += 1;
        TableCache {
            cache: self.clone(),
            table,
        }
    }

    fn lock(&self) -> MutexGuard<'_, CacheState> {
        // A panic while the lock was held cannot leave a half-made entry: each step is complete.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

impl TableCache {
    /// A node's bytes, marked as used now.
    pub(crate) fn node(&self, hash: &ContentHash) -> Option<Bytes> {
        match self.get(Key::Node(*hash)) {
            Some(Object::Node(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// A sidecar's positions, marked as used now.
    pub(crate) fn bitmap(&self, sidecar: &SidecarId) -> Option<Arc<RoaringBitmap>> {
        match self.get(Key::Bitmap(*sidecar)) {
            Some(Object::Bitmap(bitmap)) => Some(bitmap),
            _ => None,
        }
    }

    /// The Bloom filters of a superfile's column, marked as used now.
    pub(crate) fn filter(&self, superfile: &SuperfileId, column: i32) -> Option<Arc<ColumnFilter>> {
        match self.get(Key::Filter(*superfile, column)) {
            Some(Object::Filter(filter)) => Some(filter),
            _ => None,
        }
    }

    /// Keeps the Bloom filters of a superfile's column.
    pub(crate) fn keep_filter(
        &self,
        superfile: SuperfileId,
        column: i32,
        filter: Arc<ColumnFilter>,
    ) {
        let weight = filter.memory();
        self.insert(
            Key::Filter(superfile, column),
            Object::Filter(filter),
            weight,
        );
    }

    /// Keeps a node.
    pub(crate) fn keep_node(&self, hash: ContentHash, bytes: Bytes) {
        let weight = bytes.len();
        self.insert(Key::Node(hash), Object::Node(bytes), weight);
    }

    /// Keeps a sidecar's positions.
    pub(crate) fn keep_bitmap(&self, sidecar: SidecarId, bitmap: Arc<RoaringBitmap>) {
        let weight = bitmap.serialized_size();
        self.insert(Key::Bitmap(sidecar), Object::Bitmap(bitmap), weight);
    }

    /// Drops the table's nodes.
    pub(crate) fn forget_nodes(&self) {
        self.cache
            .lock()
            .give_back(self.table, |key| matches!(key, Key::Node(_)));
    }

    /// Drops all that is kept for the table.
    pub(crate) fn forget(&self) {
        self.cache.lock().give_back(self.table, |_| true);
    }

    fn get(&self, key: Key) -> Option<Object> {
        let mut state = self.cache.lock();
        let found = state.objects.get(&(self.table, key))?;
        Some(found.object.clone())
    }

    fn insert(&self, key: Key, object: Object, weight: usize) {
        let mut state = self.cache.lock();
        let key = (self.table, key);
        state.remove(&key);
        if weight > state.capacity {
            return;
        }
        state.weight += weight;
        state.objects.put(key, Weighed { object, weight });
        while state.weight > state.capacity {
            let Some((_, oldest)) = state.objects.pop() else {
                break;
            };
            state.weight -= oldest.weight;
        }
    }
}

impl Drop for TableCache {
    fn drop(&mut self) {
        self.forget();
    }
}

impl CacheState {
    fn remove(&mut self, key: &(u64, Key)) {
        if let Some(removed) = self.objects.remove(key) {
            self.weight -= removed.weight;
        }
    }

    fn give_back(&mut self, table: u64, which: impl Fn(&Key) -> bool) {
        // Among those of all tables: tables are closed, and vacuumed, too seldom to be kept apart.
        let keys = self.objects.keys();
        let keys: Vec<_> = keys
            .filter(|(of, key)| *of == table && which(key))
            .copied()
            .collect();
        for key in keys {
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> ContentHash {
        ContentHash::of(&[n])
    }

    fn bytes(len: usize) -> Bytes {
        Bytes::from(vec![0; len])
    }

    #[test]
    fn the_least_recently_used_goes_first_whichever_table_it_is_of() {
        let cache = Cache::of_bytes(30);
        let (one, other) = (cache.open_table(), cache.open_table());
        one.keep_node(key(1), bytes(10));
        other.keep_node(key(1), bytes(10));
        one.keep_node(key(2), bytes(10));
        assert!(one.node(&key(1)).is_some());
        other.keep_node(key(3), bytes(10));
        assert!(other.node(&key(1)).is_none());
        assert!(one.node(&key(1)).is_some());
        assert_eq!(cache.weight(), 30);
    }

    #[test]
    fn what_is_heavier_than_the_capacity_is_not_kept_and_drives_nothing_out() {
        let cache = Cache::of_bytes(30);
        let table = cache.open_table();
        table.keep_node(key(1), bytes(10));
        table.keep_node(key(2), bytes(31));
        assert!(table.node(&key(2)).is_none());
        assert!(table.node(&key(1)).is_some());
    }

    #[test]
    fn inserting_again_replaces_object_and_weight() {
        let cache = Cache::of_bytes(30);
        let table = cache.open_table();
        table.keep_node(key(1), bytes(10));
        table.keep_node(key(1), bytes(20));
        assert_eq!(table.node(&key(1)).unwrap().len(), 20);
        assert_eq!(cache.weight(), 20);
    }

    #[test]
    fn a_table_that_is_closed_gives_back_what_was_kept_for_it_and_nothing_else() {
        let cache = Cache::of_bytes(1_000);
        let (one, other) = (cache.open_table(), cache.open_table());
        let bitmap = Arc::new(RoaringBitmap::from_iter(0..100));
        let sidecar = SidecarId::from_uuid(uuid::Uuid::from_u128(1));
        for table in [&one, &other] {
            table.keep_node(key(1), bytes(10));
            table.keep_bitmap(sidecar, Arc::clone(&bitmap));
        }
        let half = cache.weight() / 2;
        one.forget_nodes();
        assert_eq!(cache.weight(), 2 * half - 10);
        assert!(one.bitmap(&sidecar).is_some());
        drop(one);
        assert_eq!(cache.weight(), half);
        assert!(other.bitmap(&sidecar).is_some() && other.node(&key(1)).is_some());
    }
}
