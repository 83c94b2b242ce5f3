//! Requests that wait for a connection because every endpoint has as many as it may, or because this process has no
//! descriptor for one more.
//!
//! One queue per worker and cluster: first come, first served, and bounded. Whoever stands first is woken when a
//! connection of this worker is returned or closed. A connection can't go from one worker to another; the room for it
//! can, so a worker closes one when nobody of its own waits, or not for as long as others do, and rings for them.
//! Leaving is dropping: a request whose client has gone frees its place.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use crate::transport::deadline::Deadlines;

/// More than this don't wait: they would only wait in vain.
pub const MAX_WAITING: usize = 1024;

/// A connection isn't closed for those in other queues before they have waited for so many ticks longer than those here:
/// it has to be made anew.
const PREFERENCE: u64 = 2;

/// What each worker is woken by for the sake of those who wait elsewhere.
#[derive(Debug, Clone)]
pub struct Bells(Arc<AllBells>);

#[derive(Debug)]
struct AllBells {
    of_workers: Box<[Notify]>,
    /// Somebody lacks a descriptor.
    descriptor_wanted: AtomicBool,
}

impl Bells {
    /// One for each worker.
    pub fn new(workers: usize) -> Self {
        Self(Arc::new(AllBells {
            of_workers: (0..workers).map(|_| Notify::new()).collect(),
            descriptor_wanted: AtomicBool::new(false),
        }))
    }

    /// Waits until there may be something to do for a worker.
    pub async fn rung(&self, worker: usize) {
        match self.0.of_workers.get(worker) {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Asks whichever worker has an idle connection to close one.
    pub fn want_descriptor(&self) {
        self.0.descriptor_wanted.store(true, Relaxed);
        for bell in &self.0.of_workers {
            bell.notify_one();
        }
    }

    /// Has that done: `close` says whether it could. If not, others are still asked.
    pub fn give_descriptor(&self, close: impl FnOnce() -> bool) {
        let wanted = &self.0.descriptor_wanted;
        if wanted.load(Relaxed) && wanted.swap(false, Relaxed) && !close() {
            wanted.store(true, Relaxed);
        }
    }

    fn ring(&self, worker: usize) {
        if let Some(bell) = self.0.of_workers.get(worker) {
            bell.notify_one();
        }
    }
}

/// What the workers know of each other's queues for one cluster.
#[derive(Debug)]
pub struct Line {
    /// Requests in all queues.
    waiting: AtomicUsize,
    /// Of each worker, the tick since which the first in its queue waits. 0: nobody does.
    since: Box<[AtomicU64]>,
    bells: Bells,
}

impl Line {
    /// Nobody waits.
    pub fn new(bells: &Bells) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            since: bells
                .0
                .of_workers
                .iter()
                .map(|_| AtomicU64::new(0))
                .collect(),
            bells: bells.clone(),
        })
    }

    /// Of the others, the worker in whose queue somebody waits for longest, and since when.
    fn longest_but(&self, worker: usize) -> Option<(usize, u64)> {
        self.since
            .iter()
            .map(|since| since.load(Relaxed))
            .enumerate()
            .filter(|(other, since)| *other != worker && *since != 0)
            .min_by_key(|(_, since)| *since)
    }
}

/// One worker's queue for one cluster.
#[derive(Debug)]
pub struct Queue {
    places: RefCell<VecDeque<Waiting>>,
    next: Cell<u64>,
    worker: usize,
    line: Arc<Line>,
    /// When a connection couldn't be made for want of a descriptor, in ticks.
    short_since: Cell<Option<u64>>,
    /// How often the cluster has become another.
    generation: Cell<u64>,
}

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// For any endpoint: whoever comes later waits behind.
    Any,
    /// For one that it hasn't tried: others may find room where this one won't go.
    Untried,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    since: u64,
    wish: Wish,
    waker: Option<Waker>,
}

impl Queue {
    /// An empty queue of this worker.
    pub fn new(line: Arc<Line>, worker: usize) -> Rc<Self> {
        Rc::new(Self {
            places: RefCell::default(),
            next: Cell::new(0),
            worker,
            line,
            short_since: Cell::new(None),
            generation: Cell::new(0),
        })
    }

