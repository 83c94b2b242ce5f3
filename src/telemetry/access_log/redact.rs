//! What isn't recorded, where the operator doesn't want it: parts of queries, and of addresses.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use super::format::small_number;
use crate::config::RedactIp;

/// What stands for a value that isn't recorded.
pub(super) const REDACTED: &[u8] = b"redacted";

/// The same for all workers; another in the next process.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A query without the values of these parameters.
pub(super) fn query(query: &[u8], names: &[String]) -> Vec<u8> {
    let mut redacted = Vec::with_capacity(query.len());
    for part in query.split_inclusive(|byte| matches!(byte, b'&' | b';')) {
        let Some(equals) = part.iter().position(|byte| *byte == b'=') else {
            redacted.extend_from_slice(part);
            continue;
        };
        let (name, value) = part.split_at_checked(equals).unwrap_or_default();
        if names.iter().any(|secret| names_parameter(name, secret)) {
            redacted.extend_from_slice(name);
            redacted.push(b'=');
            redacted.extend_from_slice(REDACTED);
            redacted.extend(value.last().filter(|byte| matches!(byte, b'&' | b';')));
        } else {
            redacted.extend_from_slice(part);
        }
    }
    redacted
}

/// Whether a parameter goes by this name: in any case, percent-encoded or not, or as a part of `user[name]`.
fn names_parameter(name: &[u8], secret: &str) -> bool {
    let decoded = percent_decoded(name);
    let mut parts = decoded.split(|byte| *byte == b'[');
    parts.any(|part| {
        let part = part.strip_suffix(b"]").unwrap_or(part);
        part.eq_ignore_ascii_case(secret.as_bytes())
    })
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| {
        let digit = char::from(*text.get(at)?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Writes an address as far as it may be known.
pub(in crate::telemetry) fn ip(out: &mut Vec<u8>, ip: IpAddr, how: RedactIp) {
    match (how, ip) {
        (RedactIp::Hash, ip) => {
            // Writing to a Vec can't fail; neither can it below.
            let _ = write!(out, "{:016x}", KEYS.hash_one(ip.to_canonical()));
        }
        (RedactIp::None, IpAddr::V4(ip)) => v4(out, ip),
        (RedactIp::None, IpAddr::V6(ip)) => {
            let _ = write!(out, "{ip}");
        }
        (RedactIp::Truncate, IpAddr::V4(ip)) => v4(out, truncated_v4(ip)),
        (RedactIp::Truncate, IpAddr::V6(ip)) => {
            let [a, b, c, ..] = ip.segments();
            match ip.to_ipv4_mapped() {
                Some(ip) => v4(out, truncated_v4(ip)),
                None => {
                    let _ = write!(out, "{}", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0));
                }
            }
        }
    }
}

fn truncated_v4(ip: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, _] = ip.octets();
    Ipv4Addr::new(a, b, c, 0)
}

fn v4(out: &mut Vec<u8>, ip: Ipv4Addr) {
    let [a, b, c, d] = ip.octets();
    small_number(out, a);
    for octet in [b, c, d] {
        out.push(b'.');
        small_number(out, octet);
    }
}

/// A forwarding field with every address in it redacted, and whatever might be half of one removed.
pub(super) fn chain(value: &[u8], how: RedactIp) -> Vec<u8> {
    let mut redacted = Vec::with_capacity(value.len());
    let is_separator = |byte: &u8| matches!(byte, b',' | b';' | b'=' | b'"' | b' ' | b'\t' | b'\\');
    for token in value.split_inclusive(is_separator) {
        let (token, separator) = match token.split_last() {
            Some((last, token)) if is_separator(last) => (token, Some(*last)),
            _ => (token, None),
        };
        self::token(&mut redacted, token, how);
        redacted.extend(separator);
    }
    redacted
}

/// A text with every address in it redacted.
pub fn redacted(text: &str, how: RedactIp) -> String {
    match how {
        RedactIp::None => text.to_owned(),
        how => String::from_utf8_lossy(&chain(text.as_bytes(), how)).into_owned(),
    }
}

fn token(out: &mut Vec<u8>, token: &[u8], how: RedactIp) {
    let text = std::str::from_utf8(token).unwrap_or_default();
    if let Ok(address) = text.parse::<IpAddr>() {
        ip(out, address, how);
    } else if let Ok(address) = text.parse::<SocketAddr>() {
        let brackets = address.is_ipv6();
        out.extend(brackets.then_some(b'['));
        ip(out, address.ip(), how);
        out.extend(brackets.then_some(b']'));
        let _ = write!(out, ":{}", address.port());
    } else if let Some(address) = bracketed(text) {
        out.push(b'[');
        ip(out, address, how);
        out.push(b']');
    } else if token.iter().any(u8::is_ascii_hexdigit)
        && token.iter().any(|byte| matches!(byte, b'.' | b':'))
    {
        out.extend_from_slice(REDACTED);
    } else {
        out.extend_from_slice(token);
    }
}

fn bracketed(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: Vec<u8>) -> String {
        String::from_utf8(value).unwrap()
    }

    #[test]
    fn values_of_named_parameters_are_left_out() {
        let names = ["token".to_owned(), "password".to_owned()];
        for (given, kept) in [
            ("token=1", "token=redacted"),
            ("a=1&token=2&b=3", "a=1&token=redacted&b=3"),
            ("a=1;TOKEN=2;b=3", "a=1;TOKEN=redacted;b=3"),
            ("%74oken=1", "%74oken=redacted"),
            (
                "user[password]=1&x[token][]=2",
                "user[password]=redacted&x[token][]=redacted",
            ),
            ("user%5Bpassword%5D=1", "user%5Bpassword%5D=redacted"),
            ("token=a=b&c", "token=redacted&c"),
            ("mytoken=1&tokens=2", "mytoken=1&tokens=2"),
            ("token&password", "token&password"),
            ("%7=1&%=2&token=", "%7=1&%=2&token=redacted"),
            ("", ""),
        ] {
            assert_eq!(shown(query(given.as_bytes(), &names)), kept, "{given}");
        }
    }

    #[test]
    fn the_host_part_of_addresses_is_zeroed() {
        for (given, kept) in [
            ("198.51.100.7", "198.51.100.0"),
            ("2001:db8:1:2::7", "2001:db8:1::"),
            ("::ffff:198.51.100.7", "198.51.100.0"),
        ] {
            let mut out = Vec::new();
            ip(&mut out, given.parse().unwrap(), RedactIp::Truncate);
            assert_eq!(shown(out), kept);
        }
    }

    #[test]
    fn a_hash_is_the_same_for_the_same_address_and_shows_nothing_of_it() {
        let hash = |text: &str| {
            let mut out = Vec::new();
            ip(&mut out, text.parse().unwrap(), RedactIp::Hash);
            shown(out)
        };
        assert_eq!(hash("198.51.100.7"), hash("::ffff:198.51.100.7"));
        assert_ne!(hash("198.51.100.7"), hash("198.51.100.8"));
        assert_eq!(hash("198.51.100.7").len(), 16);
    }

    #[test]
    fn addresses_in_chains_are_redacted_wherever_they_stand() {
        for (given, kept) in [
            ("198.51.100.7, 10.1.2.3", "198.51.100.0, 10.1.2.0"),
            (
                "198.51.100.7:443,[2001:db8:1:2::7]:1",
                "198.51.100.0:443,[2001:db8:1::]:1",
            ),
            (
                "for=\"[2001:db8:1:2::7]\";by=10.1.2.3;proto=https",
                "for=\"[2001:db8:1::]\";by=10.1.2.0;proto=https",
            ),
            ("unknown, _hidden", "unknown, _hidden"),
            (
                "198.51.100.7x, 198.51.100, 2001:db8::7%eth0",
                "redacted, redacted, redacted",
            ),
        ] {
            assert_eq!(shown(chain(given.as_bytes(), RedactIp::Truncate)), kept);
        }
    }
}
