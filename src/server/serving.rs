//! What becomes of an accepted connection: established, served by its version of HTTP, parked while it rests, and parted
//! with so that its last answer arrives.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use crate::client_ip::SocketPeer;
use crate::config::{self, Limits};
use crate::http1::refused::{Place, Refused};
use crate::http1::request_head;
use crate::proxy::{Accepted, Connection, Proxy};
use crate::telemetry::metrics::{OfListener, ProxyHeaderError};
use crate::transport::activity::{Activity, GOODBYE, Overdue, idle_left};
use crate::transport::deadline::Deadlines;
use crate::transport::establish::{self, Arrival, Established, HttpVersion, Setup};
use crate::transport::io::ClientIo;
use crate::transport::listener::BoundAddress;
use crate::transport::socket::{self, Socket, Transport};
use crate::transport::tls;
use crate::transport::wire::{self, Wire};

use super::acceptor::Acceptor;
use super::admission::{Admission, Seat, TurnedAway, Visit};
use super::connections::{Connections, Open};
use super::http1;
use super::http2::{self, Drain, Stream, StreamExecutor};
use super::tasks::{Job, Tasks, boxed};
use super::worker::Accepting;

/// What is read from a client whose request was answered before it was complete, before its connection is closed:
/// closing with bytes unread would reset it, and destroy the answer (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);

/// What becomes of a head that has begun to come, and doesn't end.
const TOO_SLOW: Refused = Refused {
    status: StatusCode::REQUEST_TIMEOUT,
    reason: "request_head_timeout",
    place: Place::Head,
};

/// What all listeners of a worker share at one time.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) proxy: Rc<Proxy>,
    pub(super) clock: Rc<Deadlines>,
    pub(super) connections: Rc<Connections>,
    pub(super) tasks: Rc<Tasks<Admitted>>,
    pub(super) streams: Rc<Tasks<Stream>>,
    pub(super) admission: Arc<Admission>,
    pub(super) limits: Limits,
}

/// What the connections of one listening socket are treated by; replaced, never changed.
#[derive(Debug)]
pub(super) struct Listener {
    accepted: Accepted,
    /// What forwarding fields call our own address.
    local: Option<SocketAddr>,
    tls: Option<Arc<tls::server::Server>>,
    /// Of the socket, whatever its settings.
    draining: Rc<Cell<bool>>,
    proxy: Rc<Proxy>,
    clock: Rc<Deadlines>,
    connections: Rc<Connections>,
    tasks: Rc<Tasks<Admitted>>,
    admission: Arc<Admission>,
    limits: Limits,
    counts: Arc<OfListener>,
    http2: hyper::server::conn::http2::Builder<StreamExecutor>,
}

impl Listener {
    pub(super) fn new(accepting: &Accepting, acceptor: &Acceptor, shared: &Shared) -> Self {
        let streams = StreamExecutor {
            tasks: Rc::clone(&shared.streams),
            turn: Rc::clone(&shared.connections.counts.turn),
            clock: Rc::clone(&shared.clock),
            send: accepting.listener.timeouts.send,
        };
        Self {
            accepted: Accepted {
                listener: Rc::new(config::Listener::clone(&accepting.listener)),
                purpose: Arc::clone(&accepting.purpose),
            },
            local: match accepting.address {
                BoundAddress::Ip(address) => Some(address),
                BoundAddress::Unix(_) => None,
            },
            tls: accepting.tls.clone(),
            draining: Rc::clone(&acceptor.draining),
            proxy: Rc::clone(&shared.proxy),
            clock: Rc::clone(&shared.clock),
            connections: Rc::clone(&shared.connections),
            tasks: Rc::clone(&shared.tasks),
            admission: Arc::clone(&shared.admission),
            limits: shared.limits,
            counts: shared.proxy.counts_of(&accepting.listener.name),
            http2: http2::builder(&shared.limits, streams),
        }
    }

    /// Counts a connection that was just accepted.
    pub(super) fn open(&self) -> Open {
        Open::new(&self.connections, &self.counts)
    }

    /// Ready when one more connection may be served; when draining has begun, at once: its client may have asked already.
    pub(super) fn poll_seat(&self, cx: &Context<'_>) -> Poll<Seat> {
        if self.draining.get() {
            return Poll::Ready(self.spare_seat());
        }
        self.admission.poll_seat(self.limits.max_connections, cx)
    }

    /// A connection can't be accepted for want of a descriptor.
    pub(super) fn want_descriptor(&self) {
        self.proxy.want_descriptor();
    }

