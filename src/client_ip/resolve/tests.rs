use proptest::prelude::*;

use super::super::tests::support::{addr, fields, lines, peer, proxied, rule, sent, trusting};
use super::super::{EmitOptions, EmitPolicy, Prior, UntrustedPrior, emit};
use super::*;

const XFF: &str = "x-forwarded-for";
const TRUSTED: &[&str] = &[
    "127.10.0.0/16",
    "10.0.0.0/8",
    "198.51.100.0/24",
    "2001:db8:cd::/48",
];

fn outcome(resolution: &Resolution<'_>) -> (Option<IpAddr>, Reason, usize) {
    (
        resolution.client().ip(),
        resolution.reason(),
        resolution.verified(),
    )
}

fn hops(count: u8) -> TrustPolicy {
    TrustPolicy::by_hops(
        NonZeroU8::new(count).expect("not zero"),
        ForwardingField::XForwardedFor,
    )
}

#[test]
fn addresses_that_nobody_has_are_no_address() {
    for text in [
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "::ffff:224.0.0.1",
    ] {
        assert_eq!(Addr::new(text.parse().expect(text)), None, "{text}");
    }
}

#[test]
fn socket_addresses_lose_their_zone_and_mapping() {
    let zoned = SocketAddr::V6(std::net::SocketAddrV6::new(
        "fe80::1".parse().expect("an address"),
        80,
        0,
        7,
    ));
    assert_eq!(Addr::from_socket(zoned).ip(), addr("fe80::1").ip());
    let mapped = "[::ffff:10.0.0.1]:80".parse().expect("an address");
    assert_eq!(Addr::from_socket(mapped), addr("10.0.0.1"));
}

#[test]
fn a_peer_that_a_rule_names_is_believed_and_no_stranger() {
    let policy = trusting(TRUSTED, XFF);
    let unix = Peer {
        socket: SocketPeer::Unix,
        proxied: None,
    };
    for (peer, believed, stranger) in [
        (peer("10.0.0.1"), true, None),
        (peer("203.0.113.7"), false, Some("203.0.113.7")),
        (
            proxied("10.0.0.1", "203.0.113.7"),
            false,
            Some("203.0.113.7"),
        ),
        (unix, false, None),
    ] {
        assert_eq!(policy.believes(&peer), believed, "{peer:?}");
        assert_eq!(policy.stranger(&peer), stranger.map(addr), "{peer:?}");
    }
    assert!(hops(1).believes(&peer("203.0.113.7")));
    assert!(!TrustPolicy::socket_only().believes(&peer("10.0.0.1")));
}

#[test]
fn chains_that_cannot_be_read_grant_nothing() {
    let (peer, policy) = (
        peer("10.0.0.1"),
        trusting(TRUSTED, XFF).with_max_hops(NonZeroU16::MIN),
    );
    for (chain, reason, granted) in [
        ("203.0.113.7", Reason::FirstUntrusted, true),
        ("10.0.0.2", Reason::AllTrusted, true),
        ("unknown", Reason::Malformed, false),
        ("10.0.0.3, 10.0.0.2", Reason::HopLimit, false),
    ] {
        let headers = lines(XFF, [chain]);
        for (on_malformed, rejected) in [
            (OnMalformed::Nearest, false),
            (OnMalformed::Reject, !granted),
        ] {
            let policy = policy.clone().with_on_malformed(on_malformed);
            let resolution = resolve(&peer, &headers, &policy);
            assert_eq!(resolution.reason(), reason, "{chain}");
            assert_eq!(
                resolution.client_for_decision().is_some(),
                granted,
                "{chain}"
            );
            assert_eq!(resolution.must_reject(), rejected, "{chain}");
        }
    }
}

#[test]
fn the_peer_is_not_counted_among_the_hops() {
    let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, XFF));
    let chain = |count: usize| vec!["10.0.0.2"; count].join(",");
    for (count, reason, verified) in [(64, Reason::AllTrusted, 64), (65, Reason::HopLimit, 64)] {
        let headers = lines(XFF, [chain(count).as_str()]);
        assert_eq!(
            outcome(&resolve(&peer, &headers, &policy)),
            (Some(addr("10.0.0.2").ip()), reason, verified)
        );
    }
}

