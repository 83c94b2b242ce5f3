//! Where a client connection stands: what is in flight, what is awaited, and until when.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::deadline::{Deadline, Deadlines, TICK, ticks};
use super::establish::HttpVersion;
use super::frames::Frames;
use super::stream::Turn;
use crate::config::ListenerTimeouts;

/// How long a connection that is to end waits for a request that the client had sent before it knew.
const LINGER: Duration = Duration::from_secs(1);

/// Interim responses that wait for one connection to take them.
const MAX_INTERIM_BYTES: usize = 64 * 1024;

/// A client that must learn why its connection ends has so long to take it: closing with bytes unread would reset the
/// connection, and destroy the answer (RFC 9112 §9.6).
pub const GOODBYE: Duration = Duration::from_secs(5);

/// Where a client connection stands between its first byte and its last; shared by its IO and its requests.
///
/// Owns the connection's deadlines: one for when it is idle, or a request head has begun to come, and one for when the
/// client takes nothing of what is sent.
#[derive(Debug)]
pub struct Activity {
    version: HttpVersion,
    deadline: Deadline,
    timeouts: ListenerTimeouts,
    in_flight: Cell<usize>,
    /// HTTP/1, while no request is in flight: bytes of the next have come. HTTP/2: the preface has.
    begun: Cell<bool>,
    /// The bytes read last end inside a request's head.
    in_head: Cell<bool>,
    /// The body of the request that came last hasn't been read to its end. For HTTP/1.
    body_open: Cell<bool>,
    sending: Sending,
    lingering: Cell<bool>,
    /// Since when it has been idle, in ticks, while its deadline says that it may be parked.
    resting: Cell<Option<u64>>,
    /// Whether its next request is likely to be long in coming.
    sleepy: Cell<bool>,
    answered: Cell<bool>,
    on_idle: RefCell<Option<Waker>>,
    /// Interim responses to that request, on their way to the client.
    interim: RefCell<Vec<u8>>,
    /// Of the whole worker.
    counts: Rc<Counts>,
}

/// Whether the client takes what is sent.
#[derive(Debug)]
struct Sending {
    deadline: Deadline,
    blocked: Cell<bool>,
    /// [`Transport::sent`] when it was looked at last.
    sent: Cell<u64>,
}

/// Why a connection is overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// It was idle for too long.
    Idle,
    /// A request's head didn't come to its end.
    Head,
    /// The client took nothing of what is sent.
    Send,
    /// It has been idle for a while, and needn't keep what it needs when it is busy. For HTTP/1.
    Resting,
}

/// How long an idle HTTP/1 connection keeps what it needs when it is busy: to give it back after each request costs more
/// time than the memory is worth.
const REST: Duration = Duration::from_secs(2);

/// While a worker has more connections than this that aren't parked, one is parked at once when it becomes idle, unless
/// its last rest was shorter than [`REST`].
const MANY_AWAKE: usize = 256;

/// What the connections of a worker share.
#[derive(Debug, Default)]
pub struct Counts {
    /// The HTTP/2 stream that takes its step.
    pub turn: Rc<Turn>,
    /// Connections that aren't parked.
    awake: Cell<usize>,
    /// Requests whose response isn't complete. Cutting one is a failure.
    pub requests: Cell<usize>,
    /// WebSockets. They have no end of their own that could be waited for: cutting one isn't a failure.
    pub tunnels: Cell<usize>,
}

fn add(count: &Cell<usize>) {
    count.set(count.get() + 1);
}

fn subtract(count: &Cell<usize>) {
    count.set(count.get().saturating_sub(1));
}

impl Activity {
    /// For a connection just established: its first head is awaited.
    pub fn new(
        version: HttpVersion,
        timeouts: ListenerTimeouts,
        clock: &Rc<Deadlines>,
        counts: Rc<Counts>,
    ) -> Rc<Self> {
        let deadline = clock.register();
        deadline.arm(timeouts.request_header);
        add(&counts.awake);
        Rc::new(Self {
            version,
            deadline,
            timeouts,
            in_flight: Cell::new(0),
            begun: Cell::new(false),
            in_head: Cell::new(false),
            body_open: Cell::new(false),
            sending: Sending {
                deadline: clock.register(),
                blocked: Cell::new(false),
                sent: Cell::new(0),
            },
            lingering: Cell::new(false),
            resting: Cell::new(None),
            sleepy: Cell::new(true),
            answered: Cell::new(true),
            on_idle: RefCell::default(),
            interim: RefCell::default(),
            counts,
        })
    }

    /// A request head has been read: the connection is busy until the guard is dropped.
    ///
    /// To be called before more is read: the end of the stream means something else while a request is in flight.
    pub fn begin(self: &Rc<Self>) -> InFlight {
        self.answered.set(false);
        self.body_open.set(false);
        self.lingering.set(false);
        self.resting.set(None);
        add(&self.in_flight);
        add(&self.counts.requests);
        // Another request of HTTP/2 may be on its way; its time goes on.
        if self.version == HttpVersion::Http1 || !self.in_head.get() {
            self.deadline.disarm();
        }
        InFlight {
            activity: Rc::clone(self),
            kind: Kind::Request,
        }
    }

