//! `headwater explain`: one answer, wherever it is asked for.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{DEADLINE, EXECUTABLE, Proxy, Wire};

const CONFIG: &str = "\
listeners:
  http:
    address: \"127.0.0.1:0\"
    proxy_protocol: { mode: optional, from: [127.0.0.4] }
  other: { address: \"127.0.0.1:0\", client_ip: {} }
admin: { address: \"unix:admin.sock\" }
access_log: { output: log.json, format: json }
client_ip: { trusted_proxies: [127.0.0.2, 192.0.2.7], header: X-Forwarded-For }
upstreams: { whoami: { builtin: whoami } }
routes: [{ upstream: whoami }]
";

struct Output {
    code: i32,
    result: String,
    diagnostics: String,
}

/// What `headwater explain` says in this directory.
fn explain(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut process = Command::new(EXECUTABLE)
        .arg("explain")
        .args(arguments)
        .current_dir(directory)
        .env_remove("HEADWATER_ADMIN_ADDRESS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who takes no input may have ended.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    let output = process.wait_with_output().unwrap();
    Output {
        code: output.status.code().unwrap(),
        result: String::from_utf8(output.stdout).unwrap(),
        diagnostics: String::from_utf8(output.stderr).unwrap(),
    }
}

fn explained(directory: &Path, arguments: &[&str], input: &str) -> String {
    let output = explain(directory, arguments, input);
    assert_eq!(output.code, 0, "{arguments:?}: {}", output.diagnostics);
    output.result
}

/// The line of the log with this number, from 0.
fn logged(proxy: &Proxy, number: usize) -> String {
    let began = Instant::now();
    loop {
        let text = std::fs::read_to_string(proxy.path("log.json")).unwrap_or_default();
        let mut lines = text.split_inclusive('\n');
        if let Some(line) = lines.nth(number).filter(|line| line.ends_with('\n')) {
            return line.to_owned();
        }
        assert!(began.elapsed() < DEADLINE, "{text}");
        std::thread::yield_now();
    }
}

fn ask(proxy: &Proxy, source: &str, preamble: &str, fields: &[&str]) {
    let lines = fields
        .iter()
        .fold(String::new(), |lines, field| lines + field + "\r\n");
    let mut client = proxy.client_from(source.parse().unwrap());
    client.send(preamble);
    let answer = client.ask(format!("GET /a HTTP/1.1\r\nhost: app.test\r\n{lines}\r\n"));
    assert_eq!(answer.status(), 200);
}

fn from_api(proxy: &Proxy, target: &str) -> String {
    let mut admin = Wire::unix(&proxy.path("admin.sock"));
    let answer = admin.ask(format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    assert_eq!(answer.status(), 200, "{target}");
    answer.text().to_owned()
}

#[test]
fn one_request_is_explained_alike_wherever_it_is_asked() {
    let proxy = Proxy::start(CONFIG);
    let directory = proxy.path("");
    let v1 = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    let requests: &[(&str, &str, &[&str])] = &[
        ("127.0.0.2", "", &["x-forwarded-for: 6.6.6.6, 198.51.100.7"]),
        (
            "127.0.0.2",
            "",
            &["x-forwarded-for: 6.6.6.6", "x-forwarded-for: \u{e9}\"\\x"],
        ),
        ("127.0.0.3", "", &["x-forwarded-for: 6.6.6.6"]),
        ("127.0.0.3", "", &[]),
        ("127.0.0.4", v1, &["x-forwarded-for: 198.51.100.7"]),
    ];
    for (number, (source, preamble, fields)) in requests.iter().enumerate() {
        ask(&proxy, source, preamble, fields);
        let line = logged(&proxy, number);
        let record: Value = serde_json::from_str(&line).unwrap();
        let id = record["request_id"].as_str().unwrap();

        let peer = format!("{source}:{}", record["peer_port"]);
        let mut offline = vec!["--config", "proxy.yaml", "--peer", &peer];
        if !preamble.is_empty() {
            offline.extend(["--proxy-protocol", "v1/192.0.2.7:4711"]);
        }
        for field in *fields {
            offline.extend(["-H", field]);
        }
        let text = explained(&directory, &offline, "");
        assert!(text.starts_with("client address "), "{text}");
        assert_eq!(explained(&directory, &["--id", id], ""), text);
        assert_eq!(explained(&directory, &["--log", "-"], &line), text);
        assert_eq!(explained(&directory, &["--live", "--last", "1"], ""), text);
        let target = format!("/api/v1/requests/{id}/explain");
        assert_eq!(from_api(&proxy, &format!("{target}?format=text")), text);

        offline.extend(["--format", "json"]);
        let json = explained(&directory, &offline, "");
        assert_eq!(from_api(&proxy, &target), json);
        assert_eq!(
            explained(&directory, &["--id", id, "--format", "json"], ""),
            json
        );
        let json: Value = serde_json::from_str(&json).unwrap();
        for several in [&["--log", "-"][..], &["--live", "--last", "1"]] {
            let arguments = [several, &["--format", "json"]].concat();
            let object = explained(&directory, &arguments, &line);
            let object: Value = serde_json::from_str(&object).unwrap();
            assert_eq!(object["explanation"], json);
            assert_eq!(object["request_id"], record["request_id"]);
        }
    }
}

#[test]
fn the_last_requests_are_told_apart_the_newest_last() {
    let proxy = Proxy::start(CONFIG);
    let directory = proxy.path("");
    assert_eq!(
        explain(&directory, &["--live"], "").diagnostics,
        "no requests yet\n"
    );
    for source in ["127.0.0.5", "127.0.0.6", "127.0.0.7"] {
        ask(&proxy, source, "", &[]);
    }
    let output = explain(&directory, &["--live", "--last", "2"], "");
    assert_eq!(output.code, 0, "{}", output.diagnostics);
    let clients: Vec<_> = output
        .result
        .lines()
        .filter(|line| line.starts_with("client address"))
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();
    assert_eq!(clients, ["127.0.0.6", "127.0.0.7"]);
    let about: Vec<_> = output.diagnostics.lines().collect();
    assert_eq!(about.len(), 2, "{about:?}");
    assert!(about.iter().all(|line| line.ends_with("  GET app.test/a")));

    let output = explain(&directory, &["--id", "a/b?c"], "");
    assert_eq!(output.code, 1);
    assert_eq!(
        output.diagnostics,
        "error: 404 not among the last requests\n"
    );
}

#[test]
fn lines_that_say_too_little_are_named_and_the_others_explained() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("proxy.yaml"), CONFIG).unwrap();
    let good = r#"{"client_ip":"198.51.100.7","client_ip_source":"header:x-forwarded-for","client_ip_reason":"first_untrusted","peer_ip":"127.0.0.2","listener":"http","forwarded":{"x-forwarded-for":["198.51.100.7"]}}"#;
    let log = [
        good.to_owned(),
        String::new(),
        "INFO ready".to_owned(),
        good.replace("\"http\"", "\"none\""),
        good.replace("127.0.0.2", "00c0ffee00c0ffee"),
        good.replace("\"http\"", "\"other\""),
    ]
    .join("\n");
    std::fs::write(directory.path().join("access.log"), log).unwrap();
    let output = explain(directory.path(), &["--log", "access.log"], "");
    assert_eq!(output.code, 1);
    let explained = output.result.matches("client address").count();
    assert_eq!(explained, 2, "{}", output.result);
    let notes = &output.diagnostics;
    for note in [
        "error: line 3: not one of an access log in JSON",
        "error: line 4: no listener `none`; there are: http, other",
        "error: line 5: `00c0ffee00c0ffee` isn't an address",
        "note: the log says 198.51.100.7 (first_untrusted, header:x-forwarded-for)",
    ] {
        assert!(notes.contains(note), "{note}: {notes}");
    }
    assert_eq!(notes.matches("note:").count(), 1, "{notes}");

    // Whose rules apply can be said.
    let arguments = ["--log", "-", "--trust", "127.0.0.0/8"];
    let output = explain(directory.path(), &arguments, good);
    assert!(
        output.result.contains("trusted: 127.0.0.0/8"),
        "{}",
        output.result
    );
    let arguments = ["--log", "-", "--listener", "other"];
    let output = explain(directory.path(), &arguments, good);
    assert!(
        output.result.contains("no rule trusts it"),
        "{}",
        output.result
    );
}

const CASES: &str = "\
cases:
  - name: a visitor
    peer: 127.0.0.2
    headers: { X-Forwarded-For: [6.6.6.6, 198.51.100.7] }
    expect:
      client_ip: 198.51.100.7
      client_ip_reason: first_untrusted
      client_ip_source: header:x-forwarded-for
      sent: { x-real-ip: 198.51.100.7 }
  - name: a stranger
    listener: other
    peer: \"2001:db8::1\"
    headers: { X-Forwarded-For: 6.6.6.6 }
    expect: { client_ip: \"2001:DB8:0::1\", forged: [X-Forwarded-For] }
";

#[test]
fn cases_are_checked() {
    let directory = TempDir::new().unwrap();
    let write = |file: &str, text: &str| {
        std::fs::write(directory.path().join(file), text).unwrap();
    };
    write("proxy.yaml", CONFIG);
    let check = |cases: &str, more: &[&str]| {
        write("cases.yaml", cases);
        explain(
            directory.path(),
            &[&["--cases", "cases.yaml"], more].concat(),
            "",
        )
    };
    let output = check(CASES, &[]);
    assert_eq!(output.code, 0, "{}{}", output.result, output.diagnostics);
    assert_eq!(output.result, "2 cases, all as expected\n");

    for (right, wrong, difference) in [
        (
            "client_ip: 198.51.100.7",
            "client_ip: 6.6.6.6",
            "client_ip: expected 6.6.6.6, found 198.51.100.7",
        ),
        (
            "first_untrusted",
            "all_trusted",
            "client_ip_reason: expected all_trusted, found first_untrusted",
        ),
        (
            "header:x-forwarded-for",
            "peer",
            "client_ip_source: expected peer, found header:x-forwarded-for",
        ),
        (
            "x-real-ip: 198.51.100.7",
            "X-Real-IP: 6.6.6.6",
            "X-Real-IP: expected 6.6.6.6, found 198.51.100.7",
        ),
        (
            "forged: [X-Forwarded-For]",
            "forged: []",
            "forged: expected nothing, found x-forwarded-for",
        ),
    ] {
        let output = check(&CASES.replace(right, wrong), &[]);
        assert_eq!(output.code, 1, "{wrong}");
        assert!(output.result.contains(difference), "{}", output.result);
        assert!(output.result.contains("client address"), "the explanation");
        assert!(output.result.ends_with("2 cases, 1 not as expected\n"));
    }

    let output = check(&CASES.replace("a visitor", "x"), &["--trust", "10.0.0.0/8"]);
    assert_eq!(output.code, 1);
    let output = check(CASES, &["--trust", "10.0.0.0/8", "--format", "json"]);
    let report: Value = serde_json::from_str(&output.result).unwrap();
    assert_eq!(report["cases"], 2);
    assert_eq!(report["failed"].as_array().unwrap().len(), 1);
    assert_eq!(report["failed"][0]["name"], "a visitor");
    assert_eq!(report["failed"][0]["differences"][0]["actual"], "127.0.0.2");

    for (right, wrong, problem) in [
        ("peer: 127.0.0.2", "peer: nobody", "error[E022]"),
        ("listener: other", "listener: none", "error[E026]"),
        ("expect:\n", "expects:\n", "error[E010]"),
    ] {
        let output = check(&CASES.replace(right, wrong), &[]);
        assert_eq!(output.code, 78, "{wrong}");
        assert!(
            output.diagnostics.contains(problem),
            "{}",
            output.diagnostics
        );
        assert!(output.diagnostics.contains("--> cases.yaml:"));
    }
}

#[test]
fn the_cases_of_the_examples_hold() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/behind-cdn");
    let arguments = ["--config", "proxy.yaml", "--cases", "cases.yaml"];
    let result = explained(&examples, &arguments, "");
    assert!(result.ends_with("all as expected\n"), "{result}");
}

#[test]
fn one_thing_is_explained_at_a_time() {
    let directory = TempDir::new().unwrap();
    for arguments in [
        &[][..],
        &["--peer", "192.0.2.1", "--live"],
        &["--log", "-", "--id", "x"],
        &["--last", "3", "--peer", "192.0.2.1"],
        &["--live", "--last", "0"],
        &["--live", "--trust", "private"],
        &["--log", "-", "-H", "a: b"],
        &["--peer", "192.0.2.1", "--url", "http://localhost:9900"],
        &["--id", "x", "--url", "https://localhost:9900"],
        // No configuration is here.
        &["--log", "-"],
    ] {
        let output = explain(directory.path(), arguments, "");
        assert_eq!(output.code, 2, "{arguments:?}: {}", output.diagnostics);
    }
    let missing = ["--trust", "private", "--log", "none.log"];
    assert_eq!(explain(directory.path(), &missing, "").code, 1);
}