#[test]
fn an_entry_that_cannot_be_read_ends_a_single_address_field() {
    let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, "CF-Connecting-IP"));
    let (few, many) = (",".repeat(4), ",".repeat(300));
    for (value, reason) in [
        (format!("x{few}"), Reason::Malformed),
        (format!("{many}x{few}"), Reason::Malformed),
        (format!("x{many}"), Reason::HopLimit),
        (format!("{few}203.0.113.7"), Reason::FirstUntrusted),
        (format!("{many}203.0.113.7"), Reason::HopLimit),
    ] {
        let headers = lines("cf-connecting-ip", [value.as_str()]);
        assert_eq!(
            resolve(&peer, &headers, &policy).reason(),
            reason,
            "{value}"
        );
    }
}

#[test]
fn a_chain_is_not_read_past_its_byte_limit() {
    let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, XFF));
    let far = format!("203.0.113.7,{}10.0.0.2", " ".repeat(MAX_CHAIN_BYTES));
    let long = "x".repeat(MAX_CHAIN_BYTES + 1);
    for value in [far, long] {
        let headers = lines(XFF, [value.as_str()]);
        assert_eq!(resolve(&peer, &headers, &policy).reason(), Reason::HopLimit);
    }
}

#[test]
fn a_wall_of_commas_is_not_read_to_its_end() {
    let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, XFF));
    for (empties, reason) in [(256, Reason::FirstUntrusted), (257, Reason::HopLimit)] {
        let headers = lines(
            XFF,
            [format!("203.0.113.7,{}10.0.0.2", ",".repeat(empties)).as_str()],
        );
        assert_eq!(
            resolve(&peer, &headers, &policy).reason(),
            reason,
            "{empties} empty elements"
        );
    }
}

#[test]
fn a_rule_for_another_field_vouches_for_nothing_in_this_one() {
    let policy = TrustPolicy::by_rules(
        vec![
            rule(&["private"], XFF),
            rule(&["203.0.113.0/24"], "CF-Connecting-IP"),
        ],
        Depth::Full,
    );
    let headers = fields([
        (XFF, b"6.6.6.6, 203.0.113.7".as_slice()),
        ("cf-connecting-ip", b"6.6.6.6"),
    ]);
    let edge = peer("10.0.0.1");
    let resolution = resolve(&edge, &headers, &policy);
    assert_eq!(
        outcome(&resolution),
        (Some(addr("203.0.113.7").ip()), Reason::FirstUntrusted, 1)
    );
}

#[test]
fn counted_hops_are_trusted_whatever_their_address() {
    let headers = lines(XFF, ["6.6.6.6, 203.0.113.7, 192.0.2.1"]);
    for (count, client) in [(1, "192.0.2.1"), (2, "203.0.113.7"), (3, "6.6.6.6")] {
        let (peer, policy) = (peer("8.8.8.8"), hops(count));
        let resolution = resolve(&peer, &headers, &policy);
        assert_eq!(
            outcome(&resolution),
            (
                Some(addr(client).ip()),
                Reason::FirstUntrusted,
                count.into()
            )
        );
        assert!(resolution.peer_is_trusted());
    }
}

#[test]
fn a_chain_shorter_than_the_counted_hops_yields_an_untrusted_peer() {
    let (peer, policy, headers) = (
        peer("8.8.8.8"),
        hops(3),
        lines(XFF, ["203.0.113.7, 192.0.2.1"]),
    );
    let resolution = resolve(&peer, &headers, &policy);
    assert_eq!(
        outcome(&resolution),
        (Some(addr("8.8.8.8").ip()), Reason::DirectPeer, 0)
    );
    assert!(!resolution.peer_is_trusted());
}

#[test]
fn the_source_tells_where_the_address_was_found() {
    let (xff, socket_only) = (
        trusting(TRUSTED, "X-Forwarded-For"),
        TrustPolicy::socket_only(),
    );
    let (single, nobody) = (trusting(TRUSTED, "CF-Connecting-IP"), TrustPolicy::nobody());
    let headers = fields([
        (XFF, b"203.0.113.7".as_slice()),
        ("cf-connecting-ip", b"203.0.113.8"),
    ]);
    let (balancer, behind) = (peer("10.0.0.1"), proxied("10.0.0.1", "192.0.2.1"));
    for (peer, policy, client, source) in [
        (&balancer, &xff, "203.0.113.7", "header:x-forwarded-for"),
        (&balancer, &single, "203.0.113.8", "header:cf-connecting-ip"),
        (&balancer, &nobody, "10.0.0.1", "peer"),
        (&behind, &xff, "192.0.2.1", "proxy_protocol"),
        (&behind, &nobody, "192.0.2.1", "proxy_protocol"),
        (&behind, &socket_only, "10.0.0.1", "peer"),
    ] {
        let resolution = resolve(peer, &headers, policy);
        assert_eq!(resolution.client().ip(), Some(addr(client).ip()));
        assert_eq!(resolution.source().to_string(), source);
    }
}

