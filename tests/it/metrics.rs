//! Metrics: right after known traffic, and never fewer than before.

use std::net::TcpStream;
use std::time::Instant;

use crate::support::{Certificate, DEADLINE, GET, OK, Proxy, Upstream, Wire, closed_port};

const ADMIN: &str = "admin: { address: \"127.0.0.1:0\" }\n";

/// The rows, without comments.
fn scrape(proxy: &Proxy) -> Vec<String> {
    let mut client = Wire::tcp(TcpStream::connect(proxy.address("admin")).unwrap());
    let response = client.ask("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(response.status(), 200);
    let rows = response
        .text()
        .lines()
        .filter(|line| !line.starts_with('#'));
    rows.map(str::to_owned).collect()
}

/// The number in the row with this name and these labels.
fn value(rows: &[String], series: &str) -> Option<f64> {
    let row = rows
        .iter()
        .find_map(|row| row.strip_prefix(series)?.strip_prefix(' '));
    row.map(|number| number.parse().unwrap())
}

/// Waits until every row is there: a response may be read before its end was counted.
fn assert_counts(proxy: &Proxy, expected: &[(&str, f64)]) {
    let began = Instant::now();
    loop {
        let rows = scrape(proxy);
        let is_so = |(series, number): &(&str, f64)| value(&rows, series) == Some(*number);
        if expected.iter().all(is_so) {
            return;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "{expected:#?}\nin\n{}",
            rows.join("\n")
        );
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn requests_are_counted_by_listener_route_and_status() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }}, other: {{ address: \"127.0.0.1:0\" }} }}\n{ADMIN}\
         upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\n\
         routes:\n\
         - {{ name: app, match: {{ hosts: [app.test] }}, upstream: app }}\n\
         - {{ name: own, match: {{ hosts: [own.test] }}, respond: {{ status: 204 }} }}\n",
        upstream.address()
    ));
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    connection.send("HTTP/1.1 599 Odd\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 599);
    for _ in 0..3 {
        client.send(GET);
        connection.request();
        connection.send(OK);
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(
        client
            .ask("GET / HTTP/1.1\r\nhost: own.test\r\n\r\n")
            .status(),
        204
    );
    assert_eq!(
        client
            .ask("BREW / HTTP/1.1\r\nhost: none.test\r\n\r\n")
            .status(),
        404
    );
    let mut other = Wire::tcp(TcpStream::connect(proxy.address("other")).unwrap());
    assert_eq!(
        other
            .ask("GET / HTTP/1.1\r\nhost: own.test\r\n\r\n")
            .status(),
        204
    );
    assert_eq!(other.ask("GET /\r\n\r\n").status(), 400);
    let endpoint = format!("{{upstream=\"app\",endpoint=\"{}\"}}", upstream.address());
    assert_counts(
        &proxy,
        &[
            (
                "headwater_requests_total{listener=\"http\",route=\"app\",status=\"200\"}",
                3.0,
            ),
            (
                "headwater_requests_total{listener=\"http\",route=\"app\",status=\"other\"}",
                1.0,
            ),
            (
                "headwater_requests_total{listener=\"http\",route=\"own\",status=\"204\"}",
                1.0,
            ),
            (
                "headwater_requests_total{listener=\"http\",route=\"\",status=\"404\"}",
                1.0,
            ),
            (
                "headwater_requests_total{listener=\"other\",route=\"own\",status=\"204\"}",
                1.0,
            ),
            (
                "headwater_requests_total{listener=\"other\",route=\"\",status=\"400\"}",
                1.0,
            ),
            (
                "headwater_request_duration_seconds_count{listener=\"http\",route=\"app\"}",
                4.0,
            ),
            (
                "headwater_request_duration_seconds_bucket{le=\"+Inf\",listener=\"http\",route=\"app\"}",
                4.0,
            ),
            ("headwater_client_ip_source_total{source=\"peer\"}", 7.0),
            ("headwater_connections{listener=\"http\"}", 1.0),
            (&format!("headwater_upstream_requests_total{endpoint}"), 4.0),
            (
                &format!("headwater_upstream_endpoint_healthy{endpoint}"),
                1.0,
            ),
            (
                &format!("headwater_upstream_pool_connections{endpoint}"),
                1.0,
            ),
            ("headwater_panics_total", 0.0),
            ("headwater_access_log_dropped_total", 0.0),
        ],
    );
    drop(client);
    assert_counts(&proxy, &[("headwater_connections{listener=\"http\"}", 0.0)]);
}

#[test]
fn a_client_that_left_is_counted() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n{ADMIN}{}",
        upstream.as_only_route()
    ));
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    drop(client);
    assert_counts(
        &proxy,
        &[(
            "headwater_requests_total{listener=\"http\",route=\"routes[0]\",status=\"499\"}",
            1.0,
        )],
    );
}

