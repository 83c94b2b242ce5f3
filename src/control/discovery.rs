//! Names of endpoints become addresses: at start, and every few seconds after.
//!
//! A name that stops resolving keeps its last good addresses: an outage of DNS isn't one of the endpoints. Each name is
//! looked up on its own, and not again before an answer has come: what hangs holds up nothing else, and occupies one
//! thread of those that may wait.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::{Config, EndpointAddress, Target};
use crate::proxy::snapshot::{Publisher, Resolved, Snapshot};

/// A look-up that takes longer doesn't hold up a start or a reload; [`watch`] tries again.
const PATIENCE: Duration = Duration::from_secs(5);

/// A name without any address is looked up this often, unless it is more often anyway.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Between two looks for a new snapshot.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Host and port.
type Name = (String, u16);

/// The addresses of every endpoint name of `config`: those `known`, and for other names what is looked up now, all at
/// once. Names that don't resolve are logged and left out.
pub async fn resolve(config: &Config, known: &Resolved) -> Resolved {
    let mut resolved = Resolved::new();
    let mut look_ups = JoinSet::new();
    for name in names(config).into_keys() {
        if let Some(addresses) = known.get(&name) {
            resolved.insert(name, addresses.clone());
            continue;
        }
        look_ups.spawn(async move {
            let found = tokio::time::timeout(PATIENCE, look_up(&name.0, name.1)).await;
            let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            (name, found)
        });
    }
    while let Some(looked_up) = look_ups.join_next().await {
        match looked_up {
            Ok((name, Ok(addresses))) => {
                resolved.insert(name, addresses);
            }
            Ok(((host, port), Err(error))) => {
                tracing::warn!(host, port, %error, "endpoint name doesn't resolve");
            }
            Err(error) => tracing::error!(%error, "look-up"),
        }
    }
    resolved
}

/// What was `resolved` a while ago, with what has been found since.
pub fn renew(resolved: &mut Resolved, found_since: &Resolved) {
    for (name, addresses) in resolved {
        if let Some(newer) = found_since.get(name) {
            addresses.clone_from(newer);
        }
    }
}

/// Looks up the names of the configuration published last, again and again, and publishes a snapshot when their
/// addresses have changed. Never returns.
pub async fn watch(publisher: Publisher) {
    watch_by(publisher, |(host, port)| async move {
        look_up(&host, port).await
    })
    .await;
}

async fn watch_by<F>(publisher: Publisher, look_up: impl Fn(Name) -> F)
where
    F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
{
    let mut schedule = Schedule::default();
    let mut look_ups = JoinSet::new();
    loop {
        let now = Instant::now();
        schedule.follow(&publisher.current(), now);
        for name in schedule.take_due(now) {
            let answer = look_up(name.clone());
            look_ups.spawn(async move { (name, answer.await) });
        }
        tokio::select! {
            Some(Ok(first)) = look_ups.join_next() => {
                let mut answers = vec![first];
                while let Some(Ok(next)) = look_ups.try_join_next() {
                    answers.push(next);
                }
                adopt(&publisher, &mut schedule, answers);
            }
            () = tokio::time::sleep_until(schedule.next(now)) => {}
        }
    }
}

/// Publishes what was found, if that is news. Nothing waits here: no other change comes between.
fn adopt(
    publisher: &Publisher,
    schedule: &mut Schedule,
    answers: Vec<(Name, io::Result<Vec<SocketAddr>>)>,
) {
    let current = publisher.current();
    let wanted = names(&current.config);
    let mut resolved = current.resolved.clone();
    for (name, answer) in answers {
        let has_addresses = answer.is_ok() || resolved.contains_key(&name);
        schedule.note(&name, answer.as_ref().err(), has_addresses);
        let Ok(addresses) = answer else { continue };
        if wanted.contains_key(&name) && resolved.get(&name) != Some(&addresses) {
            let (host, port) = &name;
            tracing::info!(host, port, ?addresses, "endpoints changed");
            resolved.insert(name, addresses);
        }
    }
    if resolved != current.resolved {
        let tls = Arc::clone(&current.tls);
        let next = Snapshot::build(current.config.clone(), tls, &resolved, Some(&current));
        publisher.publish(next);
    }
}

