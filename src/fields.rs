//! The fields of a message on its way through (RFC 9110 §5).
//!
//! What was received stays where it was read: a line is known by its place in the head. So it costs nothing to keep, to
//! pass it on is to copy it, and its name goes on as it was spelt. What is ours stands behind it.

use std::mem;
use std::ops::Range;
use std::slice;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

mod characters;
mod sieve;

pub(crate) use characters::{has_underscore, is_in_name, is_token};
pub(crate) use sieve::Sieve;

const CRLF: &[u8] = b"\r\n";

/// Fields that a message gets on its way.
const USUALLY_ADDED: usize = 8;

/// Where name and value of a field are in the head they came in.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// The name: a token.
    pub(crate) name: Range<usize>,
    /// The value, without the white space around it; one that [`HeaderValue`] takes.
    pub(crate) value: Range<usize>,
    /// Whether it is written as most are: a space before the value, and CRLF behind it.
    pub(crate) is_usual: bool,
}

/// Fields in their order: those received, then ours. Names are compared in any case.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    head: Bytes,
    received: Vec<Line>,
    ours: Vec<(HeaderName, HeaderValue)>,
}

impl Fields {
    /// Those that were found in `head`, which holds no control character but tabs and line ends: they are written as they
    /// stand there.
    pub(crate) fn received(head: Bytes, lines: Vec<Line>) -> Self {
        Self {
            head,
            received: lines,
            ours: Vec::new(),
        }
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.received.len() + self.ours.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let received = self.received.iter().map(|line| line.read(&self.head));
        let ours = self.ours.iter();
        received.chain(ours.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())))
    }

    /// The values of one name.
    pub fn get_all<'f, 'n>(&'f self, name: &'n HeaderName) -> Values<'f, 'n> {
        Values {
            received: self.received.iter(),
            ours: self.ours.iter(),
            head: &self.head,
            name: name.as_str().as_bytes(),
        }
    }

    /// The first value of a name.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The value of a name, if there is one and no other.
    pub fn only(&self, name: &HeaderName) -> Option<&[u8]> {
        let mut values = self.get_all(name);
        let value = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// Whether there is such a field.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a field.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.ours.push((name, value));
    }

    /// Adds a field in place of all others of its name.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.remove(&name);
        self.append(name, value);
    }

    /// Takes all fields of a name away.
    pub fn remove(&mut self, name: &HeaderName) {
        self.retain(|other| !is_same(name, other));
    }

    /// Keeps the fields whose names `keeps` wants. It is asked once for each, in their order.
    pub fn retain(&mut self, mut keeps: impl FnMut(&[u8]) -> bool) {
        let head = &self.head;
        self.received.retain(|line| keeps(line.read(head).0));
        self.ours
            .retain(|(name, _)| keeps(name.as_str().as_bytes()));
    }

    /// Writes each field that is wanted, as HTTP/1 has it.
    pub fn write<'a>(
        &'a self,
        out: &mut Vec<u8>,
        mut wants: impl FnMut(&'a [u8], &'a [u8]) -> bool,
    ) {
        // Lines that stand behind each other are copied at once.
        let mut together = 0..0;
        let text = |lines: Range<usize>| self.head.get(lines).unwrap_or_default();
        for line in &self.received {
            let (name, value) = line.read(&self.head);
            if !wants(name, value) {
                continue;
            }
            if line.is_usual && line.name.start == together.end {
                together.end = line.value.end + CRLF.len();
                continue;
            }
            out.extend_from_slice(text(mem::take(&mut together)));
            if line.is_usual {
                together = line.name.start..line.value.end + CRLF.len();
            } else {
                write_anew(out, name, value);
            }
        }
        out.extend_from_slice(text(together));
        for (name, value) in &self.ours {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            if wants(name, value) {
                write(out, name, value);
            }
        }
    }

    /// The fields that are wanted as a map, for who needs one: names in lower case, values in the same memory.
    pub fn to_map(&self, mut wants: impl FnMut(&[u8]) -> bool) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len() + USUALLY_ADDED);
        for line in &self.received {
            let received = line.read(&self.head).0;
            if !wants(received) {
                continue;
            }
            let value = HeaderValue::from_maybe_shared(self.head.slice(line.value.clone()));
            if let (Some(name), Ok(value)) = (name(received), value) {
                map.append(name, value);
            }
        }
        for (name, value) in &self.ours {
            if wants(name.as_str().as_bytes()) {
                map.append(name, value.clone());
            }
        }
        map
    }
}

/// The values of one name, in their order.
#[derive(Debug, Clone)]
pub struct Values<'f, 'n> {
    received: slice::Iter<'f, Line>,
    ours: slice::Iter<'f, (HeaderName, HeaderValue)>,
    head: &'f [u8],
    name: &'n [u8],
}

impl<'f> Iterator for Values<'f, '_> {
    type Item = &'f [u8];

    fn next(&mut self) -> Option<&'f [u8]> {
        let (head, wanted) = (self.head, self.name);
        let received = self.received.find_map(|line| line.value_of(wanted, head));
        received.or_else(|| self.ours.find_map(|field| value_of(wanted, field)))
    }
}

