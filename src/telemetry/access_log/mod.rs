//! The access log: one record per request, written when its last byte has gone or its client has.
//!
//! What a span says of a traced request is said by its record, too: [`Log`] has both readers.
//!
//! A worker formats its records into a buffer of its own ([`LocalLog`]) and hands that over now and then; a thread of
//! the [`Output`] writes. Requests never wait for it: what it can't take in time is dropped and counted. Whatever a client
//! sends is bounded and escaped, so that no record looks like two, or like another.

mod format;
mod local;
mod output;
mod record;
pub(super) mod redact;
mod sink;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::config::{AccessLog, LogFormat, RecordFormat};
use crate::telemetry::traces::Traces;

pub use local::LocalLog;
pub use output::{Output, Trouble, dropped, last_trouble};
pub use record::{Facts, Field, MAX_FORWARDED_LINES, Record};
pub use redact::redacted;
pub use sink::{Error, check};

/// What is recorded, how, and where it goes: the same for all workers until the configuration changes.
#[derive(Debug)]
pub struct Log {
    config: AccessLog,
    format: RecordFormat,
    /// `None`: nothing is written.
    output: Option<Arc<Output>>,
    /// `None`: nothing is traced.
    traces: Option<Arc<Traces>>,
}

impl Log {
    /// `like` is the format of the operational log, which holds where `config` names none.
    pub fn new(
        config: AccessLog,
        like: LogFormat,
        output: Option<Arc<Output>>,
        traces: Option<Arc<Traces>>,
    ) -> Arc<Self> {
        let format = config.format.unwrap_or(match like {
            LogFormat::Text => RecordFormat::Text,
            LogFormat::Json => RecordFormat::Json,
        });
        Arc::new(Self {
            config,
            format,
            output,
            traces,
        })
    }

    /// What was asked for.
    pub fn config(&self) -> &AccessLog {
        &self.config
    }

    /// Where records go.
    pub fn output(&self) -> Option<&Arc<Output>> {
        self.output.as_ref()
    }

    /// Where spans go.
    pub fn traces(&self) -> Option<&Arc<Traces>> {
        self.traces.as_ref()
    }

    /// Whether requests for this path are recorded.
    fn wants(&self, path: &str) -> bool {
        let is_excluded = self.config.exclude_paths.iter().any(|excluded| {
            let excluded = excluded.trim_end_matches('/');
            path.strip_prefix(excluded)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        self.output.is_some() && !is_excluded
    }
}
