//! The last requests: who their clients were, and why.

use std::net::IpAddr;

use http::Response;
use serde::Serialize;
use serde_json::Value;

use crate::client_ip::explain::{Explanation, Hop, Verdict, explain, hops};
use crate::client_ip::{Resolution, SocketPeer, resolve};
use crate::config::{Listener, RedactIp};
use crate::control::explanation::{Form, ParseError, Question, as_json, page};
use crate::proxy::snapshot::Snapshot;
use crate::telemetry::access_log;
use crate::telemetry::origins::network_of;
use crate::telemetry::recent::{Seen, Wanted};

use super::Shared;
use super::answer::{self, Body, Refusal};
use super::query::Query;
use super::state::network;

/// Requests that are shown where nothing else is asked.
const USUAL: usize = 100;

/// More aren't kept.
const MOST: usize = 1024;

/// One of the last requests, with the names of the access log.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the log's `request_id`")]
pub(super) struct Request {
    time: String,
    request_id: String,
    client_ip: Option<String>,
    client_ip_source: String,
    client_ip_reason: &'static str,
    peer_ip: Option<String>,
    peer_port: Option<u16>,
    client_network: Option<String>,
    /// Who passed it on and was believed, in the order in which it came by.
    via: Vec<Proxy>,
    forged: usize,
    /// As origins have it.
    verdict: &'static str,
    method: String,
    host: String,
    path: String,
    listener: String,
    route: Option<String>,
    upstream: Option<String>,
    /// `None` while it lasts; 499: the client left before its answer.
    status: Option<u16>,
    duration_ms: Option<f64>,
    /// An object or a text, where it was asked for and can be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Value>,
    /// Why it can't.
    #[serde(skip_serializing_if = "Option::is_none")]
    unexplained: Option<&'static str>,
}

/// One that may speak for others.
#[derive(Debug, Serialize)]
struct Proxy {
    address: String,
    /// The entry of a `from` list that says so; `proxy_protocol`: it may send a PROXY header.
    trusted_as: String,
}

impl Proxy {
    fn of(hop: Hop, redact: RedactIp) -> Option<Self> {
        let trusted_as = match hop.verdict {
            Verdict::Trusted(entry) => entry,
            Verdict::NamedSource => "proxy_protocol".to_owned(),
            _ => return None,
        };
        Some(Self {
            address: access_log::redacted(&hop.party, redact),
            trusted_as,
        })
    }
}

impl Request {
    /// Without its explanation.
    pub(super) fn of(seen: Seen, snapshot: &Snapshot) -> Self {
        let redact = redact(snapshot);
        let hops = judged(&seen, snapshot).map_or_else(|_| Vec::new(), |found| hops(&found));
        let via = hops.into_iter().filter_map(|hop| Proxy::of(hop, redact));
        let via = via.rev().collect();
        let shown = |ip: IpAddr| access_log::redacted(&ip.to_string(), redact);
        let (peer_ip, peer_port) = match seen.peer.socket {
            SocketPeer::Ip(addr, port) => (Some(shown(addr.ip())), Some(port)),
            SocketPeer::Unix => (None, None),
        };
        let end = seen.end;
        let route = end
            .as_ref()
            .map(|end| end.route.clone())
            .filter(|route| !route.is_empty());
        Self {
            time: jiff::Timestamp::try_from(seen.time)
                .map_or_else(|_| String::new(), |time| format!("{time:.3}")),
            request_id: seen.id,
            client_ip: seen.client.map(shown),
            client_ip_source: seen.source,
            client_ip_reason: seen.reason,
            peer_ip,
            peer_port,
            client_network: seen
                .client
                .and_then(network_of)
                .map(|first| network(first, redact)),
            via,
            forged: seen.forged,
            verdict: seen.verdict.as_str(),
            method: seen.method,
            host: seen.host,
            path: seen.path,
            listener: seen.listener,
            upstream: route
                .as_deref()
                .and_then(|route| snapshot.upstream_of(route))
                .map(str::to_owned),
            route,
            status: end.as_ref().map(|end| end.status),
            duration_ms: end.map(|end| (end.duration.as_secs_f64() * 1e6).round() / 1e3),
            explanation: None,
            unexplained: None,
        }
    }

    /// With its explanation, where that can be had.
    pub(super) fn explained(seen: Seen, snapshot: &Snapshot, form: Form) -> Self {
        let explanation = explained(&seen, snapshot);
        let request = Self::of(seen, snapshot);
        match explanation {
            Ok(explanation) => Self {
                explanation: Some(match form {
                    Form::Json => as_json(&explanation),
                    Form::Text => page(&explanation, form).into(),
                }),
                ..request
            },
            Err(refusal) => Self {
                unexplained: Some(refusal.line()),
                ..request
            },
        }
    }
}

/// Why it had the client it had; addresses as the access log shows them.
fn explained(seen: &Seen, snapshot: &Snapshot) -> Result<Explanation, Refusal> {
    let explanation = explain(&judged(seen, snapshot)?, &snapshot.emit, None);
    let redact = redact(snapshot);
    Ok(explanation.with_addresses(|text| access_log::redacted(text, redact)))
}

