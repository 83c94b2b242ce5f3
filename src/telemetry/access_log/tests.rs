use std::io::Read as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant, SystemTime};

use http::{StatusCode, Version};
use proptest::prelude::*;
use serde_json::Value;

use super::format::{self, Stamp};
use super::sink::Sink;
use super::*;
use crate::client_ip::{Addr, ProxySource, SocketPeer};
use crate::config::{LogOutput, RedactIp, RedactQuery};

/// As many bytes as no record has.
const MANY: usize = 64 * 1024;

fn peer(text: &str) -> SocketPeer {
    let address: std::net::SocketAddr = text.parse().unwrap();
    SocketPeer::Ip(Addr::from_socket(address), address.port())
}

/// A request through a trusted proxy.
fn usual() -> Facts {
    let mut facts = Facts {
        client_ip: Some("198.51.100.7".parse().unwrap()),
        client_ip_reason: "first_untrusted",
        peer: Some(peer("10.0.0.9:4711")),
        version: Some(Version::HTTP_11),
        status: Some(StatusCode::OK),
        duration: Duration::from_micros(12_345),
        upstream: Some(Duration::from_micros(10_001)),
        bytes_in: 3,
        bytes_out: 512,
        forged: 1,
        ..Facts::default()
    };
    for (field, value) in [
        (Field::RequestId, "1-2-3"),
        (Field::Listener, "https"),
        (Field::Route, "site"),
        (Field::Upstream, "web"),
        (Field::Endpoint, "10.0.1.11:8080"),
        (Field::Method, "GET"),
        (Field::Path, "/a"),
        (Field::Query, "b=c"),
        (Field::Host, "app.test"),
        (Field::UserAgent, "curl/8.0"),
        (Field::Referer, "https://other.test/"),
        (Field::ClientIpSource, "header:x-forwarded-for"),
    ] {
        facts.set(field, value);
    }
    facts.forwarded("x-forwarded-for", b"6.6.6.6, 198.51.100.7");
    facts.forwarded("x-forwarded-for", b"10.0.0.5");
    facts
}

fn written(facts: &Facts, format: RecordFormat, redact_ip: RedactIp) -> String {
    let mut stamp = Stamp::default();
    stamp.set(SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_042));
    let mut out = Vec::new();
    format::write(&mut out, facts, &stamp, format, redact_ip);
    String::from_utf8(out).unwrap()
}

#[test]
fn json_has_every_field_under_its_name() {
    let line = written(&usual(), RecordFormat::Json, RedactIp::None);
    assert_eq!(
        line,
        concat!(
            r#"{"timestamp":"1994-11-06T08:49:37.042Z","client_ip":"198.51.100.7","#,
            r#""client_ip_source":"header:x-forwarded-for","client_ip_reason":"first_untrusted","#,
            r#""peer_ip":"10.0.0.9","peer_port":4711,"forged":1,"listener":"https","route":"site","#,
            r#""upstream":"web","endpoint":"10.0.1.11:8080","method":"GET","host":"app.test","path":"/a","#,
            r#""query":"b=c","protocol":"HTTP/1.1","status":200,"duration_ms":12.345,"upstream_ms":10.001,"#,
            r#""bytes_in":3,"bytes_out":512,"user_agent":"curl/8.0","referer":"https://other.test/","#,
            r#""request_id":"1-2-3","#,
            r#""forwarded":{"x-forwarded-for":["6.6.6.6, 198.51.100.7","10.0.0.5"]}}"#,
            "\n"
        )
    );
}

#[test]
fn combined_has_the_client_first_and_the_peer_last() {
    let line = written(&usual(), RecordFormat::Combined, RedactIp::None);
    assert_eq!(
        line,
        "198.51.100.7 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 512 \
         \"https://other.test/\" \"curl/8.0\" peer=10.0.0.9\n"
    );
}