    /// Sends an interim response to the request that came last. For HTTP/1.1; to be called from within the request's
    /// own task.
    ///
    /// May be dropped, as interim responses may (RFC 9110 §15.2), when there are too many of them.
    pub fn send_interim(&self, head: &[u8]) {
        let mut interim = self.interim.borrow_mut();
        if interim.len() + head.len() <= MAX_INTERIM_BYTES {
            interim.extend_from_slice(head);
        }
    }

    /// Moves what waits to be sent before the response behind what is in `out`.
    pub(super) fn take_interim(&self, out: &mut Vec<u8>) {
        let mut interim = self.interim.borrow_mut();
        if !interim.is_empty() {
            out.append(&mut interim);
        }
    }

    /// A request came with a body.
    pub fn body_begun(&self) {
        self.body_open.set(true);
    }

    /// That body was read to its end.
    pub fn body_ended(&self) {
        self.body_open.set(false);
    }

    /// Whether bytes of the request that came last may still come. For HTTP/1.
    pub fn body_is_open(&self) -> bool {
        self.body_open.get()
    }

    /// How long a body may stand still.
    pub fn body_timeout(&self) -> Duration {
        self.timeouts.request_body
    }

    /// The response to the request that came last begins. For HTTP/1, where there is one at a time.
    pub(super) fn answer(&self) {
        self.answered.set(true);
    }

    /// Whether the response to the request that came last has begun.
    pub fn answered(&self) -> bool {
        self.answered.get()
    }

    /// Whether no request is in flight.
    pub fn is_idle(&self) -> bool {
        self.in_flight.get() == 0
    }

    /// Ready when the connection has been idle, its request head unfinished, or its client stuck for too long.
    pub fn poll_overdue(&self, cx: &Context<'_>) -> Poll<Overdue> {
        if self.sending.blocked.get() && self.sending.deadline.poll_due(cx).is_ready() {
            return Poll::Ready(Overdue::Send);
        }
        ready!(self.deadline.poll_due(cx));
        Poll::Ready(if self.in_head.get() {
            Overdue::Head
        } else if self.resting.get().is_some() {
            if self.sending.blocked.get() {
                // Nothing to do, but something left to send: that has a deadline of its own.
                self.deadline.arm(REST);
                ready!(self.deadline.poll_due(cx));
            }
            Overdue::Resting
        } else {
            Overdue::Idle
        })
    }

    /// Since when the connection has been idle, in ticks, when that is why it is [`Overdue::Resting`].
    pub fn resting_since(&self) -> Option<u64> {
        self.resting.get()
    }

    /// The connection was parked, and has been idle since that tick.
    pub fn resume(&self, since: u64) {
        self.sleepy.set(self.deadline.now() - since > ticks(REST));
        self.resting.set(Some(since));
        self.deadline.arm(REST);
    }

    /// To be called while an idle connection is to end: what the client may have sent already is waited for, for a
    /// while in all, unless it has begun to come.
    pub fn linger(&self) {
        let has_begun = self.version == HttpVersion::Http1 && self.begun.get();
        if self.is_idle() && !has_begun && !self.lingering.replace(true) {
            self.resting.set(None);
            self.deadline.arm(LINGER);
        }
    }

    /// Whether the deadline is that of [`Activity::linger`].
    pub fn is_lingering(&self) -> bool {
        self.lingering.get()
    }

    /// The connection is about to end: its client has [`GOODBYE`] to take the rest, and to finish what it began.
    pub fn say_goodbye(&self) {
        self.deadline.arm(GOODBYE);
    }

    /// HTTP/1: a head was read to its end.
    pub(super) fn head_ended(&self) {
        self.in_head.set(false);
    }

    /// HTTP/1: bytes came that aren't a whole head; they begin one, or don't.
    pub(super) fn bytes_arrived(&self, in_head: bool) {
        self.in_head.set(in_head);
        if self.is_idle() && !self.begun.replace(true) {
            self.lingering.set(false);
            self.resting.set(None);
            self.deadline.arm(self.timeouts.request_header);
        }
    }

    /// HTTP/2: bytes came.
    pub(super) fn frames_arrived(&self, frames: &Frames) {
        let in_head = frames.is_in_block();
        if self.lingering.get() {
            self.in_head.set(in_head);
        } else if in_head != self.in_head.replace(in_head) {
            if in_head {
                self.deadline.arm(self.timeouts.request_header);
            } else {
                self.rest();
            }
        } else if !self.begun.get() && frames.has_begun() {
            self.begun.set(true);
            self.rest();
        }
    }

    fn become_idle(&self) {
        if self.version == HttpVersion::Http1 {
            // The next head may have begun to come behind this request.
            self.begun.set(self.in_head.get());
            if self.in_head.get() {
                self.deadline.arm(self.timeouts.request_header);
            }
        }
        if !self.in_head.get() {
            self.rest();
        }
    }

