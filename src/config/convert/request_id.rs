//! `request_id`.

use super::super::keys;
use super::super::problem::code;
use super::super::reader::{Reader, Section};
use super::super::{Listener, RequestId};
use super::own_header::own_header;
use crate::client_ip::ForwardingField;

/// Reads the section. The field may not be one that the listeners give another meaning.
pub(super) fn request_id(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    listeners: &[Listener],
) -> Option<RequestId> {
    let section = reader.subsection(root, "request_id", &keys::REQUEST_ID);
    if section.lacks("header") {
        reader.meaningless(&section, "trust_incoming", "without `header`");
        return None;
    }
    let header = own_header(reader, &section, "header", "a request's id", "X-Request-ID");
    let trust_incoming = reader.flag(&section, "trust_incoming", false);
    let header = header?;
    let is_elsewhere = listeners.iter().any(|listener| {
        let mut trusted = listener.trust.fields().map(ForwardingField::name);
        let subject = listener
            .tls
            .as_ref()
            .and_then(|tls| tls.subject_header.as_ref());
        trusted.any(|name| *name == header)
            || [subject, listener.explain_header.as_ref()].contains(&Some(&header))
    });
    if is_elsewhere {
        let message = format!("`{header}` can't name a request's id");
        let problem = reader.on_value(&section.place_of("header"), code::BAD_FIELD, message);
        reader.report(problem.label("a listener uses it for something else"));
        return None;
    }
    Some(RequestId {
        header,
        trust_incoming,
    })
}
