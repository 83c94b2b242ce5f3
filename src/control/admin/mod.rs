//! The admin interface: what operators, probes and scrapers ask of the running process, on addresses of its own.
//!
//! Promises that nothing here runs on a worker or waits for one, and that a page on the web learns and changes nothing
//! through its visitor's browser. Plain HTTP/1.1, and never a PROXY header.

mod answer;
mod changes;
mod connection;
mod doors;
mod events;
mod figures;
mod gate;
mod page;
mod query;
mod requests;
mod routes;
mod state;
mod suspicions;
mod token;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::{self, Address};
use crate::control::reload::{Counts, Prepared, Verdict};
use crate::proxy::snapshot::Publisher;
use crate::telemetry::metrics::Metrics;
use crate::transport::listener::{self, BoundAddress};

use answer::{Body, Refusal};
use doors::Doors;
use figures::Figures;
use routes::Target;
use workers::Workers;

pub use token::{Error as TokenError, Token};
pub use workers::Question;

/// The running admin interface. Dropping it closes it.
#[derive(Debug)]
pub struct Admin {
    shared: Arc<Shared>,
    doors: Doors,
}

/// A reload that somebody asked for, and waits for.
pub type AskedReload = oneshot::Sender<Verdict>;

/// How a configuration's admin interface would be listened for.
#[derive(Debug)]
pub struct Plan {
    doors: doors::Plan,
    settings: Settings,
}

/// What requests are answered from.
#[derive(Debug)]
struct Shared {
    settings: ArcSwap<Settings>,
    readiness: AtomicU8,
    publisher: Publisher,
    reloads: mpsc::Sender<AskedReload>,
    workers: Workers,
    /// Room for those who listen to events.
    subscribers: Arc<Semaphore>,
    figures: Arc<Figures>,
    metrics: Metrics,
}

/// What the configuration says about it.
#[derive(Debug, Default)]
struct Settings {
    addresses: Vec<Address>,
    token: Option<Token>,
    metrics_path: String,
    /// Whether the live page is there.
    ui: bool,
}

/// Whether the process is one to send traffic to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Readiness {
    /// Not every listener is bound yet.
    Starting,
    /// It is.
    Ready,
    /// It is about to end.
    Draining,
}

impl Admin {
    /// Nothing is listened on yet. `workers` are asked about requests, and `reloads` is where reloads are asked for.
    pub fn new(
        publisher: &Publisher,
        workers: Vec<mpsc::Sender<Question>>,
        reloads: mpsc::Sender<AskedReload>,
    ) -> Self {
        let figures = Arc::new(Figures::new(publisher.clone()));
        let ledger = Arc::clone(&publisher.current().ledger);
        Self {
            shared: Arc::new(Shared {
                settings: ArcSwap::default(),
                readiness: AtomicU8::new(Readiness::Starting as u8),
                publisher: publisher.clone(),
                reloads,
                workers: Workers::new(workers),
                subscribers: Arc::new(Semaphore::new(events::MAX_SUBSCRIBERS)),
                metrics: Metrics::new(ledger, Arc::clone(&figures)),
                figures,
            }),
            doors: Doors::default(),
        }
    }

    /// Binds what `wanted` asks for and isn't there. What is there stays, until [`Admin::commit`].
    ///
    /// # Errors
    /// An address can't be had. Those bound for it before are let go.
    pub fn plan(
        &self,
        wanted: Option<&config::Admin>,
        token: Option<&Token>,
    ) -> Result<Plan, listener::Error> {
        let settings = wanted.map_or_else(Settings::default, |admin| Settings {
            addresses: admin.addresses.clone(),
            token: token.cloned(),
            metrics_path: admin.metrics_path.clone(),
            ui: admin.ui,
        });
        Ok(Plan {
            doors: self.doors.plan(&settings.addresses)?,
            settings,
        })
    }

    /// The plan is what runs now.
    pub fn commit(&mut self, plan: Plan) {
        self.shared.settings.store(Arc::new(plan.settings));
        for accepting in self.doors.commit(plan.doors) {
            match accepting {
                Ok(accepting) => {
                    tokio::spawn(connection::accept(accepting, Arc::clone(&self.shared)));
                }
                Err(error) => tracing::error!(%error, "an admin address can't be used"),
            }
        }
    }

    /// Where it listens.
    pub fn bound(&self) -> Vec<BoundAddress> {
        self.doors.bound().cloned().collect()
    }

    /// Says in the log how listeners and endpoints are.
    pub fn tell_state(&self) {
        self.shared.tell_state();
    }

    /// What runs from now on, and where each listener is bound.
    pub fn note_running(&self, prepared: &Prepared, bound: Vec<(String, BoundAddress)>) {
        self.shared.figures.note_running(prepared, bound);
    }

    /// How an attempt to reload ended, and those before it.
    pub fn note_reload(&self, verdict: &Verdict, counts: Counts) {
        self.shared
            .figures
            .note_reload(changes::told(verdict), counts);
    }

    /// What `/readyz` says from now on.
    pub fn now(&self, readiness: Readiness) {
        self.shared
            .readiness
            .store(readiness as u8, Ordering::Relaxed);
    }
}

/// What a request may carry along. Nothing is asked of a body.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// For a request's body.
const BODY_TIME: Duration = Duration::from_secs(10);

impl Shared {
    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let outcome = self.judged(request).await;
        let mut response = outcome.unwrap_or_else(Refusal::response);
        answer::guard(&mut response);
        response
    }

    async fn judged(
        self: &Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Refusal> {
        let settings = self.settings.load_full();
        let (parts, body) = request.into_parts();
        let target = Target::find(parts.uri.path(), &settings);
        let is = |kind: fn(&Target) -> bool| target.as_ref().is_some_and(kind);
        // Kubelets and balancers ask by any name, and hold no token.
        if !is(Target::is_probe) {
            gate::check_host(&parts, &settings.addresses, settings.token.as_ref())?;
            if !is_read(&parts.method) {
                gate::check_origin(&parts)?;
            }
            if !is(Target::is_page) {
                gate::check_token(&parts, settings.token.as_ref())?;
            }
        }
        let target = target.ok_or(Refusal::Unknown)?;
        target.check_method(&parts.method)?;
        if !is_read(&parts.method) {
            discard(body).await?;
        }
        self.serve(&target, &parts).await
    }

    fn readiness(&self) -> Readiness {
        match self.readiness.load(Ordering::Relaxed) {
            known if known == Readiness::Starting as u8 => Readiness::Starting,
            known if known == Readiness::Ready as u8 => Readiness::Ready,
            _ => Readiness::Draining,
        }
    }
}

fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

async fn discard(body: Incoming) -> Result<(), Refusal> {
    let body = Limited::new(body, MAX_BODY_BYTES).collect();
    match tokio::time::timeout(BODY_TIME, body).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Refusal::TooLarge),
        _ => Err(Refusal::Unfinished),
    }
}
