//! What may be tried again: only what can't happen twice, a bounded number of times, within a bounded time.
//!
//! 1. Nothing of the request was written: any method, on another endpoint.
//! 2. Written, and the connection closed before a byte of the response: a method that may be repeated, as long as the
//!    body is still whole. A timeout after writing is never tried again.
//! 3. The same on a connection that had served before: it may just have been closed for being idle, so the next try is
//!    on a fresh one.
//!
//! Tries cost from a budget, so that an outage doesn't multiply the load. What one event does to many requests at once,
//! the end of a connection they share or were to share, is forgiven each of them once.

use std::time::Duration;

use http::Method;

use crate::config::{Retries, RetryMethods};
use crate::transport::deadline::{Deadlines, TICK, ticks};
use crate::transport::dial;
use crate::upstream::Cluster;
use crate::upstream::budget::Budget;
use crate::upstream::h1::{self, Failed, Upload};
use crate::upstream::link;
use crate::upstream::turn::{ConnectFailed, Consequence, Unavailable, Wanted};

use super::error::Error;

/// The tries of one request.
#[derive(Debug)]
pub(super) struct Attempts<'a> {
    rules: Retries,
    response_header: Duration,
    budget: &'a Budget,
    clock: &'a Deadlines,
    /// Sending it twice does no more than sending it once.
    repeatable: bool,
    begun: u64,
    /// For turns and connections, over all tries.
    preparing: Duration,
    queue_timeout: Duration,
    /// It has waited in the queue of a cluster that has changed since.
    has_waited: bool,
    failed: usize,
    /// Failures after which it was sent again, and that nobody has counted yet.
    uncounted: u64,
    /// Whether a failure was forgiven.
    forgiven: bool,
    wanted: Wanted,
    last: Option<Error>,
}

/// Whether a retry is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cost {
    Free,
    /// Free, the first time.
    Forgivable,
    FromBudget,
}

impl<'a> Attempts<'a> {
    /// Before the first try.
    pub(super) fn new(
        cluster: &Cluster,
        budget: &'a Budget,
        method: &Method,
        clock: &'a Deadlines,
        wanted: Wanted,
    ) -> Self {
        budget.earn(clock);
        let (rules, timeouts) = (cluster.retries, cluster.timeouts);
        let connects = timeouts
            .connect
            .saturating_mul(u32::try_from(rules.attempts).unwrap_or(u32::MAX));
        Self {
            rules,
            response_header: timeouts.response_header,
            budget,
            clock,
            repeatable: is_repeatable(method, rules.methods),
            begun: clock.now(),
            preparing: connects.saturating_add(cluster.queue_timeout),
            queue_timeout: cluster.queue_timeout,
            has_waited: false,
            failed: 0,
            uncounted: 0,
            forgiven: false,
            wanted,
            last: None,
        }
    }

    /// Instead of as long as the upstream says.
    pub(super) fn wait_for_response(&mut self, limit: Duration) {
        self.response_header = limit;
    }

    /// In ticks, over all tries.
    fn total(&self) -> u64 {
        ticks(self.preparing.saturating_add(self.response_header))
    }

    /// Which endpoint and connection the next try wants.
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Keeps the body for another try, if there may be one after it was sent. If not, it is to be sent only over a
    /// connection that is known to be open.
    pub(super) fn prepare(&mut self, upload: Upload) -> Upload {
        if self.repeatable && self.rules.reset && self.rules.attempts > 1 {
            upload.kept()
        } else {
            self.wanted.insist_on_open();
            upload
        }
    }

    /// How long the next exchange may wait for the response head: a later one has what earlier ones left.
    pub(super) fn response_limit(&self) -> Duration {
        self.at_most(self.response_header)
    }

    /// The same for the next turn.
    pub(super) fn queue_limit(&self) -> Duration {
        let waited = if self.has_waited {
            in_time(self.elapsed())
        } else {
            Duration::ZERO
        };
        self.at_most(self.queue_timeout.saturating_sub(waited))
    }

    /// Goes on in what the cluster has become while this waited for a turn.
    pub(super) fn follow(&mut self, cluster: &Cluster, channel: link::Wanted) {
        self.wanted = self.wanted.anew(channel);
        self.queue_timeout = cluster.queue_timeout;
        self.has_waited = true;
    }

    fn at_most(&self, limit: Duration) -> Duration {
        match self.elapsed() {
            // As a rule.
            0 => limit,
            elapsed => limit.min(in_time(self.total().saturating_sub(elapsed))),
        }
    }

