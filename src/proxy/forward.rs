//! Pick an endpoint, send, and try again where nothing can have happened twice.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, EXPECT, SEC_WEBSOCKET_KEY, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use crate::client_ip::{self, FieldSink, Reason, Resolution, SentField, SocketPeer};
use crate::config::UnderscoreHeaders;
use crate::fields::{has_underscore, is};
use crate::hop_by_hop::HopByHop;
use crate::http1::request::{self, Framing};
use crate::http1::response;
use crate::request::Request;
use crate::telemetry::traces::Trace;
use crate::transport::client_body::ClientBody;
use crate::transport::deadline::Deadlines;
use crate::transport::dial::Announced;
use crate::upstream::endpoint::Serving;
use crate::upstream::h1::{self, TrailerPolicy, Upload, UploadFraming};
use crate::upstream::h2;
use crate::upstream::link::{self, Purpose, Reuse};
use crate::upstream::turn::{Turn, Unavailable, Wanted, Way};
use crate::upstream::websocket;
use crate::upstream::{Channel, Cluster, Endpoint, LocalCluster, LocalEndpoint};

use super::Connection;
use super::admit::Admitted;
use super::error::Error;
use super::retry::Attempts;
use super::snapshot::{Reader, Side, Snapshot, View};
use super::upgrade::Asked;

/// Everything that decides what a request looks like upstream.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) received: &'a Request,
    pub(super) admitted: &'a Admitted<'a>,
    pub(super) hop_by_hop: &'a HopByHop<'a>,
    pub(super) resolution: &'a Resolution<'a>,
    pub(super) connection: &'a Connection,
    pub(super) snapshot: &'a Snapshot,
    /// The field with the request's id, where endpoints get one.
    pub(super) request_id: Option<(&'a HeaderName, &'a HeaderValue)>,
    /// What it is in its trace, if it is traced.
    pub(super) trace: Option<Trace>,
    pub(super) upgrade: Option<Asked>,
    /// The route's own limit for the response head.
    pub(super) response_header: Option<Duration>,
}

/// W3C Trace Context.
pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A response, and the endpoint it came from.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: h1::Response,
    pub(super) endpoint: Rc<LocalEndpoint>,
    pub(super) serving: Serving,
}

/// Sends a request to an endpoint of the cluster and waits for the response head.
pub(super) async fn send(
    request: &Outgoing<'_>,
    body: Option<Box<ClientBody>>,
    side: Side<'_>,
    reader: &Reader,
    clock: &Rc<Deadlines>,
) -> Result<Answer, Error> {
    let method = request.admitted.method;
    let wanted = Wanted::new(request.channel(side.local));
    let mut attempts = Attempts::new(side.cluster, side.local.budget(), method, clock, wanted);
    if let Some(limit) = request.response_header {
        attempts.wait_for_response(limit);
    }
    let (upload, framing) = upload(request, body);
    let mut upload = attempts.prepare(upload);
    let mut upstream = Upstream::new(side, reader);
    loop {
        let side = upstream.newest();
        let turn = side.local.turn(attempts.wanted(), attempts.queue_limit());
        let Turn {
            index,
            endpoint,
            way,
            probe,
        } = match turn.await {
            Ok(turn) => turn,
            Err(unavailable) => {
                upstream.follow(&mut attempts, unavailable, request)?;
                continue;
            }
        };
        let channel = match way {
            Way::Kept(channel) => channel,
            way => {
                let limit = side.cluster.timeouts.connect;
                // Boxed: its state is larger than all the rest, and rarely needed.
                let made = Box::pin(side.local.connect(&endpoint, way, attempts.wanted(), limit));
                match made.await {
                    Ok(Some(channel)) => channel,
                    Ok(None) => continue,
                    Err(failed) => {
                        attempts.connect_failed(index, &failed)?;
                        side.counts.retries.add(attempts.take_retries());
                        continue;
                    }
                }
            }
        };
        let serving = endpoint.begin();
        side.counts.sent_to(index);
        let bounds = h1::Bounds {
            response_header: attempts.response_limit(),
            ..bounds(request, side.cluster)
        };
        let outcome = match channel {
            Channel::Http1(mut connection) => {
                request.write_head(connection.head(), &endpoint.endpoint.authority, framing);
                let pool = &endpoint.pool;
                connection
                    .exchange(method, upload, bounds, pool, request)
                    .await
            }
            // Boxed: its state is larger than that of HTTP/1.1, and both share this future.
            Channel::Http2(slot) if request.upgrade.is_some() => {
                let head = request.websocket_head(&endpoint.endpoint)?;
                Box::pin(h2::connect(slot, head, bounds, request)).await
            }
            Channel::Http2(slot) => {
                let head = request.head(&endpoint.endpoint, framing)?;
                Box::pin(h2::exchange(slot, head, upload, bounds, request)).await
            }
        };
        match outcome {
            Ok(response) => {
                side.local.note_answered(&endpoint, probe.as_ref());
                return Ok(Answer {
                    response,
                    endpoint,
                    serving,
                });
            }
            Err(failed) => {
                upload = attempts.exchange_failed(index, failed)?;
                side.counts.retries.add(attempts.take_retries());
            }
        }
    }
}

