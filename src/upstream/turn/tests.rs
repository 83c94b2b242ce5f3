use super::*;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::config::{
    OutlierDetection, PoolLimits, Retries, RetryMethods, UpstreamProtocol, UpstreamTimeouts,
};
use crate::transport::deadline::Deadlines;
use crate::upstream::endpoint::{EndpointAddress, Facts, State};
use crate::upstream::health::Verdict;
use crate::upstream::link::Purpose;
use crate::upstream::queue::{Bells, Line};
use crate::upstream::{Cluster, Link, Target};

const LIMIT: Duration = Duration::from_secs(3);

const RULE: OutlierDetection = OutlierDetection {
    consecutive_failures: 3,
    eject_for: Duration::from_secs(2),
    max_eject_for: Duration::from_secs(30),
};

fn facts(port: u16) -> Facts {
    Facts {
        address: EndpointAddress::Ip(SocketAddr::from(([127, 0, 0, 1], port))),
        authority: String::new(),
        weight: 1,
        link: Link {
            protocol: UpstreamProtocol::Http1,
            tls: None,
            proxy_header: None,
        },
        role: PRIMARY,
        max_connections: 10,
        outlier_detection: RULE,
        slow_start: Duration::ZERO,
    }
}

/// A cluster of endpoints in these roles, each with room for this many connections.
fn cluster(roles: &[Role], max_connections: usize) -> (Cluster, Rc<Deadlines>) {
    let endpoint = |(port, role): (u16, &Role)| Endpoint {
        facts: Facts {
            role: *role,
            max_connections,
            ..facts(port)
        },
        state: Arc::default(),
    };
    cluster_of((1..).zip(roles).map(endpoint))
}

fn cluster_of(endpoints: impl Iterator<Item = Endpoint>) -> (Cluster, Rc<Deadlines>) {
    let cluster = Cluster {
        name: "app".into(),
        target: Target::Endpoints(endpoints.map(Arc::new).collect()),
        timeouts: UpstreamTimeouts {
            connect: LIMIT,
            response_header: LIMIT,
            idle: LIMIT,
            tunnel: LIMIT,
        },
        pool: PoolLimits {
            max_idle_per_endpoint: 64,
            idle_timeout: LIMIT,
        },
        retries: Retries {
            attempts: 3,
            connect_error: true,
            reset: true,
            methods: RetryMethods::Safe,
        },
        queue_timeout: LIMIT,
        health_check: None,
        line: Line::new(&Bells::new(2)),
    };
    (cluster, Deadlines::new())
}

/// One to which connections can be made.
pub(in crate::upstream) fn endpoint_at(address: SocketAddr) -> Rc<LocalEndpoint> {
    let endpoint = Endpoint {
        facts: Facts {
            address: EndpointAddress::Ip(address),
            ..facts(0)
        },
        state: Arc::default(),
    };
    let (cluster, clock) = cluster_of(std::iter::once(endpoint));
    Rc::clone(&local(&cluster, &clock).endpoints[0])
}

fn local(cluster: &Cluster, clock: &Rc<Deadlines>) -> LocalCluster {
    LocalCluster::new(cluster, None, 0, clock)
}

/// As two workers see it.
fn locals(cluster: &Cluster, clock: &Rc<Deadlines>) -> [LocalCluster; 2] {
    [0, 1].map(|worker| LocalCluster::new(cluster, None, worker, clock))
}

fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// The turn a request gets at once.
fn turn(local: &LocalCluster, wanted: &Wanted) -> Turn {
    poll(local.turn(wanted, LIMIT)).unwrap().unwrap()
}

fn anything() -> Wanted {
    Wanted::new(link::Wanted {
        purpose: Purpose::Exchange,
        reuse: Reuse::Welcome,
        announced: None,
        max_head_bytes: 1024,
    })
}

fn picks<const N: usize>(local: &LocalCluster) -> [usize; N] {
    [0; N].map(|_| turn(local, &anything()).index)
}

fn avoiding(indices: &[usize]) -> Wanted {
    let mut wanted = anything();
    for index in indices {
        wanted.avoid(*index);
    }
    wanted
}

fn judge(local: &LocalCluster, index: usize, verdict: Verdict) {
    local.endpoints[index]
        .endpoint
        .state
        .health
        .judge(verdict, 1);
}

