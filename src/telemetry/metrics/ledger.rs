//! What the workers count, and where they count it.
//!
//! A worker has a [`Counts`] for each snapshot: places for whatever the configuration names, found by index. What it counted
//! for a name stays in the [`Ledger`], whatever becomes of the snapshot.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, StatusCode};

use super::counter::{Counter, Table, total};
use super::status;
use crate::telemetry::recent::{End, Recent};
use crate::telemetry::snat::Peers;

/// Everything that workers have counted, since the process began.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By listener and route.
    requests: Table<(String, String), Requests>,
    listeners: Table<String, OfListener>,
    /// By where the client's address was found.
    sources: Table<String, Counter>,
    /// Retries by upstream.
    retries: Table<String, Counter>,
    /// Requests by upstream and endpoint.
    endpoints: Table<(String, String), Counter>,
}

/// Requests of one listener and route, by one worker.
#[derive(Debug)]
#[repr(align(128))]
struct Requests {
    statuses: [Counter; status::LABELS.len()],
    /// By the first of [`BOUNDS`] that it doesn't exceed.
    durations: [Counter; BOUNDS.len() + 1],
    microseconds: Counter,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            statuses: std::array::from_fn(|_| Counter::default()),
            durations: std::array::from_fn(|_| Counter::default()),
            microseconds: Counter::default(),
        }
    }
}

/// Of the buckets of durations, in microseconds.
const BOUNDS: [u64; 15] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// What one worker counts for a listener.
#[derive(Debug, Default)]
pub struct OfListener {
    /// Open now.
    pub connections: Counter,
    /// Fields that strangers sent in vain.
    pub forged: Counter,
    proxy_headers: [Counter; ProxyHeaderError::ALL.len()],
}

impl OfListener {
    /// A connection ended for want of a PROXY header that can be believed.
    pub fn proxy_header_failed(&self, error: ProxyHeaderError) {
        if let Some(counter) = self.proxy_headers.get(error as usize) {
            counter.add(1);
        }
    }
}

/// What can be wrong with the PROXY header of a sender that may send one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// It isn't there, and has to be.
    Missing,
    /// It can't be read.
    Malformed,
    /// There is a second one.
    Twice,
    /// It didn't come in time.
    Timeout,
    /// The connection ended in the middle of it.
    Incomplete,
}

impl ProxyHeaderError {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Missing, "missing"),
        (Self::Malformed, "malformed"),
        (Self::Twice, "twice"),
        (Self::Timeout, "timeout"),
        (Self::Incomplete, "incomplete"),
    ];
}

/// What a snapshot has names for.
#[derive(Debug)]
pub struct Names<'a> {
    /// In the snapshot's order, as all others.
    pub listeners: Vec<&'a str>,
    /// Of the routes.
    pub routes: Vec<&'a str>,
    /// Fields that any listener believes somebody.
    pub fields: Vec<&'a HeaderName>,
    /// Each with the addresses of its endpoints.
    pub upstreams: Vec<(&'a str, Vec<String>)>,
}

/// One worker's places to count at, for one snapshot.
#[derive(Debug)]
pub struct Counts {
    ledger: Arc<Ledger>,
    worker: usize,
    listeners: Vec<(Rc<str>, Arc<OfListener>)>,
    routes: Vec<Rc<str>>,
    nowhere: Rc<str>,
    /// By listener, then route; filled when they are needed, as most combinations never are.
    requests: RefCell<Vec<Option<Arc<Requests>>>>,
    peer: Arc<Counter>,
    proxy_protocol: Arc<Counter>,
    fields: Vec<(HeaderName, Arc<Counter>)>,
    upstreams: Vec<OfUpstream>,
    peers: Rc<Peers>,
    /// Where requests are kept, if anybody can ask for them.
    recent: Option<Rc<Recent>>,
}

/// What one worker counts for an upstream.
#[derive(Debug)]
pub struct OfUpstream {
    /// Requests that were sent again.
    pub retries: Arc<Counter>,
    /// Requests that were sent, retries included, in the order of the endpoints.
    endpoints: Vec<Arc<Counter>>,
}

impl OfUpstream {
    /// A request is sent to the endpoint of this index.
    pub fn sent_to(&self, endpoint: usize) {
        if let Some(counter) = self.endpoints.get(endpoint) {
            counter.add(1);
        }
    }
}

