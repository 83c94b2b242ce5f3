//! Tells most names that aren't in a set from those that are, at the price of one look.

/// The first letters and lengths of some names.
#[derive(Debug, Clone)]
pub(crate) struct Sieve {
    /// By first letter, a bit for each length.
    lengths: [u64; 32],
}

impl Sieve {
    /// Of these names.
    pub(crate) const fn of(names: &[&str]) -> Self {
        let mut sieve = Self { lengths: [0; 32] };
        let mut rest = names;
        while let [name, others @ ..] = rest {
            sieve.add(name.as_bytes());
            rest = others;
        }
        sieve
    }

    /// Lets one more name through.
    pub(crate) const fn add(&mut self, name: &[u8]) {
        #[expect(clippy::indexing_slicing, reason = "a row is below 32")]
        {
            self.lengths[row(name)] |= bit(name);
        }
    }

    /// `false`: the name is none of them, in any case, nor with `_` or `.` in the place of `-`.
    pub(crate) fn may_hold(&self, name: &[u8]) -> bool {
        let lengths = self.lengths.get(row(name));
        lengths.is_some_and(|lengths| lengths & bit(name) != 0)
    }
}

/// The same for a letter in either case, and for `-`, `_` and `.`.
const fn row(name: &[u8]) -> usize {
    match name {
        [b'-' | b'_' | b'.', ..] | [] => 0,
        [first, ..] => (*first & 31) as usize,
    }
}

const fn bit(name: &[u8]) -> u64 {
    1 << (name.len() % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_certain_is_quick() {
        let sieve = Sieve::of(&["Connection", "te", "-own"]);
        for name in ["connection", "COLLECTION", "TE", "_OWN", ".own", "-own"] {
            assert!(sieve.may_hold(name.as_bytes()), "{name}");
        }
        for name in ["", "user-agent", "date", "c", "own-"] {
            assert!(!sieve.may_hold(name.as_bytes()), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_is_lost(names in proptest::collection::vec("[!-~]{0,80}", 0..9)) {
            let mut sieve = Sieve::of(&[]);
            for name in &names {
                sieve.add(name.as_bytes());
            }
            for name in &names {
                for spelt in [name.clone(), name.to_uppercase(), name.to_lowercase(), name.replace('-', "_"), name.replace('_', ".")] {
                    prop_assert!(sieve.may_hold(spelt.as_bytes()));
                }
            }
        }
    }
}
