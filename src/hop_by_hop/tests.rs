use http::header::CONNECTION;
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::fields::tests::received;

fn fields(lines: Lines) -> Fields {
    received(lines.iter().copied())
}

/// Names and values of a message's fields.
type Lines = &'static [(&'static str, &'static str)];

fn name(text: &str) -> HeaderName {
    text.parse().unwrap()
}

#[test]
fn connection_scoped_fields_go_unasked() {
    for hop_by_hop in [
        HopByHop::of_request(&Fields::default()),
        HopByHop::of_response(&Fields::default()),
    ] {
        for scoped in CONNECTION_SCOPED {
            assert!(hop_by_hop.removes(name(scoped)), "{scoped}");
        }
    }
}

#[test]
fn end_to_end_fields_stay() {
    let headers = fields(&[("connection", "keep-alive, Upgrade, close")]);
    let kept = [
        "host",
        "content-length",
        "trailer",
        "accept",
        "x-own",
        "alt-svc",
        "date",
    ];
    for end_to_end in kept {
        assert!(
            !HopByHop::of_request(&headers).removes(name(end_to_end)),
            "{end_to_end}"
        );
    }
}

#[test]
fn nominated_fields_go() {
    let lists: [Lines; 5] = [
        &[("connection", "x-own")],
        &[("connection", "close, X-OWN")],
        &[("connection", "keep-alive"), ("connection", "x-own")],
        &[("connection", ",,\tx-own\t,close")],
        &[("connection", "close;x=1, x-own")],
    ];
    for lines in lists {
        let headers = fields(lines);
        assert!(
            HopByHop::of_request(&headers).removes(name("x-own")),
            "{lines:?}"
        );
        assert!(
            HopByHop::of_response(&headers).removes(name("x-own")),
            "{lines:?}"
        );
        assert!(
            !HopByHop::of_request(&headers).removes(name("x-ow")),
            "{lines:?}"
        );
    }
}

#[test]
fn identity_credentials_and_framing_cannot_be_nominated() {
    let never = [
        "Host",
        "Content-Length",
        "Authorization",
        "Cookie",
        "Forwarded",
        "X-Real-IP",
        "X-Forwarded-For",
        "x-forwarded-anything",
        "X-Original-Forwarded-For",
        "CF-Connecting-IP",
        "x_forwarded_for",
        "x.real_ip",
    ];
    for nominated in never {
        let mut headers = Fields::default();
        headers.insert(CONNECTION, HeaderValue::from_static(nominated));
        let hop_by_hop = HopByHop::of_request(&headers);
        if let Ok(name) = nominated.parse::<HeaderName>() {
            assert!(!hop_by_hop.removes(&name), "{nominated}");
        }
        assert!(
            hop_by_hop.removes(CONNECTION),
            "the nomination itself never travels"
        );
    }
}

#[test]
fn ordinary_options_take_no_memory() {
    let headers = fields(&[
        ("connection", "Keep-Alive, close, Upgrade, HTTP2-Settings"),
        ("connection", "TE, X-Forwarded-For, host"),
    ]);
    assert_eq!(HopByHop::of_request(&headers).nominated.capacity(), 0);
}

#[test]
fn proxy_is_removed_from_requests_alone() {
    assert!(HopByHop::of_request(&Fields::default()).removes(name("proxy")));
    assert!(!HopByHop::of_response(&Fields::default()).removes(name("proxy")));
}

#[test]
fn a_response_keeps_what_is_end_to_end() {
    for (lines, kept) in [
        (&[("etag", "1"), ("date", "2")][..], &["etag", "date"][..]),
        (
            &[
                ("connection", "close"),
                ("etag", "1"),
                ("keep-alive", "timeout=5"),
                ("upgrade", "h2c"),
                ("te", ""),
                ("http2-settings", ""),
                ("proxy-connection", "keep-alive"),
                ("proxy-authenticate", "Basic"),
            ],
            &["etag"],
        ),
        (
            &[
                ("x-own", "1"),
                ("connection", "X-Own, etag, content-length"),
                ("etag", "1"),
                ("content-length", "2"),
                ("x-owner", "1"),
            ],
            &["content-length", "x-owner"],
        ),
    ] {
        let mut fields = fields(lines);
        strip_response(&mut fields);
        let names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
        let kept: Vec<_> = kept.iter().map(|name| name.as_bytes()).collect();
        assert_eq!(names, kept);
    }
}

#[test]
fn reads_close_and_upgrade_in_any_case_and_on_any_line() {
    let cases: [(Lines, (bool, bool)); 6] = [
        (&[], (false, false)),
        (&[("connection", "Close")], (true, false)),
        (&[("connection", "keep-alive, Upgrade")], (false, true)),
        (
            &[("connection", "upgrade"), ("connection", "close")],
            (true, true),
        ),
        (&[("connection", "closed, up grade")], (false, false)),
        (
            &[("upgrade", "websocket"), ("proxy-connection", "close")],
            (false, false),
        ),
    ];
    for (lines, expected) in cases {
        let headers = fields(lines);
        let hop_by_hop = HopByHop::of_request(&headers);
        assert_eq!(
            (hop_by_hop.close(), hop_by_hop.upgrade()),
            expected,
            "{lines:?}"
        );
    }
}

#[test]
fn tells_whether_trailers_are_accepted() {
    let cases: [(Lines, bool); 5] = [
        (&[("te", "trailers")], true),
        (&[("te", "gzip;q=0.5, Trailers")], true),
        (&[("te", "gzip"), ("te", "trailers")], true),
        (&[("te", "gzip;x=trailers")], false),
        (&[("trailer", "trailers")], false),
    ];
    for (lines, expected) in cases {
        let headers = fields(lines);
        assert_eq!(
            HopByHop::of_request(&headers).accepts_trailers(),
            expected,
            "{lines:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_connection_line_removes_what_tells_who_the_client_is(line in "[ -~\t]{0,60}") {
        let mut headers = Fields::default();
        headers.insert(CONNECTION, HeaderValue::from_str(&line).unwrap());
        let hop_by_hop = HopByHop::of_request(&headers);
        for protected in NEVER_NOMINATED {
            prop_assert!(!hop_by_hop.removes(name(protected)));
        }
    }

    #[test]
    fn any_other_name_goes_when_nominated(
        nominated in "x-own-[a-z0-9]{1,8}",
        before in "[a-z, ]{0,9}",
    ) {
        let mut headers = Fields::default();
        let line = format!("{before},{nominated}");
        headers.insert(CONNECTION, HeaderValue::from_str(&line).unwrap());
        prop_assert!(HopByHop::of_request(&headers).removes(name(&nominated)));
    }
}
