//! What is recorded about requests, and that nobody waits for it.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{DEADLINE, GET, OK, Proxy, Upstream, program};

const WHOAMI: &str = "upstreams: { whoami: { builtin: whoami } }\n\
                      routes: [{ name: all, upstream: whoami }]\n";

/// One listener named `http`, two workers, and this access log; SIGHUP alone reloads it.
fn config(access_log: &str, rest: &str) -> String {
    format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\nreload: {{ watch: false }}\n\
         runtime: {{ worker_threads: 2 }}\naccess_log: {{ {access_log} }}\n{rest}"
    )
}

fn whoami(access_log: &str) -> String {
    config(access_log, WHOAMI)
}

/// Waits until a file has so many lines.
fn lines(path: &Path, wanted: usize) -> Vec<String> {
    let began = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if lines.len() >= wanted && text.ends_with('\n') {
            return lines;
        }
        assert!(
            began.elapsed() < DEADLINE,
            "{} of {wanted} lines: {text}",
            lines.len()
        );
        std::thread::yield_now();
    }
}

fn records(path: &Path, wanted: usize) -> Vec<Value> {
    let lines = lines(path, wanted);
    lines
        .iter()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// The only record, when the process has ended.
fn only_record(proxy: Proxy, path: &Path) -> Value {
    let directory = proxy.end_and_keep();
    let text = fs::read_to_string(directory.path().join(path)).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_record_has_both_addresses_and_the_way_of_the_request() {
    let upstream = Upstream::bind();
    let rest = format!(
        "client_ip: {{ trusted_proxies: [127.0.0.1], header: X-Forwarded-For }}\n{}",
        upstream.as_only_route()
    );
    let proxy = Proxy::start(&config("output: log.json, format: json", &rest));
    let mut client = proxy.client();
    client.send(
        "POST /a/b?c=d HTTP/1.1\r\nhost: app.test\r\nuser-agent: it/1\r\nreferer: http://other.test/\r\n\
         x-forwarded-for: 6.6.6.6, 198.51.100.7\r\ncontent-length: 5\r\n\r\nhello",
    );
    upstream.answer(OK);
    assert_eq!(client.response().status(), 200);
    let endpoint = upstream.address().to_string();
    let record = only_record(proxy, Path::new("log.json"));
    for (name, wanted) in [
        ("client_ip", Value::from("198.51.100.7")),
        ("client_ip_source", "header:x-forwarded-for".into()),
        ("client_ip_reason", "first_untrusted".into()),
        ("peer_ip", "127.0.0.1".into()),
        ("forged", 1.into()),
        ("listener", "http".into()),
        ("route", "routes[0]".into()),
        ("upstream", "app".into()),
        ("endpoint", endpoint.into()),
        ("method", "POST".into()),
        ("host", "app.test".into()),
        ("path", "/a/b".into()),
        ("query", "c=d".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 2.into()),
        ("user_agent", "it/1".into()),
        ("referer", "http://other.test/".into()),
        ("error", Value::Null),
    ] {
        assert_eq!(record[name], wanted, "{name} in {record}");
    }
    assert_eq!(
        record["forwarded"]["x-forwarded-for"][0],
        "6.6.6.6, 198.51.100.7"
    );
    assert!(record["peer_port"].as_u64().unwrap() > 0, "{record}");
    assert!(
        record["duration_ms"].as_f64() >= record["upstream_ms"].as_f64(),
        "{record}"
    );
    assert!(record["upstream_ms"].is_number(), "{record}");
    assert!(record["request_id"].is_string(), "{record}");
    assert!(
        record["timestamp"].as_str().unwrap().ends_with('Z'),
        "{record}"
    );
}

#[test]
fn an_untrusted_peer_is_the_client_whatever_it_sends() {
    let proxy = Proxy::start(&whoami("output: log.json, format: json"));
    proxy
        .client()
        .ask("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6\r\nx-real-ip: 6.6.6.6\r\n\r\n");
    let record = only_record(proxy, Path::new("log.json"));
    assert_eq!(record["client_ip"], "127.0.0.1");
    assert_eq!(record["client_ip_reason"], "direct_peer");
    assert_eq!(record["client_ip_source"], "peer");
    assert_eq!(record["forged"], 2);
    assert_eq!(record["forwarded"]["x-forwarded-for"][0], "6.6.6.6");
}

#[test]
fn the_source_of_a_proxy_header_stands_beside_the_peer() {
    let text = "listeners: { http: { address: \"127.0.0.1:0\", proxy_protocol: { mode: required, from: [127.0.0.1] } } }\n\
                client_ip: { source: proxy_protocol }\naccess_log: { output: log.json, format: json }\n";
    let proxy = Proxy::start(&format!("{text}{WHOAMI}"));
    let mut client = proxy.client();
    client.send("PROXY TCP4 198.51.100.7 10.0.0.1 4711 80\r\n");
    client.ask(GET);
    let record = only_record(proxy, Path::new("log.json"));
    assert_eq!(record["client_ip"], "198.51.100.7");
    assert_eq!(record["client_ip_source"], "proxy_protocol");
    assert_eq!(record["proxy_protocol"], "198.51.100.7:4711");
    assert_eq!(record["proxy_protocol_version"], 1);
    assert_eq!(record["peer_ip"], "127.0.0.1");
}

#[test]
fn combined_begins_with_the_client_and_ends_with_the_peer() {
    let rest = format!("client_ip: {{ trusted_proxies: [127.0.0.1] }}\n{WHOAMI}");
    let proxy = Proxy::start(&config("output: access.log, format: combined", &rest));
    proxy.client().ask(
        "GET /a\"?b HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 198.51.100.7\r\n\
         user-agent: \"evil\\ [31m \u{e9}\r\n\r\n",
    );
    let directory = proxy.end_and_keep();
    let line = fs::read_to_string(directory.path().join("access.log")).unwrap();
    let (before, after) = line.trim_end().split_once("] \"").unwrap();
    assert!(before.starts_with("198.51.100.7 - - ["), "{line}");
    let (request, after) = after.split_once("\" 200 ").unwrap();
    assert_eq!(request, "GET /a\\x22?b HTTP/1.1");
    let (_, after) = after.split_once(' ').unwrap();
    assert_eq!(
        after,
        "\"-\" \"\\x22evil\\x5c [31m \\xc3\\xa9\" peer=127.0.0.1"
    );
}

#[test]
fn by_default_records_go_to_standard_output_as_the_log_is() {
    let directory = TempDir::new().unwrap();
    let stdout = File::create(directory.path().join("stdout")).unwrap();
    let mut command = program();
    command.stdout(stdout);
    let text = format!("listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n{WHOAMI}");
    let proxy = Proxy::start_by(directory, &text, command);
    proxy.client().ask(GET);
    let directory = proxy.end_and_keep();
    let line = fs::read_to_string(directory.path().join("stdout")).unwrap();
    // The harness starts with `--log-format text`.
    assert!(line.contains("Z 127.0.0.1 200 \"GET /\" "), "{line}");
}

#[test]
fn nothing_is_recorded_when_it_is_off() {
    let directory = TempDir::new().unwrap();
    let stdout = File::create(directory.path().join("stdout")).unwrap();
    let mut command = program();
    command.stdout(stdout);
    let proxy = Proxy::start_by(directory, &whoami("output: off"), command);
    proxy.client().ask(GET);
    let directory = proxy.end_and_keep();
    let text = fs::read_to_string(directory.path().join("stdout")).unwrap();
    assert_eq!(text, "");
}

#[test]
fn what_is_not_to_be_known_is_not_recorded() {
    let proxy = Proxy::start(&whoami(
        "output: log.json, format: json, exclude_paths: [/healthz], redact_query: [token], redact_ip: truncate",
    ));
    let mut client = proxy.client();
    client.ask("GET /healthz/live HTTP/1.1\r\nhost: a\r\n\r\n");
    client.ask(
        "GET /?token=secret&a=b HTTP/1.1\r\nhost: a\r\nreferer: http://a/?x=y&token=secret\r\n\
         x-forwarded-for: 198.51.100.7\r\n\r\n",
    );
    let record = only_record(proxy, Path::new("log.json"));
    assert_eq!(record["query"], "token=redacted&a=b");
    assert_eq!(record["referer"], "http://a/?x=y&token=redacted");
    assert_eq!(record["client_ip"], "127.0.0.0");
    assert_eq!(record["peer_ip"], "127.0.0.0");
    assert_eq!(record["forwarded"]["x-forwarded-for"][0], "198.51.100.0");
}

#[test]
fn heads_that_never_became_a_request_are_recorded() {
    let proxy = Proxy::start(&whoami("output: log.json, format: json"));
    // Two that can't be read, and one that is refused when it has been.
    for (request, error) in [
        (
            "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            "content_length",
        ),
        ("GET / HTTP/1.1\r\nhost: a\r\nb c: d\r\n\r\n", "field"),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "host"),
    ] {
        let answer = proxy.client().ask(request);
        assert_eq!(answer.status(), 400);
        let record = records(&proxy.path("log.json"), 1).remove(0);
        assert_eq!(record["status"], 400, "{record}");
        assert_eq!(record["error"], error, "{record}");
        assert_eq!(record["listener"], "http", "{record}");
        assert_eq!(record["peer_ip"], "127.0.0.1", "{record}");
        assert_eq!(record["client_ip"], "127.0.0.1", "{record}");
        fs::write(proxy.path("log.json"), "").unwrap();
    }
}

#[test]
fn a_trusted_proxy_is_not_blamed_for_what_nobody_could_read() {
    let rest = format!("client_ip: {{ trusted_proxies: [127.0.0.1] }}\n{WHOAMI}");
    let proxy = Proxy::start(&config("output: access.log, format: combined", &rest));
    proxy
        .client()
        .ask("GET / HTTP/1.1\r\nhost: a b\r\nx-forwarded-for: 198.51.100.7\r\n\r\n");
    let directory = proxy.end_and_keep();
    let line = fs::read_to_string(directory.path().join("access.log")).unwrap();
    assert!(line.starts_with("- - - ["), "{line}");
    assert!(line.ends_with(" peer=127.0.0.1\n"), "{line}");
}

#[test]
fn clients_that_leave_and_endpoints_that_fail_are_told_apart() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&config(
        "output: log.json, format: json",
        &upstream.as_only_route(),
    ));
    // Leaves before the head of the response.
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    drop(client);
    let record = records(&proxy.path("log.json"), 1).remove(0);
    assert_eq!(record["status"], Value::Null, "{record}");
    assert_eq!(record["error"], "client_left", "{record}");
    drop(connection);
    // The endpoint leaves in the middle of its body.
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe");
    drop(connection);
    client.until_closed();
    let record = records(&proxy.path("log.json"), 2).remove(1);
    assert_eq!(record["status"], 200, "{record}");
    assert_eq!(record["error"], "upstream_body", "{record}");
    assert_eq!(record["bytes_out"], 2, "{record}");
}

