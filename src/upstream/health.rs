//! Whether an endpoint may be sent requests: what connecting to it showed, and what checks found out.
//!
//! Shared by all workers and the control thread in relaxed atomics. Each says one thing on its own, and two workers that
//! act at the same moment can at worst send one probe more or eject an endpoint a moment late. Pure: time is an
//! argument, in ticks of [`crate::transport::deadline`]. Who else there is to send to, the cluster knows.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::OutlierDetection;
use crate::transport::deadline::ticks;

/// At most one report of a lost endpoint in so many ticks: one that fails every second time mustn't fill the log.
const REPORT_INTERVAL: u64 = 10;

/// What an endpoint gets at first when it comes back slowly, in percent of its weight.
const SLOW_START_PERCENT: u64 = 10;

/// The health of one endpoint.
#[derive(Debug, Default)]
pub struct Health {
    /// Connects that failed since the last that didn't.
    failures: AtomicU32,
    /// The tick at which the ejection ends; after it one request at a time probes. 0: not ejected.
    ejected_until: AtomicU64,
    /// Ejections since the last connect that didn't fail.
    ejections: AtomicU32,
    probing: AtomicBool,
    /// By the verdict of active checks.
    unhealthy: AtomicBool,
    /// The tick at which it came, or came back. 0: it was there from the start.
    since: AtomicU64,
    /// Its loss was reported, its return not yet.
    lost: AtomicBool,
    reported_at: AtomicU64,
}

/// May a request be sent?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Like any other.
    Free,
    /// As the only one that tries an endpoint whose ejection is over; [`Health::end_probe`] must follow.
    Probe,
    /// Another one is trying it.
    Refused,
}

/// What a failed connect led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Operators should hear of it: the endpoint was in reach before.
    pub is_news: bool,
    /// The endpoint is left alone for so long.
    pub ejected_for: Option<Duration>,
}

impl Health {
    /// Of an endpoint that came at this tick, when others were there already.
    pub fn appeared(now: u64) -> Self {
        Self {
            since: now.into(),
            ..Self::default()
        }
    }

    /// Whether requests may be sent to it now, as long as there are such endpoints.
    pub fn is_available(&self, now: u64, rule: &OutlierDetection) -> bool {
        match self.ejected_until.load(Relaxed) {
            0 => self.is_sound(rule),
            until => until <= now && !self.probing.load(Relaxed) && !self.unhealthy.load(Relaxed),
        }
    }

    /// Whether nothing at all speaks against it. The last endpoint is never ejected; when it keeps failing, it is as bad
    /// as the others.
    pub fn is_sound(&self, rule: &OutlierDetection) -> bool {
        !self.unhealthy.load(Relaxed)
            && self.ejected_until.load(Relaxed) == 0
            && self.failures.load(Relaxed) < rule.consecutive_failures
    }

    /// Asks for an available endpoint: its ejection may just be over.
    pub fn admit(&self) -> Admission {
        if self.ejected_until.load(Relaxed) == 0 {
            Admission::Free
        } else if self.probing.swap(true, Relaxed) {
            Admission::Refused
        } else {
            Admission::Probe
        }
    }

    /// Lets the next request probe.
    pub fn end_probe(&self) {
        self.probing.store(false, Relaxed);
    }

    /// Notes that it could be connected to. True when operators should hear of it.
    pub fn connected(&self, now: u64) -> bool {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.ejected_until.load(Relaxed) != 0 {
            self.ejected_until.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
            self.since.store(now, Relaxed);
        }
        self.lost.load(Relaxed) && self.lost.swap(false, Relaxed)
    }

    /// Notes that it couldn't. `others` tells whether the cluster has another endpoint to send to: the last is never
    /// ejected.
    pub fn connect_failed(
        &self,
        now: u64,
        rule: &OutlierDetection,
        others: impl FnOnce() -> bool,
    ) -> Failure {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let until = self.ejected_until.load(Relaxed);
        // A connect that began before the ejection says nothing new about the time after it.
        let is_late = until > now;
        let is_enough = until != 0 || failures >= rule.consecutive_failures;
        let ejected_for = (!is_late && is_enough && others())
            .then(|| self.eject(now, until, rule))
            .flatten();
        Failure {
            is_news: self.is_news(now),
            ejected_for,
        }
    }

