//! Addresses as they are written: where a listener is bound, and where an endpoint listens.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::{Address, EndpointAddress};

/// Why an address can't be used, with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParseError {
    #[error("write the port as `:{0}`")]
    PortAlone(u16),
    #[error("a port is missing: `{0}:8080`")]
    NoPort(String),
    #[error("an IPv6 address with a port needs brackets: `[{0}]:8080`")]
    NoBrackets(IpAddr),
    #[error("a port is a number up to 65535, not `{0}`")]
    BadPort(String),
    #[error("port 0 can't be connected to")]
    PortZero,
    #[error("an address without `{0}`")]
    Scheme(String),
    #[error("every interface is written as `:{0}`")]
    Star(String),
    #[error("a listener needs an IP address, not the name `{0}`")]
    Name(String),
    #[error("`{0}` is neither an IP address nor a host name")]
    BadHost(String),
    #[error("`unix:` needs a path behind it")]
    NoPath,
    #[error("expected `:8080`, `ip:port`, `[ipv6]:port` or `unix:path`")]
    NotAListener,
    #[error("expected `ip:port`, `host:port` or `unix:path`")]
    NotAnEndpoint,
}

/// Reads `":8080"`, `ip:port`, `[ipv6]:port` or `unix:path`; a relative path is taken from `dir`.
pub(super) fn listener(text: &str, dir: &Path) -> Result<Address, ParseError> {
    if let Some(path) = unix_path(text)? {
        return Ok(Address::Unix(dir.join(path)));
    }
    if let Some(port) = text.strip_prefix(':').filter(|rest| !rest.contains(':')) {
        return Ok(Address::Dual(parse_port(port)?));
    }
    if let Ok(address) = text.parse() {
        return Ok(Address::Ip(address));
    }
    if let Ok(port) = text.parse() {
        return Err(ParseError::PortAlone(port));
    }
    without_port(text)?;
    match text.rsplit_once(':') {
        Some((host, port)) => {
            parse_port(port)?;
            Err(if host == "*" {
                ParseError::Star(port.to_owned())
            } else {
                ParseError::Name(host.to_owned())
            })
        }
        None => Err(ParseError::NotAListener),
    }
}

/// Reads `ip:port`, `host:port` or `unix:path`; a relative path is taken from `dir`.
pub(super) fn endpoint(text: &str, dir: &Path) -> Result<EndpointAddress, ParseError> {
    if let Some(path) = unix_path(text)? {
        return Ok(EndpointAddress::Unix(dir.join(path)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err(ParseError::PortZero)
        } else {
            Ok(EndpointAddress::Ip(address))
        };
    }
    without_port(text)?;
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(if is_host_name(text) {
            ParseError::NoPort(text.to_owned())
        } else {
            ParseError::NotAnEndpoint
        });
    };
    if !is_host_name(host) {
        return Err(ParseError::BadHost(host.to_owned()));
    }
    match parse_port(port)? {
        0 => Err(ParseError::PortZero),
        port => Ok(EndpointAddress::Name {
            host: host.to_ascii_lowercase(),
            port,
        }),
    }
}

/// Letters, digits, `-` and `_` in labels of at most 63; not something that looks like an IPv4 address.
pub(super) fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(label) && !numeric
}

fn unix_path(text: &str) -> Result<Option<&Path>, ParseError> {
    match text.strip_prefix("unix:") {
        Some("") => Err(ParseError::NoPath),
        path => Ok(path.map(Path::new)),
    }
}

/// The mistakes that both kinds of address share.
fn without_port(text: &str) -> Result<(), ParseError> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(ParseError::Scheme(format!("{scheme}://")));
    }
    match text.parse() {
        Ok(address @ IpAddr::V6(_)) => Err(ParseError::NoBrackets(address)),
        Ok(IpAddr::V4(_)) => Err(ParseError::NoPort(text.to_owned())),
        Err(_) => Ok(()),
    }
}

fn parse_port(text: &str) -> Result<u16, ParseError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| ParseError::BadPort(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn reads_listener_addresses() {
        let dir = Path::new("/etc/headwater");
        for (text, address) in [
            (":8080", Address::Dual(8080)),
            (":0", Address::Dual(0)),
            ("127.0.0.1:80", Address::Ip(ip("127.0.0.1:80"))),
            ("[::1]:80", Address::Ip(ip("[::1]:80"))),
            ("[::]:0", Address::Ip(ip("[::]:0"))),
            (
                "unix:run/h.sock",
                Address::Unix("/etc/headwater/run/h.sock".into()),
            ),
            ("unix:/run/h.sock", Address::Unix("/run/h.sock".into())),
        ] {
            assert_eq!(listener(text, dir), Ok(address), "{text}");
        }
    }

    #[test]
    fn refused_listener_addresses_name_the_remedy() {
        for (text, message) in [
            ("8080", "write the port as `:8080`"),
            ("127.0.0.1", "a port is missing: `127.0.0.1:8080`"),
            (
                "::1",
                "an IPv6 address with a port needs brackets: `[::1]:8080`",
            ),
            (
                "::1:8080",
                "an IPv6 address with a port needs brackets: `[::1:8080]:8080`",
            ),
            (":99999", "a port is a number up to 65535, not `99999`"),
            (":+80", "a port is a number up to 65535, not `+80`"),
            (":", "a port is a number up to 65535, not ``"),
            ("*:80", "every interface is written as `:80`"),
            (
                "localhost:80",
                "a listener needs an IP address, not the name `localhost`",
            ),
            ("http://127.0.0.1:80", "an address without `http://`"),
            ("unix:", "`unix:` needs a path behind it"),
            (
                "here",
                "expected `:8080`, `ip:port`, `[ipv6]:port` or `unix:path`",
            ),
            (
                "",
                "expected `:8080`, `ip:port`, `[ipv6]:port` or `unix:path`",
            ),
        ] {
            assert_eq!(
                listener(text, Path::new("")).unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
    }

    #[test]
    fn reads_endpoint_addresses() {
        let name = |host: &str, port| EndpointAddress::Name {
            host: host.to_owned(),
            port,
        };
        for (text, address) in [
            ("10.0.1.11:8080", EndpointAddress::Ip(ip("10.0.1.11:8080"))),
            (
                "[2001:db8::1]:80",
                EndpointAddress::Ip(ip("[2001:db8::1]:80")),
            ),
            ("App.Internal:80", name("app.internal", 80)),
            ("my_service:80", name("my_service", 80)),
            ("app.internal.:80", name("app.internal.", 80)),
            (
                "unix:app.sock",
                EndpointAddress::Unix("/srv/app.sock".into()),
            ),
        ] {
            assert_eq!(endpoint(text, Path::new("/srv")), Ok(address), "{text}");
        }
    }

    #[test]
    fn refused_endpoint_addresses_name_the_remedy() {
        for (text, message) in [
            ("127.0.0.1:0", "port 0 can't be connected to"),
            ("app:0", "port 0 can't be connected to"),
            ("app", "a port is missing: `app:8080`"),
            ("http://app:80", "an address without `http://`"),
            (
                "2001:db8::1",
                "an IPv6 address with a port needs brackets: `[2001:db8::1]:8080`",
            ),
            (
                "256.1.1.1:80",
                "`256.1.1.1` is neither an IP address nor a host name",
            ),
            ("a b:80", "`a b` is neither an IP address nor a host name"),
            ("app:http", "a port is a number up to 65535, not `http`"),
            (":80", "`` is neither an IP address nor a host name"),
        ] {
            assert_eq!(
                endpoint(text, Path::new("")).unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
    }
}
