use proptest::prelude::*;

use super::*;

/// Fields that were received like this.
pub(crate) fn received<'t, N: AsRef<str>, V: AsRef<[u8]> + ?Sized + 't>(
    fields: impl IntoIterator<Item = (N, &'t V)>,
) -> Fields {
    let fields = fields.into_iter();
    in_a_head(fields.map(|(name, value)| (name, ": ", value)))
}

/// The same, with what stands between name and value.
fn in_a_head<'t, N: AsRef<str>, V: AsRef<[u8]> + ?Sized + 't>(
    lines: impl IntoIterator<Item = (N, &'static str, &'t V)>,
) -> Fields {
    let (mut head, mut found) = (Vec::new(), Vec::new());
    for (name, between, value) in lines {
        let (name, value) = (name.as_ref(), value.as_ref());
        let name_begins = head.len();
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(between.as_bytes());
        let value_begins = head.len();
        head.extend_from_slice(value);
        found.push(Line {
            name: name_begins..name_begins + name.len(),
            value: value_begins..head.len(),
            is_usual: between == ": ",
        });
        head.extend_from_slice(b"\r\n");
    }
    Fields::received(head.into(), found)
}

fn text(fields: &Fields) -> String {
    let mut out = Vec::new();
    fields.write(&mut out, |_, _| true);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_was_received_goes_on_as_it_was_spelt() {
    let fields = in_a_head([
        ("ETag", ": ", "1"),
        ("X-Own", ":", "2"),
        ("x-own", ":\t ", ""),
        ("Via", ": ", ""),
    ]);
    assert_eq!(text(&fields), "ETag: 1\r\nX-Own: 2\r\nx-own: \r\nVia: \r\n");
    let mut out = Vec::new();
    fields.write(&mut out, |name, value| name != b"Via" && value != b"1");
    assert_eq!(out, b"X-Own: 2\r\nx-own: \r\n");
}

proptest! {
    #[test]
    fn what_is_written_together_is_what_is_written_one_by_one(
        lines in proptest::collection::vec(("[A-Za-z-]{1,12}", proptest::sample::select(vec![": ", ":", ":  ", ":\t"]), "[!-~]{0,9}"), 0..12),
        wanted in proptest::collection::vec(any::<bool>(), 12),
    ) {
        let fields = in_a_head(lines.iter().map(|(name, between, value)| (name, *between, value)));
        let mut choice = wanted.iter();
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        fields.write(&mut out, |_, _| *choice.next().unwrap());
        for ((name, _, value), _) in lines.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
            write(&mut expected, name.as_bytes(), value.as_bytes());
        }
        prop_assert_eq!(out, expected);
    }
}

#[test]
fn names_are_the_same_in_any_case() {
    let mut fields = in_a_head([
        ("X-Own", ": ", "1"),
        ("ETag", ": ", "2"),
        ("x-oWN", ": ", "3"),
    ]);
    let name = HeaderName::from_static("x-own");
    assert!(fields.get_all(&name).eq([b"1", b"3"]));
    assert_eq!(fields.get(&header::ETAG), Some(&b"2"[..]));
    assert!(!fields.contains(&header::DATE));
    fields.insert(name.clone(), HeaderValue::from_static("4"));
    fields.insert(header::DATE, HeaderValue::from_static("5"));
    assert_eq!(text(&fields), "ETag: 2\r\nx-own: 4\r\ndate: 5\r\n");
    fields.insert(name.clone(), HeaderValue::from_static("6"));
    assert_eq!(fields.len(), 3);
    fields.remove(&name);
    fields.remove(&header::ETAG);
    assert_eq!(text(&fields), "date: 5\r\n");
    fields.retain(|name| name != b"date");
    assert!(fields.is_empty());
}

#[test]
fn a_map_holds_the_same() {
    let mut fields = in_a_head([
        ("X-Own", ": ", "1"),
        ("ETag", ": ", "2"),
        ("x-own", ": ", "3"),
    ]);
    fields.insert(header::DATE, HeaderValue::from_static("4"));
    let map = fields.to_map(|_| true);
    let own: Vec<_> = map.get_all("x-own").iter().collect();
    assert_eq!(own, ["1", "3"]);
    assert_eq!(
        (map.len(), &map[header::ETAG], &map[header::DATE]),
        (4, &"2".parse().unwrap(), &"4".parse().unwrap())
    );
    let fields = Fields::from(map);
    assert_eq!(fields.len(), 4);
    assert!(
        fields
            .get_all(&HeaderName::from_static("x-own"))
            .eq([b"1", b"3"])
    );
    assert_eq!(fields.get(&header::DATE), Some(&b"4"[..]));
}

#[test]
fn a_usual_name_is_the_one_that_is_spelt() {
    for name in [
        "Host",
        "Date",
        "ETag",
        "Vary",
        "Accept",
        "Cookie",
        "Server",
        "Referer",
        "Connection",
        "User-Agent",
        "Set-Cookie",
        "Content-Type",
        "Accept-Ranges",
        "Authorization",
        "Cache-Control",
        "Last-Modified",
        "Content-Length",
        "Accept-Encoding",
        "Accept-Language",
        "Content-Encoding",
        "Transfer-Encoding",
        "Range",
        "Origin",
        "If-None-Match",
        "If-Modified-Since",
        "Upgrade-Insecure-Requests",
        "Priority",
        "X-Real-IP",
        "Sec-CH-UA",
        "X-Request-ID",
        "Sec-Fetch-Site",
        "Sec-Fetch-Mode",
        "Sec-Fetch-Dest",
        "Sec-Fetch-User",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Requested-With",
        "X-Forwarded-Proto",
        "Sec-CH-UA-Mobile",
        "Sec-CH-UA-Platform",
    ] {
        for spelt in [name.to_owned(), name.to_lowercase()] {
            let usual = usual_name(spelt.as_bytes()).expect(name);
            assert_eq!(usual.as_str(), name.to_lowercase());
        }
    }
    for name in ["HOST", "hos", "hosts", "content\rlength", ""] {
        assert_eq!(usual_name(name.as_bytes()), None, "{name:?}");
    }
}
