//! The request: one straight line from an admitted head to a response.
//!
//! [`Proxy::handle`] is the whole story in ten steps; each step takes what it needs as arguments, and there is no
//! context object that every step may read and write. The order carries meaning: nothing is derived from a request
//! whose framing or Host is ambiguous, and the client's address is resolved before any field is removed.

mod access;
mod admit;
pub mod body;
mod connection;
mod echo;
pub mod error;
mod forward;
mod record;
mod request_id;
pub mod response;
mod retry;
pub mod snapshot;
mod told;
pub mod upgrade;
mod wall_clock;

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, COOKIE, DATE, EXPECT, HeaderValue, LOCATION};
use http::{HeaderMap, StatusCode, Version};
use hyper::upgrade::OnUpgrade;

use crate::client_ip::{self};
use crate::config::{Action, Limits, RedirectToHttps, Route};
use crate::hop_by_hop::{self, HopByHop};
use crate::http1::refused::{Place, Refused};
use crate::request::Request;
use crate::route;
use crate::telemetry::access_log::Field;
use crate::telemetry::metrics::{Measured, OfListener};
use crate::telemetry::origins::Origin;
use crate::telemetry::recent::{Seen, Wanted};
use crate::telemetry::snat::Counted;
use crate::transport::activity::InFlight;
use crate::transport::client_body::ClientBody;
use crate::transport::deadline::Deadlines;
use crate::upstream::whoami::Identity;
use crate::upstream::{Cluster, LocalCluster, Target, h1};

use admit::Admitted;
use body::Body;
pub use connection::{Accepted, Connection};
use echo::Echo;
use error::Error;
use forward::{Answer, Outgoing};
use request_id::{Id, RequestIds};
use response::Response;
use snapshot::{Publisher, Reader, Snapshot, View};
use told::Told;
use upgrade::{Asked, Opened, Tunnel};
use wall_clock::WallClock;

/// What is read of a body that nobody wants, so that its connection can be kept.
const DRAIN_BYTES: u64 = 256 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// One worker's request handler.
#[derive(Debug)]
pub struct Proxy {
    reader: Reader,
    clock: Rc<Deadlines>,
    wall_clock: WallClock,
    request_ids: RequestIds,
    echo: Echo,
}

/// A request as it came, and what it is served by.
#[derive(Debug, Clone, Copy)]
struct Received<'a> {
    connection: &'a Connection,
    view: &'a View,
    request: &'a Request,
}

impl Proxy {
    /// The handler of worker number `worker`.
    pub fn new(
        publisher: &Publisher,
        worker: usize,
        clock: &Rc<Deadlines>,
        identity: &Arc<Identity>,
    ) -> Rc<Self> {
        Rc::new(Self {
            reader: Reader::new(publisher, worker, clock),
            clock: Rc::clone(clock),
            wall_clock: WallClock::new(clock),
            request_ids: RequestIds::new(worker),
            echo: Echo::new(Arc::clone(identity), Rc::clone(clock)),
        })
    }

    /// Answers an HTTP/2 request, as hyper asks for it.
    ///
    /// # Errors
    /// None; it is what hyper asks of a service.
    pub fn handle_http2(
        self: &Rc<Self>,
        connection: &Rc<Connection>,
        mut request: http::Request<hyper::body::Incoming>,
        in_flight: InFlight,
    ) -> impl Future<Output = Result<http::Response<Body>, Infallible>> + use<> {
        let stream = upgrade::stream_of(&mut request);
        let connects_websocket = upgrade::is_extended_connect(&request);
        let (mut head, body) = request.into_parts();
        join_cookies(&mut head.headers);
        let request = Request {
            method: head.method,
            uri: head.uri,
            version: head.version,
            connects_websocket,
            fields: head.headers.into(),
        };
        let body = ClientBody::http2(body, &connection.activity, &self.clock);
        let (proxy, connection) = (Rc::clone(self), Rc::clone(connection));
        // An async function would keep what it was given beside what it makes of it.
        async move {
            let answer = proxy.handle(&connection, &request, body, stream, in_flight);
            Ok(answer.await.into_http2())
        }
    }

