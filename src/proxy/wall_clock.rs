//! The Date field (RFC 9110 §6.6.1), written at most once a second per worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::SystemTime;

use http::HeaderValue;

use crate::transport::deadline::Deadlines;

/// A worker's cached date.
#[derive(Debug)]
pub(super) struct WallClock {
    clock: Rc<Deadlines>,
    cached: RefCell<Cached>,
}

#[derive(Debug)]
struct Cached {
    tick: u64,
    date: HeaderValue,
}

impl WallClock {
    pub(super) fn new(clock: &Rc<Deadlines>) -> Self {
        Self {
            clock: Rc::clone(clock),
            cached: RefCell::new(Cached {
                tick: clock.now(),
                date: now(),
            }),
        }
    }

    /// The current date, a tick old at most.
    pub(super) fn date(&self) -> HeaderValue {
        let mut cached = self.cached.borrow_mut();
        let tick = self.clock.now();
        if cached.tick != tick {
            *cached = Cached { tick, date: now() };
        }
        cached.date.clone()
    }
}

fn now() -> HeaderValue {
    imf_fixdate(SystemTime::now())
}

/// RFC 9110 §5.6.7.
fn imf_fixdate(time: SystemTime) -> HeaderValue {
    jiff::Timestamp::try_from(time)
        .ok()
        .and_then(|time| {
            jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&time)
                .ok()
        })
        .and_then(|text| HeaderValue::try_from(text).ok())
        .unwrap_or_else(|| HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_have_the_form_http_wants() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(imf_fixdate(time), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
