//! Traces: which requests are traced, as what, and who is told.
//!
//! A traced request has a span here, whose parent is the one that the client names in `traceparent` (W3C Trace Context);
//! the endpoint is told of ours in its place. What isn't traced passes untouched. Spans are made of what the access log
//! records, and sent by a thread of the exporter's: requests never wait for it.

#[cfg(feature = "otlp")]
mod collector;
mod context;
#[cfg(feature = "otlp")]
mod exporter;

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;

use http::HeaderValue;

use crate::config::Tracing;

pub use context::Parent;
#[cfg(feature = "otlp")]
pub use exporter::Exporter;

/// There is none without the feature `otlp`, and no configuration that asks for one.
#[cfg(not(feature = "otlp"))]
#[derive(Debug)]
pub enum Exporter {}

/// Traces, as configured: the same for all workers.
#[derive(Debug)]
pub struct Traces {
    config: Tracing,
    exporter: Arc<Exporter>,
}

impl Traces {
    /// Starts to send spans to the collector that `config` names.
    ///
    /// # Errors
    /// There is no thread to be had, or no exporter in this program.
    pub fn start(config: &Tracing) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            exporter: Arc::new(Exporter::start(config)?),
            config: config.clone(),
        }))
    }

    /// What was asked for.
    pub fn config(&self) -> &Tracing {
        &self.config
    }

    /// Where spans go.
    pub fn exporter(&self) -> &Arc<Exporter> {
        &self.exporter
    }
}

#[cfg(not(feature = "otlp"))]
impl Exporter {
    fn start(_: &Tracing) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Nothing is left to send.
    pub fn end(&self, _: std::time::Duration) {
        match *self {}
    }

    pub(super) fn take(&self, _: &Trace, _: &super::access_log::Facts, _: crate::config::RedactIp) {
        match *self {}
    }
}

/// One worker's choice of the requests that are traced.
#[derive(Debug)]
pub(super) struct Sampler {
    /// Of 2^64 numbers, so many are chosen.
    chosen: u64,
    /// The standard library's random keys make random numbers of a count.
    keys: RandomState,
    count: Cell<u64>,
}

impl Sampler {
    pub(super) fn new(ratio: f64) -> Self {
        // Saturates: 1 is everything.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a ratio from 0 to 1, and its share of all numbers"
        )]
        let chosen = (ratio * u64::MAX as f64) as u64;
        Self {
            chosen,
            keys: RandomState::new(),
            count: Cell::new(0),
        }
    }

    /// The trace of a request, if it is traced. What a trusted peer has decided holds; anybody else could have everything
    /// traced.
    pub(super) fn choose(&self, parent: Option<Parent>, is_trusted: bool) -> Option<Trace> {
        let is_chosen = match parent {
            Some(parent) if is_trusted => parent.is_sampled,
            _ => self.chosen == u64::MAX || self.random() < self.chosen,
        };
        is_chosen.then(|| {
            let id = match parent {
                Some(parent) => parent.trace_id,
                None => u128::from(self.random_id()) << 64 | u128::from(self.random_id()),
            };
            Trace {
                id,
                span: self.random_id(),
                parent: parent.map(|parent| parent.span_id),
            }
        })
    }

    fn random(&self) -> u64 {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        self.keys.hash_one(count)
    }

    /// Zero isn't an id.
    fn random_id(&self) -> u64 {
        self.random().max(1)
    }
}

/// What a traced request is in its trace.
#[derive(Debug, Clone, Copy)]
pub struct Trace {
    pub(super) id: u128,
    pub(super) span: u64,
    /// `None`: the trace begins here.
    pub(super) parent: Option<u64>,
}

impl Trace {
    /// Whether the trace begins here.
    pub fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    /// `traceparent` for the endpoint.
    pub fn header(&self) -> Option<HeaderValue> {
        let text = format!("00-{:032x}-{:016x}-01", self.id, self.span);
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: Parent = Parent {
        trace_id: 1,
        span_id: 2,
        is_sampled: true,
    };

    #[test]
    fn a_trusted_peer_decides_for_its_requests_and_nobody_else_does() {
        let unsampled = Parent {
            is_sampled: false,
            ..PARENT
        };
        let (all, none) = (Sampler::new(1.0), Sampler::new(0.0));
        for (parent, is_trusted, with_all, with_none) in [
            (None, false, true, false),
            (Some(PARENT), true, true, true),
            (Some(unsampled), true, false, false),
            (Some(PARENT), false, true, false),
            (Some(unsampled), false, true, false),
        ] {
            let case = format!("{parent:?} {is_trusted}");
            assert_eq!(all.choose(parent, is_trusted).is_some(), with_all, "{case}");
            assert_eq!(
                none.choose(parent, is_trusted).is_some(),
                with_none,
                "{case}"
            );
        }
    }

    #[test]
    fn a_ratio_is_kept() {
        let sampler = Sampler::new(0.25);
        let chosen = (0..10_000).filter(|_| sampler.choose(None, false).is_some());
        let chosen = chosen.count();
        assert!((2_200..2_800).contains(&chosen), "{chosen}");
    }

    #[test]
    fn a_span_has_its_parent_or_begins_a_trace() {
        let sampler = Sampler::new(1.0);
        let child = sampler.choose(Some(PARENT), false).unwrap();
        assert_eq!((child.id, child.parent), (1, Some(2)));
        let header = child.header().unwrap();
        let text = header.to_str().unwrap();
        let wanted = format!("00-{:032x}-{:016x}-01", 1, child.span);
        assert_eq!(text, wanted);
        let (one, other) = (
            sampler.choose(None, false).unwrap(),
            sampler.choose(None, false).unwrap(),
        );
        assert!(one.is_root() && one.id != other.id && one.span != other.span);
    }
}
