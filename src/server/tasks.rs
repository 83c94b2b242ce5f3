//! Tasks that do one job after the other: to make a task costs more than to wake one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::task::spawn_local;

/// So many wait for a job; others end with theirs.
const MOST_WAITING: usize = 64;

/// What a task does.
pub(super) trait Job: 'static {
    /// Does it. A panic ends the task, and no other.
    async fn run(self);
}

/// The tasks of one worker that wait for a job; they hold nothing of the last one. The next is for the one that has waited
/// longest: whatever still had to wake it for its last job has done so, and it takes its turn among others where a new task
/// would. Else streams of HTTP/2 go out of step, and what could be written at once is written in pieces.
pub(super) struct Tasks<J> {
    waiting: RefCell<VecDeque<Rc<Place<J>>>>,
}

/// Where a task that waits is given its next job.
struct Place<J> {
    job: Cell<Option<J>>,
    waker: RefCell<Option<Waker>>,
}

impl<J: Job> Tasks<J> {
    /// None yet.
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            waiting: RefCell::default(),
        })
    }

    /// Has a job done.
    pub(super) fn begin(self: &Rc<Self>, job: J) {
        let waiting = self.waiting.borrow_mut().pop_front();
        match waiting {
            Some(place) => place.give(job),
            None => drop(spawn_local(Rc::clone(self).work(job))),
        }
    }

    async fn work(self: Rc<Self>, mut job: J) {
        // Most tasks of a worker with many connections never wait.
        let mut place = None;
        loop {
            job.run().await;
            if self.waiting.borrow().len() >= MOST_WAITING {
                return;
            }
            let place = place.get_or_insert_with(Place::new);
            self.waiting.borrow_mut().push_back(Rc::clone(place));
            job = poll_fn(|cx| place.poll_job(cx)).await;
        }
    }
}

impl<J> Place<J> {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            job: Cell::new(None),
            waker: RefCell::new(None),
        })
    }

    fn give(&self, job: J) {
        self.job.set(Some(job));
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    fn poll_job(&self, cx: &Context<'_>) -> Poll<J> {
        if let Some(job) = self.job.take() {
            return Poll::Ready(job);
        }
        let mut known = self.waker.borrow_mut();
        if known
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(cx.waker()))
        {
            *known = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<J> fmt::Debug for Tasks<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting.borrow().len();
        f.debug_struct("Tasks").field("waiting", &waiting).finish()
    }
}

/// Makes a future in its box. Moved there, all of its room would be copied, and most of that holds nothing yet.
pub(super) fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::into_pin(Box::write(Box::new_uninit(), make()))
}

#[cfg(test)]
mod tests {
    use tokio::task::{self, yield_now};

    use super::*;

    /// Notes down which task it is done by.
    struct Note(Rc<RefCell<Vec<task::Id>>>, Goes);

    #[derive(Clone, Copy)]
    enum Goes {
        Well,
        Wrong,
    }

    impl Job for Note {
        async fn run(self) {
            self.0.borrow_mut().push(task::id());
            yield_now().await;
            if let Goes::Wrong = self.1 {
                panic!("as a connection might");
            }
        }
    }

    /// Which tasks do these jobs: each line begun at once when those before are done.
    fn doers(lines: &[&[Goes]]) -> Vec<Vec<task::Id>> {
        let all_done = async {
            let (tasks, mut doers) = (Tasks::new(), Vec::new());
            for line in lines {
                let notes = Rc::default();
                for goes in *line {
                    tasks.begin(Note(Rc::clone(&notes), *goes));
                }
                for _ in 0..3 {
                    yield_now().await;
                }
                doers.push(notes.take());
            }
            doers
        };
        tokio::runtime::Builder::new_current_thread()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap()
            .block_on(all_done)
    }

    #[test]
    fn a_task_that_waits_does_the_next_job() {
        let doers = doers(&[&[Goes::Well], &[Goes::Well], &[Goes::Well; 2]]);
        assert_eq!(doers[0], doers[1]);
        assert_eq!(doers[2][0], doers[0][0]);
        assert_ne!(doers[2][1], doers[0][0]);
    }

    #[test]
    fn a_task_that_panics_gets_no_more_jobs() {
        let doers = doers(&[&[Goes::Wrong, Goes::Well], &[Goes::Well; 2]]);
        assert_eq!(doers[1][0], doers[0][1]);
        assert!(!doers[1].contains(&doers[0][0]));
    }

    #[test]
    fn no_more_than_so_many_tasks_wait() {
        let jobs = [Goes::Well; MOST_WAITING + 1];
        let doers = doers(&[&jobs, &jobs]);
        assert_eq!(doers[0].len(), MOST_WAITING + 1);
        let again = doers[1].iter().filter(|doer| doers[0].contains(doer));
        assert_eq!(again.count(), MOST_WAITING);
    }
}
