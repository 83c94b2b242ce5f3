//! Which sockets the process listens on, and what for: those of a new configuration that are there already stay.
//!
//! Addresses are bound here, and sockets that somebody else has bound are taken over. Accepting is the workers'.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::{Address, Config, Listener, Purpose};
use crate::transport::listener::{self, BoundAddress, ListeningSocket, Sharing};
use crate::transport::tls;

use super::Bound;
use super::worker::Accepting;

/// Tells the sockets of a process apart, those long closed included. All workers' sockets of one address are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketId(u64);

/// What closing a socket takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The queue is emptied first.
    EmptyQueue,
    /// Another process may listen on a twin: handshakes that have begun end before that, and new ones don't begin.
    HandOver,
    /// Whoever bound it keeps it, with its queue.
    LeaveQueue,
}

/// A listening socket the process was started with.
#[derive(Debug)]
pub(super) struct Inherited {
    /// What it was called; may be empty.
    pub(super) name: String,
    pub(super) socket: ListeningSocket,
}

/// An address that can't be had.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener}")]
pub(super) struct Error {
    /// Who asks for it.
    pub(super) listener: String,
    pub(super) source: listener::Error,
}

/// The listening sockets of the process.
#[derive(Debug)]
pub(super) struct Listening {
    workers: usize,
    inherited: Vec<Inherited>,
    held: Vec<Held>,
    next: u64,
    /// The kernel gives what a closed socket has in its queue to its twins, of this process and of others.
    kernel_migrates: bool,
}

/// One address that is listened on.
#[derive(Debug, Clone)]
pub(super) struct Held {
    id: SocketId,
    purpose: Arc<Purpose>,
    address: BoundAddress,
    farewell: Farewell,
    tls: bool,
    /// Of the sockets handed over.
    inherited: Option<usize>,
}

/// How a configuration would be listened for.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) held: Vec<Held>,
    /// For each worker.
    pub(super) deals: Vec<Vec<Accepting>>,
}

impl Listening {
    /// Nothing yet; `inherited` is there to be taken over.
    pub(super) fn new(workers: usize, inherited: Vec<Inherited>) -> Self {
        Self {
            workers,
            inherited,
            held: Vec::new(),
            next: 0,
            kernel_migrates: listener::kernel_migrates(),
        }
    }

    /// Binds what `config` asks for and isn't there. What is there stays, until [`Listening::commit`].
    ///
    /// # Errors
    /// An address can't be had. Those bound for it before are let go.
    pub(super) fn plan(
        &mut self,
        config: &Config,
        tls: &[Option<Arc<tls::server::Server>>],
    ) -> Result<Plan, Error> {
        let mut draft = Draft {
            kept: self.held.clone(),
            in_order: self.in_order(config),
            plan: Plan {
                held: Vec::new(),
                deals: (0..self.workers).map(|_| Vec::new()).collect(),
            },
        };
        for (listener, tls) in config.listeners.iter().zip(tls) {
            let found = self.listen(listener, &mut draft).map_err(|source| Error {
                listener: listener.name.clone(),
                source,
            })?;
            let listener = Arc::new(listener.clone());
            for (held, sockets) in found {
                let held = held.of(&listener, self.kernel_migrates);
                draft.plan.deal(held, sockets, &listener, tls.as_ref());
            }
        }
        Ok(draft.plan)
    }

    /// The plan's sockets are the process's now.
    pub(super) fn commit(&mut self, held: Vec<Held>) {
        if self.held.is_empty() {
            self.mention_unused(&held);
        }
        self.held = held;
    }

    /// Where the process listens.
    pub(super) fn bound(&self) -> Vec<Bound> {
        self.held.iter().map(Held::bound).collect()
    }

    /// What a plan adds, and what it takes away.
    pub(super) fn differences(&self, held: &[Held]) -> (Vec<Bound>, Vec<Bound>) {
        let without = |these: &[Held], those: &[Held]| {
            let only = |one: &&Held| those.iter().all(|other| other.id != one.id);
            these.iter().filter(only).map(Held::bound).collect()
        };
        (without(held, &self.held), without(&self.held, held))
    }

    /// The sockets of one listener; new ones with a socket for each worker.
    fn listen(
        &mut self,
        listener: &Listener,
        draft: &mut Draft,
    ) -> Result<Vec<Found>, listener::Error> {
        let mut found = Vec::new();
        let named: Vec<usize> = self.named(listener);
        if !named.is_empty() {
            for index in named {
                let kept = draft.keep(|held| held.inherited == Some(index));
                found.push(match kept {
                    Some(held) => (held, Vec::new()),
                    None => self.adopt(index, listener, None)?,
                });
            }
            return Ok(found);
        }
        for address in &listener.addresses {
            let kept = draft.keep(|held| {
                listener.claims(&held.purpose) && held.purpose.address.as_ref() == Some(address)
            });
            found.push(match (kept, draft.in_order.pop_front()) {
                (Some(held), _) => (held, Vec::new()),
                (None, Some(index)) => self.adopt(index, listener, Some(address))?,
                (None, None) => self.bind(listener, address)?,
            });
        }
        Ok(found)
    }

