//! What runs, as JSON.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use crate::config::{Action, RedactIp};
use crate::route::PathPattern;
use crate::telemetry::access_log;
use crate::telemetry::origins;
use crate::transport::deadline;
use crate::upstream::endpoint::Role;

use super::figures::{Running, endpoints};
use super::requests::redact;
use super::{Readiness, Shared};

/// Origins that are shown: those of the most requests.
const MAX_ORIGINS: usize = 256;

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// The process and its configuration.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    readiness: &'static str,
    /// Since when the process runs.
    started: String,
    config: ConfigStatus,
}

#[derive(Debug, Serialize)]
struct ConfigStatus {
    #[serde(flatten)]
    running: Running,
    /// Reloads so far.
    applied: u64,
    rejected: u64,
    /// When the last one was, and what came of it.
    last_reload: Option<Value>,
}

#[derive(Debug, Serialize)]
pub(super) struct Listener {
    name: String,
    /// With the real ports.
    addresses: Vec<String>,
    tls: bool,
    protocols: Vec<&'static str>,
    proxy_protocol: &'static str,
    connections: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Upstream {
    name: String,
    /// The echo service in the program, which has no endpoints.
    builtin: bool,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize)]
struct Endpoint {
    address: String,
    weight: u16,
    backup: bool,
    healthy: bool,
    drained: bool,
    connections: usize,
    requests: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Route {
    name: String,
    hosts: Vec<String>,
    path: String,
    /// `exact` or `prefix`.
    path_match: &'static str,
    upstream: Option<String>,
    /// Of an answer from here.
    status: Option<u16>,
    requests: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Certificate {
    listener: String,
    file: String,
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: String,
    not_after: String,
    /// Less than nothing when it has expired.
    days_left: i64,
}

/// Where requests came from.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Origin {
    client_network: Option<String>,
    peer_network: Option<String>,
    client_ip_source: String,
    /// `verified`: somebody trusted named the client. `unverified`: it is the peer. `forged`: and said it was another.
    verdict: &'static str,
    requests: u64,
}

impl Shared {
    pub(super) fn status(&self) -> Status {
        let (applied, rejected) = self.figures.reloads();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            readiness: match self.readiness() {
                Readiness::Starting => "starting",
                Readiness::Ready => "ready",
                Readiness::Draining => "draining",
            },
            started: self.figures.started(),
            config: ConfigStatus {
                running: self.figures.running(),
                applied,
                rejected,
                last_reload: self.figures.last_reload(),
            },
        }
    }

    /// A line for each listener and each endpoint.
    pub(super) fn tell_state(&self) {
        for Listener {
            name,
            addresses,
            connections,
            ..
        } in self.listeners()
        {
            let addresses = addresses.join(" ");
            tracing::info!(listener = name, addresses, connections, "state");
        }
        for upstream in self.upstreams() {
            for endpoint in upstream.endpoints {
                tracing::info!(
                    upstream = upstream.name,
                    endpoint = endpoint.address,
                    healthy = endpoint.healthy,
                    drained = endpoint.drained,
                    connections = endpoint.connections,
                    requests = endpoint.requests,
                    "state"
                );
            }
        }
    }

    pub(super) fn listeners(&self) -> Vec<Listener> {
        let snapshot = self.publisher.current();
        let connections: HashMap<_, _> = snapshot.ledger.connections().into_iter().collect();
        let listeners = snapshot.config.listeners.iter().map(|listener| {
            let spoken = [
                ("h1", listener.protocols.http1),
                ("h2", listener.protocols.http2),
            ];
            Listener {
                name: listener.name.clone(),
                addresses: self.figures.addresses_of(&listener.name),
                tls: listener.tls.is_some(),
                protocols: spoken
                    .into_iter()
                    .filter_map(|(name, is)| is.then_some(name))
                    .collect(),
                proxy_protocol: match &listener.proxy_protocol {
                    None => "off",
                    Some(rule) if rule.required => "required",
                    Some(_) => "optional",
                },
                connections: connections.get(&listener.name).copied().unwrap_or_default(),
            }
        });
        listeners.collect()
    }

    pub(super) fn upstreams(&self) -> Vec<Upstream> {
        let snapshot = self.publisher.current();
        let sent: HashMap<_, _> = snapshot.ledger.sent().into_iter().collect();
        let now = deadline::ticks_now();
        let upstreams = snapshot.clusters.iter().map(|cluster| Upstream {
            name: cluster.name.clone(),
            builtin: matches!(cluster.target, crate::upstream::Target::Whoami(_)),
            endpoints: endpoints(cluster)
                .map(|endpoint| {
                    let address = endpoint.address.to_string();
                    let requests = sent.get(&(cluster.name.clone(), address.clone()));
                    Endpoint {
                        requests: requests.copied().unwrap_or_default(),
                        address,
                        weight: endpoint.weight,
                        backup: endpoint.role == Role::Backup,
                        healthy: endpoint.is_healthy(now),
                        drained: endpoint.is_drained(),
                        connections: endpoint.connections(),
                    }
                })
                .collect(),
        });
        upstreams.collect()
    }

