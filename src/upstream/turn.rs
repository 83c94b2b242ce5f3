//! Which endpoint a request goes to now, and over which connection: health, roles, limits and the queue in one place.
//!
//! In this order: available primaries, available backups, endpoints in bad health that this request hasn't tried (when
//! all are down, one may just have come back), and at last those it has. Within one of these groups the policy picks
//! among endpoints that have room; when none has, the request waits.

use std::error::Error as _;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::transport::dial;

use super::LocalCluster;
use super::endpoint::{Endpoint, LocalEndpoint, Permit, Role};
use super::h2::BeingMade;
use super::health::Admission;
use super::link::{self, Attempt, Channel, Reuse, Unreached};
use super::queue::Wish;

/// More tries than this no request gets.
pub const MAX_ATTEMPTS: usize = 10;

/// What a try asks for.
#[derive(Debug)]
pub struct Wanted {
    channel: link::Wanted,
    /// Indices of endpoints; those at `failures` and after it mean nothing.
    tried: [usize; MAX_ATTEMPTS],
    failures: usize,
    /// One whose kept connection turned out closed, which says nothing of the endpoint.
    deserted: Option<usize>,
}

/// A request's turn to use an endpoint.
#[derive(Debug)]
pub struct Turn {
    /// Among the cluster's endpoints.
    pub index: usize,
    /// Whose turn it is to serve.
    pub endpoint: Rc<LocalEndpoint>,
    /// How to reach it.
    pub way: Way,
    /// Held while this request is the one that finds out whether the endpoint is back.
    pub probe: Option<Probe>,
}

/// How to reach an endpoint.
#[derive(Debug)]
pub enum Way {
    /// Over a connection kept from an earlier request.
    Kept(Channel),
    /// Over a new one, by [`LocalCluster::connect`].
    New(Permit),
    /// Over one that somebody else is making, by [`LocalCluster::connect`].
    Joined(Rc<BeingMade>),
}

/// A connect that failed, and what that led to.
#[derive(Debug)]
pub struct ConnectFailed {
    /// Why.
    pub error: dial::Error,
    /// What became of the endpoint.
    pub consequence: Consequence,
}

/// What a failed connect led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// Nothing so far.
    None,
    /// Nothing: it was another request's, and many may have waited for it.
    Shared,
    /// The endpoint is left alone for some time, because of this very connect.
    Ejected,
    /// It was tried too early: this process has no descriptor for it. The next turn comes when it may.
    Postponed,
}

/// Why there is no endpoint for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The cluster is empty: its names don't resolve, or an operator has drained all there is.
    #[error("there is no endpoint")]
    NoEndpoint,
    /// All have as many connections as they may, and none came free in time.
    #[error("all endpoints are busy")]
    Overloaded,
    /// The cluster has changed while the request waited: it takes a turn in what there is now.
    #[error("the upstream has changed")]
    Superseded,
}

/// The only request that tries an endpoint whose ejection is over.
#[derive(Debug)]
pub struct Probe(Arc<Endpoint>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.state.health.end_probe();
    }
}

impl Wanted {
    /// Any endpoint, by such a channel.
    pub fn new(channel: link::Wanted) -> Self {
        Self {
            channel,
            tried: [0; MAX_ATTEMPTS],
            failures: 0,
            deserted: None,
        }
    }

    /// Asks for other endpoints from now on, as long as there are any.
    pub fn avoid(&mut self, index: usize) {
        self.deserted = None;
        if let Some(tried) = self.tried.get_mut(self.failures) {
            *tried = index;
            self.failures += 1;
        }
    }

    /// Asks for a new connection from now on, as a kept one to this endpoint was closed: to another endpoint first, and to
    /// this one before any of another role.
    pub fn renew(&mut self, index: usize) {
        self.channel.reuse = Reuse::Avoided;
        self.deserted = Some(index);
    }

    /// Asks for a connection that is known to be open.
    pub fn insist_on_open(&mut self) {
        self.channel.reuse = Reuse::IfOpen;
    }

    /// The same in a cluster whose endpoints are others: what was tried means nothing there.
    #[must_use]
    pub fn anew(&self, channel: link::Wanted) -> Self {
        Self::new(link::Wanted {
            reuse: self.channel.reuse,
            ..channel
        })
    }

