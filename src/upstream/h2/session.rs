//! One worker's HTTP/2 connections to one endpoint.
//!
//! One is enough for as long as the endpoint takes more streams; another is made when it doesn't. A connection is made
//! when the endpoint's SETTINGS are there: until then nothing of any request has been sent, and how many the endpoint
//! takes is its to say. Requests that come meanwhile wait for it instead of making their own. Each connection is driven
//! by a task of its own, which ends with it; whether the other end is still there is [`Pulse`]'s.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use ::h2::{PingPong, SendStream};
use bytes::Bytes;
use http::Request;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::config::PoolLimits;
use crate::transport::deadline::{Deadline, Deadlines, TICK, ticks};
use crate::transport::dial::{self, Announced, Stream};

use super::super::endpoint::Permit;
use super::super::link::{Purpose, Wanted};
use super::super::queue::Queue;
use super::pulse::{Heard, Pulse};

/// Streams on one connection, whatever the endpoint would take beyond.
const MAX_STREAMS: usize = 100;

/// What one stream may make us hold.
pub(super) const SEND_BUFFER_BYTES: usize = 64 * 1024;
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// Room for all streams at once: what slow clients leave lying must not hold back the others.
#[expect(clippy::cast_possible_truncation, reason = "a hundred")]
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * MAX_STREAMS as u32;

/// Small pieces cost more than their bytes, and h2 ends a connection on which too many of them lie. They lie there because
/// our clients are slow, which is no fault of the endpoint: so there may be more than a hundred thousand.
const SMALL_PIECES_BYTES: usize = 32 * 1024 * 1024;

/// Streams that were reset, of which late frames may still come. h2 forgets them after a second.
const MAX_RESET_STREAMS: usize = 10_000;

/// How long a connection may take to end for the sake of other workers. If it takes longer, because of streams that last,
/// it is this worker's again: nobody would be served else.
const RETIREMENT: Duration = Duration::from_secs(2);
/// And how long it is left alone then.
const RESPITE: Duration = Duration::from_secs(30);

/// One worker's HTTP/2 connections to one endpoint.
#[derive(Debug)]
pub struct Sessions {
    open: RefCell<Vec<Rc<Session>>>,
    being_made: RefCell<Vec<Rc<BeingMade>>>,
    /// What takes no more requests for the sake of other workers, while it still has some.
    retired: RefCell<Option<Retired>>,
    /// How many streams the endpoint took on the connection made last.
    streams_each: Cell<usize>,
    /// Whether it took no extended CONNECT there.
    refuses_websockets: Cell<bool>,
    limits: Cell<PoolLimits>,
    queue: Rc<Queue>,
    clock: Rc<Deadlines>,
}

/// A connection that is to end.
#[derive(Debug)]
struct Retired {
    session: Weak<Session>,
    /// When its time is over, in ticks.
    until: u64,
}

/// One connection, and how busy it is.
#[derive(Debug)]
struct Session {
    sender: RefCell<SendRequest<Bytes>>,
    announced: Option<Announced>,
    used: Cell<bool>,
    idle_since: Cell<u64>,
    /// It isn't retired before this tick.
    stays_until: Cell<u64>,
    pulse: Rc<Pulse>,
    queue: Rc<Queue>,
    clock: Rc<Deadlines>,
}

/// Room for one stream on a connection; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    session: Rc<Session>,
    reused: bool,
}

/// A connection that somebody is making.
#[derive(Debug)]
pub struct BeingMade {
    announced: Option<Announced>,
    waiting: Cell<usize>,
    over: Cell<bool>,
    failure: RefCell<Option<dial::Error>>,
    notify: Notify,
}

/// Held by who makes a connection: others wait for it until this is dropped.
#[derive(Debug)]
pub(in super::super) struct Making {
    being_made: Rc<BeingMade>,
    sessions: Rc<Sessions>,
}