#[test]
fn a_file_that_was_moved_away_is_opened_anew() {
    let mut proxy = Proxy::start(&whoami("output: access.log, format: text"));
    let mut client = proxy.client();
    client.ask(GET);
    lines(&proxy.path("access.log"), 1);
    fs::rename(proxy.path("access.log"), proxy.path("access.log.1")).unwrap();
    client.ask(GET);
    lines(&proxy.path("access.log.1"), 2);
    proxy.signal("USR1");
    proxy.says("access log reopened");
    client.ask(GET);
    assert_eq!(lines(&proxy.path("access.log"), 1).len(), 1);
    assert_eq!(lines(&proxy.path("access.log.1"), 2).len(), 2);
}

#[test]
fn a_file_is_not_for_everybody_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let proxy = Proxy::start(&whoami("output: access.log"));
    proxy.client().ask(GET);
    lines(&proxy.path("access.log"), 1);
    let mode = fs::metadata(proxy.path("access.log"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o027, 0, "{mode:o}");
}

#[test]
fn reloads_move_the_log_and_lose_nothing() {
    let mut proxy = Proxy::start(&whoami("output: 0.log, format: text"));
    let mut client = proxy.client();
    let rounds = 6;
    for round in 1..=rounds {
        for _ in 0..20 {
            assert_eq!(client.ask(GET).status(), 200);
        }
        let format = if round % 2 == 0 { "json" } else { "combined" };
        let said = proxy.reload(&whoami(&format!(
            "output: {}.log, format: {format}",
            round / 2
        )));
        assert!(said.contains("changed=access_log"), "{said}");
    }
    let directory = proxy.end_and_keep();
    let mut total = 0;
    for number in 0..=rounds / 2 {
        let text = fs::read_to_string(directory.path().join(format!("{number}.log")));
        total += text.unwrap_or_default().lines().count();
    }
    assert_eq!(total, 20 * rounds);
}

