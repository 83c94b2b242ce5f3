//! Endpoints that die, hang, fill up and come back; what clients see of it, and what other endpoints do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, GET, Manner, OK, Proxy, Service, Upstream, closed_port};

const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi";

/// A proxy with one worker for these endpoints, and more keys of the upstream, each with a comma before it.
fn proxy(endpoints: &[SocketAddr], keys: &str) -> Proxy {
    proxy_with(1, endpoints, keys)
}

fn proxy_with(workers: usize, endpoints: &[SocketAddr], keys: &str) -> Proxy {
    let endpoints: Vec<_> = endpoints.iter().map(|e| format!("\"{e}\"")).collect();
    Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         runtime: {{ worker_threads: {workers} }}\n\
         upstreams: {{ app: {{ endpoints: [{}]{keys} }} }}\nroutes: [{{ upstream: app }}]\n",
        endpoints.join(", ")
    ))
}

/// Asks again and again, for as long as nothing takes.
fn eventually(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "it never happens");
    }
}

fn request(method: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[test]
fn an_endpoint_dying_under_load_costs_no_request() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 300;
    let mut services = [0; 3].map(|_| Service::start(Manner::KeepAlive));
    let addresses = services.each_ref().map(Service::address);
    let proxy = proxy_with(2, &addresses, "");
    let mut answered = 0;
    std::thread::scope(|scope| {
        let clients = [0; CLIENTS].map(|_| {
            let mut client = proxy.client();
            scope.spawn(move || {
                (0..REQUESTS)
                    .filter(|_| client.ask(GET).status() == 200)
                    .count()
            })
        });
        while services[1].requests() < CLIENTS * REQUESTS / 10 {
            std::thread::yield_now();
        }
        services[1].kill();
        answered = clients.map(|client| client.join().unwrap()).iter().sum();
    });
    assert_eq!(answered, CLIENTS * REQUESTS);
    let by_others = services[0].requests() + services[2].requests();
    assert!(by_others > CLIENTS * REQUESTS / 2, "{by_others}");
}

#[test]
fn a_dead_endpoint_is_reported_once() {
    let dead = closed_port();
    let alive = Service::start(Manner::KeepAlive);
    let proxy = proxy(&[dead, alive.address()], "");
    let mut client = proxy.client();
    for _ in 0..40 {
        assert_eq!(client.ask(GET).status(), 200);
    }
    drop(client);
    let log = proxy.log_to_the_end();
    let reports = log.iter().filter(|line| line.contains("refused")).count();
    assert_eq!(reports, 1, "{log:#?}");
}

#[test]
fn all_down_is_502_and_over_within_a_second() {
    let mut services = [0; 3].map(|_| Service::start(Manner::KeepAlive));
    let addresses = services.each_ref().map(Service::address);
    let proxy = proxy(&addresses, "");
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).status(), 200);
    for service in &mut services {
        service.kill();
    }
    for _ in 0..50 {
        assert_eq!(client.ask(GET).status(), 502);
    }
    for address in addresses {
        let back = Service::start_at(address, Manner::KeepAlive);
        let began = Instant::now();
        eventually(|| client.ask(GET).status() == 200);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(client.ask(GET).text(), back.name());
        drop(back);
        eventually(|| client.ask(GET).status() == 502);
    }
}

#[test]
fn whoever_comes_back_first_is_found_without_retries_and_before_its_ejection_ends() {
    let mut services = [0; 3].map(|_| Service::start(Manner::KeepAlive));
    let addresses = services.each_ref().map(Service::address);
    let proxy = proxy(
        &addresses,
        ", retries: { attempts: 1 }, outlier_detection: { eject_for: 1m, max_eject_for: 1m }",
    );
    let mut client = proxy.client();
    for service in &mut services {
        service.kill();
    }
    for _ in 0..50 {
        assert_eq!(client.ask(GET).status(), 502);
    }
    for address in addresses {
        let back = Service::start_at(address, Manner::KeepAlive);
        let began = Instant::now();
        eventually(|| client.ask(GET).status() == 200);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
        drop(back);
        for _ in 0..20 {
            client.ask(GET);
        }
    }
}

#[test]
fn a_fresh_connection_closed_under_a_get_is_tried_elsewhere() {
    let (bad, good) = (
        Service::start(Manner::CloseUnanswered),
        Service::start(Manner::KeepAlive),
    );
    let proxy = proxy(&[bad.address(), good.address()], "");
    let mut client = proxy.client();
    for _ in 0..6 {
        assert_eq!(client.ask(GET).text(), good.name());
    }
    assert_eq!((bad.requests(), good.requests()), (6, 6));
}

#[test]
fn a_post_is_never_sent_twice() {
    let (bad, good) = (
        Service::start(Manner::CloseUnanswered),
        Service::start(Manner::KeepAlive),
    );
    let proxy = proxy(
        &[bad.address(), good.address()],
        ", retries: { methods: idempotent }",
    );
    let mut client = proxy.client();
    let statuses: Vec<_> = (0..6).map(|_| client.ask(POST).status()).collect();
    assert_eq!(statuses, [502, 200, 502, 200, 502, 200]);
    assert_eq!((bad.requests(), good.requests()), (3, 3));
}