#[test]
fn where_addresses_were_found_and_what_was_sent_in_vain_is_counted() {
    let proxy = Proxy::start(&format!(
        "listeners:\n  http:\n    address: \"127.0.0.1:0\"\n    \
         proxy_protocol: {{ mode: required, from: [127.10.0.0/16], timeout: 300ms }}\n\
         client_ip: {{ trusted_proxies: [127.0.0.2], header: X-Forwarded-For }}\n{ADMIN}\
         routes: [{{ respond: {{ status: 204 }} }}]\n"
    ));
    let forwarded =
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1\r\nx-real-ip: 192.0.2.1\r\n\r\n";
    let from = |source: &str| proxy.client_from(source.parse().unwrap());
    assert_eq!(from("127.0.0.2").ask(forwarded).status(), 204);
    assert_eq!(from("127.0.0.3").ask(forwarded).status(), 204);
    let proxied = format!("PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n{GET}");
    assert_eq!(from("127.10.0.1").ask(proxied).status(), 204);
    // Without a header, with a malformed one, with half of one, and with nothing in time.
    close_after(from("127.10.0.1"), GET);
    close_after(from("127.10.0.1"), "PROXY TCP4 nobody\r\n");
    let mut half = from("127.10.0.1");
    half.send("PROXY TCP4 203.0.");
    half.finish_sending();
    half.until_closed();
    let mut silent = from("127.10.0.1");
    silent.send("PROXY");
    silent.until_closed();
    let reasons = ["missing", "malformed", "incomplete", "timeout"].map(|reason| {
        format!("headwater_proxy_protocol_errors_total{{listener=\"http\",reason=\"{reason}\"}}")
    });
    let mut expected = vec![
        (
            "headwater_client_ip_source_total{source=\"header:x-forwarded-for\"}",
            1.0,
        ),
        ("headwater_client_ip_source_total{source=\"peer\"}", 1.0),
        (
            "headwater_client_ip_source_total{source=\"proxy_protocol\"}",
            1.0,
        ),
        ("headwater_forged_headers_total{listener=\"http\"}", 2.0),
    ];
    expected.extend(reasons.iter().map(|series| (series.as_str(), 1.0)));
    assert_counts(&proxy, &expected);
}

#[test]
fn retries_and_bad_health_are_shown() {
    let upstream = Upstream::bind();
    let closed = closed_port();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n{ADMIN}runtime: {{ worker_threads: 1 }}\n\
         upstreams:\n  app:\n    endpoints: [\"{closed}\", \"{}\"]\n    \
         outlier_detection: {{ consecutive_failures: 1, eject_for: 60s, max_eject_for: 60s }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ));
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
    client.send(GET);
    connection.request();
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
    assert_counts(
        &proxy,
        &[
            ("headwater_upstream_retries_total{upstream=\"app\"}", 1.0),
            (
                &format!(
                    "headwater_upstream_endpoint_healthy{{upstream=\"app\",endpoint=\"{closed}\"}}"
                ),
                0.0,
            ),
            (
                &format!(
                    "headwater_upstream_requests_total{{upstream=\"app\",endpoint=\"{}\"}}",
                    upstream.address()
                ),
                2.0,
            ),
        ],
    );
}

#[test]
fn counters_survive_reloads_and_reloads_are_counted() {
    let config = |route: &str| {
        format!(
            "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n{ADMIN}\
             routes: [{{ name: {route}, respond: {{ status: 204 }} }}]\n"
        )
    };
    let mut proxy = Proxy::start(&config("first"));
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).status(), 204);
    proxy.reload(&config("second"));
    assert_eq!(client.ask(GET).status(), 204);
    proxy.reload(&config("first"));
    assert_eq!(client.ask(GET).status(), 204);
    proxy.reconfigure("nonsense: true\n");
    proxy.signal("HUP");
    proxy.says("reload rejected");
    let row = |route: &str| {
        format!("headwater_requests_total{{listener=\"http\",route=\"{route}\",status=\"204\"}}")
    };
    assert_counts(
        &proxy,
        &[
            (&row("first"), 2.0),
            (&row("second"), 1.0),
            ("headwater_config_reload_total{result=\"applied\"}", 2.0),
            ("headwater_connections{listener=\"http\"}", 1.0),
        ],
    );
    let rejected = "headwater_config_reload_total{result=\"rejected\"}";
    assert!(value(&scrape(&proxy), rejected) >= Some(1.0));
}

#[test]
fn certificates_say_when_they_expire() {
    let directory = tempfile::TempDir::new().unwrap();
    Certificate::for_names(&["a.test"]).write(directory.path(), "a");
    let proxy = Proxy::start_in(
        directory,
        &format!(
            "listeners: {{ https: {{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: a.crt, key: a.key }}] }} }} }}\n\
             {ADMIN}routes: [{{ respond: {{ status: 204 }} }}]\n"
        ),
    );
    let rows = scrape(&proxy);
    let series =
        "headwater_tls_certificate_expiry_seconds{listener=\"https\",certificate=\"a.crt\"}";
    assert!(value(&rows, series) > Some(1.7e9), "{}", rows.join("\n"));
}

#[test]
fn a_scraper_may_ask_for_either_form() {
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n{ADMIN}routes: [{{ respond: {{ status: 204 }} }}]\n"
    ));
    for (accept, media_type, end) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", "\n"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# EOF\n",
        ),
    ] {
        let mut client = Wire::tcp(TcpStream::connect(proxy.address("admin")).unwrap());
        let response = client.ask(format!(
            "GET /metrics HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n"
        ));
        assert_eq!(response.field("content-type"), Some(media_type));
        assert!(response.text().ends_with(end));
    }
}

/// Sends this, and waits until the connection is closed.
fn close_after(mut client: Wire<TcpStream>, bytes: &str) {
    client.send(bytes);
    client.until_closed();
}
