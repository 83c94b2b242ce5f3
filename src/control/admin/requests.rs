//! The last requests: who their clients were, and why.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::client_ip::explain::{Hop, Verdict, explain, hops};
use crate::client_ip::{Addr, Peer, ProxySource, Resolution, SocketPeer, resolve};
use crate::config::{Listener, RedactIp};
use crate::control::explanation::as_json;
use crate::proxy::snapshot::Snapshot;
use crate::telemetry::access_log;
use crate::telemetry::origins::{self, network_of};
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
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<Value>,
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
        }
    }

    /// A request that is told of once: what claimed to be somebody else's is explained, for soon it may be gone.
    pub(super) fn told_once(seen: Seen, snapshot: &Snapshot) -> Self {
        let is_forged = seen.verdict == origins::Verdict::Forged;
        let explanation = is_forged.then(|| explained(&seen, snapshot).ok()).flatten();
        Self {
            explanation,
            ..Self::of(seen, snapshot)
        }
    }
}

/// Why it had the client it had.
fn explained(seen: &Seen, snapshot: &Snapshot) -> Result<Value, Refusal> {
    let resolution = judged(seen, snapshot)?;
    let mut json = as_json(&explain(&resolution, &snapshot.emit, None));
    redact_addresses(&mut json, redact(snapshot));
    Ok(json)
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
        let snapshot = self.publisher.current();
        let mut seen = self.seen(most).await;
        seen.truncate(most);
        Ok(seen
            .into_iter()
            .map(|seen| Request::of(seen, &snapshot))
            .collect())
    }

    /// At most so many of each worker, the newest first.
    pub(super) async fn seen(&self, most: usize) -> Vec<Seen> {
        let answers = self.workers.requests(|_| Wanted::Last(most)).await;
        let mut seen: Vec<Seen> = answers.into_iter().flatten().collect();
        seen.sort_by_key(|seen| std::cmp::Reverse(seen.time));
        seen
    }

    /// Why one of the last requests had the client it had.
    pub(super) async fn explain_request(&self, id: &str) -> Result<Value, Refusal> {
        let answers = self
            .workers
            .requests(|_| Wanted::Named(id.to_owned()))
            .await;
        let seen = answers.into_iter().flatten().next_back();
        let seen = seen.ok_or(Refusal::NoRequest)?;
        explained(&seen, &self.publisher.current())
    }

    /// Who the client of a request would be.
    pub(super) fn explain_query(&self, query: &Query) -> Result<Value, Refusal> {
        let peer = query.one("peer")?.ok_or(Refusal::Query(
            "`peer` is missing: the address of who connects, or `unix`",
        ))?;
        let socket = match peer {
            "unix" => SocketPeer::Unix,
            text => {
                let (ip, port) = address(text).ok_or(Refusal::Query(
                    "`peer` is an address, with or without a port, or `unix`",
                ))?;
                SocketPeer::Ip(Addr::from_socket((ip, port).into()), port)
            }
        };
        let proxied = match query.one("proxy_protocol")? {
            None => None,
            Some(text) => Some(proxy_source(text).ok_or(Refusal::Query(
                "`proxy_protocol` is an address that somebody can have",
            ))?),
        };
        let mut fields = HeaderMap::new();
        for text in query.all("header") {
            let (name, value) =
                field(text).ok_or(Refusal::Query("`header` is a field: NAME: VALUE"))?;
            fields.append(name, value);
        }
        let snapshot = self.publisher.current();
        let listener = listener(&snapshot, query.one("listener")?).ok_or(Refusal::NoListener)?;
        let peer = Peer { socket, proxied };
        let resolution = resolve(&peer, &fields, &listener.trust);
        Ok(as_json(&explain(&resolution, &snapshot.emit, None)))
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

fn address(text: &str) -> Option<(IpAddr, u16)> {
    let with_port = text.parse::<std::net::SocketAddr>().ok();
    let with_port = with_port.map(|address| (address.ip(), address.port()));
    with_port.or_else(|| Some((text.parse().ok()?, 0)))
}

fn proxy_source(text: &str) -> Option<ProxySource> {
    let (ip, port) = address(text)?;
    Some(ProxySource {
        addr: Addr::new(ip)?,
        port,
        version: 2,
    })
}

fn field(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    let value = HeaderValue::from_str(value.trim_matches([' ', '\t'])).ok()?;
    Some((name, value))
}

/// Wherever an explanation has the address of a client or a proxy; what the configuration says stays.
fn redact_addresses(explanation: &mut Value, how: RedactIp) {
    let redact = |value: &mut Value| {
        if let Value::String(text) = value {
            *text = access_log::redacted(text, how);
        }
    };
    explanation.get_mut("client_ip").map(redact);
    let hops = explanation.get_mut("hops").and_then(Value::as_array_mut);
    for hop in hops.into_iter().flatten() {
        hop.get_mut("party").map(redact);
        hop.get_mut("origin").map(redact);
    }
    let sent = explanation.get_mut("sent").and_then(Value::as_object_mut);
    sent.into_iter().flat_map(Map::values_mut).for_each(redact);
}

/// As the command line prints it.
pub(super) fn json_of(value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_string_pretty(value);
    // Maps with keys of text always have a form.
    answer::of(
        "application/json",
        format!("{}\n", text.unwrap_or_default()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_redacted_wherever_they_were_said() {
        let mut json = serde_json::json!({
            "client_ip": "203.0.113.7",
            "hops": [{ "party": "203.0.113.7", "origin": "entry 1, added by 10.0.0.5", "verdict": "trusted: 10.0.0.0/8" }],
            "sent": { "X-Forwarded-For": "203.0.113.7, 10.0.0.5" },
            "unlisted": 0,
        });
        let before = json.clone();
        redact_addresses(&mut json, RedactIp::None);
        assert_eq!(json, before);
        redact_addresses(&mut json, RedactIp::Truncate);
        let expected = serde_json::json!({
            "client_ip": "203.0.113.0",
            "hops": [{ "party": "203.0.113.0", "origin": "entry 1, added by 10.0.0.0", "verdict": "trusted: 10.0.0.0/8" }],
            "sent": { "X-Forwarded-For": "203.0.113.0, 10.0.0.0" },
            "unlisted": 0,
        });
        assert_eq!(json, expected);
    }
}
