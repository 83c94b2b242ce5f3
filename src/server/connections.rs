//! The connections of one worker, counted.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::telemetry::metrics::OfListener;
use crate::transport::activity::Counts;

/// The connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Connections {
    pub(super) open: Cell<usize>,
    pub(super) counts: Rc<Counts>,
    waiting: RefCell<Option<Waker>>,
}

impl Connections {
    pub(super) fn cut(&self) -> Cut {
        Cut {
            requests: self.counts.requests.get(),
            tunnels: self.counts.tunnels.get(),
        }
    }

    pub(super) async fn none_left(&self) {
        poll_fn(|cx| {
            if self.open.get() == 0 {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Counts an open connection until it is dropped: from when it was accepted, or a drain might end before its task
/// began.
#[derive(Debug)]
pub(super) struct Open {
    all: Rc<Connections>,
    of_listener: Arc<OfListener>,
}

impl Open {
    pub(super) fn new(all: &Rc<Connections>, of_listener: &Arc<OfListener>) -> Self {
        all.open.set(all.open.get() + 1);
        of_listener.connections.add(1);
        Self {
            all: Rc::clone(all),
            of_listener: Arc::clone(of_listener),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.of_listener.connections.subtract(1);
        let connections = &self.all;
        connections.open.set(connections.open.get() - 1);
        if connections.open.get() == 0
            && let Some(waker) = connections.waiting.take()
        {
            waker.wake();
        }
    }
}

/// What a worker leaves undone when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) requests: usize,
    pub(super) tunnels: usize,
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use tokio::task::spawn_local;

    use super::*;
    use crate::server::admission::Admission;

    fn on_a_worker<F: Future>(work: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap()
            .block_on(work)
    }

    #[test]
    fn a_connection_that_panics_ends_alone_and_is_no_longer_counted() {
        let connections = Rc::new(Connections::default());
        let admission = Admission::new(2);
        on_a_worker(async {
            let open = || {
                (
                    Open::new(&connections, &Arc::default()),
                    admission.spare_seat(),
                )
            };
            let (doomed, other) = (open(), open());
            let panicked = spawn_local(async move {
                let _open = doomed;
                panic!("as a connection might");
            });
            assert!(panicked.await.unwrap_err().is_panic());
            assert_eq!(connections.open.get(), 1);
            let goes_on = spawn_local(async move { drop(other) });
            goes_on.await.unwrap();
            connections.none_left().await;
        });
        // Both seats are free again.
        let cx = Context::from_waker(Waker::noop());
        let seats = [(); 2].map(|()| admission.poll_seat(2, &cx));
        assert!(seats.iter().all(Poll::is_ready));
    }
}
