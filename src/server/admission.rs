//! Who may have a connection: so many in all, and so many for each client.
//!
//! Counted over all workers, at the rate of connections and never of requests: an atomic for the sum, and a lock on one
//! part of a table for a client. Whoever is one too many in all waits in the kernel's queue; a client that has too many
//! is turned away.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::ops::BitXor;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::client_ip::Addr;

/// Parts of the table of clients, so that workers seldom meet at one.
const SHARDS: usize = 64;

/// Between two lines in the log about the same thing: clients could cause them by the thousand.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What is open, over all workers.
#[derive(Debug)]
pub(super) struct Admission {
    /// Never more connections than this, whatever is configured.
    most: usize,
    open: AtomicUsize,
    /// Whether anybody waits for a seat.
    awaited: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
    full: Rarely,
    clients: Vec<Mutex<HashMap<Addr, Client>>>,
    turned_away: TurnedAwayCount,
}

/// What a client has open.
#[derive(Debug, Default)]
struct Client {
    connections: usize,
    handshakes: usize,
}

/// A client has too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TurnedAway {
    #[error("too many connections of one client")]
    Connections,
    #[error("too many handshakes with one client")]
    Handshakes,
}

/// One of the connections of the process, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Admission>);

/// One of the connections of a client, until it is dropped.
#[derive(Debug)]
pub(super) struct Visit {
    admission: Arc<Admission>,
    client: Addr,
}

/// A handshake that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake<'a>(&'a Visit);

impl Admission {
    /// For at most `most` connections.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            open: AtomicUsize::new(0),
            awaited: AtomicBool::new(false),
            waiting: Mutex::default(),
            full: Rarely::default(),
            clients: (0..SHARDS).map(|_| Mutex::default()).collect(),
            turned_away: TurnedAwayCount::default(),
        })
    }

    /// Ready when fewer than `limit` connections are open.
    pub(super) fn poll_seat(self: &Arc<Self>, limit: usize, cx: &Context<'_>) -> Poll<Seat> {
        let limit = limit.min(self.most);
        if let Some(seat) = self.free_seat(limit) {
            return Poll::Ready(seat);
        }
        if self.full.may_be_told() {
            tracing::warn!(connections = limit, "too many connections: accepting waits");
        }
        self.await_seat(cx);
        // A seat that became free before this was seen by nobody.
        self.free_seat(limit).map_or(Poll::Pending, Poll::Ready)
    }

    /// Has whoever waits for a seat ask again: by another limit, say.
    pub(super) fn wake(&self) {
        if self.awaited.swap(false, Ordering::SeqCst) {
            for waker in locked(&self.waiting).drain(..) {
                waker.wake();
            }
        }
    }

    /// A seat above any limit.
    pub(super) fn spare_seat(self: &Arc<Self>) -> Seat {
        self.open.fetch_add(1, Ordering::SeqCst);
        Seat(Arc::clone(self))
    }

    fn free_seat(self: &Arc<Self>, limit: usize) -> Option<Seat> {
        let one_more = |open: usize| (open < limit).then_some(open + 1);
        self.open
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .is_ok()
            .then(|| Seat(Arc::clone(self)))
    }

    fn await_seat(&self, cx: &Context<'_>) {
        let mut waiting = locked(&self.waiting);
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        drop(waiting);
        self.awaited.store(true, Ordering::SeqCst);
    }

    /// Counts one more connection of a client that may have `limit`.
    ///
    /// # Errors
    /// It has that many.
    pub(super) fn visit(self: &Arc<Self>, client: Addr, limit: usize) -> Result<Visit, TurnedAway> {
        let mut clients = self.shard(client);
        let known = clients.entry(client).or_default();
        if known.connections >= limit {
            drop(clients);
            self.turned_away.add(client);
            return Err(TurnedAway::Connections);
        }
        known.connections += 1;
        drop(clients);
        Ok(Visit {
            admission: Arc::clone(self),
            client,
        })
    }

    fn shard(&self, client: Addr) -> MutexGuard<'_, HashMap<Addr, Client>> {
        // Clients that choose their addresses to meet here only wait for one another: the tables behind it hash.
        let part = match client.ip() {
            IpAddr::V4(ip) => ip.octets().into_iter().fold(0, BitXor::bitxor),
            IpAddr::V6(ip) => ip.octets().into_iter().fold(0, BitXor::bitxor),
        };
        #[expect(
            clippy::indexing_slicing,
            reason = "the table has as many parts as the remainder has values"
        )]
        locked(&self.clients[usize::from(part) % SHARDS])
    }

    /// Takes something off what is known of a client.
    fn forget(&self, client: Addr, take: impl FnOnce(&mut Client)) {
        if let Entry::Occupied(mut known) = self.shard(client).entry(client) {
            take(known.get_mut());
            if known.get().connections == 0 {
                known.remove();
            }
        }
    }
}

