//! Clients that go on asking while something else happens, and an upstream that goes on answering.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use super::proxy::connect;
use super::{DEADLINE, GET, OK};

/// Answers every request, for as long as the test runs.
pub(crate) struct Origin(SocketAddr);

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || answer_all(stream));
            }
        });
        Self(address)
    }

    /// The sections of `proxy.yaml` that send everything here.
    pub(crate) fn as_only_route(&self) -> String {
        format!(
            "upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ upstream: app }}]\n",
            self.0
        )
    }
}

fn answer_all(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while read_head(&mut stream, &mut buffer)?.is_some() {
        stream.write_all(OK.as_bytes())?;
    }
    Ok(())
}

/// The next head; `None` when there is no more.
fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<String>> {
    let mut piece = [0; 4096];
    loop {
        if let Some(at) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..at + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).to_lowercase()));
        }
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            length => buffer.extend_from_slice(&piece[..length]),
        }
    }
}

/// Enough that some are always under way.
const CLIENTS: usize = 8;

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Tally>>,
    answers: Receiver<()>,
}

/// What clients saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: usize,
    /// Why requests were not.
    pub(crate) failures: Vec<String>,
}

#[derive(Clone, Copy)]
enum Habit {
    /// One connection for as long as it lasts.
    Keep,
    /// A connection for every request.
    Anew,
}

impl Load {
    /// Clients of which every second one keeps its connection.
    pub(crate) fn on(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (answered, answers) = mpsc::channel();
        let habits = [Habit::Keep, Habit::Anew].into_iter().cycle().take(CLIENTS);
        let clients = habits.zip(1..).map(|(habit, number)| {
            let stop = Arc::clone(&stop);
            let answered = answered.clone();
            thread::spawn(move || {
                let mut tally = Tally::default();
                let mut connections = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Of another source each, so that ports don't run out.
                    connections += 1;
                    let [.., high, low] = u32::to_be_bytes(connections);
                    let source = Ipv4Addr::new(127, number, high, low.max(1));
                    let asked = ask_on(source.into(), address, habit, &stop, || {
                        tally.answered += 1;
                        // Nobody counts any more once the clients are stopped.
                        let _ = answered.send(());
                    });
                    if let Err(error) = asked {
                        tally.failures.push(error.to_string());
                    }
                }
                tally
            })
        });
        let clients = clients.collect();
        Self {
            stop,
            clients,
            answers,
        }
    }

    /// Waits until that many more requests have been answered.
    pub(crate) fn goes_on(&self, requests: usize) {
        for () in self.answers.try_iter() {}
        for _ in 0..requests {
            self.answers.recv_timeout(DEADLINE).expect("answers");
        }
    }

    /// Lets every client finish what it is about.
    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients {
            let tally = client.join().unwrap();
            all.answered += tally.answered;
            all.failures.extend(tally.failures);
        }
        all
    }
}

impl Tally {
    /// Asserts that no request was lost of at least this many.
    pub(crate) fn assert_complete(&self, least: usize) {
        eprintln!("{} requests answered", self.answered);
        assert_eq!(self.failures, [""; 0], "after {}", self.answered);
        assert!(self.answered >= least, "only {} requests", self.answered);
    }
}

/// Asks on one connection until the proxy announces its end, or it is time to stop.
fn ask_on(
    source: IpAddr,
    address: SocketAddr,
    habit: Habit,
    stop: &AtomicBool,
    mut answered: impl FnMut(),
) -> io::Result<()> {
    let mut stream = connect(source, address);
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        stream.write_all(GET.as_bytes())?;
        let head = read_head(&mut stream, &mut buffer)?
            .ok_or_else(|| io::Error::other("closed without an answer"))?;
        while buffer.len() < 2 {
            let mut piece = [0; 2];
            let length = stream.read(&mut piece)?;
            if length == 0 {
                return Err(io::Error::other("closed in the middle"));
            }
            buffer.extend_from_slice(&piece[..length]);
        }
        if !head.starts_with("http/1.1 200 ") || buffer != b"ok" {
            return Err(io::Error::other(head));
        }
        buffer.clear();
        answered();
        let is_last = matches!(habit, Habit::Anew) || head.contains("connection: close");
        if is_last || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
    }
}
