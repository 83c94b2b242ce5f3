use std::num::{NonZeroU8, NonZeroU16};

use super::super::tests::support::{fields, lines, local, peer, proxied, rule, trusting};
use super::super::{Depth, EmitOptions, OnMalformed, resolve};
use super::*;
use crate::fields::Fields;

fn page(peer: &Peer, headers: &Fields, trust: &TrustPolicy) -> String {
    explain(
        &resolve(peer, headers, trust),
        &EmitPolicy::new(EmitOptions::default(), [trust]),
        None,
    )
    .to_string()
}

fn expect(shown: &str, lines: &[&str]) {
    assert_eq!(shown.lines().collect::<Vec<_>>(), lines, "\n{shown}");
}

#[test]
fn a_chain_is_explained_hop_by_hop() {
    let trust = trusting(&["private", "203.0.113.0/24"], "X-Forwarded-For");
    let headers = lines("x-forwarded-for", ["6.6.6.6, 198.51.100.7, 10.0.0.5"]);
    let expected = "\
client address   198.51.100.7      first untrusted hop
found in         X-Forwarded-For, entry 2 of 3

  203.0.113.9    peer of the TCP connection      trusted: 203.0.113.0/24
  10.0.0.5       entry 3, added by 203.0.113.9   trusted: preset private
  198.51.100.7   entry 2, added by 10.0.0.5      not trusted -> this is the client
  6.6.6.6        entry 1, claimed by the client  ignored: nobody trusted vouches for it

sent upstream    X-Forwarded-For: 198.51.100.7, 10.0.0.5, 203.0.113.9
                 X-Real-IP: 198.51.100.7";
    assert_eq!(page(&peer("203.0.113.9"), &headers, &trust), expected);
}

#[test]
fn an_untrusted_peers_fields_are_named_as_removed() {
    let headers = fields([
        ("x-forwarded-for", b"6.6.6.6".as_slice()),
        ("x-real-ip", b"6.6.6.6"),
        ("accept", b"*/*"),
    ]);
    expect(
        &page(
            &peer("203.0.113.9"),
            &headers,
            &trusting(&["private"], "X-Forwarded-For"),
        ),
        &[
            "client address   203.0.113.9       the peer itself: no rule trusts it",
            "found in         the TCP connection",
            "",
            "  203.0.113.9    peer of the TCP connection  not trusted -> this is the client",
            "",
            "removed          x-forwarded-for, x-real-ip: the peer is not trusted",
            "",
            "sent upstream    X-Forwarded-For: 203.0.113.9",
            "                 X-Real-IP: 203.0.113.9",
        ],
    );
}

#[test]
fn an_unreadable_entry_is_shown_where_the_walk_stops() {
    let headers = lines("x-forwarded-for", ["203.0.113.7, <x>\u{e9}, 10.0.0.5"]);
    expect(
        &page(
            &peer("10.0.0.1"),
            &headers,
            &trusting(&["private"], "X-Forwarded-For"),
        ),
        &[
            "client address   10.0.0.5          nearest verified hop, not the client: the next entry can't be read",
            "found in         X-Forwarded-For, entry 3 of 3",
            "",
            "  10.0.0.1       peer of the TCP connection          trusted: preset private",
            "  10.0.0.5       entry 3, added by 10.0.0.1          trusted: preset private",
            "  <x>\\xc3\\xa9    entry 2, added by 10.0.0.5          not an address -> the walk stops here",
            "  203.0.113.7    entry 1, left of an unreadable one  ignored: nobody trusted vouches for it",
            "",
            "sent upstream    X-Forwarded-For: 10.0.0.5, 10.0.0.1",
            "                 X-Real-IP: 10.0.0.5",
        ],
    );
}

#[test]
fn a_refused_request_sends_nothing_upstream() {
    let trust = trusting(&["private"], "X-Forwarded-For").with_on_malformed(OnMalformed::Reject);
    let shown = page(
        &peer("10.0.0.1"),
        &lines("x-forwarded-for", ["unknown"]),
        &trust,
    );
    assert!(
        shown.ends_with("\nsent upstream    nothing: answered with 400"),
        "{shown}"
    );
}