    fn wish(&self) -> Wish {
        match (self.failures, self.deserted) {
            (0, None) => Wish::Any,
            _ => Wish::Untried,
        }
    }

    fn has_tried(&self, index: usize) -> bool {
        let mut tried = self.tried.iter().take(self.failures);
        tried.any(|tried| *tried == index) || self.deserted == Some(index)
    }
}

/// A group of endpoints looked through for one with room.
enum Group {
    Has(usize),
    /// All its endpoints are busy.
    Full,
    Empty,
}

impl LocalCluster {
    /// Waits until a request may use an endpoint: as a rule not at all, and for `limit` at most.
    ///
    /// # Errors
    /// [`Unavailable`]: the answer is 503.
    pub async fn turn(&self, wanted: &Wanted, limit: Duration) -> Result<Turn, Unavailable> {
        // Nobody overtakes those who wait.
        if self.queue.is_free()
            && let Some(outcome) = self.take_turn(wanted)
        {
            return outcome;
        }
        self.queue
            .wait(wanted.wish(), limit, &self.clock, || {
                self.take_turn_in_time(wanted)
            })
            .await
            .unwrap_or(Err(Unavailable::Overloaded))
    }

    /// Goes the way of a turn, and notes how it went. `None`: it leads elsewhere, and the request takes another turn.
    ///
    /// # Errors
    /// [`ConnectFailed`]: nothing was sent.
    pub async fn connect(
        &self,
        endpoint: &LocalEndpoint,
        way: Way,
        wanted: &Wanted,
        limit: Duration,
    ) -> Result<Option<Channel>, ConnectFailed> {
        let outcome = match way {
            Way::Kept(channel) => return Ok(Some(channel)),
            Way::New(permit) => endpoint.connect(permit, wanted.channel, limit).await,
            Way::Joined(made) => endpoint.join(&made, wanted.channel).await,
        };
        match outcome {
            Ok(channel) => {
                self.note_connected(&endpoint.endpoint);
                Ok(channel)
            }
            Err(Unreached { error, attempt }) => {
                let consequence = match (&error, attempt) {
                    (dial::Error::Exhausted(_), _) => {
                        self.queue.note_shortage(self.clock.now());
                        Consequence::Postponed
                    }
                    (_, Attempt::Own) => self.note_failed(&endpoint.endpoint, &error),
                    (_, Attempt::Shared) => Consequence::Shared,
                };
                Err(ConnectFailed { error, consequence })
            }
        }
    }

    /// Notes that an endpoint has answered, perhaps to the request that was to find out whether it does.
    pub fn note_answered(&self, endpoint: &LocalEndpoint, probe: Option<&Probe>) {
        if probe.is_some() {
            self.note_connected(&endpoint.endpoint);
        }
    }

    fn note_connected(&self, endpoint: &Endpoint) {
        if endpoint.state.health.connected(self.clock.since_epoch()) {
            tracing::info!(upstream = self.name, endpoint = %endpoint.address, "upstream connects again");
        }
    }

    fn note_failed(&self, endpoint: &Arc<Endpoint>, error: &dial::Error) -> Consequence {
        let cause = error.source().unwrap_or(error);
        if !concerns_endpoint(error) {
            tracing::debug!(endpoint = %endpoint.address, error = %cause, "connect");
            return Consequence::None;
        }
        let others = || {
            self.endpoints
                .iter()
                .map(|other| &other.endpoint)
                .any(|other| !Arc::ptr_eq(other, endpoint) && other.is_sound())
        };
        let now = self.clock.since_epoch();
        let health = &endpoint.state.health;
        let failure = health.connect_failed(now, &endpoint.outlier_detection, others);
        let (upstream, endpoint) = (&self.name, &endpoint.address);
        if failure.is_news {
            tracing::warn!(upstream, %endpoint, error = %cause, "upstream connect failed");
        }
        match failure.ejected_for {
            Some(ejected_for) => {
                tracing::debug!(upstream, %endpoint, ?ejected_for, "ejected");
                Consequence::Ejected
            }
            None => Consequence::None,
        }
    }

