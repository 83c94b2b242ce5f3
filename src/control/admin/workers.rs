//! Asking the workers what they have seen. They answer between two requests of theirs, and never wait for who asks.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::telemetry::origins::Origin;
use crate::telemetry::recent::{Seen, Wanted};
use crate::telemetry::snat::Counted;

/// For a worker's answer: one that is busy for longer, or about to end, is left out.
const PATIENCE: Duration = Duration::from_secs(1);

/// Something that a worker is asked.
#[derive(Debug)]
pub enum Question {
    /// Some of its last requests.
    Requests(Wanted, oneshot::Sender<Vec<Seen>>),
    /// Where its requests came from.
    Origins(oneshot::Sender<Vec<(Origin, u64)>>),
    /// Who its requests came from, since that was last asked.
    Peers(oneshot::Sender<Vec<Counted>>),
}

/// Where to ask them.
#[derive(Debug, Clone)]
pub(super) struct Workers(Vec<mpsc::Sender<Question>>);

impl Workers {
    pub(super) fn new(workers: Vec<mpsc::Sender<Question>>) -> Self {
        Self(workers)
    }

    /// What each answers, in their order; `wanted` of each.
    pub(super) async fn requests(&self, wanted: impl Fn(usize) -> Wanted) -> Vec<Vec<Seen>> {
        self.ask(|index, answer| Question::Requests(wanted(index), answer))
            .await
    }

    /// What each answers, in their order.
    pub(super) async fn origins(&self) -> Vec<Vec<(Origin, u64)>> {
        self.ask(|_, answer| Question::Origins(answer)).await
    }

    /// What each answers, in their order.
    pub(super) async fn peers(&self) -> Vec<Vec<Counted>> {
        self.ask(|_, answer| Question::Peers(answer)).await
    }

    async fn ask<T: Default>(
        &self,
        question: impl Fn(usize, oneshot::Sender<T>) -> Question,
    ) -> Vec<T> {
        let workers = self.0.iter().enumerate();
        let asked: Vec<_> = workers
            .map(|(index, worker)| {
                let (answer, answered) = oneshot::channel();
                // One whose queue is full has been asked by many already.
                let sent = worker.try_send(question(index, answer));
                sent.ok().map(|()| answered)
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answered in asked {
            let answer = match answered {
                Some(answered) => tokio::time::timeout(PATIENCE, answered).await.ok(),
                None => None,
            };
            answers.push(answer.and_then(Result::ok).unwrap_or_default());
        }
        answers
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}