impl Sessions {
    /// Without a connection yet.
    pub fn new(limits: PoolLimits, queue: &Rc<Queue>, clock: &Rc<Deadlines>) -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            being_made: RefCell::default(),
            retired: RefCell::default(),
            streams_each: Cell::new(MAX_STREAMS),
            refuses_websockets: Cell::new(false),
            limits: Cell::new(limits),
            queue: Rc::clone(queue),
            clock: Rc::clone(clock),
        })
    }

    /// From now on other limits hold, for the connections already here as well.
    pub fn set_limits(&self, limits: PoolLimits) {
        self.limits.set(limits);
    }

    /// Room on a connection that will do.
    pub(in super::super) fn checkout(&self, wanted: Wanted) -> Option<Slot> {
        let mut open = self.open.borrow_mut();
        loop {
            let at = open
                .iter()
                .position(|session| session.suits(wanted) && session.has_room())?;
            // Asked last, and of one alone: it is dear.
            match open.get(at) {
                Some(session) if session.is_open() => return Some(Slot::new(session)),
                _ => drop(open.remove(at)),
            }
        }
    }

    /// Whether a connection takes another stream, or will when it is made.
    pub fn has_room(&self) -> bool {
        let open = self.open.borrow();
        open.iter().any(|session| session.has_room())
            || self
                .being_made
                .borrow()
                .iter()
                .any(|made| self.may_join(made))
    }

    /// Whether the endpoint said, when it was last asked, that it takes no WebSockets here.
    pub(in super::super) fn refuses_websockets(&self) -> bool {
        self.refuses_websockets.get()
    }

    /// Whether there is no connection at all.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// Closes the connection that has been idle for longest. False: none is idle.
    pub(in super::super) fn close_oldest(&self) -> bool {
        Self::remove_oldest(&mut self.open.borrow_mut())
    }

    /// Gives no more requests to one of the connections, which ends with those it has. One at a time. False: there is
    /// none.
    pub(in super::super) fn retire_one(&self) -> bool {
        if self.retires() {
            return true;
        }
        let now = self.clock.now();
        let mut open = self.open.borrow_mut();
        let Some(at) = open.iter().position(|session| session.may_retire(now)) else {
            return false;
        };
        let session = open.remove(at);
        self.retired.replace(Some(Retired {
            session: Rc::downgrade(&session),
            until: now + ticks(RETIREMENT),
        }));
        true
    }

    /// Whether one has still to end.
    fn retires(&self) -> bool {
        let retired = self.retired.borrow();
        retired
            .as_ref()
            .is_some_and(|retired| retired.session.strong_count() > 0)
    }

    /// Takes back what was to end and can't soon.
    pub(in super::super) fn reinstate(&self) {
        let now = self.clock.now();
        let Some(retired) = self
            .retired
            .borrow_mut()
            .take_if(|retired| retired.until <= now)
        else {
            return;
        };
        let Some(session) = retired.session.upgrade() else {
            return;
        };
        session.stays_until.set(now + ticks(RESPITE));
        self.open.borrow_mut().push(session);
        self.queue.wake();
    }

    /// A connection that somebody makes, and that is likely to have room for one more.
    pub(in super::super) fn join(&self, announced: Option<Announced>) -> Option<Rc<BeingMade>> {
        let all = self.being_made.borrow();
        let mut likely = all.iter().filter(|made| self.may_join(made));
        let joined = likely.find(|made| made.announced == announced)?;
        joined.waiting.set(joined.waiting.get() + 1);
        Some(Rc::clone(joined))
    }

    fn may_join(&self, made: &BeingMade) -> bool {
        // One is for who makes it.
        made.waiting.get() + 1 < self.streams_each.get()
    }

    /// Lets others wait for a connection.
    pub(in super::super) fn make(self: &Rc<Self>, announced: Option<Announced>) -> Making {
        let being_made = Rc::new(BeingMade {
            announced,
            waiting: Cell::new(0),
            over: Cell::new(false),
            failure: RefCell::default(),
            notify: Notify::new(),
        });
        self.being_made.borrow_mut().push(Rc::clone(&being_made));
        Making {
            being_made,
            sessions: Rc::clone(self),
        }
    }

    /// Speaks HTTP/2 on a connection just made; the first stream on it is the caller's.
    pub(in super::super) async fn begin(
        &self,
        stream: Stream,
        permit: Permit,
        wanted: Wanted,
        limit: Duration,
        deadline: Deadline,
    ) -> Result<Slot, dial::Error> {
        stream.keep_alive();
        let pulse = Pulse::new(self.clock.register());
        let stream = Heard {
            stream,
            pulse: Rc::clone(&pulse),
        };
        let agreed = deadline.limit(limit, agree(stream, wanted.max_head_bytes));
        let (sender, connection) = agreed.await.ok_or(dial::Error::TimedOut)??;
        drop(deadline);
        spawn_local(drive(permit, connection, Rc::clone(&pulse)));
        let session = Rc::new(Session {
            sender: RefCell::new(sender),
            announced: wanted.announced,
            used: Cell::new(false),
            idle_since: Cell::new(self.clock.now()),
            stays_until: Cell::new(0),
            pulse,
            queue: Rc::clone(&self.queue),
            clock: Rc::clone(&self.clock),
        });
        self.streams_each.set(session.most_streams());
        self.refuses_websockets.set(!session.takes_websockets());
        let slot = Slot::new(&session);
        let mut open = self.open.borrow_mut();
        self.make_room(&mut open);
        open.push(session);
        drop(open);
        self.queue.wake();
        Ok(slot)
    }

    /// Connections that serve one client each would pile up: the one idle for longest goes.
    fn make_room(&self, open: &mut Vec<Rc<Session>>) {
        let idle = open.iter().filter(|session| session.is_idle());
        if idle.count() >= self.limits.get().max_idle_per_endpoint.max(1) {
            Self::remove_oldest(open);
        }
    }

    fn remove_oldest(open: &mut Vec<Rc<Session>>) -> bool {
        let idle = open.iter().filter(|session| session.is_idle());
        let oldest = idle.min_by_key(|session| session.idle_since.get()).cloned();
        if let Some(oldest) = &oldest {
            open.retain(|session| !Rc::ptr_eq(session, oldest));
        }
        oldest.is_some()
    }

    /// Closes connections that have been idle for too long.
    pub fn expire(&self) {
        self.open.borrow_mut().retain(|session| {
            let idle = self.clock.now() - session.idle_since.get();
            let idle = TICK.saturating_mul(u32::try_from(idle).unwrap_or(u32::MAX));
            session.is_open() && !(session.is_idle() && idle > self.limits.get().idle_timeout)
        });
    }
}

