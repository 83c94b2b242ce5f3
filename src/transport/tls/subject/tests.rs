use proptest::prelude::*;

use super::*;

const CN: &str = "2.5.4.3";
const OU: &str = "2.5.4.11";
const DC: &str = "0.9.2342.19200300.100.1.25";
const UID: &str = "0.9.2342.19200300.100.1.1";

/// An element in DER.
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut element = vec![tag];
    match u8::try_from(length) {
        Ok(short @ ..=0x7f) => element.push(short),
        Ok(long) => element.extend([0x81, long]),
        Err(_) => {
            element.push(0x82);
            element.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    element.extend(contents);
    element
}

fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u128> = dotted.split('.').map(|arc| arc.parse().unwrap()).collect();
    let first = arcs[0] * 40 + arcs[1];
    let mut contents = Vec::new();
    for mut arc in std::iter::once(first).chain(arcs[2..].iter().copied()) {
        let mut groups = vec![u8::try_from(arc & 0x7f).unwrap()];
        while arc > 0x7f {
            arc >>= 7;
            groups.push(u8::try_from(arc & 0x7f).unwrap() | 0x80);
        }
        contents.extend(groups.iter().rev());
    }
    element(OBJECT_IDENTIFIER, &contents)
}

fn attribute(kind: &str, tag: u8, contents: &[u8]) -> Vec<u8> {
    element(SEQUENCE, &[oid(kind), element(tag, contents)].concat())
}

fn utf8(kind: &str, value: &str) -> Vec<u8> {
    attribute(kind, UTF8_STRING, value.as_bytes())
}

/// A name of these parts, in the order of the certificate.
fn name(parts: &[Vec<u8>]) -> Vec<u8> {
    parts.iter().flat_map(|part| element(SET, part)).collect()
}

/// The text of a name with one common name of this kind and these bytes.
fn common_name(tag: u8, contents: &[u8]) -> String {
    render(&name(&[attribute(CN, tag, contents)])).unwrap()
}

#[test]
fn the_examples_of_rfc_4514_come_out_as_they_stand_there() {
    let example_net = |specific: Vec<u8>| {
        let dc = |value: &str| attribute(DC, IA5_STRING, value.as_bytes());
        name(&[dc("net"), dc("example"), specific])
    };
    for (name, text) in [
        (
            example_net(utf8(UID, "jsmith")),
            "UID=jsmith,DC=example,DC=net",
        ),
        (
            example_net([utf8(OU, "Sales"), utf8(CN, "J.  Smith")].concat()),
            "OU=Sales+CN=J.  Smith,DC=example,DC=net",
        ),
        (
            example_net(utf8(CN, "James \"Jim\" Smith, III")),
            r#"CN=James \"Jim\" Smith\, III,DC=example,DC=net"#,
        ),
        (
            example_net(utf8(CN, "Before\rAfter")),
            r"CN=Before\0DAfter,DC=example,DC=net",
        ),
        (
            name(&[attribute("1.3.6.1.4.1.1466.0", 4, b"Hi")]),
            "1.3.6.1.4.1.1466.0=#04024869",
        ),
        (
            name(&[utf8(CN, "Lu\u{10d}i\u{107}")]),
            r"CN=Lu\C4\8Di\C4\87",
        ),
    ] {
        assert_eq!(render(&name).as_deref(), Ok(text));
    }
}

#[test]
fn every_name_of_the_table_is_known() {
    for (kind, name_of_it) in [
        (CN, "CN"),
        ("2.5.4.7", "L"),
        ("2.5.4.8", "ST"),
        ("2.5.4.10", "O"),
        (OU, "OU"),
        ("2.5.4.6", "C"),
        ("2.5.4.9", "STREET"),
        (DC, "DC"),
        (UID, "UID"),
    ] {
        let text = render(&name(&[utf8(kind, "x")])).unwrap();
        assert_eq!(text, format!("{name_of_it}=x"));
    }
}

