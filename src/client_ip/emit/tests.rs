use std::num::NonZeroU16;

use http::HeaderName;
use proptest::prelude::*;

use super::super::tests::support::{Sent, fields, lines, local, peer, sent, trusting};
use super::super::{TrustPolicy, resolve};
use super::*;

fn name(text: &str) -> HeaderName {
    HeaderName::from_bytes(text.as_bytes()).expect(text)
}

#[test]
fn managed_names_and_their_twins_are_removed_from_everybody() {
    let policy = EmitPolicy::default();
    for text in [
        "X-Forwarded-For",
        "x_forwarded_for",
        "x.forwarded-for",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Scheme",
        "X-Forwarded-Server",
        "X-Forwarded-Prefix",
        "X-Forwarded-Uri",
        "X-Forwarded-Method",
        "X-Forwarded-Ssl",
        "X-Scheme",
        "X-Real-IP",
        "X_Real_IP",
        "Forwarded",
        "X-Original-Forwarded-For",
        "X-Original-Forwarded-Host",
    ] {
        assert!(
            policy.removes(text, false) && policy.removes(text, true),
            "{text}"
        );
    }
}

#[test]
fn stripped_names_are_removed_from_untrusted_peers() {
    let policy = EmitPolicy::default();
    for text in [
        "Client-IP",
        "True-Client-IP",
        "X-Client-IP",
        "X-Cluster-Client-IP",
        "CF-Connecting-IP",
        "CF-Connecting-IPv6",
        "Fastly-Client-IP",
        "Fly-Client-IP",
        "X-Azure-ClientIP",
        "X-Azure-SocketIP",
        "X-Originating-IP",
        "X-Envoy-External-Address",
        "X-AppEngine-User-IP",
    ] {
        assert!(policy.removes(text, false), "{text}");
        assert!(!policy.removes(text, true), "{text}");
        let twin = text.replace('-', "_");
        assert!(
            policy.removes(&twin, false) && policy.removes(&twin, true),
            "{twin}"
        );
    }
}

#[test]
fn other_names_pass() {
    let policy = EmitPolicy::default();
    for text in [
        "host",
        "accept",
        "cookie",
        "connection",
        "x",
        "forwarde",
        "forwardedd",
        "x-forwarded",
        "x-forwarded-fo",
        "x-forwarded-forr",
        "xx-real-ip",
        "x-real-id",
        "client-id",
        "x-original-uri",
        "1",
        "_",
    ] {
        assert!(!policy.removes(text, false), "{text}");
    }
}

#[test]
fn names_sent_and_names_of_rules_are_looked_after() {
    let options = EmitOptions {
        sent: vec![SentField::XOriginalUri],
        strip: vec![name("x_account")],
        managed: vec![name("x-subject")],
        ..EmitOptions::default()
    };
    let policy = EmitPolicy::new(options, [&trusting(&["private"], "X-Edge-Client")]);
    for (text, from_untrusted, from_trusted) in [
        ("x-original-uri", true, true),
        ("x_original_uri", true, true),
        ("x-subject", true, true),
        ("x_subject", true, true),
        ("x.subject", true, true),
        ("x-edge-client", true, false),
        ("X-EDGE-client", true, false),
        ("x.edge.client", true, true),
        ("x_account", true, false),
        ("x-account", true, true),
        ("true-client-ip", false, false),
    ] {
        assert_eq!(policy.removes(text, false), from_untrusted, "{text}");
        assert_eq!(policy.removes(text, true), from_trusted, "{text}");
    }
}

#[test]
fn forged_names_are_those_an_untrusted_peer_sent_in_vain() {
    let (policy, trust) = (
        EmitPolicy::default(),
        trusting(&["10.0.0.0/8"], "X-Forwarded-For"),
    );
    let headers = fields([
        ("X-Forwarded-For", b"6.6.6.6".as_slice()),
        ("Accept", b"*/*"),
        ("X_REAL_ip", b"6.6.6.6"),
        ("x-forwarded-for", b"6.6.6.7"),
    ]);
    for (from, forged) in [
        ("203.0.113.7", "X-Forwarded-For X_REAL_ip"),
        ("10.0.0.1", ""),
    ] {
        let peer = peer(from);
        let resolution = resolve(&peer, &headers, &trust);
        assert_eq!(policy.forged(&resolution).join(&b' '), forged.as_bytes());
    }
}

#[test]
fn a_forged_name_counts_once_however_often_it_was_sent() {
    let (peer, policy, trust) = (
        peer("203.0.113.7"),
        EmitPolicy::default(),
        TrustPolicy::nobody(),
    );
    let fields = fields((0..200).map(|number| {
        let spelt = ["X-Real-IP", "x-real-ip", "Forwarded", "X-REAL_IP"];
        (spelt[number % 4], b"6.6.6.6".as_slice())
    }));
    assert_eq!(
        policy.forged(&resolve(&peer, &fields, &trust)),
        [&b"X-Real-IP"[..], b"Forwarded", b"X-REAL_IP"]
    );
}

#[test]
fn names_to_send_are_known_in_any_case_and_no_others() {
    assert_eq!(
        SentField::parse("x-forwarded-PORT"),
        Some(SentField::XForwardedPort)
    );
    assert_eq!(
        SentField::parse("x-original-uri"),
        Some(SentField::XOriginalUri)
    );
    assert_eq!(SentField::parse("x-forwarded-for"), None);
}

