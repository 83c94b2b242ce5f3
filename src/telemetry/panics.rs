//! Panics: each is a line in the log, and counted.
//!
//! A panic ends the task it happens in, which is a connection or one of its HTTP/2 streams; nothing here brings anything
//! back, or ends more than that.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Has panics of the whole process logged. To be called when there is a log.
pub fn log() {
    std::panic::set_hook(Box::new(report));
}

/// Panics since the process started.
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn report(panic: &PanicHookInfo<'_>) {
    COUNT.fetch_add(1, Ordering::Relaxed);
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let place = panic.location().map(ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(
        message,
        place,
        thread = thread.name(),
        panics = count(),
        "panicked, which is a defect: please report it"
    );
}