impl DoubleEndedIterator for Values<'_, '_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let (head, wanted) = (self.head, self.name);
        let mut ours = self.ours.by_ref().rev();
        let ours = ours.find_map(|field| value_of(wanted, field));
        let mut received = self.received.by_ref().rev();
        ours.or_else(|| received.find_map(|line| line.value_of(wanted, head)))
    }
}

fn value_of<'a>(wanted: &[u8], (name, value): &'a (HeaderName, HeaderValue)) -> Option<&'a [u8]> {
    // Both are in lower case.
    let is_wanted = name.as_str().as_bytes() == wanted;
    is_wanted.then(|| value.as_bytes())
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: T) -> Self {
        Self {
            ours: fields.into_iter().collect(),
            ..Self::default()
        }
    }
}

impl From<HeaderMap> for Fields {
    fn from(map: HeaderMap) -> Self {
        let mut ours = Vec::with_capacity(map.len());
        let mut last = None;
        for (name, value) in map {
            // A map tells a name once, and then its other values.
            last = name.or(last);
            ours.extend(last.clone().map(|name| (name, value)));
        }
        Self {
            ours,
            ..Self::default()
        }
    }
}

impl Line {
    /// Name and value.
    pub(crate) fn read<'a>(&self, head: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let part = |range: &Range<usize>| head.get(range.clone()).unwrap_or_default();
        (part(&self.name), part(&self.value))
    }

    /// The value, if the name is this one.
    fn value_of<'a>(&self, wanted: &[u8], head: &'a [u8]) -> Option<&'a [u8]> {
        // The quickest way to tell most names from each other.
        if self.name.end - self.name.start != wanted.len() {
            return None;
        }
        let (name, value) = self.read(head);
        name.eq_ignore_ascii_case(wanted).then_some(value)
    }
}

/// Writes one field, as HTTP/1 has it.
#[inline]
pub(crate) fn write(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(CRLF);
}

/// The same, for one that isn't written as most are: not in the way of those.
#[cold]
fn write_anew(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    write(out, name, value);
}

/// Whether this name, or option, is that one, in any case. It is given as most spell it, which is the quickest to tell.
pub fn is(name: &[u8], usual: &'static str) -> bool {
    name.len() == usual.len() && (name == usual.as_bytes() || is_in_another_case(name, usual))
}

#[cold]
fn is_in_another_case(name: &[u8], usual: &str) -> bool {
    name.eq_ignore_ascii_case(usual.as_bytes())
}

fn is_same(name: &HeaderName, other: &[u8]) -> bool {
    name.as_str().as_bytes().eq_ignore_ascii_case(other)
}

/// A name in any spelling; `None` if it can't be one.
pub fn name(text: &[u8]) -> Option<HeaderName> {
    usual_name(text).or_else(|| HeaderName::from_bytes(text).ok())
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
        b"Range" | b"range" => header::RANGE,
        b"Origin" | b"origin" => header::ORIGIN,
        b"If-None-Match" | b"if-none-match" => header::IF_NONE_MATCH,
        b"If-Modified-Since" | b"if-modified-since" => header::IF_MODIFIED_SINCE,
        b"Upgrade-Insecure-Requests" | b"upgrade-insecure-requests" => {
            header::UPGRADE_INSECURE_REQUESTS
        }
        // The `http` crate doesn't know these: it would take memory for each.
        b"Priority" | b"priority" => const { HeaderName::from_static("priority") },
        b"X-Real-IP" | b"x-real-ip" => const { HeaderName::from_static("x-real-ip") },
        b"Sec-CH-UA" | b"sec-ch-ua" => const { HeaderName::from_static("sec-ch-ua") },
        b"X-Request-ID" | b"x-request-id" => const { HeaderName::from_static("x-request-id") },
        b"Sec-Fetch-Site" | b"sec-fetch-site" => {
            const { HeaderName::from_static("sec-fetch-site") }
        }
        b"Sec-Fetch-Mode" | b"sec-fetch-mode" => {
            const { HeaderName::from_static("sec-fetch-mode") }
        }
        b"Sec-Fetch-Dest" | b"sec-fetch-dest" => {
            const { HeaderName::from_static("sec-fetch-dest") }
        }
        b"Sec-Fetch-User" | b"sec-fetch-user" => {
            const { HeaderName::from_static("sec-fetch-user") }
        }
        b"X-Forwarded-For" | b"x-forwarded-for" => {
            const { HeaderName::from_static("x-forwarded-for") }
        }
        b"X-Forwarded-Host" | b"x-forwarded-host" => {
            const { HeaderName::from_static("x-forwarded-host") }
        }
        b"X-Forwarded-Port" | b"x-forwarded-port" => {
            const { HeaderName::from_static("x-forwarded-port") }
        }
        b"X-Requested-With" | b"x-requested-with" => {
            const { HeaderName::from_static("x-requested-with") }
        }
        b"X-Forwarded-Proto" | b"x-forwarded-proto" => {
            const { HeaderName::from_static("x-forwarded-proto") }
        }
        b"Sec-CH-UA-Mobile" | b"sec-ch-ua-mobile" => {
            const { HeaderName::from_static("sec-ch-ua-mobile") }
        }
        b"Sec-CH-UA-Platform" | b"sec-ch-ua-platform" => {
            const { HeaderName::from_static("sec-ch-ua-platform") }
        }
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests;
