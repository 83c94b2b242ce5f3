//! The admin interface: who may ask, and what probes hear.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{EXECUTABLE, GET, Message, OK, Proxy, Upstream, Wire, headwater};

const LISTENERS: &str = "listeners: { http: { address: \"127.0.0.1:0\" } }\n";
const ROUTES: &str = "routes: [{ respond: { status: 204 } }]\n";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn with_admin(admin: &str) -> String {
    format!("{LISTENERS}{ROUTES}admin: {admin}\n")
}

fn start() -> Proxy {
    Proxy::start(&with_admin("{ address: \"127.0.0.1:0\" }"))
}

fn start_with_token() -> Proxy {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("token"), TOKEN).unwrap();
    let admin = "{ address: \"127.0.0.1:0\", token_file: token }";
    Proxy::start_in(directory, &with_admin(admin))
}

fn admin(proxy: &Proxy) -> Wire<TcpStream> {
    Wire::tcp(TcpStream::connect(proxy.address("admin")).unwrap())
}

/// The status and the body.
fn ask(proxy: &Proxy, request: &str) -> (u16, String) {
    let response = admin(proxy).ask(format!("{request}\r\n\r\n"));
    (response.status(), response.text().into())
}

fn status(proxy: &Proxy, request: &str) -> u16 {
    ask(proxy, request).0
}

fn healthcheck(address: SocketAddr) -> i32 {
    headwater(
        ".",
        &["healthcheck", "--url", &format!("http://{address}/readyz")],
    )
    .0
}

#[test]
fn probes_are_answered_under_any_name_and_without_a_token() {
    for proxy in [start(), start_with_token()] {
        for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: anything.example");
            assert_eq!(ask(&proxy, &request), (200, body.into()));
            assert_eq!(status(&proxy, &format!("GET {path} HTTP/1.0")), 200);
        }
        assert_eq!(healthcheck(proxy.address("admin")), 0);
    }
}

#[test]
fn a_name_that_may_be_anybodys_is_refused() {
    let proxy = start();
    for (host, expected) in [
        ("127.0.0.1:9900", 200),
        ("localhost", 200),
        ("[::1]:1", 200),
        ("rebound.example", 421),
        ("192.0.2.1", 421),
    ] {
        assert_eq!(
            status(&proxy, &format!("GET /metrics HTTP/1.1\r\nhost: {host}")),
            expected,
            "{host}"
        );
    }
    assert_eq!(status(&proxy, "GET /metrics HTTP/1.0"), 421);
}

#[test]
fn a_token_opens_what_it_guards_and_nothing_else_does() {
    let proxy = start_with_token();
    let get = |host: &str, fields: &str| {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {host}{fields}\r\n\r\n");
        admin(&proxy).ask(&request)
    };
    let refused = get("localhost", "");
    assert_eq!(refused.status(), 401);
    assert_eq!(
        refused.field("www-authenticate"),
        Some("Bearer realm=\"headwater\"")
    );
    let wrong = TOKEN.replace('0', "1");
    assert_eq!(
        get("localhost", &format!("\r\nauthorization: Bearer {wrong}")).status(),
        401
    );
    let right = format!("\r\nauthorization: Bearer {TOKEN}");
    assert_eq!(get("localhost", &right).status(), 200);
    // Nobody's page gets at an address, but any name may be led here.
    assert_eq!(get("192.0.2.1:9900", &right).status(), 200);
    assert_eq!(get("rebound.example", &right).status(), 421);
}

