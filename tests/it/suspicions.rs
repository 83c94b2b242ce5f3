//! Addresses of clients that are lost on the way here: noticed, said once, and shown to operators.

use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{DEADLINE, Proxy, Wire, connect, headwater, program};

/// Enough to be judged by.
const MANY: usize = 120;

fn config(listeners: &str, cluster: &str) -> String {
    format!(
        "listeners: {{ {listeners} }}\n\
         client_ip: {{ trusted_proxies: [127.0.0.66], {cluster} }}\n\
         access_log: {{ exclude_paths: [/status] }}\n\
         admin: {{ address: \"127.0.0.1:0\" }}\n\
         routes: [{{ respond: {{ status: 204 }} }}]\n"
    )
}

/// So many requests over one connection.
fn ask(proxy: &Proxy, listener: &str, source: &str, path: &str, fields: &str) {
    let socket = connect(source.parse().unwrap(), proxy.address(listener));
    let mut client = Wire::tcp(socket);
    for _ in 0..MANY {
        let request = format!("GET {path} HTTP/1.1\r\nhost: app.test\r\n{fields}\r\n");
        assert_eq!(client.ask(request).status(), 204);
    }
}

fn get(proxy: &Proxy, target: &str) -> String {
    let mut admin = Wire::tcp(TcpStream::connect(proxy.address("admin")).unwrap());
    let response = admin.ask(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    assert_eq!(response.status(), 200, "{target}");
    response.text().to_owned()
}

/// All that is suspected, once anything is.
fn suspicions(proxy: &Proxy) -> Vec<Value> {
    let began = Instant::now();
    loop {
        let all: Vec<Value> = serde_json::from_str(&get(proxy, "/api/v1/suspicions")).unwrap();
        if !all.is_empty() {
            return all;
        }
        assert!(began.elapsed() < DEADLINE, "nothing is suspected");
    }
}

#[test]
fn translated_addresses_are_noticed_and_nothing_else() {
    let listeners = "pods: { address: \"127.0.0.1:0\" }, probed: { address: \"127.0.0.1:0\" },\n  \
         told: { address: \"127.0.0.1:0\" }, lost: { address: \"127.0.0.1:0\" }";
    let cluster = "cluster: { nodes: [127.0.0.2], pods: [127.42.0.0/16] }";
    let mut proxy = Proxy::start(&config(listeners, cluster));
    ask(&proxy, "pods", "127.42.1.10", "/", "");
    ask(&proxy, "probed", "127.0.0.2", "/healthz", "");
    ask(&proxy, "probed", "127.0.0.2", "/status/of/it", "");
    ask(
        &proxy,
        "told",
        "127.0.0.66",
        "/",
        "x-forwarded-for: 127.0.0.2\r\n",
    );
    // A node's own address, and that of its bridge.
    ask(&proxy, "lost", "127.0.0.2", "/", "");
    ask(&proxy, "lost", "127.42.1.1", "/", "");

    // A look may come between the two: what is said then is of the first alone.
    let said = proxy.says("W120");
    for part in [
        "WARN",
        "lost",
        "127.0.0.2",
        "externalTrafficPolicy: Local",
        "hostNetwork",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let all = suspicions(&proxy);
    assert_eq!(all.len(), 1, "{all:#?}");
    let found = &all[0];
    assert_eq!(
        json!([
            found["listener"],
            found["code"],
            found["cause"],
            found["field"]
        ]),
        json!(["lost", "W120", "node", null])
    );
    assert_eq!(found["requests"], found["suspect_requests"]);
    assert!(
        found["message"]
            .as_str()
            .unwrap()
            .contains("of this cluster")
    );
    assert!(
        found["remedies"].as_array().unwrap().len() >= 4,
        "{found:#}"
    );
    let metrics = get(&proxy, "/metrics");
    for (listener, cause, value) in [
        ("lost", "node", 1),
        ("lost", "gateway", 0),
        ("pods", "node", 0),
        ("probed", "node", 0),
        ("told", "node", 0),
    ] {
        let row = format!(
            "headwater_snat_suspected{{listener=\"{listener}\",cause=\"{cause}\"}} {value}\n"
        );
        assert!(metrics.contains(&row), "{row} in\n{metrics}");
    }
    let more: Vec<_> = proxy.log_to_the_end();
    assert!(!more.iter().any(|line| line.contains("W12")), "{more:#?}");
}

#[test]
fn a_balancer_that_nobody_trusts_is_named_and_so_is_the_remedy() {
    let mut proxy = Proxy::start(&config("http: { address: \"127.0.0.1:0\" }", ""));
    ask(
        &proxy,
        "http",
        "127.0.0.7",
        "/",
        "x-forwarded-proto: https\r\n",
    );
    ask(
        &proxy,
        "http",
        "127.0.0.8",
        "/",
        "x-forwarded-for: 192.0.2.1\r\nx-real-ip: 192.0.2.1\r\n",
    );
    ask(
        &proxy,
        "http",
        "127.0.0.8",
        "/",
        "x-forwarded-for: 192.0.2.2\r\n",
    );
    let said = proxy.says("W121");
    assert!(
        said.contains(
            "X-Forwarded-For arrives from 127.0.0.8 on 100 % of requests and is not trusted"
        ),
        "{said}"
    );
    assert!(said.contains("add it to client_ip.trust"), "{said}");
    let all = suspicions(&proxy);
    let found: Vec<_> = all
        .iter()
        .map(|one| json!([one["cause"], one["peers"], one["field"]]))
        .collect();
    assert_eq!(
        found,
        [json!([
            "untrusted_header",
            ["127.0.0.8"],
            "X-Forwarded-For"
        ])]
    );
}

#[test]
fn the_own_node_is_known_by_its_variable() {
    let mut command = program();
    command.env("HOST_IP", "127.0.0.2");
    let text = config("http: { address: \"127.0.0.1:0\" }", "recursive: true");
    let mut proxy = Proxy::start_by(tempfile::TempDir::new().unwrap(), &text, command);
    ask(&proxy, "http", "127.0.0.2", "/", "");
    let said = proxy.says("W120");
    assert!(said.contains("of this cluster"), "{said}");
}

#[test]
fn too_much_trust_is_said_by_check_and_at_every_start() {
    let text = config(
        "http: { address: \"127.0.0.1:0\" }",
        "header: CF-Connecting-IP, cluster: { nodes: [127.0.0.66] }",
    );
    let proxy = Proxy::start(&text);
    let said = proxy.announced();
    let directory = proxy.end_and_keep();
    let (status, checked) = headwater(&directory, &["check", "proxy.yaml"]);
    assert_eq!(status, 0, "{checked}");
    let (status, denied) = headwater(&directory, &["check", "--deny-warnings", "proxy.yaml"]);
    assert_eq!(status, 78, "{denied}");
    assert!(
        denied.contains("proxy.yaml: not ok, by --deny-warnings"),
        "{denied}"
    );
    for said in [said, checked] {
        assert!(
            said.contains("warning[W108]: visitors whose addresses"),
            "{said}"
        );
        assert!(said.contains("proxy.yaml:2:32"), "{said}");
    }
}

#[test]
fn a_machine_that_connects_for_everybody_is_noticed() {
    let mut proxy = Proxy::start(&config("http: { address: \"127.0.0.1:0\" }", ""));
    ask(&proxy, "http", "127.0.0.1", "/", "");
    let said = proxy.says("W120");
    for part in ["this machine itself", "from: [loopback]"] {
        assert!(said.contains(part), "{said}");
    }
}
