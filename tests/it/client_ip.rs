//! Every row of `tests/cases/client_ip.yaml`, sent through the real proxy from real loopback peers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;
use serde_yaml::Value;

use crate::support::{Message, OK, Proxy, Upstream};

const TABLE: &str = include_str!("../cases/client_ip.yaml");

/// `reason` isn't visible on the wire: the unit test of the same table holds it.
#[derive(Deserialize)]
struct Case {
    name: String,
    peer: String,
    proxy_header: Option<SocketAddr>,
    #[serde(default)]
    offline: bool,
    client_ip: Option<Value>,
    forwarded: Option<Value>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
    status: Option<u16>,
    #[serde(default)]
    sent: BTreeMap<String, Option<String>>,
}

impl Case {
    /// Everything to `upstream`, but `/whoami` to the echo service, which shows the client.
    fn config(&self, upstream: &Upstream) -> String {
        let section = |name: &str, value: &Option<Value>| match value {
            None => String::new(),
            Some(value) => {
                let text = serde_yaml::to_string(value).unwrap();
                let lines: Vec<_> = text.lines().map(|line| format!("  {line}\n")).collect();
                format!("{name}:\n{}", lines.concat())
            }
        };
        let preamble = match self.proxy_header {
            Some(_) => "    proxy_protocol: { mode: required, from: [127.0.0.0/8] }\n",
            None => "",
        };
        format!(
            "listeners:\n  http:\n    address: \"127.0.0.1:0\"\n{preamble}{}{}\
             upstreams: {{ app: {{ endpoints: [\"{}\"] }}, whoami: {{ builtin: whoami }} }}\n\
             routes: [{{ upstream: app }}, {{ match: {{ path: /whoami }}, upstream: whoami }}]\n",
            section("client_ip", &self.client_ip),
            section("forwarded", &self.forwarded),
            upstream.address()
        )
    }

    fn request(&self, path: &str) -> String {
        let preamble = self.proxy_header.map_or_else(String::new, |source| {
            let (family, destination) = match source {
                SocketAddr::V4(_) => ("TCP4", "192.0.2.1"),
                SocketAddr::V6(_) => ("TCP6", "2001:db8::1"),
            };
            let (ip, port) = (source.ip(), source.port());
            format!("PROXY {family} {ip} {destination} {port} {{port}}\r\n")
        });
        let fields = self.headers.iter();
        let fields: Vec<_> = fields
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let fields = fields.concat();
        format!(
            "{preamble}GET {path} HTTP/1.1\r\nHost: app.example.test\r\n{fields}Connection: close\r\n\r\n"
        )
    }

    fn check(&self, proxy: &Proxy, upstream: &Upstream) {
        let peer: IpAddr = self.peer.parse().unwrap();
        let port = proxy.address("http").port().to_string();
        let mut client = proxy.client_from(peer);
        client.send(self.request("/").replace("{port}", &port));
        if let Some(status) = self.status {
            assert_eq!(client.response().status(), status);
            upstream.assert_untouched();
            return;
        }
        let (request, _connection) =
            upstream.answer(OK.replace("content-length", "connection: close\r\ncontent-length"));
        assert_eq!(client.response().text(), "ok");
        self.check_sent(&request, &port);

        let mut client = proxy.client_from(peer);
        client.send(self.request("/whoami").replace("{port}", &port));
        let answer = client.response();
        let client = answer
            .text()
            .lines()
            .find_map(|line| line.strip_prefix("ClientIP: "))
            .expect("a ClientIP line");
        let expected = self
            .client
            .map_or("unknown".to_owned(), |ip| ip.to_string());
        assert_eq!(client, expected);
    }

    fn check_sent(&self, request: &Message, port: &str) {
        for (name, expected) in &self.sent {
            let expected = expected.as_ref().map(|value| value.replace("{port}", port));
            assert_eq!(request.field(name), expected.as_deref(), "{name}");
        }
    }
}

#[test]
fn every_case_of_the_table_holds_on_the_wire() {
    let cases: Vec<Case> = serde_yaml::from_str(TABLE).unwrap();
    let upstream = Upstream::bind();
    let mut proxies = BTreeMap::new();
    let mut failed = Vec::new();
    let mut checked = 0;
    for case in cases.iter().filter(|case| !case.offline) {
        let config = case.config(&upstream);
        let proxy = proxies
            .entry(config)
            .or_insert_with_key(|config| Proxy::start(config));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            case.check(proxy, &upstream);
        }));
        checked += 1;
        if outcome.is_err() {
            failed.push(case.name.as_str());
        }
    }
    assert!(checked >= 60, "the table lost rows");
    assert!(failed.is_empty(), "{failed:#?}");
}
