//! A changed configuration, or certificate, is taken up while everything goes on.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Certificate, GET, Load, OK, Origin, Proxy, Upstream, Wire, websocket};

const HTTP: &str = "http: { address: \"127.0.0.1:0\" }";
const WHOAMI: &str = "upstreams: { whoami: { builtin: whoami } }\nroutes: [{ upstream: whoami }]\n";

/// A configuration with these listeners; SIGHUP alone reloads it.
fn config(listeners: &str, rest: &str) -> String {
    format!(
        "listeners: {{ {listeners} }}\nreload: {{ watch: false }}\n\
         runtime: {{ worker_threads: 2 }}\n{rest}"
    )
}

#[test]
fn twenty_reloads_lose_no_request() {
    let origin = Origin::start();
    let with = |listener: &str, more: &str| {
        let listeners = format!("http: {{ address: \"127.0.0.1:0\", {listener} }}{more}");
        config(&listeners, &origin.as_only_route())
    };
    let mut proxy = Proxy::start(&with("", ""));
    let load = Load::on(proxy.address("http"));
    for round in 0..20 {
        load.goes_on(50);
        let more = if round % 2 == 0 {
            ", other: { address: \"127.0.0.1:0\" }"
        } else {
            ""
        };
        let said = proxy.reload(&with(&format!("public_port: {}", 8000 + round), more));
        assert!(said.contains("changed=listeners.http"), "{said}");
    }
    load.goes_on(50);
    load.stop().assert_complete(1050);
}