    /// Answers a request: with an endpoint's response, or with our own. `in_flight` ends with the response; `stream` is
    /// what an HTTP/2 CONNECT becomes.
    pub async fn handle(
        &self,
        connection: &Connection,
        request: &Request,
        mut body: Option<Box<ClientBody>>,
        stream: Option<OnUpgrade>,
        in_flight: InFlight,
    ) -> Response {
        connection.http_1_0.set(request.version == Version::HTTP_10);
        let view = self.reader.current();
        let mut id = self.request_ids.next(&view.snapshot.config);
        let record = record::begin(&view, connection, request, body.as_deref_mut(), &id);
        let measured = Measured::begin(&view.counts, connection.listener_index(&view.snapshot));
        let mut told = Told {
            record,
            measured,
            explanation: None,
        };
        let received = Received {
            connection,
            view: &view,
            request,
        };
        let mut outcome = self.serve(&received, &mut body, &mut id, &mut told).await;
        if stream.is_some() {
            outcome = outcome.and_then(upgrade::check);
        }
        let mut response = match outcome {
            Ok(response) => response,
            Err(error) => {
                if let Some(record) = &mut told.record {
                    record.error = Some(error.reason);
                    record::note_unjudged(record, connection, connection.listener(&view.snapshot));
                }
                let name = request_id::name_in_errors(&view.snapshot.config);
                error.response(name, &id.to_string())
            }
        };
        if let Some((name, value)) = id.field(&view.snapshot.config) {
            response.fields.insert(name.clone(), value.clone());
        }
        told.explain(connection.listener(&view.snapshot), &mut response.fields);
        if request.version != Version::HTTP_2 && connection.activity.body_is_open() {
            // Boxed, as it is rarely needed.
            Box::pin(settle(request, body, &mut response)).await;
        }
        if connection.draining.get() {
            announce_end(request, &mut response);
        }
        if !response.fields.contains(&DATE) {
            response.fields.insert(DATE, self.wall_clock.date());
        }
        let Told {
            mut record,
            mut measured,
            ..
        } = told;
        measured.answered(response.status);
        if let Some(record) = &mut record {
            record.status = Some(response.status);
        }
        let end = response.body.end();
        end.record = record;
        end.in_flight = Some(in_flight);
        if let Some(tunnel) = Opened::take(end) {
            match stream {
                Some(stream) => tunnel.spawn(stream),
                None => *connection.tunnel.borrow_mut() = Some(tunnel),
            }
        } else {
            end.measured = Some(measured);
        }
        response
    }

    /// The straight line. `handle` did step 1, [`Record`] does step 10 when the body ends.
    async fn serve(
        &self,
        received: &Received<'_>,
        body: &mut Option<Box<ClientBody>>,
        id: &mut Id,
        told: &mut Told,
    ) -> Result<Response, Error> {
        let Received {
            connection,
            view,
            request,
        } = *received;
        let snapshot = &*view.snapshot;
        let config = &snapshot.config;
        let listener = connection.listener(snapshot);
        let admitted = admit::check(request, &config.limits)?;
        let resolution =
            client_ip::resolve(&connection.info.peer, &request.fields, &listener.trust);
        if id.adopt(config.request_id.as_ref(), &resolution, &request.fields) {
            told.note_name(id);
        }
        told.note_client(received, &admitted, &resolution, id);
        let (record, measured) = (&mut told.record, &mut told.measured);
        if resolution.must_reject() {
            return Err(Error::bad_request("forwarding_chain"));
        }
        access::check(&config.access, &resolution)?;
        if let Some(redirect) = &listener.redirect_to_https
            && let Some(response) = redirect_to_https(*redirect, &admitted)?
        {
            return Ok(response);
        }
        if connection.misdirects(admitted.host) {
            return Err(Error::misdirected());
        }
        let (index, route) = find_route(connection, snapshot, request, &admitted)?;
        measured.takes_route(index);
        if let Some(record) = record {
            record.set(Field::Route, &route.name);
        }
        access::check(&route.access, &resolution)?;
        if let Some(body) = body {
            body.limit_trailers(config.limits.max_trailer_bytes);
        }
        limit_body(
            route.max_request_body.or(config.limits.max_request_body),
            &admitted,
            body,
        )?;
        let hop_by_hop = HopByHop::of_request(&request.fields);
        let upgrade = Asked::of(request, &hop_by_hop, body.is_some());
        let outgoing = Outgoing {
            received: request,
            admitted: &admitted,
            hop_by_hop: &hop_by_hop,
            resolution: &resolution,
            connection,
            snapshot,
            request_id: id.field(config),
            trace: record.as_ref().and_then(|record| record.trace().copied()),
            upgrade,
            response_header: route.response_header,
        };
        let index = match route.action {
            Action::Respond { status, ref body } => return Ok(respond(status, body)),
            Action::Upstream(index) => index,
        };
        let side = view.upstream(index).ok_or_else(Error::no_endpoint)?;
        let cluster = side.cluster;
        if let Some(record) = record {
            record.set(Field::Upstream, &cluster.name);
        }
        if let Target::Whoami(of) = cluster.target {
            if let Some(response) = self.echo.open(&outgoing, cluster.timeouts.tunnel) {
                return response;
            }
            return self.echo.answer(&outgoing, body.take(), of).await;
        }
        let begun = record.is_some().then(Instant::now);
        let answer = forward::send(&outgoing, body.take(), side, &self.reader, &self.clock).await?;
        if let (Some(record), Some(begun)) = (record, begun) {
            record.answered(begun);
            record.show(Field::Endpoint, &answer.endpoint.endpoint.address);
        }
        finish(answer, &outgoing, cluster)
    }

