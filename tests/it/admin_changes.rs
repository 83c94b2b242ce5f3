//! What operators see of the running process through the admin interface, and what they change.

use std::net::TcpStream;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Certificate, GET, Manner, OK, Proxy, Service, Upstream, Wire, headwater};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn admin(proxy: &Proxy) -> Wire<TcpStream> {
    Wire::tcp(TcpStream::connect(proxy.address("admin")).unwrap())
}

fn ask(proxy: &Proxy, method: &str, target: &str) -> (u16, String) {
    let request =
        format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
    let response = admin(proxy).ask(request);
    (response.status(), response.text().to_owned())
}

fn json(proxy: &Proxy, method: &str, target: &str) -> Value {
    let (status, text) = ask(proxy, method, target);
    assert_eq!(status, 200, "{target}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn answering(status: u16) -> String {
    format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ address: \"unix:admin.sock\" }}\n\
         reload: {{ watch: false }}\nroutes: [{{ name: own, respond: {{ status: {status} }} }}]\n"
    )
}

#[test]
fn a_drained_endpoint_gets_nothing_until_it_is_resumed() {
    let [first, second] = [Upstream::bind(), Upstream::bind()];
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ address: \"127.0.0.1:0\" }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\", \"{}\"] }} }}\nroutes: [{{ upstream: app }}]\n",
        first.address(),
        second.address()
    ));
    let change = |upstream: &Upstream, change: &str| {
        let target = format!(
            "/api/v1/upstreams/app/endpoints/{}/{change}",
            upstream.address()
        );
        json(&proxy, "POST", &target)
    };
    let told = change(&first, "drain");
    assert_eq!(
        told,
        json!({ "upstream": "app", "address": first.address().to_string(), "drained": true })
    );
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = second.accept();
    for _ in 0..4 {
        connection.request();
        connection.send(OK);
        assert_eq!(client.response().status(), 200);
        client.send(GET);
    }
    connection.request();
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
    first.assert_untouched();
    // An operator who drains all there is means it.
    change(&second, "drain");
    assert_eq!(client.ask(GET).status(), 503);
    let upstreams = json(&proxy, "GET", "/api/v1/upstreams");
    let drained: Vec<_> = upstreams[0]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["drained"].clone())
        .collect();
    assert_eq!(drained, [true, true]);
    assert_eq!(upstreams[0]["endpoints"][0]["healthy"], true);
    change(&first, "resume");
    client.send(GET);
    let mut connection = first.accept();
    connection.request();
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn only_what_is_there_can_be_drained_and_only_by_post() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\" } }\nadmin: { address: \"127.0.0.1:0\" }\n\
         upstreams: { app: { endpoints: [\"127.0.0.1:9\"] }, unix: { endpoints: [\"unix:/tmp/none.sock\"] } }\n\
         routes: [{ match: { path: /u }, upstream: unix }, { upstream: app }]\n",
    );
    for (method, target, status) in [
        (
            "POST",
            "/api/v1/upstreams/app/endpoints/127.0.0.1:9/drain",
            200,
        ),
        (
            "POST",
            "/api/v1/upstreams/unix/endpoints/unix%3A%2Ftmp%2Fnone.sock/drain",
            200,
        ),
        (
            "POST",
            "/api/v1/upstreams/app/endpoints/127.0.0.1:8/drain",
            404,
        ),
        (
            "POST",
            "/api/v1/upstreams/other/endpoints/127.0.0.1:9/drain",
            404,
        ),
        (
            "POST",
            "/api/v1/upstreams/app/endpoints/127.0.0.1:9/remove",
            404,
        ),
        (
            "GET",
            "/api/v1/upstreams/app/endpoints/127.0.0.1:9/drain",
            405,
        ),
        ("GET", "/api/v1/reload", 405),
        ("PUT", "/api/v1/reload", 405),
        ("POST", "/api/v1/upstreams", 405),
    ] {
        assert_eq!(ask(&proxy, method, target).0, status, "{method} {target}");
    }
}