/// The upstream a request goes to, as it was when the request came, and as it has become while the request waited.
struct Upstream<'a> {
    side: Side<'a>,
    reader: &'a Reader,
    newer: Option<Rc<View>>,
}

impl<'a> Upstream<'a> {
    fn new(side: Side<'a>, reader: &'a Reader) -> Self {
        Self {
            side,
            reader,
            newer: None,
        }
    }

    fn newest(&self) -> Side<'_> {
        match &self.newer {
            None => self.side,
            Some(view) => self.as_in(view),
        }
    }

    #[cold]
    fn as_in<'v>(&'v self, view: &'v View) -> Side<'v> {
        view.upstream_named(&self.side.cluster.name)
            .unwrap_or(self.side)
    }

    /// Goes on in what the upstream has become, where that is why there is no turn.
    #[cold]
    fn follow(
        &mut self,
        attempts: &mut Attempts<'_>,
        unavailable: Unavailable,
        request: &Outgoing<'_>,
    ) -> Result<(), Error> {
        if unavailable != Unavailable::Superseded {
            return Err(attempts.given_up(unavailable));
        }
        self.newer = Some(self.reader.current());
        let Side { cluster, local, .. } = self.newest();
        attempts.follow(cluster, request.channel(local));
        Ok(())
    }
}

fn bounds(request: &Outgoing<'_>, cluster: &Cluster) -> h1::Bounds {
    let limits = &request.snapshot.config.limits;
    h1::Bounds {
        head: response::Limits {
            max_bytes: limits.max_response_header_bytes,
            ..response::Limits::default()
        },
        response_header: cluster.timeouts.response_header,
        idle: cluster.timeouts.idle,
        is_queued: request.received.version == Version::HTTP_2,
    }
}

/// The request's body, and how the endpoint is told its length.
fn upload(request: &Outgoing<'_>, body: Option<Box<ClientBody>>) -> (Upload, Framing) {
    let admitted = request.admitted;
    let Some(body) = body else {
        let received = request.received;
        let anticipates_content =
            matches!(received.method, Method::POST | Method::PUT | Method::PATCH);
        let framing = match admitted.content_length {
            Some(_) => Framing::Length(0),
            // HTTP/2 says with a flag what HTTP/1 servers want to read as a length (RFC 9110 §8.6).
            None if received.version == Version::HTTP_2 && anticipates_content => {
                Framing::Length(0)
            }
            None => Framing::None,
        };
        return (Upload::none(), framing);
    };
    let (how, framing) = match admitted.content_length {
        Some(length) => (UploadFraming::Length, Framing::Length(length)),
        None => (UploadFraming::Chunked, Framing::Chunked),
    };
    let mut upload = Upload::new(body, how);
    if how == UploadFraming::Chunked {
        upload = upload.with_trailers(TrailerPolicy {
            emit: Arc::clone(&request.snapshot.emit),
            from_trusted_peer: request.resolution.peer_is_trusted(),
            underscores: request.snapshot.config.limits.underscore_headers,
        });
    }
    if admitted.expects_continue {
        (upload.held(), framing)
    } else {
        (upload, framing)
    }
}

