use std::net::SocketAddr;

use proptest::prelude::*;

use super::DecodeError as Error;
use super::*;

const TCP4: &[u8] = b"\xcb\x00\x71\x32\x7f\x0a\x00\x01\x9c\x41\x01\xbb";
const TCP4_SOURCE: &str = "203.0.113.50:40001";
const TCP4_DESTINATION: &str = "127.10.0.1:443";

fn v2(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap();
    let mut bytes = V2_SIGNATURE.to_vec();
    bytes.extend_from_slice(&[version_and_command, family]);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(block);
    bytes
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&[kind][..], &length.to_be_bytes(), value].concat()
}

fn v2_with_tlvs(tlvs: &[Vec<u8>]) -> Vec<u8> {
    v2(V2_PROXY, FAMILY_TCP4, &[TCP4, &tlvs.concat()].concat())
}

/// A header whose last extension is its checksum.
fn v2_with_checksum(tlvs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = v2_with_tlvs(&[tlvs.concat(), tlv(TLV_CRC32C, &[0; 4])]);
    let sum = crc32c(&bytes, &(0..0));
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn header(input: &[u8]) -> Header {
    match decode(input) {
        Ok(Decoded::Complete { header, .. }) => header,
        other => panic!("{input:?}: {other:?}"),
    }
}

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// The address whose text is longest.
const ALL_ONES: &str = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";

fn tcp6_block(source: &str, destination: &str) -> Vec<u8> {
    let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    [&ip(source)[..], &ip(destination), b"\x9c\x41\x01\xbb"].concat()
}

/// Every accepted form, with the addresses it stands for.
fn accepted() -> Vec<(Vec<u8>, Option<Addresses>)> {
    let tcp4 = Some(addresses(TCP4_SOURCE, TCP4_DESTINATION));
    let tcp6 = Some(addresses("[2001:db8::50]:40001", "[2001:db8::1]:443"));
    let v6 = tcp6_block("2001:db8::50", "2001:db8::1");
    let mapped = tcp6_block("::ffff:203.0.113.50", "::ffff:127.10.0.1");
    let half_mapped = Some(addresses(TCP4_SOURCE, "[2001:db8::1]:443"));
    let edges = Some(addresses("0.0.0.0:0", "255.255.255.255:65535"));
    let all_ones = format!("[{ALL_ONES}]:65535");
    let longest = format!("PROXY TCP6 {ALL_ONES} {ALL_ONES} 65535 65535\r\n").into_bytes();
    let unknown_107 = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 91], b"\r\n"].concat();
    vec![
        (
            b"PROXY TCP4 203.0.113.50 127.10.0.1 40001 443\r\n".to_vec(),
            tcp4,
        ),
        (
            b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".to_vec(),
            edges,
        ),
        (
            b"PROXY TCP6 2001:db8::50 2001:DB8:0::1 40001 443\r\n".to_vec(),
            tcp6,
        ),
        (longest, Some(addresses(&all_ones, &all_ones))),
        (
            b"PROXY TCP6 ::ffff:203.0.113.50 ::ffff:127.10.0.1 40001 443\r\n".to_vec(),
            tcp4,
        ),
        (
            b"PROXY TCP6 ::ffff:203.0.113.50 2001:db8::1 40001 443\r\n".to_vec(),
            half_mapped,
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (
            b"PROXY UNKNOWN 6.6.6.6 127.10.0.1 40001 443\r\n".to_vec(),
            None,
        ),
        (b"PROXY UNKNOWN \xff\x00 TCP4 ?\r\n".to_vec(), None),
        (unknown_107, None),
        (v2(V2_PROXY, FAMILY_TCP4, TCP4), tcp4),
        (v2(V2_PROXY, FAMILY_TCP6, &v6), tcp6),
        (v2(V2_PROXY, FAMILY_TCP6, &mapped), tcp4),
        (v2_with_tlvs(&[tlv(0x04, &[0; 4096 - 12 - 3])]), tcp4),
        (v2(V2_PROXY, FAMILY_UNSPEC, b""), None),
        (v2(V2_PROXY, FAMILY_UNSPEC, TCP4), None),
        (v2(V2_LOCAL, FAMILY_UNSPEC, b""), None),
        (
            v2(
                V2_LOCAL,
                FAMILY_TCP4,
                b"\x06\x06\x06\x06\x7f\x0a\x00\x01\x9c\x41\x01\xbb",
            ),
            None,
        ),
        (v2(V2_LOCAL, 0x31, b"?"), None),
    ]
}

