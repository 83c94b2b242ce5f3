//! A request without its body, whichever version of HTTP it came in.

use http::{Method, Uri, Version};

use crate::fields::Fields;

/// A request as it was received.
#[derive(Debug, Default)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// Of HTTP.
    pub version: Version,
    /// Whether this is an extended CONNECT that asks for a WebSocket (RFC 8441 §4).
    pub connects_websocket: bool,
    /// The fields.
    pub fields: Fields,
}
