//! What requests on one client connection share.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderName;
use http::header::HeaderValue;

use crate::client_ip::{self, LocalEnd, Peer};
use crate::config::{Listener, Purpose};
use crate::fields::Fields;
use crate::http1::request;
use crate::transport::ConnInfo;
use crate::transport::activity::Activity;
use crate::transport::socket::Transport;

use super::forward::HeadSink;
use super::snapshot::Snapshot;
use super::upgrade::Opened;

/// What requests on one client connection share.
#[derive(Debug)]
pub struct Connection {
    pub(super) info: Box<ConnInfo>,
    accepted: Accepted,
    /// Where the snapshot of this version has the listener; `None` when it has it no more.
    listener: Cell<(u64, Option<usize>)>,
    pub(super) activity: Rc<Activity>,
    /// Whether it is to end with the request at hand.
    pub(super) draining: Rc<Cell<bool>>,
    pub(super) local_end: LocalEnd,
    constant_fields: RefCell<ConstantFields>,
    /// Whether the request at hand is of HTTP/1.0.
    pub(super) http_1_0: Cell<bool>,
    /// Begins when the 101 has been written.
    pub(super) tunnel: RefCell<Option<Opened>>,
}

/// What a connection was accepted by.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The listener as it was then.
    pub listener: Rc<Listener>,
    /// By which later snapshots know the listening socket.
    pub purpose: Arc<Purpose>,
}

/// Few connections have more of them: grown bit by bit, they would be copied many times.
const USUAL_FIELDS_BYTES: usize = 256;

/// Forwarding fields that are the same for every request of a connection whose peer nobody trusts, and who its client
/// is, as HTTP/1.1 wants them on the wire. Written once per connection and snapshot.
#[derive(Debug, Default)]
struct ConstantFields {
    /// Of the snapshot they were written for; 0: not written yet.
    version: u64,
    bytes: Vec<u8>,
}

impl Connection {
    /// For a connection just established.
    pub fn new(
        info: Box<ConnInfo>,
        accepted: Accepted,
        activity: Rc<Activity>,
        draining: Rc<Cell<bool>>,
    ) -> Self {
        let public_port = accepted.listener.public_port;
        let mut local_end = LocalEnd::new(info.scheme, info.local, public_port);
        if let Some((destination, tls)) = info.balancer {
            local_end = local_end.behind_balancer(destination, tls);
        }
        Self {
            info,
            accepted,
            listener: Cell::default(),
            activity,
            draining,
            local_end,
            constant_fields: RefCell::default(),
            http_1_0: Cell::new(false),
            tunnel: RefCell::default(),
        }
    }

    /// Leaves a connection whose response couldn't be finished: half of it must not look whole. Only an end that is one is
    /// announced (RFC 8446 §6.1), and HTTP/1.0 may have no other end of a response than that of the connection.
    pub fn cut(&self, transport: &Transport) {
        if self.http_1_0.get() {
            transport.reset_at_end();
        }
    }

    /// What goes on on it.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// What is known about the connection, when it goes on without this.
    pub fn into_info(self) -> Box<ConnInfo> {
        self.info
    }

    /// The tunnel that an HTTP/1.1 connection has become. Nothing is read from the endpoint until it runs.
    pub fn take_tunnel(&self) -> Option<Opened> {
        self.tunnel.take()
    }

    /// The listener as `snapshot` has it: whom it trusts is for requests, not for connections. One that was removed
    /// goes on as it was.
    pub(super) fn listener<'a>(&'a self, snapshot: &'a Snapshot) -> &'a Listener {
        self.listener_index(snapshot)
            .and_then(|index| snapshot.config.listeners.get(index))
            .unwrap_or(&self.accepted.listener)
    }

    /// Where `snapshot` has the listener; `None` when it was removed.
    pub(super) fn listener_index(&self, snapshot: &Snapshot) -> Option<usize> {
        match self.listener.get() {
            (version, index) if version == snapshot.version => index,
            _ => self.look_up_listener(snapshot),
        }
    }

    #[cold]
    fn look_up_listener(&self, snapshot: &Snapshot) -> Option<usize> {
        let mut listeners = snapshot.config.listeners.iter();
        let index = listeners.position(|listener| listener.claims(&self.accepted.purpose));
        self.listener.set((snapshot.version, index));
        index
    }

    /// Whether a request for this host belongs on another connection.
    pub(super) fn misdirects(&self, host: &str) -> bool {
        let tls = self.info.tls.as_ref();
        tls.is_some_and(|tls| tls.misdirects(host))
    }

    /// The verified subject of the client's certificate, in the field that the listener has for it.
    pub(super) fn client_subject<'a>(
        &'a self,
        snapshot: &'a Snapshot,
    ) -> Option<(&'a HeaderName, &'a HeaderValue)> {
        let subject = self.info.tls.as_ref()?.subject.as_ref()?;
        let tls = self.listener(snapshot).tls.as_ref()?;
        let name = tls.subject_header.as_ref()?;
        // A listener that was removed may have a name that clients are free to use by now.
        let is_ours = snapshot.config.emit.removes(name, true);
        is_ours.then_some((name, subject))
    }

    /// The fields that routes look at: instead of what clients say about their certificates, what is known.
    pub(super) fn matched_fields<'a>(
        &self,
        snapshot: &Snapshot,
        received: &'a Fields,
    ) -> Cow<'a, Fields> {
        if snapshot.matched_subjects.is_empty() {
            Cow::Borrowed(received)
        } else {
            Cow::Owned(self.with_known_subject(snapshot, received.clone()))
        }
    }

    #[cold]
    fn with_known_subject(&self, snapshot: &Snapshot, mut fields: Fields) -> Fields {
        for name in &snapshot.matched_subjects {
            fields.remove(name);
        }
        if let Some((name, subject)) = self.client_subject(snapshot) {
            fields.insert(name.clone(), subject.clone());
        }
        fields
    }

    pub(super) fn with_constant_fields(
        &self,
        peer: &Peer,
        snapshot: &Snapshot,
        read: impl FnOnce(&[u8]),
    ) {
        let mut fields = self.constant_fields.borrow_mut();
        if fields.version != snapshot.version {
            self.write_constant_fields(peer, snapshot, &mut fields);
        }
        read(&fields.bytes);
    }

    #[cold]
    fn write_constant_fields(&self, peer: &Peer, snapshot: &Snapshot, fields: &mut ConstantFields) {
        fields.version = snapshot.version;
        fields.bytes.clear();
        fields.bytes.reserve(USUAL_FIELDS_BYTES);
        let emit = &snapshot.config.emit;
        let sink = &mut HeadSink(&mut fields.bytes);
        client_ip::emit_constant(peer, &self.local_end, emit, sink);
        if let Some((name, subject)) = self.client_subject(snapshot) {
            request::field(&mut fields.bytes, name, subject);
        }
    }
}