#[test]
fn believed_entries_are_listed_with_their_ports_from_the_client_on() {
    let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, XFF));
    let headers = lines(
        XFF,
        ["6.6.6.6, 203.0.113.7:4711,,", "198.51.100.9 , 10.0.0.5:80"],
    );
    let resolution = resolve(&peer, &headers, &policy);
    let believed: Vec<_> = resolution.believed().collect();
    let expected = [
        ("203.0.113.7", Some(4711)),
        ("198.51.100.9", None),
        ("10.0.0.5", Some(80)),
    ];
    assert_eq!(believed, expected.map(|(ip, port)| (addr(ip), port)));
    assert_eq!(resolution.discarded(), 1);
}

#[test]
fn a_list_of_fields_is_no_field() {
    for name in [
        "",
        "X-Forwarded-For, X-Real-IP",
        "X-Forwarded-For X-Real-IP",
        "X-Real-IP:",
    ] {
        assert!(ForwardingField::parse(name).is_err(), "{name}");
    }
}

/// One entry of a generated chain, with what is to be thought of it.
#[derive(Debug, Clone)]
enum Link {
    Trusted(IpAddr),
    Untrusted(IpAddr),
    Unreadable(String),
}

impl Link {
    fn text(&self) -> String {
        match self {
            Self::Trusted(ip) | Self::Untrusted(ip) => ip.to_string(),
            Self::Unreadable(text) => text.clone(),
        }
    }
}

fn trusted_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 3]>().prop_map(|[b, c, d]| IpAddr::from([10, b, c, d])),
        any::<u8>().prop_map(|d| IpAddr::from([198, 51, 100, d])),
        any::<u16>().prop_map(|h| IpAddr::from([0x2001, 0xdb8, 0xcd, 0, 0, 0, 0, h])),
    ]
}

fn untrusted_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u8>().prop_map(|d| IpAddr::from([203, 0, 113, d])),
        any::<u16>().prop_map(|h| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, h])),
        Just(IpAddr::from([6, 6, 6, 6])),
    ]
}

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![
        5 => trusted_ip().prop_map(Link::Trusted),
        2 => untrusted_ip().prop_map(Link::Untrusted),
        1 => "unknown|[g-z.:\"]{1,12}|_hidden|203\\.0\\.113\\.7/32|010\\.0\\.0\\.1".prop_map(Link::Unreadable),
    ]
}

fn chain() -> impl Strategy<Value = Vec<Link>> {
    proptest::collection::vec(link(), 0..20)
}

fn joined(chain: &[Link]) -> String {
    chain.iter().map(Link::text).collect::<Vec<_>>().join(", ")
}

/// The walk as one would write it without limits, laziness and text.
fn oracle(peer: IpAddr, chain: &[Link]) -> (Option<IpAddr>, Reason, usize) {
    let mut at = peer;
    for (verified, link) in chain.iter().rev().enumerate() {
        match link {
            Link::Trusted(ip) => at = *ip,
            Link::Untrusted(ip) => return (Some(*ip), Reason::FirstUntrusted, verified + 1),
            Link::Unreadable(_) => return (Some(at), Reason::Malformed, verified),
        }
    }
    (Some(at), Reason::AllTrusted, chain.len())
}

/// What `HeaderValue` lets through.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no control characters", |byte| {
        *byte == b'\t' || *byte >= 32 && *byte != 127
    });
    let telling = proptest::sample::select(b",;=\"\\[]:. \t_1f".as_slice());
    proptest::collection::vec(prop_oneof![byte, telling], 0..120)
}

