//! A scripted upstream: the test itself accepts, reads and answers.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, Message, Wire};

/// A listening socket; connections wait in it until the test takes them.
pub(crate) struct Upstream {
    listener: TcpListener,
}

impl Upstream {
    pub(crate) fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // On Linux the receive timeout bounds `accept` as well.
        SockRef::from(&listener)
            .set_read_timeout(Some(DEADLINE))
            .unwrap();
        Self { listener }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The sections of `proxy.yaml` that send everything here.
    pub(crate) fn as_only_route(&self) -> String {
        format!(
            "upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ upstream: app }}]\n",
            self.address()
        )
    }

    /// For peers that are no script, on a runtime that is running already.
    pub(crate) fn into_async(self) -> tokio::net::TcpListener {
        self.listener.set_nonblocking(true).unwrap();
        tokio::net::TcpListener::from_std(self.listener).unwrap()
    }

    /// The next connection.
    pub(crate) fn accept(&self) -> Wire<TcpStream> {
        let (stream, _) = self.listener.accept().expect("a connection");
        Wire::tcp(stream)
    }

    /// Takes the next connection, reads a request and answers it; both can be looked at after.
    pub(crate) fn answer(&self, response: impl AsRef<[u8]>) -> (Message, Wire<TcpStream>) {
        let mut connection = self.accept();
        let request = connection.request();
        connection.send(response);
        (request, connection)
    }

    /// Asserts that nobody has connected. Call it after the client has its answer.
    pub(crate) fn assert_untouched(&self) {
        self.listener.set_nonblocking(true).unwrap();
        let connection = self.listener.accept();
        self.listener.set_nonblocking(false).unwrap();
        match connection {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => panic!("the upstream was contacted: {other:?}"),
        }
    }
}

/// An address at which nobody listens.
pub(crate) fn closed_port() -> SocketAddr {
    // Bound for as long as the tests run: else another of them might listen there.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address.as_socket().unwrap()
}
