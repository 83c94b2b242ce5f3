//! The access log in a running process: which one is written, and what becomes of it at the end.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::task;
use tokio::time::{self, Instant};

use crate::config::{Config, LogOutput, Tracing};
use crate::telemetry;
use crate::telemetry::access_log::{Log, Output, dropped, last_trouble};
use crate::telemetry::traces::Traces;

/// How long what was accepted may take to be written when the process ends.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Threads are asked this often whether they have ended.
const GLANCE: Duration = Duration::from_millis(5);

/// Dropped records are looked for this often, and told no more often than that.
const LOOK: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_secs(30);

/// The access log that is written, and the threads of those that were.
#[derive(Debug)]
pub(super) struct Journal {
    log: Option<Arc<Log>>,
    threads: Vec<JoinHandle<()>>,
    watch: task::JoinHandle<()>,
}

impl Journal {
    /// Nothing is written yet. Says from now on when records are dropped.
    pub(super) fn new() -> Self {
        Self {
            log: None,
            threads: Vec::new(),
            watch: tokio::spawn(tell_of_dropped()),
        }
    }

    /// The log that `config` asks for: the one there is, as far as it can go on. `None`: nobody reads records.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn follow(&mut self, config: &Config) -> io::Result<Option<Arc<Log>>> {
        self.threads.retain(|thread| !thread.is_finished());
        let output = self.output(&config.access_log.output)?;
        let traces = self.traces(config.tracing.as_ref())?;
        if output.is_none() && traces.is_none() {
            self.log = None;
            return Ok(None);
        }
        let is_same = |log: &Arc<Log>| {
            *log.config() == config.access_log
                && log.traces().map(Arc::as_ptr) == traces.as_ref().map(Arc::as_ptr)
        };
        if let Some(log) = self.log.as_ref().filter(|log| is_same(log)) {
            return Ok(Some(Arc::clone(log)));
        }
        let log = Log::new(
            config.access_log.clone(),
            telemetry::format(),
            output,
            traces,
        );
        self.log = Some(Arc::clone(&log));
        Ok(Some(log))
    }

    fn output(&mut self, wanted: &LogOutput) -> io::Result<Option<Arc<Output>>> {
        if *wanted == LogOutput::Off {
            return Ok(None);
        }
        let known = self.log.as_ref().and_then(|log| log.output());
        if let Some(known) = known.filter(|known| known.to() == wanted) {
            return Ok(Some(Arc::clone(known)));
        }
        let (output, thread) = Output::start(wanted.clone())?;
        self.threads.push(thread);
        Ok(Some(output))
    }

    fn traces(&self, wanted: Option<&Tracing>) -> io::Result<Option<Arc<Traces>>> {
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let known = self.log.as_ref().and_then(|log| log.traces());
        match known.filter(|known| known.config() == wanted) {
            Some(known) => Ok(Some(Arc::clone(known))),
            None => Traces::start(wanted).map(Some),
        }
    }

    /// Has the file opened anew.
    pub(super) fn reopen(&self) {
        if let Some(output) = self.log.as_ref().and_then(|log| log.output()) {
            output.reopen();
        }
    }

    /// Waits until everything is written, though not for long. Workers have ended by now.
    pub(super) async fn end(&mut self) {
        self.watch.abort();
        let log = self.log.take();
        if let Some(output) = log.as_ref().and_then(|log| log.output()) {
            output.end();
        }
        if let Some(traces) = log.as_ref().and_then(|log| log.traces()) {
            let exporter = Arc::clone(traces.exporter());
            let sent = task::spawn_blocking(move || exporter.end(LAST_WRITES));
            // It has its own end, and what keeps it longer is left.
            let _ = time::timeout(LAST_WRITES, sent).await;
        }
        let deadline = Instant::now() + LAST_WRITES;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() > deadline {
                tracing::error!(
                    dropped = dropped(),
                    "the access log isn't complete: its output takes nothing more"
                );
                return;
            }
            time::sleep(GLANCE).await;
        }
    }
}

async fn tell_of_dropped() {
    let mut told = 0;
    loop {
        time::sleep(LOOK).await;
        let total = dropped();
        if total == told {
            continue;
        }
        let (output, cause) = match last_trouble() {
            Some(trouble) => (Some(trouble.output), trouble.cause),
            None => (None, "it is too slow".to_owned()),
        };
        tracing::error!(
            dropped = total - told,
            dropped_in_all = total,
            output,
            cause,
            "access log records are lost"
        );
        told = total;
        time::sleep(TELL).await;
    }
}
