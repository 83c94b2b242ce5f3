//! Active checks: asks endpoints how they are, and is the only one that judges them by the answers.
//!
//! One task per endpoint of a cluster with `health_check`, on the control thread's runtime. Checks are spread by
//! jitter, so that neither the endpoints of a cluster nor several proxies check in step. New snapshots are noticed by
//! looking: names that resolve anew and reloads need no word of this.

use std::collections::{HashMap, HashSet};
use std::error::Error as _;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::uri::Scheme;
use http::{HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::AbortHandle;

use crate::config::HealthCheck;
use crate::http1::request::{self, Framing};
use crate::http1::response::{self, Limits};
use crate::proxy::snapshot::{Publisher, Snapshot};
use crate::transport::deadline::ticks_now;
use crate::transport::dial::{self, Stream};
use crate::upstream::health::Verdict;
use crate::upstream::{Endpoint, Target};

/// Between two looks for a new snapshot.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The first check of an endpoint comes this soon, however long the interval.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

const USER_AGENT: HeaderValue = HeaderValue::from_static("headwater-health-check");

/// Checks the endpoints of whatever is published. Never returns.
pub async fn watch(publisher: Publisher) {
    let mut watched: Option<Arc<Snapshot>> = None;
    let mut checks = Checks::new();
    loop {
        let current = publisher.current();
        let is_known = |watched: &Arc<Snapshot>| Arc::ptr_eq(watched, &current);
        if !watched.as_ref().is_some_and(is_known) {
            checks = follow(&current, checks);
            watched = Some(current);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// All checks, by the address of their endpoint in memory: each keeps its own there.
type Checks = HashMap<usize, Check>;

/// Keeps the checks that the snapshot still wants, ends the others, and begins new ones.
fn follow(snapshot: &Snapshot, mut before: Checks) -> Checks {
    let mut checks = Checks::new();
    for cluster in &snapshot.clusters {
        let (Some(how), Target::Endpoints(endpoints)) = (&cluster.health_check, &cluster.target)
        else {
            continue;
        };
        for endpoint in endpoints {
            let key = Arc::as_ptr(endpoint).addr();
            let known = before.remove(&key);
            let kept = known.filter(|check| check.how == *how);
            // Two names may lead to one endpoint.
            checks.entry(key).or_insert_with(|| {
                kept.unwrap_or_else(|| Check::begin(&cluster.name, endpoint, how))
            });
        }
    }
    let state_of = |check: &Check| Arc::as_ptr(&check.endpoint.state).addr();
    let taken_over: HashSet<usize> = checks.values().map(state_of).collect();
    for gone in before.values() {
        // Nobody would ever say otherwise.
        if !taken_over.contains(&state_of(gone)) {
            let health = &gone.endpoint.state.health;
            health.judge(Verdict::Healthy, ticks_now());
        }
    }
    checks
}

/// The checks of one endpoint; they end when this is dropped.
#[derive(Debug)]
struct Check {
    endpoint: Arc<Endpoint>,
    how: HealthCheck,
    task: AbortHandle,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Check {
    fn begin(upstream: &str, endpoint: &Arc<Endpoint>, how: &HealthCheck) -> Self {
        let task = run(upstream.to_owned(), Arc::clone(endpoint), how.clone());
        Self {
            endpoint: Arc::clone(endpoint),
            how: how.clone(),
            task: tokio::spawn(task).abort_handle(),
        }
    }
}

async fn run(upstream: String, endpoint: Arc<Endpoint>, how: HealthCheck) {
    let mut row = Row::default();
    tokio::time::sleep(FIRST_WITHIN.min(how.interval).mul_f64(fraction())).await;
    loop {
        let outcome = tokio::time::timeout(how.timeout, check(&endpoint, &how)).await;
        let outcome = outcome.unwrap_or(Err(Failure::TimedOut));
        let is_ours = matches!(outcome, Err(Failure::Connect(dial::Error::Exhausted(_))));
        if !is_ours
            && let Some(verdict) = row.add(outcome.is_ok(), &how)
            && endpoint.state.health.judge(verdict, ticks_now())
        {
            let endpoint = &endpoint.address;
            match &outcome {
                Ok(()) => tracing::info!(upstream, %endpoint, "healthy"),
                Err(error) => tracing::warn!(upstream, %endpoint, %error, "unhealthy"),
            }
        }
        tokio::time::sleep(how.interval.mul_f64(0.9 + 0.2 * fraction())).await;
    }
}

/// From 0 to 1, by the standard library's random keys.
fn fraction() -> f64 {
    let random = RandomState::new().hash_one(()) >> 32;
    f64::from(u32::try_from(random).unwrap_or_default()) / f64::from(u32::MAX)
}

/// Outcomes of the same kind in a row.
#[derive(Debug, Default)]
struct Row {
    passing: bool,
    length: u32,
}

impl Row {
    /// The verdict, when the row is long enough for one.
    fn add(&mut self, passed: bool, how: &HealthCheck) -> Option<Verdict> {
        if self.passing != passed {
            *self = Self {
                passing: passed,
                length: 0,
            };
        }
        self.length = self.length.saturating_add(1);
        let (verdict, needed) = if passed {
            (Verdict::Healthy, how.healthy_after)
        } else {
            (Verdict::Unhealthy, how.unhealthy_after)
        };
        (self.length >= needed).then_some(verdict)
    }
}

/// Why an endpoint failed a check.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{}", .0.source().unwrap_or(.0))]
    Connect(#[from] dial::Error),
    #[error("{0}")]
    Malformed(#[from] response::Error),
    #[error("{0}")]
    Http2(#[from] h2::Error),
    /// The configured authority or path has no place in HTTP/2.
    #[error("{0}")]
    Unaskable(#[from] http::Error),
    #[error("closed without an answer")]
    Ended,
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
}

/// Reaches an endpoint as requests do, and asks it if there is something to ask.
async fn check(endpoint: &Endpoint, how: &HealthCheck) -> Result<(), Failure> {
    let stream = dial::connect(endpoint.address.as_destination()).await?;
    let link = &endpoint.link;
    let stream = dial::prepare(stream, link.preamble(link.protocol, None)).await?;
    let version = link.version(link.protocol, &stream)?;
    let Some(path) = &how.path else {
        return Ok(());
    };
    let status = if version == Version::HTTP_2 {
        ask_http2(stream, endpoint, path).await?
    } else {
        ask_http1(stream, endpoint, path).await?
    };
    let is_expected = if how.expect_status.is_empty() {
        status.is_success()
    } else {
        how.expect_status.contains(&status)
    };
    if is_expected {
        Ok(())
    } else {
        Err(Failure::Status(status))
    }
}

async fn ask_http1(
    mut stream: Stream,
    endpoint: &Endpoint,
    path: &str,
) -> Result<StatusCode, Failure> {
    let mut head = Vec::new();
    request::begin(&mut head, &Method::GET, path, endpoint.authority.as_bytes());
    request::field(&mut head, &header::USER_AGENT, &USER_AGENT);
    head.extend_from_slice(b"connection: close\r\n");
    request::finish(&mut head, Framing::None);
    stream.write_all(&head).await?;
    read_status(&mut stream).await
}

async fn ask_http2(stream: Stream, endpoint: &Endpoint, path: &str) -> Result<StatusCode, Failure> {
    let scheme = match endpoint.link.tls {
        Some(_) => Scheme::HTTPS,
        None => Scheme::HTTP,
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(endpoint.authority.as_str())
        .path_and_query(path)
        .build()?;
    let request = Request::get(uri)
        .header(header::USER_AGENT, USER_AGENT)
        .body(())?;
    let (sender, connection) = h2::client::handshake(stream).await?;
    let exchange = async {
        let (response, _) = sender.ready().await?.send_request(request, true)?;
        Ok(response.await?.status())
    };
    tokio::select! {
        status = exchange => status,
        ended = connection => Err(ended.err().map_or(Failure::Ended, Failure::from)),
    }
}

/// Of the final response; its body is nobody's business.
async fn read_status(stream: &mut (impl AsyncRead + Unpin)) -> Result<StatusCode, Failure> {
    let mut buffer = BytesMut::new();
    let mut reader = response::Reader::default();
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(Failure::Ended);
        }
        while !buffer.is_empty() {
            match reader.read(&mut buffer, &Method::GET, &Limits::default())? {
                Some(head) if head.status.is_informational() => {}
                Some(head) => return Ok(head.status),
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;
