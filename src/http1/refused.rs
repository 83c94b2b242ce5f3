//! Why a client's message is refused.

use http::StatusCode;

/// A message that is refused. Nothing of the connection can be believed from there on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// What the client gets.
    pub status: StatusCode,
    /// For the log.
    pub reason: &'static str,
    /// Where it was found.
    pub place: Place,
}

/// Where a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In its head.
    Head,
    /// In its body. Its response may have begun.
    Body,
}
