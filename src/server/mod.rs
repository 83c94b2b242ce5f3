//! Assembly: from a configuration to running workers, and back down again.

mod acceptor;
mod access_log;
mod admission;
mod connections;
mod descriptors;
mod http1;
mod http2;
mod listening;
mod service_manager;
mod serving;
mod tasks;
mod worker;

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::{Loaded, Problem, code};
use crate::control::admin::{Admin, AskedReload, Readiness};
use crate::control::reload::{Next, Origin, Prepared, Reloader, Verdict};
use crate::control::{discovery, health};
use crate::proxy::snapshot::{Publisher, Resolved, Snapshot};
use crate::transport::listener::{self, BoundAddress};
use crate::transport::tls;
use crate::upstream::whoami::Identity;

use access_log::Journal;
use admission::Admission;
use connections::Cut;
use listening::Listening;
use service_manager::Stage;
use worker::{Accepting, Command, Worker};

/// What workers that were told to end at once may take for it.
const HURRY: Duration = Duration::from_secs(1);

/// Whoever waits for the process to be up asks within this time: what can be done later takes no processor from the answer.
const FIRST_REQUESTS: Duration = Duration::from_millis(100);

/// That a worker hasn't answered yet.
const MAX_QUESTIONS: usize = 64;

/// That somebody asked for and that haven't begun.
const MAX_RELOADS: usize = 16;

/// A listener that is bound.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The listener's name.
    pub listener: String,
    /// With the real port.
    pub address: BoundAddress,
    /// It speaks TLS.
    pub tls: bool,
}

/// Everything the process listens on.
#[derive(Debug, Clone)]
pub struct Listened {
    /// By the workers.
    pub listeners: Vec<Bound>,
    /// By the control thread, for operators.
    pub admin: Vec<BoundAddress>,
}

/// Why the process can't start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(listener::Error),
    /// The operating system refused a thread, a signal handler or a runtime.
    #[error("cannot start")]
    Start(#[from] io::Error),
    /// A worker ended on its own.
    #[error("worker {0} ended unexpectedly")]
    Worker(usize),
}

impl From<listening::Error> for Error {
    fn from(error: listening::Error) -> Self {
        Self::Bind(error.source)
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every request in flight was finished.
    Drained,
    /// So many were cut, by the end of the grace period or by a second signal.
    Cut(usize),
}

/// Binds, serves until a signal, and drains; `ready` is called once every address is listened on.
///
/// Meanwhile it follows `origin`, from which `prepared` came.
///
/// # Errors
/// [`Error`], before or after that.
pub fn run(
    origin: Origin,
    prepared: Prepared,
    ready: impl FnOnce(&Loaded, &Listened),
) -> Result<Outcome, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(supervise(origin, prepared, ready));
    // A look at a file that hangs doesn't keep the process.
    runtime.shutdown_background();
    outcome
}

async fn supervise(
    origin: Origin,
    prepared: Prepared,
    ready: impl FnOnce(&Loaded, &Listened),
) -> Result<Outcome, Error> {
    // Before anything is visible from outside, so that no signal finds its default action.
    let mut signals = Signals::install()?;
    let (asker, mut asked) = mpsc::channel(MAX_RELOADS);
    let mut server = Server::start(&prepared, asker).await?;
    ready(&prepared.loaded, &server.listened());
    service_manager::tell(Stage::Ready);
    if prepared.speaks_tls() {
        tokio::spawn(async {
            tokio::time::sleep(FIRST_REQUESTS).await;
            tokio::task::spawn_blocking(tls::gather_randomness);
        });
    }
    let mut reloader = Reloader::new(origin, prepared);
    let signal = loop {
        let mut asking = None;
        let name = tokio::select! {
            // The sender is the server's own.
            Some(answer) = asked.recv() => {
                asking = Some(answer);
                None
            }
            signal = signals.next() => match signal {
                Request::End(name) => Some(name),
                Request::Reload => None,
                Request::Reopen => {
                    server.journal.reopen();
                    continue;
                }
                Request::Tell => {
                    server.admin.tell_state();
                    continue;
                }
            },
            () = reloader.changed() => None,
            index = server.worker_ended() => {
                server.journal.end().await;
                return Err(Error::Worker(index));
            }
        };
        if let Some(name) = name {
            break name;
        }
        tokio::select! {
            verdict = server.reload(&mut reloader) => if let Some(asking) = asking {
                // Whoever asked may have gone.
                let _ = asking.send(verdict);
            },
            name = signals.termination() => break name,
        }
    };
    server.admin.now(Readiness::Draining);
    // Whoever waits for a reload is told that there is none.
    drop(asked);
    service_manager::tell(Stage::Stopping);
    let outcome = server.drain(signal, &mut signals).await;
    server.journal.end().await;
    outcome
}