    pub(super) fn routes(&self) -> Vec<Route> {
        let snapshot = self.publisher.current();
        let requests = snapshot.ledger.by_route();
        let routes = snapshot.config.routes.iter().map(|route| Route {
            name: route.name.clone(),
            hosts: route
                .matcher
                .hosts
                .iter()
                .map(ToString::to_string)
                .collect(),
            path: route.matcher.path.text().to_owned(),
            path_match: match route.matcher.path {
                PathPattern::Exact(_) => "exact",
                PathPattern::Prefix(_) => "prefix",
            },
            upstream: snapshot.upstream_of(&route.name).map(str::to_owned),
            status: match route.action {
                Action::Respond { status, .. } => Some(status.as_u16()),
                Action::Upstream(_) => None,
            },
            requests: requests.get(&route.name).copied().unwrap_or_default(),
        });
        routes.collect()
    }

    pub(super) fn certificates(&self) -> Vec<Certificate> {
        let now = jiff::Timestamp::now().as_second();
        let certificates = self.figures.certificates().into_iter().map(|certificate| {
            let facts = certificate.facts;
            Certificate {
                listener: certificate.listener,
                file: certificate.file.to_string_lossy().into_owned(),
                subject: facts.subject,
                issuer: facts.issuer,
                names: facts.names,
                not_before: stamp(facts.not_before),
                not_after: stamp(facts.not_after),
                days_left: (facts.not_after - now).div_euclid(SECONDS_PER_DAY),
            }
        });
        certificates.collect()
    }

    /// Of all workers, the most frequent first.
    pub(super) async fn origins(&self) -> Vec<Origin> {
        let parts = self.workers.origins().await;
        origins(
            parts.into_iter().flatten(),
            redact(&self.publisher.current()),
        )
    }
}

/// A network, by its first address.
pub(super) fn network(first: IpAddr, redact: RedactIp) -> String {
    match (redact, first) {
        (RedactIp::Hash, ip) => access_log::redacted(&ip.to_string(), redact),
        (_, IpAddr::V4(ip)) => format!("{ip}/24"),
        (_, IpAddr::V6(ip)) => format!("{ip}/48"),
    }
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
}

fn origins(parts: impl Iterator<Item = (origins::Origin, u64)>, redact: RedactIp) -> Vec<Origin> {
    let mut counts: HashMap<origins::Origin, u64> = HashMap::new();
    for (origin, count) in parts {
        *counts.entry(origin).or_default() += count;
    }
    let shown = |ip| network(ip, redact);
    let counts = counts.into_iter();
    let mut origins: Vec<_> = counts
        .map(|(origin, requests)| Origin {
            client_network: origin.client.map(shown),
            peer_network: origin.peer.map(shown),
            client_ip_source: origin.source.to_string(),
            verdict: origin.verdict.as_str(),
            requests,
        })
        .collect();
    origins.sort_by(|a, b| {
        let names = |origin: &Origin| (origin.client_network.clone(), origin.peer_network.clone());
        b.requests
            .cmp(&a.requests)
            .then_with(|| names(a).cmp(&names(b)))
    });
    origins.truncate(MAX_ORIGINS);
    origins
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::origins::Verdict;
    use crate::telemetry::recent::Source;

    fn origin(client: &str) -> origins::Origin {
        origins::Origin {
            client: Some(client.parse().unwrap()),
            peer: None,
            source: Source::Peer,
            verdict: Verdict::Unverified,
        }
    }

    #[test]
    fn the_counts_of_all_workers_are_summed_up() {
        let parts = [
            (origin("192.0.2.0"), 2),
            (origin("2001:db8:1::"), 9),
            (origin("192.0.2.0"), 3),
        ];
        let rows: Vec<_> = origins(parts.into_iter(), RedactIp::None)
            .into_iter()
            .map(|origin| (origin.client_network.unwrap(), origin.requests))
            .collect();
        assert_eq!(
            rows,
            [
                ("2001:db8:1::/48".to_owned(), 9),
                ("192.0.2.0/24".to_owned(), 5)
            ]
        );
    }

    #[test]
    fn hashed_networks_name_nobody() {
        let rows = origins([(origin("192.0.2.0"), 1)].into_iter(), RedactIp::Hash);
        assert!(
            !rows[0].client_network.as_ref().unwrap().contains("192"),
            "{rows:?}"
        );
    }
}