    /// The deadline of a connection on which no request is on its way.
    fn rest(&self) {
        if self.is_idle() {
            self.rest_since(self.deadline.now());
        } else {
            self.deadline.disarm();
        }
    }

    fn rest_since(&self, since: u64) {
        let left = idle_left(self.timeouts.keep_alive, since, self.deadline.now());
        let may_be_parked = self.version == HttpVersion::Http1 && left > REST;
        self.resting.set(may_be_parked.then_some(since));
        if !may_be_parked {
            self.deadline.arm(left);
        } else if self.sleepy.get() && self.counts.awake.get() > MANY_AWAKE {
            self.deadline.make_due();
        } else {
            self.deadline.arm(REST);
        }
    }

    /// The tick at hand.
    pub(super) fn now(&self) -> u64 {
        self.deadline.now()
    }

    /// Whether bytes are left that the client didn't take.
    pub(super) fn is_blocked(&self) -> bool {
        self.sending.blocked.get()
    }

    /// Bytes are left that the client doesn't take; of those before them the kernel has taken `sent`.
    pub(super) fn send_blocked(&self, sent: u64) {
        let sending = &self.sending;
        if !sending.blocked.replace(true) || sending.sent.get() != sent {
            sending.sent.set(sent);
            sending.deadline.arm(self.timeouts.send);
        }
    }

    /// The kernel has taken everything.
    pub(super) fn send_complete(&self) {
        if self.sending.blocked.replace(false) {
            self.sending.deadline.disarm();
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        subtract(&self.counts.awake);
    }
}

/// How much longer a connection may be idle that has been since that tick.
pub fn idle_left(keep_alive: Duration, since: u64, now: u64) -> Duration {
    let been = u32::try_from(now.saturating_sub(since)).unwrap_or(u32::MAX);
    keep_alive.saturating_sub(TICK.saturating_mul(been))
}

/// A request in flight on a client connection; dropped when its last response byte was handed over, or its tunnel has
/// ended.
#[derive(Debug)]
pub struct InFlight {
    activity: Rc<Activity>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Tunnel,
}

impl InFlight {
    /// Who is told what becomes of the response's bytes.
    pub fn turn(&self) -> &Turn {
        &self.activity.counts.turn
    }

    /// The request has become a tunnel.
    pub fn tunnel(&mut self) {
        if std::mem::replace(&mut self.kind, Kind::Tunnel) == Kind::Request {
            subtract(&self.activity.counts.requests);
            add(&self.activity.counts.tunnels);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let activity = &self.activity;
        subtract(&activity.in_flight);
        match self.kind {
            Kind::Request => subtract(&activity.counts.requests),
            Kind::Tunnel => subtract(&activity.counts.tunnels),
        }
        if activity.is_idle() {
            if let Some(waker) = activity.on_idle.take() {
                waker.wake();
            }
            activity.become_idle();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: ListenerTimeouts = ListenerTimeouts {
        handshake: Duration::from_secs(1),
        request_header: Duration::from_secs(1),
        request_body: Duration::from_secs(1),
        send: Duration::from_secs(1),
        keep_alive: Duration::from_secs(100),
    };

    /// A connection of which a request is in flight, and its clock.
    fn busy() -> (Rc<Deadlines>, Rc<Activity>, InFlight) {
        let clock = Deadlines::new();
        let activity = Activity::new(HttpVersion::Http1, TIMEOUTS, &clock, Rc::default());
        let request = activity.begin();
        (clock, activity, request)
    }

    fn overdue(activity: &Activity) -> Option<Overdue> {
        match activity.poll_overdue(&Context::from_waker(Waker::noop())) {
            Poll::Ready(why) => Some(why),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_client_that_takes_nothing_is_overdue() {
        let (clock, activity, _request) = busy();
        activity.send_blocked(5);
        clock.advance(10);
        activity.send_blocked(5);
        assert_eq!(overdue(&activity), None);
        clock.advance(11);
        assert_eq!(overdue(&activity), Some(Overdue::Send));
    }

    #[test]
    fn a_client_that_takes_a_byte_is_waited_for() {
        let (clock, activity, _request) = busy();
        for taken in 0..10 {
            activity.send_blocked(taken);
            clock.advance(10 * taken + 10);
            assert_eq!(overdue(&activity), None);
        }
    }

    #[test]
    fn a_client_that_took_everything_may_rest() {
        let (clock, activity, _request) = busy();
        activity.send_blocked(5);
        activity.send_complete();
        clock.advance(1_000);
        assert_eq!(overdue(&activity), None);
    }

    #[test]
    fn a_response_that_was_handed_over_is_still_to_be_taken() {
        let (clock, activity, request) = busy();
        activity.send_blocked(5);
        drop(request);
        clock.advance(11);
        assert_eq!(overdue(&activity), Some(Overdue::Send));
    }
}
