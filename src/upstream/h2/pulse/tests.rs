use super::*;

use std::future::poll_fn;

use ::h2::client::Builder;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::{JoinHandle, spawn_local};

use crate::transport::deadline::Deadlines;

const PING: u8 = 6;
const ACK: u8 = 1;

/// A driven connection, its clock, and the endpoint's end of it.
struct Connected {
    clock: Rc<Deadlines>,
    pulse: Rc<Pulse>,
    driver: JoinHandle<()>,
    endpoint: UnixStream,
    _sender: ::h2::client::SendRequest<Bytes>,
}

fn on_a_worker<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap()
        .block_on(work)
}

impl Connected {
    async fn new() -> Self {
        let (near, mut endpoint) = UnixStream::pair().unwrap();
        let clock = Deadlines::new();
        let pulse = Pulse::new(clock.register());
        let stream = Heard {
            stream: near.into(),
            pulse: Rc::clone(&pulse),
        };
        // SETTINGS without a setting.
        endpoint
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        let handshake = Builder::new().handshake::<_, Bytes>(stream).await;
        let (sender, mut connection) = handshake.unwrap();
        let mut ping = connection.ping_pong().unwrap();
        let watched = Rc::clone(&pulse);
        let driver = spawn_local(poll_fn(move |cx| {
            assert!(Pin::new(&mut connection).poll(cx).is_pending());
            watched.poll_dead(&mut ping, cx)
        }));
        let mut preface = [0; 24];
        endpoint.read_exact(&mut preface).await.unwrap();
        let mut connected = Self {
            clock,
            pulse,
            driver,
            endpoint,
            _sender: sender,
        };
        // Ours, and the acknowledgement of theirs.
        for _ in 0..2 {
            assert_ne!(connected.frame().await.0, PING);
        }
        connected
    }

    /// The next frame: its kind and its payload.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 9];
        self.endpoint.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[2])];
        self.endpoint.read_exact(&mut payload).await.unwrap();
        (head[3], payload)
    }

    async fn answer(&mut self, ping: &[u8]) {
        let head = [0, 0, 8, PING, ACK, 0, 0, 0, 0];
        self.endpoint
            .write_all(&[&head, ping].concat())
            .await
            .unwrap();
        while self.pulse.answered.get().is_none() || !self.pulse.is_trusted() {
            tokio::task::yield_now().await;
        }
    }

    /// Something that isn't an answer: a frame of a kind that nobody knows.
    async fn say_something(&mut self) {
        self.endpoint
            .write_all(&[0, 0, 0, 0xfa, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        let before = self.pulse.heard.get();
        while self.pulse.heard.get() == before {
            tokio::task::yield_now().await;
        }
    }

    /// Lets the connection notice that it is this late, without a PING.
    async fn pass_quietly_until(&mut self, seconds: u64) {
        self.clock.advance(seconds * 10);
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let mut byte = [0];
        let read = self.endpoint.try_read(&mut byte);
        assert!(read.is_err(), "{read:?} after {seconds} s");
    }

    /// Waits for the PING that is due at this time.
    async fn asked_at(&mut self, seconds: u64) -> Vec<u8> {
        self.clock.advance(seconds * 10);
        let (kind, payload) = self.frame().await;
        assert_eq!(kind, PING, "after {seconds} s");
        payload
    }
}

#[test]
fn silence_while_requests_are_under_way_is_asked_about() {
    on_a_worker(async {
        let mut connected = Connected::new().await;
        connected.pulse.begin_stream();
        connected.pass_quietly_until(30).await;
        let ping = connected.asked_at(31).await;
        assert!(connected.pulse.is_trusted());
        connected.answer(&ping).await;
        // Not again and again, as long as nothing else comes.
        connected.pass_quietly_until(330).await;
        connected.asked_at(350).await;
    });
}

#[test]
fn whoever_speaks_is_not_asked() {
    on_a_worker(async {
        let mut connected = Connected::new().await;
        connected.pulse.begin_stream();
        for seconds in (20..200).step_by(20) {
            connected.pass_quietly_until(seconds).await;
            connected.say_something().await;
        }
        let ping = connected.asked_at(220).await;
        connected.answer(&ping).await;
        connected.pass_quietly_until(230).await;
        connected.say_something().await;
        connected.asked_at(270).await;
    });
}

#[test]
fn an_idle_connection_is_not_asked() {
    on_a_worker(async {
        let mut connected = Connected::new().await;
        connected.pulse.begin_stream();
        connected.pulse.end_stream();
        for seconds in [40, 80, 120] {
            connected.pass_quietly_until(seconds).await;
        }
        connected.pulse.begin_stream();
        connected.asked_at(160).await;
    });
}

#[test]
fn who_does_not_answer_is_dead() {
    on_a_worker(async {
        let mut connected = Connected::new().await;
        connected.pulse.begin_stream();
        connected.asked_at(40).await;
        connected.pass_quietly_until(49).await;
        assert!(!connected.driver.is_finished());
        connected.clock.advance(520);
        connected.driver.await.unwrap();
    });
}

#[test]
fn who_let_a_request_time_out_is_asked_at_once_unless_others_hear_of_it() {
    on_a_worker(async {
        let mut connected = Connected::new().await;
        connected.pulse.begin_stream();
        connected.clock.advance(50);
        connected.say_something().await;
        connected.clock.advance(60);
        connected.pulse.doubt(Duration::from_secs(5));
        assert!(connected.pulse.is_trusted());
        connected.clock.advance(100);
        connected.pulse.doubt(Duration::from_secs(5));
        assert!(!connected.pulse.is_trusted());
        let ping = connected.asked_at(11).await;
        assert!(!connected.pulse.is_trusted());
        connected.answer(&ping).await;
    });
}
