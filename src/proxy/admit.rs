//! What is refused before anything is believed: a method, target, Host or framing that could be read in two ways.

use http::{Method, StatusCode, Version};

use crate::config::{Limits, UnderscoreHeaders};
use crate::fields::{has_underscore, is, is_in_name};
use crate::http1::decimal;
use crate::request::Request;

use super::error::Error;

/// A request that can be read in one way only.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    /// As routes and endpoints see it: an extended CONNECT is a GET to them.
    pub(super) method: &'a Method,
    /// `host[:port]` as the client wrote it; `None` only in HTTP/1.0.
    pub(super) authority: Option<&'a str>,
    /// The same without the port; empty when there is none.
    pub(super) host: &'a str,
    /// Without the query.
    pub(super) path: &'a str,
    /// What the endpoint gets as its target, in origin form or `*`.
    pub(super) target: &'a str,
    /// The body's length, when the client told it.
    pub(super) content_length: Option<u64>,
    /// The client waits for 100 Continue.
    pub(super) expects_continue: bool,
}

/// Checks a request head.
pub(super) fn check<'a>(request: &'a Request, limits: &Limits) -> Result<Admitted<'a>, Error> {
    let method = method(request)?;
    // The HTTP/1 server counts by itself.
    if request.fields.len() > limits.max_headers {
        return Err(Error::refused(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "too_many_fields",
            "the request head is too large",
        ));
    }
    let fields = Deciding::read(request, limits)?;
    fields.check_framing(request.version)?;
    let authority = authority(request, &fields)?;
    let (path, target) = target(request)?;
    if target.len() > limits.max_target_bytes {
        return Err(Error::refused(
            StatusCode::URI_TOO_LONG,
            "target_too_long",
            "the request target is too long",
        ));
    }
    Ok(Admitted {
        method,
        authority,
        host: authority.map_or("", |authority| split_port(authority).0),
        path,
        target,
        content_length: content_length(fields.content_length)?,
        expects_continue: fields.expects_continue && request.version != Version::HTTP_10,
    })
}

fn method(request: &Request) -> Result<&Method, Error> {
    match request.method {
        Method::CONNECT if request.connects_websocket => Ok(&Method::GET),
        Method::CONNECT | Method::TRACE => Err(Error::refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            "this method is not served here",
        )),
        _ => Ok(&request.method),
    }
}

/// The fields that decide how a request is read, found in one pass.
#[derive(Debug, Default)]
struct Deciding<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    expects_continue: bool,
}

impl<'a> Deciding<'a> {
    fn read(request: &'a Request, limits: &Limits) -> Result<Self, Error> {
        let rejects_underscores = limits.underscore_headers == UnderscoreHeaders::Reject;
        let mut fields = Self::default();
        request.fields.iter().try_for_each(|(name, value)| {
            if is(name, "Host") {
                once(&mut fields.host, value, "host")?;
            } else if is(name, "Content-Length") {
                once(&mut fields.content_length, value, "content_length")?;
            } else if is(name, "Transfer-Encoding") {
                once(&mut fields.transfer_encoding, value, "transfer_encoding")?;
            } else if is(name, "Expect") {
                fields.expects_continue = is(value, "100-continue");
            } else if rejects_underscores && has_underscore(name) {
                return Err(Error::bad_request("underscore_header"));
            }
            Ok(())
        })?;
        Ok(fields)
    }

    /// RFC 9112 §6.1 and §6.3: whatever could be framed in two ways is refused.
    fn check_framing(&self, version: Version) -> Result<(), Error> {
        let Some(coding) = self.transfer_encoding else {
            return Ok(());
        };
        let unambiguous = version == Version::HTTP_11
            && self.content_length.is_none()
            && coding.eq_ignore_ascii_case(b"chunked");
        if unambiguous {
            Ok(())
        } else {
            Err(Error::bad_request("transfer_encoding"))
        }
    }
}

fn once<'a>(
    slot: &mut Option<&'a [u8]>,
    value: &'a [u8],
    reason: &'static str,
) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::bad_request(reason)),
    }
}

fn content_length(value: Option<&[u8]>) -> Result<Option<u64>, Error> {
    let Some(digits) = value else {
        return Ok(None);
    };
    let length = decimal::parse(digits);
    length
        .map(Some)
        .ok_or_else(|| Error::bad_request("content_length"))
}

