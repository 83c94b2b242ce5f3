//! Metrics of what the control thread knows: upstreams, certificates, reloads.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde::Serialize;
use serde_json::Value;

use crate::control::reload::{Counts, Prepared};
use crate::proxy::snapshot::Publisher;
use crate::telemetry::metrics::write::{counters, gauges, value};
use crate::telemetry::snat::{Cause, Finding};
use crate::transport::deadline;
use crate::transport::listener::BoundAddress;
use crate::transport::tls::facts::Facts;
use crate::upstream::{Cluster, Endpoint, Target};

/// What is known off the data plane.
#[derive(Debug)]
pub(super) struct Figures {
    publisher: Publisher,
    started: Timestamp,
    running: Mutex<Running>,
    last_reload: Mutex<Option<Value>>,
    applied: AtomicU64,
    rejected: AtomicU64,
    certificates: Mutex<Vec<Certificate>>,
    findings: Mutex<Vec<Finding>>,
    addresses: Mutex<Vec<(String, BoundAddress)>>,
    /// Without secrets.
    config: Mutex<Value>,
}

/// Where the running configuration comes from, and since when it runs.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Running {
    source: String,
    since: String,
    /// Who may set the client address, for people.
    trust: String,
}

/// A certificate that a listener shows.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    pub(super) listener: String,
    pub(super) file: PathBuf,
    pub(super) facts: Facts,
}

impl Figures {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            started: Timestamp::now(),
            running: Mutex::default(),
            last_reload: Mutex::default(),
            applied: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            certificates: Mutex::default(),
            findings: Mutex::default(),
            addresses: Mutex::default(),
            config: Mutex::default(),
        }
    }

    /// `told` says what came of the last one.
    pub(super) fn note_reload(&self, mut told: Value, counts: Counts) {
        if let Some(told) = told.as_object_mut() {
            told.insert("time".to_owned(), seconds(Timestamp::now()).into());
        }
        *locked(&self.last_reload) = Some(told);
        self.applied.store(counts.applied, Relaxed);
        self.rejected.store(counts.rejected, Relaxed);
    }

    pub(super) fn note_running(&self, prepared: &Prepared, bound: Vec<(String, BoundAddress)>) {
        *locked(&self.addresses) = bound;
        *locked(&self.running) = Running {
            source: prepared.loaded.source.name().to_owned(),
            since: seconds(Timestamp::now()),
            trust: prepared.loaded.trust_summary(),
        };
        *locked(&self.config) = prepared.loaded.redacted();
        self.note_certificates(prepared);
    }

    fn note_certificates(&self, prepared: &Prepared) {
        let listeners = prepared.loaded.config.listeners.iter();
        let mut found = Vec::new();
        for (listener, server) in listeners.zip(&prepared.tls) {
            let (Some(tls), Some(server)) = (&listener.tls, server) else {
                continue;
            };
            for (files, facts) in tls.certificates.iter().zip(server.certificates()) {
                found.extend(facts.map(|facts| Certificate {
                    listener: listener.name.clone(),
                    file: files.cert.clone(),
                    facts,
                }));
            }
        }
        *locked(&self.certificates) = found;
    }

    /// All that is noticed about the addresses of clients now.
    pub(super) fn note_findings(&self, findings: Vec<Finding>) {
        *locked(&self.findings) = findings;
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        locked(&self.findings).clone()
    }

    pub(super) fn started(&self) -> String {
        seconds(self.started)
    }

    pub(super) fn running(&self) -> Running {
        locked(&self.running).clone()
    }

    /// How many were applied and rejected.
    pub(super) fn reloads(&self) -> (u64, u64) {
        (self.applied.load(Relaxed), self.rejected.load(Relaxed))
    }

    pub(super) fn last_reload(&self) -> Option<Value> {
        locked(&self.last_reload).clone()
    }

    /// Where a listener really listens.
    pub(super) fn addresses_of(&self, listener: &str) -> Vec<String> {
        let addresses = locked(&self.addresses);
        let own = addresses.iter().filter(|(name, _)| name == listener);
        own.map(|(_, address)| address.to_string()).collect()
    }

    /// Without secrets.
    pub(super) fn config(&self) -> Value {
        locked(&self.config).clone()
    }

    pub(super) fn certificates(&self) -> Vec<Certificate> {
        locked(&self.certificates).clone()
    }

    fn encode_upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.publisher.current();
        let endpoints: Vec<(&str, String, &Endpoint)> = snapshot
            .clusters
            .iter()
            .flat_map(|cluster| endpoints(cluster).map(|endpoint| (&*cluster.name, endpoint)))
            .map(|(upstream, endpoint)| (upstream, endpoint.address.to_string(), endpoint))
            .collect();
        snapshot.ledger.keep_endpoints(|upstream, address| {
            endpoints
                .iter()
                .any(|known| (known.0, &*known.1) == (upstream, address))
        });
        let labels =
            |upstream, address| [("upstream", value(upstream)), ("endpoint", value(address))];
        let now = deadline::ticks_now();
        let rows = endpoints.iter().map(|(upstream, address, endpoint)| {
            (
                labels(upstream, address),
                u64::from(endpoint.is_healthy(now)),
            )
        });
        let help = "Whether requests are sent to the endpoint while there are others";
        gauges(encoder, ("headwater_upstream_endpoint_healthy", help), rows)?;
        let rows = endpoints.iter().map(|(upstream, address, endpoint)| {
            (labels(upstream, address), endpoint.connections() as u64)
        });
        let help = "Connections to the endpoint, those at rest included";
        gauges(encoder, ("headwater_upstream_pool_connections", help), rows)
    }

    fn encode_certificates(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let certificates = self.certificates();
        let rows = certificates.iter().map(|certificate| {
            let file = certificate.file.to_string_lossy();
            let labels = [
                ("listener", value(&certificate.listener)),
                ("certificate", Cow::Owned(value(&file).into_owned())),
            ];
            (
                labels,
                u64::try_from(certificate.facts.not_after).unwrap_or(0),
            )
        });
        let help = "When the certificate expires, in seconds since 1970";
        gauges(
            encoder,
            ("headwater_tls_certificate_expiry_seconds", help),
            rows,
        )
    }

    fn encode_suspicions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.publisher.current();
        let findings = self.findings();
        let listeners = snapshot.config.listeners.iter();
        let rows = listeners.flat_map(|listener| {
            Cause::TRANSLATED.map(|cause| {
                let name = &*listener.name;
                let is_so =
                    |finding: &Finding| (&*finding.listener, finding.cause) == (name, cause);
                let labels = [("listener", value(name)), ("cause", cause.as_str().into())];
                (labels, u64::from(findings.iter().any(is_so)))
            })
        });
        let help = "Whether the addresses of clients look translated before they get here";
        gauges(encoder, ("headwater_snat_suspected", help), rows)
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.encode_upstreams(encoder)?;
        self.encode_certificates(encoder)?;
        let reloads = [("applied", &self.applied), ("rejected", &self.rejected)];
        let rows =
            reloads.map(|(result, number)| ([("result", result.into())], number.load(Relaxed)));
        let help = "New configurations, by what became of them";
        counters(encoder, ("headwater_config_reload", help), rows)?;
        self.encode_suspicions(encoder)
    }
}

pub(super) fn endpoints(cluster: &Cluster) -> impl Iterator<Item = &Endpoint> {
    let endpoints = match &cluster.target {
        Target::Endpoints(endpoints) => endpoints.as_slice(),
        Target::Whoami(_) => &[],
    };
    endpoints.iter().map(|endpoint| &**endpoint)
}

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// A panic elsewhere leaves nothing here half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
