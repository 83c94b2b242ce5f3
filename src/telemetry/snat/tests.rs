//! What fires, what doesn't, and how often it is said.

use proptest::prelude::*;

use super::*;

fn network() -> Network {
    let ranges = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Network {
        nodes: ranges(&["10.41.0.1/32", "10.41.0.2/32"]),
        pods: ranges(&["10.42.0.0/16"]),
    }
}

const GATEWAY: &str = "172.17.0.1";

fn observe(detector: &mut Detector, now: Instant, counted: Vec<Counted>) -> Vec<Finding> {
    let network = network();
    let ground = Ground {
        network: &network,
        is_gateway: &|ip| ip.to_string() == GATEWAY,
    };
    detector.observe(now, counted, &["http", "https"], ground)
}

fn sender(ip: &str) -> Sender {
    Sender {
        ip: ip.parse().unwrap(),
        is_proxied: false,
    }
}

/// Requests of `http` by peers, and others that somebody vouches for.
fn counted(peers: &[(&str, u64)], vouched: u64) -> Vec<Counted> {
    let senders = peers
        .iter()
        .map(|(ip, count)| (sender(ip), *count, Claims::default()));
    vec![Counted {
        listener: "http".to_owned(),
        requests: vouched + peers.iter().map(|(_, count)| count).sum::<u64>(),
        senders: senders.collect(),
    }]
}

/// Requests of `http` by one peer, some of them with a header.
fn claimed(ip: &str, requests: u64, claims: u64) -> Vec<Counted> {
    let claims = Claims {
        requests: claims,
        field: Field::most_usual(&[b"x-forwarded-for"]),
    };
    vec![Counted {
        listener: "http".to_owned(),
        requests,
        senders: vec![(sender(ip), requests, claims)],
    }]
}

fn cause_of(peers: &[(&str, u64)], vouched: u64) -> Option<Cause> {
    let warnings = observe(
        &mut Detector::default(),
        Instant::now(),
        counted(peers, vouched),
    );
    assert!(warnings.len() <= 1, "{warnings:?}");
    warnings.first().map(|finding| finding.cause)
}

#[test]
fn translated_addresses_are_noticed() {
    for (peers, vouched, cause) in [
        (&[("10.41.0.2", 100)][..], 0, Cause::Node),
        (
            &[("10.41.0.2", 50), ("10.42.1.1", 40), ("10.42.2.0", 10)],
            0,
            Cause::Node,
        ),
        (&[("10.41.0.1", 90), ("203.0.113.9", 10)], 0, Cause::Node),
        (&[("10.41.0.1", 90)], 10, Cause::Node),
        (&[(GATEWAY, 100)], 0, Cause::Gateway),
        (&[("127.0.0.1", 100)], 0, Cause::Loopback),
        (&[("127.0.0.1", 50), ("::1", 50)], 0, Cause::Loopback),
    ] {
        assert_eq!(cause_of(peers, vouched), Some(cause), "{peers:?}");
    }
}

#[test]
fn clients_of_their_own_are_not() {
    for (peers, vouched) in [
        // Too few.
        (&[("10.41.0.2", 99)][..], 0),
        // Not most of them.
        (&[("10.41.0.1", 89), ("203.0.113.9", 11)], 0),
        (&[("10.41.0.1", 100)], 12),
        // Pods, visitors, and none at all.
        (&[("10.42.1.10", 500), ("10.42.2.11", 500)], 0),
        (&[("203.0.113.9", 1000)], 0),
        (&[], 1000),
        // From more places than there are nodes.
        (
            &[
                ("10.41.0.1", 40),
                ("10.42.1.1", 40),
                ("10.42.2.1", 40),
                ("10.42.3.1", 40),
                ("10.42.4.1", 40),
            ],
            0,
        ),
        // Not all of them.
        (&[(GATEWAY, 1000), ("203.0.113.9", 1)], 0),
        (&[("127.0.0.1", 1000), ("127.0.0.2", 1)], 0),
        (&[(GATEWAY, 1000)], 1),
        (&[("127.0.0.1", 1000)], 1),
    ] {
        assert_eq!(cause_of(peers, vouched), None, "{peers:?} {vouched}");
    }
}