    /// Judges a connect that failed. `Ok`: try again.
    pub(super) fn connect_failed(
        &mut self,
        index: usize,
        failed: &ConnectFailed,
    ) -> Result<(), Error> {
        let error = Error::from(&failed.error);
        // The endpoint would say the same again.
        if matches!(failed.error, dial::Error::NoWebSockets) {
            return Err(error);
        }
        let cost = match failed.consequence {
            Consequence::Postponed => return self.postponed(error),
            _ if !self.rules.connect_error => return Err(error),
            Consequence::None => Cost::FromBudget,
            Consequence::Shared => Cost::Forgivable,
            // It happens once in the time the endpoint is left alone, and may be all that was asked of this request.
            Consequence::Ejected => Cost::Free,
        };
        self.again(error, cost)?;
        self.wanted.avoid(index);
        Ok(())
    }

    /// Judges an exchange that failed. `Ok`: try again, with this body.
    pub(super) fn exchange_failed(
        &mut self,
        index: usize,
        failed: Failed,
    ) -> Result<Upload, Error> {
        let error = Error::from(&failed.error);
        let is_harmless = match failed.error {
            h1::Error::Downstream(_) => false,
            _ if !failed.written => self.rules.connect_error,
            h1::Error::Closed(_) => self.rules.reset && self.repeatable,
            _ => false,
        };
        let upload = match failed.upload {
            Some(whole) if is_harmless => whole,
            _ => return Err(error),
        };
        if failed.reused {
            self.again(error, Cost::Forgivable)?;
            self.wanted.renew(index);
        } else {
            self.again(error, Cost::FromBudget)?;
            self.wanted.avoid(index);
        }
        Ok(upload)
    }

    /// What the client is told when there is no endpoint for the next try: why the last one failed, if there was one.
    pub(super) fn given_up(&self, unavailable: Unavailable) -> Error {
        self.last.unwrap_or_else(|| unavailable.into())
    }

    /// Nothing was tried, so nothing is counted: it waits, as for an endpoint that is busy.
    fn postponed(&mut self, error: Error) -> Result<(), Error> {
        if self.elapsed() >= ticks(self.queue_timeout) {
            return Err(error);
        }
        self.last = Some(error);
        Ok(())
    }

    fn again(&mut self, error: Error, cost: Cost) -> Result<(), Error> {
        self.failed += 1;
        let may = self.failed < self.rules.attempts && self.elapsed() < self.total();
        let is_free = match cost {
            Cost::Free => true,
            Cost::Forgivable => !std::mem::replace(&mut self.forgiven, true),
            Cost::FromBudget => false,
        };
        if !may || !(is_free || self.budget.spend(self.clock)) {
            return Err(error);
        }
        self.uncounted += 1;
        self.last = Some(error);
        Ok(())
    }

    /// How often it was sent again since somebody last asked.
    pub(super) fn take_retries(&mut self) -> u64 {
        std::mem::take(&mut self.uncounted)
    }

    fn elapsed(&self) -> u64 {
        self.clock.now().saturating_sub(self.begun)
    }
}

fn in_time(ticks: u64) -> Duration {
    TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
}