impl Outgoing<'_> {
    /// Writes the request head: what the client sent, less what belongs to its connection or is ours to say, and our
    /// forwarding fields.
    fn write_head(&self, out: &mut Vec<u8>, endpoint_authority: &str, framing: Framing) {
        let emit = &self.snapshot.config.emit;
        let host =
            client_ip::upstream_host(self.resolution, &self.received.fields, self.host(), emit)
                .unwrap_or(endpoint_authority.as_bytes());
        request::begin(out, self.admitted.method, self.admitted.target, host);
        let upgrade = self.upgrade.as_ref();
        request::fields(out, &self.received.fields, |name| {
            self.passes(name) && upgrade.is_none_or(|asked| !asked.replaces(name))
        });
        if let Some(asked) = upgrade {
            asked.write_fields(out);
        }
        if self.anticipates_continue(framing) {
            out.extend_from_slice(b"expect: 100-continue\r\n");
        }
        if self.hop_by_hop.accepts_trailers() {
            out.extend_from_slice(b"te: trailers\r\n");
        }
        if let Some((name, value)) = self.request_id {
            request::field(out, name, value);
        }
        if let Some(value) = self.traceparent() {
            request::field(out, &TRACEPARENT, &value);
        }
        self.write_forwarding(out);
        request::finish(out, framing);
    }

    /// The request head as HTTP/2 has it; its fields are those of [`Self::write_head`].
    fn head(&self, endpoint: &Endpoint, framing: Framing) -> Result<http::Request<()>, Error> {
        let emit = &self.snapshot.config.emit;
        let host =
            client_ip::upstream_host(self.resolution, &self.received.fields, self.host(), emit);
        let authority = match host {
            Some(host) => Authority::try_from(host),
            None => Authority::try_from(endpoint.authority.as_str()),
        };
        let uri = Uri::builder()
            .scheme(match endpoint.link.tls {
                Some(_) => Scheme::HTTPS,
                None => Scheme::HTTP,
            })
            .authority(authority.map_err(|_| Error::bad_request("host"))?)
            .path_and_query(
                PathAndQuery::try_from(self.admitted.target)
                    .map_err(|_| Error::bad_request("target"))?,
            )
            .build()
            .map_err(|_| Error::bad_request("target"))?;
        let mut headers = self.header_map();
        if self.anticipates_continue(framing) {
            headers.insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        if self.hop_by_hop.accepts_trailers() {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Framing::Length(length) = framing {
            headers.insert(CONTENT_LENGTH, length.into());
        }
        let mut request = http::Request::new(());
        *request.method_mut() = self.admitted.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// What asks for a WebSocket over HTTP/2 (RFC 8441 §4). Towards an HTTP/1.1 client the handshake is ours then: it
    /// must have sent a key that can be answered.
    fn websocket_head(&self, endpoint: &Endpoint) -> Result<http::Request<()>, Error> {
        let is_answerable = match self.upgrade {
            Some(Asked::Upgrade) => websocket::has_key(&self.received.fields),
            Some(Asked::Connect(_)) | None => true,
        };
        if !is_answerable {
            return Err(Error::bad_request("websocket_key"));
        }
        let mut head = self.head(endpoint, Framing::None)?;
        *head.method_mut() = Method::CONNECT;
        head.headers_mut().remove(SEC_WEBSOCKET_KEY);
        let protocol = Protocol::from_static(websocket::PROTOCOL);
        head.extensions_mut().insert(protocol);
        Ok(head)
    }

    /// The fields that say nothing about framing: those of the client that go on, and ours.
    pub(super) fn header_map(&self) -> HeaderMap {
        let mut headers = self
            .received
            .fields
            .to_map(|name| !request::is_own(name) && self.passes(name));
        self.emit_into(&mut MapSink(&mut headers));
        if let Some((name, subject)) = self.connection.client_subject(self.snapshot) {
            headers.insert(name, subject.clone());
        }
        if let Some((name, id)) = self.request_id {
            headers.insert(name, id.clone());
        }
        if let Some(value) = self.traceparent() {
            headers.insert(&TRACEPARENT, value);
        }
        headers
    }

    fn anticipates_continue(&self, framing: Framing) -> bool {
        self.admitted.expects_continue && matches!(framing, Framing::Chunked | Framing::Length(1..))
    }

    fn channel(&self, local: &LocalCluster) -> link::Wanted {
        link::Wanted {
            purpose: match self.upgrade {
                Some(_) => Purpose::WebSocket,
                None => Purpose::Exchange,
            },
            reuse: Reuse::Welcome,
            announced: local
                .sends_proxy_headers()
                .then(|| self.announced())
                .flatten(),
            max_head_bytes: self.snapshot.config.limits.max_response_header_bytes,
        }
    }

    /// Who a PROXY header names; `None` when nobody knows the client.
    fn announced(&self) -> Option<Announced> {
        let client = self.resolution.client().ip()?;
        let peer = self.resolution.peer();
        let port = match self.resolution.believed().next() {
            Some((_, port)) => port,
            None => match (peer.proxied, peer.socket) {
                (Some(source), _) => Some(source.port),
                (None, SocketPeer::Ip(_, port)) => Some(port),
                (None, SocketPeer::Unix) => None,
            },
        };
        Some(Announced {
            source: (client, port.unwrap_or(0)).into(),
            destination: self.connection.info.destination,
        })
    }

    /// Whether a field of this name, which isn't the codec's to write, goes on as the client sent it.
    fn passes(&self, name: &[u8]) -> bool {
        let config = &self.snapshot.config;
        let trusted = self.resolution.peer_is_trusted();
        let underscores = config.limits.underscore_headers == UnderscoreHeaders::Allow;
        !(is(name, "Expect")
            || self.hop_by_hop.removes(name)
            || config.emit.removes(name, trusted)
            || self.retraces(name)
            || (!underscores && has_underscore(name)))
    }

    /// Whether the endpoint is told something else here of the trace: our span, or a trace that begins with it.
    fn retraces(&self, name: &[u8]) -> bool {
        let Some(trace) = &self.trace else {
            return false;
        };
        is(name, "traceparent") || (trace.is_root() && is(name, "tracestate"))
    }

    fn traceparent(&self) -> Option<HeaderValue> {
        self.trace.as_ref().and_then(Trace::header)
    }

    fn write_forwarding(&self, out: &mut Vec<u8>) {
        if self.resolution.reason() != Reason::DirectPeer {
            self.emit_into(&mut HeadSink(out));
            if let Some((name, subject)) = self.connection.client_subject(self.snapshot) {
                request::field(out, name, subject);
            }
            return;
        }
        let peer = &self.resolution.peer();
        self.connection
            .with_constant_fields(peer, self.snapshot, |fields| out.extend_from_slice(fields));
        let emit = &self.snapshot.config.emit;
        let sink = &mut HeadSink(out);
        let local = &self.connection.local_end;
        client_ip::emit_varying(peer, &self.received.fields, self.host(), local, emit, sink);
        self.emit_target(sink);
    }

    /// Writes the forwarding fields into any sink.
    pub(super) fn emit_into(&self, sink: &mut impl FieldSink) {
        let local = &self.connection.local_end;
        let emit = &self.snapshot.config.emit;
        client_ip::emit(
            self.resolution,
            &self.received.fields,
            self.host(),
            local,
            emit,
            sink,
        );
        self.emit_target(sink);
    }

    fn emit_target(&self, sink: &mut impl FieldSink) {
        if self.snapshot.config.emit.sends(SentField::XOriginalUri) {
            sink.field(
                SentField::XOriginalUri.title(),
                self.admitted.target.as_bytes(),
            );
        }
    }

    fn host(&self) -> Option<&[u8]> {
        self.admitted.authority.map(str::as_bytes)
    }
}

impl h1::Sender for Outgoing<'_> {
    fn asks_for_websocket(&self) -> bool {
        self.upgrade.is_some()
    }

    /// An HTTP/1.0 client doesn't know of such responses, and in HTTP/2 hyper has no way to send one. Leaving them out
    /// is legal (RFC 9110 §15.2).
    fn interim(&self, head: &response::Head) {
        if self.received.version != Version::HTTP_11 {
            return;
        }
        let hop_by_hop = HopByHop::of_response(&head.fields);
        let emit = &self.snapshot.config.emit;
        let mut out = Vec::with_capacity(512);
        response::begin_interim(&mut out, head.status);
        head.fields.write(&mut out, |name, _| {
            !(hop_by_hop.removes(name) || request::is_own(name) || emit.removes(name, false))
        });
        out.extend_from_slice(b"\r\n");
        self.connection.activity.send_interim(&out);
    }
}

/// Appends forwarding fields to an HTTP/1.1 head.
#[derive(Debug)]
pub(super) struct HeadSink<'a>(pub(super) &'a mut Vec<u8>);

impl FieldSink for HeadSink<'_> {
    fn field(&mut self, name: &'static str, value: &[u8]) {
        self.field_with(name, &mut |out| out.extend_from_slice(value));
    }

    fn field_with(&mut self, name: &'static str, write: &mut dyn FnMut(&mut Vec<u8>)) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        write(self.0);
        self.0.extend_from_slice(b"\r\n");
    }
}

/// Appends forwarding fields to a map.
#[derive(Debug)]
struct MapSink<'a>(&'a mut HeaderMap);

impl FieldSink for MapSink<'_> {
    fn field(&mut self, name: &'static str, value: &[u8]) {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            self.0.append(name, value);
        }
    }
}