    /// The same for one who has waited.
    fn take_turn_in_time(&self, wanted: &Wanted) -> Option<Result<Turn, Unavailable>> {
        if self.queue.generation() != self.generation {
            return Some(Err(Unavailable::Superseded));
        }
        self.take_turn(wanted)
    }

    /// `None` while every endpoint that would do is busy.
    fn take_turn(&self, wanted: &Wanted) -> Option<Result<Turn, Unavailable>> {
        let now = self.clock.since_epoch();
        // What was idle may turn out closed, or another client's; or another worker is faster: then it is chosen anew,
        // by the room that is left.
        for _ in 0..=self.endpoints.len() {
            let index = match self.choose(wanted, now) {
                Group::Has(index) => index,
                Group::Full => return None,
                Group::Empty => return Some(Err(Unavailable::NoEndpoint)),
            };
            let endpoint = self.endpoints.get(index)?;
            let health = &endpoint.endpoint.state.health;
            let was_available = endpoint.endpoint.is_available(now);
            let probe = match health.admit() {
                Admission::Probe => Some(Probe(Arc::clone(&endpoint.endpoint))),
                // Another worker probes it since a moment: it isn't available any more.
                Admission::Refused if was_available => continue,
                // When nothing is available, everything is tried.
                Admission::Refused | Admission::Free => None,
            };
            if let Some(way) = way(endpoint, wanted.channel) {
                return Some(Ok(Turn {
                    index,
                    endpoint: Rc::clone(endpoint),
                    way,
                    probe,
                }));
            }
        }
        None
    }

    fn choose(&self, wanted: &Wanted, now: u64) -> Group {
        let open = |index: usize| {
            let endpoint = self.endpoints.get(index);
            endpoint.is_some_and(|local| !local.endpoint.is_drained())
        };
        let untried = |index| open(index) && !wanted.has_tried(index);
        let available = |index: usize, role| {
            self.endpoints.get(index).is_some_and(|local| {
                let endpoint = &local.endpoint;
                endpoint.role == role && endpoint.is_available(now)
            })
        };
        for role in [Role::Primary, Role::Backup] {
            let others = self.choose_among(|index| untried(index) && available(index, role));
            if let Group::Has(_) = others {
                return others;
            }
            if let Some(deserted) = wanted.deserted
                && open(deserted)
                && available(deserted, role)
            {
                return self.choose_among(|index| index == deserted);
            }
            if let Group::Full = others {
                return others;
            }
        }
        match self.choose_among(untried) {
            Group::Empty => self.choose_among(open),
            found => found,
        }
    }

    /// Lets the policy pick among the candidates that have room.
    fn choose_among(&self, candidate: impl Fn(usize) -> bool) -> Group {
        let endpoint = |index: usize| self.endpoints.get(index);
        let has_room = |index| endpoint(index).is_some_and(|endpoint| endpoint.has_room());
        let mut picker = self.picker.borrow_mut();
        match picker.pick(&self.endpoints, |index| candidate(index) && has_room(index)) {
            Some(index) => Group::Has(index),
            None if (0..self.endpoints.len()).any(candidate) => Group::Full,
            None => Group::Empty,
        }
    }
}

fn way(endpoint: &LocalEndpoint, wanted: link::Wanted) -> Option<Way> {
    if let Some(channel) = endpoint.kept(wanted) {
        return Some(Way::Kept(channel));
    }
    if let Some(made) = endpoint.being_made(wanted) {
        return Some(Way::Joined(made));
    }
    let permit = endpoint.reserve().or_else(|| {
        // A new connection is wanted, and only an idle one stands in its way.
        endpoint.close_oldest();
        endpoint.reserve()
    });
    permit.map(Way::New)
}

/// Whether the failure says anything of the endpoint: it doesn't when this process is out of descriptors or ports, nor
/// when there is a connection, only none for WebSockets.
fn concerns_endpoint(error: &dial::Error) -> bool {
    match error {
        dial::Error::Failed(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
        dial::Error::Exhausted(_) | dial::Error::NoWebSockets => false,
        _ => true,
    }
}

#[cfg(test)]
pub(super) mod tests;