#[test]
fn text_is_one_line() {
    let line = written(&usual(), RecordFormat::Text, RedactIp::None);
    assert_eq!(
        line,
        "1994-11-06T08:49:37.042Z 198.51.100.7 200 \"GET /a?b=c\" 12.345ms in=3 out=512 host=\"app.test\" \
         listener=\"https\" route=\"site\" upstream=\"web\" endpoint=\"10.0.1.11:8080\" \
         source=\"header:x-forwarded-for\" reason=first_untrusted forged=1 peer=10.0.0.9 request_id=\"1-2-3\"\n"
    );
}

#[test]
fn what_is_not_known_is_left_out_or_a_dash() {
    let mut facts = Facts {
        error: Some("request_head"),
        status: Some(StatusCode::BAD_REQUEST),
        peer: Some(SocketPeer::Unix),
        ..Facts::default()
    };
    facts.set(Field::Listener, "http");
    assert_eq!(
        written(&facts, RecordFormat::Json, RedactIp::None),
        "{\"timestamp\":\"1994-11-06T08:49:37.042Z\",\"peer_ip\":\"unix\",\"forged\":0,\"listener\":\"http\",\
         \"status\":400,\"duration_ms\":0.000,\"bytes_in\":0,\"bytes_out\":0,\"error\":\"request_head\"}\n"
    );
    assert_eq!(
        written(&facts, RecordFormat::Combined, RedactIp::None),
        "- - - [06/Nov/1994:08:49:37 +0000] \"-\" 400 0 \"-\" \"-\" peer=unix\n"
    );
}

#[test]
fn a_client_that_left_has_a_status_in_combined_alone() {
    let facts = Facts {
        status: None,
        ..usual()
    };
    let line = written(&facts, RecordFormat::Combined, RedactIp::None);
    assert!(line.contains("HTTP/1.1\" 499 "), "{line}");
    let line = written(&facts, RecordFormat::Json, RedactIp::None);
    assert!(!line.contains("status"), "{line}");
}

#[test]
fn the_source_in_a_proxy_header_is_shown_beside_the_peer() {
    let proxied = |ip: &str| Facts {
        proxied: Some(ProxySource {
            addr: Addr::new(ip.parse().unwrap()).unwrap(),
            port: 40000,
            version: 2,
        }),
        ..usual()
    };
    for (ip, redact_ip, shown) in [
        ("203.0.113.5", RedactIp::None, "203.0.113.5:40000"),
        ("2001:db8::5", RedactIp::None, "[2001:db8::5]:40000"),
        ("203.0.113.5", RedactIp::Truncate, "203.0.113.0:40000"),
    ] {
        let line = written(&proxied(ip), RecordFormat::Json, redact_ip);
        let wanted = format!("\"proxy_protocol\":\"{shown}\"");
        assert!(line.contains(&wanted), "{line}");
    }
}

#[test]
fn no_whole_address_of_a_client_or_peer_is_left_when_redacted() {
    for format in [
        RecordFormat::Json,
        RecordFormat::Combined,
        RecordFormat::Text,
    ] {
        for how in [RedactIp::Truncate, RedactIp::Hash] {
            let line = written(&usual(), format, how);
            for address in ["198.51.100.7", "10.0.0.9", "6.6.6.6", "10.0.0.5"] {
                assert!(!line.contains(address), "{line}");
            }
        }
    }
    let line = written(&usual(), RecordFormat::Json, RedactIp::Truncate);
    assert!(
        line.contains("[\"6.6.6.0, 198.51.100.0\",\"10.0.0.0\"]"),
        "{line}"
    );
}

#[test]
fn long_values_are_cut_and_show_it() {
    let mut facts = usual();
    facts.set(Field::UserAgent, "a".repeat(257));
    facts.show(Field::Endpoint, "b".repeat(257));
    facts.set(Field::Host, "c".repeat(256));
    let line = written(&facts, RecordFormat::Json, RedactIp::None);
    for (name, value) in [
        ("user_agent", "a".repeat(256) + "..."),
        ("endpoint", "b".repeat(256) + "..."),
        ("host", "c".repeat(256)),
    ] {
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(record[name], value, "{line}");
    }
}

