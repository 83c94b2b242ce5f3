//! Deadlines without timers: one table per worker, swept by one coarse tick.
//!
//! Arming, re-arming and disarming are a store into a table; nothing is allocated per request and no timer wheel is
//! touched. A deadline never fires early, and at most two ticks late while the worker has time to run. Not for anything
//! that needs finer time.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Length of a tick, and so the precision of every deadline.
pub const TICK: Duration = Duration::from_millis(100);

/// A whole number: [`ticks`] adds up seconds and what is left of one.
const TICKS_PER_SECOND: u32 = 1_000_000_000 / TICK.subsec_nanos();

const DISARMED: u64 = u64::MAX;

/// Before tick 0: whatever is noted down as 0 lies in the past.
static EPOCH: LazyLock<Instant> = LazyLock::new(|| {
    Instant::now()
        .checked_sub(TICK)
        .unwrap_or_else(Instant::now)
});

/// The tick at hand as all threads count them, for those without a table of deadlines.
pub fn ticks_now() -> u64 {
    ticks(EPOCH.elapsed())
}

/// How many ticks last at least as long as `duration`.
pub fn ticks(duration: Duration) -> u64 {
    let of_seconds = duration.as_secs().saturating_mul(TICKS_PER_SECOND.into());
    let of_the_rest = duration.subsec_nanos().div_ceil(TICK.subsec_nanos());
    of_seconds.saturating_add(of_the_rest.into()).min(1 << 60)
}

/// All deadlines of one worker.
#[derive(Debug, Default)]
pub struct Deadlines {
    now: Cell<u64>,
    since_epoch: Cell<u64>,
    due: RefCell<Vec<u64>>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
}

impl Deadlines {
    /// A table with its clock at zero.
    pub fn new() -> Rc<Self> {
        Rc::new(Self::default())
    }

    /// Ticks that this worker has counted: for what it keeps to itself.
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Ticks since one moment of the process: what one worker notes down means the same to all.
    pub fn since_epoch(&self) -> u64 {
        self.since_epoch.get()
    }

    /// A new, disarmed deadline.
    pub fn register(self: &Rc<Self>) -> Deadline {
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            self.due.borrow_mut().push(DISARMED);
            let mut wakers = self.wakers.borrow_mut();
            wakers.push(None);
            wakers.len() - 1
        });
        Deadline {
            table: Rc::clone(self),
            index,
        }
    }

    /// Moves the clock to `now` (ticks since the start) and wakes whoever is due.
    pub fn advance(&self, now: u64) {
        let passed = now.saturating_sub(self.now.replace(now));
        self.since_epoch.set(self.since_epoch.get() + passed);
        let due = self.due.borrow();
        let mut wakers = self.wakers.borrow_mut();
        for (due, waker) in due.iter().zip(wakers.iter_mut()) {
            if *due <= now
                && let Some(waker) = waker.take()
            {
                waker.wake();
            }
        }
    }

    /// Wakes every task that waits on a deadline of this table, due or not: something they watch has changed.
    pub fn wake_all(&self) {
        for waker in self.wakers.borrow_mut().iter_mut() {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }

    /// Drives the clock; runs for as long as the worker does.
    ///
    /// Ticks that were missed, because the worker was kept from running, aren't made up for: what was armed just before
    /// would be due too early.
    pub async fn tick(self: Rc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let now = interval.tick().await.into_std();
            self.advance(self.now() + 1);
            // This one may leap.
            self.since_epoch
                .set(ticks(now.saturating_duration_since(*EPOCH)));
        }
    }
}

/// One deadline: armed, re-armed and disarmed for as long as its owner lives.
#[derive(Debug)]
pub struct Deadline {
    table: Rc<Deadlines>,
    index: usize,
}

impl Deadline {
    /// Due `after` from now, rounded up to ticks.
    pub fn arm(&self, after: Duration) {
        // The tick at hand has begun already: one more keeps the promise never to fire early.
        let due = self.table.now() + ticks(after) + 1;
        self.store(due);
    }

    /// Due from now on; the task that waits for it isn't woken.
    pub fn make_due(&self) {
        self.store(0);
    }

    /// Never due, until armed again.
    pub fn disarm(&self) {
        self.store(DISARMED);
    }

    /// Ticks since the worker started.
    pub fn now(&self) -> u64 {
        self.table.now()
    }

    /// Whether it is armed and due.
    pub fn is_due(&self) -> bool {
        let due = self.table.due.borrow();
        due.get(self.index)
            .is_some_and(|due| *due <= self.table.now())
    }

    /// Ready when due; otherwise the task is woken when it is, or by [`Deadlines::wake_all`].
    pub fn poll_due(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_due() {
            return Poll::Ready(());
        }
        if let Some(slot) = self.table.wakers.borrow_mut().get_mut(self.index) {
            match slot {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => *slot = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }

    /// Runs `future` for at most `limit`; `None` when it took longer. Leaves the deadline disarmed.
    pub async fn limit<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        self.arm(limit);
        let mut future = pin!(future);
        let outcome = poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll_due(cx).map(|()| None),
        })
        .await;
        self.disarm();
        outcome
    }

    fn store(&self, due: u64) {
        if let Some(slot) = self.table.due.borrow_mut().get_mut(self.index) {
            *slot = due;
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.disarm();
        if let Some(slot) = self.table.wakers.borrow_mut().get_mut(self.index) {
            *slot = None;
        }
        self.table.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn polled(deadline: &Deadline) -> bool {
        deadline
            .poll_due(&Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[test]
    fn fires_after_its_time_and_never_before() {
        let table = Deadlines::new();
        let deadline = table.register();
        deadline.arm(TICK * 3);
        for now in 0..4 {
            table.advance(now);
            assert!(!polled(&deadline), "early at tick {now}");
        }
        table.advance(4);
        assert!(polled(&deadline));
    }

    #[test]
    fn disarmed_never_fires() {
        let table = Deadlines::new();
        let deadline = table.register();
        table.advance(1_000_000);
        assert!(!polled(&deadline));
        deadline.arm(TICK);
        deadline.disarm();
        table.advance(2_000_000);
        assert!(!polled(&deadline));
    }

    #[test]
    fn a_dropped_deadline_leaves_nothing_behind() {
        let table = Deadlines::new();
        let first = table.register();
        first.arm(TICK);
        drop(first);
        let second = table.register();
        table.advance(100);
        assert!(!polled(&second));
        assert_eq!(table.due.borrow().len(), 1);
    }

    #[test]
    fn endless_durations_do_not_overflow() {
        let table = Deadlines::new();
        table.advance(1 << 40);
        let deadline = table.register();
        deadline.arm(Duration::MAX);
        assert!(!polled(&deadline));
    }

    #[tokio::test]
    async fn time_in_which_the_thread_did_not_run_does_not_count() {
        let table = Deadlines::new();
        let stalled = async {
            while table.now() == 0 {
                tokio::task::yield_now().await;
            }
            let began = Instant::now();
            while began.elapsed() < TICK * 5 {}
            let deadline = table.register();
            deadline.arm(TICK * 3);
            while began.elapsed() < TICK * 6 {
                tokio::task::yield_now().await;
            }
            assert!(!polled(&deadline));
        };
        tokio::select! {
            () = Rc::clone(&table).tick() => {}
            () = stalled => {}
        }
    }
}
