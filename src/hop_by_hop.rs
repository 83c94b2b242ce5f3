//! Connection-scoped fields: what belongs to the connection a message came on and ends there
//! (RFC 9110 §7.6.1).
//!
//! [`HopByHop`] reads the `Connection` field of one message and answers, field by field, whether it
//! may travel on. It strips before anything of ours is written, so that no nomination reaches the
//! forwarding fields (the order is what CVE-2024-45410 and CVE-2022-31813 got wrong), and it
//! ignores nominations of fields whose loss would change who the client is or where the message
//! ends.
//!
//! It doesn't touch `Content-Length`, whose fate is the codec's, and it removes `Upgrade` and `TE`
//! always: whoever keeps a WebSocket upgrade or `TE: trailers` writes the field anew.

use http::header::{CONNECTION, TE};

use crate::fields::{Fields, Sieve, is};

/// What one message says about the connection it came on; made once, asked about each field.
///
/// Work grows with the number of nominations times that of fields, both bounded by the head limits.
#[derive(Debug)]
pub struct HopByHop<'a> {
    message: Message,
    close: bool,
    upgrade: bool,
    accepts_trailers: bool,
    /// Options that name neither a field that goes anyway nor one that stays.
    nominated: Vec<&'a [u8]>,
}

impl<'a> HopByHop<'a> {
    /// Reads the `Connection` and `TE` lines of a request.
    ///
    /// Doesn't allocate when they hold nothing beyond `close`, `keep-alive`, `upgrade`, names that
    /// go anyway and names that may not be nominated.
    pub fn of_request(fields: &'a Fields) -> Self {
        let mut codings = fields.get_all(&TE).flat_map(elements);
        Self {
            accepts_trailers: codings.any(|coding| is(coding, "trailers")),
            ..Self::of(fields, Message::Request)
        }
    }

    /// Reads the `Connection` lines of a response; allocates as [`HopByHop::of_request`] does.
    pub fn of_response(fields: &'a Fields) -> Self {
        Self::of(fields, Message::Response)
    }

    /// Whether this field, or this trailer, ends here.
    ///
    /// True for `te` and `upgrade` whatever they say: see [`HopByHop::accepts_trailers`] and
    /// [`HopByHop::upgrade`].
    pub fn removes(&self, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        is_connection_scoped(name)
            || self.nominated.iter().any(|option| option.eq_ignore_ascii_case(name))
            // No such field exists, but CGI hands it to programs as HTTP_PROXY (CVE-2016-5385).
            || (self.message == Message::Request && is(name, "Proxy"))
    }

    /// Whether `Connection: close` was there.
    pub fn close(&self) -> bool {
        self.close
    }

    /// Whether `Connection: upgrade` was there; without it an `Upgrade` field means nothing.
    pub fn upgrade(&self) -> bool {
        self.upgrade
    }

    /// Whether `TE` holds `trailers`, which gRPC servers insist on: an upstream may be told so
    /// anew.
    ///
    /// Asks no nomination of `TE` in `Connection`, since HTTP/2 has none.
    pub fn accepts_trailers(&self) -> bool {
        self.accepts_trailers
    }

    fn of(fields: &'a Fields, message: Message) -> Self {
        let mut hop_by_hop = Self {
            message,
            close: false,
            upgrade: false,
            accepts_trailers: false,
            nominated: Vec::new(),
        };
        for option in fields.get_all(&CONNECTION).flat_map(elements) {
            hop_by_hop.note(option);
        }
        hop_by_hop
    }

    fn note(&mut self, option: &'a [u8]) {
        if is(option, "close") {
            self.close = true;
        } else if is(option, "upgrade") {
            self.upgrade = true;
        } else if !is(option, "keep-alive")
            && !is_connection_scoped(option)
            && !may_not_be_nominated(option)
        {
            self.nominated.push(option);
        }
    }
}

/// Removes from a response's fields what belonged to the connection it came on.
pub fn strip_response(fields: &mut Fields) {
    let hop_by_hop = HopByHop::of_response(fields);
    if hop_by_hop.nominated.is_empty() {
        fields.retain(|name| !is_connection_scoped(name));
        return;
    }
    let removed = fields.iter().map(|(name, _)| hop_by_hop.removes(name));
    let mut removed = removed.collect::<Vec<_>>().into_iter();
    fields.retain(|_| removed.next() == Some(false));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Request,
    Response,
}

/// The non-empty elements of a line of a comma-separated field.
fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether a field of this name ends here whether nominated or not.
fn is_connection_scoped(name: &[u8]) -> bool {
    static SIEVE: Sieve = Sieve::of(&CONNECTION_SCOPED);
    SIEVE.may_hold(name) && CONNECTION_SCOPED.iter().any(|scoped| is(name, scoped))
}

/// Whether removing this field at a client's word would take away its framing, its credentials or
/// what tells who it is. Spellings with `_` and `.` count as the field they become in a backend.
fn may_not_be_nominated(option: &[u8]) -> bool {
    let folded = || {
        option.iter().map(|byte| match byte {
            b'_' | b'.' => b'-',
            other => other.to_ascii_lowercase(),
        })
    };
    NEVER_NOMINATED.iter().any(|name| folded().eq(name.bytes()))
        || NEVER_NOMINATED_PREFIXES
            .iter()
            .any(|prefix| folded().take(prefix.len()).eq(prefix.bytes()))
}

/// Fields that end here whether nominated or not.
///
/// Beside those RFC 9110 §7.6.1 lists: a gateway is the addressee of `Proxy-Authorization` and of
/// the answers to what it sent itself (§11.7), so credentials and challenges for a proxy go no
/// further in either direction. `Trailer` isn't here: trailers are passed on.
const CONNECTION_SCOPED: [&str; 10] = [
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "TE",
    "Transfer-Encoding",
    "Upgrade",
    "HTTP2-Settings",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Authentication-Info",
];

/// Fields that `Connection` can't remove: framing, credentials, and the names that say who and
/// where the client is, those of other proxies included.
const NEVER_NOMINATED: [&str; 20] = [
    "host",
    "content-length",
    "authorization",
    "cookie",
    "forwarded",
    "x-real-ip",
    "x-scheme",
    "client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "fly-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-originating-ip",
    "x-envoy-external-address",
    "x-appengine-user-ip",
];

const NEVER_NOMINATED_PREFIXES: [&str; 2] = ["x-forwarded-", "x-original-forwarded-"];

#[cfg(test)]
mod tests;