    /// Has whoever waits for a seat ask again.
    pub(super) fn wake_waiting(&self) {
        self.admission.wake();
    }

    /// For a connection that can't wait: its listening socket is about to close.
    pub(super) fn spare_seat(&self) -> Seat {
        self.admission.spare_seat()
    }

    fn wire_limits(&self) -> wire::Limits {
        wire::Limits {
            head: request_head::Limits {
                max_bytes: self.limits.max_header_bytes,
                max_fields: self.limits.max_headers,
                max_target_bytes: self.limits.max_target_bytes,
            },
            max_trailer_bytes: self.limits.max_trailer_bytes,
        }
    }

    fn config(&self) -> &config::Listener {
        &self.accepted.listener
    }

    /// Serves a connection, if its peer may have one.
    pub(super) fn begin(self: &Rc<Self>, socket: Socket, peer: SocketPeer, open: Open, seat: Seat) {
        if self.admits(&peer) {
            self.tasks.begin(Admitted {
                establishing: boxed(|| Rc::clone(self).establish(socket, peer)),
                listener: Rc::clone(self),
                peer,
                open,
                seat,
            });
        } else {
            tracing::debug!(listener = self.config().name, ?peer, "peer refused");
        }
    }

    fn admits(&self, peer: &SocketPeer) -> bool {
        let peers = &self.config().peers;
        let denied = peers
            .deny
            .as_ref()
            .is_some_and(|denied| denied.contains_peer(peer));
        let allowed = peers
            .allow
            .as_ref()
            .is_none_or(|allowed| allowed.contains_peer(peer));
        allowed && !denied
    }

    /// Makes a connection of a socket, if its client may have one more.
    async fn establish(self: Rc<Self>, socket: Socket, peer: SocketPeer) -> Welcome {
        let config = self.config();
        let deadline = self.clock.register();
        let announces = self.proxy.sends_proxy_headers();
        let destination = announces.then(|| socket.local_addr()).flatten();
        let setup = Setup {
            protocols: config.protocols,
            proxy_protocol: config.proxy_protocol.as_ref(),
            tls: self.tls.as_deref(),
            timeouts: config.timeouts,
        };
        let mut arrival = Arrival::new(socket, peer, self.local);
        let met = arrival.meet(&setup, &deadline).await;
        met.inspect_err(|error| self.count_failure(error))?;
        let most = self.limits.max_connections_per_client;
        let visit = config.trust.stranger(&arrival.info.peer);
        let visit = visit
            .map(|client| self.admission.visit(client, most))
            .transpose()?;
        let most = self.limits.max_handshakes_per_client;
        let handshake = visit.as_ref().filter(|_| self.tls.is_some());
        let handshake = handshake.map(|visit| visit.handshake(most)).transpose()?;
        let mut established = arrival.establish(&setup, &deadline).await?;
        established.info.destination = destination;
        drop(handshake);
        Ok((established, visit))
    }