/// Every refused line, without its signature and line end, with the reason.
fn refused_lines() -> Vec<(&'static str, DecodeError)> {
    vec![
        ("TCP4 2001:db8::50 2001:db8::1 40001 80", Error::Address),
        ("TCP6 203.0.113.50 127.10.0.1 40001 80", Error::Address),
        ("TCP6 2001:db8::50 127.10.0.1 40001 80", Error::Address),
        ("TCP6 fe80::1%eth0 2001:db8::1 40001 80", Error::Address),
        ("TCP6 [2001:db8::50] [2001:db8::1] 40001 80", Error::Address),
        ("TCP4 300.0.113.50 127.10.0.1 40001 80", Error::Address),
        ("TCP4 203.000.113.050 127.10.0.1 40001 80", Error::Address),
        ("TCP4 203.0.113 127.10.0.1 40001 80", Error::Address),
        ("TCP4 0xcb.0.113.50 127.10.0.1 40001 80", Error::Address),
        ("TCP4 203.0.113.50 127.10.0.1 70000 80", Error::Port),
        ("TCP4 203.0.113.50 127.10.0.1 +1000 80", Error::Port),
        ("TCP4 203.0.113.50 127.10.0.1 -1 80", Error::Port),
        ("TCP4 203.0.113.50 127.10.0.1 40001 080", Error::Port),
        ("TCP4 203.0.113.50 127.10.0.1 40001 00", Error::Port),
        ("TCP4 203.0.113.50 127.10.0.1 40001 ", Error::Port),
        ("TCP4 203.0.113.50 127.10.0.1 40001", Error::Fields),
        ("TCP4 203.0.113.50 127.10.0.1 40001 80 ", Error::Fields),
        ("TCP4  203.0.113.50 127.10.0.1 40001 80", Error::Fields),
        ("TCP4\t203.0.113.50 127.10.0.1 40001 80", Error::Protocol),
        ("TCP4", Error::Fields),
        ("tcp4 203.0.113.50 127.10.0.1 40001 80", Error::Protocol),
        ("UDP4 203.0.113.50 127.10.0.1 40001 80", Error::Protocol),
        ("UNKNOWNX", Error::Protocol),
        (" TCP4 203.0.113.50 127.10.0.1 40001 80", Error::Protocol),
        ("", Error::Protocol),
        ("/ HTTP/1.1", Error::Protocol),
    ]
}

