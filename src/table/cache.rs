//! A cache bounded by bytes, for immutable objects.
//!
//! Owns: which decoded objects stay in memory, and how many bytes they may take. Does not own: loading
//! them, or deciding that bytes are genuine (whoever inserts has verified the hash).
//! Invariant: the weights of what is held never exceed the capacity; an entry heavier than the
//! capacity is not kept. Least recently used goes first. Values are immutable, so there is no
//! invalidation. A crash leaves nothing: the cache is memory only.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// A least-recently-used map whose entries weigh bytes.
#[derive(Debug)]
pub struct ByteCache<K, V> {
    capacity: usize,
    inner: Mutex<Inner<K, V>>,
}

#[derive(Debug)]
struct Inner<K, V> {
    entries: HashMap<K, Slot<V>>,
    /// Last use → key; the smallest is the next to go.
    by_use: BTreeMap<u64, K>,
    tick: u64,
    weight: usize,
}

#[derive(Debug)]
struct Slot<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> ByteCache<K, V> {
    /// An empty cache that holds at most `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                by_use: BTreeMap::new(),
                tick: 0,
                weight: 0,
            }),
        }
    }

    /// The value under `key`, marked as used now.
    pub fn get(&self, key: &K) -> Option<V> {
        // A panic while the lock was held cannot leave a half-made entry: each step below is complete.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.tick += 1;
        let tick = inner.tick;
        let slot = inner.entries.get_mut(key)?;
        let before = std::mem::replace(&mut slot.used, tick);
        let value = slot.value.clone();
        inner.by_use.remove(&before);
        inner.by_use.insert(tick, key.clone());
        Some(value)
    }

    /// Keeps `value`, which weighs `weight` bytes, and drops what is least recently used beyond the capacity.
    pub fn insert(&self, key: K, value: V, weight: usize) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.remove(&key);
        if weight > self.capacity {
            return;
        }
        inner.tick += 1;
        let used = inner.tick;
        inner.weight += weight;
        inner.by_use.insert(used, key.clone());
        inner.entries.insert(
            key,
            Slot {
                value,
                weight,
                used,
            },
        );
        while inner.weight > self.capacity {
            let Some((_, oldest)) = inner.by_use.pop_first() else {
                break;
            };
            if let Some(slot) = inner.entries.remove(&oldest) {
                inner.weight -= slot.weight;
            }
        }
    }

    /// Drops everything.
    pub fn clear(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.entries.clear();
        inner.by_use.clear();
        inner.weight = 0;
    }

    #[cfg(test)]
    fn weight(&self) -> usize {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .weight
    }
}

impl<K: Eq + Hash, V> Inner<K, V> {
    fn remove(&mut self, key: &K) {
        if let Some(slot) = self.entries.remove(key) {
            self.by_use.remove(&slot.used);
            self.weight -= slot.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ByteCache;

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = ByteCache::new(30);
        cache.insert("a", 1, 10);
        cache.insert("b", 2, 10);
        cache.insert("c", 3, 10);
        assert_eq!(cache.get(&"a"), Some(1));
        cache.insert("d", 4, 10);
        assert_eq!(cache.get(&"b"), None);
        assert_eq!(cache.get(&"a"), Some(1));
        assert_eq!(cache.weight(), 30);
    }

    #[test]
    fn what_is_heavier_than_the_capacity_is_not_kept_and_drives_nothing_out() {
        let cache = ByteCache::new(30);
        cache.insert("a", 1, 10);
        cache.insert("huge", 2, 31);
        assert_eq!(cache.get(&"huge"), None);
        assert_eq!(cache.get(&"a"), Some(1));
    }

    #[test]
    fn inserting_again_replaces_value_and_weight() {
        let cache = ByteCache::new(30);
        cache.insert("a", 1, 10);
        cache.insert("a", 2, 20);
        assert_eq!((cache.get(&"a"), cache.weight()), (Some(2), 20));
    }
}
