use proptest::prelude::*;

use super::*;

fn set(blocks: &[&str]) -> IpSet {
    IpSet::from_networks(blocks.iter().map(|block| block.parse().expect(block)))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

#[test]
fn overlapping_and_adjacent_blocks_become_one_range() {
    let blocks = set(&["10.1.0.0/16", "10.0.0.0/16", "10.0.0.0/24", "10.9.0.0/16"]);
    assert_eq!(
        *blocks.v4,
        [(0x0a00_0000, 0x0a01_ffff), (0x0a09_0000, 0x0a09_ffff)]
    );
}

#[test]
fn both_ends_of_a_block_are_in_it_and_their_neighbours_are_not() {
    let blocks = set(&["198.51.100.0/24", "2001:db8:cd::/48"]);
    for inside in [
        "198.51.100.0",
        "198.51.100.255",
        "2001:db8:cd::",
        "2001:db8:cd:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert!(blocks.contains(ip(inside)), "{inside}");
    }
    for outside in [
        "198.51.99.255",
        "198.51.101.0",
        "2001:db8:cc:ffff::",
        "2001:db8:ce::",
        "0.0.0.0",
        "::",
    ] {
        assert!(!blocks.contains(ip(outside)), "{outside}");
    }
}

#[test]
fn the_ends_of_the_address_space_merge_without_overflow() {
    let all = set(&["128.0.0.0/1", "0.0.0.0/1", "::/0"]);
    assert_eq!(*all.v4, [(0, u32::MAX)]);
    assert!(all.contains(ip("255.255.255.255")) && all.contains(ip("ffff::")));
}

#[test]
fn mapped_addresses_are_ipv4_in_blocks_and_in_questions() {
    assert!(set(&["10.0.0.0/8"]).contains(ip("::ffff:10.1.2.3")));
    assert_eq!(set(&["::ffff:10.0.0.0/104"]), set(&["10.0.0.0/8"]));
    assert_eq!(set(&["::ffff:10.0.0.1/128"]), set(&["10.0.0.1/32"]));
}

#[test]
fn the_ipv6_world_holds_no_ipv4_address() {
    let world = set(&["::/0"]);
    assert!(!world.contains(ip("203.0.113.7")) && !world.contains(ip("::ffff:203.0.113.7")));
}

#[test]
fn embedded_ipv4_other_than_mapped_is_not_folded() {
    let blocks = set(&["203.0.113.0/24"]);
    for text in ["::203.0.113.7", "64:ff9b::203.0.113.7", "2002:cb00:7107::"] {
        assert!(!blocks.contains(ip(text)), "{text}");
    }
}

#[test]
fn entry_is_reported_as_written() {
    let peers = PeerSet::parse(&["private", "203.0.113.0/24", "2001:db8::1"]).expect("valid");
    for (address, entry) in [
        ("192.168.1.1", Some("preset private")),
        ("203.0.113.9", Some("203.0.113.0/24")),
        ("2001:db8::1", Some("2001:db8::1")),
        ("8.8.8.8", None),
    ] {
        assert_eq!(peers.entry_for(ip(address)), entry, "{address}");
    }
}

#[test]
fn unix_peers_are_named_by_unix_alone() {
    let world = PeerSet::parse(&["0.0.0.0/0", "::/0"]).expect("valid");
    assert!(!world.contains_peer(&SocketPeer::Unix));
    let unix = PeerSet::parse(&["unix"]).expect("valid");
    assert!(
        unix.contains_peer(&SocketPeer::Unix) && unix.addresses().is_empty() && !unix.is_empty()
    );
}

#[test]
fn unusable_entries_are_named_with_the_remedy() {
    for (entry, message) in [
        (
            "10.0.0.5/8",
            "entry 2: `10.0.0.5/8` has host bits set: write `10.0.0.0/8`, or the address alone",
        ),
        ("10.0.0.0/33", "is not a CIDR block"),
        ("fe80::1%eth0", "is not a CIDR block"),
        ("010.0.0.1", "is not a CIDR block"),
        (
            "Private",
            "a preset (loopback, private, link_local, cgnat, cloudflare, fastly, google_lb)",
        ),
        ("", "is not a CIDR block"),
    ] {
        let error = PeerSet::parse(&["private", entry]).expect_err(entry);
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.index, 1);
    }
}