#[test]
fn other_attributes_are_numbers_and_digits() {
    for (kind, text) in [
        // An address in the subject, as old certificates have it.
        (
            "1.2.840.113549.1.9.1",
            "1.2.840.113549.1.9.1=#0C0561406220C3",
        ),
        ("2.5.4.5", "2.5.4.5=#0C0561406220C3"),
        // A UUID: the longest number there is.
        (
            "2.25.340282366920938463463374607431768211455",
            "2.25.340282366920938463463374607431768211455=#0C0561406220C3",
        ),
        ("2.999.1", "2.999.1=#0C0561406220C3"),
        ("1.39.0", "1.39.0=#0C0561406220C3"),
        ("0.39", "0.39=#0C0561406220C3"),
    ] {
        let attribute = attribute(kind, UTF8_STRING, b"a@b \xc3");
        assert_eq!(render(&name(&[attribute])).as_deref(), Ok(text));
    }
}

#[test]
fn what_would_be_misread_is_escaped() {
    for (value, text) in [
        ("", "CN="),
        (" ", r"CN=\20"),
        ("  ", r"CN=\20\20"),
        (" a b ", r"CN=\20a b\20"),
        ("#a#", r"CN=\#a#"),
        ("a=b", "CN=a=b"),
        (r#"\"+,;<>"#, r#"CN=\\\"\+\,\;\<\>"#),
        ("a,O=Evil", r"CN=a\,O=Evil"),
        ("a\r\nX-Real-IP: 6.6.6.6", r"CN=a\0D\0AX-Real-IP: 6.6.6.6"),
        ("\0\t\u{7f}\u{80}\u{feff}", r"CN=\00\09\7F\C2\80\EF\BB\BF"),
        ("\u{1f600}", r"CN=\F0\9F\98\80"),
    ] {
        assert_eq!(
            common_name(UTF8_STRING, value.as_bytes()),
            text,
            "{value:?}"
        );
    }
}

#[test]
fn every_kind_of_string_is_read() {
    for (tag, contents) in [
        (UTF8_STRING, &b"a b"[..]),
        (NUMERIC_STRING, b"a b"),
        (PRINTABLE_STRING, b"a b"),
        (TELETEX_STRING, b"a b"),
        (IA5_STRING, b"a b"),
        (VISIBLE_STRING, b"a b"),
        (BMP_STRING, b"\0a\0 \0b"),
        (UNIVERSAL_STRING, b"\0\0\0a\0\0\0 \0\0\0b"),
    ] {
        assert_eq!(common_name(tag, contents), "CN=a b", "{tag}");
    }
    assert_eq!(common_name(BMP_STRING, b"\x01\x0d"), r"CN=\C4\8D");
    assert_eq!(
        common_name(UNIVERSAL_STRING, b"\0\x01\xf6\0"),
        r"CN=\F0\9F\98\80"
    );
}

#[test]
fn what_is_no_text_of_its_kind_stands_there_in_digits() {
    for (tag, contents, text) in [
        (UTF8_STRING, &b"\xff"[..], "CN=#0C01FF"),
        // An overlong slash.
        (UTF8_STRING, b"\xc0\xaf", "CN=#0C02C0AF"),
        (PRINTABLE_STRING, b"\xe4", "CN=#1301E4"),
        (TELETEX_STRING, b"\xe4", "CN=#1401E4"),
        (BMP_STRING, b"a", "CN=#1E0161"),
        // Half of a surrogate pair.
        (BMP_STRING, b"\xd8\x3d", "CN=#1E02D83D"),
        (UNIVERSAL_STRING, b"\0\x11\0\0", "CN=#1C0400110000"),
        (0x02, b"\x01", "CN=#020101"),
        (SEQUENCE, b"", "CN=#3000"),
    ] {
        assert_eq!(common_name(tag, contents), text);
    }
}

#[test]
fn an_empty_name_is_an_empty_text() {
    assert_eq!(render(b"").as_deref(), Ok(""));
}

#[test]
fn what_is_no_name_is_refused() {
    let good = utf8(CN, "a");
    let with_oid = |contents: &[u8]| {
        let attribute = [element(OBJECT_IDENTIFIER, contents), element(12, b"a")].concat();
        element(SET, &element(SEQUENCE, &attribute))
    };
    for (what, bytes) in [
        ("no element", vec![SET]),
        ("cut short", name(std::slice::from_ref(&good))[..9].to_vec()),
        ("an attribute without its set", good.clone()),
        ("an empty set", element(SET, b"")),
        (
            "no identifier",
            element(SET, &element(SEQUENCE, &element(12, b"a"))),
        ),
        ("no value", element(SET, &element(SEQUENCE, &oid(CN)))),
        (
            "more than a value",
            element(
                SET,
                &element(
                    SEQUENCE,
                    &[oid(CN), element(12, b"a"), element(12, b"b")].concat(),
                ),
            ),
        ),
        (
            "a long length that is short",
            [&[SET, 0x81, 14][..], &good].concat(),
        ),
        (
            "an indefinite length",
            [&[SET, 0x80][..], &good, &[0, 0]].concat(),
        ),
        ("a tag of two bytes", name(&[attribute(CN, 0x1f, b"")])),
        ("an empty identifier", with_oid(b"")),
        ("an identifier that goes on", with_oid(&[0x2a, 0x86])),
        (
            "an identifier with leading zeroes",
            with_oid(&[0x2a, 0x80, 1]),
        ),
        ("an identifier beyond all bounds", with_oid(&[0xff; 20])),
    ] {
        assert_eq!(render(&bytes), Err(Error::Malformed), "{what}");
    }
}

#[test]
fn a_text_may_be_as_long_as_the_limit() {
    let of_length = |length: usize| render(&name(&[utf8(CN, &"x".repeat(length - 3))]));
    assert_eq!(of_length(MAX_BYTES).unwrap().len(), MAX_BYTES);
    assert_eq!(of_length(MAX_BYTES + 1), Err(Error::TooLong));
}

#[test]
fn a_certificates_subject_is_told() {
    let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::OrganizationName, "Example, Inc.");
    subject.push(rcgen::DnType::CommonName, "client");
    params.distinguished_name = subject;
    let certificate = params.self_signed(&key).unwrap();
    let value = of(certificate.der()).unwrap().unwrap();
    assert_eq!(value, r"CN=client,O=Example\, Inc.");

    params.distinguished_name = rcgen::DistinguishedName::new();
    let certificate = params.self_signed(&key).unwrap();
    assert_eq!(of(certificate.der()), Ok(None));
    assert_eq!(of(&CertificateDer::from(&b"0"[..])), Err(Error::Malformed));
}

