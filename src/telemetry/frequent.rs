//! Counts by keys that clients choose: bounded, and such that nobody can drive out what is frequent.

use std::hash::{BuildHasher as _, RandomState};

/// Places to count at. A key has one of [`WAYS`], and takes that of the rarest there when none is free.
const SETS: usize = 128;
const WAYS: usize = 4;

/// No more keys are known at a time.
pub(super) const MOST: usize = SETS * WAYS;

/// How often each key was seen, and what else is kept of it.
#[derive(Debug)]
pub(super) struct Frequent<K, T = ()> {
    sets: Box<[[Place<K, T>; WAYS]]>,
    /// Where a key is counted is nothing a client can know.
    secret: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Place<K, T> {
    key: K,
    /// 0: the place is free.
    count: u64,
    rest: T,
}

impl<K: Copy + Eq + Default, T: Copy + Default> Default for Frequent<K, T> {
    fn default() -> Self {
        Self {
            sets: vec![[Place::default(); WAYS]; SETS].into(),
            secret: RandomState::new().hash_one(()) | 1,
        }
    }
}

impl<K: Copy + Eq + Default, T: Copy + Default> Frequent<K, T> {
    /// Counts `key`, and gives what else is kept of it. `digest`: a number that is the same for the same key.
    pub(super) fn count(&mut self, key: K, digest: u64) -> Option<&mut T> {
        let index = set(digest, self.secret);
        let set = self.sets.get_mut(index)?;
        let is_known = |place: &Place<K, T>| place.key == key && place.count > 0;
        let place = if let Some(known) = set.iter().position(is_known) {
            set.get_mut(known)?
        } else {
            let rarest = set.iter_mut().min_by_key(|place| place.count)?;
            *rarest = Place {
                key,
                ..Place::default()
            };
            rarest
        };
        place.count += 1;
        Some(&mut place.rest)
    }

    /// What was counted, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (K, u64, T)> {
        let places = self.sets.iter().flatten().filter(|place| place.count > 0);
        places.map(|place| (place.key, place.count, place.rest))
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        for place in self.sets.iter_mut().flatten() {
            *place = Place::default();
        }
    }
}

fn set(digest: u64, secret: u64) -> usize {
    let mixed = digest.wrapping_mul(secret);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(secret);
    usize::try_from(mixed >> 40).unwrap_or_default() % SETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_keys_drives_out_none_that_is_frequent() {
        let mut counts: Frequent<u64, u64> = Frequent::default();
        for number in 0..5_000_u64 {
            *counts.count(0, 0).unwrap() += 2;
            counts.count(number + 1, number + 1);
        }
        assert!(counts.all().count() <= MOST);
        let most = counts.all().max_by_key(|(_, count, _)| *count);
        assert_eq!(most, Some((0, 5_000, 10_000)));
        counts.clear();
        assert_eq!(counts.all().count(), 0);
        assert_eq!(counts.count(0, 0), Some(&mut 0));
    }
}
