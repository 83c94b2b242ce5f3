//! Who may ask: checked before anything is looked up, done or shown.
//!
//! A page somewhere on the web can make its visitor's browser send requests here. It can't read the answers of another
//! origin, unless a name of its own leads here (DNS rebinding): so only names that are nobody else's are accepted in
//! `Host`. It can send a POST without reading the answer: so that needs no `Origin`, or this one.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::Authority;

use crate::config::Address;

use super::answer::Refusal;
use super::token::Token;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that was sent to a name which may be anybody's.
pub(super) fn check_host(
    parts: &Parts,
    addresses: &[Address],
    token: Option<&Token>,
) -> Result<(), Refusal> {
    let named = named(parts).ok_or(Refusal::Host)?;
    // A browser has no token for a name that isn't ours, but an address is nobody's to give away.
    let is_ours = |ip: IpAddr| {
        let is_configured = |address: &Address| match address {
            Address::Ip(address) => address.ip().to_canonical() == ip,
            Address::Dual(_) | Address::Unix(_) => false,
        };
        ip.is_loopback() || token.is_some() || addresses.iter().any(is_configured)
    };
    let host = named.host();
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match literal.unwrap_or(host).parse::<IpAddr>() {
        Ok(ip) if is_ours(ip.to_canonical()) => Ok(()),
        Err(_) if host.eq_ignore_ascii_case("localhost") => Ok(()),
        _ => Err(Refusal::Host),
    }
}

/// The host that a request names: exactly one, in `Host` or in the target, or the same in both.
fn named(parts: &Parts) -> Option<Authority> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return None;
    }
    let host = match host {
        Some(host) => Some(Authority::try_from(host.as_bytes()).ok()?),
        None => None,
    };
    let named = match (host, parts.uri.authority()) {
        (Some(host), Some(target)) => (host == *target).then_some(host)?,
        (host, target) => host.or_else(|| target.cloned())?,
    };
    (!named.as_str().contains('@')).then_some(named)
}

/// Refuses what a page of another origin had a browser send.
pub(super) fn check_origin(parts: &Parts) -> Result<(), Refusal> {
    let site = parts.headers.get(SEC_FETCH_SITE);
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(Refusal::Origin);
    }
    let host = named(parts);
    let is_this = |origin: &[u8]| {
        let rest = origin
            .strip_prefix(b"http://")
            // Somebody may speak TLS on our behalf.
            .or_else(|| origin.strip_prefix(b"https://"));
        let origin = rest.and_then(|rest| Authority::try_from(rest).ok());
        origin.is_some() && origin == host
    };
    let mut origins = parts.headers.get_all(ORIGIN).iter();
    if origins.all(|origin| is_this(origin.as_bytes())) {
        Ok(())
    } else {
        Err(Refusal::Origin)
    }
}

/// RFC 6750 §2.1.
pub(super) fn check_token(parts: &Parts, token: Option<&Token>) -> Result<(), Refusal> {
    let Some(token) = token else {
        return Ok(());
    };
    let mut shown = parts.headers.get_all(AUTHORIZATION).iter();
    let word = shown.next().and_then(|value| bearer(value.as_bytes()));
    let is_alone = shown.next().is_none();
    match word {
        Some(word) if is_alone && token.is(word) => Ok(()),
        _ => Err(Refusal::Token),
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, word) = value.split_at_checked(BEARER.len())?;
    scheme
        .eq_ignore_ascii_case(BEARER)
        .then(|| word.trim_ascii())
}

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::Request;

    use super::*;

    fn parts(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn token() -> Token {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "0123456789abcdef").unwrap();
        Token::load(Path::new(&path)).unwrap()
    }

    #[test]
    fn a_host_is_an_address_of_ours_or_this_machine() {
        let addresses = [Address::Ip("192.0.2.7:9900".parse().unwrap())];
        let token = token();
        for (host, without, with) in [
            ("127.0.0.1:9900", true, true),
            ("127.0.0.1", true, true),
            ("[::1]:9900", true, true),
            ("[::ffff:127.0.0.1]:1", true, true),
            ("localhost:9900", true, true),
            ("LocalHost", true, true),
            ("192.0.2.7:9900", true, true),
            ("192.0.2.8:9900", false, true),
            ("[2001:db8::1]", false, true),
            ("rebound.example", false, false),
            ("localhost.example", false, false),
            ("127.0.0.1.example:9900", false, false),
            ("a@localhost", false, false),
            ("2130706433", false, false),
            ("", false, false),
        ] {
            let parts = parts("/metrics", &[("host", host)]);
            let check = |token| check_host(&parts, &addresses, token).is_ok();
            assert_eq!(check(None), without, "{host}");
            assert_eq!(check(Some(&token)), with, "{host} with a token");
        }
    }

    #[test]
    fn a_host_is_named_once() {
        let check = |uri, fields: &[_]| check_host(&parts(uri, fields), &[], None).is_ok();
        assert!(!check("/", &[]));
        assert!(!check("/", &[("host", "localhost"), ("host", "localhost")]));
        assert!(check("http://localhost/", &[]));
        assert!(check("http://localhost/", &[("host", "localhost")]));
        assert!(!check("http://localhost/", &[("host", "127.0.0.1")]));
        assert!(!check("http://a.example/", &[("host", "localhost")]));
    }

    #[test]
    fn a_post_comes_from_no_page_or_from_ours() {
        for (fields, allowed) in [
            (&[][..], true),
            (&[("origin", "http://localhost:9900")], true),
            (&[("origin", "https://localhost:9900")], true),
            (&[("origin", "http://localhost:9901")], false),
            (&[("origin", "http://localhost")], false),
            (&[("origin", "http://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "")], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site")], false),
        ] {
            let fields = [fields, &[("host", "localhost:9900")]].concat();
            let allows = check_origin(&parts("/api/v1/reload", &fields)).is_ok();
            assert_eq!(allows, allowed, "{fields:?}");
        }
    }

    #[test]
    fn a_token_is_shown_once_and_whole() {
        let token = token();
        for (fields, allowed) in [
            (&[][..], false),
            (&[("authorization", "Bearer 0123456789abcdef")], true),
            (&[("authorization", "bearer 0123456789abcdef")], true),
            (&[("authorization", "Bearer 0123456789abcdeF")], false),
            (&[("authorization", "Bearer")], false),
            (&[("authorization", "Basic 0123456789abcdef")], false),
            (&[("authorization", "0123456789abcdef")], false),
            (
                &[
                    ("authorization", "Bearer 0123456789abcdef"),
                    ("authorization", "Bearer 0123456789abcdef"),
                ],
                false,
            ),
        ] {
            let parts = parts("/metrics", fields);
            assert_eq!(
                check_token(&parts, Some(&token)).is_ok(),
                allowed,
                "{fields:?}"
            );
            assert!(check_token(&parts, None).is_ok());
        }
    }
}
