//! How a request fails: which side is to blame, what the client is told, and what the log says.

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};

use crate::http1::refused::{Place, Refused};
use crate::transport::{client_body, dial};
use crate::upstream::h1;
use crate::upstream::turn::Unavailable;

use super::body::Body;
use super::response::Response;

/// Which side failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client.
    Downstream,
    /// The endpoint.
    Upstream,
    /// headwater.
    Ourselves,
}

/// What becomes of the client's connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It serves the next request.
    Keep,
    /// Whatever follows on it can't be trusted to be a request.
    Close,
}

/// A request that ends without a response from an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// Whose fault it is.
    pub side: Side,
    /// What the client gets.
    pub status: StatusCode,
    /// The precise cause, from a fixed list; for the log, never for strangers.
    pub reason: &'static str,
    /// One line for the client.
    text: &'static str,
    fate: Fate,
    is_passing: bool,
}

/// What a client is told to wait when trying again is likely to help (RFC 9110 §10.2.3): an endpoint that comes back
/// is used within a second.
const RETRY_AFTER_SECONDS: &str = "1";

impl Error {
    /// A request that can't be one: 400, and the connection is closed.
    #[cold]
    pub fn bad_request(reason: &'static str) -> Self {
        Self {
            side: Side::Downstream,
            status: StatusCode::BAD_REQUEST,
            reason,
            text: "bad request",
            fate: Fate::Close,
            is_passing: false,
        }
    }

    /// A request that is whole and not served.
    #[cold]
    pub fn refused(status: StatusCode, reason: &'static str, text: &'static str) -> Self {
        Self {
            side: Side::Downstream,
            status,
            reason,
            text,
            fate: Fate::Keep,
            is_passing: false,
        }
    }

    /// A host that has a certificate of its own, on a connection that was shown another. The client may try again on a
    /// connection of its own (RFC 9110 §15.5.20).
    #[cold]
    pub fn misdirected() -> Self {
        Self::refused(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            "this host is not served on this connection",
        )
    }

    #[cold]
    fn upstream(status: StatusCode, reason: &'static str, text: &'static str) -> Self {
        Self {
            side: Side::Upstream,
            status,
            reason,
            text,
            fate: Fate::Keep,
            is_passing: false,
        }
    }

    /// Nothing is served under this host and path.
    #[cold]
    pub fn no_route() -> Self {
        Self::refused(
            StatusCode::NOT_FOUND,
            "no_route",
            "no route for this host and path",
        )
    }

    /// No endpoint to send to.
    #[cold]
    pub fn no_endpoint() -> Self {
        Self::unavailable("no_endpoint", "no upstream is available")
    }

    #[cold]
    fn unavailable(reason: &'static str, text: &'static str) -> Self {
        Self {
            is_passing: true,
            ..Self::upstream(StatusCode::SERVICE_UNAVAILABLE, reason, text)
        }
    }

    /// A success to a WebSocket's handshake that isn't one: an HTTP/2 client would take it for one.
    #[cold]
    pub fn handshake() -> Self {
        Self::upstream(
            StatusCode::BAD_GATEWAY,
            "upstream_handshake",
            "the upstream's answer could not be used",
        )
    }

    /// A body that is larger than this route takes.
    #[cold]
    pub fn too_large() -> Self {
        Self::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_body_too_large",
            "the request body is too large",
        )
        .closing()
    }

    fn closing(self) -> Self {
        Self {
            fate: Fate::Close,
            ..self
        }
    }

    /// A head that couldn't be read, or not in one way only.
    #[cold]
    pub fn unreadable(refused: Refused) -> Self {
        let text = match refused.status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE if refused.place == Place::Body => {
                "the request's trailers are too large"
            }
            StatusCode::URI_TOO_LONG => "the request target is too long",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the request head is too large",
            StatusCode::REQUEST_TIMEOUT => "the request head came too slowly",
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => "this HTTP version is not spoken here",
            _ => "bad request",
        };
        Self {
            side: Side::Downstream,
            status: refused.status,
            reason: refused.reason,
            text,
            fate: Fate::Close,
            is_passing: false,
        }
    }

    /// The answer as it stands on the wire, for a connection on which nothing more is read.
    ///
    /// `name` is that of the field with the request's id.
    #[cold]
    pub fn message(&self, name: &HeaderName, request_id: &str, date: &HeaderValue) -> Vec<u8> {
        let text = self.line(request_id);
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
             {name}: {request_id}\r\nconnection: close\r\ndate: ",
            self.status,
            text.len()
        );
        [
            head.as_bytes(),
            date.as_bytes(),
            b"\r\n\r\n",
            text.as_bytes(),
        ]
        .concat()
    }

    fn line(&self, request_id: &str) -> String {
        format!(
            "{} {} (request {request_id})\n",
            self.status.as_u16(),
            self.text
        )
    }

    /// The answer: one short line of text, the request's id, and nothing a stranger could use. `name` is that of the field
    /// with the id.
    #[cold]
    pub fn response(&self, name: &HeaderName, request_id: &str) -> Response {
        let body = Body::full(self.line(request_id).into());
        let mut response = Response::new(self.status, body);
        let fields = &mut response.fields;
        fields.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        );
        if let Ok(id) = HeaderValue::from_str(request_id) {
            fields.insert(name.clone(), id);
        }
        if self.is_passing {
            let seconds = HeaderValue::from_static(RETRY_AFTER_SECONDS);
            fields.insert(RETRY_AFTER, seconds);
        }
        if self.fate == Fate::Close {
            response.close();
        }
        response
    }
}