/// The running workers, and what they share.
#[derive(Debug)]
struct Server {
    journal: Journal,
    listening: Listening,
    admin: Admin,
    publisher: Publisher,
    workers: Vec<mpsc::UnboundedSender<Command>>,
    endings: mpsc::Receiver<Ending>,
    discovery: JoinHandle<()>,
    health: JoinHandle<()>,
    peers: JoinHandle<()>,
}

/// Which worker ended, and how.
type Ending = (usize, io::Result<Cut>);

impl Server {
    async fn start(prepared: &Prepared, reloads: mpsc::Sender<AskedReload>) -> Result<Self, Error> {
        let config = &prepared.loaded.config;
        let mut listening = Listening::new(config.worker_threads, service_manager::inherited());
        let plan = listening.plan(config, &prepared.tls)?;
        let resolved = discovery::resolve(config, &Resolved::new()).await;
        let mut journal = Journal::new();
        let snapshot = Snapshot::build(
            config.clone(),
            Arc::clone(&prepared.upstream_tls),
            &resolved,
            None,
        );
        let log = journal.follow(config)?;
        let publisher = Publisher::new(snapshot.with_access_log(log));
        let (askers, questions): (Vec<_>, Vec<_>) = (0..config.worker_threads)
            .map(|_| mpsc::channel(MAX_QUESTIONS))
            .unzip();
        let mut admin = Admin::new(&publisher, askers, reloads);
        let admin_plan = admin
            .plan(config.admin.as_ref(), prepared.admin_token.as_ref())
            .map_err(Error::Bind)?;
        admin.commit(admin_plan);
        let identity = Arc::new(Identity::collect(config.whoami_name.clone()));
        let admission = Admission::new(descriptors::for_clients());
        let (ended, endings) = mpsc::channel(config.worker_threads);
        let mut workers = Vec::with_capacity(config.worker_threads);
        for (index, questions) in questions.into_iter().enumerate() {
            let (commander, commands) = mpsc::unbounded_channel();
            let worker = Worker {
                index,
                publisher: publisher.clone(),
                commands,
                identity: Arc::clone(&identity),
                admission: Arc::clone(&admission),
                questions,
            };
            spawn(worker, ended.clone())?;
            workers.push(commander);
        }
        let listened = listen(&workers, plan.deals);
        listening.commit(plan.held);
        admin.note_running(prepared, addresses(&listening));
        listened.await?;
        admin.now(Readiness::Ready);
        let discovery = tokio::spawn(discovery::watch(publisher.clone()));
        let health = tokio::spawn(health::watch(publisher.clone()));
        let peers = tokio::spawn(admin.watch_peers());
        Ok(Self {
            journal,
            listening,
            admin,
            publisher,
            workers,
            endings,
            discovery,
            health,
            peers,
        })
    }

    fn listened(&self) -> Listened {
        Listened {
            listeners: self.listening.bound(),
            admin: self.admin.bound(),
        }
    }

    /// The number of the first worker that ends.
    async fn worker_ended(&mut self) -> usize {
        match self.endings.recv().await {
            Some((index, _)) => index,
            None => std::future::pending().await,
        }
    }

    /// Puts the newest configuration to use, or says why that can't be. May be dropped at any time: then nothing, or
    /// all of it, has happened.
    async fn reload(&mut self, reloader: &mut Reloader) -> Verdict {
        service_manager::tell(Stage::Reloading);
        let verdict = match reloader.attempt().await {
            Ok(next) => self.apply(reloader, next).await,
            Err(verdict) => verdict,
        };
        self.admin.note_reload(&verdict, reloader.counts());
        service_manager::tell(Stage::Ready);
        verdict
    }

    async fn apply(&mut self, reloader: &mut Reloader, next: Next) -> Verdict {
        let loaded = &next.prepared.loaded;
        let config = &loaded.config;
        let known = self.publisher.current();
        let mut resolved = discovery::resolve(config, &known.resolved).await;
        // From here to the last command nothing waits: no other change comes between.
        let plan = match self.listening.plan(config, &next.prepared.tls) {
            Ok(plan) => plan,
            Err(error) => {
                let field = format!("listeners.{}.address", error.listener);
                return reloader.reject(problem(loaded, &field, &error.source).into());
            }
        };
        let token = next.prepared.admin_token.as_ref();
        let admin_plan = match self.admin.plan(config.admin.as_ref(), token) {
            Ok(plan) => plan,
            Err(error) => {
                return reloader.reject(problem(loaded, "admin.address", &error).into());
            }
        };
        let current = self.publisher.current();
        // Look-ups of new names take their time, and those of known ones went on.
        discovery::renew(&mut resolved, &current.resolved);
        let tls = Arc::clone(&next.prepared.upstream_tls);
        let snapshot = Snapshot::build(config.clone(), tls, &resolved, Some(&current));
        let snapshot = match self.journal.follow(config) {
            Ok(log) => snapshot.with_access_log(log),
            Err(error) => {
                tracing::error!(%error, "the access log stays as it was");
                snapshot
            }
        };
        self.publisher.publish(snapshot);
        let (opened, closed) = self.listening.differences(&plan.held);
        let listened = listen(&self.workers, plan.deals);
        self.listening.commit(plan.held);
        self.admin.commit(admin_plan);
        self.admin
            .note_running(&next.prepared, addresses(&self.listening));
        for Bound {
            listener, address, ..
        } in opened
        {
            tracing::info!(listener, %address, "listening");
        }
        for Bound {
            listener, address, ..
        } in closed
        {
            tracing::info!(listener, %address, "no longer listening");
        }
        match listened.await {
            Ok(connections) => reloader.applied(next, connections),
            Err(error) => {
                tracing::error!(%error, "a listening socket can't be used");
                reloader.applied(next, 0)
            }
        }
    }