/// A panic elsewhere leaves nothing here half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.0.wake();
    }
}

impl Visit {
    /// Counts a handshake with this client, of which `limit` may be under way.
    ///
    /// # Errors
    /// So many are.
    pub(super) fn handshake(&self, limit: usize) -> Result<Handshake<'_>, TurnedAway> {
        let mut clients = self.admission.shard(self.client);
        let known = clients.entry(self.client).or_default();
        if known.handshakes >= limit {
            drop(clients);
            self.admission.turned_away.add(self.client);
            return Err(TurnedAway::Handshakes);
        }
        known.handshakes += 1;
        Ok(Handshake(self))
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.admission
            .forget(self.client, |known| known.connections -= 1);
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        let visit = self.0;
        visit
            .admission
            .forget(visit.client, |known| known.handshakes -= 1);
    }
}

/// How many connections were turned away; told now and then.
#[derive(Debug, Default)]
struct TurnedAwayCount {
    untold: AtomicU64,
    telling: Rarely,
}

impl TurnedAwayCount {
    fn add(&self, client: Addr) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        if self.telling.may_be_told() {
            let connections = self.untold.swap(0, Ordering::Relaxed);
            tracing::warn!(connections, last = %client.ip(), "clients with too many connections turned away");
        }
    }
}

/// Something that is told once in a while, however often it happens.
#[derive(Debug, Default)]
pub(super) struct Rarely(Mutex<Option<Instant>>);

impl Rarely {
    /// Whether it is time; whoever asks tells.
    pub(super) fn may_be_told(&self) -> bool {
        // Somebody else tells.
        let Ok(mut told) = self.0.try_lock() else {
            return false;
        };
        let may_be = told.is_none_or(|told| told.elapsed() >= REPORT_INTERVAL);
        if may_be {
            *told = Some(Instant::now());
        }
        may_be
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    fn client(last: u8) -> Addr {
        Addr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))).unwrap()
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn there_are_as_many_seats_as_the_limit() {
        let admission = Admission::new(usize::MAX);
        let first = admission.free_seat(2).unwrap();
        let _second = admission.free_seat(2).unwrap();
        assert!(admission.free_seat(2).is_none());
        drop(first);
        assert!(admission.free_seat(2).is_some());
    }

    #[test]
    fn descriptors_limit_whatever_is_configured() {
        let admission = Admission::new(1);
        let cx = Context::from_waker(Waker::noop());
        let Poll::Ready(_first) = admission.poll_seat(10, &cx) else {
            panic!("no seat");
        };
        assert!(admission.poll_seat(10, &cx).is_pending());
    }

    #[test]
    fn whoever_waits_is_woken_when_a_seat_is_free() {
        let admission = Admission::new(usize::MAX);
        let taken = admission.free_seat(1).unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let cx = Context::from_waker(&waker);
        assert!(admission.poll_seat(1, &cx).is_pending());
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        drop(taken);
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(admission.poll_seat(1, &cx).is_ready());
    }

    #[test]
    fn a_spare_seat_counts() {
        let admission = Admission::new(usize::MAX);
        let _first = admission.spare_seat();
        assert!(admission.free_seat(1).is_none());
    }

    #[test]
    fn a_client_may_have_as_many_connections_as_the_limit() {
        let admission = Admission::new(usize::MAX);
        let first = admission.visit(client(1), 1).unwrap();
        assert_eq!(
            admission.visit(client(1), 1).unwrap_err(),
            TurnedAway::Connections
        );
        assert!(admission.visit(client(2), 1).is_ok());
        drop(first);
        assert!(admission.visit(client(1), 1).is_ok());
    }

    #[test]
    fn handshakes_are_counted_while_they_last() {
        let admission = Admission::new(usize::MAX);
        let first = admission.visit(client(1), 10).unwrap();
        let second = admission.visit(client(1), 10).unwrap();
        let handshake = first.handshake(1).unwrap();
        assert_eq!(second.handshake(1).unwrap_err(), TurnedAway::Handshakes);
        drop(handshake);
        assert!(second.handshake(1).is_ok());
    }

    #[test]
    fn what_happens_often_is_told_once() {
        let rarely = Rarely::default();
        let told = [(); 3].map(|()| rarely.may_be_told());
        assert_eq!(told, [true, false, false]);
    }

    #[test]
    fn clients_that_have_gone_are_forgotten() {
        let admission = Admission::new(usize::MAX);
        for last in 0..200 {
            let visit = admission.visit(client(last), 1).unwrap();
            drop(visit.handshake(1).unwrap());
        }
        let known: usize = admission
            .clients
            .iter()
            .map(|shard| locked(shard).len())
            .sum();
        assert_eq!(known, 0);
    }
}
