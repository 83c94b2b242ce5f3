//! How many requests may be sent twice: a fifth of them, and ten a second.
//!
//! Without a bound an outage would triple the load on whatever still runs. Counted per worker and cluster over the last
//! ten to twenty seconds: enough to repeat all that were in flight to an endpoint that dies under load, and no more
//! than a fifth above the load in an outage that lasts. Two windows of counts, no timer.

use std::cell::Cell;

use crate::transport::deadline::Deadlines;

/// Ticks in a window.
const WINDOW: u64 = 100;

/// One retry for so many requests.
const REQUESTS_PER_RETRY: u64 = 5;

/// What time has earned when a worker starts: a second's worth.
const HEAD_START: u64 = 10;

/// The retries that one worker may make towards one cluster.
#[derive(Debug)]
pub struct Budget {
    began: u64,
    window: Cell<u64>,
    current: Cell<Counts>,
    previous: Cell<Counts>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// A budget that begins now.
    pub fn new(clock: &Deadlines) -> Self {
        Self {
            began: clock.now(),
            window: Cell::new(clock.now() / WINDOW),
            current: Cell::default(),
            previous: Cell::default(),
        }
    }

    /// Counts a request, its retries not included.
    pub fn earn(&self, clock: &Deadlines) {
        self.turn_over(clock.now());
        let mut counts = self.current.get();
        counts.requests += 1;
        self.current.set(counts);
    }

    /// Counts a retry, if it may be made.
    pub fn spend(&self, clock: &Deadlines) -> bool {
        let now = clock.now();
        self.turn_over(now);
        let (previous, mut current) = (self.previous.get(), self.current.get());
        let since_began = now.saturating_sub(self.began).saturating_add(HEAD_START);
        // Each tick earns one: that is ten a second.
        let by_time = since_began.min(WINDOW + now % WINDOW);
        let by_requests = (previous.requests + current.requests) / REQUESTS_PER_RETRY;
        let may = previous.retries + current.retries < by_time + by_requests;
        if may {
            current.retries += 1;
            self.current.set(current);
        }
        may
    }

    fn turn_over(&self, now: u64) {
        let window = now / WINDOW;
        let passed = window.saturating_sub(self.window.get());
        if passed == 0 {
            return;
        }
        let previous = if passed == 1 {
            self.current.get()
        } else {
            Counts::default()
        };
        self.window.set(window);
        self.previous.set(previous);
        self.current.set(Counts::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend_all(budget: &Budget, clock: &Deadlines) -> usize {
        (0..100_000).take_while(|_| budget.spend(clock)).count()
    }

    #[test]
    fn a_fresh_worker_may_repeat_ten_requests() {
        let clock = Deadlines::new();
        clock.advance(12_345);
        assert_eq!(spend_all(&Budget::new(&clock), &clock), 10);
    }

    #[test]
    fn ten_a_second_come_by_themselves() {
        let clock = Deadlines::new();
        let budget = Budget::new(&clock);
        spend_all(&budget, &clock);
        for second in 1..9 {
            clock.advance(second * 10);
            assert_eq!(spend_all(&budget, &clock), 10, "second {second}");
        }
    }

    #[test]
    fn every_fifth_request_may_be_repeated() {
        let clock = Deadlines::new();
        let budget = Budget::new(&clock);
        spend_all(&budget, &clock);
        for _ in 0..1_000 {
            budget.earn(&clock);
        }
        assert_eq!(spend_all(&budget, &clock), 200);
    }

    #[test]
    fn a_lasting_outage_adds_a_fifth_and_ten_a_second() {
        let clock = Deadlines::new();
        let budget = Budget::new(&clock);
        let mut retries = 0;
        for tick in 0..1_000 {
            clock.advance(tick);
            for _ in 0..50 {
                budget.earn(&clock);
                retries += usize::from(budget.spend(&clock));
                retries += usize::from(budget.spend(&clock));
            }
        }
        // 50 000 requests in 100 s; two windows may be spent in advance.
        assert!((10_500..=11_400).contains(&retries), "{retries}");
    }

    #[test]
    fn what_was_earned_long_ago_is_gone() {
        let clock = Deadlines::new();
        let budget = Budget::new(&clock);
        for _ in 0..10_000 {
            budget.earn(&clock);
        }
        clock.advance(300);
        assert_eq!(spend_all(&budget, &clock), 100);
    }
}
