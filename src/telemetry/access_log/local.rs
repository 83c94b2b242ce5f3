//! One worker's end of the access log.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::Log;
use super::format::{self, Stamp};
use super::record::{Facts, Text};
use crate::config::AccessLog;
use crate::telemetry::traces::{Parent, Sampler, Trace};

/// Handed over when there is so much.
const BATCH_BYTES: usize = 32 * 1024;

/// Buffers that wait for the next record: as many as requests are often under way at once.
const MAX_SPARE: usize = 64;

/// A larger buffer isn't kept.
const MAX_SPARE_BYTES: usize = 4 * 1024;

/// Formats records and collects them, until there are enough or [`LocalLog::flush`] is called: several times a second.
#[derive(Debug)]
pub struct LocalLog {
    log: Arc<Log>,
    batch: RefCell<Batch>,
    spare: RefCell<Vec<Text>>,
    sampler: Option<Sampler>,
    /// It has a successor: nobody calls `flush` any more.
    retired: Cell<bool>,
}

#[derive(Debug, Default)]
struct Batch {
    lines: Vec<u8>,
    records: u64,
    stamp: Stamp,
}

impl LocalLog {
    /// This worker's end of `log`: the one it had `before`, as long as that is of the same.
    pub fn follow(log: Option<&Arc<Log>>, before: Option<&Rc<Self>>) -> Option<Rc<Self>> {
        if let (Some(log), Some(before)) = (log, before)
            && Arc::ptr_eq(log, &before.log)
        {
            return Some(Rc::clone(before));
        }
        if let Some(before) = before {
            before.retired.set(true);
            before.flush();
        }
        log.map(|log| {
            Rc::new(Self {
                log: Arc::clone(log),
                batch: RefCell::default(),
                spare: RefCell::default(),
                sampler: log
                    .traces
                    .as_ref()
                    .map(|traces| Sampler::new(traces.config().sample_ratio)),
                retired: Cell::new(false),
            })
        })
    }

    /// Whether requests for this path are recorded.
    pub fn wants(&self, path: &str) -> bool {
        self.log.wants(path)
    }

    /// Whether anything is written at all.
    pub fn is_written(&self) -> bool {
        self.log.output.is_some()
    }

    /// Whether any request is traced.
    pub fn traces(&self) -> bool {
        self.sampler.is_some()
    }

    /// The trace of a request, if it is traced. `is_trusted`: the peer may speak for others, and so may decide it.
    pub fn trace(&self, parent: Option<Parent>, is_trusted: bool) -> Option<Trace> {
        self.sampler.as_ref()?.choose(parent, is_trusted)
    }

    /// Hands over what there is.
    pub fn flush(&self) {
        self.batch.borrow_mut().hand_over(&self.log);
    }

    pub(super) fn config(&self) -> &AccessLog {
        &self.log.config
    }

    pub(super) fn write(&self, facts: &Facts) {
        let mut batch = self.batch.borrow_mut();
        let Batch {
            lines,
            records,
            stamp,
        } = &mut *batch;
        stamp.set(SystemTime::now());
        let redact_ip = self.log.config.redact_ip;
        format::write(lines, facts, stamp, self.log.format, redact_ip);
        *records += 1;
        if lines.len() >= BATCH_BYTES || self.retired.get() {
            batch.hand_over(&self.log);
        }
    }

    pub(super) fn export(&self, trace: &Trace, facts: &Facts) {
        if let Some(traces) = &self.log.traces {
            let redact_ip = self.log.config.redact_ip;
            traces.exporter().take(trace, facts, redact_ip);
        }
    }

    pub(super) fn spare_text(&self) -> Text {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn reuse(&self, mut text: Text) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < MAX_SPARE && text.capacity() <= MAX_SPARE_BYTES {
            text.clear();
            spare.push(text);
        }
    }
}

impl Drop for LocalLog {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Batch {
    fn hand_over(&mut self, log: &Log) {
        if self.records == 0 {
            return;
        }
        if let Some(output) = &log.output {
            output.take(&self.lines, self.records);
        }
        self.lines.clear();
        self.records = 0;
    }
}