#[test]
fn a_full_disk_costs_records_and_nothing_else() {
    let mut proxy = Proxy::start(&whoami("output: /dev/full, format: json"));
    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(client.ask(GET).status(), 200);
    }
    let said = proxy.says("access log records are lost");
    assert!(said.contains("output=\"/dev/full\""), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    assert_eq!(client.ask(GET).status(), 200);
    assert!(proxy.terminate().success());
}

#[test]
fn an_output_that_takes_nothing_stops_neither_requests_nor_the_end() {
    let directory = TempDir::new().unwrap();
    let fifo = directory.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Somebody has it open, and reads nothing.
    let reader = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    let rest = "routes: [{ respond: { status: 204 } }]\n";
    let mut proxy = Proxy::start_in(directory, &config("output: fifo, format: json", rest));
    // Every byte of it takes six in a record.
    let long = [0xff; 256];
    let line = [&b"x-forwarded-for: "[..], &long, b"\r\n"].concat();
    let head = b"GET / HTTP/1.1\r\nhost: a\r\n";
    let request = [&head[..], &line.repeat(8), b"\r\n"].concat();
    // More than a pipe holds and than is kept for it.
    let mut client = proxy.client();
    for _ in 0..1_000 {
        assert_eq!(client.ask(&request).status(), 204);
    }
    let said = proxy.says("access log records are lost");
    assert!(said.contains("it is too slow"), "{said}");
    let ending = Instant::now();
    assert!(proxy.terminate().success());
    assert!(ending.elapsed() < DEADLINE);
    drop(reader);
}