    /// Nothing but a PROXY header is read from whom we meet.
    fn count_failure(&self, error: &establish::Error) {
        let kind = match error {
            establish::Error::ProxyHeaderMissing => ProxyHeaderError::Missing,
            establish::Error::ProxyHeaderTwice => ProxyHeaderError::Twice,
            establish::Error::ProxyHeader(_) => ProxyHeaderError::Malformed,
            establish::Error::TimedOut => ProxyHeaderError::Timeout,
            establish::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                ProxyHeaderError::Incomplete
            }
            // A probe, or a connection that was reset.
            _ => return,
        };
        self.counts.proxy_header_failed(kind);
    }

    /// Gives up a connection that hasn't begun to speak a while after draining began.
    async fn unless_drained(&self, mut establishing: Establishing) -> Option<Welcome> {
        let mut last_chance = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = establishing.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if !self.draining.get() {
                return Poll::Pending;
            }
            let deadline = last_chance.get_or_insert_with(|| {
                let deadline = self.clock.register();
                deadline.arm(LINGER);
                deadline
            });
            deadline.poll_due(cx).map(|()| None)
        })
        .await
    }

    /// Serves requests until the connection ends, or has nothing to do for a while.
    async fn serve_http(&self, connection: Quiet) -> Option<Quiet> {
        let Quiet {
            established:
                Established {
                    transport,
                    info,
                    version,
                    ahead,
                },
            since,
        } = connection;
        let activity = Activity::new(
            version,
            self.config().timeouts,
            &self.clock,
            Rc::clone(&self.connections.counts),
        );
        if let Some(since) = since {
            activity.resume(since);
        }
        let connection = Rc::new(Connection::new(
            info,
            self.accepted.clone(),
            Rc::clone(&activity),
            Rc::clone(&self.draining),
        ));
        match version {
            HttpVersion::Http1 => {
                let wire = Wire::new(transport, ahead, Rc::clone(&activity), self.wire_limits());
                self.serve_http1(wire, connection, &activity).await
            }
            HttpVersion::Http2 => {
                self.serve_http2(transport, connection, activity).await;
                None
            }
        }
    }

    async fn serve_http1(
        &self,
        wire: Wire,
        connection: Rc<Connection>,
        activity: &Rc<Activity>,
    ) -> Option<Quiet> {
        let wire = Rc::new(RefCell::new(wire));
        let ended = {
            let requests = http1::serve(&wire, &self.proxy, &connection, activity, &self.clock);
            self.watch_over(pin!(requests), activity).await
        };
        self.note_end(&ended);
        // Requests alone hold it besides, and those have ended.
        let wire = Rc::into_inner(wire)?.into_inner();
        let unread = wire.has_surplus() || activity.body_is_open();
        let (transport, ahead, refused) = wire.into_parts();
        match ended {
            Ended::Overdue(Overdue::Resting) => {
                return Some(Quiet {
                    established: Established {
                        transport,
                        info: Rc::into_inner(connection)?.into_info(),
                        version: HttpVersion::Http1,
                        // Even an empty one holds the whole buffer it was cut from.
                        ahead: BytesMut::from(&ahead[..]),
                    },
                    since: activity.resting_since(),
                });
            }
            Ended::Finished(Ok(http1::End::Switched)) => {
                // A client may not speak the new protocol before it was agreed upon (RFC 6455 §4.1), and what it did
                // send may have been meant as a request.
                if let Some(tunnel) = connection.take_tunnel().filter(|_| ahead.is_empty()) {
                    tunnel.run(transport).await;
                }
            }
            Ended::Finished(Err(http1::Error::Cut(_))) => connection.cut(&transport),
            Ended::Overdue(Overdue::Head) => {
                self.close(transport, Some(TOO_SLOW), unread, &connection)
                    .await;
            }
            Ended::Finished(_) | Ended::Overdue(Overdue::Idle) => {
                socket::give_back(ahead);
                self.close(transport, refused, unread, &connection).await;
            }
            Ended::Overdue(Overdue::Send) => {}
        }
        None
    }

    async fn serve_http2(
        &self,
        transport: Transport,
        connection: Rc<Connection>,
        activity: Rc<Activity>,
    ) {
        let proxy = Rc::clone(&self.proxy);
        let requests = Rc::clone(&activity);
        let service =
            service_fn(move |request| proxy.handle_http2(&connection, request, requests.begin()));
        let io = ClientIo::new(transport, Rc::clone(&activity));
        let http = self.http2.serve_connection(TokioIo::new(io), service);
        let ended = self.drive(pin!(http), &activity).await;
        self.note_end(&ended);
    }

    fn note_end<T, E: std::fmt::Display>(&self, ended: &Ended<Result<T, E>>) {
        match ended {
            Ended::Finished(Ok(_)) => {}
            Ended::Finished(Err(error)) => {
                tracing::debug!(listener = self.config().name, %error, "connection");
            }
            Ended::Overdue(why) => {
                tracing::debug!(listener = self.config().name, ?why, "too slow, or idle");
            }
        }
    }

    /// Waits until something comes on a connection that has nothing to do. `false`: nothing came in time, and its client
    /// has been told that it ends.
    async fn rest(&self, quiet: &mut Quiet) -> bool {
        let deadline = self.clock.register();
        let keep_alive = self.config().timeouts.keep_alive;
        let since = quiet.since.unwrap_or_default();
        deadline.arm(idle_left(keep_alive, since, deadline.now()));
        let mut lingers = false;
        let transport = &mut quiet.established.transport;
        let woken = poll_fn(|cx| {
            if transport.poll_readable(cx).is_ready() {
                return Poll::Ready(true);
            }
            if self.draining.get() && !lingers {
                lingers = true;
                deadline.arm(LINGER);
            }
            deadline.poll_due(cx).map(|()| false)
        })
        .await;
        if !woken {
            // An error here means that the client has gone already.
            let _ = deadline.limit(GOODBYE, transport.say_goodbye()).await;
        }
        woken
    }

    /// Runs an HTTP/1 connection until it ends, or is overdue.
    ///
    /// While draining, it isn't told to end: its next response says that it does, and one that is idle is waited for, for a
    /// while, as a request may be on its way.
    async fn watch_over<F: Future>(
        &self,
        mut requests: Pin<&mut F>,
        activity: &Activity,
    ) -> Ended<F::Output> {
        poll_fn(|cx| {
            if let Poll::Ready(output) = requests.as_mut().poll(cx) {
                return Poll::Ready(Ended::Finished(output));
            }
            if self.draining.get() {
                activity.linger();
            }
            activity.poll_overdue(cx).map(Ended::Overdue)
        })
        .await
    }

    /// Runs an HTTP/2 connection until it ends, is overdue, or has been drained: it agrees with its client upon the last
    /// request.
    async fn drive<C: Drain>(
        &self,
        mut http: Pin<&mut C>,
        activity: &Activity,
    ) -> Ended<hyper::Result<()>> {
        let mut told = false;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = http.as_mut().poll(cx) {
                    return Poll::Ready(Ended::Finished(result));
                }
                let draining = self.draining.get();
                if draining {
                    activity.linger();
                }
                if !draining || told {
                    let why = ready!(activity.poll_overdue(cx));
                    if told || why == Overdue::Send {
                        return Poll::Ready(Ended::Overdue(why));
                    }
                    activity.say_goodbye();
                }
                told = true;
                http.as_mut().drain();
            }
        })
        .await
    }

    /// Ends an HTTP/1 connection so that its last answer arrives. `unread`: its client may have sent more than was read.
    async fn close(
        &self,
        mut transport: Transport,
        refused: Option<Refused>,
        unread: bool,
        connection: &Connection,
    ) {
        let activity = connection.activity();
        let unread = unread || refused.is_some();
        if matches!(transport, Transport::Plain(_)) && !unread {
            return; // closing the socket says all there is to say
        }
        let deadline = self.clock.register();
        let goodbye = async {
            if let Some(refused) = refused {
                tracing::debug!(
                    listener = self.config().name,
                    reason = refused.reason,
                    "refused"
                );
                // A body may be refused after the response to its request began.
                if refused.place != Place::Body || !activity.answered() {
                    let answer = self.proxy.refusal(connection, refused);
                    transport.write_all(&answer).await?;
                }
            }
            transport.shutdown().await?;
            if unread {
                poll_fn(|cx| transport.poll_discard(cx)).await?;
            }
            io::Result::Ok(())
        };
        // An error here means that the client has gone already.
        let _ = deadline.limit(GOODBYE, goodbye).await;
    }
}