#[test]
fn transfers_go_on_across_reloads() {
    let upstream = Upstream::bind();
    let with = |port: u16| {
        let listeners = format!("http: {{ address: \"127.0.0.1:0\", public_port: {port} }}");
        config(&listeners, &upstream.as_only_route())
    };
    let mut proxy = Proxy::start(&with(1));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut connection = upstream.accept();
    connection.head();
    for port in 2..5 {
        client.send("2\r\nup\r\n");
        assert_eq!(connection.chunk().unwrap(), b"up");
        proxy.reload(&with(port));
    }
    client.send("0\r\n\r\n");
    assert_eq!(connection.chunk(), None);
    connection.trailers();
    connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    client.head();
    for port in 5..8 {
        connection.send("4\r\ndown\r\n");
        assert_eq!(client.chunk().unwrap(), b"down");
        proxy.reload(&with(port));
    }
    connection.send("0\r\n\r\n");
    assert_eq!(client.chunk(), None);
    client.trailers();
    // The connections on both sides are as good as before.
    client.send(GET);
    connection.request();
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_websocket_survives_reloads() {
    websocket::converse(async {
        let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = upstream.local_addr().unwrap();
        let with = |listeners: &str| {
            let upstreams = format!("upstreams: {{ app: {{ endpoints: [\"{endpoint}\"] }} }}\n");
            config(
                listeners,
                &format!("{upstreams}routes: [{{ upstream: app }}]\n"),
            )
        };
        let other = "other: { address: \"127.0.0.1:0\" }";
        let mut proxy = Proxy::start(&with(&format!("{HTTP}, {other}")));
        let (mut kept, mut kept_end) = websocket::pair(proxy.address("http"), &upstream).await;
        let (mut left, mut left_end) = websocket::pair(proxy.address("other"), &upstream).await;
        // Its listener goes; what was agreed upon there doesn't.
        for listeners in [
            format!("{HTTP}, more: {{ address: \"127.0.0.1:0\" }}"),
            HTTP.into(),
        ] {
            proxy.reload(&with(&listeners));
            for (client, endpoint) in [(&mut kept, &mut kept_end), (&mut left, &mut left_end)] {
                client.send(Message::text("there?")).await.unwrap();
                let asked = endpoint.next().await.unwrap().unwrap();
                assert_eq!(asked, Message::text("there?"));
            }
        }
    });
}

#[test]
fn listeners_come_and_go_and_others_stay() {
    let with = |listeners: &str| config(listeners, WHOAMI);
    let mut proxy = Proxy::start(&with(HTTP));
    let mut kept = proxy.client();
    assert_eq!(kept.ask(GET).status(), 200);

    let other = "other: { address: \"127.0.0.1:0\" }";
    proxy.reload(&with(&format!("{HTTP}, {other}")));
    let address = proxy.address("other");
    let mut new = Wire::tcp(TcpStream::connect(address).unwrap());
    assert_eq!(new.ask(GET).field("connection"), None);
    let mut idle = Wire::tcp(TcpStream::connect(address).unwrap());
    assert_eq!(idle.ask(GET).status(), 200);

    proxy.reload(&with(HTTP));
    // What its connections are about is finished.
    assert_eq!(new.ask(GET).field("connection"), Some("close"));
    new.assert_closed();
    idle.assert_closed();
    TcpStream::connect(address).unwrap_err();

    assert_eq!(kept.ask(GET).field("connection"), None);
    assert_eq!(proxy.client().ask(GET).status(), 200);
}

#[test]
fn new_settings_hold_for_new_connections_and_trust_for_new_requests() {
    let whoami = |trusted: &str| format!("client_ip: {{ trusted_proxies: [{trusted}] }}\n{WHOAMI}");
    let mut proxy = Proxy::start(&config(HTTP, &whoami("")));
    let forwarded = "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 203.0.113.9\r\n\r\n";
    let client_is = |client: &mut Wire<TcpStream>, address: &str| {
        let response = client.ask(forwarded);
        let line = format!("ClientIP: {address}\n");
        assert!(response.text().contains(&line), "{}", response.text());
    };
    let mut client = proxy.client();
    client_is(&mut client, "127.0.0.1");
    let denied = "http: { address: \"127.0.0.1:0\", deny_peers: [127.0.0.7] }";
    proxy.reload(&config(denied, &whoami("127.0.0.0/8")));
    client_is(&mut client, "203.0.113.9");
    client_is(&mut proxy.client(), "203.0.113.9");
    proxy
        .client_from("127.0.0.7".parse().unwrap())
        .assert_closed();
}

#[test]
fn a_configuration_that_is_wrong_changes_nothing_and_is_explained() {
    let mut proxy = Proxy::start(&config(HTTP, WHOAMI));
    let mut client = proxy.client();
    for (listeners, explained) in [
        (
            "http: { address: \"127.0.0.1:0\", tsl: {} }",
            "unknown key `tsl`",
        ),
        // One that can't be bound takes the good ones with it.
        (
            "http: { address: \"127.0.0.1:0\" }, more: { address: \"127.0.0.1:0\" }, far: { address: \"192.0.2.1:1\" }",
            "cannot bind 192.0.2.1:1",
        ),
        (
            "http: { address: \"127.0.0.1:0\", tls: { certificates: [{ cert: a.crt, key: a.key }] } }",
            "no such file: a.crt",
        ),
    ] {
        proxy.reconfigure(&config(listeners, WHOAMI));
        proxy.signal("HUP");
        proxy.says("reload rejected, everything stays as it was");
        proxy.says(explained);
        assert_eq!(client.ask(GET).status(), 200);
        assert_eq!(proxy.client().ask(GET).status(), 200);
    }
    let said = proxy.reload(&config(
        HTTP,
        &WHOAMI
            .replace("whoami: {", "w: {")
            .replace("upstream: whoami", "upstream: w"),
    ));
    assert!(
        said.contains("changed=upstreams.w, upstreams.whoami, routes"),
        "{said}"
    );
}

#[test]
fn what_takes_a_restart_is_said() {
    let mut proxy = Proxy::start(&config(HTTP, WHOAMI));
    proxy.reload(&config(HTTP, WHOAMI).replace("threads: 2", "threads: 3"));
    let said = proxy.says("takes a restart");
    assert!(said.contains("runtime"), "{said}");
}

#[test]
fn a_changed_file_is_noticed_without_a_signal() {
    let mut proxy = Proxy::to_whoami();
    proxy.reconfigure(&format!(
        "listeners: {{ {HTTP} }}\nroutes: [{{ respond: {{ status: 204 }} }}]\n"
    ));
    proxy.says("reload applied");
    assert_eq!(proxy.client().ask(GET).status(), 204);
}

/// A directory laid out as the kubelet lays out a volume: `a.crt` → `..data/a.crt` → `..1/a.crt`.
struct Volume(TempDir);

impl Volume {
    fn new(first: &Certificate) -> Self {
        let volume = Self(TempDir::new().unwrap());
        volume.swap("..1", |version| first.write(version, "a"));
        for file in ["a.crt", "a.key"] {
            symlink(format!("..data/{file}"), volume.0.path().join(file)).unwrap();
        }
        volume
    }

    fn swap(&self, version: &str, fill: impl FnOnce(&Path)) {
        let root = self.0.path();
        fs::create_dir(root.join(version)).unwrap();
        fill(&root.join(version));
        symlink(version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    }

    fn config(&self) -> String {
        let dir = self.0.path().display();
        format!(
            "listeners: {{ https: {{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ \
             cert: {dir}/a.crt, key: {dir}/a.key }}] }} }} }}\n{WHOAMI}"
        )
    }
}

/// Whether a new connection is shown this certificate.
fn shows(proxy: &Proxy, certificate: &Certificate) -> bool {
    let stream = TcpStream::connect(proxy.address("https")).unwrap();
    let client = certificate.try_client("site.test", &["http/1.1"], stream);
    client.is_ok_and(|mut client| client.ask(GET).status() == 200)
}

#[test]
fn a_renewed_certificate_is_shown_within_a_second() {
    let mut shown = Certificate::for_names(&["site.test"]);
    let volume = Volume::new(&shown);
    let mut proxy = Proxy::start(&volume.config());
    let stream = TcpStream::connect(proxy.address("https")).unwrap();
    let mut kept = shown.client("site.test", &["http/1.1"], stream);
    let mut delays = Vec::new();
    for version in ["..2", "..3", "..4"] {
        let renewed = Certificate::for_names(&["site.test"]);
        volume.swap(version, |version| renewed.write(version, "a"));
        let swapped = Instant::now();
        while !shows(&proxy, &renewed) {
            assert!(shows(&proxy, &shown) || shows(&proxy, &renewed));
        }
        delays.push(swapped.elapsed());
        shown = renewed;
    }
    eprintln!("shown after {delays:?}");
    // Once at least, on a machine that does a lot else.
    assert!(
        delays.iter().any(|delay| *delay < Duration::from_secs(1)),
        "{delays:?}"
    );
    assert!(
        delays.iter().all(|delay| *delay < Duration::from_secs(3)),
        "{delays:?}"
    );
    // A connection lives longer than what it was begun with.
    assert_eq!(kept.ask(GET).status(), 200);
    let said = proxy.says("reload applied");
    assert!(
        said.contains("listeners.https.tls.certificates[0].cert"),
        "{said}"
    );
}

#[test]
fn a_pair_that_does_not_match_is_refused() {
    let (first, other) = (
        Certificate::for_names(&["site.test"]),
        Certificate::for_names(&["site.test"]),
    );
    let volume = Volume::new(&first);
    let mut proxy = Proxy::start(&volume.config());
    volume.swap("..2", |version| {
        first.write(version, "a");
        other.write(version, "b");
        fs::rename(version.join("b.crt"), version.join("a.crt")).unwrap();
    });
    proxy.says("reload rejected");
    proxy.says("this key does not belong to the certificate");
    assert!(shows(&proxy, &first));
    // The rest of the pair comes later.
    volume.swap("..3", |version| other.write(version, "a"));
    proxy.says("reload applied");
    assert!(shows(&proxy, &other));
}

#[test]
fn who_waits_for_an_endpoint_has_those_that_a_reload_brings() {
    let busy = Upstream::bind();
    let new = Upstream::bind();
    let with = |endpoints: &str| {
        format!(
            "listeners: {{ {HTTP} }}\nruntime: {{ worker_threads: 1 }}\n\
             upstreams: {{ app: {{ endpoints: [{endpoints}], max_connections_per_endpoint: 1, \
             queue_timeout: 20s }} }}\nroutes: [{{ upstream: app }}]\n"
        )
    };
    let before = format!("\"{}\"", busy.address());
    let mut proxy = Proxy::start(&with(&before));
    let mut clients = [0; 3].map(|_| proxy.client());
    for client in &mut clients {
        client.send(GET);
    }
    let mut held = busy.accept();
    held.request();
    proxy.reload(&with(&format!("{before}, \"{}\"", new.address())));
    let (_, mut connection) = new.answer(OK);
    connection.request();
    connection.send(OK);
    held.send(OK);
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    new.assert_untouched();
    busy.assert_untouched();
}

#[test]
fn who_waits_to_be_served_need_not_when_more_may_be() {
    let with = |most: usize| {
        config(
            HTTP,
            &format!("{WHOAMI}limits: {{ max_connections: {most} }}\n"),
        )
    };
    let mut proxy = Proxy::start(&with(1));
    let mut first = proxy.client();
    assert_eq!(first.ask(GET).status(), 200);
    let mut second = proxy.client();
    second.send(GET);
    second.assert_silent();
    proxy.reload(&with(2));
    assert_eq!(second.response().status(), 200);
    assert_eq!(first.ask(GET).status(), 200);
}
