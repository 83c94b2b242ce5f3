//! Where records go: a thread that writes, behind a queue of bounded size.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use super::sink::Sink;
use crate::config::LogOutput;

/// What waits to be written at most, by all workers together.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;

/// Of the whole process, whatever became of the outputs.
static DROPPED: AtomicU64 = AtomicU64::new(0);

static TROUBLE: Mutex<Option<Trouble>> = Mutex::new(None);

/// Records that were made and not written, since the process started.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Why the last of them wasn't, once.
pub fn last_trouble() -> Option<Trouble> {
    TROUBLE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

/// Why records aren't written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// As configured.
    pub output: String,
    /// What the operating system says, or that the output is too slow.
    pub cause: String,
}

/// An output in use. Its thread ends when it is told to, or with the last owner; what was taken by then is written.
#[derive(Debug)]
pub struct Output {
    to: LogOutput,
    queue: mpsc::Sender<Message>,
    queued: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Message {
    Lines(Box<[u8]>),
    Reopen,
    End,
}

impl Output {
    /// Opens it, in a thread of its own: that may take long, and fail at any time.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(to: LogOutput) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let (queue, messages) = mpsc::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            sink: Sink::new(to.clone()),
            messages,
            queued: Arc::clone(&queued),
        };
        let thread = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())?;
        let output = Self { to, queue, queued };
        Ok((Arc::new(output), thread))
    }

    /// Where it writes to.
    pub fn to(&self) -> &LogOutput {
        &self.to
    }

    /// Opens the file anew, for whoever has moved it away.
    pub fn reopen(&self) {
        // The thread outlives its owners, unless it panicked.
        let _ = self.queue.send(Message::Reopen);
    }

    /// Has the thread end when everything taken is written.
    pub fn end(&self) {
        let _ = self.queue.send(Message::End);
    }

    /// Takes lines to be written, or drops them; never waits.
    pub(super) fn take(&self, lines: &[u8], records: u64) {
        let queued = self.queued.fetch_add(lines.len(), Ordering::Relaxed);
        let fits = queued + lines.len() <= MAX_QUEUED_BYTES;
        if !fits || self.queue.send(Message::Lines(lines.into())).is_err() {
            self.queued.fetch_sub(lines.len(), Ordering::Relaxed);
            DROPPED.fetch_add(records, Ordering::Relaxed);
        }
    }
}

/// The thread of an output.
struct Writer {
    sink: Sink,
    messages: mpsc::Receiver<Message>,
    queued: Arc<AtomicUsize>,
}

impl Writer {
    fn run(mut self) {
        if let Err(error) = self.sink.open() {
            self.sink.note(&error);
            tracing::error!(output = %self.sink, %error, "the access log can't be opened");
        }
        while let Ok(message) = self.messages.recv() {
            match message {
                Message::Lines(lines) => self.write(&lines),
                Message::Reopen => match self.sink.reopen() {
                    Ok(()) => tracing::info!(output = %self.sink, "access log reopened"),
                    Err(error) => {
                        tracing::error!(output = %self.sink, %error, "the access log can't be reopened");
                    }
                },
                Message::End => return,
            }
        }
    }

    fn write(&mut self, lines: &[u8]) {
        if let Err(failed) = self.sink.write(lines) {
            self.sink.note(&failed.source);
            DROPPED.fetch_add(failed.records, Ordering::Relaxed);
        }
        self.queued.fetch_sub(lines.len(), Ordering::Relaxed);
    }
}

impl Sink {
    fn note(&self, error: &io::Error) {
        let trouble = Trouble {
            output: self.to_string(),
            cause: error.to_string(),
        };
        *TROUBLE.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }
}