/// Every refused form, with the reason.
#[expect(clippy::too_many_lines, reason = "one table")]
fn refused() -> Vec<(Vec<u8>, DecodeError)> {
    let with_tlv_bytes = |bytes: &[u8]| v2(V2_PROXY, FAMILY_TCP4, &[TCP4, bytes].concat());
    let mut wrong_sum = v2_with_checksum(&[]);
    *wrong_sum.last_mut().unwrap() ^= 1;
    let ssl_with_broken_extension = tlv(TLV_SSL, b"\x01\0\0\0\0\x21\x00\x08TLSv1.3");
    let lines = refused_lines().into_iter();
    let lines = lines.map(|(line, error)| (format!("PROXY {line}\r\n").into_bytes(), error));
    let others = vec![
        (
            b"PROXY TCP4 \xff 127.10.0.1 40001 80\r\n".to_vec(),
            Error::Fields,
        ),
        (
            b"PROXY TCP4 203.0.113.50\r127.10.0.1 40001 80\r\n".to_vec(),
            Error::LineEnd,
        ),
        (b"PROXY UNKNOWN a\nb\r\n".to_vec(), Error::LineEnd),
        (
            b"PROXY TCP4 203.0.113.50 127.10.0.1 40001 80\n".to_vec(),
            Error::LineEnd,
        ),
        (
            [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\n"].concat(),
            Error::LineTooLong,
        ),
        (
            [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 93]].concat(),
            Error::LineTooLong,
        ),
        (v2(0x31, FAMILY_TCP4, TCP4), Error::Version(3)),
        (v2(0x01, FAMILY_TCP4, TCP4), Error::Version(0)),
        (v2(0x27, FAMILY_TCP4, TCP4), Error::Command(7)),
        (v2(V2_PROXY, 0x12, TCP4), Error::Family(0x12)),
        (v2(V2_PROXY, 0x22, &[1; 36]), Error::Family(0x22)),
        (v2(V2_PROXY, 0x31, &[1; 216]), Error::Family(0x31)),
        (v2(V2_PROXY, 0x32, &[1; 216]), Error::Family(0x32)),
        (v2(V2_PROXY, 0x71, TCP4), Error::Family(0x71)),
        (v2(V2_PROXY, 0x01, TCP4), Error::Family(0x01)),
        (v2(V2_PROXY, 0x10, TCP4), Error::Family(0x10)),
        (v2(V2_PROXY, FAMILY_TCP4, &[1; 8]), Error::BlockTooShort(8)),
        (
            v2(V2_PROXY, FAMILY_TCP4, &[1; 11]),
            Error::BlockTooShort(11),
        ),
        (
            v2(V2_PROXY, FAMILY_TCP6, &[1; 35]),
            Error::BlockTooShort(35),
        ),
        (
            v2(V2_PROXY, FAMILY_TCP4, &[0; 4097]),
            Error::BlockTooLong(4097),
        ),
        (
            v2(V2_LOCAL, FAMILY_UNSPEC, &[0; 65535]),
            Error::BlockTooLong(65535),
        ),
        (with_tlv_bytes(b"\x02\xff\xff"), Error::Tlv { offset: 28 }),
        (
            with_tlv_bytes(b"\x04\x00\x00\x02\x00"),
            Error::Tlv { offset: 31 },
        ),
        (with_tlv_bytes(b"\x02"), Error::Tlv { offset: 28 }),
        (
            v2_with_tlvs(&[tlv(TLV_CRC32C, &[0; 3])]),
            Error::Tlv { offset: 28 },
        ),
        (
            v2_with_tlvs(&[tlv(TLV_SSL, &[1; 4])]),
            Error::Tlv { offset: 28 },
        ),
        (
            v2_with_tlvs(&[ssl_with_broken_extension]),
            Error::Tlv { offset: 28 },
        ),
        (
            v2_with_tlvs(&[tlv(TLV_SSL, &[0; 5]), tlv(TLV_SSL, &[1, 0, 0, 0, 0])]),
            Error::RepeatedTlv(TLV_SSL),
        ),
        (
            v2_with_tlvs(&[tlv(TLV_AUTHORITY, b"a"), tlv(TLV_AUTHORITY, b"b")]),
            Error::RepeatedTlv(TLV_AUTHORITY),
        ),
        (wrong_sum, Error::Checksum),
    ];
    lines.chain(others).collect()
}

#[test]
fn accepts_the_forms_of_the_specification() {
    for (input, expected) in accepted() {
        let header = header(&input);
        assert_eq!(header.addresses, expected, "{input:?}");
        assert_eq!(
            header.version,
            if input.starts_with(V1_SIGNATURE) {
                1
            } else {
                2
            }
        );
    }
}

#[test]
fn refuses_everything_else() {
    for (input, expected) in refused() {
        assert_eq!(decode(&input), Err(expected), "{input:?}");
    }
}