/// RFC 9110 §9.2.
fn is_repeatable(method: &Method, methods: RetryMethods) -> bool {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => true,
        Method::PUT | Method::DELETE => methods == RetryMethods::Idempotent,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::rc::Rc;

    use http::StatusCode;

    use crate::config::UpstreamTimeouts;
    use crate::upstream::Target;
    use crate::upstream::link::{self, Purpose, Reuse};
    use crate::upstream::queue::{Bells, Line};

    fn cluster() -> Cluster {
        Cluster {
            name: "app".into(),
            target: Target::Endpoints(Vec::new()),
            timeouts: UpstreamTimeouts {
                connect: Duration::from_secs(3),
                response_header: Duration::from_secs(60),
                idle: Duration::from_secs(60),
                tunnel: Duration::from_secs(3_600),
            },
            pool: crate::config::PoolLimits {
                max_idle_per_endpoint: 64,
                idle_timeout: Duration::from_secs(15),
            },
            retries: Retries {
                attempts: 3,
                connect_error: true,
                reset: true,
                methods: RetryMethods::Safe,
            },
            queue_timeout: Duration::ZERO,
            health_check: None,
            line: Line::new(&Bells::new(1)),
        }
    }

    /// A budget that was never used, and the clock it goes by.
    fn fresh() -> (Rc<Deadlines>, Budget) {
        let clock = Deadlines::new();
        let budget = Budget::new(&clock);
        (clock, budget)
    }

    #[derive(Clone, Copy)]
    struct Case {
        written: bool,
        reused: bool,
        whole: bool,
    }

    const WRITTEN: Case = Case {
        written: true,
        reused: false,
        whole: true,
    };

    fn failed(case: Case, error: h1::Error) -> Failed {
        Failed {
            error,
            written: case.written,
            reused: case.reused,
            upload: case.whole.then(Upload::none),
        }
    }

    fn closed(case: Case) -> Failed {
        failed(case, h1::Error::Closed(None))
    }

    fn refused() -> ConnectFailed {
        ConnectFailed {
            error: dial::Error::Failed(io::ErrorKind::ConnectionRefused.into()),
            consequence: Consequence::None,
        }
    }

    fn tries<'a>(
        cluster: &Cluster,
        budget: &'a Budget,
        method: &Method,
        clock: &'a Deadlines,
    ) -> Attempts<'a> {
        let wanted = Wanted::new(link::Wanted {
            purpose: Purpose::Exchange,
            reuse: Reuse::Welcome,
            announced: None,
            max_head_bytes: 1024,
        });
        Attempts::new(cluster, budget, method, clock, wanted)
    }

    #[test]
    fn a_request_of_which_nothing_was_written_is_repeated_with_any_method() {
        let (clock, budget) = fresh();
        let unwritten = Case {
            written: false,
            ..WRITTEN
        };
        for method in [Method::GET, Method::POST, Method::PATCH] {
            let mut attempts = tries(&cluster(), &budget, &method, &clock);
            assert!(attempts.connect_failed(0, &refused()).is_ok(), "{method}");
            assert!(attempts.exchange_failed(1, closed(unwritten)).is_ok());
        }
    }

    #[test]
    fn a_written_request_is_repeated_only_with_methods_that_allow_it() {
        for (method, safe_only, with_idempotent) in [
            (Method::GET, true, true),
            (Method::HEAD, true, true),
            (Method::OPTIONS, true, true),
            (Method::PUT, false, true),
            (Method::DELETE, false, true),
            (Method::POST, false, false),
            (Method::PATCH, false, false),
        ] {
            for (methods, expected) in [
                (RetryMethods::Safe, safe_only),
                (RetryMethods::Idempotent, with_idempotent),
            ] {
                let mut cluster = cluster();
                cluster.retries.methods = methods;
                for reused in [false, true] {
                    let (clock, budget) = fresh();
                    let mut attempts = tries(&cluster, &budget, &method, &clock);
                    let outcome = attempts.exchange_failed(0, closed(Case { reused, ..WRITTEN }));
                    assert_eq!(outcome.is_ok(), expected, "{method} reused={reused}");
                }
            }
        }
    }

    #[test]
    fn only_a_close_is_repeated() {
        for error in [
            h1::Error::TimedOut,
            h1::Error::Truncated,
            h1::Error::UnaskedUpgrade,
        ] {
            let (clock, budget) = fresh();
            let mut attempts = tries(&cluster(), &budget, &Method::GET, &clock);
            assert!(attempts.exchange_failed(0, failed(WRITTEN, error)).is_err());
        }
    }

    #[test]
    fn a_body_that_is_partly_gone_is_not_repeated() {
        let (clock, budget) = fresh();
        let mut attempts = tries(&cluster(), &budget, &Method::GET, &clock);
        let cut = Case {
            whole: false,
            ..WRITTEN
        };
        assert!(attempts.exchange_failed(0, closed(cut)).is_err());
    }

    #[test]
    fn the_first_try_counts() {
        for attempts_allowed in 1..=4 {
            let mut cluster = cluster();
            cluster.retries.attempts = attempts_allowed;
            let (clock, budget) = fresh();
            let mut attempts = tries(&cluster, &budget, &Method::GET, &clock);
            let made = 1
                + (0..20)
                    .take_while(|index| attempts.connect_failed(*index, &refused()).is_ok())
                    .count();
            assert_eq!(made, attempts_allowed);
        }
    }

    #[test]
    fn each_reason_can_be_switched_off() {
        let (clock, budget) = fresh();
        let mut cluster = cluster();
        cluster.retries.connect_error = false;
        let mut attempts = tries(&cluster, &budget, &Method::GET, &clock);
        assert!(attempts.connect_failed(0, &refused()).is_err());
        assert!(attempts.exchange_failed(0, closed(WRITTEN)).is_ok());
        cluster.retries.connect_error = true;
        cluster.retries.reset = false;
        let mut attempts = tries(&cluster, &budget, &Method::GET, &clock);
        assert!(attempts.exchange_failed(0, closed(WRITTEN)).is_err());
        assert!(attempts.connect_failed(0, &refused()).is_ok());
    }

    #[test]
    fn a_closed_kept_connection_costs_nothing_and_the_fresh_one_after_it_does() {
        let (clock, budget) = fresh();
        while budget.spend(&clock) {}
        let mut attempts = tries(&cluster(), &budget, &Method::GET, &clock);
        let kept = Case {
            reused: true,
            ..WRITTEN
        };
        assert!(attempts.exchange_failed(0, closed(kept)).is_ok());
        assert!(attempts.exchange_failed(0, closed(WRITTEN)).is_err());
    }

    #[test]
    fn the_end_of_kept_connections_is_forgiven_once() {
        let (clock, budget) = fresh();
        while budget.spend(&clock) {}
        let mut attempts = tries(&cluster(), &budget, &Method::GET, &clock);
        let kept = Case {
            reused: true,
            ..WRITTEN
        };
        assert!(attempts.exchange_failed(0, closed(kept)).is_ok());
        assert!(attempts.exchange_failed(1, closed(kept)).is_err());
        let shared = ConnectFailed {
            consequence: Consequence::Shared,
            ..refused()
        };
        let mut attempts = tries(&cluster(), &budget, &Method::POST, &clock);
        assert!(attempts.connect_failed(0, &shared).is_ok());
        assert!(attempts.connect_failed(1, &shared).is_err());
    }

    #[test]
    fn what_was_not_written_is_repeated_whatever_went_wrong() {
        let (clock, budget) = fresh();
        let mut attempts = tries(&cluster(), &budget, &Method::POST, &clock);
        let unwritten = Case {
            written: false,
            ..WRITTEN
        };
        let broken = failed(unwritten, h1::Error::Truncated);
        assert!(attempts.exchange_failed(0, broken).is_ok());
        let left = h1::Error::Downstream(crate::transport::client_body::Error::Broken);
        assert!(
            attempts
                .exchange_failed(0, failed(unwritten, left))
                .is_err()
        );
    }

    #[test]
    fn an_endpoint_without_websockets_is_not_asked_again() {
        let (clock, budget) = fresh();
        let mut attempts = tries(&cluster(), &budget, &Method::GET, &clock);
        let declined = ConnectFailed {
            error: dial::Error::NoWebSockets,
            consequence: Consequence::None,
        };
        let answer = attempts.connect_failed(0, &declined).unwrap_err();
        assert_eq!(answer.reason, "upstream_no_websockets");
    }

    #[test]
    fn a_connect_that_ejects_the_endpoint_costs_nothing() {
        let (clock, budget) = fresh();
        while budget.spend(&clock) {}
        let mut attempts = tries(&cluster(), &budget, &Method::POST, &clock);
        let ejected = ConnectFailed {
            consequence: Consequence::Ejected,
            ..refused()
        };
        assert!(attempts.connect_failed(0, &ejected).is_ok());
        assert!(attempts.connect_failed(1, &refused()).is_err());
    }

    #[test]
    fn all_tries_share_one_total() {
        let (clock, budget) = fresh();
        let mut attempts = tries(&cluster(), &budget, &Method::GET, &clock);
        let limit = |attempts: &Attempts<'_>| attempts.response_limit().as_secs();
        assert_eq!(limit(&attempts), 60);
        clock.advance(500);
        assert!(attempts.exchange_failed(0, closed(WRITTEN)).is_ok());
        // 3 connects of 3 s and 60 s for the response, of which 50 are gone.
        assert_eq!(limit(&attempts), 19);
        clock.advance(690);
        assert!(attempts.exchange_failed(1, closed(WRITTEN)).is_err());
    }

    #[test]
    fn without_an_endpoint_the_last_failure_is_the_answer() {
        let (clock, budget) = fresh();
        let mut attempts = tries(&cluster(), &budget, &Method::GET, &clock);
        let answer = attempts.given_up(Unavailable::Overloaded);
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(attempts.connect_failed(0, &refused()).is_ok());
        let answer = attempts.given_up(Unavailable::Overloaded);
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    }
}