#[test]
fn originals_keep_the_end_that_the_nearest_hops_wrote() {
    let trust = trusting(&["10.0.0.0/8"], "X-Forwarded-For");
    let options = EmitOptions {
        sent: vec![SentField::XOriginalForwardedFor],
        ..EmitOptions::default()
    };
    let policy = EmitPolicy::new(options, [&trust]);
    let long = vec!["203.0.113.7"; 500].join(",");
    let headers = lines("x-forwarded-for", [long.as_str(), "10.0.0.5"]);
    let peer = peer("10.0.0.1");
    let sent = sent(&resolve(&peer, &headers, &trust), &headers, &policy);
    let original = sent.value("X-Original-Forwarded-For").expect("sent");
    assert!(original.len() <= 2048 && original.len() > 2000);
    assert!(original.starts_with("203.0.113.7,") && original.ends_with(",203.0.113.7, 10.0.0.5"));
}

#[test]
fn a_peer_on_a_unix_socket_adds_nothing() {
    let (peer, headers) = (peer("unix"), lines("x-forwarded-for", ["6.6.6.6"]));
    let local = LocalEnd {
        scheme: Scheme::Https,
        port: None,
        address: None,
    };
    let policy = EmitPolicy::new(
        EmitOptions {
            forwarded: Forwarded::Replace,
            ..EmitOptions::default()
        },
        [],
    );
    let mut written = Sent::default();
    emit_constant(&peer, &local, &policy, &mut written);
    emit_varying(&peer, &headers, None, &local, &policy, &mut written);
    assert_eq!(
        written.0,
        [
            ("X-Forwarded-Proto", "https".to_owned()),
            ("Forwarded", "for=unknown;proto=https".to_owned())
        ]
    );
}

#[test]
fn our_end_is_as_the_balancer_in_front_knows_it() {
    let end = LocalEnd::new(
        Scheme::Http,
        Some(([127, 0, 0, 1], 8080).into()),
        NonZeroU16::new(80),
    );
    assert_eq!((end.scheme, end.port), (Scheme::Http, Some(80)));
    for (port, tls, scheme, shown) in [
        (80, None, Scheme::Http, 80),
        (443, None, Scheme::Https, 443),
        (443, Some(false), Scheme::Http, 443),
        (8443, Some(true), Scheme::Https, 8443),
        (0, None, Scheme::Http, 80),
    ] {
        let end = end.behind_balancer(([192, 0, 2, 1], port).into(), tls);
        assert_eq!(
            (end.scheme, end.port),
            (scheme, Some(shown)),
            "{port} {tls:?}"
        );
    }
    let own_tls = LocalEnd::new(Scheme::Https, None, None)
        .behind_balancer(([192, 0, 2, 1], 80).into(), Some(false));
    assert_eq!(own_tls.scheme, Scheme::Https);
}

fn options() -> impl Strategy<Value = EmitOptions> {
    let modes = prop_oneof![
        Just(XForwardedFor::Append(Prior::Verified)),
        Just(XForwardedFor::Append(Prior::Full(UntrustedPrior::Drop))),
        Just(XForwardedFor::Append(Prior::Full(UntrustedPrior::Keep))),
        Just(XForwardedFor::Replace),
        Just(XForwardedFor::Preserve),
        Just(XForwardedFor::Off),
    ];
    let forwarded = prop_oneof![
        Just(Forwarded::Off),
        Just(Forwarded::Append),
        Just(Forwarded::Replace)
    ];
    let sent = proptest::sample::subsequence(SentField::ALL.to_vec(), 0..=9);
    (modes, forwarded, sent).prop_map(|(x_forwarded_for, forwarded, sent)| EmitOptions {
        x_forwarded_for,
        forwarded,
        sent,
        ..EmitOptions::default()
    })
}

proptest! {
    #[test]
    fn a_direct_peers_fields_can_be_written_in_two_parts(options in options(), value in "[ -~]{0,40}") {
        let (peer, policy) = (peer("203.0.113.7"), EmitPolicy::new(options, []));
        let names = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];
        let headers = fields(names.map(|name| (name, value.as_bytes())));
        let trust = TrustPolicy::nobody();
        let whole = sent(&resolve(&peer, &headers, &trust), &headers, &policy);
        let mut parts = Sent::default();
        emit_constant(&peer, &local(), &policy, &mut parts);
        emit_varying(&peer, &headers, Some(b"app.example.test"), &local(), &policy, &mut parts);
        prop_assert_eq!(whole.0, parts.0);
    }

    #[test]
    fn whatever_is_written_is_removed_from_requests(options in options(), trusted: bool) {
        let policy = EmitPolicy::new(options, []);
        let (from, trust) = (peer("10.0.0.1"), trusting(&["10.0.0.0/8"], "X-Forwarded-For"));
        let headers = lines("x-forwarded-for", ["203.0.113.7"]);
        for (field, _) in sent(&resolve(&from, &headers, &trust), &headers, &policy).0 {
            prop_assert!(policy.removes(field, trusted), "{}", field);
        }
    }
}
