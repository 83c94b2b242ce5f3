//! What is running: an immutable [`Snapshot`] of everything a request asks, and each worker's [`View`] of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use http::HeaderName;

use crate::client_ip::{EmitPolicy, ForwardingField};
use crate::config::{self, Config};
use crate::route::Router;
use crate::telemetry::access_log::{LocalLog, Log};
use crate::telemetry::metrics::{Counts, Ledger, Names, OfUpstream};
use crate::telemetry::recent::Recent;
use crate::telemetry::snat::{Peers, Probes};
use crate::transport::deadline::{self, Deadlines};
use crate::transport::tls::client::Client;
use crate::upstream::endpoint::{Facts, Role, State};
use crate::upstream::queue::{Bells, Line};
use crate::upstream::{Cluster, Endpoint, EndpointAddress, Link, LocalCluster, Target};

/// What names of endpoints resolved to, by `(host, port)`.
pub type Resolved = HashMap<(String, u16), Vec<SocketAddr>>;

/// Everything a request asks, built from a [`Config`] and never changed.
#[derive(Debug)]
pub struct Snapshot {
    /// 1 for the first, and one more for each that follows.
    pub version: u64,
    /// What was asked for.
    pub config: Config,
    /// `config.emit`, for what outlives the borrow of a request.
    pub emit: Arc<EmitPolicy>,
    /// Leads to an index of `config.routes`.
    pub router: Router<usize>,
    /// Fields that routes look at and that name a client by its certificate, in any spelling.
    pub matched_subjects: Vec<HeaderName>,
    /// In the order of `config.upstreams`.
    pub clusters: Vec<Cluster>,
    /// What the names of endpoints had resolved to.
    pub resolved: Resolved,
    /// TLS towards each of them.
    pub tls: TlsClients,
    /// Whether a PROXY header is sent to any of them.
    pub sends_proxy_headers: bool,
    /// Of the workers, as many as the first configuration asked for.
    pub bells: Bells,
    /// What the workers count, whatever snapshot they work by.
    pub ledger: Arc<Ledger>,
    /// Requests that say nothing about where clients come from.
    pub probes: Probes,
    /// Where requests are recorded; `None`: nowhere.
    pub access_log: Option<Arc<Log>>,
}

/// TLS towards each upstream, in the order of `config.upstreams`; `None` where it isn't spoken.
pub type TlsClients = Arc<[Option<Arc<Client>>]>;

impl Snapshot {
    /// Builds a snapshot. Endpoints that `previous` has already keep their identity, and so their idle connections.
    pub fn build(
        config: Config,
        tls: TlsClients,
        resolved: &Resolved,
        previous: Option<&Self>,
    ) -> Self {
        let bells = previous.map_or_else(
            || Bells::new(config.worker_threads),
            |previous| previous.bells.clone(),
        );
        let matchers = config.routes.iter().map(|route| route.matcher.clone());
        let router = Router::new(matchers.zip(0..));
        let clusters = config
            .upstreams
            .iter()
            .zip(tls.iter())
            .map(|(upstream, tls)| {
                let before = previous.and_then(|snapshot| {
                    snapshot.clusters.iter().find(|c| c.name == upstream.name)
                });
                let line =
                    before.map_or_else(|| Line::new(&bells), |before| Arc::clone(&before.line));
                cluster(upstream, tls.as_ref(), resolved, before, line)
            })
            .collect();
        Self {
            version: previous.map_or(1, |snapshot| snapshot.version + 1),
            emit: Arc::new(config.emit.clone()),
            sends_proxy_headers: config
                .upstreams
                .iter()
                .any(|upstream| upstream.proxy_header.is_some()),
            matched_subjects: matched_subjects(&config),
            probes: Probes::of(&config),
            config,
            router,
            clusters,
            resolved: resolved.clone(),
            tls,
            bells,
            ledger: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.ledger)),
            access_log: previous.and_then(|snapshot| snapshot.access_log.clone()),
        }
    }

    /// Has requests recorded there, instead of where they were before.
    #[must_use]
    pub fn with_access_log(self, access_log: Option<Arc<Log>>) -> Self {
        Self { access_log, ..self }
    }
}

/// Where a worker keeps its last requests, while there is an admin interface to ask for them.
fn recent(snapshot: &Snapshot, previous: Option<&View>) -> Option<Rc<Recent>> {
    let config = &snapshot.config;
    config.admin.as_ref()?;
    let kept = previous.and_then(|previous| previous.counts.recent());
    Some(kept.map_or_else(|| Rc::new(Recent::new(config.worker_threads)), Rc::clone))
}

/// Where a worker counts peers: goes on where it did, while the listeners are the same.
fn peers(snapshot: &Snapshot, previous: Option<&View>) -> Rc<Peers> {
    let names = || {
        snapshot
            .config
            .listeners
            .iter()
            .map(|listener| &*listener.name)
    };
    let kept = previous.map(|previous| previous.counts.peers());
    kept.filter(|peers| peers.is_for(names()))
        .map_or_else(|| Rc::new(Peers::new(names())), Rc::clone)
}

