//! Server-sent events: each request that has ended, soon after it has.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::control::explanation::Form;
use crate::telemetry::origins::Verdict;
use crate::telemetry::recent::Wanted;

use super::Shared;
use super::answer::{Body, Refusal};
use super::requests::Request;

/// Who may listen at a time.
pub(super) const MAX_SUBSCRIBERS: usize = 16;

/// Between two looks at what has ended.
const INTERVAL: Duration = Duration::from_millis(250);

/// Without an event for so long, a comment shows that the connection lives.
const QUIET_LOOKS: u32 = 60;

/// Events of a look that are explained: the last ones, which is more than anybody reads in that time.
const EXPLAINED: usize = 100;

/// Looks whose events a subscriber hasn't taken yet. One that is slower is dropped.
const MAX_WAITING: usize = 4;

/// What a subscriber is sent.
#[derive(Debug)]
pub(super) struct Events {
    waiting: mpsc::Receiver<Bytes>,
}

impl Events {
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        Pin::new(&mut self.waiting)
            .poll_recv(cx)
            .map(|event| event.map(Frame::data))
    }
}

/// Subscribes whoever asks.
pub(super) fn subscribe(shared: &Arc<Shared>) -> Result<Response<Body>, Refusal> {
    let seat = Arc::clone(&shared.subscribers)
        .try_acquire_owned()
        .map_err(|_| Refusal::Subscribers)?;
    let (events, waiting) = mpsc::channel(MAX_WAITING);
    // Not the connection's: that of one who takes nothing may stay for long.
    tokio::spawn(tell(Arc::clone(shared), events, seat));
    let mut response = Response::new(Body::Events(Events { waiting }));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    Ok(response)
}

/// Ends when the subscriber has gone, or is too slow.
async fn tell(shared: Arc<Shared>, events: mpsc::Sender<Bytes>, _seat: OwnedSemaphorePermit) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // What has ended before is the past.
    let mut last = vec![0; shared.workers.count()];
    ended_since(&shared, &mut last).await;
    let mut quiet = 0;
    if events
        .try_send(Bytes::from_static(
            b"retry: 1000\n: requests as they end\n\n",
        ))
        .is_err()
    {
        return;
    }
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = events.closed() => return,
        }
        let ended = ended_since(&shared, &mut last).await;
        let text = if !ended.is_empty() {
            ended
        } else if quiet < QUIET_LOOKS {
            quiet += 1;
            continue;
        } else {
            ": nothing\n\n".to_owned()
        };
        quiet = 0;
        if events.try_send(Bytes::from(text)).is_err() {
            return;
        }
    }
}

/// An event for each request that ended after those of `last`, by worker; empty when there are none.
async fn ended_since(shared: &Shared, last: &mut [u64]) -> String {
    let after = |index: usize| last.get(index).copied().unwrap_or_default();
    let answers = shared
        .workers
        .requests(|index| Wanted::EndedAfter(after(index)))
        .await;
    let snapshot = shared.publisher.current();
    let mut ended = Vec::new();
    for (last, answer) in last.iter_mut().zip(answers) {
        *last = answer.last().map_or(*last, |seen| seen.ended);
        ended.extend(answer);
    }
    ended.sort_by_key(|seen| seen.time);
    let unexplained = ended.len().saturating_sub(EXPLAINED);
    let events = ended.into_iter().enumerate().map(|(index, seen)| {
        let request = if index >= unexplained || seen.verdict == Verdict::Forged {
            Request::explained(seen, &snapshot, Form::Json)
        } else {
            Request::of(seen, &snapshot)
        };
        let json = serde_json::to_string(&request).unwrap_or_default();
        format!("event: request\ndata: {json}\n\n")
    });
    events.collect()
}
