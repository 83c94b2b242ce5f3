//! Which problem is found, and where.

use proptest::prelude::*;

use super::*;

fn found(text: &str) -> Vec<Found> {
    let problems = match parse(text) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    problems
        .iter()
        .map(|problem| {
            (
                problem.code,
                problem.line.unwrap_or(0),
                problem.column.unwrap_or(0),
            )
        })
        .collect()
}

// The parts of a good configuration. A test puts a bad part in front of the others, so that its lines count from 1.
const LISTENERS: &str = "listeners: { http: { address: \":8080\" } }\n";
const UPSTREAMS: &str = "upstreams: { a: { builtin: whoami } }\n";
const ROUTES: &str = "routes: [{ upstream: a }]\n";

/// Code, line, column.
type Found = (&'static str, usize, usize);

fn check(table: &[(&str, &[Found])], rest: &str) {
    for (text, expected) in table {
        assert_eq!(found(&format!("{text}\n{rest}")), *expected, "{text}");
    }
}

#[test]
fn syntax_errors_are_reported_alone_and_in_place() {
    for (text, expected) in [
        ("a: [1, 2\nb: 3\nunknown: 4\n", ("E005", 2, 2)),
        ("a: 1\n\tb: 2\n", ("E005", 2, 1)),
        ("a: \"open\n", ("E005", 2, 1)),
        ("hosts: [*.example.com]\n", ("E005", 1, 9)),
        ("hosts: *x\n", ("E005", 1, 8)),
        ("a: !tag b\n", ("E005", 1, 4)),
        ("a: 1\n---\nb: 2\n", ("E005", 0, 0)),
        ("endpoints: [[::1]:80]\n", ("E005", 1, 13)),
        ("? [a]\n: b\n", ("E005", 1, 3)),
    ] {
        assert_eq!(found(text), [expected], "{text}");
    }
}

#[test]
fn texts_that_would_make_huge_trees_are_refused() {
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert_eq!(found(&deep).first().map(|(code, ..)| *code), Some("E005"));
    let ten = "[x, x, x, x, x, x, x, x, x, x]";
    let mut bomb = format!("a0: &a0 {ten}\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb = format!("{bomb}a{level}: &a{level} [{aliases}]\n");
    }
    assert_eq!(found(&bomb).first().map(|(code, ..)| *code), Some("E005"));
    let wide = format!(
        "a: &a [{}]\nb: [{}]\n",
        "x, ".repeat(10_000),
        "*a, ".repeat(1_000)
    );
    let problems = parse(&wide).unwrap_err();
    assert_eq!(
        problems.iter().next().unwrap().message,
        "this can't be read as YAML: aliases make it too large"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is done to a file, it loads or its problems can be shown, each in its place.
    #[test]
    fn damaged_files_never_panic(
        cuts in prop::collection::vec((0..4_000_usize, 0..6_usize, "[ -~\n\t→ß\"'\\[\\]{}:#*&!|>%@`-]{0,4}"), 1..6),
    ) {
        let mut text: Vec<char> = include_str!("../../../examples/full.yaml").chars().collect();
        for (at, remove, insert) in cuts {
            let at = at.min(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            Ok(loaded) => {
                let again = parse(&loaded.effective()).unwrap();
                prop_assert_eq!(again.effective(), loaded.effective());
                loaded.warnings.render(Style::Colour);
            }
            Err(problems) => {
                prop_assert!(problems.has_errors());
                problems.render(Style::Plain);
                for problem in &problems {
                    let line = text.lines().nth(problem.line.unwrap_or(1) - 1).unwrap_or_default();
                    prop_assert!(problem.column.unwrap_or(1) <= line.chars().count() + 1, "{problem:?}");
                }
            }
        }
    }

    #[test]
    fn any_text_at_all_never_panics(text in "\\PC{0,200}") {
        if let Err(problems) = parse(&text) {
            problems.render(Style::Plain);
        }
    }
}

#[test]
fn an_empty_file_lacks_what_is_needed() {
    for text in ["", "# nothing\n", "{}\n", "listeners:\nroutes:\n"] {
        assert_eq!(
            found(text)
                .iter()
                .map(|(code, ..)| *code)
                .collect::<Vec<_>>(),
            ["E013", "E013"],
            "{text}"
        );
    }
    assert_eq!(found("[]\n"), [("E014", 0, 0)]);
}

#[test]
fn several_problems_are_found_in_one_run() {
    let text = "\
version: 2
listeners:
  http:
    adress: \":8080\"
    timeouts: { keep_alive: 30 }
client_ip:
  trusted-proxies: [private]
routes:
  - upstream: nowhere
";
    assert_eq!(
        found(text),
        [
            ("E021", 1, 10),
            ("E010", 4, 5),
            ("E021", 5, 29),
            ("E010", 7, 3),
            ("E031", 9, 15),
        ]
    );
}

#[test]
fn a_misspelt_key_is_not_missing_too() {
    check(
        &[("listeners: { a: { adress: \":80\" } }", &[("E010", 1, 19)])],
        &format!("{UPSTREAMS}{ROUTES}"),
    );
    check(
        &[("listener: {}", &[("E010", 1, 1)])],
        &format!("{UPSTREAMS}{ROUTES}"),
    );
}

#[test]
fn keys_are_checked_everywhere() {
    check(
        &[
            ("routs: []", &[("E010", 1, 1)]),
            ("requestId: {}", &[("E010", 1, 1)]),
            ("accessLog: {}", &[("E010", 1, 1)]),
            ("log:\n  level: info\n  level: warn", &[("E012", 3, 3)]),
            ("log: { format: json, Level: info }", &[("E010", 1, 22)]),
            (
                "limits: { max_connections: 5, max_connection: 5 }",
                &[("E010", 1, 31)],
            ),
            (
                "log: &a { level: info }\nlimits: { <<: *a }",
                &[("E010", 2, 11)],
            ),
            ("log: info", &[("E014", 1, 6)]),
            ("log: [info]", &[("E014", 1, 6)]),
            ("log: { level: [info] }", &[("E014", 1, 15)]),
            ("log: { level: 3 }", &[("E014", 1, 15)]),
        ],
        &format!("{LISTENERS}{UPSTREAMS}{ROUTES}"),
    );
}

#[test]
fn values_are_checked() {
    check(
        &[
            ("version: 2", &[("E021", 1, 10)]),
            ("version: one", &[("E014", 1, 10)]),
            ("log: { level: inf }", &[("E020", 1, 15)]),
            ("log: { format: xml }", &[("E020", 1, 16)]),
            ("limits: { max_header_bytes: 32KB }", &[("E021", 1, 29)]),
            ("limits: { max_header_bytes: 1KiB }", &[("E021", 1, 29)]),
            ("limits: { max_header_bytes: -1 }", &[("E021", 1, 29)]),
            ("limits: { max_headers: 0 }", &[("E021", 1, 24)]),
            ("limits: { max_headers: many }", &[("E014", 1, 24)]),
            ("limits: { underscore_headers: keep }", &[("E020", 1, 31)]),
            ("shutdown: { readiness_delay: 5 }", &[("E021", 1, 30)]),
            ("reload: { debounce: -1s }", &[("E021", 1, 21)]),
            ("reload: { watch: 250ms }", &[("E014", 1, 18)]),
            ("shutdown: { grace_period: 30 }", &[("E021", 1, 27)]),
            ("shutdown: { grace_period: 30 seconds }", &[("E021", 1, 27)]),
            ("shutdown: { grace_period: 400d }", &[("E021", 1, 27)]),
            ("shutdown: { grace_period: true }", &[("E014", 1, 27)]),
            ("runtime: { worker_threads: 0 }", &[("E021", 1, 28)]),
            ("runtime: { worker_threads: all }", &[("E014", 1, 28)]),
            ("log: { level: \"${UNSET}\" }", &[("E015", 1, 15)]),
            ("log: { level: \"${UNSET\" }", &[("E015", 1, 15)]),
            ("access: { allow: [10.0.0.1/8] }", &[("E023", 1, 19)]),
            (
                "access: { deny: [private, cloudfront] }",
                &[("E023", 1, 27)],
            ),
            ("access: { deny: [unix] }", &[("E023", 1, 18)]),
        ],
        &format!("{LISTENERS}{UPSTREAMS}{ROUTES}"),
    );
}

#[cfg(not(feature = "otlp"))]
#[test]
fn tracing_takes_a_feature() {
    check(
        &[
            ("tracing:\n  otlp_endpoint: x", &[("E011", 1, 1)]),
            ("tracing: { service_name: edge }", &[("E011", 1, 1)]),
        ],
        &format!("{LISTENERS}{UPSTREAMS}{ROUTES}"),
    );
}

#[cfg(feature = "otlp")]
#[test]
fn tracing_is_checked() {
    let endpoint = "otlp_endpoint: \"http://a\"";
    for (tracing, expected) in [
        (String::new(), ("E013", 1, 1)),
        ("otlp_endpoint: a".to_owned(), ("E022", 1, 27)),
        ("otlp_endpoint: \"https://a\"".to_owned(), ("E022", 1, 27)),
        ("otlp_endpoint: \"http://a:0\"".to_owned(), ("E022", 1, 27)),
        ("otlp_endpoint: \"http://\"".to_owned(), ("E022", 1, 27)),
        (
            "otlp_endpoint: \"http://a/b c\"".to_owned(),
            ("E022", 1, 27),
        ),
        (
            "otlp_endpoint: \"http://a:4317\"".to_owned(),
            ("W107", 1, 27),
        ),
        (format!("{endpoint}, sample_ratio: 1.1"), ("E021", 1, 53)),
        (format!("{endpoint}, sample_ratio: -0.1"), ("E021", 1, 53)),
        (format!("{endpoint}, sample_ratio: 2"), ("E021", 1, 53)),
        (format!("{endpoint}, sample_ratio: all"), ("E021", 1, 53)),
        (format!("{endpoint}, service_name: 1"), ("E014", 1, 53)),
        (format!("{endpoint}, ratio: 1"), ("E010", 1, 39)),
    ] {
        let text = format!("tracing: {{ {tracing} }}\n{LISTENERS}{UPSTREAMS}{ROUTES}");
        assert_eq!(found(&text), [expected], "{text}");
    }
}

/// It would keep out nobody, where somebody was to be kept out.
#[test]
fn what_guards_something_has_a_value() {
    let guarded = [
        ("access:", 1),
        ("access: { allow: }", 11),
        ("access: { deny: }", 11),
        ("access: { allow: [] }", 18),
    ];
    for (top, column) in guarded {
        let text = format!("{top}\n{LISTENERS}{UPSTREAMS}{ROUTES}");
        assert_eq!(found(&text), [("E033", 1, column)], "{text}");
    }
    let keys = [
        "tls",
        "proxy_protocol",
        "redirect_to_https",
        "allow_peers",
        "deny_peers",
    ];
    for key in keys {
        let text =
            format!("listeners:\n  http:\n    address: \":80\"\n    {key}:\n{UPSTREAMS}{ROUTES}");
        assert_eq!(found(&text), [("E033", 4, 5)], "{text}");
    }
}

#[test]
fn a_host_is_matched_by_hosts() {
    let route = "routes: [{ match: { headers: { hOsT: a.test } }, upstream: a }]\n";
    let text = format!("{LISTENERS}{UPSTREAMS}{route}");
    assert_eq!(found(&text), [("E024", 3, 32)]);
}

#[test]
fn senders_of_proxy_headers_are_not_the_world() {
    let text = format!(
        "listeners:\n  http:\n    address: \":80\"\n    \
         proxy_protocol: {{ mode: optional, from: [\"::/0\", 0.0.0.0/0] }}\n{UPSTREAMS}{ROUTES}"
    );
    assert_eq!(found(&text), [("W101", 4, 46)]);
}

#[test]
fn request_ids_are_checked() {
    check(
        &[
            ("request_id: X-Request-ID", &[("E014", 1, 13)]),
            ("request_id: { header: \"a b\" }", &[("E024", 1, 23)]),
            ("request_id: { header: Host }", &[("E024", 1, 23)]),
            ("request_id: { header: X-Real-IP }", &[("E024", 1, 23)]),
            ("request_id: { header: [a] }", &[("E014", 1, 23)]),
            ("request_id: { trust_incoming: true }", &[("E030", 1, 15)]),
            (
                "request_id: { header: X-Request-ID, trust_incoming: yes }",
                &[("E014", 1, 53)],
            ),
            (
                "request_id: { header: CF-Ray-IP }\nclient_ip: { trusted_proxies: [private], header: CF-Ray-IP }",
                &[("E024", 1, 23)],
            ),
        ],
        &format!("{LISTENERS}{UPSTREAMS}{ROUTES}"),
    );
}

#[test]
fn the_access_log_is_checked() {
    check(
        &[
            ("access_log: off", &[("E014", 1, 13)]),
            ("access_log: { output: stdot }", &[("E020", 1, 23)]),
            ("access_log: { output: logs/ }", &[("E020", 1, 23)]),
            ("access_log: { output: \"\" }", &[("E020", 1, 23)]),
            ("access_log: { output: false }", &[("E014", 1, 23)]),
            (
                "access_log: { output: \"udp://a:514\" }",
                &[("E022", 1, 23)],
            ),
            ("access_log: { output: \"syslog://\" }", &[("E022", 1, 23)]),
            (
                "access_log: { output: \"syslog://a:0\" }",
                &[("E022", 1, 23)],
            ),
            (
                "access_log: { output: \"syslog://a b\" }",
                &[("E022", 1, 23)],
            ),
            ("access_log: { format: clf }", &[("E020", 1, 23)]),
            ("access_log: { redact_ip: true }", &[("E020", 1, 26)]),
            ("access_log: { redact_query: 1 }", &[("E014", 1, 29)]),
            ("access_log: { redact_query: [a, 1] }", &[("E014", 1, 33)]),
            ("access_log: { exclude_paths: healthz }", &[("E025", 1, 30)]),
            (
                "access_log: { exclude_paths: [\"/a?b\"] }",
                &[("E025", 1, 31)],
            ),
            ("access_log: { path: a }", &[("E010", 1, 15)]),
        ],
        &format!("{LISTENERS}{UPSTREAMS}{ROUTES}"),
    );
}

#[test]
fn listeners_are_checked() {
    check(
        &[
            ("listeners: {}", &[("E033", 1, 12)]),
            ("listeners: { a: {} }", &[("E013", 1, 14)]),
            ("listeners: { a: { address: [] } }", &[("E033", 1, 28)]),
            (
                "listeners: { a.b: { address: \":80\" } }",
                &[("E026", 1, 14)],
            ),
            (
                "listeners: { a: { address: \"8080\" } }",
                &[("E022", 1, 28)],
            ),
            ("listeners: { a: { address: 8080 } }", &[("E014", 1, 28)]),
            (
                "listeners: { a: { address: \"localhost:80\" } }",
                &[("E022", 1, 28)],
            ),
            (
                "listeners: { a: { address: [\":80\", \"0.0.0.0:80\"] } }",
                &[("E032", 1, 36)],
            ),
            (
                "listeners:\n  a: { address: \":80\" }\n  b: { address: \"[::1]:80\" }",
                &[("E032", 3, 17)],
            ),
            (
                "listeners:\n  a: { address: \":80\" }\n  a: { address: \":81\" }",
                &[("E012", 3, 3)],
            ),
            (
                "listeners: { a: { address: \":80\", protocols: [] } }",
                &[("E033", 1, 46)],
            ),
            (
                "listeners: { a: { address: \":80\", protocols: [h3] } }",
                &[("E011", 1, 47)],
            ),
            (
                "listeners: { a: { address: \":80\", protocols: http } }",
                &[("E020", 1, 46)],
            ),
            (
                "listeners: { a: { address: \":80\", public_port: 0 } }",
                &[("E021", 1, 48)],
            ),
            (
                "listeners: { a: { address: \":80\", reuse_port: yes } }",
                &[("E014", 1, 47)],
            ),
            (
                "listeners: { a: { address: \":80\", timeouts: { handshake: 0s } } }",
                &[("E021", 1, 58)],
            ),
            (
                "listeners: { a: { address: \":80\", timeouts: { sent: 3s } } }",
                &[("E010", 1, 47)],
            ),
            (
                "listeners: { a: { address: \":80\", redirect_to_https: { status: 200 } } }",
                &[("E021", 1, 64)],
            ),
            (
                "listeners: { a: { address: \":443\", redirect_to_https: true, tls: { certificates: { cert: a, key: b } } } }",
                &[("W102", 1, 36)],
            ),
            (
                "listeners: { a: { address: \":80\", redirect_to_https: 308 } }",
                &[("E014", 1, 54)],
            ),
            (
                "listeners: { a: { address: \":80\", allow_peers: [everyone] } }",
                &[("E023", 1, 49)],
            ),
        ],
        &format!("{UPSTREAMS}{ROUTES}"),
    );
}

#[test]
fn tls_is_checked() {
    let pair = "certificates: [{ cert: a, key: b }]";
    let with_tls = |tls: &str| {
        format!(
            "listeners:\n  a:\n    address: \":443\"\n    tls: {{ {tls} }}\n{UPSTREAMS}{ROUTES}"
        )
    };
    for (tls, expected) in [
        (String::new(), ("E013", 4, 5)),
        ("certificates: []".to_owned(), ("E033", 4, 26)),
        ("certificates: [{ cert: a }]".to_owned(), ("E013", 4, 27)),
        (
            "certificates: [{ cert: a, key: b, self_signed: [\"a b\"] }]".to_owned(),
            ("E026", 4, 60),
        ),
        (format!("{pair}, min_version: 1.1"), ("E020", 4, 62)),
        (
            format!("{pair}, default_certificate: \"*.a\""),
            ("E026", 4, 70),
        ),
        (format!("{pair}, strict_sni: maybe"), ("E014", 4, 61)),
        (format!("{pair}, client_auth: {{}}"), ("E013", 4, 49)),
        (
            format!("{pair}, client_auth: {{ mode: optional }}"),
            ("E013", 4, 49),
        ),
        (
            format!("{pair}, client_auth: {{ mode: on, ca: c }}"),
            ("E020", 4, 70),
        ),
        (
            format!("{pair}, client_auth: {{ mode: required, ca: [c] }}"),
            ("E014", 4, 84),
        ),
        (format!("{pair}, client_auth: required"), ("E014", 4, 62)),
    ] {
        assert_eq!(found(&with_tls(&tls)), [expected], "{tls}");
    }
}

#[test]
fn a_subject_goes_by_a_name_of_its_own() {
    let with_header = |name: &str| {
        format!(
            "listeners: {{ a: {{ address: \":443\", tls: {{ certificates: [{{ cert: a, key: b }}], client_auth: {{\n  \
             mode: \"off\",\n  subject_header: \"{name}\" }} }} }} }}\n{UPSTREAMS}{ROUTES}"
        )
    };
    for name in ["X-Client-Cert-Subject", "SSL_CLIENT_S_DN", "x.subject"] {
        assert_eq!(found(&with_header(name)), [], "{name}");
    }
    for name in [
        "",
        "X Subject",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Cookie",
        "X-Forwarded-For",
        "x_real.ip",
        "Forwarded",
        "X-Original-URI",
    ] {
        assert_eq!(found(&with_header(name)), [("E024", 3, 19)], "{name}");
    }
}

#[test]
fn proxy_protocol_is_checked() {
    for (line, expected) in [
        ("proxy_protocol: {}", ("E013", 3, 3)),
        ("proxy_protocol: { mode: required }", ("E013", 3, 3)),
        (
            "proxy_protocol: { mode: optional, from: [] }",
            ("E033", 3, 43),
        ),
        (
            "proxy_protocol: { mode: on, from: [private] }",
            ("E020", 3, 27),
        ),
        (
            "proxy_protocol: { mode: required, from: [10.0.0.0/33] }",
            ("E023", 3, 44),
        ),
        ("client_ip: { source: proxy_protocol }", ("W104", 1, 14)),
        (
            "client_ip: { source: proxy_protocol }, proxy_protocol: { mode: off }",
            ("W104", 1, 14),
        ),
        ("proxy_protocol: required", ("E014", 3, 19)),
        (
            "client_ip: { source: peer, header: X-Real-IP }",
            ("E030", 3, 30),
        ),
    ] {
        let text = format!(
            "listeners: {{ a: {{\n  address: \":80\",\n  {line} }} }}\n{UPSTREAMS}{ROUTES}"
        );
        assert_eq!(found(&text), [expected], "{line}");
    }
}

#[test]
fn client_ip_is_checked() {
    check(
        &[
            ("client_ip: { source: cookie }", &[("E020", 1, 22)]),
            (
                "client_ip: { header: [X-Real-IP, X-Forwarded-For] }",
                &[("E037", 1, 22)],
            ),
            (
                "client_ip: { header: \"X-Real-IP, X-Forwarded-For\" }",
                &[("E037", 1, 22)],
            ),
            ("client_ip: { header: \"X Real\" }", &[("E024", 1, 22)]),
            ("client_ip: { header: Host }", &[("E024", 1, 22)]),
            (
                "client_ip: { trusted_hops: 10, max_hops: 9 }",
                &[("E021", 1, 28)],
            ),
            ("client_ip: { trusted_hops: 65 }", &[("E021", 1, 28)]),
            ("client_ip: { trusted_hops: 64 }", &[]),
            (
                "client_ip: { trusted_proxies: [010.0.0.0/8] }",
                &[("E023", 1, 32)],
            ),
            (
                "client_ip: { trusted_proxies: [10.0.0.0/08] }",
                &[("E023", 1, 32)],
            ),
            (
                "client_ip: { trust: [{ header: Forwarded }] }",
                &[("E013", 1, 22)],
            ),
            ("client_ip: { trust: [{ from: [] }] }", &[("E033", 1, 30)]),
            (
                "client_ip: { trust: [{ from: [private] }], trusted_proxies: [private] }",
                &[("E030", 1, 44)],
            ),
            (
                "client_ip: { trust: [{ from: [private] }], header: Forwarded }",
                &[("E030", 1, 44)],
            ),
            (
                "client_ip: { trusted_hops: 2, trust: [{ from: [private] }] }",
                &[("E030", 1, 31)],
            ),
            (
                "client_ip: { trusted_hops: 2, trusted_proxies: [private] }",
                &[("E030", 1, 31)],
            ),
            ("client_ip: { trusted_hops: 0 }", &[("E021", 1, 28)]),
            ("client_ip: { max_hops: 0 }", &[("E021", 1, 24)]),
            ("client_ip: { on_malformed: ignore }", &[("E020", 1, 28)]),
            (
                "client_ip: { trusted_proxies: [private, \"::/0\"] }",
                &[("W101", 1, 41)],
            ),
            (
                "client_ip: { trusted_proxies: [0.0.0.0/1, 128.0.0.0/1] }",
                &[("W101", 1, 31)],
            ),
            (
                "client_ip: { trust: [{ from: 0.0.0.0/0 }] }",
                &[("W101", 1, 30)],
            ),
            ("client_ip: { cluster: [] }", &[("E014", 1, 23)]),
            ("client_ip: { cluster: { node: [] } }", &[("E010", 1, 25)]),
            (
                "client_ip: { cluster: { nodes: [10.41.0.1, unix], pods: [private, 10.42.0.1/16] } }",
                &[("E023", 1, 44), ("E023", 1, 58), ("E023", 1, 67)],
            ),
            (
                "client_ip: { source: peer, cluster: { nodes: 10.41.0.0/24, pods: [\"fd00:42::/56\"] } }",
                &[],
            ),
        ],
        &format!("{LISTENERS}{UPSTREAMS}{ROUTES}"),
    );
}

#[test]
fn a_cluster_is_the_whole_files() {
    let text = format!(
        "listeners: {{ a: {{ address: \":80\", client_ip: {{ cluster: {{}} }} }} }}\n{UPSTREAMS}{ROUTES}"
    );
    assert_eq!(found(&text), [("E030", 1, 48)]);
}

#[test]
fn trust_in_the_own_cluster_warns() {
    let cluster = "cluster: { nodes: [10.41.0.0/24], pods: [10.42.0.0/16] }";
    for (trust, expected) in [
        (
            "trusted_proxies: [192.0.2.1, private]",
            &[("W108", 2, 30)][..],
        ),
        ("trusted_proxies: [10.42.0.0/16]", &[("W108", 2, 19)]),
        (
            "trust: [{ from: 10.41.0.0/16 }, { from: [10.0.0.0/8], header: Forwarded }]",
            &[("W108", 2, 17), ("W108", 2, 42)],
        ),
        // A part of either is chosen with care.
        ("trusted_proxies: [10.42.7.0/24, 10.41.0.1]", &[]),
        ("trusted_proxies: [0.0.0.0/0]", &[("W101", 2, 19)]),
        ("trusted_hops: 1", &[]),
    ] {
        let text = format!("client_ip: {{\n{trust}, {cluster} }}\n{LISTENERS}{UPSTREAMS}{ROUTES}");
        assert_eq!(found(&text), expected, "{trust}");
    }
    let of_listener = format!(
        "client_ip: {{ {cluster} }}\nlisteners: {{ a: {{ address: \":80\", client_ip: {{\n\
         trusted_proxies: [private] }} }} }}\n{UPSTREAMS}{ROUTES}"
    );
    assert_eq!(found(&of_listener), [("W108", 3, 19)]);
}

#[test]
fn the_own_node_is_known_by_its_variables() {
    let text =
        format!("client_ip: {{ trusted_proxies: [private] }}\n{LISTENERS}{UPSTREAMS}{ROUTES}");
    let warnings = |host: &'static str| {
        let environment = move |name: &str| (name == "HOST_IP").then(|| host.to_owned());
        let loaded = Config::parse(&text, "proxy.yaml", Path::new(""), &environment).unwrap();
        let codes: Vec<_> = loaded.warnings.iter().map(|problem| problem.code).collect();
        codes
    };
    assert_eq!(warnings("10.41.0.1"), ["W108"]);
    assert!(warnings("203.0.113.1").is_empty());
}

#[test]
fn headers_of_a_cdn_from_elsewhere_warn() {
    check(
        &[
            (
                "client_ip: { trust: [{ from: [cloudflare, 192.0.2.0/24], header: CF-Connecting-IP }] }",
                &[("W109", 1, 43)],
            ),
            (
                "client_ip: { trusted_proxies: [cloudflare], header: Fastly-Client-IP }",
                &[("W109", 1, 32)],
            ),
            (
                "client_ip: { trusted_proxies: private, header: cf-connecting-ipv6 }",
                &[("W109", 1, 31)],
            ),
            (
                "client_ip: { trust: [{ from: [173.245.48.0/20, 127.0.0.1, unix], header: CF-Connecting-IP }] }",
                &[],
            ),
            ("client_ip: { trusted_proxies: [fastly, private] }", &[]),
            (
                "client_ip: { trusted_proxies: [\"::/0\"], header: CF-Connecting-IP }",
                &[("W101", 1, 32)],
            ),
        ],
        &format!("{LISTENERS}{UPSTREAMS}{ROUTES}"),
    );
}

#[test]
fn probes_where_a_proxy_header_is_required_warn() {
    let required = "proxy_protocol: { from: [loopback, 10.41.0.9, unix], mode: required }";
    let optional = "proxy_protocol: { from: [loopback, 10.41.0.9, unix], mode: optional }";
    let apart = "proxy_protocol: { from: [203.0.113.0/24], mode: required }";
    let nodes = "client_ip: { cluster: { nodes: [10.41.0.0/24] } }\n";
    let to = |endpoint: &str| format!("upstreams: {{ a: {{ endpoints: [\"{endpoint}\"] }} }}\n");
    let with_header =
        "upstreams: { a: { endpoints: [\"127.0.0.1:81\"], send_proxy_protocol: v2 } }\n";
    let warns: &[Found] = &[("W110", 2, 60)];
    for (address, proxy, rest, expected) in [
        (":81", required, format!("{nodes}{UPSTREAMS}"), warns),
        (":81", optional, format!("{nodes}{UPSTREAMS}"), &[]),
        (":81", apart, format!("{nodes}{UPSTREAMS}"), &[]),
        (":81", required, UPSTREAMS.to_owned(), &[]),
        (":81", required, to("127.0.0.1:81"), warns),
        (":81", optional, to("127.0.0.1:81"), &[]),
        (":81", required, to("127.0.0.1:82"), &[]),
        (":81", required, to("192.0.2.1:81"), &[]),
        (":81", required, with_header.to_owned(), &[]),
        (":81", apart, to("127.0.0.1:81"), &[]),
        ("0.0.0.0:81", required, to("127.0.0.1:81"), warns),
        ("127.0.0.2:81", required, to("127.0.0.1:81"), &[]),
        ("10.41.0.9:81", required, to("10.41.0.9:81"), warns),
        ("unix:/run/a", required, to("unix:/run/a"), warns),
    ] {
        let text =
            format!("listeners: {{ a: {{ address: \"{address}\",\n{proxy} }} }}\n{rest}{ROUTES}");
        assert_eq!(found(&text), expected, "{text}");
    }
}

#[test]
fn presets_grow_old() {
    let text = format!(
        "client_ip: {{ trusted_proxies: [private, cloudflare] }}\naccess: {{ deny: fastly }}\n\
         {LISTENERS}{UPSTREAMS}{ROUTES}"
    );
    let codes = |year| {
        let today = Some(crate::client_ip::presets::Month { year, month: 11 });
        let loaded = Config::parse_on(today, &text, "proxy.yaml", Path::new(""), &nothing).unwrap();
        let places = loaded.warnings.iter();
        let places = places.map(|problem| (problem.code, problem.line, problem.column));
        places.collect::<Vec<_>>()
    };
    assert_eq!(codes(2027), [("W111", Some(2), Some(17))]);
    assert_eq!(
        codes(2028),
        [("W111", Some(1), Some(41)), ("W111", Some(2), Some(17))]
    );
    assert!(found(&text).is_empty());
}

#[test]
fn files_of_ranges_and_explanations_are_checked() {
    check(
        &[
            ("client_ip: { trusted_proxies_files: [a.txt] }", &[]),
            (
                "client_ip: { trusted_proxies_files: [1] }",
                &[("E014", 1, 38)],
            ),
            (
                "client_ip: { trusted_hops: 1, trusted_proxies_files: [a.txt] }",
                &[("E030", 1, 31)],
            ),
            (
                "client_ip: { source: peer, trusted_proxies_files: [a.txt] }",
                &[("E030", 1, 28)],
            ),
            (
                "client_ip: { trust: [], trusted_proxies_files: [a.txt] }",
                &[("E033", 1, 21)],
            ),
            ("client_ip: { explain_header: X-Why }", &[]),
            (
                "client_ip: { explain_header: Set-Cookie }",
                &[("E024", 1, 30)],
            ),
            ("client_ip: { explain_header: [X-Why] }", &[("E014", 1, 30)]),
            (
                "client_ip: { source: peer, explain_header: X-Why }",
                &[("E030", 1, 28)],
            ),
            (
                "client_ip: { explain_header: X-Why }\nrequest_id: { header: X-Why }",
                &[("E024", 2, 23)],
            ),
        ],
        &format!("{LISTENERS}{UPSTREAMS}{ROUTES}"),
    );
}

#[test]
fn forwarded_is_checked() {
    check(
        &[
            ("forwarded: { x_forwarded_for: none }", &[("E020", 1, 31)]),
            (
                "forwarded: { x_forwarded_for: replace, chain: full }",
                &[("E030", 1, 40)],
            ),
            ("forwarded: { untrusted_prior: keep }", &[("E030", 1, 14)]),
            (
                "forwarded: { headers: [x-real-ip, x-forwarded-for] }",
                &[("E020", 1, 35)],
            ),
            ("forwarded: { headers: [x-reel-ip] }", &[("E020", 1, 24)]),
            ("forwarded: { strip: [\"a b\"] }", &[("E024", 1, 22)]),
            ("forwarded: { strip: [host] }", &[("E024", 1, 22)]),
            ("forwarded: { strip: [Content-Length] }", &[("E024", 1, 22)]),
            ("forwarded: { rewrite_host: maybe }", &[("E014", 1, 28)]),
        ],
        &format!("{LISTENERS}{UPSTREAMS}{ROUTES}"),
    );
}

#[test]
fn upstreams_are_checked() {
    check(
        &[
            ("upstreams: { a: {} }", &[("E013", 1, 14)]),
            ("upstreams: { a: { endpoints: [] } }", &[("E033", 1, 30)]),
            (
                "upstreams: { a: { endpoints: [\"http://b:80\"] } }",
                &[("E022", 1, 31)],
            ),
            ("upstreams: { a: { endpoints: [b] } }", &[("E022", 1, 31)]),
            (
                "upstreams: { a: { endpoints: [{ address: \"b:1\", weight: 0 }] } }",
                &[("E021", 1, 57)],
            ),
            (
                "upstreams: { a: { endpoints: [{ address: \"b:1\", weight: 257 }] } }",
                &[("E021", 1, 57)],
            ),
            (
                "upstreams: { a: { endpoints: [{ address: \"b:1\", backup: maybe }] } }",
                &[("E014", 1, 57)],
            ),
            (
                "upstreams: { a: { endpoints: [{ weight: 2 }] } }",
                &[("E013", 1, 31)],
            ),
            (
                "upstreams: { a: { builtin: whoami, endpoints: [\"b:1\"] } }",
                &[("E030", 1, 36)],
            ),
            ("upstreams: { a: { builtin: echo } }", &[("E020", 1, 28)]),
            (
                "upstreams: { a: { builtin: whoami, policy: cookie } }",
                &[("E011", 1, 44)],
            ),
            (
                "upstreams: { a: { builtin: whoami, protocol: h3 } }",
                &[("E020", 1, 46)],
            ),
            (
                "upstreams: { a: { builtin: whoami, health_check: {} } }",
                &[("E030", 1, 36)],
            ),
            (
                "upstreams: { a: { builtin: whoami, pool: { idle_timeout: 15 } } }",
                &[("E021", 1, 58)],
            ),
            (
                "upstreams: { a: { builtin: whoami }, b: { builtin: whoami } }",
                &[("W105", 1, 38)],
            ),
        ],
        &format!("{LISTENERS}{ROUTES}"),
    );
}

#[test]
fn discovery_is_checked() {
    check(
        &[
            ("upstreams: { a: { discovery: {} } }", &[("E013", 1, 19)]),
            (
                "upstreams: { a: { discovery: { dns: { name: b } } } }",
                &[("E013", 1, 32)],
            ),
            (
                "upstreams: { a: { discovery: { dns: { name: \"b:80\", port: 80 } } } }",
                &[("E026", 1, 45)],
            ),
            (
                "upstreams: { a: { discovery: { dns: { name: b, port: 0 } } } }",
                &[("E021", 1, 54)],
            ),
            (
                "upstreams: { a: { discovery: { dns: { name: b, port: 1, interval: 0s } } } }",
                &[("E021", 1, 67)],
            ),
            (
                "upstreams: { a: { discovery: { kubernetes: { service: b } } } }",
                &[("E013", 1, 19), ("E011", 1, 32)],
            ),
            (
                "upstreams: { a: { endpoints: [\"b:1\"], discovery: { dns: { name: b, port: 1 } } } }",
                &[("E030", 1, 19)],
            ),
            (
                "upstreams: { a: { builtin: whoami, discovery: { dns: { name: b, port: 1 } } } }",
                &[("E030", 1, 36)],
            ),
        ],
        &format!("{LISTENERS}{ROUTES}"),
    );
}

#[test]
fn tls_towards_upstreams_is_checked() {
    let upstream = |rest: &str| format!("upstreams: {{ a: {{ endpoints: [\"b:1\"], {rest} }} }}");
    let table: &[(&str, &[Found])] = &[
        ("tls: true, protocol: h2, send_proxy_protocol: v1", &[]),
        ("tls: true, protocol: auto", &[]),
        ("tls: false, protocol: h2c, send_proxy_protocol: v2", &[]),
        ("tls: { server_name: \"10.0.0.1\" }", &[]),
        ("protocol: h2", &[("E030", 1, 49)]),
        ("tls: false, protocol: h2", &[("E030", 1, 61)]),
        ("tls: {}, protocol: h2c", &[("E030", 1, 58)]),
        ("tls: maybe", &[("E014", 1, 44)]),
        ("tls: { server_name: \"b:1\" }", &[("E026", 1, 59)]),
        ("tls: { cert: a.pem }", &[("E013", 1, 39)]),
        ("tls: { key: a.pem }", &[("E013", 1, 39)]),
        ("tls: { verify: false }", &[("W106", 1, 54)]),
        (
            "tls: { verify: false, ca: a.pem }",
            &[("W106", 1, 54), ("E030", 1, 61)],
        ),
        ("send_proxy_protocol: v3", &[("E020", 1, 60)]),
    ];
    for (text, expected) in table {
        let text = format!("{}\n{LISTENERS}{ROUTES}", upstream(text));
        assert_eq!(found(&text), *expected, "{text}");
    }
    check(
        &[
            (
                "upstreams: { a: { builtin: whoami, tls: true } }",
                &[("E030", 1, 36)],
            ),
            (
                "upstreams: { a: { builtin: whoami, send_proxy_protocol: v1 } }",
                &[("E030", 1, 36)],
            ),
        ],
        &format!("{LISTENERS}{ROUTES}"),
    );
}

#[test]
fn health_checks_and_retries_are_checked() {
    check(
        &[
            (
                "upstreams: { a: { endpoints: [\"b:1\"], health_check: { path: health } } }",
                &[("E025", 1, 61)],
            ),
            (
                "upstreams: { a: { endpoints: [\"b:1\"], health_check: { expect_status: [200] } } }",
                &[("E030", 1, 55)],
            ),
            (
                "upstreams: { a: { endpoints: [\"b:1\"], health_check: { path: /, expect_status: [100] } } }",
                &[("E021", 1, 80)],
            ),
            (
                "upstreams: { a: { endpoints: [\"b:1\"], outlier_detection: { max_eject_for: 1s } } }",
                &[("E021", 1, 75)],
            ),
            (
                "upstreams: { a: { endpoints: [\"b:1\"], retries: { attempts: 0 } } }",
                &[("E021", 1, 60)],
            ),
            (
                "upstreams: { a: { endpoints: [\"b:1\"], retries: { on: [timeout] } } }",
                &[("E020", 1, 55)],
            ),
            (
                "upstreams: { a: { endpoints: [\"b:1\"], max_connections_per_endpoint: 0 } }",
                &[("E021", 1, 69)],
            ),
        ],
        &format!("{LISTENERS}{ROUTES}"),
    );
}

#[test]
fn routes_are_checked() {
    check(
        &[
            ("routes: []", &[("E033", 1, 9)]),
            ("routes:\n- {}", &[("E013", 2, 3)]),
            ("routes: [{ upstream: b }]", &[("E031", 1, 22)]),
            ("routes: [{ upstream: a, respond: {} }]", &[("E030", 1, 12)]),
            (
                "routes: [{ upstream: a, name: x }, { upstream: a, name: x }]",
                &[("E026", 1, 57)],
            ),
            (
                "routes: [{ upstream: a, match: { path: x } }]",
                &[("E025", 1, 40)],
            ),
            (
                "routes: [{ upstream: a, match: { path: { exact: /x, prefix: /y } } }]",
                &[("E030", 1, 53)],
            ),
            (
                "routes: [{ upstream: a, match: { hosts: [\"a.example:80\"] } }]",
                &[("E025", 1, 42)],
            ),
            (
                "routes: [{ upstream: a, match: { methods: [get] } }]",
                &[("E025", 1, 44)],
            ),
            (
                "routes: [{ upstream: a, match: { methods: CONNECT } }]",
                &[("E025", 1, 43)],
            ),
            (
                "routes: [{ upstream: a, match: { headers: { \"a b\": x } } }]",
                &[("E024", 1, 45)],
            ),
            (
                "routes: [{ upstream: a, match: { headers: { a: 1 } } }]",
                &[("E014", 1, 48)],
            ),
            (
                "routes: [{ upstream: a, match: { headers: { a: x, A: y } } }]",
                &[("E012", 1, 51)],
            ),
            (
                "routes: [{ upstream: a, match: { methods: [GET], host: a } }]",
                &[("E010", 1, 50)],
            ),
            ("routes: [{ upstream: a, rewrite: {} }]", &[("E011", 1, 25)]),
            (
                "routes: [{ upstream: a, timeouts: { response_header: 0s } }]",
                &[("E021", 1, 54)],
            ),
            (
                "routes: [{ upstream: a, timeouts: { idle: 3s } }]",
                &[("E010", 1, 37)],
            ),
            (
                "routes: [{ upstream: a }, { respond: {}, timeouts: { response_header: 3s } }]",
                &[("E030", 1, 42)],
            ),
            (
                "routes: [{ upstream: a }, { respond: { status: 100 } }]",
                &[("E021", 1, 48)],
            ),
            (
                "routes: [{ upstream: a }, { respond: { status: 204, body: x } }]",
                &[("E030", 1, 59)],
            ),
        ],
        &format!("{LISTENERS}{UPSTREAMS}"),
    );
}

#[test]
fn routes_that_nothing_can_reach_are_found() {
    let text = format!(
        "{LISTENERS}{UPSTREAMS}routes:\n  - upstream: a\n  - match: {{ path: /x }}\n    upstream: a\n  - upstream: a\n"
    );
    assert_eq!(found(&text), [("W103", 7, 5)]);
}

#[test]
fn a_value_that_is_used_twice_is_shown_where_it_is_written() {
    let text = format!(
        "log: {{ level: &l nonsense }}\nlimits: {{ underscore_headers: *l }}\n{LISTENERS}{UPSTREAMS}{ROUTES}"
    );
    assert_eq!(found(&text), [("E020", 1, 15), ("E020", 1, 15)]);
}

#[test]
fn columns_count_characters() {
    let text = format!("routes: [{{ name: \"größer →\", upstream: b }}]\n{LISTENERS}{UPSTREAMS}");
    assert_eq!(found(&text), [("E031", 1, 40)]);
}

#[test]
fn problems_beyond_a_screenful_are_counted() {
    let many = (0..70).fold(String::new(), |text, n| {
        text + &format!(
            "nonsense_{n}: 1
"
        )
    });
    let problems = parse(&format!("{many}{LISTENERS}{UPSTREAMS}{ROUTES}")).unwrap_err();
    assert_eq!(problems.iter().len(), 51);
    assert_eq!(
        problems.iter().last().unwrap().message,
        "20 more problems aren't shown"
    );
}

#[test]
fn an_error_behind_a_screenful_of_warnings_is_an_error() {
    let rules = "{ from: 0.0.0.0/0 }, ".repeat(60);
    let text = format!(
        "{LISTENERS}{UPSTREAMS}client_ip: {{ trust: [{rules}] }}\nroutes: [{{ upstream: b }}]\n"
    );
    assert!(parse(&text).is_err());
}

#[test]
fn later_stages_report_at_a_key() {
    let text = "\
listeners:
  https:
    address: \":8443\"
    tls:
      certificates:
        - cert: a.crt
          key: a.key
upstreams: { a: { builtin: whoami } }
routes: [{ upstream: a }]
";
    let source = parse(text).unwrap().source;
    for (field, line, column) in [
        ("listeners.https.tls.certificates[0].cert", 6, 17),
        ("listeners.https.tls.certificates[0].key", 7, 16),
        ("listeners.https.address[0]", 3, 14),
        ("listeners.https.timeouts.handshake", 2, 3),
        ("log.level", 0, 0),
    ] {
        let problem = source.problem_at(field, code::NEEDS_FILE, "no such file", None);
        assert_eq!(
            (problem.line.unwrap_or(0), problem.column.unwrap_or(0)),
            (line, column),
            "{field}"
        );
        assert_eq!(problem.field, field);
    }
}

#[test]
fn an_admin_interface_is_for_this_machine_or_needs_a_token() {
    check(
        &[
            ("admin: {}", &[("E013", 1, 1)]),
            ("admin: { adress: \"127.0.0.1:9900\" }", &[("E010", 1, 10)]),
            ("admin: { address: [] }", &[("E033", 1, 19)]),
            ("admin: { address: localhost:9900 }", &[("E022", 1, 19)]),
            ("admin: { address: \":9900\" }", &[("E038", 1, 19)]),
            (
                "admin: { address: [\"[::1]:9900\", \"[::]:9900\"] }",
                &[("E038", 1, 34)],
            ),
            ("admin: { address: \"[::ffff:127.0.0.1]:9900\" }", &[]),
            ("admin: { address: \":9900\", token_file: token }", &[]),
            (
                "admin: { address: \"unix:a.sock\", ui: yes please }",
                &[("E014", 1, 38)],
            ),
            ("admin: { address: \"127.0.0.1:8080\" }", &[("E032", 1, 19)]),
            (
                "admin: { address: \"127.0.0.1:1\", metrics: { path: metrics } }",
                &[("E025", 1, 51)],
            ),
            (
                "admin: { address: \"127.0.0.1:1\", metrics: { path: /readyz } }",
                &[("E025", 1, 51)],
            ),
            (
                "admin: { address: \"127.0.0.1:1\", metrics: { path: /page/metrics } }",
                &[("E025", 1, 51)],
            ),
            (
                "admin: { address: \"127.0.0.1:1\", metrics: { path: \"/a?b\" } }",
                &[("E025", 1, 51)],
            ),
        ],
        &format!("listeners: {{ a: {{ address: \":8080\" }} }}\n{UPSTREAMS}{ROUTES}"),
    );
}