    /// What a client gets, as bytes, whose request never became one. It is recorded here, unless its head was fine: then it
    /// has a record already.
    pub fn refusal(&self, connection: &Connection, refused: Refused) -> Vec<u8> {
        let view = self.reader.current();
        let config = &view.snapshot.config;
        let id = self.request_ids.next(config);
        let error = Error::unreadable(refused);
        if refused.place != Place::Body {
            record::of_refused(&view, connection, &error, &id);
            let listener = connection.listener_index(&view.snapshot);
            Measured::begin(&view.counts, listener).answered(error.status);
        }
        let name = request_id::name_in_errors(config);
        error.message(name, &id.to_string(), &self.wall_clock.date())
    }

    /// Hands over the records of requests that have ended.
    pub fn flush_access_log(&self) {
        if let Some(log) = &self.reader.current().access_log {
            log.flush();
        }
    }

    /// The requests of this worker that are wanted, oldest first; none where nobody can ask.
    pub fn seen(&self, wanted: &Wanted) -> Vec<Seen> {
        let view = self.reader.current();
        view.counts
            .recent()
            .map_or_else(Vec::new, |recent| recent.seen(wanted))
    }

    /// Where this worker's requests came from; none where nobody can ask.
    pub fn origins(&self) -> Vec<(Origin, u64)> {
        let view = self.reader.current();
        let recent = view.counts.recent();
        recent.map_or_else(Vec::new, |recent| recent.origins())
    }

    /// Who this worker's requests came from, since this was last asked.
    pub fn peers(&self) -> Vec<Counted> {
        self.reader.current().counts.peers().take()
    }

    /// Where this worker counts for the listener of this name.
    pub fn counts_of(&self, listener: &str) -> Arc<OfListener> {
        let ledger = &self.reader.current().snapshot.ledger;
        ledger.listener(listener, self.reader.worker())
    }

    /// Bounds on what a client may send.
    pub fn limits(&self) -> Limits {
        self.reader.current().snapshot.config.limits
    }

    /// Looks after requests that wait for an upstream connection: once a tick, and when [`Self::rung`] says so.
    pub fn look_after_waiting(&self) {
        let view = self.reader.current();
        for cluster in &view.clusters {
            cluster.look_after_waiting();
        }
        let clusters = || view.clusters.iter();
        let bells = &view.snapshot.bells;
        bells.give_descriptor(|| clusters().any(LocalCluster::close_oldest));
    }

    /// This process is out of descriptors, and somebody is to have one: an idle upstream connection gives its own.
    pub fn want_descriptor(&self) {
        self.reader.current().snapshot.bells.want_descriptor();
    }

    /// Waits until another worker asks for that.
    pub async fn rung(&self) {
        let bells = self.reader.current().snapshot.bells.clone();
        bells.rung(self.reader.worker()).await;
    }

    /// Whether any endpoint is told where clients connected.
    pub fn sends_proxy_headers(&self) -> bool {
        self.reader.current().snapshot.sends_proxy_headers
    }

    /// Closes upstream connections that have been idle for too long.
    pub fn expire_idle(&self) {
        for cluster in &self.reader.current().clusters {
            cluster.expire_idle();
        }
    }
}

