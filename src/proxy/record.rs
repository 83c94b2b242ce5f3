//! What the access log is told about a request, and when.

use http::HeaderName;
use http::header::{HOST, REFERER, USER_AGENT};

use crate::client_ip::{ClientSource, ForwardingField, Reason, Resolution};
use crate::config::Listener;
use crate::request::Request;
use crate::telemetry::access_log::{Facts, Field, LocalLog, MAX_FORWARDED_LINES, Record};
use crate::telemetry::traces::{Parent, Trace};
use crate::transport::client_body::ClientBody;

use super::Connection;
use super::error::Error;
use super::forward::TRACEPARENT;
use super::request_id::Id;
use super::snapshot::View;

/// The record of a request that was just received; `None` when nobody wants one.
pub(super) fn begin(
    view: &View,
    connection: &Connection,
    request: &Request,
    body: Option<&mut ClientBody>,
    id: &Id,
) -> Option<Box<Record>> {
    let log = view.access_log.as_ref()?;
    let path = request.uri.path();
    let listener = connection.listener(&view.snapshot);
    let is_logged = log.wants(path);
    let trace = trace(log, connection, request, listener);
    if !is_logged && trace.is_none() {
        return None;
    }
    let mut record = Record::begin(log, &connection.info.peer);
    if let Some(trace) = trace {
        record.traced(trace, is_logged);
    }
    record.set(Field::Listener, &listener.name);
    record.show(Field::RequestId, id);
    record.version = Some(request.version);
    record.set(Field::Method, request.method.as_str());
    record.target(path, request.uri.query());
    let fields = &request.fields;
    match request.uri.authority() {
        Some(authority) => record.set(Field::Host, authority.as_str()),
        None => {
            if let Some(host) = fields.get(&HOST) {
                record.set(Field::Host, host);
            }
        }
    }
    if let Some(user_agent) = fields.get(&USER_AGENT) {
        record.set(Field::UserAgent, user_agent);
    }
    if let Some(referer) = fields.get(&REFERER) {
        record.referer(referer);
    }
    note_chains(&mut record, request, listener);
    if let Some(body) = body {
        body.count(record.receive());
    }
    Some(record)
}

/// The trace of the request, if it is traced. Whoever may speak for others decides that for them.
fn trace(
    log: &LocalLog,
    connection: &Connection,
    request: &Request,
    listener: &Listener,
) -> Option<Trace> {
    if !log.traces() {
        return None;
    }
    let parent = request.fields.only(&TRACEPARENT).and_then(Parent::parse);
    log.trace(parent, listener.trust.believes(&connection.info.peer))
}

static USUAL_CHAIN: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Keeps the fields that somebody may speak through here, as they came; where nobody may, the usual one.
fn note_chains(record: &mut Facts, request: &Request, listener: &Listener) {
    let mut fields = listener.trust.fields().peekable();
    let usual = fields.peek().is_none().then_some(&USUAL_CHAIN);
    for name in fields.map(ForwardingField::name).chain(usual) {
        if record.has_forwarded(name.as_str()) {
            continue;
        }
        let lines = request.fields.get_all(name);
        let far = lines.clone().count().saturating_sub(MAX_FORWARDED_LINES);
        for line in lines.skip(far) {
            record.forwarded(name.as_str(), line);
        }
    }
}

/// Notes who the client is; `forged` fields were sent in vain by a stranger.
pub(super) fn note_client(record: &mut Facts, resolution: &Resolution<'_>, forged: usize) {
    record.client_ip = resolution.client().ip();
    record.client_ip_reason = resolution.reason().as_str();
    record.show(Field::ClientIpSource, resolution.source());
    record.forged = if resolution.peer_is_trusted() {
        resolution.discarded()
    } else {
        forged
    };
}

/// Notes the client of a request that was refused before anybody asked who it is: the peer, unless that may speak for
/// others.
pub(super) fn note_unjudged(record: &mut Facts, connection: &Connection, listener: &Listener) {
    if !record.client_ip_reason.is_empty() {
        return;
    }
    let peer = &connection.info.peer;
    let Some(client) = listener.trust.stranger(peer) else {
        return;
    };
    record.client_ip = Some(client.ip());
    record.client_ip_reason = Reason::DirectPeer.as_str();
    record.show(
        Field::ClientIpSource,
        match peer.proxied {
            Some(source) if source.addr == client => ClientSource::ProxyProtocol,
            _ => ClientSource::Peer,
        },
    );
}

/// Records a request that never became one.
pub(super) fn of_refused(view: &View, connection: &Connection, error: &Error, id: &Id) {
    let Some(log) = &view.access_log else { return };
    if !log.is_written() {
        return;
    }
    let mut record = Record::begin(log, &connection.info.peer);
    let listener = connection.listener(&view.snapshot);
    record.set(Field::Listener, &listener.name);
    record.show(Field::RequestId, id);
    record.status = Some(error.status);
    record.error = Some(error.reason);
    note_unjudged(&mut record, connection, listener);
}