/// What is counted for by name.
fn names(snapshot: &Snapshot) -> Names<'_> {
    let config = &snapshot.config;
    let trusts = config.listeners.iter().map(|listener| &listener.trust);
    let mut fields: Vec<_> = trusts
        .flat_map(|trust| trust.fields().map(ForwardingField::name))
        .collect();
    fields.sort_unstable_by_key(|name| name.as_str());
    fields.dedup();
    let endpoints = |cluster: &Cluster| match &cluster.target {
        Target::Endpoints(endpoints) => endpoints
            .iter()
            .map(|endpoint| endpoint.address.to_string())
            .collect(),
        Target::Whoami(_) => Vec::new(),
    };
    Names {
        listeners: config
            .listeners
            .iter()
            .map(|listener| &*listener.name)
            .collect(),
        routes: config.routes.iter().map(|route| &*route.name).collect(),
        fields,
        upstreams: snapshot
            .clusters
            .iter()
            .map(|cluster| (&*cluster.name, endpoints(cluster)))
            .collect(),
    }
}

impl Snapshot {
    /// Where requests of the route of this name go.
    pub fn upstream_of(&self, route: &str) -> Option<&str> {
        let route = self
            .config
            .routes
            .iter()
            .find(|known| known.name == route)?;
        match route.action {
            config::Action::Upstream(index) => {
                self.clusters.get(index).map(|cluster| &*cluster.name)
            }
            config::Action::Respond { .. } => None,
        }
    }
}

fn matched_subjects(config: &Config) -> Vec<HeaderName> {
    let tls = config.listeners.iter().filter_map(|l| l.tls.as_ref());
    let folded = |name: &HeaderName| name.as_str().replace(['_', '.'], "-");
    let subjects: Vec<String> = tls
        .filter_map(|tls| tls.subject_header.as_ref())
        .map(folded)
        .collect();
    let matchers = config.routes.iter().map(|route| &route.matcher);
    let names = matchers.flat_map(|matcher| matcher.headers.iter().map(|(name, _)| name));
    names
        .filter(|name| subjects.contains(&folded(name)))
        .cloned()
        .collect()
}

fn cluster(
    upstream: &config::Upstream,
    tls: Option<&Arc<Client>>,
    resolved: &Resolved,
    before: Option<&Cluster>,
    line: Arc<Line>,
) -> Cluster {
    let link = |host: &str| {
        let tls = match tls {
            // Whatever the configuration calls a host or an address, a certificate can be valid for.
            Some(client) => Some((Arc::clone(client), client.server_name(host)?)),
            None => None,
        };
        Some(Link {
            protocol: upstream.protocol,
            tls,
            proxy_header: upstream.proxy_header,
        })
    };
    let target = match &upstream.target {
        config::Target::Whoami(of) => Target::Whoami(*of),
        config::Target::Endpoints(wanted) => {
            let mut known = Known::of(before);
            let facts = wanted
                .iter()
                .flat_map(|endpoint| facts(upstream, endpoint, resolved, link));
            Target::Endpoints(facts.map(|facts| known.keep_identity(facts)).collect())
        }
    };
    Cluster {
        name: upstream.name.clone(),
        target,
        timeouts: upstream.timeouts,
        pool: upstream.pool,
        retries: upstream.retries,
        queue_timeout: upstream.queue_timeout,
        health_check: upstream.health_check.clone(),
        line,
    }
}

/// One configured endpoint is as many as its name has addresses. `link` says how to speak to a host.
fn facts(
    upstream: &config::Upstream,
    wanted: &config::Endpoint,
    resolved: &Resolved,
    link: impl Fn(&str) -> Option<Link>,
) -> Vec<Facts> {
    let role = if wanted.backup {
        Role::Backup
    } else {
        Role::Primary
    };
    let endpoint = |address, authority, host: &str| {
        Some(Facts {
            address,
            authority,
            weight: wanted.weight.get(),
            link: link(host)?,
            role,
            max_connections: upstream.max_connections_per_endpoint,
            outlier_detection: upstream.outlier_detection,
            slow_start: upstream.slow_start,
        })
    };
    match &wanted.address {
        config::EndpointAddress::Ip(address) => {
            let host = address.ip().to_string();
            endpoint(EndpointAddress::Ip(*address), address.to_string(), &host)
                .into_iter()
                .collect()
        }
        config::EndpointAddress::Unix(path) => endpoint(
            EndpointAddress::Unix(path.clone()),
            "localhost".to_owned(),
            "localhost",
        )
        .into_iter()
        .collect(),
        config::EndpointAddress::Name { host, port } => resolved
            .get(&(host.clone(), *port))
            .into_iter()
            .flatten()
            .filter_map(|address| {
                let authority = format!("{host}:{port}");
                endpoint(EndpointAddress::Ip(*address), authority, host)
            })
            .collect(),
    }
}

/// The endpoints of a cluster as it was, and as it comes to be.
struct Known {
    by_address: HashMap<EndpointAddress, Vec<Arc<Endpoint>>>,
    /// Whether there were none before.
    is_new: bool,
}