#[test]
fn the_hop_limit_is_shown_where_reading_stops() {
    let trust = trusting(&["private"], "X-Forwarded-For").with_max_hops(NonZeroU16::MIN);
    let headers = lines("x-forwarded-for", ["203.0.113.7, 10.0.0.6, 10.0.0.5"]);
    expect(
        &page(&peer("10.0.0.1"), &headers, &trust),
        &[
            "client address   10.0.0.5          nearest verified hop, not the client: more entries than the limits allow",
            "found in         X-Forwarded-For, entry 3 of 3",
            "",
            "  10.0.0.1       peer of the TCP connection  trusted: preset private",
            "  10.0.0.5       entry 3, added by 10.0.0.1  trusted: preset private",
            "  10.0.0.6       entry 2, beyond the limits  ignored: not read",
            "  203.0.113.7    entry 1, beyond the limits  ignored: not read",
            "",
            "sent upstream    X-Forwarded-For: 10.0.0.5, 10.0.0.1",
            "                 X-Real-IP: 10.0.0.5",
        ],
    );
}

#[test]
fn a_chain_of_trusted_hops_ends_with_its_outermost() {
    let headers = lines("x-forwarded-for", ["192.168.1.1, 10.0.0.5"]);
    expect(
        &page(
            &peer("10.0.0.1"),
            &headers,
            &trusting(&["private"], "X-Forwarded-For"),
        ),
        &[
            "client address   192.168.1.1       outermost hop: all of them are trusted",
            "found in         X-Forwarded-For, entry 1 of 2",
            "",
            "  10.0.0.1       peer of the TCP connection  trusted: preset private",
            "  10.0.0.5       entry 2, added by 10.0.0.1  trusted: preset private",
            "  192.168.1.1    entry 1, added by 10.0.0.5  trusted: preset private -> outermost hop, taken for the client",
            "",
            "sent upstream    X-Forwarded-For: 192.168.1.1, 10.0.0.5, 10.0.0.1",
            "                 X-Real-IP: 192.168.1.1",
        ],
    );
}

#[test]
fn a_trusted_peer_without_a_field_is_its_own_client() {
    expect(
        &page(
            &peer("10.0.0.1"),
            &Fields::default(),
            &trusting(&["private"], "X-Forwarded-For"),
        ),
        &[
            "client address   10.0.0.1          the peer itself: it is trusted, but named nobody",
            "found in         the TCP connection",
            "",
            "  10.0.0.1       peer of the TCP connection  trusted: preset private -> outermost hop, taken for the client",
            "",
            "sent upstream    X-Forwarded-For: 10.0.0.1",
            "                 X-Real-IP: 10.0.0.1",
        ],
    );
}

#[test]
fn the_source_of_a_proxy_header_stands_behind_its_balancer() {
    let headers = lines("x-forwarded-for", ["203.0.113.7"]);
    expect(
        &page(
            &proxied("127.10.0.1", "10.9.9.9"),
            &headers,
            &trusting(&["private"], "X-Forwarded-For"),
        ),
        &[
            "client address   203.0.113.7       first untrusted hop",
            "found in         X-Forwarded-For, entry 1 of 1",
            "",
            "  127.10.0.1     peer of the TCP connection      its PROXY header was accepted",
            "  10.9.9.9       source in its PROXY header, v2  trusted: preset private",
            "  203.0.113.7    entry 1, added by 10.9.9.9      not trusted -> this is the client",
            "",
            "sent upstream    X-Forwarded-For: 203.0.113.7, 10.9.9.9",
            "                 X-Real-IP: 203.0.113.7",
        ],
    );
}