pub(super) fn redact(snapshot: &Snapshot) -> RedactIp {
    snapshot.config.access_log.redact_ip
}

impl Shared {
    /// The last requests of all workers, the newest first.
    pub(super) async fn last_requests(&self, query: &Query) -> Result<Vec<Request>, Refusal> {
        let most = match query.one("last")? {
            None => USUAL,
            Some(text) => Some(text)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok())
                .filter(|most| (1..=MOST).contains(most))
                .ok_or(Refusal::Query("`last` is a number from 1 to 1024"))?,
        };
        let form = match query.one("explain")? {
            None => None,
            Some("json") => Some(Form::Json),
            Some("text") => Some(Form::Text),
            Some(_) => return Err(Refusal::Query("`explain` is `json` or `text`")),
        };
        let snapshot = self.publisher.current();
        let mut seen = self.seen(most).await;
        seen.truncate(most);
        let request = |seen| match form {
            None => Request::of(seen, &snapshot),
            Some(form) => Request::explained(seen, &snapshot, form),
        };
        Ok(seen.into_iter().map(request).collect())
    }

    /// At most so many of each worker, the newest first.
    pub(super) async fn seen(&self, most: usize) -> Vec<Seen> {
        let answers = self.workers.requests(|_| Wanted::Last(most)).await;
        let mut seen: Vec<Seen> = answers.into_iter().flatten().collect();
        seen.sort_by_key(|seen| std::cmp::Reverse(seen.time));
        seen
    }

    /// Why one of the last requests had the client it had.
    pub(super) async fn explain_request(&self, id: &str) -> Result<Explanation, Refusal> {
        let answers = self
            .workers
            .requests(|_| Wanted::Named(id.to_owned()))
            .await;
        let seen = answers.into_iter().flatten().next_back();
        let seen = seen.ok_or(Refusal::NoRequest)?;
        explained(&seen, &self.publisher.current())
    }

    /// Who the client of a request would be.
    pub(super) fn explain_query(&self, query: &Query) -> Result<Explanation, Refusal> {
        let peer = query.one("peer")?.ok_or(Refusal::Query(
            "`peer` is missing: the address of who connects, or `unix`",
        ))?;
        let mut question = Question::by(peer)?;
        if let Some(source) = query.one("proxy_protocol")? {
            question = question.behind_proxy_header(source)?;
        }
        for field in query.all("header") {
            question = question.with(field)?;
        }
        let snapshot = self.publisher.current();
        let listener = listener(&snapshot, query.one("listener")?).ok_or(Refusal::NoListener)?;
        Ok(question.answer(&listener.trust, &snapshot.emit))
    }
}

impl From<ParseError> for Refusal {
    fn from(error: ParseError) -> Self {
        Self::Query(match error {
            ParseError::Peer(_) => "`peer` is an address, with or without a port, or `unix`",
            ParseError::ProxySource(_) | ParseError::NobodysSource(_) => {
                "`proxy_protocol` is an address that somebody can have"
            }
            ParseError::Field(_) => "`header` is a field: NAME: VALUE",
        })
    }
}

/// Who the client of a request was, judged once more.
fn judged<'a>(seen: &'a Seen, snapshot: &'a Snapshot) -> Result<Resolution<'a>, Refusal> {
    let fields = seen.fields.as_ref().ok_or(Refusal::NotKept)?;
    let listener = listener(snapshot, Some(&seen.listener)).ok_or(Refusal::Changed)?;
    let resolution = resolve(&seen.peer, fields, &listener.trust);
    // A new configuration may judge otherwise than the one that was in force.
    let is_same = resolution.client().ip() == seen.client
        && resolution.reason().as_str() == seen.reason
        && resolution.source().to_string() == seen.source;
    if is_same {
        Ok(resolution)
    } else {
        Err(Refusal::Changed)
    }
}

/// The listener of this name; the first, where none is named.
fn listener<'a>(snapshot: &'a Snapshot, name: Option<&str>) -> Option<&'a Listener> {
    let mut listeners = snapshot.config.listeners.iter();
    listeners.find(|listener| name.is_none_or(|name| listener.name == name))
}

/// How an explanation is asked for.
pub(super) fn form(query: &Query) -> Result<Form, Refusal> {
    match query.one("format")? {
        None | Some("json") => Ok(Form::Json),
        Some("text") => Ok(Form::Text),
        Some(_) => Err(Refusal::Query("`format` is `json` or `text`")),
    }
}

/// An explanation as the command line prints it.
pub(super) fn page_of(explanation: &Explanation, form: Form) -> Response<Body> {
    let content_type = match form {
        Form::Json => answer::JSON,
        Form::Text => answer::TEXT,
    };
    answer::of(content_type, page(explanation, form))
}

/// As the command line prints it.
pub(super) fn json_of(value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string_pretty(value);
    // Maps with keys of text always have a form.
    answer::of(answer::JSON, format!("{}\n", text.unwrap_or_default()))
}
