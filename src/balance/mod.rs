//! WHICH ENDPOINT? One worker's choice among the endpoints of a cluster.
//!
//! A [`Picker`] is given the endpoints anew for each pick and remembers only what its policy needs,
//! so a snapshot with more, fewer or other endpoints does it no harm. It never picks an endpoint
//! that isn't available, and over a full period each one in proportion to its weight.
//!
//! It doesn't judge health, count requests or decide on retries: an endpoint says through [`Load`]
//! how it is, and a retry says through `eligible` which endpoints it has tried.

mod round_robin;

use round_robin::RoundRobin;

/// What balancing asks of an endpoint.
pub trait Load {
    /// Whether it may be picked now.
    fn available(&self) -> bool;
    /// How much of the traffic it gets, compared with its neighbours; 0 counts as 1.
    ///
    /// May differ from one pick to the next.
    fn weight(&self) -> u16;
    /// Requests in flight.
    fn in_flight(&self) -> usize;
}

/// How to balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Smooth weighted round robin: in turn, those with more weight more often, never in bursts.
    RoundRobin,
}

/// One worker's state of balancing over one cluster.
#[derive(Debug)]
pub struct Picker(State);

#[derive(Debug)]
enum State {
    RoundRobin(RoundRobin),
}

impl Picker {
    /// Starts a policy; `seed` spreads the workers' starting points (a worker's index will do).
    pub fn new(policy: Policy, seed: usize) -> Self {
        match policy {
            Policy::RoundRobin => Self(State::RoundRobin(RoundRobin::new(seed))),
        }
    }

    /// The index of the endpoint to use: an available one for which `eligible` holds.
    ///
    /// `None` when there is none. `eligible` gets indices into `endpoints` and may be asked more
    /// than once. Allocates only when weights differ and there are more endpoints than ever before.
    pub fn pick<L: Load>(
        &mut self,
        endpoints: &[L],
        eligible: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        match &mut self.0 {
            State::RoundRobin(state) => state.pick(endpoints, eligible),
        }
    }
}
