use super::*;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Instant;

use socket2::Socket;

use crate::transport::client_body::ClientBody;
use crate::transport::wire::tests::{on_a_worker, received};
use crate::upstream::endpoint::LocalEndpoint;
use crate::upstream::link::Reuse;
use crate::upstream::turn::tests::endpoint_at;

const BODY: &str = "hello";

const BOUNDS: Bounds = Bounds {
    head: Limits {
        max_bytes: 1024,
        max_fields: 10,
    },
    response_header: Duration::from_secs(1),
    idle: Duration::from_secs(1),
    is_queued: false,
};

struct Nobody;

impl Sender for Nobody {
    fn asks_for_websocket(&self) -> bool {
        false
    }

    fn interim(&self, _head: &response::Head) {}
}

/// An endpoint that accepts what it is told to.
struct Scripted {
    listener: TcpListener,
    local: Rc<LocalEndpoint>,
}

impl Scripted {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = endpoint_at(listener.local_addr().unwrap());
        Self { listener, local }
    }

    /// A new connection, and its other end.
    fn connect(&self) -> (Box<Connection>, TcpStream) {
        let near = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        near.set_nonblocking(true).unwrap();
        let near = tokio::net::TcpStream::from_std(near).unwrap();
        let permit = self.local.reserve().unwrap();
        let deadline = self.local.clock.register();
        let connection = Connection::new(near.into(), deadline, permit);
        (connection, self.listener.accept().unwrap().0)
    }

    /// A connection that was kept and has ended since, of which the runtime hasn't heard: nothing here waits.
    fn kept_until(&self, end: impl FnOnce(TcpStream)) -> Box<Connection> {
        let (mut connection, far) = self.connect();
        end(far);
        let began = Instant::now();
        while connection.stream.is_surely_quiet() {
            assert!(began.elapsed() < Duration::from_secs(10), "it never ends");
        }
        connection.rest();
        assert!(connection.is_quiet());
        connection
    }

    async fn post(
        &self,
        mut connection: Box<Connection>,
        upload: Upload,
    ) -> Result<Response, Failed> {
        connection.head().extend_from_slice(b"head ");
        connection
            .exchange(&Method::POST, upload, BOUNDS, &self.local.pool, &Nobody)
            .await
    }
}

fn reset(far: TcpStream) {
    let socket = Socket::from(far);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// A body of which a client has sent all, and the client.
async fn upload(scripted: &Scripted) -> (Upload, TcpStream) {
    let length = BODY.len();
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{BODY}");
    let (mut wire, activity, client) = received(request.as_bytes());
    let (head, message) = poll_fn(|cx| wire.poll_head(cx)).await.unwrap().unwrap();
    let wire = Rc::new(RefCell::new(wire));
    let clock = &scripted.local.clock;
    let body = ClientBody::http1(&wire, message, head.framing, &activity, clock).unwrap();
    (Upload::new(body, UploadFraming::Length), client)
}

#[test]
fn a_body_of_which_nothing_was_sent_can_be_sent_again_as_a_whole() {
    on_a_worker(async {
        let scripted = Scripted::new();
        let (upload, _client) = upload(&scripted).await;
        let kept = scripted.kept_until(reset);
        let failed = scripted.post(kept, upload).await.unwrap_err();
        assert!(matches!(failed.error, Error::Closed(Some(_))), "{failed:?}");
        assert!(failed.reused && !failed.written);
        let (fresh, mut far) = scripted.connect();
        far.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        let again = scripted.post(fresh, failed.upload.unwrap()).await;
        assert_eq!(again.unwrap().status, StatusCode::NO_CONTENT);
        let mut request = [0; 10];
        far.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"head hello");
    });
}

#[test]
fn a_body_of_which_something_was_sent_is_gone() {
    on_a_worker(async {
        let scripted = Scripted::new();
        let (upload, _client) = upload(&scripted).await;
        let (connection, far) = scripted.connect();
        // Its end waits to be read, and it still takes what it is sent.
        far.shutdown(Shutdown::Write).unwrap();
        let failed = scripted.post(connection, upload).await.unwrap_err();
        assert!(matches!(failed.error, Error::Closed(None)), "{failed:?}");
        assert!(failed.written && failed.upload.is_none());
    });
}

#[test]
fn what_an_endpoint_said_before_it_reset_a_connection_is_no_answer_to_what_it_was_not_sent() {
    on_a_worker(async {
        let scripted = Scripted::new();
        let (upload, _client) = upload(&scripted).await;
        let kept = scripted.kept_until(|mut far| {
            far.write_all(b"HTTP/1.1 408 Too Slow\r\nContent-Length: 0\r\n\r\n")
                .unwrap();
            reset(far);
        });
        let failed = scripted.post(kept, upload).await.unwrap_err();
        assert!(matches!(failed.error, Error::Closed(Some(_))), "{failed:?}");
        assert!(!failed.written && failed.upload.is_some());
    });
}

#[test]
fn who_may_be_sent_a_request_only_once_is_asked_whether_the_connection_is_open() {
    on_a_worker(async {
        let scripted = Scripted::new();
        let pool = &scripted.local.pool;
        pool.put_back(scripted.kept_until(drop));
        let clock = &scripted.local.clock;
        clock.advance(clock.now() + 2);
        assert!(pool.checkout(Reuse::IfOpen).is_none());
        pool.put_back(scripted.kept_until(drop));
        assert!(pool.checkout(Reuse::Welcome).is_some());
    });
}