#[test]
fn of_long_chains_the_end_is_kept() {
    let mut facts = usual();
    let long = "9".repeat(300) + ", 10.0.0.6";
    for _ in 0..9 {
        facts.forwarded("forwarded", long.as_bytes());
    }
    let line = written(&facts, RecordFormat::Json, RedactIp::None);
    let record: Value = serde_json::from_str(&line).unwrap();
    let lines = record["forwarded"]["forwarded"].as_array().unwrap();
    assert_eq!(lines.len(), 8);
    let kept = lines[0].as_str().unwrap();
    assert!(
        kept.starts_with("...999") && kept.ends_with(", 10.0.0.6"),
        "{kept}"
    );
    assert_eq!(kept.len(), 3 + 256);
}

proptest! {
    /// Whatever bytes a client sends: a record is one line of printable ASCII, bounded, and says what it should.
    #[test]
    fn nobody_can_forge_a_record(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 8),
        client_left in any::<bool>(),
    ) {
        let fields = [
            Field::Method, Field::Path, Field::Query, Field::Host, Field::UserAgent, Field::Referer, Field::RequestId,
        ];
        let mut facts = usual();
        for (field, value) in fields.into_iter().zip(&values) {
            facts.set(field, value);
        }
        facts.forwarded("x-forwarded-for", &values[7]);
        facts.status = (!client_left).then_some(StatusCode::OK);
        for format in [RecordFormat::Json, RecordFormat::Combined, RecordFormat::Text] {
            let line = written(&facts, format, RedactIp::None);
            let line = line.strip_suffix('\n').unwrap();
            prop_assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line}");
            prop_assert!(line.len() < MANY);
        }
        let record: Value = serde_json::from_str(&written(&facts, RecordFormat::Json, RedactIp::None)).unwrap();
        prop_assert_eq!(&record["client_ip"], "198.51.100.7");
        for (name, value) in [("user_agent", &values[4]), ("path", &values[1])] {
            // Each byte comes back as the code point of the same number.
            let latin: String = value.iter().take(256).copied().map(char::from).collect();
            let cut = if value.len() > 256 { "..." } else { "" };
            prop_assert_eq!(&record[name], &(latin + cut));
        }
        // Three quoted strings, and no quote within them.
        let combined = written(&facts, RecordFormat::Combined, RedactIp::None);
        prop_assert_eq!(combined.bytes().filter(|byte| *byte == b'"').count(), 6);
        let begins = combined.starts_with("198.51.100.7 - - [06/Nov/1994:08:49:37 +0000] \"");
        prop_assert!(begins && combined.ends_with(" peer=10.0.0.9\n"));
    }

    /// No address survives in a chain, whatever stands around it.
    #[test]
    fn redacted_chains_hold_no_address(
        before in "[ ,;=\"a-z]{0,5}", a in 1..255u8, b in 1..255u8, after in "[ ,;=\"]{0,5}",
    ) {
        let address = format!("203.0.{a}.{b}");
        let redacted = redact::chain(format!("{before}{address}{after}").as_bytes(), RedactIp::Truncate);
        let redacted = String::from_utf8(redacted).unwrap();
        prop_assert!(!redacted.contains(&address), "{redacted}");
    }

    #[test]
    fn numbers_are_decimal(value in any::<u64>(), digits in 0..64u32, small in any::<u8>()) {
        let value = value >> digits;
        let mut out = Vec::new();
        format::number(&mut out, value);
        out.push(b' ');
        format::small_number(&mut out, small);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{value} {small}"));
    }
}

fn config(output: LogOutput) -> AccessLog {
    AccessLog {
        output,
        format: Some(RecordFormat::Combined),
        exclude_paths: vec!["/healthz".to_owned(), "/static/".to_owned()],
        redact_query: RedactQuery::Values(Vec::new()),
        redact_ip: RedactIp::None,
    }
}