#[test]
fn an_output_that_nobody_has_opened_yet_is_waited_for_by_nobody() {
    let directory = TempDir::new().unwrap();
    let fifo = directory.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let proxy = Proxy::start_in(directory, &whoami("output: fifo, format: json"));
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.ask(GET).status(), 200);
    }
    let mut reader = BufReader::new(File::open(&fifo).unwrap());
    for _ in 0..3 {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(record["status"], 200);
    }
}

#[test]
fn syslog_gets_a_message_for_each_request() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("log");
    let daemon = UnixDatagram::bind(&socket).unwrap();
    daemon.set_read_timeout(Some(DEADLINE)).unwrap();
    let output = format!("output: \"syslog://{}\", format: json", socket.display());
    let proxy = Proxy::start_in(directory, &whoami(&output));
    proxy.client().ask(GET);
    let mut buffer = [0; 4096];
    let length = daemon.recv(&mut buffer).unwrap();
    let message = std::str::from_utf8(&buffer[..length]).unwrap();
    let (header, record) = message.split_once(" access - ").unwrap();
    assert!(header.starts_with("<190>1 "), "{header}");
    let record: Value = serde_json::from_str(record).unwrap();
    assert_eq!(record["status"], 200);
}

#[test]
fn syslog_over_udp_does_so_too() {
    let daemon = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.set_read_timeout(Some(DEADLINE)).unwrap();
    let output = format!(
        "output: \"syslog://{}\", format: combined",
        daemon.local_addr().unwrap()
    );
    let proxy = Proxy::start(&whoami(&output));
    proxy.client().ask(GET);
    let mut buffer = [0; 4096];
    let length = daemon.recv(&mut buffer).unwrap();
    let message = std::str::from_utf8(&buffer[..length]).unwrap();
    assert!(
        message.starts_with("<190>1 ") && message.contains(" access - 127.0.0.1 - - ["),
        "{message}"
    );
}

#[test]
fn an_output_that_cannot_be_written_is_found_by_check() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("proxy.yaml");
    for (output, said) in [
        ("none/access.log", "none: no such directory"),
        (".", "a directory"),
    ] {
        fs::write(&path, whoami(&format!("output: {output}"))).unwrap();
        let check = program()
            .arg("check")
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .output()
            .unwrap();
        let text = String::from_utf8([check.stdout, check.stderr].concat()).unwrap();
        assert_eq!(check.status.code(), Some(78), "{text}");
        assert!(text.contains(said) && text.contains("output: "), "{text}");
    }
}

#[test]
fn the_log_level_does_not_touch_records() {
    let rest = format!("log: {{ level: \"off\" }}\n{WHOAMI}");
    let directory = TempDir::new().unwrap();
    let mut command = program();
    command.env("HEADWATER_LOG", "error");
    let proxy = Proxy::start_by(directory, &config("output: access.log", &rest), command);
    proxy.client().ask(GET);
    let directory = proxy.end_and_keep();
    let file = File::open(directory.path().join("access.log")).unwrap();
    assert_eq!(BufReader::new(file).lines().count(), 1);
}
