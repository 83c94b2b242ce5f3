//! HTTP/1 towards a client: one request after the other, each answered before the next is looked at.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as _, Frame};
use tokio::task::yield_now;

use crate::http1::response_head::{Announced, Asked, Framing};
use crate::proxy::body::Body;
use crate::proxy::response::Response;
use crate::proxy::{Connection, Proxy};
use crate::transport::activity::Activity;
use crate::transport::client_body::ClientBody;
use crate::transport::deadline::{Deadline, Deadlines};
use crate::transport::wire::{self, Unreadable};
use crate::upstream::h1::BodyError;

/// How often a client that can't be read from is looked at, to see whether it is still there. What is done for it must end
/// within a second: that takes two looks if its body moved before the first.
const LOOK: Duration = Duration::from_millis(300);

/// How a connection ended by itself.
#[derive(Debug)]
pub(super) enum End {
    /// Nothing more is to be said on it, by the client or by us; or what the client said can't be read.
    Done,
    /// It has been told to become a tunnel.
    Switched,
}

/// Why a connection ended before that.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It failed.
    #[error(transparent)]
    Failed(#[from] io::Error),
    /// Its client left before its answer was complete.
    #[error("the client has gone")]
    Gone,
    /// The response couldn't be finished.
    #[error("the response was cut")]
    Cut(#[source] Option<BodyError>),
}

/// Serves requests until the connection ends.
pub(super) async fn serve(
    wire: &wire::Shared,
    proxy: &Proxy,
    connection: &Connection,
    activity: &Rc<Activity>,
    clock: &Rc<Deadlines>,
) -> Result<End, Error> {
    let look = clock.register();
    loop {
        let head = poll_fn(|cx| wire.borrow_mut().poll_head(cx)).await;
        let (head, message) = match head {
            Ok(Some(head)) => head,
            Ok(None) | Err(Unreadable::Refused) => return Ok(End::Done),
            Err(Unreadable::Failed(error)) => return Err(error.into()),
        };
        let in_flight = activity.begin();
        look.arm(LOOK);
        let asked = Asked::new(&head.request.method, head.request.version, head.keep_alive);
        let body = ClientBody::http1(wire, message, head.framing, activity, clock);
        let mut answer = pin!(proxy.handle(connection, &head.request, body, None, in_flight));
        let response = poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            // Whether it is written at once or not, there is more to wait for.
            let _ = wire.borrow_mut().poll_interim(cx)?;
            poll_gone(wire, &look, cx).map(|()| Err(Error::Gone))
        })
        .await?;
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            hear_out(wire).await?;
        }
        let mut sending = Sending::begin(wire, asked, head.accepts_trailers, response);
        let announced = sending.announced;
        poll_fn(|cx| sending.poll(wire, &look, cx)).await?;
        let switched = sending.switches;
        // What ends with the response ends here.
        drop(sending);
        if switched {
            return Ok(End::Switched);
        }
        if !announced.keep_alive || activity.body_is_open() {
            return Ok(End::Done);
        }
    }
}

/// Reads what the client has sent before it is told to switch. That isn't of the new protocol, and mustn't pass for it.
///
/// Boxed, and apart from what every request does: few switch.
#[cold]
fn hear_out(wire: &wire::Shared) -> Pin<Box<dyn Future<Output = Result<(), Error>> + '_>> {
    Box::pin(async {
        // A turn of the runtime: it has heard of all that has come by now, not only of what woke us.
        yield_now().await;
        let ended = poll_fn(|cx| Poll::Ready(wire.borrow_mut().read_on(cx)));
        if ended.await {
            Err(Error::Gone)
        } else {
            Ok(())
        }
    })
}

/// Ready when the client has gone; where that can't be read, `look` says when it is looked for.
fn poll_gone(wire: &wire::Shared, look: &Deadline, cx: &mut Context<'_>) -> Poll<()> {
    let mut wire = wire.borrow_mut();
    if wire.poll_gone(cx).is_ready() {
        return Poll::Ready(());
    }
    while wire.hides_its_end() {
        ready!(look.poll_due(cx));
        if wire.is_abandoned() {
            return Poll::Ready(());
        }
        look.arm(LOOK);
    }
    Poll::Pending
}