#[test]
fn who_is_named_by_a_proxy_header_did_not_connect() {
    let mut all = counted(&[("10.41.0.2", 100)], 0);
    all[0].senders[0].0.is_proxied = true;
    assert_eq!(observe(&mut Detector::default(), Instant::now(), all), []);
}

#[test]
fn a_header_that_nobody_believes_is_noticed() {
    let warned = |counted| observe(&mut Detector::default(), Instant::now(), counted);
    let found = warned(claimed("10.0.3.7", 200, 181)).remove(0);
    assert_eq!(found.cause.code(), "W121");
    assert_eq!(
        found.message(|ip| ip.to_string()),
        "X-Forwarded-For arrives from 10.0.3.7 on 90 % of requests and is not trusted"
    );
    assert_eq!(
        found.cause.remedies()[0],
        "if that is your balancer, add it to client_ip.trust"
    );
    assert_eq!(warned(claimed("10.0.3.7", 200, 179)), []);
    // Whoever trusted a node would trust all that come through it.
    let of_node = warned(claimed("10.41.0.2", 200, 200));
    assert_eq!(
        of_node.iter().map(|found| found.cause).collect::<Vec<_>>(),
        [Cause::Node]
    );
    assert_eq!(warned(claimed("10.0.3.7", 99, 99)), []);
    // Who sends less than others has no say.
    let mut busier = claimed("10.0.3.7", 100, 100);
    busier[0].requests += 101;
    busier[0]
        .senders
        .push((sender("10.0.3.8"), 101, Claims::default()));
    assert_eq!(warned(busier), []);
}

#[test]
fn a_message_names_the_peers_and_the_remedies() {
    let all = counted(
        &[("10.41.0.2", 160), ("10.42.1.1", 56), ("203.0.113.9", 24)],
        0,
    );
    let found = observe(&mut Detector::default(), Instant::now(), all).remove(0);
    assert_eq!(found.cause.code(), "W120");
    assert_eq!(
        found.message(|ip| ip.to_string()),
        "90 % of 240 requests in a minute came from 10.41.0.2, 10.42.1.1, nodes of this cluster: \
         the visitors' addresses are lost before headwater"
    );
    for (cause, remedies) in [
        (
            Cause::Node,
            &[
                "externalTrafficPolicy: Local",
                "PROXY protocol",
                "hostPort",
                "client_ip.trust",
            ][..],
        ),
        (
            Cause::Gateway,
            &[
                "host networking",
                "userland proxy",
                "systemd",
                "externalTrafficPolicy: Local",
            ],
        ),
        (Cause::Loopback, &["from: [loopback]", "PROXY protocol"]),
    ] {
        let text = cause.remedies().join("; ");
        for remedy in remedies {
            assert!(text.contains(remedy), "{cause:?}: {text}");
        }
    }
}

#[test]
fn a_minute_is_judged_whenever_it_began() {
    let mut detector = Detector::default();
    let begun = Instant::now();
    let at = |seconds| begun + Duration::from_secs(seconds);
    let forty = || counted(&[("10.41.0.2", 40)], 0);
    assert_eq!(observe(&mut detector, at(0), forty()), []);
    assert_eq!(observe(&mut detector, at(30), forty()), []);
    // The first forty are a minute old.
    assert_eq!(observe(&mut detector, at(60), forty()), []);
    let found = observe(&mut detector, at(85), forty()).remove(0);
    assert_eq!(found.requests, 120);
}

#[test]
fn a_warning_comes_once_an_hour_and_listener() {
    let mut detector = Detector::default();
    let begun = Instant::now();
    let mut warnings = Vec::new();
    for minute in 0..=121 {
        let mut all = counted(&[("10.41.0.2", 1000)], 0);
        all.extend(all.clone());
        all[1].listener = "https".to_owned();
        // Now and then all is well for a minute.
        if minute % 7 == 3 {
            all = counted(&[("203.0.113.9", 1000)], 0);
        }
        for finding in observe(&mut detector, begun + Duration::from_secs(minute * 60), all) {
            warnings.push((minute, finding.listener));
        }
    }
    let expected =
        [0, 60, 120].map(|minute| ["http", "https"].map(|name| (minute, name.to_owned())));
    assert_eq!(warnings, expected.concat());
}

