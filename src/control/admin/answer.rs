//! What is sent back.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};

use super::events::Events;

/// A response body.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it; empty when it has been taken.
    Text(Bytes),
    /// As long as somebody listens.
    Events(Events),
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Events(events) => events.poll_frame(cx).map(|event| event.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// Why a request isn't answered as it was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It names a host that may be anybody's.
    Host,
    /// A page of somebody else's sent it.
    Origin,
    /// The token is missing or wrong.
    Token,
    /// Nothing is there.
    Unknown,
    /// Something is there, for these methods.
    Method(&'static str),
    /// Its query can't be answered, for this reason.
    Query(&'static str),
    /// The request it asks about isn't kept any more.
    NoRequest,
    /// It is, but not what matters.
    NotKept,
    /// It is, but would be judged otherwise by now.
    Changed,
    /// There is no listener of this name.
    NoListener,
    /// There is no such upstream, or no such endpoint of it.
    NoEndpoint,
    /// The process is about to end, or has been asked often enough already.
    Busy,
    /// As many listen already as may.
    Subscribers,
    /// Its body is too large.
    TooLarge,
    /// Its body didn't come in time, or not whole.
    Unfinished,
}

impl Refusal {
    /// What is said.
    pub(super) fn line(self) -> &'static str {
        self.parts().1
    }

    pub(super) fn response(self) -> Response<Body> {
        let (status, line) = self.parts();
        let mut response = line_of(status, line);
        let field = match self {
            Self::Token => Some((WWW_AUTHENTICATE, "Bearer realm=\"headwater\"")),
            Self::Method(allowed) => Some((ALLOW, allowed)),
            _ => None,
        };
        if let Some((name, value)) = field {
            response
                .headers_mut()
                .insert(name, HeaderValue::from_static(value));
        }
        response
    }

    fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "ask by address or as localhost: this isn't a name of the admin interface",
            ),
            Self::Origin => (
                StatusCode::FORBIDDEN,
                "a page of another origin may change nothing here",
            ),
            Self::Token => (
                StatusCode::UNAUTHORIZED,
                "show the token:  Authorization: Bearer TOKEN",
            ),
            Self::Unknown => (StatusCode::NOT_FOUND, "nothing is here"),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "not by this method"),
            Self::Query(line) => (StatusCode::BAD_REQUEST, line),
            Self::Subscribers => (
                StatusCode::SERVICE_UNAVAILABLE,
                "as many listen to events already as may",
            ),
            Self::NoListener => (StatusCode::NOT_FOUND, "no listener of this name"),
            Self::NoEndpoint => (
                StatusCode::NOT_FOUND,
                "no such endpoint of an upstream of this name",
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "not now: the process is about to end, or reloads already",
            ),
            Self::NoRequest => (StatusCode::NOT_FOUND, "not among the last requests"),
            Self::NotKept => (
                StatusCode::GONE,
                "what it said about its client was more than is kept",
            ),
            Self::Changed => (
                StatusCode::GONE,
                "it was judged by a configuration that has been replaced",
            ),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            Self::Unfinished => (StatusCode::BAD_REQUEST, "the body didn't come"),
        }
    }
}

/// One line of text.
pub(super) fn line_of(status: StatusCode, line: &str) -> Response<Body> {
    let mut response = of(TEXT, format!("{line}\n"));
    *response.status_mut() = status;
    response
}

/// 200 with a text of this type.
pub(super) fn of(content_type: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::Text(text.into()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// Has browsers keep what they get to themselves, and to this origin.
pub(super) fn guard(response: &mut Response<Body>) {
    let fields = [
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("content-security-policy"), POLICY),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ];
    for (name, value) in fields {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
}

const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