fn fail(local: &LocalCluster, index: usize) {
    let refused = dial::Error::Failed(io::ErrorKind::ConnectionRefused.into());
    for _ in 0..3 {
        local.note_failed(&local.endpoints[index].endpoint, &refused);
    }
}

const PRIMARY: Role = Role::Primary;
const BACKUP: Role = Role::Backup;

#[test]
fn ejected_endpoints_are_passed_over() {
    let (cluster, clock) = cluster(&[PRIMARY; 3], 10);
    let local = local(&cluster, &clock);
    fail(&local, 1);
    assert_eq!(picks(&local), [0, 2, 0, 2]);
}

#[test]
fn one_request_probes_when_the_ejection_is_over() {
    let (cluster, clock) = cluster(&[PRIMARY; 2], 10);
    let local = local(&cluster, &clock);
    clock.advance(100);
    fail(&local, 1);
    clock.advance(120);
    let turns = [0; 4].map(|_| turn(&local, &anything()));
    let probes = turns
        .each_ref()
        .map(|turn| (turn.index, turn.probe.is_some()));
    assert_eq!(probes, [(0, false), (1, true), (0, false), (0, false)]);
    drop(turns);
    let probing = turn(&local, &avoiding(&[0]));
    assert!(probing.probe.is_some());
    local.note_answered(&probing.endpoint, probing.probe.as_ref());
    assert!(turn(&local, &avoiding(&[0])).probe.is_none());
}

#[test]
fn the_last_of_several_is_not_ejected_and_not_preferred_while_it_fails() {
    let (cluster, clock) = cluster(&[PRIMARY; 2], 10);
    let local = local(&cluster, &clock);
    fail(&local, 0);
    assert_eq!(picks(&local), [1, 1]);
    fail(&local, 1);
    let health = |index: usize| &local.endpoints[index].endpoint.state.health;
    assert_eq!(health(1).admit(), Admission::Free);
    // Either may be the first to come back.
    assert_eq!(picks(&local), [0, 1, 0, 1]);
    local.note_connected(&local.endpoints[0].endpoint);
    assert_eq!(picks(&local), [0, 0]);
}

#[test]
fn when_none_is_healthy_all_are_tried() {
    let (cluster, clock) = cluster(&[PRIMARY, PRIMARY, BACKUP], 10);
    let local = local(&cluster, &clock);
    for index in 0..3 {
        judge(&local, index, Verdict::Unhealthy);
    }
    assert_eq!(picks(&local), [0, 1, 2, 0]);
    judge(&local, 1, Verdict::Healthy);
    assert_eq!(picks(&local), [1, 1]);
}

#[test]
fn a_backup_is_used_only_while_no_primary_is_available() {
    let (cluster, clock) = cluster(&[PRIMARY, BACKUP], 10);
    let local = local(&cluster, &clock);
    assert_eq!(picks(&local), [0, 0]);
    fail(&local, 0);
    assert_eq!(picks(&local), [1, 1]);
    local.note_connected(&local.endpoints[0].endpoint);
    assert_eq!(picks(&local), [0, 0]);
}

#[test]
fn a_backup_does_not_relieve_busy_primaries() {
    let (cluster, clock) = cluster(&[PRIMARY, BACKUP], 1);
    let local = local(&cluster, &clock);
    let busy = turn(&local, &anything());
    assert!(poll(local.turn(&anything(), LIMIT)).is_none());
    drop(busy);
    assert_eq!(picks(&local), [0]);
}

#[test]
fn a_new_endpoint_starts_with_a_tenth_of_its_share() {
    let endpoint = |(port, state): (u16, State)| Endpoint {
        facts: Facts {
            slow_start: Duration::from_secs(60),
            ..facts(port)
        },
        state: Arc::new(state),
    };
    let states = [State::default(), State::appeared(100)];
    let (cluster, clock) = cluster_of((1..).zip(states).map(endpoint));
    let local = local(&cluster, &clock);
    for (now, share) in [(100, 10), (700, 55)] {
        clock.advance(now);
        let picked: [usize; 110] = picks(&local);
        let of_new = picked.iter().filter(|index| **index == 1).count();
        assert!(of_new.abs_diff(share) <= 1, "{of_new} of 110 at tick {now}");
    }
}

