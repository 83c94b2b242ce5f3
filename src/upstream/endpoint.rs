//! One address of a cluster: shared facts in [`Endpoint`], a worker's own state in [`LocalEndpoint`].

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::balance::Load;
use crate::config::{OutlierDetection, PoolLimits};
use crate::transport::deadline::Deadlines;
use crate::transport::dial;

use super::h1::Connection;
use super::h2::Sessions;
use super::health::Health;
use super::link::Link;
use super::pool::Pool;
use super::queue::Queue;

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl EndpointAddress {
    /// As dialling wants it.
    pub fn as_destination(&self) -> dial::To<'_> {
        match self {
            Self::Ip(address) => dial::To::Ip(*address),
            Self::Unix(path) => dial::To::Unix(path),
        }
    }
}

impl std::fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One address of a cluster, as all workers see it.
#[derive(Debug)]
pub struct Endpoint {
    /// What doesn't change while it lives.
    pub facts: Facts,
    /// What does. Outlives a change of the facts, as long as the address stays.
    pub state: Arc<State>,
}

impl std::ops::Deref for Endpoint {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.facts
    }
}

/// What was configured for an endpoint.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where it listens.
    pub address: EndpointAddress,
    /// What it is called in a Host field when the client sent none: as configured.
    pub authority: String,
    /// Share of the requests.
    pub weight: u16,
    /// How it is spoken to.
    pub link: Link,
    /// When it gets requests.
    pub role: Role,
    /// Connections to it at most, over all workers.
    pub max_connections: usize,
    /// When it is left alone after failed connects.
    pub outlier_detection: OutlierDetection,
    /// How long it takes to its full weight when it is new, or healthy again.
    pub slow_start: Duration,
}

/// When an endpoint gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Always.
    Primary,
    /// While no primary is available.
    Backup,
}

/// What all workers and the control thread know of an endpoint.
#[derive(Debug, Default)]
pub struct State {
    /// Whether it may be sent requests.
    pub health: Health,
    connections: AtomicUsize,
    /// An operator wants no requests there.
    drained: AtomicBool,
}

impl State {
    /// Of an endpoint that came at this tick, when others were there already.
    pub fn appeared(now: u64) -> Self {
        Self {
            health: Health::appeared(now),
            ..Self::default()
        }
    }
}

/// One worker's side of an endpoint.
#[derive(Debug)]
pub struct LocalEndpoint {
    /// What is shared.
    pub endpoint: Arc<Endpoint>,
    /// Idle connections to it.
    pub pool: Rc<Pool>,
    /// Its HTTP/2 connections.
    pub sessions: Rc<Sessions>,
    /// Whether it preferred HTTP/1.1 when it was last asked.
    pub(super) chose_http1: Cell<bool>,
    in_flight: Cell<usize>,
    queue: Rc<Queue>,
    pub(super) clock: Rc<Deadlines>,
}

impl LocalEndpoint {
    /// Without connections yet.
    pub fn new(
        endpoint: Arc<Endpoint>,
        limits: PoolLimits,
        queue: &Rc<Queue>,
        clock: &Rc<Deadlines>,
    ) -> Rc<Self> {
        Rc::new(Self {
            pool: Pool::new(limits, queue, clock),
            endpoint,
            sessions: Sessions::new(limits, queue, clock),
            chose_http1: Cell::new(false),
            in_flight: Cell::new(0),
            queue: Rc::clone(queue),
            clock: Rc::clone(clock),
        })
    }

    /// Whether a connection can be had without queueing: an idle one, a stream of one that is open or being made, or a
    /// new one.
    pub fn has_room(&self) -> bool {
        !self.pool.is_empty() || self.takes_more() || self.sessions.has_room()
    }

    /// Whether there may be one more connection, as far as we know.
    fn takes_more(&self) -> bool {
        !self.endpoint.is_full() && !self.queue.is_short(self.clock.now())
    }

