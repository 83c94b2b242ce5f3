//! Memory doesn't depend on what passes through.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{Proxy, Upstream};

/// Moved in each direction; `HEADWATER_TEST_MIB` asks for more.
const MIB: usize = 256;

/// What buffers and the allocator may add: a part of a percent of what is moved.
const GROWTH_KIB: usize = 8 * 1024;

#[test]
fn moving_much_takes_little_memory() {
    let mib = std::env::var("HEADWATER_TEST_MIB").map_or(MIB, |mib| mib.parse().unwrap());
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let ask = |mib: usize| {
        let length = mib << 20;
        let mut client = proxy.client();
        let request = "POST / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n";
        client.send(format!("{request}content-length: {length}\r\n\r\n"));
        let mut connection = upstream.accept();
        connection.head();
        move_through(client.into_stream(), connection.into_stream(), mib);
    };
    // Buffers are there afterwards, and code that was never needed is in memory.
    ask(16);
    let before = proxy.resident_kib();
    ask(mib);
    let after = proxy.resident_kib();
    assert!(
        after < before + GROWTH_KIB,
        "{before} KiB, then {after} KiB"
    );
}

/// A request's body up, then a response's down.
fn move_through(mut client: TcpStream, mut connection: TcpStream, mib: usize) {
    let piece = vec![b'x'; 1 << 20];
    let pieces = |stream: &mut TcpStream| {
        for _ in 0..mib {
            stream.write_all(&piece).unwrap();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| pieces(&mut client));
        drain(&mut connection, mib << 20);
    });
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", mib << 20);
    connection.write_all(head.as_bytes()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| pieces(&mut connection));
        // The head is shorter than a piece.
        drain(&mut client, mib << 20);
    });
}

fn drain(stream: &mut TcpStream, length: usize) {
    let mut piece = vec![0; 1 << 20];
    let mut left = length;
    while left > 0 {
        match stream.read(&mut piece).unwrap() {
            0 => panic!("{left} bytes are missing"),
            read => left = left.saturating_sub(read),
        }
    }
}