impl Counts {
    /// Places of `worker` for all that the snapshot names.
    pub fn new(
        ledger: &Arc<Ledger>,
        worker: usize,
        names: Names<'_>,
        peers: Rc<Peers>,
        recent: Option<Rc<Recent>>,
    ) -> Rc<Self> {
        let source = |label: String| ledger.sources.part(label, worker);
        let fields = names.fields.into_iter();
        let upstreams = names
            .upstreams
            .into_iter()
            .map(|(name, endpoints)| OfUpstream {
                retries: ledger.retries.part(name.to_owned(), worker),
                endpoints: endpoints
                    .into_iter()
                    .map(|endpoint| ledger.endpoints.part((name.to_owned(), endpoint), worker))
                    .collect(),
            });
        let of_listener = |name: &&str| (Rc::from(*name), ledger.listener(name, worker));
        let listeners: Vec<_> = names.listeners.iter().map(of_listener).collect();
        // One more of both: a listener that was removed, and no route.
        let places = (listeners.len() + 1) * (names.routes.len() + 1);
        Rc::new(Self {
            listeners,
            routes: names.routes.iter().copied().map(Rc::from).collect(),
            nowhere: Rc::from(""),
            requests: RefCell::new(vec![None; places]),
            peer: source("peer".to_owned()),
            proxy_protocol: source("proxy_protocol".to_owned()),
            fields: fields
                .map(|name| (name.clone(), source(format!("header:{name}"))))
                .collect(),
            upstreams: upstreams.collect(),
            peers,
            recent,
            ledger: Arc::clone(ledger),
            worker,
        })
    }

    /// Where peers are counted, by the index of the listener.
    pub fn peers(&self) -> &Rc<Peers> {
        &self.peers
    }

    /// Where requests are kept, if anybody can ask for them.
    pub fn recent(&self) -> Option<&Rc<Recent>> {
        self.recent.as_ref()
    }

    /// Of the upstream of this index.
    pub fn upstream(&self, index: usize) -> Option<&OfUpstream> {
        self.upstreams.get(index)
    }

    /// Of the listener of this index.
    pub fn listener(&self, index: usize) -> Option<&OfListener> {
        self.listeners.get(index).map(|(_, counts)| &**counts)
    }

    /// The name of the listener of this index; empty where it was removed.
    pub fn listener_name(&self, index: Option<usize>) -> Rc<str> {
        let listener = index.and_then(|index| self.listeners.get(index));
        Rc::clone(listener.map_or(&self.nowhere, |(name, _)| name))
    }

    /// A client's address was found in the connection itself.
    pub fn found_peer(&self) {
        self.peer.add(1);
    }

    /// A client's address was found in a PROXY header.
    pub fn found_in_proxy_header(&self) {
        self.proxy_protocol.add(1);
    }

    /// A client's address was found in this field.
    pub fn found_in_field(&self, name: &HeaderName) {
        if let Some((_, counter)) = self.fields.iter().find(|(known, _)| known == name) {
            counter.add(1);
        }
    }

    fn ended(&self, place: usize, status: u16, duration: Duration) {
        let mut places = self.requests.borrow_mut();
        let Some(requests) = places.get_mut(place) else {
            return;
        };
        let requests = requests.get_or_insert_with(|| self.first_of(place));
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| microseconds <= *bound);
        let status = requests.statuses.get(status::place(status));
        let bucket = requests.durations.get(bucket.unwrap_or(BOUNDS.len()));
        for counter in [status, bucket].into_iter().flatten() {
            counter.add(1);
        }
        requests.microseconds.add(microseconds);
    }

    fn first_of(&self, place: usize) -> Arc<Requests> {
        let [listener, route] = self.names(place).map(|name| String::from(&**name));
        self.ledger.requests.part((listener, route), self.worker)
    }

    /// The names of a listener and a route.
    fn names(&self, place: usize) -> [&Rc<str>; 2] {
        let routes = self.routes.len() + 1;
        let listener = self.listeners.get(place / routes).map(|(name, _)| name);
        let route = self.routes.get(place % routes);
        [listener, route].map(|name| name.unwrap_or(&self.nowhere))
    }
}

/// A request, counted when it ends: its last byte has gone, or the client has.
#[derive(Debug)]
pub struct Measured {
    counts: Rc<Counts>,
    begun: Instant,
    place: usize,
    status: u16,
    /// Among the requests that are kept.
    kept: Option<u64>,
}

