//! Names of fields that must not pass: a set that says no quickly.

use crate::fields::Sieve;

/// Managed and stripped names, compared with `_` and `.` read as `-`.
#[derive(Debug, Clone)]
pub(super) struct NameSet {
    /// Most fields of a request are ruled out by this alone.
    sieve: Sieve,
    managed: Vec<Box<str>>,
    stripped: Vec<Box<str>>,
}

impl NameSet {
    /// `ours` count as managed beside [`MANAGED`].
    pub(super) fn new<'n>(
        ours: impl Iterator<Item = &'n str>,
        stripped: impl Iterator<Item = &'n str>,
    ) -> Self {
        let own = |name: &str| name.to_ascii_lowercase().into_boxed_str();
        let mut managed: Vec<Box<str>> = MANAGED.iter().copied().chain(ours).map(own).collect();
        managed.sort_unstable();
        managed.dedup();
        let stripped: Vec<Box<str>> = stripped.map(own).collect();
        let mut sieve = Sieve::of(&[]);
        for name in managed.iter().chain(&stripped) {
            sieve.add(name.as_bytes());
        }
        Self {
            sieve,
            managed,
            stripped,
        }
    }

    pub(super) fn removes(&self, name: &[u8], from_trusted_peer: bool) -> bool {
        if !self.sieve.may_hold(name) {
            return false;
        }
        if self.managed.iter().any(|managed| is_twin(managed, name)) {
            return true;
        }
        // A trusted peer answers for its field, not for a name that some backends take for the same.
        let mut twins = self
            .stripped
            .iter()
            .filter(|stripped| is_twin(stripped, name));
        twins.any(|stripped| !from_trusted_peer || !name.eq_ignore_ascii_case(stripped.as_bytes()))
    }
}

fn is_twin(known: &str, name: &[u8]) -> bool {
    // From behind: most of these names begin alike.
    let mut bytes = known.bytes().rev().zip(name.iter().rev());
    known.len() == name.len() && bytes.all(|(a, b)| a == *b || fold(a) == fold(*b))
}

/// Many backends turn names into variables, where `-`, `_` and `.` become the same. Names are the same in any case.
fn fold(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' => b'-',
        _ => byte.to_ascii_lowercase(),
    }
}

/// What only we may say.
const MANAGED: [&str; 15] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-method",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-forwarded-uri",
    "x-original-forwarded-for",
    "x-original-forwarded-host",
    "x-real-ip",
    "x-scheme",
];

/// What an untrusted peer may not say, unless the operator lists other names.
pub(super) const STRIPPED: [&str; 13] = [
    "client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "fly-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-originating-ip",
    "x-envoy-external-address",
    "x-appengine-user-ip",
];