/// A connection that is to be served.
pub(super) struct Admitted {
    listener: Rc<Listener>,
    establishing: Establishing,
    peer: SocketPeer,
    open: Open,
    seat: Seat,
}

/// Boxed, as is what follows: the task of a connection that rests should be small.
type Establishing = Pin<Box<dyn Future<Output = Welcome>>>;

/// Whether a connection is served.
type Welcome = Result<(Established, Option<Visit>), Unserved>;

impl Job for Admitted {
    async fn run(self) {
        let Self {
            listener,
            establishing,
            peer,
            open: _open,
            seat: _seat,
        } = self;
        let (established, _visit) = match listener.unless_drained(establishing).await {
            None => return,
            Some(Ok(established)) => established,
            // A client can cause these at will.
            Some(Err(error)) => {
                tracing::debug!(listener = listener.config().name, ?peer, %error, "connection");
                return;
            }
        };
        let mut quiet = Quiet {
            established,
            since: None,
        };
        loop {
            // Not as the head of the loop: all that follows would keep room for it.
            let Some(parked) = boxed(|| listener.serve_http(quiet)).await else {
                return;
            };
            quiet = parked;
            if !listener.rest(&mut quiet).await {
                return;
            }
        }
    }
}

/// A connection between two requests.
#[derive(Debug)]
struct Quiet {
    established: Established,
    /// The tick since when it has been idle, if it has served a request.
    since: Option<u64>,
}

/// Why a connection isn't served.
#[derive(Debug, thiserror::Error)]
enum Unserved {
    #[error(transparent)]
    Failed(#[from] establish::Error),
    #[error(transparent)]
    TurnedAway(#[from] TurnedAway),
}

/// How a connection ended.
#[derive(Debug)]
enum Ended<T> {
    Finished(T),
    Overdue(Overdue),
}