/// RELIABILITY's fresh connection: that a kept one was closed is no reason to turn to a backup.
#[test]
fn after_a_kept_connection_was_closed_its_endpoint_comes_before_any_backup() {
    let (cluster, clock) = cluster(&[PRIMARY, PRIMARY, BACKUP], 10);
    let local = local(&cluster, &clock);
    let mut wanted = anything();
    wanted.renew(0);
    assert_eq!(turn(&local, &wanted).index, 1);
    wanted.avoid(1);
    wanted.renew(0);
    assert_eq!(turn(&local, &wanted).index, 0);
    // The new one failed too.
    wanted.avoid(0);
    assert_eq!(turn(&local, &wanted).index, 2);
}

#[test]
fn after_a_kept_connection_was_closed_its_endpoint_comes_before_a_busy_one() {
    let (cluster, clock) = cluster(&[PRIMARY, PRIMARY], 1);
    let local = local(&cluster, &clock);
    let held = turn(&local, &avoiding(&[0]));
    assert_eq!(held.index, 1);
    let mut wanted = anything();
    wanted.renew(0);
    assert_eq!(turn(&local, &wanted).index, 0);
}

#[test]
fn a_retry_goes_elsewhere_while_there_is_an_elsewhere() {
    let (cluster, clock) = cluster(&[PRIMARY, PRIMARY, BACKUP], 10);
    let local = local(&cluster, &clock);
    assert_eq!(turn(&local, &avoiding(&[0])).index, 1);
    assert_eq!(turn(&local, &avoiding(&[0, 1])).index, 2);
    // An ejected one may be back; the last resort is what failed already.
    fail(&local, 1);
    assert_eq!(turn(&local, &avoiding(&[0, 2])).index, 1);
    assert!([0, 1, 2].contains(&turn(&local, &avoiding(&[0, 1, 2])).index));
}

#[test]
fn an_empty_cluster_has_no_turn() {
    let (cluster, clock) = cluster(&[], 1);
    let outcome = poll(local(&cluster, &clock).turn(&anything(), LIMIT)).unwrap();
    assert_eq!(outcome.err(), Some(Unavailable::NoEndpoint));
}

#[test]
fn the_limit_holds_over_all_workers() {
    let (cluster, clock) = cluster(&[PRIMARY], 2);
    let workers = locals(&cluster, &clock);
    let turns = workers.each_ref().map(|worker| turn(worker, &anything()));
    for worker in &workers {
        assert!(poll(worker.turn(&anything(), LIMIT)).is_none());
    }
    drop(turns);
    assert!(poll(workers[0].turn(&anything(), LIMIT)).is_some());
}

#[test]
fn nobody_overtakes_those_who_wait() {
    let (cluster, clock) = cluster(&[PRIMARY], 1);
    let local = local(&cluster, &clock);
    let busy = turn(&local, &anything());
    let wanted = anything();
    let mut first = Box::pin(local.turn(&wanted, LIMIT));
    assert!(poll(first.as_mut()).is_none());
    drop(busy);
    assert!(poll(local.turn(&wanted, LIMIT)).is_none());
    assert!(poll(first).is_some());
}

#[test]
fn waiting_ends_in_overload() {
    let (cluster, clock) = cluster(&[PRIMARY], 1);
    let local = local(&cluster, &clock);
    let _busy = turn(&local, &anything());
    let wanted = anything();
    let mut waiting = Box::pin(local.turn(&wanted, LIMIT));
    assert!(poll(waiting.as_mut()).is_none());
    clock.advance(31);
    let outcome = poll(waiting).unwrap();
    assert_eq!(outcome.err(), Some(Unavailable::Overloaded));
}

#[test]
fn running_out_of_ports_is_nobodys_fault() {
    let (cluster, clock) = cluster(&[PRIMARY; 2], 10);
    let local = local(&cluster, &clock);
    let no_port = dial::Error::Failed(io::ErrorKind::AddrNotAvailable.into());
    for _ in 0..10 {
        local.note_failed(&local.endpoints[1].endpoint, &no_port);
    }
    assert_eq!(picks(&local), [0, 1]);
}

#[test]
fn without_descriptors_new_connections_wait_for_the_next_tick() {
    let (cluster, clock) = cluster(&[PRIMARY; 2], 10);
    let local = local(&cluster, &clock);
    local.queue.note_shortage(clock.now());
    let wanted = anything();
    let mut waiting = Box::pin(local.turn(&wanted, LIMIT));
    assert!(poll(waiting.as_mut()).is_none());
    clock.advance(1);
    assert!(poll(waiting).unwrap().is_ok());
}