    async fn drain(
        &mut self,
        signal: &'static str,
        signals: &mut Signals,
    ) -> Result<Outcome, Error> {
        let shutdown = self.publisher.current().config.shutdown;
        tracing::info!(signal, "draining");
        let mut in_hurry = false;
        tokio::select! {
            () = tokio::time::sleep(shutdown.readiness_delay), if !shutdown.readiness_delay.is_zero() => {}
            signal = signals.termination(), if !shutdown.readiness_delay.is_zero() => {
                tracing::warn!(signal, "ending at once");
                in_hurry = true;
            }
            else => {}
        }
        self.discovery.abort();
        self.health.abort();
        self.peers.abort();
        self.tell_all(|| {
            if in_hurry {
                Command::End
            } else {
                Command::Drain(shutdown.grace_period)
            }
        });
        let mut cut = Cut::default();
        let mut left = self.workers.len();
        while left > 0 {
            tokio::select! {
                Some((_, ending)) = self.endings.recv() => {
                    let ending = ending?;
                    cut.requests += ending.requests;
                    cut.tunnels += ending.tunnels;
                    left -= 1;
                }
                signal = signals.termination(), if !in_hurry => {
                    tracing::warn!(signal, "ending at once");
                    in_hurry = true;
                    self.tell_all(|| Command::End);
                }
                () = tokio::time::sleep(HURRY), if in_hurry => {
                    return Ok(Outcome::Cut(cut.requests.max(1)));
                }
            }
        }
        tracing::info!(
            requests_cut = cut.requests,
            tunnels_cut = cut.tunnels,
            "drained"
        );
        Ok(match cut.requests {
            0 => Outcome::Drained,
            requests => Outcome::Cut(requests),
        })
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // One that is gone has ended already, which is reported otherwise.
            let _ = worker.send(command());
        }
    }
}

fn spawn(worker: Worker, ended: mpsc::Sender<Ending>) -> io::Result<()> {
    thread::Builder::new()
        .name(format!("worker-{}", worker.index))
        .spawn(move || {
            let index = worker.index;
            let cut = worker.run();
            // Nobody listens any more only when the process is about to end.
            let _ = ended.blocking_send((index, cut));
        })
        .map(drop)
}

/// Has every worker listen on the sockets dealt to it, and only on those. At once; what is returned waits until they
/// do, and says how many connections are open.
fn listen(
    workers: &[mpsc::UnboundedSender<Command>],
    deals: Vec<Vec<Accepting>>,
) -> impl Future<Output = io::Result<usize>> + use<> {
    let (done, mut answers) = mpsc::channel(workers.len().max(1));
    for (worker, accepting) in workers.iter().zip(deals) {
        let done = done.clone();
        // One that is gone has ended already, which is reported otherwise.
        let _ = worker.send(Command::Listen { accepting, done });
    }
    drop(done);
    async move {
        let mut connections = 0;
        while let Some(answer) = answers.recv().await {
            connections += answer?;
        }
        Ok(connections)
    }
}

/// Each with the name of its listener.
fn addresses(listening: &Listening) -> Vec<(String, BoundAddress)> {
    let bound = listening.bound().into_iter();
    bound.map(|bound| (bound.listener, bound.address)).collect()
}

/// An address that a new configuration asks for and can't have.
fn problem(loaded: &Loaded, field: &str, cause: &listener::Error) -> Problem {
    let message = match cause.source() {
        Some(reason) => format!("{cause}: {reason}"),
        None => cause.to_string(),
    };
    loaded
        .source
        .problem_at(field, code::CANNOT_BIND, &message, None)
}

/// The signals the process answers to.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next thing somebody asks for.
    async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::End("SIGTERM"),
            _ = self.interrupt.recv() => Request::End("SIGINT"),
            _ = self.quit.recv() => Request::End("SIGQUIT"),
            _ = self.hangup.recv() => Request::Reload,
            _ = self.user1.recv() => Request::Reopen,
            _ = self.user2.recv() => Request::Tell,
        }
    }

    /// The name of the next signal that ends the process. A reload asked for meanwhile is still to be done after.
    async fn termination(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Reload,
    /// Open log files anew.
    Reopen,
    /// Say in the log how things stand.
    Tell,
    /// By the signal of this name.
    End(&'static str),
}
