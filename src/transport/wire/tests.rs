use std::future::poll_fn;
use std::io::Write;
use std::time::Duration;

use super::*;
use crate::config::ListenerTimeouts;
use crate::transport::buffers::{LARGE, LARGE_BYTES, Lender};
use crate::transport::deadline::Deadlines;
use crate::transport::establish::HttpVersion;
use crate::transport::socket::Socket;

/// A connection whose client has sent this.
pub(crate) fn received(bytes: &[u8]) -> (Wire, Rc<Activity>, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(bytes).unwrap();
    let accepted = listener.accept().unwrap().0;
    accepted.set_nonblocking(true).unwrap();
    let socket = Socket::from(tokio::net::TcpStream::from_std(accepted).unwrap());
    let second = Duration::from_secs(1);
    let timeouts = ListenerTimeouts {
        handshake: second,
        request_header: second,
        request_body: second,
        send: second,
        keep_alive: second,
    };
    let clock = Deadlines::new();
    let activity = Activity::new(HttpVersion::Http1, timeouts, &clock, Rc::default());
    let limits = Limits {
        head: request_head::Limits {
            max_bytes: 1000,
            max_fields: 10,
            max_target_bytes: 100,
        },
        max_trailer_bytes: 100,
    };
    let transport = Transport::Plain(socket);
    let wire = Wire::new(transport, BytesMut::new(), Rc::clone(&activity), limits);
    (wire, activity, client)
}

pub(crate) fn on_a_worker<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap()
        .block_on(work)
}

#[test]
fn a_body_that_nobody_read_is_never_a_request() {
    on_a_worker(async {
        let bytes = b"POST / HTTP/1.1\r\nContent-Length: 21\r\n\r\nGET /2 HTTP/1.1\r\n\r\n";
        let (mut wire, _, _client) = received(bytes);
        let first = poll_fn(|cx| wire.poll_head(cx)).await.unwrap();
        assert!(first.is_some());
        let second = poll_fn(|cx| wire.poll_head(cx)).await.unwrap();
        assert!(second.is_none());
    });
}

#[test]
fn a_body_is_read_by_whoever_serves_its_request_alone() {
    on_a_worker(async {
        let bytes = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nok";
        let (mut wire, _, _client) = received(bytes);
        let (_, message) = poll_fn(|cx| wire.poll_head(cx)).await.unwrap().unwrap();
        let other = poll_fn(|cx| wire.poll_body(message + 1, cx)).await;
        assert!(matches!(other, Some(Err(Incomplete(None)))));
        let frame = poll_fn(|cx| wire.poll_body(message, cx)).await;
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "ok");
        assert!(poll_fn(|cx| wire.poll_body(message, cx)).await.is_none());
    });
}

#[test]
fn small_pieces_of_a_body_share_their_room() {
    on_a_worker(async {
        let bytes = b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n";
        let (mut wire, _, mut client) = received(bytes);
        let (_, message) = poll_fn(|cx| wire.poll_head(cx)).await.unwrap().unwrap();
        let mut pieces = Vec::new();
        for _ in 0..1000 {
            client.write_all(b"x").unwrap();
            let frame = poll_fn(|cx| wire.poll_body(message, cx)).await;
            pieces.push(frame.unwrap().unwrap().into_data().unwrap());
        }
        let adjoin = |pair: &[Bytes]| pair[0].as_ptr_range().end == pair[1].as_ptr();
        assert!(pieces.windows(2).all(adjoin));
    });
}

#[test]
fn a_head_holds_no_buffer_that_is_lent() {
    const COUNT: usize = 3000;
    on_a_worker(async {
        let (mut wire, _, _client) = received("GET / HTTP/1.1\r\n\r\n".repeat(COUNT).as_bytes());
        let (mut heads, mut lent) = (Vec::new(), None);
        for _ in 0..COUNT {
            heads.push(poll_fn(|cx| wire.poll_head(cx)).await.unwrap());
            if wire.input.is_lent() {
                lent = Some(wire.input.bytes().as_ptr());
            }
        }
        let buffer = LARGE.with(Lender::lend);
        let all = buffer.as_ptr()..buffer.as_ptr().wrapping_add(LARGE_BYTES);
        assert!(all.contains(&lent.unwrap()));
        assert!(heads.iter().all(Option::is_some));
    });
}

#[test]
fn interim_responses_that_nobody_takes_do_not_pile_up() {
    on_a_worker(async {
        let (mut wire, activity, _client) = received(b"GET / HTTP/1.1\r\n\r\n");
        poll_fn(|cx| wire.poll_head(cx)).await.unwrap().unwrap();
        let interim = vec![b'x'; 32 * 1024];
        // More than all sockets on the way hold.
        for _ in 0..1000 {
            activity.send_interim(&interim);
            let _ = poll_fn(|cx| Poll::Ready(wire.poll_interim(cx))).await;
        }
        assert!(!wire.output.is_empty());
        assert!(wire.output.unwritten() <= 64 * 1024);
    });
}
