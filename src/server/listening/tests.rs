use std::net::TcpListener;
use std::path::Path;

use super::*;

fn config(listeners: &str) -> Config {
    let text = format!("listeners: {{ {listeners} }}\nroutes: [{{ respond: {{}} }}]\n");
    let loaded = Config::parse(&text, "proxy.yaml", Path::new(""), &|_| None);
    loaded.unwrap().config
}

fn plan(listening: &mut Listening, listeners: &str) -> Result<Plan, Error> {
    let config = config(listeners);
    let tls = vec![None; config.listeners.len()];
    listening.plan(&config, &tls)
}

/// Listens, and returns each socket with its listener and whether it is new to the workers.
fn listen(listening: &mut Listening, listeners: &str) -> Vec<(u64, String, bool)> {
    try_listen(listening, listeners).unwrap()
}

fn try_listen(
    listening: &mut Listening,
    listeners: &str,
) -> Result<Vec<(u64, String, bool)>, Error> {
    let plan = plan(listening, listeners)?;
    let shown = plan.deals[0].iter().map(|accepting| {
        let is_new = accepting.socket.is_some();
        (accepting.id.0, accepting.listener.name.clone(), is_new)
    });
    let shown = shown.collect();
    listening.commit(plan.held);
    Ok(shown)
}

fn entry(id: u64, name: &str, is_new: bool) -> (u64, String, bool) {
    (id, name.to_owned(), is_new)
}

fn inherited(name: &str) -> (Inherited, u16) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let name = name.to_owned();
    let socket = ListeningSocket::Tcp(socket);
    (Inherited { name, socket }, port)
}

fn port(bound: &Bound) -> u16 {
    match &bound.address {
        BoundAddress::Ip(address) => address.port(),
        BoundAddress::Unix(_) => panic!("not an IP address"),
    }
}

#[test]
fn what_is_listened_on_already_stays() {
    let mut listening = Listening::new(2, Vec::new());
    let one = "a: { address: \"127.0.0.1:0\" }";
    assert_eq!(listen(&mut listening, one), [entry(1, "a", true)]);
    let two = "a: { address: [\"127.0.0.1:0\", \"[::1]:0\"] }, b: { address: \"127.0.0.1:0\" }";
    assert_eq!(
        listen(&mut listening, two),
        [
            entry(1, "a", false),
            entry(2, "a", true),
            entry(3, "b", true)
        ]
    );
    let other = "b: { address: \"127.0.0.1:0\" }";
    assert_eq!(listen(&mut listening, other), [entry(3, "b", false)]);
    // What was given up is gone.
    assert_eq!(listen(&mut listening, one), [entry(4, "a", true)]);
}

#[test]
fn a_renamed_listener_keeps_an_address_of_its_own() {
    let (free, port) = inherited("");
    drop(free);
    let mut listening = Listening::new(1, Vec::new());
    let fixed = |name: &str| format!("{name}: {{ address: \"127.0.0.1:{port}\" }}");
    assert_eq!(listen(&mut listening, &fixed("a")), [entry(1, "a", true)]);
    assert_eq!(listen(&mut listening, &fixed("b")), [entry(1, "b", false)]);
    let random = |name: &str| format!("{name}: {{ address: \"127.0.0.1:0\" }}");
    assert_eq!(listen(&mut listening, &random("b")), [entry(2, "b", true)]);
    assert_eq!(listen(&mut listening, &random("c")), [entry(3, "c", true)]);
}

#[test]
fn a_wider_address_may_follow_a_narrower_one() {
    // Somebody else may have the port on another address of this machine; not every time.
    let widened = (0..20).find_map(|_| {
        let mut listening = Listening::new(1, Vec::new());
        listen(&mut listening, "a: { address: \"127.0.0.1:0\" }");
        let port = port(&listening.bound()[0]);
        let wider = format!("a: {{ address: \"0.0.0.0:{port}\" }}");
        try_listen(&mut listening, &wider).ok()
    });
    assert_eq!(widened.unwrap(), [entry(2, "a", true)]);
}

#[test]
fn an_address_somebody_else_has_leaves_everything_as_it_was() {
    let (_taken, port) = inherited("");
    let mut listening = Listening::new(1, Vec::new());
    listen(&mut listening, "a: { address: \"127.0.0.1:0\" }");
    let more = format!("b: {{ address: \"127.0.0.1:0\" }}, c: {{ address: \"127.0.0.1:{port}\" }}");
    let error = plan(&mut listening, &more).unwrap_err();
    assert_eq!(error.listener, "c");
    assert_eq!(error.source.source.kind(), std::io::ErrorKind::AddrInUse);
    let stays = listen(&mut listening, "a: { address: \"127.0.0.1:0\" }");
    assert_eq!(stays, [entry(1, "a", false)]);
}

#[test]
fn inherited_sockets_go_by_name() {
    let ((first, first_port), (second, second_port)) = (inherited("b"), inherited("a"));
    let mut listening = Listening::new(1, vec![first, second]);
    // An address that can't be bound: it isn't tried.
    let both = "a: { address: \"192.0.2.1:1\" }, b: { address: \"192.0.2.1:2\" }";
    listen(&mut listening, both);
    let ports: Vec<_> = listening.bound().iter().map(port).collect();
    assert_eq!(ports, [second_port, first_port]);
    // A listener that comes back finds its socket again.
    listen(&mut listening, "b: { address: \"192.0.2.1:2\" }");
    assert_eq!(
        listen(&mut listening, both),
        [entry(3, "a", true), entry(2, "b", false)]
    );
}

#[test]
fn inherited_sockets_without_a_name_that_fits_go_in_order() {
    let ((first, first_port), (second, second_port)) = (inherited("x.socket"), inherited(""));
    let mut listening = Listening::new(1, vec![first, second]);
    let three =
        "a: { address: [\"192.0.2.1:1\", \"192.0.2.1:2\"] }, b: { address: \"127.0.0.1:0\" }";
    listen(&mut listening, three);
    let ports: Vec<_> = listening.bound().iter().map(port).collect();
    assert_eq!(ports[..2], [first_port, second_port]);
    let ids: Vec<_> = listen(&mut listening, three);
    assert!(ids.iter().all(|(_, _, is_new)| !is_new), "{ids:?}");
}

#[test]
fn how_a_socket_is_closed_follows_the_configuration() {
    let (socket, _) = inherited("b");
    let mut listening = Listening::new(1, vec![socket]);
    listening.kernel_migrates = false;
    for (reuse_port, farewell) in [(false, Farewell::EmptyQueue), (true, Farewell::HandOver)] {
        let listeners = format!(
            "a: {{ address: \"127.0.0.1:0\", reuse_port: {reuse_port} }}, \
             b: {{ address: \":1\", reuse_port: {reuse_port} }}"
        );
        let plan = plan(&mut listening, &listeners).unwrap();
        let farewells: Vec<_> = plan.deals[0].iter().map(|one| one.farewell).collect();
        assert_eq!(farewells, [farewell, Farewell::LeaveQueue]);
        listening.commit(plan.held);
    }
    listening.kernel_migrates = true;
    let plan = plan(
        &mut listening,
        "a: { address: \"127.0.0.1:0\", reuse_port: true }",
    )
    .unwrap();
    assert_eq!(plan.deals[0][0].farewell, Farewell::EmptyQueue);
}
