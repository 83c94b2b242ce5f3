//! Sessions of TLS 1.2 clients that know no tickets: kept here, for any worker, in bounded number and for a bounded time.
//!
//! Everybody else keeps a session as a ticket, and costs nothing here.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::server::StoresServerSessions;

/// Sessions by their identifiers. A session lives for one to two [`GENERATION`]s, as a ticket does, less if many come.
pub(super) struct Sessions(Mutex<Generations>);

/// How long sessions are added to a generation. The one before is kept as well.
const GENERATION: Duration = Duration::from_secs(6 * 60 * 60);

/// What a generation holds at most.
const MAX_SESSIONS: usize = 2048;

/// What of a generation's sessions is secret is forgotten with it.
struct Generations {
    current: HashMap<Vec<u8>, Vec<u8>>,
    previous: HashMap<Vec<u8>, Vec<u8>>,
    begun: Instant,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Generations::begun_at(Instant::now())))
    }

    /// Locked only within handshakes of such clients, and for no longer than a look into a table.
    fn with<T>(&self, look: impl FnOnce(&mut Generations) -> T) -> T {
        // A table is whole at any time, whoever panicked.
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.advance(Instant::now());
        look(&mut generations)
    }
}

impl Generations {
    fn begun_at(now: Instant) -> Self {
        Self {
            current: HashMap::new(),
            previous: HashMap::new(),
            begun: now,
        }
    }

    /// Forgets what is too old at this time.
    fn advance(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.begun);
        if age >= 2 * GENERATION {
            *self = Self::begun_at(now);
        } else if age >= GENERATION || self.current.len() >= MAX_SESSIONS {
            self.previous = std::mem::take(&mut self.current);
            self.begun = now;
        }
    }

    fn find(&self, id: &[u8]) -> Option<&Vec<u8>> {
        self.current.get(id).or_else(|| self.previous.get(id))
    }

    fn remove(&mut self, id: &[u8]) -> Option<Vec<u8>> {
        let (current, previous) = (self.current.remove(id), self.previous.remove(id));
        current.or(previous)
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, id: Vec<u8>, session: Vec<u8>) -> bool {
        self.with(|generations| generations.current.insert(id, session));
        true
    }

    fn get(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.with(|generations| generations.find(id).cloned())
    }

    fn take(&self, id: &[u8]) -> Option<Vec<u8>> {
        self.with(|generations| generations.remove(id))
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Sessions are secret.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_until_it_is_taken() {
        let sessions = Sessions::new();
        assert!(sessions.put(b"a".to_vec(), b"secret".to_vec()));
        assert_eq!(sessions.get(b"a").as_deref(), Some(&b"secret"[..]));
        assert_eq!(sessions.get(b"b"), None);
        assert_eq!(sessions.take(b"a").as_deref(), Some(&b"secret"[..]));
        assert_eq!(sessions.get(b"a"), None);
        assert!(!format!("{sessions:?}").contains("secret"));
    }

    #[test]
    fn a_session_is_forgotten_after_two_generations_at_most() {
        let begun = Instant::now();
        let mut generations = Generations::begun_at(begun);
        generations.current.insert(b"old".to_vec(), Vec::new());
        generations.advance(begun + GENERATION / 2);
        generations.current.insert(b"new".to_vec(), Vec::new());
        generations.advance(begun + GENERATION);
        assert!(generations.find(b"old").is_some() && generations.find(b"new").is_some());
        generations.advance(begun + GENERATION * 3 / 2);
        assert!(generations.find(b"old").is_some());
        generations.advance(begun + 2 * GENERATION);
        assert!(generations.find(b"old").is_none() && generations.find(b"new").is_none());
        // Nobody came for a long time.
        generations.current.insert(b"last".to_vec(), Vec::new());
        generations.advance(begun + 4 * GENERATION);
        assert!(generations.find(b"last").is_none());
    }

    #[test]
    fn the_newest_are_kept_when_there_are_many() {
        let sessions = Sessions::new();
        let id = |number: usize| number.to_be_bytes().to_vec();
        for number in 0..3 * MAX_SESSIONS {
            sessions.put(id(number), Vec::new());
        }
        assert!(sessions.with(|it| it.current.len() + it.previous.len()) <= 2 * MAX_SESSIONS);
        for (number, is_kept) in [
            (0, false),
            (2 * MAX_SESSIONS, true),
            (3 * MAX_SESSIONS - 1, true),
        ] {
            assert_eq!(sessions.get(&id(number)).is_some(), is_kept, "{number}");
        }
    }
}
