use super::*;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crate::upstream::Endpoint;
use crate::upstream::health::Verdict;

const DEADLINE: Duration = Duration::from_secs(20);

/// Two upstreams by name, the first looked up as often as can be.
const CONFIG: &str = "
listeners: { http: { address: \":0\" } }
upstreams:
  fast: { discovery: { dns: { name: fast.test, port: 80, interval: 1ms } } }
  slow: { discovery: { dns: { name: slow.test, port: 80, interval: 1h } } }
routes: [{ upstream: fast }]
";

fn config(text: &str) -> Config {
    let loaded = Config::parse(text, "proxy.yaml", Path::new(""), &|_| None);
    loaded.unwrap().config
}

fn addresses(last: &[u8]) -> Vec<SocketAddr> {
    last.iter()
        .map(|last| SocketAddr::from(([10, 0, 0, *last], 80)))
        .collect()
}

/// What `fast.test` and `slow.test` had resolved to.
fn published(fast: &[u8], slow: &[u8]) -> Publisher {
    let resolved = [("fast.test", fast), ("slow.test", slow)];
    let resolved = resolved.into_iter().filter(|(_, last)| !last.is_empty());
    let resolved: Resolved = resolved
        .map(|(host, last)| ((host.to_owned(), 80), addresses(last)))
        .collect();
    let tls = vec![None; 2].into();
    Publisher::new(Snapshot::build(config(CONFIG), tls, &resolved, None))
}

fn endpoints(publisher: &Publisher) -> Vec<Arc<Endpoint>> {
    match &publisher.current().clusters[0].target {
        crate::upstream::Target::Endpoints(endpoints) => endpoints.clone(),
        crate::upstream::Target::Whoami(_) => unreachable!("it has endpoints"),
    }
}

fn shown(publisher: &Publisher) -> Vec<String> {
    let endpoints = endpoints(publisher);
    endpoints
        .iter()
        .map(|endpoint| endpoint.address.to_string())
        .collect()
}

/// An answer that can be changed, and how often it was asked for.
#[derive(Default)]
struct Resolver {
    fast: Mutex<Option<Vec<u8>>>,
    asked: [AtomicUsize; 2],
}

impl Resolver {
    fn says(&self, last: Option<&[u8]>) {
        *self.fast.lock().unwrap() = last.map(<[u8]>::to_vec);
    }

    fn answer(&self, host: &str) -> Option<io::Result<Vec<SocketAddr>>> {
        let is_slow = host == "slow.test";
        self.asked[usize::from(is_slow)].fetch_add(1, SeqCst);
        if is_slow {
            // Never.
            return None;
        }
        let last = self.fast.lock().unwrap().clone();
        Some(
            last.map(|last| addresses(&last))
                .ok_or_else(|| io::ErrorKind::NotFound.into()),
        )
    }

    fn asked(&self) -> [usize; 2] {
        self.asked.each_ref().map(|count| count.load(SeqCst))
    }
}

/// Runs `watch` beside a test.
fn beside_watch<F: Future<Output = ()>>(
    publisher: Publisher,
    test: impl FnOnce(Arc<Resolver>, Publisher) -> F,
) {
    let resolver = Arc::new(Resolver::default());
    let watched = watch_by(publisher.clone(), {
        let resolver = Arc::clone(&resolver);
        move |(host, _)| {
            let answer = resolver.answer(&host);
            async move {
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        tokio::select! {
            () = watched => unreachable!("it never returns"),
            outcome = tokio::time::timeout(DEADLINE, test(resolver, publisher)) => outcome.expect("in time"),
        }
    });
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn addresses_that_come_and_go_are_followed_and_those_that_stay_keep_their_health() {
    let publisher = published(&[1, 2], &[9]);
    let before = endpoints(&publisher);
    before[1].state.health.judge(Verdict::Unhealthy, 1);
    beside_watch(publisher, |resolver, publisher| async move {
        resolver.says(Some(&[2, 3]));
        until(|| shown(&publisher) == ["10.0.0.2:80", "10.0.0.3:80"]).await;
        let after = endpoints(&publisher);
        assert!(Arc::ptr_eq(&after[0], &before[1]));
        assert!(!after[0].is_sound() && after[1].is_sound());
    });
}

#[test]
fn no_answer_and_an_empty_one_keep_the_last_good_addresses() {
    let publisher = published(&[1], &[9]);
    beside_watch(publisher, |resolver, publisher| async move {
        resolver.says(None);
        let (version, asked) = (publisher.current().version, resolver.asked()[0]);
        until(|| resolver.asked()[0] > asked + 5).await;
        assert_eq!(publisher.current().version, version);
        assert_eq!(shown(&publisher), ["10.0.0.1:80"]);
        resolver.says(Some(&[4]));
        until(|| shown(&publisher) == ["10.0.0.4:80"]).await;
    });
    assert_eq!(
        found([].into_iter()).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn a_name_that_had_no_address_is_found_later() {
    let publisher = published(&[], &[9]);
    assert!(endpoints(&publisher).is_empty());
    beside_watch(publisher, |resolver, publisher| async move {
        resolver.says(Some(&[1]));
        until(|| shown(&publisher) == ["10.0.0.1:80"]).await;
    });
}

#[test]
fn a_look_up_that_hangs_is_not_repeated_and_holds_up_no_other() {
    // Without an address it is tried again after a second, and not after an hour.
    let publisher = published(&[1], &[]);
    beside_watch(publisher, |resolver, _| async move {
        resolver.says(Some(&[1]));
        until(|| resolver.asked()[1] == 1).await;
        let asked = resolver.asked()[0];
        until(|| resolver.asked()[0] > asked + 20).await;
        assert_eq!(resolver.asked()[1], 1);
    });
}

#[test]
fn each_name_is_looked_up_as_often_as_it_says() {
    let publisher = published(&[1], &[9]);
    beside_watch(publisher, |resolver, _| async move {
        resolver.says(Some(&[1]));
        until(|| resolver.asked()[0] > 20).await;
        assert_eq!(resolver.asked()[1], 0);
    });
    let shared = CONFIG.replace("slow.test", "fast.test");
    let intervals: Vec<_> = names(&config(&shared)).into_values().collect();
    assert_eq!(intervals, [Duration::from_millis(1)]);
}

#[test]
fn names_of_a_new_configuration_are_looked_up() {
    let publisher = published(&[1], &[9]);
    beside_watch(publisher, |resolver, publisher| async move {
        resolver.says(Some(&[1]));
        until(|| resolver.asked()[0] > 1).await;
        let current = publisher.current();
        let text = CONFIG.replace("interval: 1h", "interval: 1ms");
        let tls = Arc::clone(&current.tls);
        let next = Snapshot::build(config(&text), tls, &current.resolved, Some(&current));
        publisher.publish(next);
        until(|| resolver.asked()[1] == 1).await;
    });
}

#[test]
fn what_was_found_meanwhile_is_not_lost_behind_slow_look_ups() {
    let name = |host: &str| (host.to_owned(), 80);
    let mut resolved = Resolved::from([
        (name("known.test"), addresses(&[1])),
        (name("new.test"), addresses(&[2])),
    ]);
    let found_since = Resolved::from([
        (name("known.test"), addresses(&[3])),
        (name("gone.test"), addresses(&[4])),
    ]);
    renew(&mut resolved, &found_since);
    assert_eq!(
        resolved,
        Resolved::from([
            (name("known.test"), addresses(&[3])),
            (name("new.test"), addresses(&[2])),
        ])
    );
}