impl From<Unavailable> for Error {
    #[cold]
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::NoEndpoint => Self::no_endpoint(),
            Unavailable::Overloaded | Unavailable::Superseded => {
                Self::unavailable("upstream_overloaded", "the upstream is busy")
            }
        }
    }
}

impl From<&dial::Error> for Error {
    #[cold]
    fn from(error: &dial::Error) -> Self {
        let not_secure = |reason| {
            Self::upstream(
                StatusCode::BAD_GATEWAY,
                reason,
                "no secure connection to the upstream",
            )
        };
        match error {
            dial::Error::Exhausted(_) => {
                Self::unavailable("descriptors_exhausted", "the proxy is busy")
            }
            dial::Error::TimedOut => Self::upstream(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_connect_timeout",
                "the upstream did not answer in time",
            ),
            dial::Error::Failed(_) => Self::upstream(
                StatusCode::BAD_GATEWAY,
                "upstream_connect",
                "the upstream could not be reached",
            ),
            dial::Error::HandshakeTimedOut => Self::upstream(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_tls_timeout",
                "the upstream did not answer in time",
            ),
            dial::Error::Certificate(_) => not_secure("upstream_certificate"),
            dial::Error::CertificateName(_) => not_secure("upstream_certificate_name"),
            dial::Error::Handshake(_) => not_secure("upstream_tls"),
            dial::Error::NoCommonProtocol => Self::upstream(
                StatusCode::BAD_GATEWAY,
                "upstream_protocol",
                "the upstream speaks another protocol",
            ),
            dial::Error::NoWebSockets => Self::upstream(
                StatusCode::BAD_GATEWAY,
                "upstream_no_websockets",
                "the upstream takes no WebSockets",
            ),
        }
    }
}

impl From<&h1::Error> for Error {
    #[cold]
    fn from(error: &h1::Error) -> Self {
        const BROKEN: &str = "the upstream's answer could not be used";
        let bad_gateway = |reason| Self::upstream(StatusCode::BAD_GATEWAY, reason, BROKEN);
        match error {
            h1::Error::Closed(_) => bad_gateway("upstream_closed"),
            h1::Error::Malformed(_) | h1::Error::Protocol(_) => bad_gateway("upstream_malformed"),
            h1::Error::Truncated => bad_gateway("upstream_truncated"),
            h1::Error::UnaskedUpgrade => bad_gateway("upstream_unasked_upgrade"),
            h1::Error::TimedOut => Self::upstream(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
                "the upstream did not answer in time",
            ),
            h1::Error::Downstream(error) => Self::from(error),
        }
    }
}

impl From<&client_body::Error> for Error {
    #[cold]
    fn from(error: &client_body::Error) -> Self {
        let (status, reason, text) = match error {
            client_body::Error::Broken => (
                StatusCode::BAD_REQUEST,
                "request_body",
                "the request body is incomplete",
            ),
            client_body::Error::Refused(refused) => return Self::unreadable(*refused),
            client_body::Error::TooLarge => return Self::too_large(),
            client_body::Error::TimedOut => (
                StatusCode::REQUEST_TIMEOUT,
                "request_body_timeout",
                "the request body came too slowly",
            ),
        };
        Self::refused(status, reason, text).closing()
    }
}