proptest! {
    /// (a)
    #[test]
    fn an_untrusted_peer_is_its_own_client(ip in untrusted_ip(), value in any_value(), name in "x-forwarded-for|forwarded|x-real-ip") {
        let (peer, policy) = (peer(&ip.to_string()), trusting(TRUSTED, &name));
        let headers = fields([(name.as_str(), value.as_slice())]);
        let resolution = resolve(&peer, &headers, &policy);
        prop_assert_eq!(outcome(&resolution), (Some(ip), Reason::DirectPeer, 0));
    }

    /// (b)
    #[test]
    fn nothing_in_front_changes_the_answer(chain in chain(), prefix in any_value()) {
        let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, XFF));
        let plain = lines(XFF, [joined(&chain).as_str()]);
        let value = [prefix.as_slice(), b", ", joined(&chain).as_bytes()].concat();
        let prefixed = fields([(XFF, value.as_slice())]);
        let before = resolve(&peer, &plain, &policy);
        prop_assume!(!matches!(before.reason(), Reason::AllTrusted | Reason::HopLimit));
        prop_assert_eq!(outcome(&resolve(&peer, &prefixed, &policy)), outcome(&before));
    }

    /// (c), and everything else that the walk says about chains within the limits.
    #[test]
    fn the_walk_agrees_with_the_plain_one(chain in chain()) {
        let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, XFF));
        let headers = lines(XFF, [joined(&chain).as_str()]);
        let resolution = resolve(&peer, &headers, &policy);
        prop_assert_eq!(outcome(&resolution), oracle(addr("10.0.0.1").ip(), &chain));
        let read = &chain[chain.len() - resolution.verified()..];
        let untrusted_was_read = read.iter().any(|link| matches!(link, Link::Untrusted(_)));
        let client = resolution.client().addr().expect("an address");
        prop_assert_eq!(untrusted_was_read, policy.rule_for(client, &ForwardingField::XForwardedFor).is_none());
    }

    /// (d)
    #[test]
    fn lines_are_as_good_as_commas(chain in chain(), breaks in proptest::collection::vec(any::<bool>(), 20)) {
        let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, XFF));
        let mut split = vec![String::new()];
        for (index, link) in chain.iter().enumerate() {
            match split.last_mut() {
                Some(line) if index > 0 && !breaks[index] => {
                    line.push(',');
                    line.push_str(&link.text());
                }
                Some(line) if index == 0 => *line += &link.text(),
                _ => split.push(link.text()),
            }
        }
        let together = lines(XFF, [joined(&chain).as_str()]);
        let apart = lines(XFF, split.iter().map(String::as_str));
        prop_assert_eq!(outcome(&resolve(&peer, &apart, &policy)), outcome(&resolve(&peer, &together, &policy)));
    }

    /// (e)
    #[test]
    fn white_space_and_empty_elements_mean_nothing(chain in chain(), gaps in proptest::collection::vec("[ \t]{0,3}(,[ \t]{0,2}){0,3}", 21)) {
        let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, XFF));
        let mut loose = gaps[0].clone();
        for (link, gap) in chain.iter().zip(&gaps[1..]) {
            loose.extend([link.text().as_str(), ",", gap]);
        }
        let tight = lines(XFF, [joined(&chain).as_str()]);
        let loose = lines(XFF, [loose.as_str()]);
        prop_assert_eq!(outcome(&resolve(&peer, &loose, &policy)), outcome(&resolve(&peer, &tight, &policy)));
    }

    /// (f)
    #[test]
    fn a_canonical_chain_comes_out_as_it_went_in(trusted in proptest::collection::vec(trusted_ip(), 0..10), client in untrusted_ip()) {
        let (peer, policy) = (peer("10.0.0.1"), trusting(TRUSTED, XFF));
        let believed: Vec<String> = [client].iter().chain(&trusted).map(IpAddr::to_string).collect();
        let value = believed.join(", ");
        let headers = lines(XFF, [value.as_str()]);
        let resolution = resolve(&peer, &headers, &policy);
        let sent = sent(&resolution, &headers, &EmitPolicy::default());
        let expected = format!("{value}, 10.0.0.1");
        prop_assert_eq!(sent.value("X-Forwarded-For"), Some(expected.as_str()));
    }

    /// (g)
    #[test]
    fn the_next_proxy_finds_the_same_client(
        chain in chain(),
        from in prop_oneof![trusted_ip(), untrusted_ip()],
        mode in proptest::sample::select(vec![
            emit::XForwardedFor::Append(Prior::Verified),
            emit::XForwardedFor::Append(Prior::Full(UntrustedPrior::Drop)),
            emit::XForwardedFor::Append(Prior::Full(UntrustedPrior::Keep)),
            emit::XForwardedFor::Replace,
        ]),
    ) {
        let (peer, policy) = (peer(&from.to_string()), trusting(TRUSTED, XFF));
        let headers = lines(XFF, [joined(&chain).as_str()]);
        let options = EmitOptions { x_forwarded_for: mode, forwarded: emit::Forwarded::Append, ..EmitOptions::default() };
        let resolution = resolve(&peer, &headers, &policy);
        let sent = sent(&resolution, &headers, &EmitPolicy::new(options, [&policy]));
        let ours = super::super::tests::support::peer("192.0.2.1");
        let known = [TRUSTED, &["192.0.2.1"]].concat();
        for name in ["X-Forwarded-For", "Forwarded", "X-Real-IP"] {
            let headers = lines(name, [sent.value(name).expect("sent")]);
            let policy = trusting(&known, name);
            prop_assert_eq!(resolve(&ours, &headers, &policy).client(), resolution.client(), "{}", name);
        }
    }

    /// Names mean the same in any case, and whichever version of HTTP they came in.
    #[test]
    fn spelling_changes_nothing(
        from in prop_oneof![trusted_ip(), untrusted_ip()],
        field in proptest::sample::select(vec![XFF, "forwarded", "x-real-ip"]),
        sent_fields in proptest::collection::vec((
            proptest::sample::select(vec![XFF, "forwarded", "x-real-ip", "x-forwarded-proto", "x-forwarded-host", "x_forwarded_for", "cf-connecting-ip"]),
            "(for=)?(203\\.0\\.113\\.7|10\\.0\\.0\\.5|https|a\\.test)(, 10\\.0\\.0\\.5)?",
        ), 0..6),
        upper in any::<u64>(),
    ) {
        let spelt = |name: &str| -> String {
            let letters = name.chars().enumerate();
            letters.map(|(at, letter)| if upper >> at & 1 == 1 { letter.to_ascii_uppercase() } else { letter }).collect()
        };
        let (peer, policy) = (peer(&from.to_string()), trusting(TRUSTED, field));
        let received = fields(sent_fields.iter().map(|(name, value)| (*name, value.as_bytes())));
        let shouted: Vec<_> = sent_fields.iter().map(|(name, value)| (spelt(name), value)).collect();
        let shouted = fields(shouted.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        let of_a_map = Fields::from(received.to_map(|_| true));
        let emit_policy = EmitPolicy::new(EmitOptions { forwarded: emit::Forwarded::Append, ..EmitOptions::default() }, [&policy]);
        let told = |fields: &Fields| {
            let resolution = resolve(&peer, fields, &policy);
            let forged = emit_policy.forged(&resolution).into_iter();
            let mut forged: Vec<_> = forged.map(<[u8]>::to_ascii_lowercase).collect();
            forged.sort();
            (outcome(&resolution), sent(&resolution, fields, &emit_policy).0, forged)
        };
        prop_assert_eq!(told(&shouted), told(&received));
        prop_assert_eq!(told(&of_a_map), told(&received));
    }

    /// (h)
    #[test]
    fn no_bytes_panic_or_are_read_beyond_the_limits(values in proptest::collection::vec(any_value(), 0..4), name in "x-forwarded-for|forwarded|x-real-ip") {
        let (peer, policy) = (peer("10.0.0.1"), trusting(&["0.0.0.0/0", "::/0"], &name).with_max_hops(NonZeroU16::MIN));
        let headers = fields(values.iter().map(|value| (name.as_str(), value.as_slice())));
        let resolution = resolve(&peer, &headers, &policy);
        prop_assert!(resolution.verified() <= 1);
        let options = EmitOptions {
            x_forwarded_for: emit::XForwardedFor::Append(Prior::Full(UntrustedPrior::Keep)),
            forwarded: emit::Forwarded::Append,
            sent: super::super::SentField::ALL.to_vec(),
            ..EmitOptions::default()
        };
        let policy = EmitPolicy::new(options, [&policy]);
        sent(&resolution, &headers, &policy);
        let shown = super::super::explain::explain(&resolution, &policy, None).to_string();
        prop_assert!(shown.is_ascii());
    }
}