impl Measured {
    /// A request on the listener of this index, if it is still there, begins now.
    pub fn begin(counts: &Rc<Counts>, listener: Option<usize>) -> Self {
        let routes = counts.routes.len();
        Self {
            counts: Rc::clone(counts),
            begun: Instant::now(),
            place: listener.unwrap_or(counts.listeners.len()) * (routes + 1) + routes,
            status: status::GONE,
            kept: None,
        }
    }

    /// The route of this index is taken. To be said once at most.
    pub fn takes_route(&mut self, index: usize) {
        self.place = self.place - self.counts.routes.len() + index;
    }

    /// When it began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// It is kept under this number.
    pub fn keeps(&mut self, number: u64) {
        self.kept = Some(number);
    }

    /// How it is answered.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let duration = self.begun.elapsed();
        self.counts.ended(self.place, self.status, duration);
        if let (Some(recent), Some(number)) = (&self.counts.recent, self.kept) {
            recent.end(number, || {
                let [_, route] = self.counts.names(self.place);
                End {
                    route: Rc::clone(route),
                    status: self.status,
                    duration,
                }
            });
        }
    }
}

/// Requests of one listener and route, by all workers.
#[derive(Debug)]
pub(super) struct RequestTotals {
    /// That there are any of.
    pub(super) statuses: Vec<(&'static str, u64)>,
    /// Upper bounds in seconds, and how many are between that and the one before.
    pub(super) durations: Vec<(f64, u64)>,
    pub(super) seconds: f64,
}

impl Ledger {
    /// Where a worker counts for a listener, whatever snapshot has it.
    pub fn listener(&self, name: &str, worker: usize) -> Arc<OfListener> {
        self.listeners.part(name.to_owned(), worker)
    }

    /// Lets go of endpoints that no snapshot has any more: addresses behind a name come and go.
    pub fn keep_endpoints(&self, is_known: impl Fn(&str, &str) -> bool) {
        self.endpoints
            .keep(|(upstream, endpoint)| is_known(upstream, endpoint));
    }

    /// Requests by route, over all listeners.
    pub fn by_route(&self) -> BTreeMap<String, u64> {
        let mut routes = BTreeMap::new();
        for ((_, route), totals) in self.requests() {
            let number: u64 = totals.statuses.iter().map(|(_, number)| number).sum();
            *routes.entry(route).or_default() += number;
        }
        routes
    }

    pub(super) fn requests(&self) -> Vec<((String, String), RequestTotals)> {
        self.requests.sums(RequestTotals::of)
    }

    /// Open connections by listener.
    pub fn connections(&self) -> Vec<(String, u64)> {
        self.listeners
            .sums(|parts| total(parts, |part| &part.connections))
    }

    pub(super) fn forged(&self) -> Vec<(String, u64)> {
        self.listeners
            .sums(|parts| total(parts, |part| &part.forged))
    }

    /// By listener and reason.
    pub(super) fn proxy_header_errors(&self) -> Vec<((String, String), u64)> {
        let sums = self.listeners.sums(|parts| {
            let mut sums = [0; ProxyHeaderError::ALL.len()];
            for part in parts {
                for (sum, counter) in sums.iter_mut().zip(&part.proxy_headers) {
                    *sum += counter.get();
                }
            }
            sums
        });
        let each = sums.into_iter().flat_map(|(listener, sums)| {
            let reasons = ProxyHeaderError::ALL.iter().map(|(_, reason)| *reason);
            let row =
                move |(reason, sum): (&str, u64)| ((listener.clone(), reason.to_owned()), sum);
            reasons.zip(sums).map(row)
        });
        each.collect()
    }

    pub(super) fn sources(&self) -> Vec<(String, u64)> {
        self.sources.sums(|parts| total(parts, |counter| counter))
    }

    pub(super) fn retries(&self) -> Vec<(String, u64)> {
        self.retries.sums(|parts| total(parts, |counter| counter))
    }