    /// The cluster is another from now on: whoever waits is told. Returns how often that has been.
    pub fn begin_generation(&self) -> u64 {
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let mut places = self.places.borrow_mut();
        for waker in places.iter_mut().filter_map(|place| place.waker.take()) {
            waker.wake();
        }
        generation
    }

    /// How often the cluster has become another.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Whether nobody waits here who comes before others.
    pub fn is_free(&self) -> bool {
        let places = self.places.borrow();
        places.is_empty() || places.iter().all(|place| place.wish == Wish::Untried)
    }

    /// Whether somebody waits, here or elsewhere.
    pub fn somebody_waits(&self) -> bool {
        self.line.waiting.load(Relaxed) > 0
    }

    /// Whether what comes free here is for those who wait elsewhere.
    pub fn yields(&self) -> bool {
        let waiting = self.line.waiting.load(Relaxed);
        if waiting == 0 {
            return false;
        }
        let places = self.places.borrow();
        if waiting <= places.len() {
            return false;
        }
        match (places.front(), self.line.longest_but(self.worker)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(first), Some((_, since))) => since + PREFERENCE < first.since,
        }
    }

    /// There was no descriptor for a connection: whoever wants a new one waits for the next tick.
    pub fn note_shortage(&self, now: u64) {
        self.short_since.set(Some(now));
        self.line.bells.want_descriptor();
    }

    /// Whether that was in this tick.
    pub fn is_short(&self, now: u64) -> bool {
        self.short_since.get() == Some(now)
    }

    /// Has the first one here try again, and whoever may go before.
    pub fn wake(&self) {
        let places = self.places.borrow();
        for place in places.iter() {
            if let Some(waker) = &place.waker {
                waker.wake_by_ref();
            }
            if place.wish == Wish::Any {
                return;
            }
        }
    }

    /// Room for a connection came free: tells who is next, here or elsewhere.
    pub fn pass_on(&self) {
        if !self.yields() {
            self.wake();
        } else if let Some((other, _)) = self.line.longest_but(self.worker) {
            self.line.bells.ring(other);
        }
    }

    /// A connection came to be idle: has this worker close it if it is for those elsewhere.
    pub fn offer(&self) {
        if self.yields() {
            self.line.bells.ring(self.worker);
        } else {
            self.wake();
        }
    }

    /// Asks the other workers to close idle connections.
    fn ask_others(&self) {
        for other in 0..self.line.since.len() {
            if other != self.worker {
                self.line.bells.ring(other);
            }
        }
    }

    /// Waits until `attempt`, made while first in the queue, has a result. `None` after `limit`, or when the queue is
    /// full.
    pub async fn wait<T>(
        self: &Rc<Self>,
        wish: Wish,
        limit: Duration,
        clock: &Rc<Deadlines>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if limit.is_zero() {
            return None;
        }
        let place = self.join(wish, clock.since_epoch())?;
        let deadline = clock.register();
        deadline.arm(limit);
        let mut asked = false;
        poll_fn(|cx| {
            if place.is_first() {
                if let Some(result) = attempt() {
                    return Poll::Ready(Some(result));
                }
                if !std::mem::replace(&mut asked, true) {
                    self.ask_others();
                }
            }
            if deadline.poll_due(cx).is_ready() {
                return Poll::Ready(None);
            }
            place.remember(cx.waker());
            Poll::Pending
        })
        .await
    }

    fn join(self: &Rc<Self>, wish: Wish, now: u64) -> Option<Place> {
        let mut places = self.places.borrow_mut();
        if places.len() >= MAX_WAITING {
            return None;
        }
        let number = self.next.get();
        self.next.set(number + 1);
        places.push_back(Waiting {
            number,
            since: now.max(1),
            wish,
            waker: None,
        });
        self.line.waiting.fetch_add(1, Relaxed);
        self.note_first(&places);
        Some(Place {
            queue: Rc::clone(self),
            number,
        })
    }

    fn note_first(&self, places: &VecDeque<Waiting>) {
        if let Some(since) = self.line.since.get(self.worker) {
            since.store(places.front().map_or(0, |first| first.since), Relaxed);
        }
    }
}

