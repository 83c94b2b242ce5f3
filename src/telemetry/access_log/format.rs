//! How a record looks: JSON, the combined log format, or text for people.
//!
//! Everything that is written is printable ASCII, whatever a client sent: other bytes, quotes and backslashes are escaped,
//! and a record ends with the only line feed in it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use http::Version;

use super::record::{Cut, Facts, Field};
use super::redact;
use crate::client_ip::SocketPeer;
use crate::config::{RecordFormat, RedactIp};

/// What a client that left before its answer is said to have got in the combined format, as nginx has it.
const CLIENT_LEFT: u16 = 499;

/// Appends a record to `out`, with its line feed.
pub(super) fn write(
    out: &mut Vec<u8>,
    facts: &Facts,
    stamp: &Stamp,
    format: RecordFormat,
    redact_ip: RedactIp,
) {
    let mut line = Line {
        out,
        facts,
        redact_ip,
    };
    match format {
        RecordFormat::Json => line.json(stamp),
        RecordFormat::Combined => line.combined(stamp),
        RecordFormat::Text => line.text(stamp),
    }
    line.out.push(b'\n');
}

/// A moment as records show it; the text of its second is kept for the next record.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    millisecond: u32,
    /// `2026-11-26T06:38:25`
    rfc3339: String,
    /// `26/Nov/2026:06:38:25 +0000`
    common: String,
}

impl Stamp {
    /// Moves it to `now`.
    pub(super) fn set(&mut self, now: SystemTime) {
        let since = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        self.millisecond = since.subsec_millis();
        if self.second == Some(since.as_secs()) {
            return;
        }
        self.second = Some(since.as_secs());
        let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
        let moment = jiff::Timestamp::from_second(seconds).unwrap_or_default();
        self.rfc3339 = moment.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        self.common = moment.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
    }

    /// Appends `2026-11-26T06:38:25.123Z`.
    pub(super) fn rfc3339(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.rfc3339.as_bytes());
        out.push(b'.');
        three_digits(out, self.millisecond);
        out.push(b'Z');
    }
}

/// How bytes that might do harm are written.
#[derive(Debug, Clone, Copy)]
enum Escape {
    /// As `\u00ff`, which JSON readers turn back into the byte's code point.
    Json,
    /// As `\xff`.
    Hex,
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
    facts: &'a Facts,
    redact_ip: RedactIp,
}

