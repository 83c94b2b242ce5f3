//! What systemd does: sockets are handed over, and it is told how things stand.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::{DEADLINE, EXECUTABLE, GET, Proxy, Wire, program};

/// A configuration whose addresses can't be bound: the sockets must come from elsewhere.
fn config(listeners: &[&str]) -> String {
    let listeners: Vec<_> = listeners
        .iter()
        .map(|name| format!("{name}: {{ address: \"192.0.2.1:1{}\" }}", name.len()))
        .collect();
    format!(
        "listeners: {{ {} }}\nruntime: {{ worker_threads: 2 }}\n\
         upstreams: {{ whoami: {{ builtin: whoami }} }}\nroutes: [{{ upstream: whoami }}]\n",
        listeners.join(", ")
    )
}

/// Starts the proxy with these sockets as descriptors 3 and 4.
fn start_with(sockets: [&TcpListener; 2], names: &str, config: &str) -> Proxy {
    let mut command = Command::new("sh");
    let descriptor = |socket: &TcpListener| Stdio::from(OwnedFd::from(socket.try_clone().unwrap()));
    command
        .args([
            "-c",
            "exec 3<&0 4<&1 0</dev/null 1>&2; LISTEN_PID=$$ exec \"$@\"",
            "sh",
        ])
        .arg(EXECUTABLE)
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", names)
        .stdin(descriptor(sockets[0]))
        .stdout(descriptor(sockets[1]));
    Proxy::start_by(TempDir::new().unwrap(), config, command)
}

fn sockets() -> (TcpListener, TcpListener) {
    let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
    (bind(), bind())
}

#[test]
fn sockets_go_to_the_listeners_they_are_named_for() {
    let (first, second) = sockets();
    let proxy = start_with([&first, &second], "https:http", &config(&["http", "https"]));
    assert_eq!(proxy.address("http"), second.local_addr().unwrap());
    assert_eq!(proxy.address("https"), first.local_addr().unwrap());
    // Every worker accepts from them.
    for _ in 0..20 {
        assert_eq!(proxy.client().ask(GET).status(), 200);
    }
}

#[test]
fn sockets_without_names_go_in_order() {
    let (first, second) = sockets();
    let proxy = start_with(
        [&first, &second],
        "x.socket:x.socket",
        &config(&["http", "https"]),
    );
    assert_eq!(proxy.address("http"), first.local_addr().unwrap());
    assert_eq!(proxy.address("https"), second.local_addr().unwrap());
}

#[test]
fn who_comes_between_two_processes_is_served_by_the_next() {
    let (first, second) = sockets();
    let config = config(&["http", "https"]);
    let begin = || start_with([&first, &second], "http:https", &config);
    let mut proxy = begin();
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).status(), 200);
    proxy.signal("TERM");
    assert_eq!(proxy.ended().code(), Some(0));
    let waiting = std::net::TcpStream::connect(first.local_addr().unwrap()).unwrap();
    let _next = begin();
    assert_eq!(Wire::tcp(waiting).ask(GET).status(), 200);
}

#[test]
fn the_service_manager_is_told_how_things_stand() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let told = || {
        let mut message = [0; 1024];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let mut command = program();
    command.env("NOTIFY_SOCKET", &path);
    let whoami = config(&["http"]).replace("192.0.2.1:14", "127.0.0.1:0");
    let mut proxy = Proxy::start_by(directory, &whoami, command);
    assert_eq!(told(), "READY=1\n");
    proxy.reload(&whoami.replace("threads: 2", "threads: 3"));
    let reloading = told();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(told(), "READY=1\n");
    proxy.signal("TERM");
    assert_eq!(told(), "STOPPING=1\n");
    assert_eq!(proxy.ended().code(), Some(0));
}
