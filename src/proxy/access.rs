//! Who is let in, judged on the resolved client.

use http::StatusCode;

use crate::client_ip::{ClientAddr, Resolution};
use crate::config::Access;

use super::error::Error;

/// `deny` first, then `allow`. A client whose chain couldn't be read fails every allow rule, and its nearest address is
/// held against the deny rules.
pub(super) fn check(access: &Access, resolution: &Resolution<'_>) -> Result<(), Error> {
    let denied = access.deny.as_ref().is_some_and(|denied| {
        let client = resolution.client().ip();
        client.is_some_and(|ip| denied.contains(ip))
    });
    let allowed = access.allow.as_ref().is_none_or(|allowed| {
        let client = resolution.client_for_decision().and_then(ClientAddr::ip);
        client.is_some_and(|ip| allowed.contains(ip))
    });
    if denied || !allowed {
        return Err(Error::refused(
            StatusCode::FORBIDDEN,
            "access",
            "access from this address is refused",
        ));
    }
    Ok(())
}