/// When which name is looked up.
#[derive(Debug, Default)]
struct Schedule {
    entries: BTreeMap<Name, Entry>,
    followed: Option<Arc<Snapshot>>,
}

#[derive(Debug)]
struct Entry {
    interval: Duration,
    /// `None` while it is being looked up.
    due: Option<Instant>,
    /// The last answer was none, which has been said.
    fails: bool,
}

impl Schedule {
    /// Knows the names of this snapshot from now on, and no others.
    fn follow(&mut self, snapshot: &Arc<Snapshot>, now: Instant) {
        let is_known = |followed: &Arc<Snapshot>| Arc::ptr_eq(followed, snapshot);
        if self.followed.as_ref().is_some_and(is_known) {
            return;
        }
        self.followed = Some(Arc::clone(snapshot));
        let mut before = std::mem::take(&mut self.entries);
        for (name, interval) in names(&snapshot.config) {
            let fails = !snapshot.resolved.contains_key(&name);
            let mut entry = before.remove(&name).unwrap_or(Entry {
                interval,
                due: Some(now + pause(interval, !fails)),
                fails,
            });
            entry.interval = interval;
            entry.due = entry.due.map(|due| due.min(now + interval));
            self.entries.insert(name, entry);
        }
    }

    /// Those whose time has come; they are being looked up from now on.
    fn take_due(&mut self, now: Instant) -> Vec<Name> {
        let due = self.entries.iter_mut().filter_map(|(name, entry)| {
            entry.due.take_if(|due| *due <= now)?;
            Some(name.clone())
        });
        due.collect()
    }

    /// When there is something to do, or a new snapshot is looked for.
    fn next(&self, now: Instant) -> Instant {
        let due = self.entries.values().filter_map(|entry| entry.due);
        due.min()
            .unwrap_or(now + LOOK_INTERVAL)
            .min(now + LOOK_INTERVAL)
    }

    /// A look-up is over.
    fn note(&mut self, name: &Name, error: Option<&io::Error>, has_addresses: bool) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        entry.due = Some(Instant::now() + pause(entry.interval, has_addresses));
        let (host, port) = name;
        match error {
            Some(error) if !std::mem::replace(&mut entry.fails, true) => {
                tracing::warn!(host, port, %error, "endpoint name doesn't resolve, its last addresses are kept");
            }
            None if std::mem::replace(&mut entry.fails, false) => {
                tracing::info!(host, port, "endpoint name resolves again");
            }
            _ => {}
        }
    }
}

fn pause(interval: Duration, has_addresses: bool) -> Duration {
    if has_addresses {
        interval
    } else {
        interval.min(RETRY_INTERVAL)
    }
}

/// All names, and how often each is to be looked up.
fn names(config: &Config) -> BTreeMap<Name, Duration> {
    let mut names = BTreeMap::new();
    for upstream in &config.upstreams {
        let Target::Endpoints(endpoints) = &upstream.target else {
            continue;
        };
        for endpoint in endpoints {
            if let EndpointAddress::Name { host, port } = &endpoint.address {
                let interval = names
                    .entry((host.clone(), *port))
                    .or_insert(upstream.lookup_interval);
                *interval = upstream.lookup_interval.min(*interval);
            }
        }
    }
    names
}

async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    found(tokio::net::lookup_host((host, port)).await?)
}

/// Sorted, so that a resolver which rotates its answers changes nothing.
fn found(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let addresses: BTreeSet<SocketAddr> = addresses.collect();
    if addresses.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(addresses.into_iter().collect())
}

#[cfg(test)]
mod tests;