    /// Closes an idle connection, if there is one: that which has been idle for longest. False: there is none.
    pub(super) fn close_oldest(&self) -> bool {
        self.pool.close_oldest() || self.sessions.close_oldest()
    }

    /// Room for a new connection; `None` when there are as many as there may be, or can be for now.
    pub fn reserve(&self) -> Option<Permit> {
        if self.queue.is_short(self.clock.now()) {
            return None;
        }
        let connections = &self.endpoint.state.connections;
        if connections.fetch_add(1, Relaxed) >= self.endpoint.max_connections {
            connections.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Permit {
            endpoint: Arc::clone(&self.endpoint),
            queue: Rc::clone(&self.queue),
        })
    }

    /// Opens a plain connection within `limit`.
    ///
    /// # Errors
    /// [`dial::Error`]: nothing was sent.
    pub(super) async fn dial(
        &self,
        permit: Permit,
        limit: Duration,
    ) -> Result<Box<Connection>, dial::Error> {
        let deadline = self.clock.register();
        let stream = match &self.endpoint.address {
            EndpointAddress::Ip(address) => dial::tcp(*address, limit, &deadline).await?,
            EndpointAddress::Unix(path) => dial::unix(path, limit, &deadline).await?,
        };
        Ok(Connection::new(stream, deadline, permit))
    }

    /// Counts a request until the guard is dropped.
    pub fn begin(self: &Rc<Self>) -> Serving {
        self.in_flight.set(self.in_flight.get() + 1);
        Serving(Rc::clone(self))
    }
}

impl Endpoint {
    /// Whether requests may be sent to it now, as long as there are such endpoints.
    pub fn is_available(&self, now: u64) -> bool {
        !self.is_drained() && self.is_healthy(now)
    }

    /// Whether requests could be sent to it now, whatever an operator says.
    pub fn is_healthy(&self, now: u64) -> bool {
        self.state.health.is_available(now, &self.outlier_detection)
    }

    /// Whether nothing at all speaks against it.
    pub fn is_sound(&self) -> bool {
        !self.is_drained() && self.state.health.is_sound(&self.outlier_detection)
    }

    /// Whether it gets no requests, even where there is no other endpoint: an operator said so.
    pub fn is_drained(&self) -> bool {
        self.state.drained.load(Relaxed)
    }

    /// Gives it no more requests. Those under way go on.
    pub fn drain(&self) {
        self.state.drained.store(true, Relaxed);
    }

    /// Gives it requests again.
    pub fn resume(&self) {
        self.state.drained.store(false, Relaxed);
    }

    /// How many connections to it there are, over all workers.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Relaxed)
    }

    /// Whether there are as many connections to it as there may be.
    pub fn is_full(&self) -> bool {
        self.connections() >= self.max_connections
    }
}

impl Load for Rc<LocalEndpoint> {
    /// The cluster judges that: it may have to pick one in bad health, when there is no other.
    fn available(&self) -> bool {
        true
    }

    fn weight(&self) -> u16 {
        let endpoint = &self.endpoint;
        if endpoint.slow_start.is_zero() {
            return endpoint.weight;
        }
        // In hundredths for all endpoints of the cluster: a weight of 1 can't grow otherwise.
        let health = &endpoint.state.health;
        let percent = health.percent_of_weight(self.clock.since_epoch(), endpoint.slow_start);
        endpoint.weight.saturating_mul(percent)
    }

    fn in_flight(&self) -> usize {
        self.in_flight.get()
    }
}

/// A request that an endpoint is serving.
#[derive(Debug)]
pub struct Serving(Rc<LocalEndpoint>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

/// Room for one connection, as long as it is held.
#[derive(Debug)]
pub struct Permit {
    endpoint: Arc<Endpoint>,
    queue: Rc<Queue>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.endpoint.state.connections.fetch_sub(1, Relaxed);
        self.queue.pass_on();
    }
}