/// RFC 9112 §3.2, RFC 9113 §8.3.1: one host, and only one.
fn authority<'a>(request: &'a Request, fields: &Deciding<'a>) -> Result<Option<&'a str>, Error> {
    const REFUSED: &str = "host";
    let field = match fields.host {
        None => None,
        Some(value) => {
            let text = str::from_utf8(value).map_err(|_| Error::bad_request(REFUSED))?;
            Some(checked(text).ok_or_else(|| Error::bad_request(REFUSED))?)
        }
    };
    let in_target = match request.uri.authority() {
        None => None,
        Some(authority) => {
            Some(checked(authority.as_str()).ok_or_else(|| Error::bad_request(REFUSED))?)
        }
    };
    match (in_target, field) {
        // HTTP/2 has one authority; a Host field that says something else is an attack or a mistake.
        (Some(target), Some(field))
            if request.version == Version::HTTP_2 && !target.eq_ignore_ascii_case(field) =>
        {
            Err(Error::bad_request(REFUSED))
        }
        (None, None) if request.version == Version::HTTP_10 => Ok(None),
        // HTTP/1.1 demands the field even beside an absolute target.
        (_, None) if request.version == Version::HTTP_11 => Err(Error::bad_request(REFUSED)),
        (None, None) => Err(Error::bad_request(REFUSED)),
        // The target of an absolute-form request wins (RFC 9112 §3.2.2).
        (Some(authority), _) | (None, Some(authority)) => Ok(Some(authority)),
    }
}

/// `host[:port]`: a registered name of letters, digits, `-`, `.` and `_`, or an address. No user information.
fn checked(authority: &str) -> Option<&str> {
    let (host, port) = split_port(authority);
    let port_fits = port.is_none_or(|port| {
        port.len() <= 5
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && (port.is_empty() || port.parse::<u16>().is_ok())
    });
    let host_fits = match host.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(is_in_name),
    };
    (port_fits && host_fits).then_some(authority)
}

/// Splits at the colon that isn't part of an IPv6 address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let mut bytes = authority.bytes();
    let Some(end) = bytes.rposition(|byte| matches!(byte, b':' | b']')) else {
        return (authority, None);
    };
    let (host, rest) = authority.split_at_checked(end).unwrap_or_default();
    match rest.strip_prefix(':') {
        Some(port) => (host, Some(port)),
        None => (authority, None),
    }
}

