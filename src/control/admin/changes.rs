//! What operators change while the process runs.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::config::Style;
use crate::control::reload::Verdict;

use super::Shared;
use super::answer::{Body, Refusal};
use super::figures::endpoints;
use super::requests::json_of;

/// Whether an endpoint gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// No more.
    Drain,
    /// Again.
    Resume,
}

impl Shared {
    /// Reloads, and waits for what comes of it.
    pub(super) async fn reload(&self) -> Result<Response<Body>, Refusal> {
        let (asker, verdict) = oneshot::channel();
        self.reloads.try_send(asker).map_err(|_| Refusal::Busy)?;
        let verdict = verdict.await.map_err(|_| Refusal::Busy)?;
        let status = match verdict {
            Verdict::Applied { .. } | Verdict::Unchanged => StatusCode::OK,
            Verdict::Rejected(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Verdict::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut response = json_of(&told(&verdict));
        *response.status_mut() = status;
        Ok(response)
    }

    /// Changes whether an endpoint gets requests, until the process ends.
    pub(super) fn change_endpoint(
        &self,
        upstream: &str,
        address: &str,
        change: Change,
    ) -> Result<Value, Refusal> {
        let snapshot = self.publisher.current();
        let cluster = snapshot
            .clusters
            .iter()
            .find(|cluster| cluster.name == upstream);
        let mut found = 0;
        for endpoint in cluster.into_iter().flat_map(endpoints) {
            if endpoint.address.to_string() == address {
                match change {
                    Change::Drain => endpoint.drain(),
                    Change::Resume => endpoint.resume(),
                }
                found += 1;
            }
        }
        if found == 0 {
            return Err(Refusal::NoEndpoint);
        }
        let drained = change == Change::Drain;
        tracing::info!(
            upstream,
            endpoint = address,
            drained,
            "endpoint changed by an operator"
        );
        Ok(json!({ "upstream": upstream, "address": address, "drained": drained }))
    }
}

/// What came of an attempt to reload.
pub(super) fn told(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Applied {
            changed,
            open_connections,
            warnings,
        } => json!({
            "result": "applied",
            "changed": changed,
            "open_connections_kept": open_connections,
            "problems": warnings,
            "text": warnings.render(Style::Plain),
        }),
        Verdict::Unchanged => json!({ "result": "unchanged", "problems": [], "text": "" }),
        Verdict::Rejected(problems) => {
            let file = problems.iter().next().map_or("", |problem| &problem.path);
            let text = format!(
                "{}{}\n",
                problems.render(Style::Plain),
                problems.summary(file)
            );
            json!({ "result": "rejected", "problems": problems, "text": text })
        }
        Verdict::Failed => {
            json!({ "result": "failed", "problems": [], "text": "the log says why\n" })
        }
    }
}
