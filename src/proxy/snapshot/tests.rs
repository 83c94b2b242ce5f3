use std::path::Path;

use super::*;

const CONFIG: &str = "
listeners: { http: { address: \":0\" } }
upstreams: { app: { endpoints: [\"app.test:80\", \"127.0.0.1:9000\"] } }
routes: [{ upstream: app }]
";

fn config(text: &str) -> Config {
    Config::parse(text, "proxy.yaml", Path::new(""), &|_| None)
        .unwrap()
        .config
}

/// Without TLS towards any upstream.
fn build(config: Config, resolved: &Resolved, previous: Option<&Snapshot>) -> Snapshot {
    let tls = vec![None; config.upstreams.len()];
    Snapshot::build(config, tls.into(), resolved, previous)
}

fn resolved(addresses: &[&str]) -> Resolved {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Resolved::from([(("app.test".to_owned(), 80), addresses)])
}

fn endpoints(snapshot: &Snapshot) -> &[Arc<Endpoint>] {
    match &snapshot.clusters[0].target {
        Target::Endpoints(endpoints) => endpoints,
        Target::Whoami(_) => panic!("not an echo service"),
    }
}

fn shown(snapshot: &Snapshot) -> Vec<String> {
    let endpoints = endpoints(snapshot).iter();
    endpoints
        .map(|endpoint| endpoint.address.to_string())
        .collect()
}

#[test]
fn a_name_is_as_many_endpoints_as_it_has_addresses() {
    let snapshot = build(
        config(CONFIG),
        &resolved(&["10.0.0.1:80", "10.0.0.2:80"]),
        None,
    );
    assert_eq!(
        shown(&snapshot),
        ["10.0.0.1:80", "10.0.0.2:80", "127.0.0.1:9000"]
    );
    assert_eq!(endpoints(&snapshot)[0].authority, "app.test:80");
}

#[test]
fn a_name_that_does_not_resolve_leaves_the_others() {
    let snapshot = build(config(CONFIG), &Resolved::new(), None);
    assert_eq!(shown(&snapshot), ["127.0.0.1:9000"]);
}

#[test]
fn endpoints_that_stay_keep_their_identity_and_connections() {
    let first = build(config(CONFIG), &resolved(&["10.0.0.1:80"]), None);
    let second = build(
        config(CONFIG),
        &resolved(&["10.0.0.1:80", "10.0.0.2:80"]),
        Some(&first),
    );
    assert_eq!(second.version, first.version + 1);
    assert!(Arc::ptr_eq(&endpoints(&first)[0], &endpoints(&second)[0]));
    assert!(Arc::ptr_eq(&endpoints(&first)[1], &endpoints(&second)[2]));

    let clock = Deadlines::new();
    let publisher = Publisher::new(first);
    let reader = Reader::new(&publisher, 0, &clock);
    let before = reader.current();
    publisher.publish(second);
    let after = reader.current();
    let local = |view: &View, wanted: usize| Rc::clone(&view.clusters[0].endpoints()[wanted]);
    assert!(Rc::ptr_eq(&local(&before, 0), &local(&after, 0)));
    assert!(Rc::ptr_eq(&local(&before, 1), &local(&after, 2)));
}

#[test]
fn an_endpoint_with_another_weight_is_another_endpoint_in_the_same_health() {
    let heavier = CONFIG.replace(
        "\"127.0.0.1:9000\"",
        "{ address: \"127.0.0.1:9000\", weight: 3 }",
    );
    let first = build(config(CONFIG), &Resolved::new(), None);
    let second = build(config(&heavier), &Resolved::new(), Some(&first));
    assert!(!Arc::ptr_eq(&endpoints(&first)[0], &endpoints(&second)[0]));
    assert_eq!(endpoints(&second)[0].weight, 3);
    let state = |snapshot: &Snapshot| Arc::clone(&endpoints(snapshot)[0].state);
    assert!(Arc::ptr_eq(&state(&first), &state(&second)));
}

#[test]
fn an_address_that_is_there_twice_is_one_endpoint() {
    let twice = CONFIG.replace("\"app.test:80\"", "\"127.0.0.1:9000\"");
    let heavier = twice.replacen(
        "\"127.0.0.1:9000\"",
        "{ address: \"127.0.0.1:9000\", weight: 3 }",
        1,
    );
    for (text, is_one) in [(twice, true), (heavier, false)] {
        let snapshot = build(config(&text), &Resolved::new(), None);
        let [first, second] = endpoints(&snapshot) else {
            panic!("two")
        };
        assert_eq!(Arc::ptr_eq(first, second), is_one);
        assert!(Arc::ptr_eq(&first.state, &second.state));
    }
}

#[test]
fn a_change_among_thousands_of_endpoints_takes_no_time() {
    let addresses: Vec<_> = (0..20_000_u32)
        .map(|n| format!("10.{}.{}.{}:80", n >> 16, n >> 8 & 255, n & 255))
        .collect();
    let names: Vec<_> = addresses.iter().map(String::as_str).collect();
    let clock = Deadlines::new();
    let first = build(config(CONFIG), &resolved(&names), None);
    let publisher = Publisher::new(first);
    let reader = Reader::new(&publisher, 0, &clock);
    let began = std::time::Instant::now();
    let current = publisher.current();
    publisher.publish(build(
        config(CONFIG),
        &resolved(&names[1..]),
        Some(&current),
    ));
    assert_eq!(reader.current().clusters[0].endpoints().len(), 20_000);
    // Were each compared with each, it would be far more.
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn endpoints_that_come_later_start_slowly() {
    let minute = std::time::Duration::from_secs(60);
    let percents = |snapshot: &Snapshot| -> Vec<u16> {
        let now = deadline::ticks_now();
        let endpoints = endpoints(snapshot).iter();
        let percent = |e: &Arc<Endpoint>| e.state.health.percent_of_weight(now, minute);
        endpoints.map(percent).collect()
    };
    let first = build(config(CONFIG), &resolved(&["10.0.0.1:80"]), None);
    assert_eq!(percents(&first), [100, 100]);
    let both = resolved(&["10.0.0.1:80", "10.0.0.2:80"]);
    let second = build(config(CONFIG), &both, Some(&first));
    assert_eq!(percents(&second), [100, 10, 100]);
}

#[test]
fn a_reader_keeps_its_view_until_something_is_published() {
    let clock = Deadlines::new();
    let publisher = Publisher::new(build(config(CONFIG), &Resolved::new(), None));
    let reader = Reader::new(&publisher, 0, &clock);
    let first = reader.current();
    assert!(Rc::ptr_eq(&first, &reader.current()));
    let current = publisher.current();
    publisher.publish(build(
        current.config.clone(),
        &Resolved::new(),
        Some(&current),
    ));
    assert!(!Rc::ptr_eq(&first, &reader.current()));
}
