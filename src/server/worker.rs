//! One data-plane thread: its runtime, and its accept loops.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::config::{self, Purpose};
use crate::control::admin::Question;
use crate::proxy::Proxy;
use crate::proxy::snapshot::Publisher;
use crate::transport::buffers::{LARGE, Lender};
use crate::transport::deadline::{Deadlines, TICK};
use crate::transport::listener::{BoundAddress, ListeningSocket};
use crate::transport::tls;
use crate::upstream::whoami::Identity;

use super::acceptor::{self, Acceptor};
use super::admission::Admission;
use super::connections::{Connections, Cut};
use super::listening::{Farewell, SocketId};
use super::serving::{Listener, Shared};
use super::tasks::Tasks;

/// Idle upstream connections are looked through this often.
const EXPIRY_SWEEP: Duration = Duration::from_secs(1);

/// A data-plane thread before it runs.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) publisher: Publisher,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) identity: Arc<Identity>,
    pub(super) admission: Arc<Admission>,
    pub(super) questions: mpsc::Receiver<Question>,
}

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Command {
    /// These are the listening sockets from now on.
    Listen {
        accepting: Vec<Accepting>,
        /// Told how many connections are open then.
        done: mpsc::Sender<io::Result<usize>>,
    },
    /// Take nothing new, finish what is under way within this time, and end.
    Drain(Duration),
    /// End now.
    End,
}

/// A listening socket, and what its new connections are treated by.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) id: SocketId,
    /// `None`: the worker has it already.
    pub(super) socket: Option<ListeningSocket>,
    pub(super) address: BoundAddress,
    pub(super) purpose: Arc<Purpose>,
    pub(super) farewell: Farewell,
    pub(super) listener: Arc<config::Listener>,
    pub(super) tls: Option<Arc<tls::server::Server>>,
}

impl Worker {
    /// Serves until told to end, and returns what that cut.
    ///
    /// # Errors
    /// When the runtime can't be made.
    pub(super) fn run(self) -> io::Result<Cut> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(tokio::runtime::LocalOptions::default())?
            .block_on(self.serve())
    }

    async fn serve(mut self) -> io::Result<Cut> {
        let clock = Deadlines::new();
        spawn_local(Rc::clone(&clock).tick());
        let proxy = Proxy::new(&self.publisher, self.index, &clock, &self.identity);
        spawn_local(expire_idle(Rc::clone(&proxy)));
        spawn_local(look_after_waiting(Rc::clone(&proxy)));
        spawn_local(answer(self.questions, Rc::clone(&proxy)));
        let connections = Rc::new(Connections::default());
        let (tasks, streams) = (Tasks::new(), Tasks::new());
        let mut acceptors = Vec::new();
        let grace_period = loop {
            // The supervisor is gone: then there is nothing left to serve for.
            match self.commands.recv().await.unwrap_or(Command::End) {
                Command::Listen { accepting, done } => {
                    // With the limits that hold now.
                    let shared = Shared {
                        proxy: Rc::clone(&proxy),
                        clock: Rc::clone(&clock),
                        connections: Rc::clone(&connections),
                        tasks: Rc::clone(&tasks),
                        streams: Rc::clone(&streams),
                        admission: Arc::clone(&self.admission),
                        limits: proxy.limits(),
                    };
                    let outcome = listen(&mut acceptors, accepting, &shared);
                    // A supervisor that doesn't wait for the answer is about to end the process.
                    let _ = done.try_send(outcome.map(|()| connections.open.get()));
                }
                Command::Drain(grace_period) => break grace_period,
                Command::End => return Ok(connections.cut()),
            }
        };
        let drained = async {
            acceptor::close(acceptors, &clock).await;
            connections.none_left().await;
        };
        tokio::select! {
            outcome = tokio::time::timeout(grace_period, drained) => match outcome {
                Ok(()) => Ok(Cut::default()),
                Err(_) => Ok(connections.cut()),
            },
            _ = self.commands.recv() => Ok(connections.cut()),
        }
    }
}

/// Makes `acceptors` what `wanted` says: closes some, opens others, and gives those that stay their new settings.
///
/// # Errors
/// A socket can't be watched. The others are served all the same.
fn listen(
    acceptors: &mut Vec<Rc<Acceptor>>,
    wanted: Vec<Accepting>,
    shared: &Shared,
) -> io::Result<()> {
    let is_wanted = |acceptor: &Rc<Acceptor>| wanted.iter().any(|one| one.id == acceptor.id);
    let (mut kept, removed): (Vec<_>, Vec<_>) =
        std::mem::take(acceptors).into_iter().partition(is_wanted);
    let clock = Rc::clone(&shared.clock);
    spawn_local(async move { acceptor::close(removed, &clock).await });
    let mut outcome = Ok(());
    for mut one in wanted {
        let socket = one.socket.take();
        let known = kept.iter().find(|acceptor| acceptor.id == one.id);
        match (known, socket) {
            (Some(acceptor), _) => {
                acceptor.treat_by(Listener::new(&one, acceptor, shared), one.farewell);
            }
            (None, Some(socket)) => match Acceptor::new(socket, &one) {
                Ok(acceptor) => {
                    acceptor.treat_by(Listener::new(&one, &acceptor, shared), one.farewell);
                    spawn_local(Rc::clone(&acceptor).accept_all());
                    kept.push(acceptor);
                }
                Err(error) => outcome = Err(error),
            },
            // Its socket couldn't be watched when it came.
            (None, None) => {}
        }
    }
    *acceptors = kept;
    outcome
}

async fn expire_idle(proxy: Rc<Proxy>) {
    let mut interval = tokio::time::interval(EXPIRY_SWEEP);
    loop {
        interval.tick().await;
        proxy.expire_idle();
        LARGE.with(Lender::shrink);
    }
}

async fn answer(mut questions: mpsc::Receiver<Question>, proxy: Rc<Proxy>) {
    while let Some(question) = questions.recv().await {
        // Whoever asked may have lost patience.
        match question {
            Question::Requests(wanted, answer) => drop(answer.send(proxy.seen(&wanted))),
            Question::Origins(answer) => drop(answer.send(proxy.origins())),
            Question::Peers(answer) => drop(answer.send(proxy.peers())),
        }
    }
}

async fn look_after_waiting(proxy: Rc<Proxy>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = interval.tick() => proxy.flush_access_log(),
            () = proxy.rung() => {}
        }
        proxy.look_after_waiting();
    }
}