fn target(request: &Request) -> Result<(&str, &str), Error> {
    const REFUSED: &str = "target";
    let Some(target) = request.uri.path_and_query() else {
        return Err(Error::bad_request(REFUSED));
    };
    let path = target.path();
    let text = match target.as_str() {
        // An absolute target may leave its path out (RFC 9112 §3.2.1).
        "" => "/",
        text => text,
    };
    let is_asterisk = text == "*" && request.method == Method::OPTIONS;
    if !(text.starts_with('/') || is_asterisk) || !text.is_ascii() {
        return Err(Error::bad_request(REFUSED));
    }
    Ok((if path.is_empty() { "/" } else { path }, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::tests::received;

    const LIMITS: Limits = Limits {
        max_header_bytes: 32 * 1024,
        max_headers: 100,
        max_connections: 10,
        max_connections_per_client: 10,
        max_handshakes_per_client: 10,
        max_target_bytes: 50,
        max_trailer_bytes: 1000,
        max_request_body: None,
        max_response_header_bytes: 1000,
        max_concurrent_streams: 10,
        underscore_headers: UnderscoreHeaders::Drop,
    };

    fn request(version: Version, uri: &str, fields: &[(&str, &str)]) -> Request {
        Request {
            version,
            uri: uri.parse().unwrap(),
            fields: received(fields.iter().copied()),
            ..Request::default()
        }
    }

    fn reason(version: Version, uri: &str, fields: &[(&str, &str)]) -> Option<&'static str> {
        check(&request(version, uri, fields), &LIMITS)
            .err()
            .map(|error| error.reason)
    }

    #[test]
    fn ambiguous_hosts_are_refused() {
        let h1 = Version::HTTP_11;
        for fields in [
            &[][..],
            &[("host", "a"), ("host", "a")],
            &[("host", "")],
            &[("host", "a b")],
            &[("host", "a,b")],
            &[("host", "user@a")],
            &[("host", "a:99999")],
            &[("host", "a:+80")],
            &[("host", "a/b")],
            &[("host", "[::1")],
            &[("host", "[fe80::1%25eth0]")],
        ] {
            assert_eq!(reason(h1, "/", fields), Some("host"), "{fields:?}");
        }
    }

    #[test]
    fn usual_hosts_are_admitted() {
        for host in [
            "a",
            "a.b:80",
            "A-b_c.example.",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:443",
            "a:",
        ] {
            assert_eq!(
                reason(Version::HTTP_11, "/", &[("host", host)]),
                None,
                "{host}"
            );
        }
    }

    #[test]
    fn the_port_is_not_part_of_the_host() {
        for (authority, host) in [
            ("a.b:80", "a.b"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a", "a"),
        ] {
            let request = request(Version::HTTP_11, "/", &[("host", authority)]);
            assert_eq!(check(&request, &LIMITS).unwrap().host, host);
        }
    }

    #[test]
    fn http10_may_come_without_a_host() {
        let request = request(Version::HTTP_10, "/", &[]);
        assert_eq!(check(&request, &LIMITS).unwrap().authority, None);
    }

    #[test]
    fn the_host_of_an_absolute_target_wins() {
        let request = request(
            Version::HTTP_11,
            "http://right.test/x?y",
            &[("host", "wrong.test")],
        );
        let admitted = check(&request, &LIMITS).unwrap();
        assert_eq!(admitted.authority, Some("right.test"));
        assert_eq!(admitted.target, "/x?y");
    }

    #[test]
    fn user_information_in_a_target_is_refused() {
        let fields = [("host", "a")];
        assert_eq!(
            reason(Version::HTTP_11, "http://u@a/", &fields),
            Some("host")
        );
    }

    #[test]
    fn http2_refuses_a_host_that_differs_from_its_authority() {
        let h2 = Version::HTTP_2;
        assert_eq!(reason(h2, "https://a/", &[("host", "b")]), Some("host"));
        assert_eq!(reason(h2, "https://a/", &[("host", "A")]), None);
        assert_eq!(reason(h2, "https://a/", &[]), None);
    }

    #[test]
    fn framing_that_reads_two_ways_is_refused() {
        let host = ("host", "a");
        for (version, fields) in [
            (
                Version::HTTP_11,
                vec![host, ("transfer-encoding", "gzip, chunked")],
            ),
            (
                Version::HTTP_11,
                vec![
                    host,
                    ("transfer-encoding", "chunked"),
                    ("content-length", "3"),
                ],
            ),
            (
                Version::HTTP_10,
                vec![host, ("transfer-encoding", "chunked")],
            ),
        ] {
            assert_eq!(
                reason(version, "/", &fields),
                Some("transfer_encoding"),
                "{fields:?}"
            );
        }
        for length in ["+1", "-1", "0x1", "1,1", "", "99999999999999999999"] {
            assert_eq!(
                reason(Version::HTTP_11, "/", &[host, ("content-length", length)]),
                Some("content_length"),
                "{length}"
            );
        }
    }

    #[test]
    fn connect_and_trace_are_not_served() {
        for method in [Method::CONNECT, Method::TRACE] {
            let mut request = request(Version::HTTP_11, "/", &[("host", "a")]);
            request.method = method;
            assert_eq!(
                check(&request, &LIMITS).unwrap_err().status,
                StatusCode::METHOD_NOT_ALLOWED
            );
        }
    }

    #[test]
    fn an_asterisk_is_for_options_alone() {
        let mut request = request(Version::HTTP_11, "*", &[("host", "a")]);
        assert_eq!(check(&request, &LIMITS).unwrap_err().reason, "target");
        request.method = Method::OPTIONS;
        assert_eq!(check(&request, &LIMITS).unwrap().target, "*");
    }

    #[test]
    fn as_many_fields_as_the_limit_are_admitted() {
        let h2 = Version::HTTP_2;
        let of = |count: usize| reason(h2, "https://a/", &vec![("x", "y"); count]);
        assert_eq!(of(LIMITS.max_headers), None);
        assert_eq!(of(LIMITS.max_headers + 1), Some("too_many_fields"));
    }

    #[test]
    fn targets_as_long_as_the_limit_are_admitted() {
        let of = |len: usize| {
            let uri = format!("https://a/{}", "x".repeat(len - 1));
            reason(Version::HTTP_2, &uri, &[])
        };
        assert_eq!(of(LIMITS.max_target_bytes), None);
        assert_eq!(of(LIMITS.max_target_bytes + 1), Some("target_too_long"));
    }

    #[test]
    fn underscores_are_refused_where_configured() {
        let limits = Limits {
            underscore_headers: UnderscoreHeaders::Reject,
            ..LIMITS
        };
        let request = request(Version::HTTP_11, "/", &[("host", "a"), ("x_y", "1")]);
        assert_eq!(
            check(&request, &limits).unwrap_err().reason,
            "underscore_header"
        );
    }
}