    /// Inherited sockets that bear the listener's name.
    fn named(&self, listener: &Listener) -> Vec<usize> {
        let inherited = self.inherited.iter().enumerate();
        inherited
            .filter(|(_, inherited)| inherited.name == listener.name)
            .map(|(index, _)| index)
            .collect()
    }

    /// Inherited sockets to be taken by the listeners' addresses in turn: all of them, at the start, if no name fits.
    fn in_order(&self, config: &Config) -> VecDeque<usize> {
        let is_start = self.held.is_empty();
        let any_named = config
            .listeners
            .iter()
            .any(|listener| !self.named(listener).is_empty());
        if is_start && !any_named {
            (0..self.inherited.len()).collect()
        } else {
            VecDeque::new()
        }
    }

    fn adopt(
        &mut self,
        index: usize,
        listener: &Listener,
        address: Option<&Address>,
    ) -> Result<Found, listener::Error> {
        let failed = |source| listener::Error {
            address: format!("inherited socket {index}"),
            source,
        };
        let inherited = self
            .inherited
            .get(index)
            .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let bound = listener::adopt(&inherited.socket, self.workers).map_err(failed)?;
        let held = self.held(listener, address, bound.address, Farewell::LeaveQueue);
        let inherited = Some(index);
        Ok((Held { inherited, ..held }, bound.sockets))
    }

    fn bind(&mut self, listener: &Listener, address: &Address) -> Result<Found, listener::Error> {
        // Another address with the same port: it is about to be let go, and whether somebody else has it was found
        // out when it was bound.
        let is_ours = |port| {
            self.held.iter().any(|held| match &held.address {
                BoundAddress::Ip(address) => address.port() == port,
                BoundAddress::Unix(_) => false,
            })
        };
        let sharing = if listener.reuse_port || address.port().is_some_and(is_ours) {
            Sharing::Shared
        } else {
            Sharing::Exclusive
        };
        let bound = listener::bind(address, sharing, self.workers)?;
        let held = self.held(listener, Some(address), bound.address, Farewell::EmptyQueue);
        Ok((held, bound.sockets))
    }

    fn held(
        &mut self,
        listener: &Listener,
        asked: Option<&Address>,
        address: BoundAddress,
        farewell: Farewell,
    ) -> Held {
        self.next += 1;
        Held {
            id: SocketId(self.next),
            purpose: Arc::new(Purpose {
                listener: listener.name.clone(),
                address: asked.cloned(),
            }),
            address,
            farewell,
            tls: listener.tls.is_some(),
            inherited: None,
        }
    }

    fn mention_unused(&self, held: &[Held]) {
        for (index, Inherited { name, .. }) in self.inherited.iter().enumerate() {
            if held.iter().all(|held| held.inherited != Some(index)) {
                tracing::warn!(name, index, "no listener takes this inherited socket");
            }
        }
    }
}

/// A socket, and its copies for the workers if it is new to them.
type Found = (Held, Vec<ListeningSocket>);

/// A plan in the making.
#[derive(Debug)]
struct Draft {
    /// Held already, and not asked for yet.
    kept: Vec<Held>,
    in_order: VecDeque<usize>,
    plan: Plan,
}

impl Draft {
    fn keep(&mut self, is_it: impl FnMut(&Held) -> bool) -> Option<Held> {
        let index = self.kept.iter().position(is_it)?;
        Some(self.kept.remove(index))
    }
}

impl Plan {
    fn deal(
        &mut self,
        held: Held,
        sockets: Vec<ListeningSocket>,
        listener: &Arc<Listener>,
        tls: Option<&Arc<tls::server::Server>>,
    ) {
        let mut sockets = sockets.into_iter();
        for deal in &mut self.deals {
            deal.push(Accepting {
                id: held.id,
                socket: sockets.next(),
                address: held.address.clone(),
                purpose: Arc::clone(&held.purpose),
                farewell: held.farewell,
                listener: Arc::clone(listener),
                tls: tls.cloned(),
            });
        }
        self.held.push(held);
    }
}

impl Held {
    /// As a listener of a newer configuration has it.
    fn of(self, listener: &Listener, kernel_migrates: bool) -> Self {
        Self {
            purpose: Arc::new(Purpose {
                listener: listener.name.clone(),
                address: self.purpose.address.clone(),
            }),
            farewell: match self.farewell {
                Farewell::LeaveQueue => Farewell::LeaveQueue,
                _ if listener.reuse_port && !kernel_migrates => Farewell::HandOver,
                _ => Farewell::EmptyQueue,
            },
            tls: listener.tls.is_some(),
            ..self
        }
    }

    fn bound(&self) -> Bound {
        Bound {
            listener: self.purpose.listener.clone(),
            address: self.address.clone(),
            tls: self.tls,
        }
    }
}

#[cfg(test)]
mod tests;
