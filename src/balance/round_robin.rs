//! Smooth weighted round robin, at a cost that doesn't grow with the number of endpoints.
//!
//! While all weights are equal, a cursor moves past each picked endpoint: the next pick costs one step for an available
//! neighbour. Otherwise each endpoint has a turn that comes round the more often the more it weighs, and a heap knows
//! whose is next: weights of 5, 1, 1 give `a b a a a c a`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::Load;

/// The state of one worker over one cluster.
#[derive(Debug)]
pub(super) struct RoundRobin {
    seed: usize,
    /// How many endpoints there were at the last pick.
    endpoints: usize,
    /// Where the search for the next one begins while weights are equal.
    cursor: usize,
    /// Whose turn comes when; empty while weights are equal.
    turns: BinaryHeap<Reverse<Turn>>,
    /// Turns taken out of `turns` during a pick, kept for its room.
    passed_over: Vec<Turn>,
    /// Picks until weights are looked at again.
    until_look: usize,
}

/// When an endpoint is picked next. Ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    due: u64,
    index: usize,
    /// What rounding has kept from `due`, in parts of the weight: without it, shares would drift.
    owed: u64,
}

/// From one turn to the next for a weight of 1; those of other weights divide it.
const SPAN: u64 = 1 << 40;

impl Turn {
    fn first<L: Load>(index: usize, endpoint: &L) -> Self {
        let due = phase(index, step(endpoint));
        Self {
            due,
            index,
            owed: 0,
        }
    }

    /// Goes by so many times. After as many as the endpoint weighs, exactly a [`SPAN`] has passed.
    fn advance<L: Load>(&mut self, times: u64, endpoint: &L) {
        let spans = SPAN.saturating_mul(times).saturating_add(self.owed);
        self.due = self.due.saturating_add(spans / weight(endpoint));
        self.owed = spans % weight(endpoint);
    }
}

impl RoundRobin {
    pub(super) fn new(seed: usize) -> Self {
        Self {
            seed,
            endpoints: 0,
            cursor: seed,
            turns: BinaryHeap::new(),
            passed_over: Vec::new(),
            until_look: 0,
        }
    }

    pub(super) fn pick<L: Load>(
        &mut self,
        endpoints: &[L],
        eligible: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        if endpoints.len() != self.endpoints {
            self.endpoints = endpoints.len();
            self.cursor = self.cursor.checked_rem(endpoints.len())?;
            self.turns.clear();
            self.heed_weights(endpoints);
        }
        let usable = |(index, endpoint): (usize, &L)| endpoint.available() && eligible(index);
        if self.turns.is_empty() {
            self.pick_next(endpoints, usable)
        } else {
            self.pick_due(endpoints, usable)
        }
    }

    fn pick_next<L: Load>(
        &mut self,
        endpoints: &[L],
        usable: impl Fn((usize, &L)) -> bool,
    ) -> Option<usize> {
        let indexed = || endpoints.iter().enumerate();
        let mut from_cursor = indexed()
            .skip(self.cursor)
            .chain(indexed().take(self.cursor));
        let (picked, _) = from_cursor.find(|candidate| usable(*candidate))?;

        let is_new_round = picked < self.cursor || picked + 1 == endpoints.len();
        self.cursor = (picked + 1) % endpoints.len();
        if is_new_round {
            // Once a round is enough to notice a changed weight, and keeps a pick from walking all.
            self.heed_weights(endpoints);
        }
        Some(picked)
    }

    fn pick_due<L: Load>(
        &mut self,
        endpoints: &[L],
        usable: impl Fn((usize, &L)) -> bool,
    ) -> Option<usize> {
        let mut picked = None;
        while let Some(mut first) = self.turns.peek_mut() {
            let Reverse(Turn { due, index, .. }) = *first;
            match endpoints.get(index) {
                Some(endpoint) if usable((index, endpoint)) => {
                    first.0.advance(1, endpoint);
                    picked = Some((due, index));
                    break;
                }
                _ => self.passed_over.push(PeekMut::pop(first).0),
            }
        }
        for mut turn in self.passed_over.drain(..) {
            if let Some((now, _)) = picked
                && let Some(endpoint) = endpoints.get(turn.index)
            {
                // Its turns go by, and nobody comes back to a burst.
                turn.advance((now - turn.due) / step(endpoint) + 1, endpoint);
            }
            self.turns.push(Reverse(turn));
        }
        let (now, picked) = picked?;
        self.until_look = self.until_look.saturating_sub(1);
        if self.until_look == 0 {
            self.begin_round(endpoints, now);
        }
        Some(picked)
    }

    /// Changes between cursor and turns as the weights at hand ask for.
    fn heed_weights<L: Load>(&mut self, endpoints: &[L]) {
        if are_equal(endpoints) {
            return;
        }
        let turns = endpoints.iter().enumerate();
        let turns = turns.map(|(index, endpoint)| Reverse(Turn::first(index, endpoint)));
        self.turns = turns.collect();
        self.until_look = endpoints.len();
        // Each worker begins elsewhere in the cycle, or all would send their first to one.
        for _ in 0..self.seed % endpoints.len() {
            self.pick_due(endpoints, |_| true);
        }
    }

    /// Looks at the weights once in as many picks as there are endpoints, which keeps a pick from walking all.
    fn begin_round<L: Load>(&mut self, endpoints: &[L], now: u64) {
        self.until_look = endpoints.len();
        if are_equal(endpoints) {
            self.turns.clear();
            return;
        }
        let mut turns = std::mem::take(&mut self.turns).into_vec();
        for Reverse(turn) in &mut turns {
            // Time begins anew, so that it never runs out.
            turn.due = turn.due.saturating_sub(now);
            // Who has gained weight needn't wait for as long as before.
            if let Some(endpoint) = endpoints.get(turn.index)
                && turn.due > step(endpoint)
            {
                *turn = Turn::first(turn.index, endpoint);
            }
        }
        self.turns = turns.into();
    }
}

fn are_equal<L: Load>(endpoints: &[L]) -> bool {
    let mut weights = endpoints.iter().map(weight);
    let first = weights.next();
    weights.all(|weight| Some(weight) == first)
}

fn weight<L: Load>(endpoint: &L) -> u64 {
    endpoint.weight().max(1).into()
}

/// From one turn of the endpoint to the next, at most.
fn step<L: Load>(endpoint: &L) -> u64 {
    SPAN.div_ceil(weight(endpoint))
}

/// When an endpoint has its first turn. By the golden ratio, neighbours of the same weight come at different times, and
/// any row of them is spread over the whole step.
fn phase(index: usize, step: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let fraction = (index as u64 + 1).wrapping_mul(GOLDEN) >> 48;
    (step * fraction) >> 16
}

#[cfg(test)]
mod tests;