#[test]
fn what_is_so_stays_until_enough_requests_speak_against_it() {
    let mut detector = Detector::default();
    let begun = Instant::now();
    let at = |seconds| begun + Duration::from_secs(seconds);
    let is_found = |detector: &Detector| !detector.findings().is_empty();
    observe(&mut detector, at(0), counted(&[("10.41.0.2", 100)], 0));
    assert!(is_found(&detector));
    observe(&mut detector, at(600), counted(&[("203.0.113.9", 99)], 0));
    assert!(is_found(&detector));
    observe(&mut detector, at(1200), counted(&[("203.0.113.9", 100)], 0));
    assert!(!is_found(&detector));
    observe(&mut detector, at(1300), counted(&[("10.41.0.2", 100)], 0));
    assert!(is_found(&detector));
    observe(&mut detector, at(1300 + 3599), vec![]);
    assert!(is_found(&detector));
    observe(&mut detector, at(1300 + 3600), vec![]);
    assert!(!is_found(&detector));
}

#[test]
fn listeners_that_are_gone_are_forgotten() {
    let mut detector = Detector::default();
    let now = Instant::now();
    observe(&mut detector, now, counted(&[("10.41.0.2", 100)], 0));
    let network = network();
    let ground = Ground {
        network: &network,
        is_gateway: &|_| false,
    };
    detector.observe(now, counted(&[("10.41.0.2", 100)], 0), &["https"], ground);
    assert_eq!(detector.findings(), []);
    assert!(detector.listeners.is_empty());
}

proptest! {
    /// However requests are spread over looks and workers, the verdict is that of their sum.
    #[test]
    fn the_sum_decides(parts in prop::collection::vec((0..6_usize, 0..80_u64), 0..40), vouched in 0..40_u64) {
        let ips = ["10.41.0.1", "10.41.0.2", "10.42.1.1", "10.42.1.10", "203.0.113.9", "127.0.0.1"];
        let mut sums = [0; 6];
        let mut detector = Detector::default();
        let begun = Instant::now();
        let mut found = observe(&mut detector, begun, counted(&[], vouched)).len();
        for (step, (index, count)) in parts.iter().enumerate() {
            sums[*index] += count;
            let now = begun + Duration::from_millis(step as u64);
            found += observe(&mut detector, now, counted(&[(ips[*index], *count)], 0)).len();
        }
        prop_assert!(found <= 1);
        let nodes: u64 = sums[..3].iter().sum();
        let total = sums.iter().sum::<u64>() + vouched;
        let is_node = total >= 100 && nodes * 10 >= total * 9;
        let is_loopback = total >= 100 && sums[5] == total;
        let cause = detector.findings().first().map(|finding| finding.cause);
        let expected = is_node.then_some(Cause::Node).or(is_loopback.then_some(Cause::Loopback));
        prop_assert_eq!(cause, expected);
    }
}

#[test]
fn a_minute_of_strangers_takes_bounded_room() {
    let mut detector = Detector::default();
    let begun = Instant::now();
    for look in 0..30_u32 {
        let senders = (0..2_000).map(|number| {
            let sender = Sender {
                ip: Ipv4Addr::from_bits(look * 2_000 + number).into(),
                is_proxied: false,
            };
            (sender, 1, Claims::default())
        });
        let all = vec![Counted {
            listener: "http".to_owned(),
            requests: 2_000,
            senders: senders.collect(),
        }];
        let now = begun + Duration::from_secs(5 * u64::from(look));
        observe(&mut detector, now, all);
    }
    let watched = &detector.listeners["http"];
    assert_eq!(watched.slices.len(), 12);
    let slices = watched.slices.iter();
    let senders: Vec<_> = slices.map(|(_, slice)| slice.senders.len()).collect();
    assert_eq!(senders, [frequent::MOST; 12]);
}