impl Line<'_> {
    fn json(&mut self, stamp: &Stamp) {
        self.raw(b"{\"timestamp\":\"");
        stamp.rfc3339(self.out);
        self.quote();
        if let Some(ip) = self.facts.client_ip {
            self.raw(b",\"client_ip\":\"");
            self.ip(ip);
            self.quote();
        }
        self.json_field(b",\"client_ip_source\":\"", Field::ClientIpSource);
        if !self.facts.client_ip_reason.is_empty() {
            self.raw(b",\"client_ip_reason\":\"");
            self.raw(self.facts.client_ip_reason.as_bytes());
            self.quote();
        }
        self.json_peer();
        self.json_number(b",\"forged\":", self.facts.forged as u64);
        self.json_field(b",\"listener\":\"", Field::Listener);
        self.json_field(b",\"route\":\"", Field::Route);
        self.json_field(b",\"upstream\":\"", Field::Upstream);
        self.json_field(b",\"endpoint\":\"", Field::Endpoint);
        self.json_field(b",\"method\":\"", Field::Method);
        self.json_field(b",\"host\":\"", Field::Host);
        self.json_field(b",\"path\":\"", Field::Path);
        self.json_field(b",\"query\":\"", Field::Query);
        if let Some(version) = self.facts.version {
            self.raw(b",\"protocol\":\"");
            self.raw(protocol(version));
            self.quote();
        }
        if let Some(status) = self.facts.status {
            self.json_number(b",\"status\":", status.as_u16().into());
        }
        self.raw(b",\"duration_ms\":");
        milliseconds(self.out, self.facts.duration);
        if let Some(upstream) = self.facts.upstream {
            self.raw(b",\"upstream_ms\":");
            milliseconds(self.out, upstream);
        }
        self.json_number(b",\"bytes_in\":", self.facts.bytes_in);
        self.json_number(b",\"bytes_out\":", self.facts.bytes_out);
        self.json_field(b",\"user_agent\":\"", Field::UserAgent);
        self.json_field(b",\"referer\":\"", Field::Referer);
        if let Some(error) = self.facts.error {
            self.raw(b",\"error\":\"");
            self.raw(error.as_bytes());
            self.quote();
        }
        self.json_field(b",\"request_id\":\"", Field::RequestId);
        self.json_forwarded();
        self.raw(b"}");
    }

    fn json_peer(&mut self) {
        match self.facts.peer {
            Some(SocketPeer::Ip(addr, port)) => {
                self.raw(b",\"peer_ip\":\"");
                self.ip(addr.ip());
                self.quote();
                self.json_number(b",\"peer_port\":", port.into());
            }
            Some(SocketPeer::Unix) => self.raw(b",\"peer_ip\":\"unix\""),
            None => {}
        }
        if let Some(source) = self.facts.proxied {
            self.raw(b",\"proxy_protocol\":\"");
            self.socket(SocketAddr::new(source.addr.ip(), source.port));
            self.quote();
            self.json_number(b",\"proxy_protocol_version\":", source.version.into());
        }
    }

    /// `"forwarded":{"x-forwarded-for":["198.51.100.7","10.0.0.5"]}`: lines of one name stand together.
    fn json_forwarded(&mut self) {
        let mut open: Option<&[u8]> = None;
        for (name, value) in &self.facts.forwarded {
            let name = self.facts.at(*name);
            match open {
                Some(known) if known == name => self.raw(b"\",\""),
                _ => {
                    let before: &[u8] = match open {
                        Some(_) => b"\"],\"",
                        None => b",\"forwarded\":{\"",
                    };
                    self.raw(before);
                    self.escaped(name, Escape::Json);
                    self.raw(b"\":[\"");
                    open = Some(name);
                }
            }
            let text = self.facts.at(*value);
            if self.redact_ip == RedactIp::None {
                self.value(text, value.cut, Escape::Json);
            } else {
                let redacted = redact::chain(text, self.redact_ip);
                self.value(&redacted, value.cut, Escape::Json);
            }
        }
        if open.is_some() {
            self.raw(b"\"]}");
        }
    }

    /// `name` comes with everything up to the opening quote.
    fn json_field(&mut self, name: &[u8], field: Field) {
        if let Some((value, cut)) = self.facts.get(field) {
            self.raw(name);
            self.value(value, cut, Escape::Json);
            self.quote();
        }
    }

    fn json_number(&mut self, name: &[u8], value: u64) {
        self.raw(name);
        number(self.out, value);
    }

    /// `CLIENT - - [DATE] "REQUEST" STATUS BYTES "REFERER" "USER AGENT" peer=PEER`.
    fn combined(&mut self, stamp: &Stamp) {
        match self.facts.client_ip {
            Some(ip) => self.ip(ip),
            None => self.raw(b"-"),
        }
        self.raw(b" - - [");
        self.raw(stamp.common.as_bytes());
        self.raw(b"] \"");
        match self.facts.version {
            Some(version) => {
                self.request();
                self.raw(b" ");
                self.raw(protocol(version));
            }
            None => self.raw(b"-"),
        }
        self.raw(b"\" ");
        let status = self.facts.status.map(|status| status.as_u16());
        number(self.out, status.unwrap_or(CLIENT_LEFT).into());
        self.raw(b" ");
        number(self.out, self.facts.bytes_out);
        for field in [Field::Referer, Field::UserAgent] {
            self.raw(b" \"");
            self.field_or_dash(field);
            self.quote();
        }
        self.raw(b" peer=");
        self.peer();
    }

    /// `DATE CLIENT STATUS METHOD HOST PATH DURATION NAME=VALUE…`.
    fn text(&mut self, stamp: &Stamp) {
        stamp.rfc3339(self.out);
        self.raw(b" ");
        match self.facts.client_ip {
            Some(ip) => self.ip(ip),
            None => self.raw(b"-"),
        }
        self.raw(b" ");
        match self.facts.status {
            Some(status) => number(self.out, status.as_u16().into()),
            None => self.raw(b"-"),
        }
        self.raw(b" \"");
        self.request();
        self.raw(b"\" ");
        milliseconds(self.out, self.facts.duration);
        self.raw(b"ms in=");
        number(self.out, self.facts.bytes_in);
        self.raw(b" out=");
        number(self.out, self.facts.bytes_out);
        for (name, field) in [
            (&b" host=\""[..], Field::Host),
            (b" listener=\"", Field::Listener),
            (b" route=\"", Field::Route),
            (b" upstream=\"", Field::Upstream),
            (b" endpoint=\"", Field::Endpoint),
            (b" source=\"", Field::ClientIpSource),
        ] {
            if let Some((value, cut)) = self.facts.get(field) {
                self.raw(name);
                self.value(value, cut, Escape::Hex);
                self.quote();
            }
        }
        for (name, word) in [
            (&b" reason="[..], self.facts.client_ip_reason),
            (b" error=", self.facts.error.unwrap_or_default()),
        ] {
            if !word.is_empty() {
                self.raw(name);
                self.raw(word.as_bytes());
            }
        }
        if self.facts.forged > 0 {
            self.raw(b" forged=");
            number(self.out, self.facts.forged as u64);
        }
        self.raw(b" peer=");
        self.peer();
        if let Some((id, cut)) = self.facts.get(Field::RequestId) {
            self.raw(b" request_id=\"");
            self.value(id, cut, Escape::Hex);
            self.quote();
        }
    }

    /// `GET /path?query`.
    fn request(&mut self) {
        self.field_or_dash(Field::Method);
        self.raw(b" ");
        self.field_or_dash(Field::Path);
        if let Some((query, cut)) = self.facts.get(Field::Query) {
            self.raw(b"?");
            self.value(query, cut, Escape::Hex);
        }
    }

    fn field_or_dash(&mut self, field: Field) {
        match self.facts.get(field) {
            Some((value, cut)) if !value.is_empty() => self.value(value, cut, Escape::Hex),
            _ => self.raw(b"-"),
        }
    }

    fn peer(&mut self) {
        match self.facts.peer {
            Some(SocketPeer::Ip(addr, _)) => self.ip(addr.ip()),
            Some(SocketPeer::Unix) => self.raw(b"unix"),
            None => self.raw(b"-"),
        }
    }

    fn socket(&mut self, address: SocketAddr) {
        let brackets = address.is_ipv6() && self.redact_ip != RedactIp::Hash;
        self.out.extend(brackets.then_some(b'['));
        self.ip(address.ip());
        self.out.extend(brackets.then_some(b']'));
        self.raw(b":");
        number(self.out, address.port().into());
    }

    fn ip(&mut self, ip: IpAddr) {
        redact::ip(self.out, ip, self.redact_ip);
    }

    /// A value from outside, marked where it was cut.
    fn value(&mut self, value: &[u8], cut: Cut, escape: Escape) {
        if cut == Cut::Front {
            self.raw(CUT);
        }
        self.escaped(value, escape);
        if cut == Cut::Back {
            self.raw(CUT);
        }
    }

    fn escaped(&mut self, value: &[u8], escape: Escape) {
        if is_plain(value) {
            return self.raw(value);
        }
        for byte in value {
            if is_plain(&[*byte]) {
                self.out.push(*byte);
                continue;
            }
            match escape {
                Escape::Json => self.raw(b"\\u00"),
                Escape::Hex => self.raw(b"\\x"),
            }
            self.out.push(hex_digit(byte >> 4));
            self.out.push(hex_digit(byte & 15));
        }
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn quote(&mut self) {
        self.out.push(b'"');
    }
}