    /// `None` when another worker was faster.
    fn eject(&self, now: u64, until: u64, rule: &OutlierDetection) -> Option<Duration> {
        let ejections = self.ejections.load(Relaxed);
        let factor = 1_u32.checked_shl(ejections).unwrap_or(u32::MAX);
        let duration = rule
            .eject_for
            .saturating_mul(factor)
            .min(rule.max_eject_for);
        let end = now.saturating_add(ticks(duration).max(1));
        self.ejected_until
            .compare_exchange(until, end, Relaxed, Relaxed)
            .ok()?;
        self.ejections.store(ejections.saturating_add(1), Relaxed);
        Some(duration)
    }

    fn is_news(&self, now: u64) -> bool {
        let reported_at = self.reported_at.load(Relaxed);
        let is_due = reported_at == 0 || now >= reported_at.saturating_add(REPORT_INTERVAL);
        if self.lost.load(Relaxed) || !is_due || self.lost.swap(true, Relaxed) {
            return false;
        }
        self.reported_at.store(now.max(1), Relaxed);
        true
    }

    /// The verdict of active checks, whose only writer is the control thread. True when it has changed.
    pub fn judge(&self, verdict: Verdict, now: u64) -> bool {
        let unhealthy = verdict == Verdict::Unhealthy;
        let changed = self.unhealthy.swap(unhealthy, Relaxed) != unhealthy;
        if changed && !unhealthy {
            self.since.store(now, Relaxed);
        }
        changed
    }

    /// Which percentage of its weight it gets while it comes back, or is new: from a tenth to all within `slow_start`.
    pub fn percent_of_weight(&self, now: u64, slow_start: Duration) -> u16 {
        let whole = ticks(slow_start);
        let since = self.since.load(Relaxed);
        let elapsed = now.saturating_sub(since);
        if since == 0 || elapsed >= whole {
            return 100;
        }
        let gained = (100 - SLOW_START_PERCENT).saturating_mul(elapsed) / whole;
        u16::try_from(SLOW_START_PERCENT + gained).unwrap_or(100)
    }
}

