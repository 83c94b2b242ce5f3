//! What a panic costs: the connection it happens on, and nothing else.
//!
//! The server runs in this very process, and the panic comes from its log: one that can't bear to hear of a request that
//! was refused. So the process has this one test.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use headwater::control::reload::{self, Origin};
use headwater::server::{self, Listened};
use headwater::telemetry::panics;
use headwater::transport::listener::BoundAddress;
use headwater::transport::tls::SelfSigned;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

const CONFIG: &str = "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
    admin: { address: \"127.0.0.1:0\" }\n\
    runtime: { worker_threads: 1 }\n\
    access_log: { output: \"off\" }\n\
    routes: [{ respond: { status: 204 } }]\n";

/// A log that panics, on the task of whoever has something refused.
struct Squeamish;

impl<S: Subscriber> Layer<S> for Squeamish {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let is_refusal = event.metadata().fields().field("reason").is_some();
        assert!(!is_refusal, "as a defect might");
    }
}

struct Client(TcpStream);

impl Client {
    fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        let limit = Some(Duration::from_secs(10));
        stream.set_read_timeout(limit).unwrap();
        Self(stream)
    }

    fn send(&mut self, request: &str) {
        self.0.write_all(request.as_bytes()).unwrap();
    }

    /// The status line of an answer without a body.
    fn ask(&mut self, request: &str) -> String {
        self.send(request);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        let head = String::from_utf8(head).unwrap();
        head.lines().next().unwrap().to_owned()
    }

    fn until_closed(mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// The server's two addresses: its listener's, and that of the admin interface.
fn start() -> (SocketAddr, SocketAddr) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.yaml");
    std::fs::write(&file, CONFIG).unwrap();
    let origin = Origin::File(file);
    let loaded = origin.load().unwrap();
    let prepared = reload::prepare(loaded, SelfSigned::Make, None).unwrap();
    let (listened, addresses) = mpsc::channel();
    let ip = |address: &BoundAddress| match address {
        BoundAddress::Ip(address) => *address,
        BoundAddress::Unix(_) => panic!("not configured"),
    };
    std::thread::spawn(move || {
        let _directory = directory;
        server::run(origin, prepared, |_, found: &Listened| {
            let (http, admin) = (&found.listeners[0].address, &found.admin[0]);
            listened.send((ip(http), ip(admin))).unwrap();
        })
    });
    addresses.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn metric(admin: SocketAddr, name: &str) -> String {
    let mut client = Client::connect(admin);
    client.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let text = client.until_closed();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .to_owned()
}

#[test]
fn a_panic_ends_its_connection_and_is_counted() {
    const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 204 No Content";
    let shown = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(shown)
        .with(Squeamish)
        .init();
    panics::log();
    let (http, admin) = start();
    let mut bystander = Client::connect(http);
    assert_eq!(bystander.ask(GET), ANSWER);
    for panics in 0..3 {
        assert_eq!(metric(admin, "headwater_panics_total"), panics.to_string());
        let mut doomed = Client::connect(http);
        doomed.send("GET / HTTP/1.1\r\nno field\r\n\r\n");
        assert_eq!(doomed.until_closed(), "");
        // On the same worker, over a connection from before and a new one.
        assert_eq!(bystander.ask(GET), ANSWER);
        assert_eq!(Client::connect(http).ask(GET), ANSWER);
    }
    assert_eq!(metric(admin, "headwater_panics_total"), "3");
}