/// Reads a text back (RFC 4514 §3): the parts in the order of the text, with values unescaped.
fn read(text: &str) -> Vec<Vec<(String, Vec<u8>)>> {
    let mut parts = vec![Vec::new()];
    let mut rest = text.bytes().peekable();
    loop {
        let kind: Vec<u8> = std::iter::from_fn(|| rest.next_if(|byte| *byte != b'=')).collect();
        assert_eq!(rest.next(), Some(b'='));
        let mut value = Vec::new();
        while let Some(byte) = rest.next_if(|byte| !b"+,".contains(byte)) {
            let escaped = if byte == b'\\' { rest.next() } else { None };
            value.push(match escaped {
                None => byte,
                Some(digit) if digit.is_ascii_hexdigit() => {
                    let digits = [digit, rest.next().unwrap()];
                    u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                Some(special) => special,
            });
        }
        let part = parts.last_mut().unwrap();
        part.push((String::from_utf8(kind).unwrap(), value));
        match rest.next() {
            None => return parts,
            Some(b',') => parts.push(Vec::new()),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_make_a_field_value_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(text) = render(&bytes) {
            prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(text.trim(), &text);
        }
    }

    #[test]
    fn what_was_written_reads_back(
        parts in proptest::collection::vec(proptest::collection::vec(any::<String>(), 1..3), 1..4),
    ) {
        let sets: Vec<Vec<u8>> = parts
            .iter()
            .map(|values| values.iter().flat_map(|value| utf8(CN, value)).collect())
            .collect();
        let text = render(&name(&sets));
        prop_assume!(text != Err(Error::TooLong));
        let text = text.unwrap();
        prop_assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert!(!text.ends_with(' '));
        let expected: Vec<Vec<_>> = parts
            .iter()
            .rev()
            .map(|values| {
                values.iter().map(|value| ("CN".to_owned(), value.clone().into_bytes())).collect()
            })
            .collect();
        prop_assert_eq!(read(&text), expected);
    }
}
