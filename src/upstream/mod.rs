//! The other side: clusters, their endpoints, and an exchange over HTTP/1.1 or HTTP/2 with one of them.
//!
//! A [`Cluster`] is shared by all workers and immutable; [`LocalCluster`] is one worker's view of it, with its own
//! picker and idle connections. Deciding which request goes where, and what may be retried, is the proxy's.

pub mod budget;
pub mod endpoint;
pub mod h1;
pub mod h2;
pub mod health;
pub mod link;
pub mod pool;
pub mod queue;
mod replay;
pub mod turn;
pub mod websocket;
pub mod whoami;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::balance::{Picker, Policy};
use crate::config::{HealthCheck, PoolLimits, Retries, UpstreamTimeouts};
use crate::transport::deadline::Deadlines;

use budget::Budget;
use queue::{Line, Queue};

pub use endpoint::{Endpoint, EndpointAddress, LocalEndpoint};
pub use link::{Channel, Link};

/// A named group of endpoints with one balancing policy.
#[derive(Debug)]
pub struct Cluster {
    /// What operators call it.
    pub name: String,
    /// What stands behind the name.
    pub target: Target,
    /// Deadlines towards its endpoints.
    pub timeouts: UpstreamTimeouts,
    /// Bounds of each worker's idle connections.
    pub pool: PoolLimits,
    /// What is tried again.
    pub retries: Retries,
    /// How long a request waits for a connection while every endpoint has as many as it may.
    pub queue_timeout: Duration,
    /// How endpoints are checked, if they are.
    pub health_check: Option<HealthCheck>,
    /// Who waits, over all workers.
    pub line: Arc<Line>,
}

/// What stands behind a cluster's name.
#[derive(Debug)]
pub enum Target {
    /// Addresses; may be empty while a name doesn't resolve.
    Endpoints(Vec<Arc<Endpoint>>),
    /// The echo service in this binary.
    Whoami(crate::config::EchoOf),
}

/// One worker's view of a cluster.
#[derive(Debug)]
pub struct LocalCluster {
    name: String,
    picker: RefCell<Picker>,
    endpoints: Vec<Rc<LocalEndpoint>>,
    queue: Rc<Queue>,
    /// Whoever waits does so for this one, or leaves.
    generation: u64,
    budget: Rc<Budget>,
    clock: Rc<Deadlines>,
}

impl LocalCluster {
    /// A view of `cluster` that keeps the idle connections of endpoints which `previous` knows already.
    pub fn new(
        cluster: &Cluster,
        previous: Option<&Self>,
        worker: usize,
        clock: &Rc<Deadlines>,
    ) -> Self {
        let endpoints: &[Arc<Endpoint>] = match &cluster.target {
            Target::Endpoints(endpoints) => endpoints,
            Target::Whoami(_) => &[],
        };
        // By the address in memory, which each keeps for itself.
        let key = |endpoint: &Arc<Endpoint>| Arc::as_ptr(endpoint).addr();
        let known = previous.map_or(&[][..], |previous| &previous.endpoints);
        let mut locals: HashMap<usize, Rc<LocalEndpoint>> = known
            .iter()
            .map(|local| {
                local.pool.set_limits(cluster.pool);
                local.sessions.set_limits(cluster.pool);
                (key(&local.endpoint), Rc::clone(local))
            })
            .collect();
        let queue = previous.map_or_else(
            || Queue::new(Arc::clone(&cluster.line), worker),
            |previous| Rc::clone(&previous.queue),
        );
        let budget = previous.map_or_else(
            || Rc::new(Budget::new(clock)),
            |previous| Rc::clone(&previous.budget),
        );
        Self {
            name: cluster.name.clone(),
            picker: RefCell::new(Picker::new(Policy::RoundRobin, worker)),
            endpoints: endpoints
                .iter()
                .map(|endpoint| {
                    let local = locals.entry(key(endpoint)).or_insert_with(|| {
                        LocalEndpoint::new(Arc::clone(endpoint), cluster.pool, &queue, clock)
                    });
                    Rc::clone(local)
                })
                .collect(),
            generation: queue.begin_generation(),
            queue,
            budget,
            clock: Rc::clone(clock),
        }
    }

    /// In the order of the cluster's.
    pub fn endpoints(&self) -> &[Rc<LocalEndpoint>] {
        &self.endpoints
    }

    /// Whether its endpoints are told who the client is before HTTP begins.
    pub fn sends_proxy_headers(&self) -> bool {
        let first = self.endpoints.first();
        first.is_some_and(|local| local.endpoint.link.proxy_header.is_some())
    }

    /// What bounds the retries towards this cluster.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Looks after those who wait, here and elsewhere: once a tick, and when this worker is rung for.
    pub fn look_after_waiting(&self) {
        if !self.queue.somebody_waits() {
            return;
        }
        for local in &self.endpoints {
            local.sessions.reinstate();
        }
        if self.queue.yields() {
            self.make_room_elsewhere();
        }
        self.queue.wake();
    }

    /// Closes an idle connection where there can't be more; if there is none, any: the process may be out of descriptors.
    /// Or else has one close when it is idle.
    fn make_room_elsewhere(&self) {
        let full = || {
            self.endpoints
                .iter()
                .filter(|local| local.endpoint.is_full())
        };
        let closed = full().any(|local| local.close_oldest()) || self.close_oldest();
        if !closed {
            full().any(|local| local.sessions.retire_one());
        }
    }

    /// Closes an idle connection of the endpoint that comes first. False: there is none.
    pub fn close_oldest(&self) -> bool {
        self.endpoints.iter().any(|local| local.close_oldest())
    }

    /// Closes connections that have been idle for too long.
    pub fn expire_idle(&self) {
        for endpoint in &self.endpoints {
            endpoint.pool.expire();
            endpoint.sessions.expire();
        }
    }
}
