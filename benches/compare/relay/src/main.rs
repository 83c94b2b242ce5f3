//! A relay of bytes over TCP that knows no HTTP: the floor of any proxy that reads and writes.
//!
//! usage: relay-peer LISTEN ENDPOINT...
//!
//! Each connection gets one of its own to an endpoint, round robin. One thread, edge-triggered epoll and one buffer
//! do it all; SIGTERM ends it.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, _, ..] = &arguments[..] else {
        println!("a TCP relay that knows no HTTP");
        return Ok(());
    };
    let endpoints = arguments[1..]
        .iter()
        .map(|endpoint| endpoint.parse())
        .collect::<Result<_, _>>()?;
    Relay::new(listen.parse()?, endpoints)?.run()?;
    Ok(())
}

struct Relay {
    poll: Poll,
    listener: TcpListener,
    endpoints: Vec<SocketAddr>,
    accepted: usize,
    pairs: Slab<Pair>,
    buffer: Vec<u8>,
}

impl Relay {
    fn new(listen: SocketAddr, endpoints: Vec<SocketAddr>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(listen)?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            endpoints,
            accepted: 0,
            pairs: Slab::new(),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(MOST_EVENTS);
        loop {
            match self.poll.poll(&mut events, None) {
                // A tracer comes and goes.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(token) => self.serve(token / 2, token % 2, event),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some((client, _)) = unless_it_would_block(self.listener.accept())? {
            let endpoint = self.endpoints[self.accepted % self.endpoints.len()];
            self.accepted += 1;
            let slot = self.pairs.vacant_entry();
            let mut pair = [client, TcpStream::connect(endpoint)?].map(End::new);
            for (side, end) in pair.iter_mut().enumerate() {
                end.stream.set_nodelay(true)?;
                // Both for good: writable is an event only after a write that fell short.
                let interest = Interest::READABLE | Interest::WRITABLE;
                let token = Token(slot.key() * 2 + side);
                self.poll
                    .registry()
                    .register(&mut end.stream, token, interest)?;
            }
            slot.insert(pair);
        }
        Ok(())
    }

    fn serve(&mut self, slot: usize, side: usize, event: &Event) {
        // Events of a pair that has just been closed are still to come.
        let Some([client, upstream]) = self.pairs.get_mut(slot) else {
            return;
        };
        let served = if side == 0 {
            client.serve(upstream, event, &mut self.buffer)
        } else {
            upstream.serve(client, event, &mut self.buffer)
        };
        if served.is_err() || client.has_ended && upstream.has_ended {
            self.pairs.remove(slot);
        }
    }
}

/// The client's, and its upstream's.
type Pair = [End; 2];

/// One connection of a pair.
struct End {
    stream: TcpStream,
    /// Came from the other end, and didn't fit into this one.
    unsent: Vec<u8>,
    /// So much of `unsent` has been written since.
    written: usize,
    /// There is no more to come than what is here to be read.
    is_ending: bool,
    /// All has been read.
    has_ended: bool,
}

impl End {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unsent: Vec::new(),
            written: 0,
            is_ending: false,
            has_ended: false,
        }
    }

    fn serve(&mut self, other: &mut Self, event: &Event, buffer: &mut [u8]) -> io::Result<()> {
        self.is_ending |= event.is_read_closed();
        if event.is_writable() && !self.unsent.is_empty() {
            self.flush()?;
            other.pass_on(self, buffer)?;
        }
        if event.is_readable() || event.is_read_closed() {
            self.pass_on(other, buffer)?;
        }
        Ok(())
    }

    /// Reads and writes as long as there is something to read and `to` takes it; then the end too.
    fn pass_on(&mut self, to: &mut Self, buffer: &mut [u8]) -> io::Result<()> {
        while !self.has_ended && to.unsent.is_empty() {
            let Some(count) = unless_it_would_block(self.stream.read(buffer))? else {
                return Ok(());
            };
            if count == 0 {
                self.has_ended = true;
                return to.stream.shutdown(Shutdown::Write);
            }
            to.send(&buffer[..count])?;
            // A short read has taken all there was, and what comes after it is another event: no call to be told so.
            // The end alone may have been announced already.
            if count < buffer.len() && !self.is_ending {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = unless_it_would_block(self.stream.write(bytes))?.unwrap_or(0);
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let rest = &self.unsent[self.written..];
        self.written += unless_it_would_block(self.stream.write(rest))?.unwrap_or(0);
        if self.written == self.unsent.len() {
            self.unsent.clear();
            self.written = 0;
        }
        Ok(())
    }
}

fn unless_it_would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        done => done.map(Some),
    }
}

const BUFFER_BYTES: usize = 128 << 10;
const MOST_EVENTS: usize = 512;
/// Pairs are counted from 0.
const LISTENER: Token = Token(usize::MAX);
