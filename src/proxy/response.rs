//! What a client is answered.

use http::StatusCode;
use http::header::{CONNECTION, HeaderValue};

use crate::fields::Fields;

use super::body::Body;

/// A response on its way to a client.
#[derive(Debug)]
pub struct Response {
    /// The status: of 1xx only 101.
    pub status: StatusCode,
    /// What the codec doesn't say by itself. `Content-Length` tells of a body that isn't sent; `Connection: close` ends an
    /// HTTP/1 connection.
    pub fields: Fields,
    /// The body, and what ends with it.
    pub body: Body,
}

impl Response {
    /// One without fields.
    pub(super) fn new(status: StatusCode, body: Body) -> Self {
        Self {
            status,
            fields: Fields::default(),
            body,
        }
    }

    /// Has the client's connection end behind it.
    pub(super) fn close(&mut self) {
        let close = HeaderValue::from_static("close");
        self.fields.insert(CONNECTION, close);
    }

    /// The same for hyper, which writes HTTP/2.
    pub(super) fn into_http2(self) -> http::Response<Body> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.fields.to_map(|_| true);
        response
    }
}
