//! What the admin interface tells about requests: the last ones, why they had the client they had, and events.

use std::net::TcpStream;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::{DEADLINE, EXECUTABLE, GET, OK, Proxy, Upstream, Wire};

const CONFIG: &str = "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
    admin: { address: \"127.0.0.1:0\" }\n\
    client_ip: { trusted_proxies: [127.0.0.2], header: X-Forwarded-For }\n\
    upstreams: { whoami: { builtin: whoami } }\n\
    routes: [{ name: site, match: { hosts: [app.test] }, upstream: whoami }]\n";

fn admin(proxy: &Proxy) -> Wire<TcpStream> {
    Wire::tcp(TcpStream::connect(proxy.address("admin")).unwrap())
}

fn get(proxy: &Proxy, target: &str) -> (u16, String) {
    let response = admin(proxy).ask(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    (response.status(), response.text().to_owned())
}

fn json(proxy: &Proxy, target: &str) -> Value {
    let (status, text) = get(proxy, target);
    assert_eq!(status, 200, "{target}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// The last requests, when so many have ended.
fn ended(proxy: &Proxy, count: usize) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let requests = json(proxy, "/api/v1/requests");
        let requests = requests.as_array().unwrap();
        if requests.len() == count && requests.iter().all(|request| !request["status"].is_null()) {
            return requests.clone();
        }
        assert!(began.elapsed() < DEADLINE, "{requests:#?}");
    }
}

fn ask_from(proxy: &Proxy, source: &str, fields: &str) -> u16 {
    let request = format!("GET /a?secret HTTP/1.1\r\nhost: app.test\r\n{fields}\r\n");
    proxy
        .client_from(source.parse().unwrap())
        .ask(request)
        .status()
}

/// What the command line says of the same peer and fields.
fn explained(proxy: &Proxy, peer: &str, fields: &[&str]) -> String {
    let mut command = Command::new(EXECUTABLE);
    command.args(["explain", "--format", "json", "--config"]);
    command
        .arg(proxy.path("proxy.yaml"))
        .args(["--listener", "http", "--peer", peer]);
    for field in fields {
        command.args(["-H", field]);
    }
    let output = command
        .env_remove("HEADWATER_ADMIN_ADDRESS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_last_requests_are_shown_newest_first() {
    let proxy = Proxy::start(CONFIG);
    assert_eq!(
        ask_from(&proxy, "127.0.0.2", "x-forwarded-for: 192.0.2.1\r\n"),
        200
    );
    assert_eq!(
        ask_from(&proxy, "127.0.0.3", "x-forwarded-for: 192.0.2.1\r\n"),
        200
    );
    assert_eq!(
        proxy
            .client()
            .ask("GET / HTTP/1.1\r\nhost: none.test\r\n\r\n")
            .status(),
        404
    );
    let requests = ended(&proxy, 3);
    let column = |name: &str| {
        requests
            .iter()
            .map(|request| request[name].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(column("status"), [404, 200, 200]);
    assert_eq!(column("client_ip"), ["127.0.0.1", "127.0.0.3", "192.0.2.1"]);
    assert_eq!(column("peer_ip"), ["127.0.0.1", "127.0.0.3", "127.0.0.2"]);
    assert_eq!(
        column("client_ip_source"),
        ["peer", "peer", "header:x-forwarded-for"]
    );
    assert_eq!(column("forged"), [0, 1, 0]);
    assert_eq!(column("verdict"), ["unverified", "forged", "verified"]);
    assert_eq!(
        column("client_network"),
        ["127.0.0.0/24", "127.0.0.0/24", "192.0.2.0/24"]
    );
    let proxies = json!([{ "address": "127.0.0.2", "trusted_as": "127.0.0.2" }]);
    assert_eq!(column("via"), [json!([]), json!([]), proxies]);
    assert_eq!(column("route"), [Value::Null, "site".into(), "site".into()]);
    assert_eq!(
        column("upstream"),
        [Value::Null, "whoami".into(), "whoami".into()]
    );
    assert_eq!(column("listener"), ["http", "http", "http"]);
    assert_eq!(column("path"), ["/", "/a", "/a"]);
    assert_eq!(
        json(&proxy, "/api/v1/requests?last=1")
            .as_array()
            .unwrap()
            .len(),
        1
    );
    for target in [
        "/api/v1/requests?last=0",
        "/api/v1/requests?last=1025",
        "/api/v1/requests?first=1",
        "/api/v1/requests?explain=html",
        "/api/v1/requests/x/explain?format=html",
    ] {
        assert_eq!(get(&proxy, target).0, 400, "{target}");
    }
}

#[test]
fn a_request_is_explained_as_the_command_line_does_it() {
    let proxy = Proxy::start(CONFIG);
    for (source, fields) in [
        (
            "127.0.0.2",
            &["x-forwarded-for: 6.6.6.6, 192.0.2.1, 127.0.0.2"][..],
        ),
        (
            "127.0.0.2",
            &["x-forwarded-for: 192.0.2.1", "x-forwarded-for: nonsense"],
        ),
        (
            "127.0.0.3",
            &["x-forwarded-for: 192.0.2.1", "x-real-ip: 6.6.6.6"],
        ),
        ("127.0.0.3", &[]),
    ] {
        let lines = fields
            .iter()
            .fold(String::new(), |lines, field| lines + field + "\r\n");
        assert_eq!(ask_from(&proxy, source, &lines), 200);
        let request = &json(&proxy, "/api/v1/requests?last=1")[0];
        let id = request["request_id"].as_str().unwrap();
        let (status, why) = get(&proxy, &format!("/api/v1/requests/{id}/explain"));
        assert_eq!(status, 200, "{why}");
        let peer = format!("{source}:{}", request["peer_port"]);
        assert_eq!(why, explained(&proxy, &peer, fields));
    }
    assert_eq!(get(&proxy, "/api/v1/requests/none/explain").0, 404);
}

#[test]
fn any_peer_and_field_can_be_asked_about() {
    let proxy = Proxy::start(CONFIG);
    let (status, why) = get(
        &proxy,
        "/explain?peer=127.0.0.2&header=X-Forwarded-For:+6.6.6.6,%20192.0.2.1",
    );
    assert_eq!(status, 200, "{why}");
    assert_eq!(
        why,
        explained(
            &proxy,
            "127.0.0.2",
            &["X-Forwarded-For: 6.6.6.6, 192.0.2.1"]
        )
    );
    assert_eq!(get(&proxy, "/explain?peer=unix").0, 200);
    assert_eq!(get(&proxy, "/explain?peer=unix&listener=other").0, 404);
    for query in [
        "",
        "?peer=nobody",
        "?peer=192.0.2.1&peer=192.0.2.2",
        "?peer=192.0.2.1&header=no-colon",
        "?peer=192.0.2.1&proxy_protocol=0.0.0.0",
        "?peer=192.0.2.1&typo=x",
        "?peer=192.0.2.1&format=html",
        "?peer=%zz",
    ] {
        assert_eq!(get(&proxy, &format!("/explain{query}")).0, 400, "{query}");
    }
}

#[test]
fn a_request_that_another_configuration_judged_is_not_explained_by_this_one() {
    let mut proxy = Proxy::start(CONFIG);
    assert_eq!(
        ask_from(&proxy, "127.0.0.2", "x-forwarded-for: 192.0.2.1\r\n"),
        200
    );
    let [request] = &ended(&proxy, 1)[..] else {
        panic!("one")
    };
    let target = format!(
        "/api/v1/requests/{}/explain",
        request["request_id"].as_str().unwrap()
    );
    assert_eq!(get(&proxy, &target).0, 200);
    proxy.reload(&CONFIG.replace("127.0.0.2", "127.0.0.9"));
    assert_eq!(get(&proxy, &target).0, 410);
    let last = json(&proxy, "/api/v1/requests?explain=json");
    assert_eq!(
        last[0]["unexplained"],
        "it was judged by a configuration that has been replaced"
    );
    proxy.reload(CONFIG);
    assert_eq!(get(&proxy, &target).0, 200);
}

#[test]
fn a_chain_that_was_not_kept_whole_is_not_explained() {
    let proxy = Proxy::start(CONFIG);
    let chain = "192.0.2.1, ".repeat(300);
    assert_eq!(
        ask_from(
            &proxy,
            "127.0.0.2",
            &format!("x-forwarded-for: {chain}192.0.2.1\r\n")
        ),
        200
    );
    let [request] = &ended(&proxy, 1)[..] else {
        panic!("one")
    };
    let id = request["request_id"].as_str().unwrap();
    assert_eq!(
        get(&proxy, &format!("/api/v1/requests/{id}/explain")).0,
        410
    );
}

#[test]
fn addresses_are_shown_as_the_access_log_shows_them() {
    let proxy = Proxy::start(&format!("{CONFIG}access_log: {{ redact_ip: truncate }}\n"));
    assert_eq!(
        ask_from(
            &proxy,
            "127.0.0.2",
            "x-forwarded-for: 6.6.6.6, 192.0.2.1\r\n"
        ),
        200
    );
    let [request] = &ended(&proxy, 1)[..] else {
        panic!("one")
    };
    assert_eq!(request["client_ip"], "192.0.2.0");
    assert_eq!(request["peer_ip"], "127.0.0.0");
    assert_eq!(request["via"][0]["address"], "127.0.0.0");
    let id = request["request_id"].as_str().unwrap();
    let (_, why) = get(&proxy, &format!("/api/v1/requests/{id}/explain"));
    for whole in ["6.6.6.6", "192.0.2.1", "by 127.0.0.2", "\"127.0.0.2"] {
        assert!(!why.contains(whole), "{why}");
    }
    assert!(why.contains("192.0.2.0"), "{why}");
}

#[test]
fn a_request_under_way_has_no_status_yet() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ address: \"127.0.0.1:0\" }}\n{}",
        upstream.as_only_route()
    ));
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    let request = &json(&proxy, "/api/v1/requests")[0];
    assert_eq!(
        (&request["status"], &request["duration_ms"]),
        (&Value::Null, &Value::Null)
    );
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
    assert_eq!(ended(&proxy, 1)[0]["status"], 200);
}

#[test]
fn events_tell_what_ends_from_now_on() {
    let proxy = Proxy::start(CONFIG);
    assert_eq!(ask_from(&proxy, "127.0.0.3", ""), 200);
    ended(&proxy, 1);
    let mut events = admin(&proxy);
    events.send("GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let head = events.head();
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
    events.raw_until("requests as they end");
    for source in ["127.0.0.4", "127.0.0.5"] {
        assert_eq!(ask_from(&proxy, source, ""), 200);
        let event = events.raw_until("}\n");
        assert!(event.contains("event: request\ndata: {"), "{event}");
        assert!(
            event.contains(&format!("\"client_ip\":\"{source}\"")),
            "{event}"
        );
        assert!(event.contains("\"status\":200"), "{event}");
    }
}

#[test]
fn who_takes_no_events_is_in_nobodys_way() {
    const MOST: usize = 16;
    let proxy = Proxy::start(CONFIG);
    let subscribe = |mut subscriber: Wire<TcpStream>| {
        subscriber.send("GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let status = subscriber.head().status();
        (subscriber, status)
    };
    let idle = [(); MOST].map(|()| {
        let (subscriber, status) = subscribe(narrow(&proxy));
        assert_eq!(status, 200);
        subscriber
    });
    assert_eq!(subscribe(admin(&proxy)).1, 503);
    let began = Instant::now();
    let mut client = proxy.client();
    while subscribe(admin(&proxy)).1 == 503 {
        assert!(began.elapsed() < DEADLINE, "they are waited for");
        for _ in 0..100 {
            assert_eq!(client.ask(GET).status(), 200);
        }
    }
    drop(idle);
}

/// A connection to the admin interface on which little may wait to be read.
fn narrow(proxy: &Proxy) -> Wire<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    socket.connect(&proxy.address("admin").into()).unwrap();
    Wire::tcp(socket.into())
}

#[test]
fn an_event_explains_its_request() {
    let proxy = Proxy::start(CONFIG);
    let mut events = admin(&proxy);
    events.send("GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
    events.raw_until("requests as they end");
    for source in ["127.0.0.2", "127.0.0.3"] {
        assert_eq!(
            ask_from(&proxy, source, "x-forwarded-for: 192.0.2.1\r\n"),
            200
        );
        let event = events.raw_until("}\n");
        let (_, data) = event.split_once("data: ").unwrap();
        let request: Value = serde_json::from_str(data).unwrap();
        let id = request["request_id"].as_str().unwrap();
        let why = json(&proxy, &format!("/api/v1/requests/{id}/explain"));
        assert_eq!(request["explanation"], why, "{source}");
    }
}

#[test]
fn who_passed_a_request_on_is_told_in_the_order_of_its_way() {
    let proxy = Proxy::start(&CONFIG.replace("[127.0.0.2]", "[127.0.0.2, cloudflare]"));
    let fields = "x-forwarded-for: 6.6.6.6, 192.0.2.1, 173.245.48.1\r\n";
    assert_eq!(ask_from(&proxy, "127.0.0.2", fields), 200);
    let via = json!([
        { "address": "173.245.48.1", "trusted_as": "preset cloudflare" },
        { "address": "127.0.0.2", "trusted_as": "127.0.0.2" },
    ]);
    assert_eq!(ended(&proxy, 1)[0]["via"], via);
}

#[test]
fn there_is_an_end_to_how_many_listen() {
    let proxy = Proxy::start(CONFIG);
    let subscribe = || {
        let mut events = admin(&proxy);
        events.send("GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let status = events.head().status();
        (status, events)
    };
    let mut listening: Vec<_> = (0..16).map(|_| subscribe()).collect();
    assert!(listening.iter().all(|(status, _)| *status == 200));
    assert_eq!(subscribe().0, 503);
    listening.pop();
    let began = Instant::now();
    while subscribe().0 != 200 {
        assert!(began.elapsed() < DEADLINE);
    }
}