#[test]
fn an_endpoint_that_closes_after_its_answer_hurts_no_get() {
    let service = Service::start(Manner::CloseAfterAnswer);
    let proxy = proxy(&[service.address()], "");
    let mut client = proxy.client();
    for _ in 0..300 {
        assert_eq!(client.ask(GET).status(), 200);
    }
}

#[test]
fn when_the_fresh_connection_fails_as_well_the_next_endpoint_is_tried() {
    let (first, second) = (Upstream::bind(), Upstream::bind());
    let proxy = proxy(&[first.address(), second.address()], "");
    let mut client = proxy.client();
    client.send(GET);
    let (_, mut kept) = first.answer(OK);
    client.response();
    client.send(GET);
    let (_, other) = second.answer(OK);
    client.response();
    client.send(GET);
    kept.request();
    drop(kept);
    // On a fresh connection, though there is a kept one.
    let mut fresh = second.accept();
    fresh.request();
    drop(fresh);
    let (_, _last) = first.answer(OK);
    assert_eq!(client.response().text(), "ok");
    drop(other);
}

#[test]
fn nothing_is_tried_again_after_an_interim_response() {
    let (first, second) = (Upstream::bind(), Upstream::bind());
    let proxy = proxy(&[first.address(), second.address()], "");
    let mut client = proxy.client();
    client.send(GET);
    let (_, connection) = first.answer("HTTP/1.1 103 Early Hints\r\n\r\n");
    assert_eq!(client.response().status(), 103);
    drop(connection);
    assert_eq!(client.response().status(), 502);
    second.assert_untouched();
}

#[test]
fn a_timeout_is_not_tried_again() {
    let (first, second) = (Upstream::bind(), Upstream::bind());
    let proxy = proxy(
        &[first.address(), second.address()],
        ", timeouts: { response_header: 200ms }",
    );
    let mut client = proxy.client();
    client.send(GET);
    let _silent = first.accept();
    assert_eq!(client.response().status(), 504);
    second.assert_untouched();
}

#[test]
fn a_body_is_replayed_as_a_whole() {
    // At the bound, and beyond it.
    for (size, expected) in [(2, 200), (64 * 1024, 200), (64 * 1024 + 1, 502)] {
        let (first, second) = (Upstream::bind(), Upstream::bind());
        let proxy = proxy(
            &[first.address(), second.address()],
            ", retries: { methods: idempotent }",
        );
        let body = "0123456789abcdef".repeat(size / 16 + 1);
        let mut client = proxy.client();
        client.send(request("PUT", &body[..size]));
        let mut connection = first.accept();
        assert_eq!(connection.request().body.len(), size);
        drop(connection);
        if expected == 200 {
            let (again, _connection) = second.answer(OK);
            assert_eq!(again.start, "PUT / HTTP/1.1");
            assert_eq!(again.text(), &body[..size]);
            assert_eq!(client.response().status(), 200);
        } else {
            assert_eq!(client.response().status(), 502);
            second.assert_untouched();
        }
    }
}

#[test]
fn a_chunked_body_is_replayed_with_its_trailers() {
    let (first, second) = (Upstream::bind(), Upstream::bind());
    let proxy = proxy(&[first.address(), second.address()], "");
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
    let mut connection = first.accept();
    connection.head();
    assert_eq!(connection.chunk().as_deref(), Some(&b"ab"[..]));
    client.send("3\r\ncde\r\n0\r\nx-sum: 5\r\n\r\n");
    assert_eq!(connection.chunk().as_deref(), Some(&b"cde"[..]));
    drop(connection);
    let (again, _connection) = second.answer(OK);
    assert_eq!(again.text(), "abcde");
    assert_eq!(again.trailers, [("x-sum".into(), "5".into())]);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_outage_is_not_multiplied_by_retries() {
    const REQUESTS: usize = 200;
    let service = Service::start(Manner::CloseUnanswered);
    let proxy = proxy(&[service.address()], "");
    let mut client = proxy.client();
    let began = Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(client.ask(GET).status(), 502);
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    let most = REQUESTS + REQUESTS / 5 + 10 * seconds;
    let requests = service.requests();
    assert!(
        (REQUESTS..=most).contains(&requests),
        "{requests} of {most}"
    );
}

#[test]
fn a_request_waits_for_a_connection_to_come_free() {
    let upstream = Upstream::bind();
    let proxy = proxy(&[upstream.address()], ", max_connections_per_endpoint: 1");
    let mut clients = [0; 2].map(|_| proxy.client());
    clients[0].send(GET);
    let mut connection = upstream.accept();
    connection.request();
    clients[1].send(GET);
    connection.send(OK);
    assert_eq!(clients[0].response().status(), 200);
    connection.request();
    connection.send(OK);
    assert_eq!(clients[1].response().status(), 200);
    upstream.assert_untouched();
}

#[test]
fn a_request_that_waited_for_too_long_is_503() {
    let upstream = Upstream::bind();
    let proxy = proxy(
        &[upstream.address()],
        ", max_connections_per_endpoint: 1, queue_timeout: 300ms",
    );
    let mut clients = [0; 2].map(|_| proxy.client());
    clients[0].send(GET);
    let mut connection = upstream.accept();
    connection.request();
    let began = Instant::now();
    let answer = clients[1].ask(GET);
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.field("retry-after"), Some("1"));
    connection.send(OK);
    assert_eq!(clients[0].response().status(), 200);
}