#[test]
fn world_is_seen_in_pieces_too() {
    for (entries, world) in [
        (&["0.0.0.0/0"] as &[&str], true),
        (&["0.0.0.0/1", "128.0.0.0/1"], true),
        (&["10.0.0.0/8", "::/0"], true),
        (&["2000::/3"], true),
        (&["0.0.0.0/1", "128.0.0.0/2"], false),
        (&["private", "cloudflare"], false),
        (&[], false),
    ] {
        assert_eq!(
            PeerSet::parse(entries).expect("valid").is_world(),
            world,
            "{entries:?}"
        );
    }
}

fn network() -> impl Strategy<Value = IpNet> {
    // Few distinct addresses, so that blocks meet.
    prop_oneof![
        (0u32..64, 24u8..=32).prop_map(|(bits, prefix)| {
            IpNet::new(
                IpAddr::V4(Ipv4Addr::from_bits(0xcb00_7100 | bits << 2)),
                prefix,
            )
            .expect("prefix fits")
        }),
        (0u128..64, 120u8..=128).prop_map(|(bits, prefix)| {
            IpNet::new(IpAddr::V6((0xffff_cb00_7100 | bits << 2).into()), prefix)
                .expect("prefix fits")
        }),
        (0u128..64, 120u8..=128).prop_map(|(bits, prefix)| {
            IpNet::new(IpAddr::V6((0x2001_0db8 << 96 | bits << 2).into()), prefix)
                .expect("prefix fits")
        }),
    ]
}

proptest! {
    #[test]
    fn agrees_with_asking_every_block(networks in proptest::collection::vec(network(), 0..12), bits in 0u32..256) {
        let set = IpSet::from_networks(networks.clone());
        let v4 = Ipv4Addr::from_bits(0xcb00_7100 | bits);
        let v6 = IpAddr::V6((0x2001_0db8 << 96 | u128::from(bits)).into());
        let in_v4 = networks.iter().any(|net| net.contains(&IpAddr::V4(v4)) || net.contains(&IpAddr::V6(v4.to_ipv6_mapped())));
        prop_assert_eq!(set.contains(IpAddr::V4(v4)), in_v4);
        prop_assert_eq!(set.contains(IpAddr::V6(v4.to_ipv6_mapped())), in_v4);
        prop_assert_eq!(set.contains(v6), networks.iter().any(|net| net.contains(&v6)));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _outcome = PeerSet::parse(&[text]);
    }
}

#[test]
fn sets_are_compared() {
    let set = |texts: &[&str]| IpSet::from_networks(texts.iter().map(|text| block(text).unwrap()));
    let private = set(&["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]);
    for (other, is_within, meets) in [
        (&["10.1.0.0/16"][..], true, true),
        (&["10.1.0.0/16", "fd00:1::/32", "192.168.0.1"], true, true),
        (&["10.1.0.0/16", "11.0.0.0/8"], false, true),
        (&["8.0.0.0/6"], false, true),
        (&["11.0.0.0/8", "fe00::/9"], false, false),
        (&["::ffff:10.0.0.0/104"], true, true),
        (&[], true, false),
    ] {
        let other = set(other);
        assert_eq!(private.contains_all(&other), is_within, "{other:?}");
        assert_eq!(private.meets(&other), meets, "{other:?}");
        assert_eq!(other.meets(&private), meets, "{other:?}");
    }
}

#[test]
fn a_block_is_one_range() {
    assert_eq!(block("10.0.0.1"), Ok("10.0.0.1/32".parse().unwrap()));
    assert_eq!(block("::ffff:10.0.0.1"), Ok("10.0.0.1/32".parse().unwrap()));
    assert_eq!(block("fd00::/8"), Ok("fd00::/8".parse().unwrap()));
    assert_eq!(block("private"), Err(ParseCause::NotAnEntry));
    assert!(matches!(block("10.0.0.1/8"), Err(ParseCause::HostBits(_))));
}
