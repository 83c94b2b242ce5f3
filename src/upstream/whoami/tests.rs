use super::*;
use crate::fields::tests::received;

/// The request of the transcript below, as it came to Go's `net/http`.
const FIELDS: &[(&str, &str)] = &[
    ("x-b", "2"),
    ("x-a", "1"),
    ("x-b", "3"),
    ("user-agent", "curl/8"),
    ("accept", "*/*"),
    ("x_under", "1"),
    ("x-foo.bar", "1"),
    ("cookie", "a=b"),
    ("cookie", "c=d"),
    ("dnt", "1"),
    ("www-authenticate", "x"),
    ("te", "trailers"),
    ("etag", "\"a\""),
    ("x-empty", ""),
    ("host", "not.printed"),
];

/// What `Request.Write` of Go 1.26 printed for it (without the `Connection` field).
const GO_WROTE: &str = "GET /a%20b?x=1&y=%41 HTTP/1.1\r\n\
    Host: Ex.com:80\r\n\
    User-Agent: curl/8\r\n\
    Accept: */*\r\n\
    Cookie: a=b\r\n\
    Cookie: c=d\r\n\
    Dnt: 1\r\n\
    Etag: \"a\"\r\n\
    Te: trailers\r\n\
    Www-Authenticate: x\r\n\
    X-A: 1\r\n\
    X-B: 2\r\n\
    X-B: 3\r\n\
    X-Empty: \r\n\
    X-Foo.bar: 1\r\n\
    X_under: 1\r\n\
    \r\n";

/// What it printed for a POST with a body.
const GO_WROTE_POST: &str = "POST /b HTTP/1.1\r\n\
    Host: h\r\n\
    User-Agent: a\r\n\
    Content-Length: 5\r\n\
    A: z\r\n\
    Content-Type: x/y\r\n\
    \r\n\
    hello";

struct Asked {
    method: Method,
    uri: Uri,
    fields: Fields,
    host: &'static str,
    body: &'static [u8],
    client: ClientFacts,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            method: Method::GET,
            uri: Uri::from_static("/"),
            fields: Fields::default(),
            host: "h",
            body: b"",
            client: ClientFacts {
                ip: "203.0.113.7".into(),
                source: "peer".into(),
                ..ClientFacts::default()
            },
        }
    }
}

fn get(uri: &'static str) -> Asked {
    Asked {
        uri: Uri::from_static(uri),
        ..Asked::default()
    }
}

fn post(uri: &'static str, body: &'static [u8]) -> Asked {
    Asked {
        method: Method::POST,
        body,
        ..get(uri)
    }
}

fn fields(fields: &[(&'static str, &'static str)]) -> Fields {
    received(fields.iter().copied())
}

fn identity() -> Identity {
    let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    Identity::new("laptop".into(), addresses, None)
}

fn ask_of(identity: &Identity, asked: &Asked) -> Response<Answer> {
    let echo = Echo {
        method: &asked.method,
        uri: &asked.uri,
        version: Version::HTTP_11,
        fields: &asked.fields,
        host: asked.host,
        remote_addr: "203.0.113.7:51734",
        body: asked.body,
        client: asked.client.clone(),
    };
    answer(&echo, identity)
}

fn ask(asked: &Asked) -> Response<Answer> {
    ask_of(&identity(), asked)
}

fn body(response: &mut Response<Answer>) -> Vec<u8> {
    let announced = response.headers()[header::CONTENT_LENGTH].to_str().unwrap();
    let announced: usize = announced.parse().unwrap();
    let pieces = std::iter::from_fn(|| response.body_mut().next_piece());
    let body = pieces.collect::<Vec<_>>().concat();
    assert_eq!(body.len(), announced);
    body
}

fn printed(asked: &Asked) -> String {
    String::from_utf8(body(&mut ask(asked))).unwrap()
}

#[test]
fn prints_the_lines_in_order() {
    assert_eq!(
        printed(&get("/")),
        "Hostname: laptop\n\
         IP: 127.0.0.1\n\
         IP: ::1\n\
         ClientIP: 203.0.113.7\n\
         ClientIPSource: peer\n\
         RemoteAddr: 203.0.113.7:51734\n\
         GET / HTTP/1.1\r\n\
         Host: h\r\n\
         \r\n"
    );
}

#[test]
fn prints_name_hops_and_forgery_where_there_are_any() {
    let mut asked = get("/");
    asked.client.hops = vec!["10.0.0.5 trusted".into(), "10.0.0.6 trusted".into()];
    asked.client.forged = Some("x-real-ip (removed)".into());
    let named = Identity::new("laptop".into(), Vec::new(), Some("blue".into()));
    let text = String::from_utf8(body(&mut ask_of(&named, &asked))).unwrap();
    assert!(
        text.starts_with(
            "Name: blue\n\
             Hostname: laptop\n\
             ClientIP: 203.0.113.7\n\
             ClientIPSource: peer\n\
             Hop: 10.0.0.5 trusted\n\
             Hop: 10.0.0.6 trusted\n\
             Forged: x-real-ip (removed)\n\
             RemoteAddr: "
        ),
        "{text}"
    );
}

