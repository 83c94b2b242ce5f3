//! Whether the addresses of clients are lost before they get here: looked at every few seconds, and said where operators
//! look.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::proxy::snapshot::Snapshot;
use crate::telemetry::access_log;
use crate::telemetry::snat::{Detector, Field, Finding, Ground, is_gateway};

use super::requests::redact;
use super::{Admin, Shared};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// One of them, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Suspicion {
    listener: String,
    code: &'static str,
    cause: &'static str,
    /// In the minute that was judged.
    requests: u64,
    suspect_requests: u64,
    peers: Vec<String>,
    field: Option<&'static str>,
    message: String,
    remedies: &'static [&'static str],
}

/// Peers that are named.
const MAX_PEERS: usize = 16;

impl Suspicion {
    fn of(finding: &Finding, snapshot: &Snapshot) -> Self {
        let shown = |ip: IpAddr| access_log::redacted(&ip.to_string(), redact(snapshot));
        Self {
            listener: finding.listener.clone(),
            code: finding.cause.code(),
            cause: finding.cause.as_str(),
            requests: finding.requests,
            suspect_requests: finding.suspect,
            peers: finding
                .peers
                .iter()
                .take(MAX_PEERS)
                .map(|ip| shown(*ip))
                .collect(),
            field: finding.field.map(Field::title),
            message: finding.message(shown),
            remedies: finding.cause.remedies(),
        }
    }

    fn warn(&self) {
        let Self {
            listener,
            code,
            cause,
            message,
            ..
        } = self;
        let remedies = self.remedies.join("; or ");
        tracing::warn!(listener, code, cause, remedies, "{message}");
    }
}

impl Admin {
    /// Looks again and again at who the workers' requests come from, whether or not anybody asks.
    pub fn watch_peers(&self) -> impl Future<Output = ()> + use<> {
        watch(Arc::clone(&self.shared))
    }
}

async fn watch(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut detector = Detector::default();
    loop {
        interval.tick().await;
        let counted = shared.workers.peers().await.into_iter().flatten().collect();
        let snapshot = shared.publisher.current();
        let config = &snapshot.config;
        let known: Vec<_> = config.listeners.iter().map(|known| &*known.name).collect();
        let ground = Ground {
            network: &config.network,
            is_gateway: &is_gateway,
        };
        for finding in detector.observe(Instant::now(), counted, &known, ground) {
            Suspicion::of(&finding, &snapshot).warn();
        }
        shared.figures.note_findings(detector.findings());
    }
}

impl Shared {
    pub(super) fn suspicions(&self) -> Vec<Suspicion> {
        let snapshot = self.publisher.current();
        let findings = self.figures.findings();
        findings
            .iter()
            .map(|finding| Suspicion::of(finding, &snapshot))
            .collect()
    }
}