impl Session {
    fn may_retire(&self, now: u64) -> bool {
        self.stays_until.get() <= now
    }

    /// Whether it takes new streams: it hasn't ended, nor does GOAWAY forbid it.
    fn is_open(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(
            self.sender.borrow_mut().poll_ready(&mut cx),
            Poll::Ready(Err(_))
        )
    }

    fn suits(&self, wanted: Wanted) -> bool {
        self.announced == wanted.announced
            && (wanted.purpose == Purpose::Exchange || self.takes_websockets())
    }

    /// Whether the endpoint takes extended CONNECT (RFC 8441 §3).
    fn takes_websockets(&self) -> bool {
        self.sender.borrow().is_extended_connect_protocol_enabled()
    }

    fn has_room(&self) -> bool {
        self.pulse.is_trusted() && self.pulse.streams() < self.most_streams()
    }

    fn most_streams(&self) -> usize {
        self.sender
            .borrow()
            .current_max_send_streams()
            .min(MAX_STREAMS)
    }

    fn is_idle(&self) -> bool {
        self.pulse.streams() == 0
    }
}

impl Slot {
    fn new(session: &Rc<Session>) -> Self {
        session.pulse.begin_stream();
        Self {
            session: Rc::clone(session),
            reused: session.used.replace(true),
        }
    }

    /// Opens the stream.
    pub(super) fn send_request(
        &self,
        request: Request<()>,
        end_of_stream: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), ::h2::Error> {
        // A sender remembers the stream it had to hold back, and then opens no more: each gets its own.
        let mut sender = self.session.sender.borrow().clone();
        sender.send_request(request, end_of_stream)
    }

    /// Whether a WebSocket may be asked for on it.
    pub(in super::super) fn takes_websockets(&self) -> bool {
        self.session.takes_websockets()
    }

    /// Whether the connection had served a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Bytes of any request that have left on the connection.
    pub(super) fn sent(&self) -> u64 {
        self.session.pulse.sent()
    }

    /// A deadline for the stream.
    pub(super) fn register_deadline(&self) -> Deadline {
        self.session.clock.register()
    }

    /// A request timed out that waited for so long.
    pub(super) fn doubt(&self, waited: Duration) {
        self.session.pulse.doubt(waited);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.session.pulse.end_stream();
        self.session.idle_since.set(self.session.clock.now());
        self.session.queue.offer();
    }
}

impl BeingMade {
    /// Waits until it is made, or isn't going to be.
    ///
    /// # Errors
    /// Why it couldn't be made.
    pub(in super::super) async fn over(&self) -> Result<(), dial::Error> {
        if !self.over.get() {
            self.notify.notified().await;
        }
        match &*self.failure.borrow() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

impl Making {
    /// Nobody who waits for it needs to try by himself.
    pub(in super::super) fn fail(self, error: &dial::Error) {
        self.being_made.failure.replace(Some(error.clone()));
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let made = &self.being_made;
        self.sessions
            .being_made
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, made));
        made.over.set(true);
        made.notify.notify_waiters();
    }
}

fn builder(max_head_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // None, until the endpoint's SETTINGS say how many.
        .initial_max_send_streams(0)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(max_head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .data_frame_budget(SMALL_PIECES_BYTES)
        // Clients leave when they like, and late frames of their streams are nobody's fault: not even a thousand in the
        // life of a connection are a reason to end it.
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(None);
    builder
}

/// Exchanges prefaces: ready with the endpoint's SETTINGS.
async fn agree(
    stream: Heard,
    max_head_bytes: usize,
) -> Result<(SendRequest<Bytes>, Connection<Heard, Bytes>), dial::Error> {
    let handshake = builder(max_head_bytes).handshake(stream).await;
    let (sender, mut connection) = handshake.map_err(no_http2)?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Err(error)) => Poll::Ready(Err(no_http2(error))),
        Poll::Ready(Ok(())) => {
            let closed = io::ErrorKind::UnexpectedEof.into();
            Poll::Ready(Err(dial::Error::Failed(closed)))
        }
        Poll::Pending if sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok((sender, connection))
}

fn no_http2(error: ::h2::Error) -> dial::Error {
    if error.is_library() {
        return dial::Error::NoCommonProtocol;
    }
    dial::Error::Failed(
        error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::Other.into()),
    )
}

/// Runs a connection to its end; `_permit`, dropped after it, counts it so long.
async fn drive(_permit: Permit, mut connection: Connection<Heard, Bytes>, pulse: Rc<Pulse>) {
    let mut ping: Option<PingPong> = connection.ping_pong();
    poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "upstream connection");
            }
            return Poll::Ready(());
        }
        match &mut ping {
            Some(ping) => pulse.poll_dead(ping, cx),
            None => Poll::Pending,
        }
    })
    .await;
}
