//! An explanation as JSON: the same for the command line, the admin interface and its page.

use serde_json::{Map, Value, json};

use crate::client_ip::explain::Explanation;

/// One object, whose members are those of the log where there are such.
pub fn as_json(explanation: &Explanation) -> Value {
    let hops = explanation.hops.iter().map(|hop| {
        json!({ "party": hop.party, "origin": hop.origin.to_string(), "verdict": hop.verdict.to_string() })
    });
    let sent: Map<_, _> = explanation
        .sent
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    json!({
        "client_ip": explanation.client,
        "client_ip_reason": explanation.reason.as_str(),
        "client_ip_source": explanation.source,
        "summary": explanation.summary,
        "found_in": explanation.place.to_string(),
        "hops": hops.collect::<Value>(),
        "unlisted": explanation.unlisted,
        "forged": explanation.forged,
        "sent": sent,
    })
}
