//! Reads field lines (RFC 9112 §5), which requests and responses have alike.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, header};

use super::lines::without_end;

/// The field in these bytes of `head`, whose memory its value shares; `None` if they aren't a field line.
///
/// There is no space before the colon and no folded line: neither makes a name.
pub(super) fn read(head: &Bytes, line: Range<usize>) -> Option<(HeaderName, HeaderValue)> {
    let bytes = without_end(head.get(line.clone())?);
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let (name, value) = bytes.split_at_checked(colon)?;
    let name = usual_name(name).or_else(|| HeaderName::from_bytes(name).ok())?;
    let value = trimmed(value.get(1..)?);
    let begin = line.start + colon + 1;
    let value = head.slice(begin + value.start..begin + value.end);
    let value = HeaderValue::from_maybe_shared(value).ok()?;
    Some((name, value))
}

/// Whether this can't be in a head, wherever it stands.
pub(super) fn is_out_of_place(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n' | b'\t')
}

/// The members of a comma-separated value, empty ones too (RFC 9110 §5.6.1).
pub(super) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// What `Connection` says about the time after the message (RFC 9112 §9.3).
#[derive(Debug, Default)]
pub(super) struct Persistence {
    closes: bool,
    keeps_alive: bool,
}

impl Persistence {
    /// Reads one line of `Connection`.
    pub(super) fn note(&mut self, value: &[u8]) {
        for option in members(value) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Whether the connection goes on, where the message is HTTP/1.1, or else HTTP/1.0.
    pub(super) fn holds(&self, is_http_11: bool) -> bool {
        !self.closes && (is_http_11 || self.keeps_alive)
    }
}

/// Where a value is without the white space around it (RFC 9110 §5.5).
fn trimmed(value: &[u8]) -> Range<usize> {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    match value.iter().position(is_text) {
        Some(begin) => {
            begin
                ..value
                    .iter()
                    .rposition(is_text)
                    .map_or(begin, |last| last + 1)
        }
        None => 0..0,
    }
}

/// The names that most messages are made of, as most spell them: quicker than reading any name in any spelling.
fn usual_name(name: &[u8]) -> Option<HeaderName> {
    Some(match name {
        b"Host" | b"host" => header::HOST,
        b"Date" | b"date" => header::DATE,
        b"ETag" | b"etag" => header::ETAG,
        b"Vary" | b"vary" => header::VARY,
        b"Accept" | b"accept" => header::ACCEPT,
        b"Cookie" | b"cookie" => header::COOKIE,
        b"Server" | b"server" => header::SERVER,
        b"Referer" | b"referer" => header::REFERER,
        b"Connection" | b"connection" => header::CONNECTION,
        b"User-Agent" | b"user-agent" => header::USER_AGENT,
        b"Set-Cookie" | b"set-cookie" => header::SET_COOKIE,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Accept-Ranges" | b"accept-ranges" => header::ACCEPT_RANGES,
        b"Authorization" | b"authorization" => header::AUTHORIZATION,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"Last-Modified" | b"last-modified" => header::LAST_MODIFIED,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
        b"Accept-Language" | b"accept-language" => header::ACCEPT_LANGUAGE,
        b"Content-Encoding" | b"content-encoding" => header::CONTENT_ENCODING,
        b"Transfer-Encoding" | b"transfer-encoding" => header::TRANSFER_ENCODING,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
