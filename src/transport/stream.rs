//! Runs HTTP/2 streams, and ends those whose client takes nothing of its response.
//!
//! A client may keep a stream's window shut for as long as it likes, while its connection is as lively as any; the bytes
//! that wait hold an endpoint's connection. Whoever feeds a response tells a [`Turn`] what became of it, and the stream's
//! own task looks there after each step: asked for no more after it gave some, it is armed.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::deadline::{Deadline, Deadlines};

/// What the stream at hand did in the step at hand. One for all streams of a worker: they take their steps in turn.
#[derive(Debug, Default)]
pub struct Turn(Cell<Body>);

#[derive(Debug, Default, Clone, Copy)]
enum Body {
    /// Nobody asked for bytes.
    #[default]
    NotAsked,
    Gave,
    Waits,
}

impl Turn {
    /// The response gave bytes, which are now the client's to take.
    pub fn gave(&self) {
        self.0.set(Body::Gave);
    }

    /// The response has none yet.
    pub fn waits(&self) {
        self.0.set(Body::Waits);
    }

    /// Runs a stream to its end, or drops it when its client has taken nothing for `limit`.
    pub fn run<S: Future<Output = ()>>(
        self: Rc<Self>,
        stream: S,
        limit: Duration,
        clock: Rc<Deadlines>,
    ) -> Run<S> {
        Run {
            stream,
            turn: self,
            limit,
            clock,
            deadline: None,
        }
    }
}

pin_project! {
    /// A stream under way. Not an async function: those keep what they are given beside what they make of it, and
    /// streams are large.
    #[derive(Debug)]
    pub struct Run<S> {
        #[pin]
        stream: S,
        turn: Rc<Turn>,
        limit: Duration,
        clock: Rc<Deadlines>,
        // Most streams are done before they have to wait for their client.
        deadline: Option<Deadline>,
    }
}

impl<S: Future<Output = ()>> Future for Run<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.turn.0.set(Body::NotAsked);
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match this.turn.0.get() {
            Body::NotAsked => {}
            Body::Gave => this
                .deadline
                .get_or_insert_with(|| this.clock.register())
                .arm(*this.limit),
            Body::Waits => *this.deadline = None,
        }
        let deadline = this.deadline.as_ref();
        deadline.map_or(Poll::Pending, |deadline| deadline.poll_due(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;
    use crate::transport::deadline::TICK;

    const LIMIT: Duration = Duration::from_secs(1);

    /// A stream that does `step` each time it is looked at, and never ends.
    fn stream(
        step: impl Fn(&Turn) + 'static,
    ) -> (Rc<Deadlines>, Pin<Box<dyn Future<Output = ()>>>) {
        let clock = Deadlines::new();
        let turn = Rc::new(Turn::default());
        let within = Rc::clone(&turn);
        let steps = poll_fn(move |_| {
            step(&within);
            Poll::<()>::Pending
        });
        let run = turn.run(steps, LIMIT, Rc::clone(&clock));
        (clock, Box::pin(run))
    }

    fn ends(run: &mut Pin<Box<dyn Future<Output = ()>>>) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        run.as_mut().poll(&mut cx).is_ready()
    }

    fn limit() -> u64 {
        u64::try_from(LIMIT.as_nanos() / TICK.as_nanos()).unwrap()
    }

    #[test]
    fn a_client_that_takes_nothing_is_given_up() {
        let first = Cell::new(true);
        let (clock, mut run) = stream(move |turn| {
            if first.replace(false) {
                turn.gave();
            }
        });
        assert!(!ends(&mut run));
        clock.advance(limit());
        assert!(!ends(&mut run), "early");
        clock.advance(limit() + 1);
        assert!(ends(&mut run));
    }

    #[test]
    fn a_client_that_takes_some_is_waited_for() {
        let (clock, mut run) = stream(Turn::gave);
        for now in (0..20).map(|step| step * limit()) {
            clock.advance(now);
            assert!(!ends(&mut run));
        }
    }

    #[test]
    fn a_client_is_not_blamed_for_a_slow_endpoint() {
        let first = Cell::new(true);
        let (clock, mut run) = stream(move |turn| {
            if first.replace(false) {
                turn.waits();
            }
        });
        assert!(!ends(&mut run));
        clock.advance(10 * limit());
        assert!(!ends(&mut run));
    }
}