#[test]
fn asks_for_more_at_every_split() {
    let with_tlvs = [tlv(TLV_UNIQUE_ID, b"unique-1"), tlv(TLV_AWS, b"\x01vpce-0")];
    let inputs = accepted()
        .into_iter()
        .map(|(input, _)| input)
        .chain([v2_with_checksum(&with_tlvs)]);
    for input in inputs {
        for split in 0..input.len() {
            assert_eq!(
                decode(&input[..split]),
                Ok(Decoded::Incomplete),
                "{split} bytes of {input:?}"
            );
        }
    }
}

#[test]
fn leaves_the_bytes_behind_the_preamble() {
    for (input, _) in accepted() {
        let alone = decode(&input);
        assert!(
            matches!(alone, Ok(Decoded::Complete { len, .. }) if len == input.len()),
            "{input:?}"
        );
        assert_eq!(
            decode(&[&input, b"GET / HTTP/1.1\r\n".as_slice()].concat()),
            alone,
            "{input:?}"
        );
    }
}

#[test]
fn other_protocols_are_no_preamble() {
    let tls_hello = b"\x16\x03\x01\x02\x00\x01";
    let inputs: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n",
        b"PUT",
        b"PROXYX",
        b"proxy tcp4 ",
        b"\r\nGET /",
        b"\r\n\r\n\0\r\nQUIT\r",
        tls_hello,
    ];
    for input in inputs {
        assert_eq!(decode(input), Ok(Decoded::Absent), "{input:?}");
    }
}

#[test]
fn second_preamble_is_recognised_by_its_signature() {
    for (first, _) in accepted() {
        for (second, _) in accepted() {
            let both = [first.as_slice(), second.as_slice()].concat();
            let Ok(Decoded::Complete { len, .. }) = decode(&both) else {
                panic!("{both:?}")
            };
            assert!(starts_with_signature(&both[len..]));
        }
    }
    assert!(!starts_with_signature(b"PROXY"));
    assert!(!starts_with_signature(b"POST / HTTP/1.1\r\n"));
}

#[test]
fn keeps_the_extensions_that_have_a_use() {
    let input = v2_with_checksum(&[
        tlv(TLV_ALPN, b"h2"),
        tlv(TLV_AUTHORITY, b"app.example.test"),
        tlv(TLV_UNIQUE_ID, b"unique-1"),
        tlv(0x04, b"padding"),
        tlv(TLV_SSL, b"\x01\0\0\0\0\x21\x00\x07TLSv1.3"),
        tlv(0xf0, b"private"),
        tlv(TLV_AWS, b"\x01vpce-0123456789abcdef0"),
        tlv(TLV_AZURE, b"\x01\x78\x56\x34\x12"),
        tlv(TLV_GOOGLE, b"\0\0\0\0\0\0\0\x07"),
    ]);
    let expected = Tlvs {
        ssl: Some(true),
        alpn: Some(Bytes::from_static(b"h2")),
        authority: Some(Bytes::from_static(b"app.example.test")),
        unique_id: Some(Bytes::from_static(b"unique-1")),
        cloud: vec![
            (0xea, Bytes::from_static(b"\x01vpce-0123456789abcdef0")),
            (0xee, Bytes::from_static(b"\x01\x78\x56\x34\x12")),
            (0xe0, Bytes::from_static(b"\0\0\0\0\0\0\0\x07")),
        ],
    };
    assert_eq!(header(&input).tlvs, expected);
}

#[test]
fn ssl_without_client_bit_means_plain_http() {
    let without_bit = v2_with_tlvs(&[tlv(TLV_SSL, b"\x06\0\0\0\0")]);
    assert_eq!(header(&without_bit).tlvs.ssl, Some(false));
}

#[test]
fn crc32c_matches_the_published_vectors() {
    // RFC 3720 §B.4
    assert_eq!(crc32c(&[0; 32], &(0..0)), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32], &(0..0)), 0x62a8_ab43);
    assert_eq!(crc32c(b"123456789", &(0..0)), 0xe306_9283);
    assert_eq!(crc32c(&[0xff; 32], &(0..32)), 0x8a91_36aa);
}