#[test]
fn a_single_address_field_has_no_entry_number() {
    let headers = lines("cf-connecting-ip", ["2001:db8:0:1:2:3:4:5"]);
    expect(
        &page(
            &peer("173.245.48.1"),
            &headers,
            &trusting(&["cloudflare"], "CF-Connecting-IP"),
        ),
        &[
            "client address   2001:db8:0:1:2:3:4:5   first untrusted hop",
            "found in         CF-Connecting-IP",
            "",
            "  173.245.48.1           peer of the TCP connection      trusted: preset cloudflare",
            "  2001:db8:0:1:2:3:4:5   entry 1, added by 173.245.48.1  not trusted -> this is the client",
            "",
            "sent upstream    X-Forwarded-For: 2001:db8:0:1:2:3:4:5, 173.245.48.1",
            "                 X-Real-IP: 2001:db8:0:1:2:3:4:5",
        ],
    );
}

#[test]
fn a_repeated_single_address_is_told_from_an_unreadable_one() {
    let headers = lines("x-real-ip", ["203.0.113.7", "203.0.113.8"]);
    let shown = page(
        &peer("10.0.0.1"),
        &headers,
        &trusting(&["private"], "X-Real-IP"),
    );
    assert!(
        shown.contains("  203.0.113.8    entry 2, added by 10.0.0.1          not the only value"),
        "{shown}"
    );
}

#[test]
fn an_obfuscated_party_is_told_from_an_unreadable_one() {
    let headers = lines("forwarded", ["for=203.0.113.7, for=_secret"]);
    let shown = page(
        &peer("10.0.0.1"),
        &headers,
        &trusting(&["private"], "Forwarded"),
    );
    assert!(
        shown.contains("  for=_secret       entry 2, added by 10.0.0.1          hides its address"),
        "{shown}"
    );
}

#[test]
fn a_hop_trusted_for_another_field_is_told_from_a_stranger() {
    let trust = TrustPolicy::by_rules(
        vec![
            rule(&["private"], "X-Forwarded-For"),
            rule(&["cloudflare"], "CF-Connecting-IP"),
        ],
        Depth::Full,
    );
    let headers = lines("x-forwarded-for", ["203.0.113.7, 173.245.48.1"]);
    let shown = page(&peer("10.0.0.1"), &headers, &trust);
    assert!(
        shown.contains("trusted for CF-Connecting-IP only -> this is the client"),
        "{shown}"
    );
}

#[test]
fn counted_hops_are_numbered() {
    let count = NonZeroU8::new(2).expect("not zero");
    let trust = TrustPolicy::by_hops(count, ForwardingField::XForwardedFor);
    let shown = page(
        &peer("192.0.2.1"),
        &lines("x-forwarded-for", ["203.0.113.7, 192.0.2.2"]),
        &trust,
    );
    assert!(
        shown.contains("  192.0.2.1      peer of the TCP connection   trusted: hop 1 of 2\n"),
        "{shown}"
    );
    assert!(
        shown.contains("  192.0.2.2      entry 2, added by 192.0.2.1  trusted: hop 2 of 2\n"),
        "{shown}"
    );
    let shown = page(
        &peer("192.0.2.1"),
        &lines("x-forwarded-for", ["203.0.113.7"]),
        &trust,
    );
    assert!(
        shown.contains("the peer itself: fewer entries than trusted hops"),
        "{shown}"
    );
}

#[test]
fn a_unix_peer_has_no_address() {
    expect(
        &page(&peer("unix"), &Fields::default(), &TrustPolicy::nobody()),
        &[
            "client address   unknown           the peer itself: no rule trusts it",
            "found in         nothing: a Unix socket has no address",
            "",
            "  unknown        peer on a Unix socket  not trusted -> this is the client",
            "",
            "sent upstream    nothing about the client",
        ],
    );
    let headers = lines("x-forwarded-for", ["203.0.113.7"]);
    let shown = page(
        &peer("unix"),
        &headers,
        &trusting(&["unix"], "X-Forwarded-For"),
    );
    assert!(
        shown.contains("trusted: unix\n") && shown.contains("entry 1, added by the peer"),
        "{shown}"
    );
}