#[test]
fn a_client_that_has_gone_leaves_the_queue() {
    let upstream = Upstream::bind();
    let proxy = proxy(&[upstream.address()], ", max_connections_per_endpoint: 1");
    let mut clients = [0; 3].map(|_| proxy.client());
    clients[0].send(GET);
    let mut connection = upstream.accept();
    connection.request();
    clients[1].send("GET /gone HTTP/1.1\r\nhost: h\r\n\r\n");
    clients[1].finish_sending();
    clients[1].assert_closed();
    clients[2].send("GET /here HTTP/1.1\r\nhost: h\r\n\r\n");
    connection.send(OK);
    assert_eq!(connection.request().start, "GET /here HTTP/1.1");
}

#[test]
fn workers_share_the_connections_there_may_be() {
    let service = Service::start(Manner::KeepAlive);
    let proxy = proxy_with(4, &[service.address()], ", max_connections_per_endpoint: 1");
    for _ in 0..12 {
        assert_eq!(proxy.client().ask(GET).status(), 200);
    }
    // The service may see a new connection before the end of the one that made room for it.
    assert!(service.most_open_at_once() <= 2);
}

#[test]
fn no_worker_keeps_the_only_connection_to_itself() {
    const CLIENTS: usize = 16;
    let service = Service::start(Manner::KeepAlive);
    let keys = ", max_connections_per_endpoint: 1, queue_timeout: 10s";
    let proxy = proxy_with(4, &[service.address()], keys);
    let answered = [0; CLIENTS].map(|_| AtomicUsize::new(0));
    let all_have = |least| answered.iter().all(|count| count.load(Relaxed) >= least);
    std::thread::scope(|scope| {
        for count in &answered {
            let mut client = proxy.client();
            scope.spawn(move || {
                let began = Instant::now();
                while !all_have(5) && began.elapsed() < DEADLINE {
                    assert_eq!(client.ask(GET).status(), 200);
                    count.fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert!(all_have(5), "{answered:?}");
}

#[test]
fn a_backup_serves_only_while_the_primary_is_down() {
    let mut primary = Service::start(Manner::KeepAlive);
    let backup = Service::start(Manner::KeepAlive);
    let address = primary.address();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [{{ address: \"{}\", backup: true }}, \"{address}\"],\n\
         outlier_detection: {{ eject_for: 100ms, max_eject_for: 100ms }} }} }}\n\
         routes: [{{ upstream: app }}]\n",
        backup.address()
    ));
    let mut client = proxy.client();
    for _ in 0..10 {
        assert_eq!(client.ask(GET).text(), primary.name());
    }
    primary.kill();
    for _ in 0..10 {
        assert_eq!(client.ask(GET).text(), backup.name());
    }
    let primary = Service::start_at(address, Manner::KeepAlive);
    eventually(|| client.ask(GET).text() == primary.name());
    for _ in 0..10 {
        assert_eq!(client.ask(GET).text(), primary.name());
    }
}

#[test]
fn checks_decide_who_gets_requests() {
    let services = [0; 2].map(|_| Service::start(Manner::KeepAlive));
    let addresses = services.each_ref().map(Service::address);
    let proxy = proxy(
        &addresses,
        ", health_check: { path: /healthz, interval: 50ms, unhealthy_after: 2, healthy_after: 2 }",
    );
    let mut client = proxy.client();
    for sick in [0, 1, 0] {
        services[sick].set_healthy(false);
        let well = services[1 - sick].name();
        let mut in_a_row = 0;
        eventually(|| {
            let is_well = client.ask(GET).text() == well;
            in_a_row = if is_well { in_a_row + 1 } else { 0 };
            in_a_row == 10
        });
        services[sick].set_healthy(true);
        eventually(|| client.ask(GET).text() != well);
    }
}

#[test]
fn endpoints_that_all_fail_their_checks_are_used_all_the_same() {
    let service = Service::start(Manner::KeepAlive);
    service.set_healthy(false);
    let proxy = proxy(
        &[service.address()],
        ", health_check: { path: /healthz, interval: 50ms, unhealthy_after: 1 }",
    );
    proxy.wait_for_log("unhealthy");
    assert_eq!(proxy.client().ask(GET).status(), 200);
}