#[test]
fn prints_the_request_as_go_does() {
    let get = Asked {
        fields: fields(FIELDS),
        host: "Ex.com:80",
        ..get("/a%20b?x=1&y=%41")
    };
    let post = Asked {
        fields: fields(&[
            ("content-type", "x/y"),
            ("user-agent", "a"),
            ("content-length", "5"),
            ("a", "z"),
        ]),
        ..post("/b", b"hello")
    };
    for (asked, go_wrote) in [(get, GO_WROTE), (post, GO_WROTE_POST)] {
        let text = printed(&asked);
        let (_, request) = text.split_once("RemoteAddr: 203.0.113.7:51734\n").unwrap();
        assert_eq!(request, go_wrote);
    }
}

#[test]
fn text_cannot_be_taken_for_a_page() {
    let response = ask(&get("/%3Cscript%3E"));
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/plain; charset=utf-8"
    );
    assert_eq!(
        response.headers()[header::X_CONTENT_TYPE_OPTIONS],
        "nosniff"
    );
}

#[test]
fn never_prints_the_environment() {
    for uri in ["/?env=true", "/api?env=true"] {
        let text = printed(&get(uri));
        assert!(!text.contains("PATH="), "{text}");
        assert!(!text.contains("environ"), "{text}");
    }
}

#[test]
fn api_keeps_the_key_order() {
    let mut asked = get("/api?a=b");
    asked.fields = fields(&[("x-b", "2"), ("host", "h"), ("x-a", "1"), ("x-b", "3")]);
    let mut response = ask(&asked);
    assert_eq!(
        String::from_utf8(body(&mut response)).unwrap(),
        "{\"hostname\":\"laptop\",\"ip\":[\"127.0.0.1\",\"::1\"],\
         \"headers\":{\"X-A\":[\"1\"],\"X-B\":[\"2\",\"3\"]},\"url\":\"/api?a=b\",\"host\":\"h\",\
         \"method\":\"GET\",\"remoteAddr\":\"203.0.113.7:51734\",\"clientIP\":\"203.0.113.7\",\
         \"clientIPSource\":\"peer\",\"hops\":[]}\n"
    );
    let headers = response.headers();
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_METHODS], "*");
}

#[test]
fn api_shows_name_hops_and_forgery() {
    let mut asked = get("/api");
    asked.client.hops = vec!["10.0.0.5".into()];
    asked.client.forged = Some("forwarded".into());
    let named = Identity::new("laptop".into(), Vec::new(), Some("blue".into()));
    let body = body(&mut ask_of(&named, &asked));
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["name"], "blue");
    assert_eq!(json["hops"][0], "10.0.0.5");
    assert_eq!(json["forged"], "forwarded");
    assert!(json.get("ip").is_none());
}

#[test]
fn api_survives_values_that_are_not_text() {
    let mut asked = get("/api");
    asked.fields = received([("X-BAD", b"\xff\xfe<b>\"")]);
    let json: serde_json::Value = serde_json::from_slice(&body(&mut ask(&asked))).unwrap();
    assert_eq!(json["headers"]["X-Bad"][0], "\u{fffd}\u{fffd}<b>\"");
}

#[test]
fn bench_answers_one() {
    assert_eq!(printed(&get("/bench?x")), "1");
}

#[test]
fn health_is_what_was_last_posted() {
    let identity = identity();
    let status = |asked: &Asked| ask_of(&identity, asked).status().as_u16();
    assert_eq!(status(&get("/health")), 200);
    assert_eq!(status(&post("/health", b" 503\n")), 200);
    assert_eq!(status(&get("/health")), 503);
    for body in [
        &b""[..],
        b"abc",
        b"5.0",
        b"99",
        b"100",
        b"1000",
        b"-1",
        b"null",
    ] {
        assert_eq!(status(&post("/health", body)), 400, "{body:?}");
    }
    assert_eq!(status(&get("/health")), 503);
    assert_eq!(status(&post("/health", b"204")), 200);
    assert_eq!(status(&get("/health")), 204);
}