/// A place in the queue, left by dropping it.
#[derive(Debug)]
struct Place {
    queue: Rc<Queue>,
    number: u64,
}

impl Place {
    /// Of those who come before others, or one who doesn't.
    fn is_first(&self) -> bool {
        let places = self.queue.places.borrow();
        let mut before = places.iter().take_while(|place| place.number < self.number);
        !before.any(|place| place.wish == Wish::Any)
    }

    fn remember(&self, waker: &Waker) {
        let mut places = self.queue.places.borrow_mut();
        if let Ok(at) = places.binary_search_by_key(&self.number, |place| place.number)
            && let Some(place) = places.get_mut(at)
        {
            place.waker = Some(waker.clone());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let was_first = self.is_first();
        let mut places = self.queue.places.borrow_mut();
        if let Ok(at) = places.binary_search_by_key(&self.number, |place| place.number) {
            places.remove(at);
        }
        self.queue.line.waiting.fetch_sub(1, Relaxed);
        self.queue.note_first(&places);
        drop(places);
        if was_first {
            // There may be room for more than one.
            self.queue.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Wake};

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// The queue of the only worker.
    fn alone() -> Rc<Queue> {
        Queue::new(Line::new(&Bells::new(1)), 0)
    }

    /// The queues of two workers, and what wakes them.
    fn two() -> ([Rc<Queue>; 2], Bells) {
        let bells = Bells::new(2);
        let line = Line::new(&bells);
        let queues = [0, 1].map(|worker| Queue::new(Arc::clone(&line), worker));
        (queues, bells)
    }

    /// Whether a worker was rung for since the last look.
    fn is_rung(bells: &Bells, worker: usize) -> bool {
        poll(pin!(bells.rung(worker))).is_some()
    }

    const LIMIT: Duration = Duration::from_secs(3);

    #[test]
    fn who_came_first_is_served_first() {
        let (clock, queue) = (Deadlines::new(), alone());
        let room = Cell::new(0);
        let take = || (room.get() > 0).then(|| room.set(room.get() - 1));
        let mut first = pin!(queue.wait(Wish::Any, LIMIT, &clock, take));
        let mut second = pin!(queue.wait(Wish::Any, LIMIT, &clock, take));
        assert_eq!(poll(first.as_mut()), None);
        assert_eq!(poll(second.as_mut()), None);
        room.set(1);
        assert_eq!(poll(second.as_mut()), None);
        assert_eq!(poll(first.as_mut()), Some(Some(())));
        assert_eq!(poll(second.as_mut()), None);
        room.set(1);
        assert_eq!(poll(second.as_mut()), Some(Some(())));
        assert!(queue.is_free());
    }

    #[test]
    fn waiting_ends_at_the_limit() {
        let (clock, queue) = (Deadlines::new(), alone());
        let mut waiting = pin!(queue.wait(Wish::Any, LIMIT, &clock, || None::<()>));
        for now in [0, 30] {
            clock.advance(now);
            assert_eq!(poll(waiting.as_mut()), None, "tick {now}");
        }
        clock.advance(31);
        assert_eq!(poll(waiting.as_mut()), Some(None));
        assert!(queue.is_free());
    }

    #[test]
    fn a_queue_without_patience_does_not_wait() {
        let (clock, queue) = (Deadlines::new(), alone());
        let mut waiting = pin!(queue.wait(Wish::Any, Duration::ZERO, &clock, || Some(())));
        assert_eq!(poll(waiting.as_mut()), Some(None));
    }

    #[test]
    fn a_full_queue_takes_nobody() {
        let (clock, queue) = (Deadlines::new(), alone());
        let places: Vec<_> = (0..MAX_WAITING)
            .map(|_| queue.join(Wish::Any, 1).unwrap())
            .collect();
        assert_eq!(
            poll(pin!(queue.wait(Wish::Any, LIMIT, &clock, || Some(())))),
            Some(None)
        );
        drop(places);
        assert_eq!(
            poll(pin!(queue.wait(Wish::Any, LIMIT, &clock, || Some(())))),
            Some(Some(()))
        );
    }

    #[test]
    fn who_waits_for_one_it_has_not_tried_stands_in_nobodys_way() {
        let (clock, queue) = (Deadlines::new(), alone());
        let mut particular = pin!(queue.wait(Wish::Untried, LIMIT, &clock, || None::<()>));
        assert_eq!(poll(particular.as_mut()), None);
        assert!(queue.is_free());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let room = Cell::new(false);
        let take = || room.get().then_some(());
        let mut any = pin!(queue.wait(Wish::Any, LIMIT, &clock, take));
        let mut cx = Context::from_waker(&waker);
        assert!(any.as_mut().poll(&mut cx).is_pending());
        assert!(!queue.is_free());
        let mut behind = pin!(queue.wait(Wish::Untried, LIMIT, &clock, || Some(())));
        assert_eq!(poll(behind.as_mut()), None);
        room.set(true);
        queue.wake();
        assert!(woken.0.load(Relaxed));
        assert_eq!(poll(any.as_mut()), Some(Some(())));
        assert_eq!(poll(behind.as_mut()), Some(Some(())));
    }

    #[test]
    fn whoever_waits_is_told_that_the_cluster_is_another() {
        let (clock, queue) = (Deadlines::new(), alone());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let first = queue.join(Wish::Any, 1).unwrap();
        let mut second = pin!(queue.wait(Wish::Any, LIMIT, &clock, || None::<()>));
        let mut cx = Context::from_waker(&waker);
        assert!(second.as_mut().poll(&mut cx).is_pending());
        let before = queue.generation();
        assert_eq!(queue.begin_generation(), queue.generation());
        assert_ne!(queue.generation(), before);
        assert!(woken.0.load(Relaxed));
        drop(first);
    }

    #[test]
    fn who_gives_up_makes_room_and_wakes_the_next() {
        let (clock, queue) = (Deadlines::new(), alone());
        let mut first = Box::pin(queue.wait(Wish::Any, LIMIT, &clock, || None::<()>));
        assert_eq!(poll(first.as_mut()), None);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut second = pin!(queue.wait(Wish::Any, LIMIT, &clock, || Some(())));
        assert!(
            second
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop(first);
        assert!(woken.0.load(Relaxed));
        assert_eq!(poll(second.as_mut()), Some(Some(())));
    }

    #[test]
    fn what_comes_free_is_for_whoever_waits_for_longest() {
        let ([one, other], bells) = two();
        assert!(!one.yields());
        let there = other.join(Wish::Any, 10);
        assert!(one.yields() && !other.yields());
        one.pass_on();
        assert!(is_rung(&bells, 1));
        one.offer();
        assert!(is_rung(&bells, 0));
        // Not to make a connection anew for a moment.
        let here = one.join(Wish::Any, 11);
        assert!(!one.yields() && !other.yields());
        drop(here);
        let _here = one.join(Wish::Any, 13);
        assert!(one.yields() && !other.yields());
        drop(there);
        assert!(!one.yields());
        one.pass_on();
        assert!(!is_rung(&bells, 0) && !is_rung(&bells, 1));
    }

    #[test]
    fn who_comes_to_stand_first_in_vain_asks_the_other_workers_once() {
        let ([one, _other], bells) = two();
        let clock = Deadlines::new();
        let mut first = pin!(one.wait(Wish::Any, LIMIT, &clock, || None::<()>));
        for expected in [true, false] {
            assert_eq!(poll(first.as_mut()), None);
            assert_eq!(is_rung(&bells, 1), expected);
        }
        let second = pin!(one.wait(Wish::Any, LIMIT, &clock, || None::<()>));
        assert_eq!(poll(second), None);
        assert!(!is_rung(&bells, 1) && !is_rung(&bells, 0));
    }
}