#[test]
fn a_reload_waits_for_its_verdict() {
    let proxy = Proxy::start(&answering(204).replace("unix:admin.sock", "127.0.0.1:0"));
    let reload = |config: &str| {
        proxy.reconfigure(&config.replace("unix:admin.sock", "127.0.0.1:0"));
        let (status, text) = ask(&proxy, "POST", "/api/v1/reload");
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    let mut client = proxy.client();
    assert_eq!(client.ask(GET).status(), 204);
    let (status, verdict) = reload(&answering(205));
    assert_eq!(
        (status, &verdict["result"], &verdict["changed"]),
        (200, &json!("applied"), &json!(["routes"]))
    );
    assert_eq!(verdict["open_connections_kept"], 1);
    assert_eq!(client.ask(GET).status(), 205);
    let (status, verdict) = reload(&answering(205));
    assert_eq!((status, &verdict["result"]), (200, &json!("unchanged")));
    let (status, verdict) = reload("nonsense: true\n");
    assert_eq!((status, &verdict["result"]), (422, &json!("rejected")));
    assert_eq!(verdict["problems"][0]["code"], "E010");
    assert!(
        verdict["text"]
            .as_str()
            .unwrap()
            .contains("unknown key `nonsense`")
    );
    assert_eq!(client.ask(GET).status(), 205);
    let mut page = admin(&proxy);
    let foreign = "POST /api/v1/reload HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(page.ask(foreign).status(), 403);
}

#[test]
fn the_command_line_reloads_and_says_what_came_of_it() {
    let proxy = Proxy::start(&answering(204));
    let (code, said) = headwater(proxy.path(""), &["reload"]);
    assert_eq!(
        (code, said.as_str()),
        (0, "nothing to reload, everything is as it was\n")
    );
    proxy.reconfigure(&answering(205));
    let (code, said) = headwater(proxy.path(""), &["reload"]);
    assert_eq!((code, said.as_str()), (0, "reload applied: routes\n"));
    assert_eq!(proxy.client().ask(GET).status(), 205);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    proxy.reconfigure(&answering(205).replace("127.0.0.1:0", &address));
    let (code, said) = headwater(proxy.path(""), &["reload"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("error[E050]"), "{said}");
    proxy.reconfigure("nonsense: true\n");
    let (code, said) = headwater(proxy.path(""), &["reload"]);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("error[E010]"), "{said}");
}

#[test]
fn the_command_line_shows_the_token() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let config = answering(204).replace(
        "\"unix:admin.sock\"",
        "\"unix:admin.sock\", token_file: token",
    );
    let proxy = Proxy::start_in(directory, &config);
    assert_eq!(headwater(proxy.path(""), &["reload"]).0, 0);
    assert_eq!(headwater(proxy.path(""), &["healthcheck"]).0, 0);
    std::fs::write(proxy.path("other"), TOKEN.replace('0', "1")).unwrap();
    let (code, said) = headwater(proxy.path(""), &["reload", "--token-file", "other"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("401"), "{said}");
}

#[test]
fn the_state_is_shown() {
    let directory = TempDir::new().unwrap();
    Certificate::for_names(&["a.test"]).write(directory.path(), "a");
    let service = Service::start(Manner::KeepAlive);
    let proxy = Proxy::start_in(
        directory,
        &format!(
            "listeners:\n  http: {{ address: \"127.0.0.1:0\" }}\n  \
             https: {{ address: \"127.0.0.1:0\", protocols: [h1], tls: {{ certificates: [{{ cert: a.crt, key: a.key }}] }} }}\n\
             admin: {{ address: \"127.0.0.1:0\" }}\n\
             upstreams: {{ app: {{ endpoints: [\"{}\"] }}, whoami: {{ builtin: whoami }} }}\n\
             routes:\n\
             - {{ name: app, match: {{ hosts: [app.test], path: {{ exact: / }} }}, upstream: app }}\n\
             - {{ name: echo, match: {{ path: /echo, headers: {{ x-api-key: hunter2 }} }}, upstream: whoami }}\n\
             - {{ name: own, respond: {{ status: 404 }} }}\n",
            service.address()
        ),
    );
    assert_eq!(proxy.client().ask(GET).status(), 200);
    let get = |what: &str| json(&proxy, "GET", &format!("/api/v1/{what}"));
    let listeners = get("listeners");
    assert_eq!(
        listeners[0]["addresses"],
        json!([proxy.address("http").to_string()])
    );
    assert_eq!(
        (&listeners[1]["tls"], &listeners[1]["protocols"]),
        (&json!(true), &json!(["h1"]))
    );
    let upstreams = get("upstreams");
    assert_eq!(
        upstreams[0]["endpoints"][0]["address"],
        json!(service.address().to_string())
    );
    assert_eq!(upstreams[0]["endpoints"][0]["requests"], 1);
    assert_eq!(upstreams[1]["builtin"], true);
    let routes = get("routes");
    assert_eq!(routes[0]["hosts"], json!(["app.test"]));
    assert_eq!(
        (&routes[0]["path"], &routes[0]["path_match"]),
        (&json!("/"), &json!("exact"))
    );
    assert_eq!(
        (&routes[2]["status"], &routes[2]["upstream"]),
        (&json!(404), &Value::Null)
    );
    let certificates = get("certificates");
    assert_eq!(
        (&certificates[0]["listener"], &certificates[0]["names"]),
        (&json!("https"), &json!(["a.test"]))
    );
    assert!(certificates[0]["days_left"].as_i64().unwrap() > 0);
    let origins = get("origins");
    assert_eq!(origins[0]["client_network"], "127.0.0.0/24");
    assert_eq!(
        (&origins[0]["verdict"], &origins[0]["requests"]),
        (&json!("unverified"), &json!(1))
    );
    let config = get("config");
    assert_eq!(
        config["routes"][1]["match"]["headers"]["x-api-key"],
        "redacted"
    );
    assert!(!config.to_string().contains("hunter2"), "{config}");
    assert_eq!(
        config["upstreams"]["app"]["endpoints"][0],
        json!(service.address().to_string())
    );
}

#[test]
fn the_status_tells_what_runs_and_what_came_of_the_last_reload() {
    let mut proxy = Proxy::start(&answering(200));
    let status = |proxy: &Proxy| {
        let mut client = Wire::unix(&proxy.path("admin.sock"));
        let response = client.ask("GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n");
        serde_json::from_str::<Value>(response.text()).unwrap()
    };
    let first = status(&proxy);
    assert_eq!(first["readiness"], "ready");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    let config = &first["config"];
    assert!(config["source"].as_str().unwrap().ends_with("proxy.yaml"));
    assert!(config["trust"].as_str().unwrap().starts_with("nobody"));
    assert_eq!(config["last_reload"], Value::Null);
    proxy.reload(&answering(201));
    let config = status(&proxy)["config"].clone();
    assert_eq!(
        (&config["applied"], &config["rejected"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(config["last_reload"]["result"], "applied");
    assert_eq!(config["last_reload"]["changed"], json!(["routes"]));
    proxy.reconfigure("typo: 1");
    proxy.signal("HUP");
    proxy.says("reload rejected");
    let config = status(&proxy)["config"].clone();
    assert_eq!(config["last_reload"]["result"], "rejected");
    assert!(
        config["last_reload"]["text"]
            .as_str()
            .unwrap()
            .contains("typo")
    );
}