/// What stands for the part of a value that was too long.
const CUT: &[u8] = b"...";

/// Whether all of it can be written as it is. Looks at every byte, whatever it finds: so it looks at many at once.
fn is_plain(value: &[u8]) -> bool {
    let harmful = |byte: u8| !matches!(byte, b' '..=b'~') || byte == b'"' || byte == b'\\';
    !value
        .iter()
        .fold(false, |found, byte| found | harmful(*byte))
}

fn hex_digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    }
}

fn protocol(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_09 => b"HTTP/0.9",
        Version::HTTP_10 => b"HTTP/1.0",
        Version::HTTP_2 => b"HTTP/2.0",
        Version::HTTP_3 => b"HTTP/3.0",
        _ => b"HTTP/1.1",
    }
}

/// `12.345`.
fn milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let of_seconds = duration.as_secs().saturating_mul(1000);
    let whole = of_seconds.saturating_add(duration.subsec_millis().into());
    number(out, whole);
    out.push(b'.');
    three_digits(out, duration.subsec_micros() % 1000);
}

fn three_digits(out: &mut Vec<u8>, value: u32) {
    for place in [100, 10, 1] {
        out.push(digit(u64::from(value / place % 10)));
    }
}

/// Appends a number in decimal.
pub(super) fn number(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        return out.push(digit(value));
    }
    // As many digits as there are in the largest.
    let mut digits = [0; 20];
    let mut first = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = digit(value % 10);
        first -= 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// Appends a small number in decimal.
pub(super) fn small_number(out: &mut Vec<u8>, value: u8) {
    if value >= 100 {
        out.push(digit((value / 100).into()));
    }
    if value >= 10 {
        out.push(digit((value / 10 % 10).into()));
    }
    out.push(digit((value % 10).into()));
}

/// Of a number below ten.
#[expect(clippy::cast_possible_truncation, reason = "it is below ten")]
fn digit(value: u64) -> u8 {
    b'0' + value as u8
}
