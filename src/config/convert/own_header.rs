//! Fields that get a name of the operator's choice, and that nobody else may send upstream.

use http::{HeaderName, header};

use super::super::problem::code;
use super::super::reader::{Reader, Section};
use crate::client_ip::{EmitPolicy, SentField};
use crate::fields::Fields;
use crate::hop_by_hop::HopByHop;

/// Reads such a name; it may not mean anything already. Messages call the field `what`, and propose `usual`.
pub(super) fn own_header(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    what: &str,
    usual: &str,
) -> Option<HeaderName> {
    let (at, text) = reader.optional_text(section, key)?;
    reader.record_text(&at.place, text);
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        let message = format!("`{text}` isn't the name of a header field");
        let problem = reader.on_value(&at.place, code::BAD_FIELD, message);
        reader.report(problem);
        return None;
    };
    if is_taken(&name) {
        let message = format!("`{text}` can't name {what}");
        let problem = reader
            .on_value(&at.place, code::BAD_FIELD, message)
            .label("it means something else already")
            .help(format!("a usual name is  {usual}"));
        reader.report(problem);
        return None;
    }
    Some(name)
}

/// Whether a field has a meaning to every HTTP party, or is one of those that are written here anyway.
fn is_taken(name: &HeaderName) -> bool {
    let general = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::TRAILER,
        header::COOKIE,
        header::AUTHORIZATION,
        header::SET_COOKIE,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::CACHE_CONTROL,
        header::ETAG,
        header::VARY,
        header::LOCATION,
        header::DATE,
        header::RETRY_AFTER,
        header::WWW_AUTHENTICATE,
        header::SEC_WEBSOCKET_ACCEPT,
    ];
    general.contains(name)
        || HopByHop::of_request(&Fields::default()).removes(name)
        || EmitPolicy::default().removes(name, true)
        || SentField::parse(name.as_str()).is_some()
}