/// HTTP/2 clients may send a cookie in crumbs; anybody else reads one field (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}

fn find_route<'a>(
    connection: &Connection,
    snapshot: &'a Snapshot,
    request: &Request,
    admitted: &Admitted<'_>,
) -> Result<(usize, &'a Route), Error> {
    let wanted = route::Request {
        host: admitted.host,
        path: admitted.path,
        method: admitted.method,
        fields: &connection.matched_fields(snapshot, &request.fields),
    };
    snapshot
        .router
        .find(&wanted)
        .and_then(|index| Some((*index, snapshot.config.routes.get(*index)?)))
        .ok_or_else(Error::no_route)
}

/// Refuses a body that says it is too large; any other is counted while it is read.
fn limit_body(
    limit: Option<u64>,
    admitted: &Admitted<'_>,
    body: &mut Option<Box<ClientBody>>,
) -> Result<(), Error> {
    let (Some(limit), Some(body)) = (limit, body) else {
        return Ok(());
    };
    if admitted.content_length.is_some_and(|length| length > limit) {
        return Err(Error::too_large());
    }
    body.limit(limit);
    Ok(())
}

/// Sees to it that the rest of an HTTP/1 request isn't taken for the next one: reads it, if it is short and we have
/// answered by ourselves, or ends the connection with the response.
async fn settle(request: &Request, body: Option<Box<ClientBody>>, response: &mut Response) {
    let closes = response.fields.contains(&CONNECTION);
    let settled = match body {
        // To read from a client that waits for 100 Continue would be to say so (RFC 9110 §10.1.1).
        Some(body) if !closes && !request.fields.contains(&EXPECT) => {
            body.discard(DRAIN_BYTES, DRAIN_TIME).await
        }
        _ => false,
    };
    if !settled {
        response.close();
    }
}

/// Tells an HTTP/1 client that its connection ends with this response. HTTP/2 has frames for that.
fn announce_end(request: &Request, response: &mut Response) {
    let becomes_a_tunnel = response.status == StatusCode::SWITCHING_PROTOCOLS;
    if request.version != Version::HTTP_2 && !becomes_a_tunnel {
        response.close();
    }
}

/// `None` for a path that must stay reachable without TLS: RFC 8555 §8.3.
#[inline(never)]
fn redirect_to_https(
    redirect: RedirectToHttps,
    admitted: &Admitted<'_>,
) -> Result<Option<Response>, Error> {
    if admitted.path.starts_with("/.well-known/acme-challenge/") {
        return Ok(None);
    }
    if admitted.host.is_empty() {
        return Err(Error::bad_request("host"));
    }
    let port = match redirect.port {
        443 => String::new(),
        port => format!(":{port}"),
    };
    let location = format!("https://{}{port}{}", admitted.host, admitted.target);
    let location = HeaderValue::try_from(location).map_err(|_| Error::bad_request("target"))?;
    let mut response = Response::new(redirect.status, Body::empty());
    response.fields.insert(LOCATION, location);
    Ok(Some(response))
}

#[inline(never)]
fn respond(status: StatusCode, body: &str) -> Response {
    let body = Body::full(Bytes::copy_from_slice(body.as_bytes()));
    let mut response = Response::new(status, body);
    response.fields.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Makes the client's response of the endpoint's: without what belonged to the endpoint's connection.
fn finish(answer: Answer, request: &Outgoing<'_>, cluster: &Cluster) -> Result<Response, Error> {
    let h1::Response {
        status,
        mut fields,
        body,
    } = answer.response;
    hop_by_hop::strip_response(&mut fields);
    let mut response = Response::new(status, Body::empty());
    response.fields = fields;
    response.body.end().serving = Some(answer.serving);
    match (&request.upgrade, body) {
        (Some(asked), h1::Incoming::Switched(connection)) => {
            let tunnel = Tunnel::to_endpoint(*connection, cluster.timeouts.tunnel);
            asked.agree(response, tunnel)
        }
        (Some(asked), h1::Incoming::Tunnelled(stream)) => {
            let tunnel = Tunnel::over_http2(*stream, cluster.timeouts.tunnel);
            asked.agree_over_http2(response, &request.received.fields, tunnel)
        }
        (_, body) => {
            response.body.fill(body);
            Ok(response)
        }
    }
}