#[test]
fn excluded_paths_cover_whatever_is_below_them() {
    let (output, _thread) = Output::start(LogOutput::File("/dev/null".into())).unwrap();
    let log = Log::new(
        config(output.to().clone()),
        LogFormat::Json,
        Some(output),
        None,
    );
    for (path, wanted) in [
        ("/", true),
        ("/healthz", false),
        ("/healthz/x", false),
        ("/healthzx", true),
        ("/static", false),
        ("/static/a", false),
        ("*", true),
    ] {
        assert_eq!(log.wants(path), wanted, "{path}");
    }
}

#[test]
fn records_of_a_former_log_are_written_when_they_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let (output, thread) = Output::start(LogOutput::File(path.clone())).unwrap();
    let log = Log::new(
        config(output.to().clone()),
        LogFormat::Json,
        Some(output),
        None,
    );
    let local = LocalLog::follow(Some(&log), None).unwrap();
    let peer = crate::client_ip::Peer {
        socket: SocketPeer::Unix,
        proxied: None,
    };
    let mut first = Record::begin(&local, &peer);
    first.set(Field::Host, "first");
    let second = Record::begin(&local, &peer);
    assert!(LocalLog::follow(None, Some(&local)).is_none());
    drop(local);
    drop(first);
    log.output().unwrap().end();
    thread.join().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
    drop(second);
}

#[test]
fn what_a_full_disk_does_not_take_is_counted() {
    let mut sink = Sink::new(LogOutput::File("/dev/full".into()));
    let failed = sink.write(b"one\ntwo\n").unwrap_err();
    assert_eq!(failed.records, 2);
    assert_eq!(failed.source.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn a_line_that_was_torn_is_not_continued() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let mut sink = Sink::new(LogOutput::File(path.clone()));
    sink.write(b"whole\nto").unwrap();
    sink.tear();
    sink.write(b"next\n").unwrap();
    let mut text = String::new();
    std::fs::File::open(&path)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "whole\nto\nnext\n");
}

#[test]
fn a_syslog_daemon_gets_a_message_for_each_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut sink = Sink::new(LogOutput::SyslogSocket(path.clone()));
    sink.write(b"one\ntwo\n").unwrap();
    let mut buffer = [0; 1024];
    for end in ["one", "two"] {
        let length = daemon.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..length]);
        let words: Vec<_> = message.split(' ').collect();
        assert_eq!(words[0], "<190>1");
        assert!(words[1].ends_with('Z'), "{message}");
        let process = std::process::id().to_string();
        assert_eq!(words[3..], ["headwater", &process, "access", "-", end]);
    }
    // Another daemon takes its place.
    drop(daemon);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(sink.write(b"three\n").unwrap_err().records, 1);
    let daemon = UnixDatagram::bind(&path).unwrap();
    sink.write(b"four\n").unwrap();
    let length = daemon.recv(&mut buffer).unwrap();
    assert!(buffer[..length].ends_with(b"- four"));
}

#[test]
fn a_syslog_daemon_that_reads_nothing_costs_its_patience_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let _daemon = UnixDatagram::bind(&path).unwrap();
    let mut sink = Sink::new(LogOutput::SyslogSocket(path));
    let begun = Instant::now();
    let failed = sink.write(&b"x\n".repeat(10_000)).unwrap_err();
    assert!(failed.records > 5_000, "{}", failed.records);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn outputs_that_cannot_be_written_are_found_beforehand() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let missing = directory.path().join("none/access.log");
    for (to, about) in [
        (
            LogOutput::File(directory.path().into()),
            Some(directory.path()),
        ),
        (LogOutput::File(missing.clone()), missing.parent()),
        (LogOutput::SyslogSocket(file.clone()), Some(file.as_path())),
        (LogOutput::SyslogSocket(missing.clone()), None),
        (LogOutput::File(file.clone()), None),
        (LogOutput::File(directory.path().join("new")), None),
        (LogOutput::Stdout, None),
    ] {
        let found = check(&to).err().map(|error| error.path);
        assert_eq!(found.as_deref(), about, "{to:?}");
    }
}