#[test]
fn what_is_read_is_not_written() {
    let proxy = start();
    let response =
        admin(&proxy).ask("POST /metrics HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(response.status(), 405);
    assert_eq!(response.field("allow"), Some("GET, HEAD"));
    let post = |field: &str| {
        status(
            &proxy,
            &format!("POST /metrics HTTP/1.1\r\nhost: localhost\r\n{field}content-length: 0"),
        )
    };
    assert_eq!(post("origin: http://evil.example\r\n"), 403);
    assert_eq!(post("origin: http://localhost\r\n"), 405);
    assert_eq!(
        status(&proxy, "GET /nothing HTTP/1.1\r\nhost: localhost"),
        404
    );
}

#[test]
fn answers_are_for_this_origin_alone() {
    let proxy = start();
    let response = admin(&proxy).ask("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(response.field("cache-control"), Some("no-store"));
    assert_eq!(response.field("x-frame-options"), Some("DENY"));
    assert!(
        response
            .field("content-security-policy")
            .unwrap()
            .contains("frame-ancestors 'none'")
    );
    assert_eq!(response.field("access-control-allow-origin"), None);
}

const PAGE_FILES: [(&str, &str); 3] = [
    ("/", "text/html; charset=utf-8"),
    ("/page/page.css", "text/css; charset=utf-8"),
    ("/page/page.js", "text/javascript; charset=utf-8"),
];

fn get(proxy: &Proxy, host: &str, path: &str) -> Message {
    admin(proxy).ask(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
}

#[test]
fn the_page_is_for_everybody_and_what_it_shows_is_not() {
    for (proxy, data) in [(start(), 200), (start_with_token(), 401)] {
        for (path, content_type) in PAGE_FILES {
            let response = get(&proxy, "localhost", path);
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(response.field("content-type"), Some(content_type));
            assert!(!response.text().is_empty(), "{path}");
            assert_eq!(get(&proxy, "rebound.example", path).status(), 421, "{path}");
        }
        for path in ["/api/v1/requests", "/api/v1/status", "/explain?peer=unix"] {
            assert_eq!(get(&proxy, "localhost", path).status(), data, "{path}");
        }
    }
}

#[test]
fn the_page_runs_its_own_scripts_and_nobody_elses() {
    let response = get(&start(), "localhost", "/");
    assert_eq!(
        response.field("content-security-policy"),
        Some("default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(response.field(name), Some(value), "{name}");
    }
}

#[test]
fn the_page_can_be_left_out() {
    let proxy = Proxy::start(&with_admin("{ address: \"127.0.0.1:0\", ui: false }"));
    for (path, _) in PAGE_FILES {
        assert_eq!(get(&proxy, "localhost", path).status(), 404, "{path}");
    }
    assert_eq!(get(&proxy, "localhost", "/api/v1/status").status(), 200);
}

#[test]
fn readiness_ends_with_the_signal_and_traffic_does_not() {
    let mut proxy = Proxy::start(&format!(
        "{}shutdown: {{ readiness_delay: 500ms }}\n",
        with_admin("{ address: \"127.0.0.1:0\" }")
    ));
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).status(), 204);
    proxy.signal("TERM");
    proxy.says("draining");
    assert_eq!(
        ask(&proxy, "GET /readyz HTTP/1.1\r\nhost: a"),
        (503, "draining\n".into())
    );
    assert_eq!(
        ask(&proxy, "GET /healthz HTTP/1.1\r\nhost: a"),
        (200, "ok\n".into())
    );
    assert_eq!(healthcheck(proxy.address("admin")), 1);
    assert_eq!(client.ask(GET).status(), 204);
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn readiness_stays_away_while_requests_are_finished() {
    let upstream = Upstream::bind();
    let mut proxy = Proxy::start(&format!(
        "{LISTENERS}admin: {{ address: \"127.0.0.1:0\" }}\n{}",
        upstream.as_only_route()
    ));
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    proxy.signal("TERM");
    proxy.says("draining");
    assert_eq!(status(&proxy, "GET /readyz HTTP/1.1\r\nhost: a"), 503);
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
    assert_eq!(proxy.ended().code(), Some(0));
}

#[test]
fn a_unix_socket_needs_no_token() {
    let directory = TempDir::new().unwrap();
    let proxy = Proxy::start_in(directory, &with_admin("{ address: \"unix:admin.sock\" }"));
    let mut client = Wire::unix(&proxy.path("admin.sock"));
    assert_eq!(
        client
            .ask("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .status(),
        200
    );
    let config = proxy.path("proxy.yaml");
    let (code, said) = headwater(".", &["healthcheck", "--config", config.to_str().unwrap()]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn addresses_that_others_reach_need_a_token() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("proxy.yaml");
    for (admin, code) in [
        ("{ address: \":9900\" }", 78),
        ("{ address: \"0.0.0.0:9900\" }", 78),
        ("{ address: [\"127.0.0.1:9900\", \"192.0.2.1:9900\"] }", 78),
        ("{ address: \":9900\", token_file: token }", 0),
        ("{ address: \":9900\", token_file: short }", 78),
        ("{ address: \":9900\", token_file: missing }", 78),
    ] {
        std::fs::write(&file, with_admin(admin)).unwrap();
        std::fs::write(directory.path().join("token"), TOKEN).unwrap();
        std::fs::write(directory.path().join("short"), "secret\n").unwrap();
        let (status, said) = headwater(".", &["check", file.to_str().unwrap()]);
        assert_eq!(status, code, "{admin}\n{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert_eq!(
        Proxy::fails(&with_admin(&format!("{{ address: \"{address}\" }}"))),
        Some(69)
    );
}

#[test]
fn the_environment_says_where() {
    let directory = TempDir::new().unwrap();
    std::fs::write(
        directory.path().join("proxy.yaml"),
        format!("{LISTENERS}{ROUTES}"),
    )
    .unwrap();
    let path = directory.path().join("elsewhere.sock");
    let check = |address: &str| {
        let output = Command::new(EXECUTABLE)
            .args(["check", "--print", "proxy.yaml"])
            .current_dir(directory.path())
            .env("HEADWATER_ADMIN_ADDRESS", address)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
        )
    };
    let (code, said) = check(&format!("unix:{}", path.display()));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("elsewhere.sock"), "{said}");
    let (code, said) = check(":9900");
    assert_eq!(code, 78);
    assert!(
        said.contains("E038") && said.contains("HEADWATER_ADMIN_ADDRESS"),
        "{said}"
    );
}

fn metrics_at(proxy: &Proxy, socket: &str, fields: &str) -> Message {
    let mut client = Wire::unix(&proxy.path(socket));
    client.ask(format!(
        "GET /metrics HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n"
    ))
}

#[test]
fn a_reload_moves_it_and_changes_its_token() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("token"), TOKEN).unwrap();
    let mut proxy = Proxy::start_in(directory, &with_admin("{ address: \"unix:a.sock\" }"));
    assert_eq!(metrics_at(&proxy, "a.sock", "").status(), 200);
    let mut open = Wire::unix(&proxy.path("a.sock"));
    assert_eq!(
        open.ask("GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n")
            .status(),
        200
    );
    proxy.reload(&with_admin(
        "{ address: \"unix:b.sock\", token_file: token }",
    ));
    open.assert_closed();
    assert_eq!(metrics_at(&proxy, "b.sock", "").status(), 401);
    assert_eq!(
        metrics_at(
            &proxy,
            "b.sock",
            &format!("authorization: Bearer {TOKEN}\r\n")
        )
        .status(),
        200
    );
    assert!(UnixStream::connect(proxy.path("a.sock")).is_err());
}

#[test]
fn a_reload_to_an_address_that_is_taken_changes_nothing() {
    let mut proxy = start();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    proxy.reconfigure(&with_admin(&format!("{{ address: \"{address}\" }}")));
    proxy.signal("HUP");
    proxy.says("cannot bind");
    assert_eq!(status(&proxy, "GET /readyz HTTP/1.1\r\nhost: a"), 200);
}

#[test]
fn many_connections_do_not_keep_a_probe_out() {
    let proxy = start();
    let idle: Vec<_> = (0..200).map(|_| admin(&proxy)).collect();
    assert_eq!(status(&proxy, "GET /readyz HTTP/1.1\r\nhost: a"), 200);
    drop(idle);
}

#[test]
fn a_body_that_nobody_asked_for_is_bounded() {
    let proxy = start();
    let post = |length: usize| {
        let head = format!(
            "POST /api/v1/reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        admin(&proxy).ask(head + &"x".repeat(length)).status()
    };
    assert_eq!(post(64 * 1024), 200);
    assert_eq!(post(64 * 1024 + 1), 413);
}

#[test]
fn a_head_has_no_body() {
    let proxy = start();
    let mut client = admin(&proxy);
    client.send("HEAD /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(client.head().status(), 200);
    // What comes next is the head of the next answer.
    client.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(client.response().text(), "ok\n");
}

#[test]
fn a_reload_asked_for_during_a_drain_is_refused() {
    let upstream = Upstream::bind();
    let mut proxy = Proxy::start(&format!(
        "{LISTENERS}admin: {{ address: \"127.0.0.1:0\" }}\n{}",
        upstream.as_only_route()
    ));
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    proxy.signal("TERM");
    proxy.says("draining");
    let reload = "POST /api/v1/reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0";
    assert_eq!(status(&proxy, reload), 503);
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
    assert_eq!(proxy.ended().code(), Some(0));
}