#[test]
fn many_ignored_entries_are_counted_instead_of_listed() {
    let headers = lines(
        "x-forwarded-for",
        [format!("{}203.0.113.7", "6.6.6.6,".repeat(20)).as_str()],
    );
    let trust = trusting(&["private"], "X-Forwarded-For");
    let from = peer("10.0.0.1");
    let explanation = explain(
        &resolve(&from, &headers, &trust),
        &EmitPolicy::default(),
        None,
    );
    assert_eq!((explanation.hops.len(), explanation.unlisted), (18, 4));
    assert!(
        explanation
            .to_string()
            .contains("\n  and 4 more entries further left\n")
    );
}

#[test]
fn client_chosen_text_is_escaped_and_cut() {
    assert_eq!(printable(b"a\tb\"\xff\x1b"), "a\\tb\\\"\\xff\\x1b");
    let long = printable(&[b'x'; 65]);
    assert_eq!(long, format!("{}...", "x".repeat(61)));
    assert_eq!(printable(&[b'x'; 64]), "x".repeat(64));
    assert!(printable(&[0xff; 40]).len() <= 64);
}

#[test]
fn with_a_connection_every_field_sent_is_shown() {
    let (from, trust) = (peer("203.0.113.9"), TrustPolicy::nobody());
    let headers = Fields::default();
    let resolution = resolve(&from, &headers, &trust);
    let host: Option<&[u8]> = Some(b"a.test");
    let explanation = explain(&resolution, &EmitPolicy::default(), Some((host, &local())));
    let names: Vec<&str> = explanation.sent.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "X-Forwarded-For",
            "X-Real-IP",
            "X-Forwarded-Proto",
            "X-Forwarded-Port",
            "X-Forwarded-Host"
        ]
    );
}

#[test]
fn addresses_may_be_shown_otherwise_and_what_is_configured_stays() {
    let trust = trusting(&["private"], "X-Forwarded-For");
    let headers = lines("x-forwarded-for", ["6.6.6.6, 198.51.100.7, 10.0.0.5"]);
    let peer = peer("10.0.0.1");
    let policy = EmitPolicy::new(EmitOptions::default(), [&trust]);
    let explanation = explain(&resolve(&peer, &headers, &trust), &policy, None);
    let hidden = explanation.with_addresses(|text| "x".repeat(text.len().min(3)));
    expect(
        &hidden.to_string(),
        &[
            "client address   xxx               first untrusted hop",
            "found in         X-Forwarded-For, entry 2 of 3",
            "",
            "  xxx            peer of the TCP connection      trusted: preset private",
            "  xxx            entry 3, added by xxx           trusted: preset private",
            "  xxx            entry 2, added by xxx           not trusted -> this is the client",
            "  xxx            entry 1, claimed by the client  ignored: nobody trusted vouches for it",
            "",
            "sent upstream    X-Forwarded-For: xxx",
            "                 X-Real-IP: xxx",
        ],
    );
}

#[test]
fn a_line_says_the_same_in_short() {
    let trust = trusting(&["private"], "X-Forwarded-For");
    let policy = EmitPolicy::new(EmitOptions::default(), [&trust]);
    let line = |headers: &Fields| {
        let peer = peer("10.0.0.1");
        explain(&resolve(&peer, headers, &trust), &policy, None).line()
    };
    assert_eq!(
        line(&lines("x-forwarded-for", ["6.6.6.6\t\u{e9}, 198.51.100.7"])),
        "198.51.100.7 (first_untrusted, header:x-forwarded-for); \
         10.0.0.1: peer of the TCP connection, trusted: preset private; \
         198.51.100.7: entry 2, added by 10.0.0.1, not trusted -> this is the client; \
         6.6.6.6\\t\\xc3\\xa9: entry 1, claimed by the client, ignored: nobody trusted vouches for it"
    );
    let long = "a".repeat(100) + &", \u{fe}b".repeat(200) + &", 10.0.0.2".repeat(60);
    let long = line(&lines("x-forwarded-for", [&*long]));
    assert!(long.len() <= 1024 && long.ends_with("..."), "{long}");
    assert!(long.bytes().all(|byte| matches!(byte, b' '..=b'~')));
}