impl Known {
    fn of(before: Option<&Cluster>) -> Self {
        let known = match before.map(|cluster| &cluster.target) {
            Some(Target::Endpoints(known)) => known.as_slice(),
            _ => &[],
        };
        let mut by_address: HashMap<_, Vec<_>> = HashMap::with_capacity(known.len());
        for endpoint in known {
            let same_address = by_address.entry(endpoint.address.clone()).or_default();
            same_address.push(Arc::clone(endpoint));
        }
        Self {
            is_new: known.is_empty(),
            by_address,
        }
    }

    /// An endpoint whose facts are as before stays what it was; one whose address is keeps its health.
    fn keep_identity(&mut self, facts: Facts) -> Arc<Endpoint> {
        let same_address = self.by_address.entry(facts.address.clone()).or_default();
        if let Some(same) = same_address.iter().find(|known| known.facts == facts) {
            return Arc::clone(same);
        }
        let state = match same_address.first() {
            Some(known) => Arc::clone(&known.state),
            None if self.is_new => Arc::default(),
            None => Arc::new(State::appeared(deadline::ticks_now())),
        };
        let endpoint = Arc::new(Endpoint { facts, state });
        same_address.push(Arc::clone(&endpoint));
        endpoint
    }
}

/// The one place snapshots are published to; cloned for whoever publishes or reads.
#[derive(Debug, Clone)]
pub struct Publisher(Arc<ArcSwap<Snapshot>>);

impl Publisher {
    /// Starts with this snapshot.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(snapshot)))
    }

    /// Requests that begin from now on see `snapshot`.
    pub fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }

    /// The snapshot published last.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }
}

/// One worker's view of a snapshot: with its own pickers and connections.
#[derive(Debug)]
pub struct View {
    /// Shared by all workers.
    pub snapshot: Arc<Snapshot>,
    /// In the order of the snapshot's clusters.
    pub clusters: Vec<LocalCluster>,
    /// This worker's end of the snapshot's access log.
    pub access_log: Option<Rc<LocalLog>>,
    /// Where this worker counts what the snapshot names.
    pub counts: Rc<Counts>,
}

impl View {
    /// The upstream of this index.
    pub fn upstream(&self, index: usize) -> Option<Side<'_>> {
        Some(Side {
            cluster: self.snapshot.clusters.get(index)?,
            local: self.clusters.get(index)?,
            counts: self.counts.upstream(index)?,
        })
    }

    /// The upstream of this name.
    pub fn upstream_named(&self, name: &str) -> Option<Side<'_>> {
        let mut clusters = self.snapshot.clusters.iter();
        self.upstream(clusters.position(|cluster| cluster.name == name)?)
    }

    fn new(
        snapshot: &Arc<Snapshot>,
        previous: Option<&Self>,
        worker: usize,
        clock: &Rc<Deadlines>,
    ) -> Self {
        let before = |name: &str| Some(previous?.upstream_named(name)?.local);
        Self {
            counts: Counts::new(
                &snapshot.ledger,
                worker,
                names(snapshot),
                peers(snapshot, previous),
                recent(snapshot, previous),
            ),
            snapshot: Arc::clone(snapshot),
            clusters: snapshot
                .clusters
                .iter()
                .map(|cluster| LocalCluster::new(cluster, before(&cluster.name), worker, clock))
                .collect(),
            access_log: LocalLog::follow(
                snapshot.access_log.as_ref(),
                previous.and_then(|previous| previous.access_log.as_ref()),
            ),
        }
    }
}

/// One upstream, as a worker sees it.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Shared by all workers.
    pub cluster: &'a Cluster,
    /// The worker's own.
    pub local: &'a LocalCluster,
    /// Where it counts what it sends there.
    pub counts: &'a OfUpstream,
}

/// How a worker comes by its current view: a comparison per request, and a rebuild after a change.
#[derive(Debug)]
pub struct Reader {
    cache: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    view: RefCell<Rc<View>>,
    worker: usize,
    clock: Rc<Deadlines>,
}

impl Reader {
    /// The reader of one worker.
    pub fn new(publisher: &Publisher, worker: usize, clock: &Rc<Deadlines>) -> Self {
        let mut cache = Cache::new(Arc::clone(&publisher.0));
        let view = View::new(cache.load(), None, worker, clock);
        Self {
            cache: RefCell::new(cache),
            view: RefCell::new(Rc::new(view)),
            worker,
            clock: Rc::clone(clock),
        }
    }

    /// Whose it is.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// One consistent view, for as long as the caller holds it.
    pub fn current(&self) -> Rc<View> {
        let mut cache = self.cache.borrow_mut();
        let newest = cache.load();
        if !Arc::ptr_eq(newest, &self.view.borrow().snapshot) {
            let next = View::new(newest, Some(&self.view.borrow()), self.worker, &self.clock);
            *self.view.borrow_mut() = Rc::new(next);
        }
        Rc::clone(&self.view.borrow())
    }
}

#[cfg(test)]
mod tests;
