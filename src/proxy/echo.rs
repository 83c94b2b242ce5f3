//! The built-in echo service as an upstream: shows a request as an endpoint would have received it.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use http::header::SEC_WEBSOCKET_ACCEPT;
use http_body::Body as _;

use crate::client_ip::SocketPeer;
use crate::config::EchoOf;
use crate::request::Request;
use crate::transport::client_body::ClientBody;
use crate::transport::deadline::Deadlines;
use crate::upstream::whoami::{self, ClientFacts, Identity, MAX_BODY_BYTES};

use super::body::Body;
use super::error::Error;
use super::forward::Outgoing;
use super::response::Response;
use super::upgrade::Tunnel;

/// The echo service of one worker.
#[derive(Debug)]
pub(super) struct Echo {
    identity: Arc<Identity>,
    clock: Rc<Deadlines>,
}

impl Echo {
    pub(super) fn new(identity: Arc<Identity>, clock: Rc<Deadlines>) -> Self {
        Self { identity, clock }
    }

    /// Opens a WebSocket, if the request asks for one where there is one.
    pub(super) fn open(
        &self,
        request: &Outgoing<'_>,
        idle: Duration,
    ) -> Option<Result<Response, Error>> {
        let asked = request.upgrade.as_ref()?;
        let Request { uri, fields, .. } = request.received;
        let accept = whoami::agree(uri, fields, asked.key(fields))?;
        let mut response = Response::new(StatusCode::SWITCHING_PROTOCOLS, Body::empty());
        response.fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
        Some(asked.agree(response, Tunnel::to_echo(self.clock.register(), idle)))
    }

    /// Answers from here. Waits where `?wait=` asks for it. Fails only when the request's body does.
    pub(super) async fn answer(
        &self,
        request: &Outgoing<'_>,
        body: Option<Box<ClientBody>>,
        of: EchoOf,
    ) -> Result<Response, Error> {
        let mut beginning = BytesMut::new();
        if let Some(body) = body {
            collect(body, &mut beginning).await?;
        }
        let received = request.received;
        if let Some(delay) = whoami::delay(&received.uri) {
            let deadline = self.clock.register();
            deadline.limit(delay, pending::<()>()).await;
        }
        let forwarded;
        let fields = match of {
            EchoOf::Received => &received.fields,
            EchoOf::Forwarded => {
                forwarded = request.header_map().into();
                &forwarded
            }
        };
        let answer = whoami::answer(
            &whoami::Echo {
                method: request.admitted.method,
                uri: &received.uri,
                version: received.version,
                fields,
                host: request.admitted.authority.unwrap_or_default(),
                remote_addr: &remote_addr(request),
                body: &beginning,
                client: client_facts(request),
            },
            &self.identity,
        );
        let (parts, answer) = answer.into_parts();
        Ok(Response {
            status: parts.status,
            fields: parts.headers.into(),
            body: Body::echo(answer),
        })
    }
}

async fn collect(mut body: Box<ClientBody>, beginning: &mut BytesMut) -> Result<(), Error> {
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| Error::from(&error))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let room = MAX_BODY_BYTES - beginning.len();
        beginning.extend_from_slice(data.get(..room).unwrap_or(data));
        if beginning.len() == MAX_BODY_BYTES {
            break;
        }
    }
    Ok(())
}

fn remote_addr(request: &Outgoing<'_>) -> String {
    match request.connection.info.peer.socket {
        SocketPeer::Ip(addr, port) => std::net::SocketAddr::from((addr.ip(), port)).to_string(),
        SocketPeer::Unix => "@".to_owned(),
    }
}

fn client_facts(request: &Outgoing<'_>) -> ClientFacts {
    let resolution = request.resolution;
    let emit = &request.snapshot.config.emit;
    let forged = emit.forged(resolution).join(&b' ').to_ascii_lowercase();
    let forged = String::from_utf8_lossy(&forged);
    let peer = resolution.peer().addr();
    let peer = peer.map_or_else(|| "a Unix socket".to_owned(), |peer| peer.ip().to_string());
    ClientFacts {
        ip: resolution
            .client()
            .ip()
            .map_or_else(|| "unknown".to_owned(), |ip| ip.to_string()),
        source: resolution.source().to_string(),
        hops: resolution
            .believed()
            .map(|(hop, _)| hop.ip().to_string())
            .collect(),
        forged: (!forged.is_empty())
            .then(|| format!("{forged} (removed, {peer} is not a trusted proxy)")),
    }
}
