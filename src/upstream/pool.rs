//! One worker's idle connections to one endpoint: last in, first out, so that a shrinking load lets the oldest expire.
//!
//! An idle connection has no task and no timer; it is looked at when it is taken out and by a sweep once a second.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::config::PoolLimits;
use crate::transport::deadline::{Deadlines, ticks};
use crate::transport::dial::Announced;

use super::h1::Connection;
use super::link::Reuse;
use super::queue::Queue;

/// Idle connections to one endpoint.
#[derive(Debug)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    limits: Cell<PoolLimits>,
    queue: Rc<Queue>,
    clock: Rc<Deadlines>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: u64,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: PoolLimits, queue: &Rc<Queue>, clock: &Rc<Deadlines>) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            limits: Cell::new(limits),
            queue: Rc::clone(queue),
            clock: Rc::clone(clock),
        })
    }

    /// Whether there is no idle connection.
    pub fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }

    /// From now on other limits hold, for the connections already here as well.
    pub fn set_limits(&self, limits: PoolLimits) {
        self.limits.set(limits);
    }

    /// The connection used last that the endpoint hasn't closed, if it hasn't been idle for too long.
    pub fn checkout(&self, reuse: Reuse) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle {
            mut connection,
            since,
        }) = idle.pop()
        {
            if self.is_expired(since) {
                // Whatever lies below has been idle for longer still.
                idle.clear();
                return None;
            }
            if self.is_open(&mut connection, since, reuse) {
                return Some(connection);
            }
        }
        None
    }

    /// As [`Self::checkout`], among connections whose PROXY header said this.
    pub fn checkout_for(
        &self,
        announced: Option<Announced>,
        reuse: Reuse,
    ) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(at) = idle
            .iter()
            .rposition(|idle| idle.connection.serves(announced))
        {
            let mut found = idle.remove(at);
            if !self.is_expired(found.since)
                && self.is_open(&mut found.connection, found.since, reuse)
            {
                return Some(found.connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, unless there are enough.
    pub fn put_back(&self, mut connection: Box<Connection>) {
        // Others want one, of which there are as many as there may be, be it to this endpoint or in the process.
        if self.queue.yields() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let most = self.limits.get().max_idle_per_endpoint;
        // Of connections that serve one client each, the oldest is the least likely to be of use again.
        if idle.len() >= most && !idle.is_empty() && !connection.serves(None) {
            idle.remove(0);
        }
        if idle.len() < most {
            connection.rest();
            idle.push(Idle {
                connection,
                since: self.clock.now(),
            });
            drop(idle);
            self.queue.wake();
        }
    }

    /// Closes the connection that has been idle for longest. False: none is idle.
    pub fn close_oldest(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let is_any = !idle.is_empty();
        if is_any {
            idle.remove(0);
        }
        is_any
    }

    /// Closes what has been idle for too long, or was closed by the endpoint.
    pub fn expire(&self) {
        self.idle
            .borrow_mut()
            .retain_mut(|idle| !self.is_expired(idle.since) && idle.connection.is_quiet());
    }

    fn is_expired(&self, since: u64) -> bool {
        self.clock.now() - since > ticks(self.limits.get().idle_timeout)
    }

    /// Whether the endpoint hasn't closed it, as far as `reuse` wants that known. Of one that was in use less than a tick ago
    /// the runtime has heard: what ends a connection after its answer comes before the next request, or in the same turn.
    fn is_open(&self, connection: &mut Connection, since: u64, reuse: Reuse) -> bool {
        match reuse {
            Reuse::IfOpen if self.clock.now() > since + 1 => connection.is_surely_quiet(),
            Reuse::Welcome | Reuse::IfOpen => connection.is_quiet(),
            Reuse::Avoided => false,
        }
    }
}
