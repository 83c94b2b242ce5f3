use super::*;

use std::pin::pin;
use std::rc::Rc;
use std::task::Waker;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::transport::deadline::{Deadlines, TICK};

/// A direction between two pipes that hold `capacity` bytes each, with the far end of both.
fn direction(capacity: usize) -> (Direction, [DuplexStream; 2], DuplexStream, DuplexStream) {
    let (from, source) = duplex(capacity);
    let (destination, to) = duplex(capacity);
    let direction = Direction::new(BytesMut::new(), BUFFER_BYTES);
    (direction, [source, destination], from, to)
}

fn poll(direction: &mut Direction, ends: &mut [DuplexStream; 2]) -> Poll<io::Result<()>> {
    let [source, destination] = ends;
    direction.poll(source, destination, &mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn an_idle_direction_holds_no_memory() {
    let (mut direction, mut ends, mut from, mut to) = direction(1024);
    from.write_all(b"hello").await.unwrap();
    assert!(poll(&mut direction, &mut ends).is_pending());
    let mut arrived = [0; 5];
    to.read_exact(&mut arrived).await.unwrap();
    assert_eq!(&arrived, b"hello");
    assert_eq!(direction.buffer.capacity(), 0);
    assert_eq!((direction.read, direction.written), (5, 5));
}

#[tokio::test]
async fn what_nobody_takes_is_held_up_to_the_bound() {
    let (mut direction, mut ends, mut from, _to) = direction(BUFFER_BYTES * 4);
    let (destination, _narrow) = duplex(1);
    ends[1] = destination;
    from.write_all(&vec![b'x'; BUFFER_BYTES * 3]).await.unwrap();
    assert!(poll(&mut direction, &mut ends).is_pending());
    assert_eq!(direction.buffer.len(), BUFFER_BYTES);
    assert_eq!(direction.read, BUFFER_BYTES as u64 + 1);
    assert!(poll(&mut direction, &mut ends).is_pending());
    assert_eq!(direction.read, BUFFER_BYTES as u64 + 1);
}

#[tokio::test]
async fn what_was_read_ahead_comes_first() {
    let (mut direction, mut ends, mut from, mut to) = direction(1024);
    direction.buffer = BytesMut::from(&b"first "[..]);
    from.write_all(b"second").await.unwrap();
    assert!(poll(&mut direction, &mut ends).is_pending());
    let mut arrived = [0; 12];
    to.read_exact(&mut arrived).await.unwrap();
    assert_eq!(&arrived, b"first second");
}

#[tokio::test]
async fn the_end_comes_after_the_last_byte() {
    let (mut direction, mut ends, mut from, mut to) = direction(4);
    from.write_all(b"last").await.unwrap();
    drop(from);
    let (mut destination, narrow) = duplex(1);
    std::mem::swap(&mut ends[1], &mut destination);
    assert!(poll(&mut direction, &mut ends).is_pending());
    assert_eq!(direction.state, State::Finishing);
    let mut arrived = Vec::new();
    let mut narrow = narrow;
    while arrived.len() < 4 {
        arrived.push(narrow.read_u8().await.unwrap());
        let outcome = poll(&mut direction, &mut ends);
        assert_eq!(outcome.is_ready(), arrived.len() >= 3, "{arrived:?}");
    }
    assert_eq!(arrived, b"last");
    assert_eq!(narrow.read(&mut [0]).await.unwrap(), 0);
    drop(destination);
    to.read_to_end(&mut arrived).await.unwrap();
}

#[tokio::test]
async fn a_destination_is_given_no_more_at_once_than_it_takes() {
    let (mut direction, mut ends, mut from, mut to) = direction(1024);
    direction.write_at_most = 4;
    let (destination, mut narrow) = duplex(100);
    ends[1] = destination;
    from.write_all(b"0123456789").await.unwrap();
    assert!(poll(&mut direction, &mut ends).is_pending());
    let mut arrived = [0; 10];
    narrow.read_exact(&mut arrived).await.unwrap();
    assert_eq!(&arrived, b"0123456789");
    drop(ends);
    to.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_destination_that_is_gone_is_an_error() {
    let (mut direction, mut ends, mut from, to) = direction(1024);
    drop(to);
    from.write_all(b"x").await.unwrap();
    assert!(matches!(
        poll(&mut direction, &mut ends),
        Poll::Ready(Err(_))
    ));
}

/// Both far ends of a tunnel, and the tunnel itself, on a clock moved by hand.
fn tunnel(idle: Duration) -> (Rc<Deadlines>, Opened, [DuplexStream; 3]) {
    let clock = Deadlines::new();
    let (far, endpoint) = duplex(1024);
    let (near, client) = duplex(1024);
    let opened = Opened {
        tunnel: Box::new(Tunnel {
            far: Box::new(far),
            ahead: BytesMut::new(),
            deadline: clock.register(),
            idle,
            permit: None,
        }),
        end: End::default(),
    };
    (clock, opened, [near, client, endpoint])
}

#[tokio::test]
async fn a_silent_tunnel_ends_at_its_deadline_which_bytes_push_back() {
    let (clock, opened, [near, mut client, mut endpoint]) = tunnel(TICK * 3);
    let mut run = pin!(opened.run(near));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(run.as_mut().poll(cx).is_pending());
    clock.advance(3);
    client.write_all(b"up").await.unwrap();
    assert!(run.as_mut().poll(cx).is_pending());
    clock.advance(6);
    endpoint.write_all(b"down").await.unwrap();
    assert!(run.as_mut().poll(cx).is_pending());
    clock.advance(9);
    assert!(run.as_mut().poll(cx).is_pending());
    clock.advance(10);
    assert!(run.as_mut().poll(cx).is_ready());
}

#[tokio::test]
async fn half_a_tunnel_may_be_silent_for_a_shorter_time() {
    let (clock, opened, [near, mut client, mut endpoint]) = tunnel(TICK * 36_000);
    let mut run = pin!(opened.run(near));
    let cx = &mut Context::from_waker(Waker::noop());
    client.shutdown().await.unwrap();
    assert!(run.as_mut().poll(cx).is_pending());
    assert_eq!(endpoint.read(&mut [0]).await.unwrap(), 0);
    clock.advance(300);
    assert!(run.as_mut().poll(cx).is_pending());
    clock.advance(301);
    assert!(run.as_mut().poll(cx).is_ready());
}