#[test]
fn any_flipped_address_bit_breaks_the_checksum() {
    let input = v2_with_checksum(&[tlv(TLV_AUTHORITY, b"app.example.test")]);
    for bit in 8 * V2_HEADER_BYTES..8 * (V2_HEADER_BYTES + TCP4.len()) {
        let mut flipped = input.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode(&flipped), Err(DecodeError::Checksum), "bit {bit}");
    }
}

#[test]
fn encodes_v1_as_written_in_the_standard() {
    let cases = [
        (
            Some((TCP4_SOURCE, TCP4_DESTINATION)),
            "PROXY TCP4 203.0.113.50 127.10.0.1 40001 443\r\n",
        ),
        (
            Some(("[2001:db8::50]:1", "[2001:db8::1]:2")),
            "PROXY TCP6 2001:db8::50 2001:db8::1 1 2\r\n",
        ),
        (
            Some((TCP4_SOURCE, "[2001:db8::1]:443")),
            "PROXY TCP6 ::ffff:203.0.113.50 2001:db8::1 40001 443\r\n",
        ),
        (
            Some(("[::ffff:203.0.113.50]:1", "127.10.0.1:2")),
            "PROXY TCP4 203.0.113.50 127.10.0.1 1 2\r\n",
        ),
        (None, "PROXY UNKNOWN\r\n"),
    ];
    for (ends, expected) in cases {
        let mut out = Vec::new();
        encode_v1(
            ends.map(|(source, destination)| addresses(source, destination)),
            &mut out,
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn encodes_v2_as_written_in_the_standard() {
    let mut out = b"kept".to_vec();
    encode_v2(Some(addresses(TCP4_SOURCE, TCP4_DESTINATION)), &mut out);
    assert_eq!(
        out,
        [b"kept".as_slice(), &v2(V2_PROXY, FAMILY_TCP4, TCP4)].concat()
    );

    let mut out = Vec::new();
    encode_v2(None, &mut out);
    assert_eq!(out, v2(V2_LOCAL, FAMILY_UNSPEC, b""));

    let mut out = Vec::new();
    encode_v2(
        Some(addresses("203.0.113.50:40001", "[2001:db8::1]:443")),
        &mut out,
    );
    let block = tcp6_block("::ffff:203.0.113.50", "2001:db8::1");
    assert_eq!(out, v2(V2_PROXY, FAMILY_TCP6, &block));
}

#[test]
fn reasons_are_distinct_words() {
    let words: std::collections::BTreeSet<_> =
        refused().iter().map(|(_, error)| error.reason()).collect();
    assert_eq!(words.len(), 14);
    assert!(words.iter().all(|word| {
        word.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    }));
}

/// Checks one input against both other parsers: what we accept they must accept, with the same
/// addresses.
///
/// Not asked where they are known to be wrong: both want the block of a LOCAL header to fit the
/// family it names, and `ppp` hands out its addresses; `ppp` limits the words behind UNKNOWN and
/// wants them in UTF-8.
fn agrees_with_oracles(input: &[u8]) {
    let Ok(Decoded::Complete { header, len }) = decode(input) else {
        return;
    };
    let is_local = header.version == 2 && input.get(12) == Some(&V2_LOCAL);
    if is_local {
        assert_eq!(header.addresses, None);
        return;
    }

    let (theirs, their_len) =
        proxy_header::ProxyHeader::parse(input, proxy_header::ParseConfig::default()).unwrap();
    assert_eq!(their_len, len);
    let their_addresses = theirs
        .proxied_address()
        .map(|proxied| folded(proxied.source, proxied.destination));
    assert_eq!(header.addresses, their_addresses);

    let is_unknown = header.version == 1 && header.addresses.is_none();
    if !is_unknown {
        assert_eq!(header.addresses, ppp_addresses(input));
    }
}

fn ppp_addresses(input: &[u8]) -> Option<Addresses> {
    match ppp::HeaderResult::parse(input) {
        ppp::HeaderResult::V1(parsed) => match parsed.unwrap().addresses {
            ppp::v1::Addresses::Unknown => None,
            ppp::v1::Addresses::Tcp4(ip) => Some(folded(
                (ip.source_address, ip.source_port).into(),
                (ip.destination_address, ip.destination_port).into(),
            )),
            ppp::v1::Addresses::Tcp6(ip) => Some(folded(
                (ip.source_address, ip.source_port).into(),
                (ip.destination_address, ip.destination_port).into(),
            )),
        },
        ppp::HeaderResult::V2(parsed) => {
            let parsed = parsed.unwrap();
            if parsed.addresses != ppp::v2::Addresses::Unspecified {
                assert!(parsed.tlvs().all(|tlv| tlv.is_ok()));
            }
            match parsed.addresses {
                ppp::v2::Addresses::IPv4(ip) => Some(folded(
                    (ip.source_address, ip.source_port).into(),
                    (ip.destination_address, ip.destination_port).into(),
                )),
                ppp::v2::Addresses::IPv6(ip) => Some(folded(
                    (ip.source_address, ip.source_port).into(),
                    (ip.destination_address, ip.destination_port).into(),
                )),
                ppp::v2::Addresses::Unspecified | ppp::v2::Addresses::Unix(_) => None,
            }
        }
    }
}

fn folded(source: SocketAddr, destination: SocketAddr) -> Addresses {
    Addresses {
        source: canonical(source.ip(), source.port()),
        destination: canonical(destination.ip(), destination.port()),
    }
}

#[test]
fn oracles_agree_on_the_tables() {
    for (input, _) in accepted() {
        agrees_with_oracles(&input);
    }
}

fn any_socket_addr() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

/// Headers that are whole, or nearly so: a few bytes changed, inserted or removed.
fn nearly_valid() -> impl Strategy<Value = Vec<u8>> {
    let inputs: Vec<Vec<u8>> = accepted()
        .into_iter()
        .map(|(input, _)| input)
        .filter(|input| input.len() < 200)
        .collect();
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"PROXY TCP46:.0159+\r\n".to_vec())
    ];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, byte), 0..3);
    (prop::sample::select(inputs), edits).prop_map(|(mut input, edits)| {
        for (index, edit, byte) in edits {
            let at = index.index(input.len());
            match edit {
                0 => input[at] = byte,
                1 => input.insert(at, byte),
                _ => _ = input.remove(at),
            }
        }
        input
    })
}