#[test]
fn data_is_as_long_as_asked_for() {
    for (uri, expected) in [
        ("/data?size=0", ""),
        ("/data?size=-5", ""),
        ("/data", "|"),
        ("/data?size=x", "|"),
        ("/data?size=2", "||"),
        ("/data?size=10", "|ABCDEFGH|"),
        ("/data?size=%2b5", "|"),
        ("/data?size=30&unit=xb", "|ABCDEFGHIJKLMNOPQRSTUVWXYZ-A|"),
    ] {
        assert_eq!(printed(&get(uri)), expected, "{uri}");
    }
    for (uri, length) in [
        ("/data?size=1&unit=KB", 1 << 10),
        ("/data?unit=mb&size=3", 3 << 20),
    ] {
        let text = printed(&get(uri));
        assert_eq!(text.len(), length, "{uri}");
        let expected = |at: usize| {
            if at == 0 || at == length - 1 {
                b'|'
            } else {
                ALPHABET[at % 27]
            }
        };
        assert!(
            text.bytes()
                .enumerate()
                .all(|(at, byte)| byte == expected(at))
        );
    }
}

#[test]
fn data_of_any_size_takes_no_memory() {
    for (uri, length) in [
        ("/data?size=2&unit=TB", 2 << 40),
        ("/data?size=1&unit=Gb", 1 << 30),
        ("/data?size=9223372036854775807&unit=TB", u64::MAX),
    ] {
        let mut response = ask(&get(uri));
        assert_eq!(response.body().remaining(), length, "{uri}");
        let first: Vec<_> = (0..3)
            .map(|_| response.body_mut().next_piece().unwrap().len())
            .collect();
        assert!(first.iter().all(|&piece| piece <= 64 * 1024), "{uri}");
        assert_eq!(
            response.body().size_hint().exact(),
            Some(length - first.iter().sum::<usize>() as u64),
            "{uri}"
        );
    }
}

#[test]
fn data_is_an_attachment_on_demand() {
    for (uri, expected) in [
        ("/data?attachment=true", true),
        ("/data?attachment=1", true),
        ("/data?attachment=yes", false),
        ("/data", false),
    ] {
        let response = ask(&get(uri));
        let disposition = response.headers().get(header::CONTENT_DISPOSITION);
        assert_eq!(disposition.is_some(), expected, "{uri}");
    }
}

#[test]
fn head_has_the_length_and_no_body() {
    for uri in ["/", "/api", "/data?size=100", "/bench"] {
        let length = ask(&get(uri)).headers()[header::CONTENT_LENGTH].clone();
        let mut asked = get(uri);
        asked.method = Method::HEAD;
        let response = ask(&asked);
        assert_eq!(response.body().remaining(), 0, "{uri}");
        if uri != "/" && uri != "/api" {
            // The others print the method.
            assert_eq!(response.headers()[header::CONTENT_LENGTH], length, "{uri}");
        }
    }
}

#[test]
fn echo_is_for_websocket() {
    let response = ask(&get("/echo"));
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_VERSION], "13");
}

#[test]
fn waits_as_long_as_asked_within_the_bound() {
    for (uri, expected) in [
        ("/?wait=100ms", Some(100)),
        ("/x?a=b&wait=1.5s", Some(1_500)),
        ("/?wait=1s500ms", Some(1_500)),
        ("/?wait=.5s", Some(500)),
        ("/?wait=+2s", Some(2_000)),
        ("/?wait=2000us", Some(2)),
        ("/?wait=1h", Some(60_000)),
        // Go refuses what no duration holds.
        ("/?wait=99999999999999999h", None),
        ("/?wait=0", None),
        ("/?wait=-1s", None),
        ("/?wait=", None),
        ("/?wait=1", None),
        ("/?wait=s", None),
        ("/?wait=1x", None),
        ("/?wait=1.2.3s", None),
        ("/?wait=1s2", None),
        ("/?waits=1s", None),
        ("/", None),
        ("/api?wait=1s", None),
        ("/data?wait=1s", None),
    ] {
        let expected = expected.map(Duration::from_millis);
        assert_eq!(delay(&Uri::from_static(uri)), expected, "{uri}");
    }
}

#[test]
fn finds_own_addresses_in_the_kernel_tables() {
    let routes = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
           |-- 192.0.2.2
              /32 host LOCAL
Local:
           |-- 127.0.0.1
              /32 host LOCAL
";
    let expected = ["127.0.0.1", "192.0.2.2"].map(|ip| ip.parse::<Ipv4Addr>().unwrap());
    assert_eq!(ipv4_in_routes(routes), expected);

    let interfaces = "\
00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 04 40 00 82     eth0
";
    let expected = ["::1", "fd00::2"].map(|ip| ip.parse::<Ipv6Addr>().unwrap());
    let found: Vec<_> = ipv6_in_interfaces(interfaces).collect();
    assert_eq!(found, expected);
}

#[test]
fn this_host_has_a_name_and_a_loopback_address() {
    let identity = Identity::collect(None);
    assert!(!identity.hostname.is_empty());
    assert!(identity.addresses.iter().any(IpAddr::is_loopback));
}