/// A response on its way to the client.
#[derive(Debug)]
struct Sending {
    body: Body,
    announced: Announced,
    /// Bytes that the head has promised and that haven't come.
    left: u64,
    accepts_trailers: bool,
    switches: bool,
    /// Taken from the body, and not put in yet.
    next: Option<Frame<Bytes>>,
    trailers: Option<HeaderMap>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Body,
    /// The body has ended; chunks need a sign of it.
    End,
    /// All is put in.
    Written,
    /// The body failed. What came before is written, and nothing that would look like an end.
    Cut(Option<BodyError>),
}

impl Sending {
    fn begin(
        wire: &wire::Shared,
        asked: Asked,
        accepts_trailers: bool,
        response: Response,
    ) -> Self {
        let Response {
            status,
            fields,
            body,
        } = response;
        let length = body.size_hint().exact();
        let announced = wire
            .borrow_mut()
            .begin_response(asked, status, &fields, length);
        let (left, stage) = match announced.framing {
            Framing::None | Framing::Length(0) => (0, Stage::Written),
            Framing::Length(length) => (length, Stage::Body),
            Framing::Chunked | Framing::UntilClose => (0, Stage::Body),
        };
        Self {
            body,
            announced,
            left,
            accepts_trailers,
            switches: status == StatusCode::SWITCHING_PROTOCOLS,
            next: None,
            trailers: None,
            stage,
        }
    }

    /// Moves what it can from the body to the client; ready when the kernel has all of it.
    fn poll(
        &mut self,
        wire: &wire::Shared,
        look: &Deadline,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        loop {
            let waits = self.poll_take(wire, cx).is_pending();
            ready!(wire.borrow_mut().poll_write(cx))?;
            match &mut self.stage {
                Stage::Written => return Poll::Ready(Ok(())),
                Stage::Cut(error) => return Poll::Ready(Err(Error::Cut(error.take()))),
                Stage::Body | Stage::End => {}
            }
            if waits {
                ready!(poll_gone(wire, look, cx));
                return Poll::Ready(Err(Error::Gone));
            }
        }
    }

    /// Takes pieces as long as there is room for them.
    fn poll_take(&mut self, wire: &wire::Shared, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.stage {
                Stage::Body => {
                    if self.next.is_none() {
                        ready!(self.poll_next(cx));
                    }
                    if self.next.is_some() {
                        if !wire.borrow().has_room() {
                            return Poll::Ready(());
                        }
                        self.put(wire);
                    }
                }
                Stage::End => {
                    self.put_end(wire);
                    return Poll::Ready(());
                }
                Stage::Written | Stage::Cut(_) => return Poll::Ready(()),
            }
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => self.next = Some(frame),
            Some(Err(error)) => self.stage = Stage::Cut(Some(error)),
            None if self.left > 0 => self.stage = Stage::Cut(None),
            None => self.stage = Stage::End,
        }
        Poll::Ready(())
    }

    /// Puts in the piece at hand.
    fn put(&mut self, wire: &wire::Shared) {
        let data = match self.next.take().map(Frame::into_data) {
            Some(Ok(data)) => data,
            Some(Err(frame)) => {
                self.trailers = frame.into_trailers().ok();
                return;
            }
            None => return,
        };
        let mut wire = wire.borrow_mut();
        match self.announced.framing {
            Framing::Chunked => wire.put_chunk(data),
            Framing::UntilClose => wire.put(data),
            Framing::Length(_) => match self.left.checked_sub(data.len() as u64) {
                Some(left) => {
                    self.left = left;
                    wire.put(data);
                    if left == 0 {
                        self.stage = Stage::Written;
                    }
                }
                None => self.stage = Stage::Cut(None),
            },
            Framing::None => {}
        }
    }

    fn put_end(&mut self, wire: &wire::Shared) {
        let trailers = self.trailers.as_ref().filter(|_| self.accepts_trailers);
        if self.announced.framing != Framing::Chunked || wire.borrow_mut().put_last_chunk(trailers)
        {
            self.stage = Stage::Written;
        }
    }
}