    /// Requests sent, by upstream and endpoint.
    pub fn sent(&self) -> Vec<((String, String), u64)> {
        self.endpoints.sums(|parts| total(parts, |counter| counter))
    }
}

impl RequestTotals {
    fn of(parts: &mut dyn Iterator<Item = &Requests>) -> Self {
        let mut statuses = [0; status::LABELS.len()];
        let mut durations = [0; BOUNDS.len() + 1];
        let mut microseconds = 0;
        for part in parts {
            for (sum, counter) in statuses.iter_mut().zip(&part.statuses) {
                *sum += counter.get();
            }
            for (sum, counter) in durations.iter_mut().zip(&part.durations) {
                *sum += counter.get();
            }
            microseconds += part.microseconds.get();
        }
        let statuses = status::LABELS.into_iter().zip(statuses);
        let bounds = BOUNDS
            .iter()
            .map(|bound| seconds(*bound))
            .chain([f64::INFINITY]);
        Self {
            statuses: statuses.filter(|(_, number)| *number > 0).collect(),
            durations: bounds.zip(durations).collect(),
            seconds: seconds(microseconds),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact for hundreds of years")]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(ledger: &Arc<Ledger>, worker: usize, routes: &[&'static str]) -> Rc<Counts> {
        let names = Names {
            listeners: vec!["http", "https"],
            routes: routes.to_vec(),
            fields: vec![],
            upstreams: vec![(
                "app",
                vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
            )],
        };
        let peers = Rc::new(Peers::new(names.listeners.iter().copied()));
        Counts::new(ledger, worker, names, peers, None)
    }

    fn statuses(ledger: &Ledger) -> Vec<(String, String, &'static str, u64)> {
        let rows = ledger
            .requests()
            .into_iter()
            .flat_map(|((listener, route), totals)| {
                let row = move |(status, number)| (listener.clone(), route.clone(), status, number);
                totals.statuses.into_iter().map(row)
            });
        rows.collect()
    }

    fn row(
        listener: &str,
        route: &str,
        status: &'static str,
        number: u64,
    ) -> (String, String, &'static str, u64) {
        (listener.to_owned(), route.to_owned(), status, number)
    }

    #[test]
    fn requests_are_counted_where_they_were_served() {
        let ledger = Arc::default();
        let counts = [
            counts(&ledger, 0, &["a", "b"]),
            counts(&ledger, 1, &["a", "b"]),
        ];
        for (counts, listener, route, status) in [
            (&counts[0], Some(0), Some(1), 200),
            (&counts[1], Some(0), Some(1), 200),
            (&counts[0], Some(1), Some(0), 404),
            (&counts[0], Some(0), None, 400),
            (&counts[0], None, Some(0), 204),
        ] {
            let mut measured = Measured::begin(counts, listener);
            if let Some(route) = route {
                measured.takes_route(route);
            }
            measured.answered(StatusCode::from_u16(status).unwrap());
        }
        drop(Measured::begin(&counts[1], Some(1)));
        assert_eq!(
            statuses(&ledger),
            [
                row("", "a", "204", 1),
                row("http", "", "400", 1),
                row("http", "b", "200", 2),
                row("https", "", "499", 1),
                row("https", "a", "404", 1),
            ]
        );
    }

    #[test]
    fn nothing_counted_is_lost_when_the_snapshot_changes() {
        let ledger = Arc::default();
        for routes in [&["a", "b"][..], &["b"], &["c", "b"]] {
            let counts = counts(&ledger, 0, routes);
            let mut measured = Measured::begin(&counts, Some(0));
            measured.takes_route(routes.iter().position(|route| *route == "b").unwrap());
            measured.answered(StatusCode::OK);
            drop(measured);
            counts.upstream(0).unwrap().sent_to(1);
        }
        assert_eq!(statuses(&ledger), [row("http", "b", "200", 3)]);
        let sent: Vec<u64> = ledger
            .sent()
            .into_iter()
            .map(|(_, number)| number)
            .collect();
        assert_eq!(sent, [0, 3]);
    }

    #[test]
    fn durations_are_in_the_first_bucket_that_holds_them() {
        let ledger = Arc::default();
        let counts = counts(&ledger, 0, &[]);
        for micros in [0, 1_000, 1_001, 60_000_000, 60_000_001] {
            counts.ended(0, 200, Duration::from_micros(micros));
        }
        let (_, totals) = ledger.requests().pop().unwrap();
        let filled: Vec<_> = totals
            .durations
            .into_iter()
            .filter(|(_, number)| *number > 0)
            .collect();
        assert_eq!(
            filled,
            [(0.001, 2), (0.0025, 1), (60.0, 1), (f64::INFINITY, 1)]
        );
        assert!((totals.seconds - 120.002_002).abs() < 1e-9);
    }

    #[test]
    fn errors_of_proxy_headers_have_a_reason_each() {
        let ledger = Ledger::default();
        for (error, _) in ProxyHeaderError::ALL {
            ledger.listener("tcp", 0).proxy_header_failed(error);
        }
        let errors = ledger.proxy_header_errors();
        assert_eq!(errors.len(), 5);
        assert!(errors.iter().all(|(_, number)| *number == 1), "{errors:?}");
    }
}