/// What active checks think of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It gets requests, unless connecting fails.
    Healthy,
    /// It gets none while there is another.
    Unhealthy,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: OutlierDetection = OutlierDetection {
        consecutive_failures: 3,
        eject_for: Duration::from_secs(2),
        max_eject_for: Duration::from_secs(30),
    };

    fn fail(health: &Health, now: u64) -> Option<u64> {
        let failure = health.connect_failed(now, &RULE, || true);
        failure.ejected_for.map(|duration| duration.as_secs())
    }

    fn is_available(health: &Health, now: u64) -> bool {
        health.is_available(now, &RULE)
    }

    fn ejected_at(now: u64) -> Health {
        let health = Health::default();
        let ejections = [0; 3].map(|_| fail(&health, now));
        assert_eq!(ejections, [None, None, Some(2)]);
        health
    }

    #[test]
    fn three_failures_in_a_row_eject_for_two_seconds() {
        let health = ejected_at(100);
        for (now, available) in [(100, false), (119, false), (120, true)] {
            assert_eq!(is_available(&health, now), available, "tick {now}");
        }
    }

    #[test]
    fn a_success_in_between_begins_the_count_anew() {
        let health = Health::default();
        for _ in 0..5 {
            assert_eq!(fail(&health, 100), None);
            assert_eq!(fail(&health, 100), None);
            health.connected(100);
        }
        assert!(health.is_sound(&RULE));
    }

    #[test]
    fn each_failed_probe_doubles_the_ejection_up_to_the_most() {
        let health = ejected_at(100);
        let mut now = 100 + 20;
        let mut lengths = Vec::new();
        for _ in 0..6 {
            let length = fail(&health, now).unwrap();
            lengths.push(length);
            now += length * 10;
        }
        assert_eq!(lengths, [4, 8, 16, 30, 30, 30]);
    }

    #[test]
    fn the_number_of_ejections_has_no_end() {
        let health = ejected_at(100);
        health.ejections.store(u32::MAX, Relaxed);
        assert_eq!(fail(&health, 1_000), Some(30));
    }

    #[test]
    fn failures_of_connects_begun_before_the_ejection_do_not_prolong_it() {
        let health = ejected_at(100);
        for now in 100..120 {
            assert_eq!(fail(&health, now), None);
        }
        assert!(is_available(&health, 120));
    }

    #[test]
    fn after_the_ejection_one_request_at_a_time_probes() {
        let health = ejected_at(100);
        assert_eq!(health.admit(), Admission::Probe);
        assert!(!is_available(&health, 120));
        assert_eq!(health.admit(), Admission::Refused);
        health.end_probe();
        assert!(is_available(&health, 120));
        assert_eq!(health.admit(), Admission::Probe);
    }

    #[test]
    fn a_probe_that_connects_ends_it_all() {
        let health = ejected_at(100);
        health.connected(120);
        assert!(health.is_sound(&RULE));
        assert_eq!(health.admit(), Admission::Free);
        let again = [0; 3].map(|_| fail(&health, 130));
        assert_eq!(again, [None, None, Some(2)]);
    }

    #[test]
    fn the_last_endpoint_is_never_ejected_and_no_better_than_others() {
        let health = Health::default();
        for now in 0..100 {
            assert_eq!(is_available(&health, now), now < 3, "tick {now}");
            let failure = health.connect_failed(now, &RULE, || false);
            assert_eq!(failure.ejected_for, None);
        }
        assert_eq!(health.admit(), Admission::Free);
        health.connected(100);
        assert!(is_available(&health, 100));
    }

    #[test]
    fn a_loss_and_a_return_are_reported_once_each() {
        let health = Health::default();
        let mut reports = 0;
        for now in 100..200 {
            reports += usize::from(health.connect_failed(now, &RULE, || true).is_news);
        }
        assert_eq!(reports, 1);
        assert!(health.connected(200));
        assert!(!health.connected(201));
    }

    #[test]
    fn one_that_fails_every_second_time_is_reported_once_a_second() {
        let health = Health::default();
        let mut reports = 0;
        for now in 100..200 {
            for _ in 0..50 {
                reports += usize::from(health.connect_failed(now, &RULE, || true).is_news);
                health.connected(now);
            }
        }
        assert_eq!(reports, 10);
    }

    #[test]
    fn checks_take_it_out_and_put_it_back() {
        let health = Health::default();
        assert!(!health.judge(Verdict::Healthy, 100));
        assert!(health.judge(Verdict::Unhealthy, 100));
        assert!(!is_available(&health, 100));
        assert!(health.judge(Verdict::Healthy, 200));
        assert!(is_available(&health, 200));
    }

    #[test]
    fn the_weight_grows_over_the_slow_start() {
        let minute = Duration::from_secs(60);
        let new = Health::appeared(1_000);
        for (now, percent) in [(1_000, 10), (1_300, 55), (1_599, 99), (1_600, 100)] {
            assert_eq!(new.percent_of_weight(now, minute), percent, "tick {now}");
        }
        let back = ejected_at(100);
        assert_eq!(back.percent_of_weight(120, minute), 100);
        back.connected(120);
        assert_eq!(back.percent_of_weight(120, minute), 10);
        let judged = Health::default();
        judged.judge(Verdict::Unhealthy, 100);
        judged.judge(Verdict::Healthy, 200);
        assert_eq!(judged.percent_of_weight(500, minute), 55);
    }

    #[test]
    fn without_slow_start_nothing_grows() {
        let new = Health::appeared(1_000);
        assert_eq!(new.percent_of_weight(1_000, Duration::ZERO), 100);
    }
}
