//! What is told about a request when it has ended: to the access log, to the metrics, and to operators who look in.

use http::HeaderValue;

use crate::client_ip::explain::explain;
use crate::client_ip::{ClientSource, Resolution};
use crate::config::Listener;
use crate::fields::Fields;
use crate::telemetry::access_log::{Field, Record};
use crate::telemetry::metrics::Measured;
use crate::telemetry::recent::{self, Source};
use crate::telemetry::snat::{self, Sender};

use super::admit::Admitted;
use super::request_id::Id;
use super::{Received, record};

/// A request in the making of what is told about it.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) record: Option<Box<Record>>,
    pub(super) measured: Measured,
    /// For a trusted peer that wants to know; boxed, as hardly any does.
    pub(super) explanation: Option<Box<HeaderValue>>,
}

impl Told {
    /// Notes who the client is.
    pub(super) fn note_client(
        &mut self,
        received: &Received<'_>,
        admitted: &Admitted<'_>,
        resolution: &Resolution<'_>,
        id: &Id,
    ) {
        let Received {
            connection, view, ..
        } = *received;
        let counts = &view.counts;
        match resolution.source() {
            ClientSource::Peer => counts.found_peer(),
            ClientSource::ProxyProtocol => counts.found_in_proxy_header(),
            ClientSource::Field(field) => counts.found_in_field(field.name()),
        }
        let names = view.snapshot.config.emit.forged(resolution);
        let forged = names.len();
        let index = connection.listener_index(&view.snapshot);
        if forged > 0
            && let Some(listener) = index.and_then(|index| counts.listener(index))
        {
            listener.forged.add(forged as u64);
        }
        if let Some(index) = index
            && !view.snapshot.probes.contain(admitted.path)
        {
            count_peer(received, index, resolution, &names);
        }
        if let Some(record) = &mut self.record {
            record::note_client(record, resolution, forged);
        }
        self.keep(received, admitted, resolution, id, forged);
        let listener = connection.listener(&view.snapshot);
        if listener.explain_header.is_some() && resolution.peer_is_trusted() {
            let line = explain(resolution, &view.snapshot.emit, None).line();
            self.explanation = HeaderValue::try_from(line).ok().map(Box::new);
        }
    }

    /// Tells a trusted peer why its client is who it is; an endpoint's own explanation is for us, and goes no further.
    pub(super) fn explain(&mut self, listener: &Listener, fields: &mut Fields) {
        let Some(name) = &listener.explain_header else {
            return;
        };
        fields.remove(name);
        if let Some(explanation) = self.explanation.take() {
            fields.insert(name.clone(), *explanation);
        }
    }

    /// Notes that a trusted peer has named the request.
    pub(super) fn note_name(&mut self, id: &Id) {
        if let Some(record) = &mut self.record {
            record.show(Field::RequestId, id);
        }
    }

    /// Keeps the request for operators, if they can ask.
    fn keep(
        &mut self,
        received: &Received<'_>,
        admitted: &Admitted<'_>,
        resolution: &Resolution<'_>,
        id: &Id,
        forged: usize,
    ) {
        let Received {
            connection,
            view,
            request,
        } = *received;
        let Some(recent) = view.counts.recent() else {
            return;
        };
        let kept = recent::Request {
            begun: self.measured.begun(),
            id: id.into(),
            listener: view
                .counts
                .listener_name(connection.listener_index(&view.snapshot)),
            peer: connection.info.peer,
            client: resolution.client().ip(),
            reason: resolution.reason().as_str(),
            source: match resolution.source() {
                ClientSource::Peer => Source::Peer,
                ClientSource::ProxyProtocol => Source::ProxyProtocol,
                ClientSource::Field(field) => Source::Field(field.name().clone()),
            },
            forged,
            method: admitted.method.as_str(),
            host: admitted.host,
            path: admitted.path,
        };
        let emit = &view.snapshot.config.emit;
        let says_nothing = forged == 0 && !resolution.peer_is_trusted();
        let fields = (!says_nothing).then(|| request.fields.iter());
        // Nobody else's fields say anything about a client.
        let fields = fields
            .into_iter()
            .flatten()
            .filter(|(name, _)| emit.removes(name, false));
        self.measured.keeps(recent.begin(kept, fields));
    }
}

/// Counts who a request came from, on the listener of this index.
fn count_peer(
    received: &Received<'_>,
    listener: usize,
    resolution: &Resolution<'_>,
    forged: &[&[u8]],
) {
    let Received {
        connection, view, ..
    } = *received;
    let peers = view.counts.peers();
    let peer = &connection.info.peer;
    match (resolution.source(), peer.addr()) {
        (ClientSource::Peer | ClientSource::ProxyProtocol, Some(addr)) => {
            let sender = Sender {
                ip: addr.ip(),
                is_proxied: peer.proxied.is_some(),
            };
            peers.came_from(listener, sender, snat::Field::most_usual(forged));
        }
        _ => peers.vouched(listener),
    }
}