/// Lines of words that are mostly plausible.
fn plausible_line() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "TCP4",
        "TCP6",
        "UNKNOWN",
        "10.0.0.1",
        "010.0.0.1",
        "::1",
        "::ffff:1.2.3.4",
        "80",
        "+80",
        "080",
        "65536",
        "",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 1..7)
        .prop_map(|words| format!("PROXY {}\r\n", words.join(" ")).into_bytes())
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same_addresses(
        source in any_socket_addr(),
        destination in any_socket_addr(),
    ) {
        let ends = Some(Addresses { source, destination });
        for encode in [encode_v1, encode_v2] {
            let mut out = Vec::new();
            encode(ends, &mut out);
            prop_assert_eq!(header(&out).addresses, Some(folded(source, destination)));
            agrees_with_oracles(&out);
        }
    }

    #[test]
    fn oracles_accept_whatever_is_accepted(input in prop_oneof![nearly_valid(), plausible_line()]) {
        agrees_with_oracles(&input);
    }

    #[test]
    fn more_bytes_never_change_an_answer(
        input in nearly_valid(),
        split in any::<prop::sample::Index>(),
    ) {
        let early = decode(&input[..split.index(input.len() + 1)]);
        if early != Ok(Decoded::Incomplete) {
            prop_assert_eq!(early, decode(&input));
        }
    }

    #[test]
    fn no_bytes_panic(tail in prop::collection::vec(any::<u8>(), 0..300), start in 0..3_usize) {
        let start: &[u8] = [b"".as_slice(), V1_SIGNATURE, V2_SIGNATURE][start];
        let input = [start, &tail].concat();
        if let Ok(Decoded::Complete { len, .. }) = decode(&input) {
            prop_assert!(len <= input.len().min(MAX_PREAMBLE_BYTES));
        }
    }
}
