//! Numbers that a worker changes and the control thread reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A number that one thread changes, and others may read: it costs that thread what a plain one would.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// By the thread it belongs to.
    pub fn add(&self, number: u64) {
        self.0.store(self.get().wrapping_add(number), Relaxed);
    }

    /// By the thread it belongs to; never more than was added.
    pub fn subtract(&self, number: u64) {
        self.0.store(self.get().wrapping_sub(number), Relaxed);
    }

    /// By anybody.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What is counted, by what it is counted for and by who counts: each worker has its own part.
///
/// Locked when a part is first asked for and when the parts are summed up, never to count.
#[derive(Debug)]
pub(super) struct Table<K, T>(Mutex<Parts<K, T>>);

type Parts<K, T> = BTreeMap<K, BTreeMap<usize, Arc<T>>>;

impl<K, T> Default for Table<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone, T: Default> Table<K, T> {
    /// The part of a worker: the same one whenever it asks, so that nothing counted is lost.
    pub(super) fn part(&self, key: K, worker: usize) -> Arc<T> {
        Arc::clone(
            self.parts()
                .entry(key)
                .or_default()
                .entry(worker)
                .or_default(),
        )
    }

    /// What `sum` makes of the parts of each key.
    pub(super) fn sums<R>(&self, sum: impl Fn(&mut dyn Iterator<Item = &T>) -> R) -> Vec<(K, R)> {
        let parts = self.parts();
        let sums = parts
            .iter()
            .map(|(key, parts)| (key.clone(), sum(&mut parts.values().map(Arc::as_ref))));
        sums.collect()
    }

    /// Lets go of the keys that aren't to be kept, and that no worker counts for any more.
    pub(super) fn keep(&self, is_wanted: impl Fn(&K) -> bool) {
        let is_in_use = |part: &Arc<T>| Arc::strong_count(part) > 1;
        self.parts()
            .retain(|key, parts| is_wanted(key) || parts.values().any(is_in_use));
    }

    fn parts(&self) -> MutexGuard<'_, Parts<K, T>> {
        // A panic elsewhere leaves nothing here half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sum of one number of each part.
pub(super) fn total<'a, T: 'a>(
    parts: &mut dyn Iterator<Item = &'a T>,
    number: impl Fn(&T) -> &Counter,
) -> u64 {
    // One that is subtracted from may be read after the other worker's that was added to: never less than nothing.
    parts.fold(0, |sum, part| sum + number(part).get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_all_workers_are_summed_up_by_key() {
        let table: Table<&str, Counter> = Table::default();
        table.part("a", 0).add(1);
        table.part("a", 1).add(2);
        table.part("b", 1).add(5);
        let sums = table.sums(|parts| total(parts, |counter| counter));
        assert_eq!(sums, [("a", 3), ("b", 5)]);
    }

    #[test]
    fn a_worker_that_asks_again_goes_on_counting() {
        let table: Table<&str, Counter> = Table::default();
        table.part("a", 0).add(1);
        table.part("a", 0).add(1);
        assert_eq!(table.part("a", 0).get(), 2);
    }

    #[test]
    fn what_nobody_counts_for_any_more_can_be_let_go() {
        let table: Table<&str, Counter> = Table::default();
        let held = table.part("held", 0);
        drop(table.part("wanted", 0));
        drop(table.part("gone", 0));
        table.keep(|key| *key == "wanted");
        let keys: Vec<_> = table
            .sums(|_| ())
            .into_iter()
            .map(|(key, ())| key)
            .collect();
        assert_eq!(keys, ["held", "wanted"]);
        drop(held);
    }
}
