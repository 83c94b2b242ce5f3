//! The files that are shipped, and what `check --print` makes of them.

use super::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// `proxy.yaml`, and every YAML file under `examples/`.
fn shipped() -> Vec<PathBuf> {
    let mut files = vec![Path::new(ROOT).join("proxy.yaml")];
    let mut folders = vec![Path::new(ROOT).join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .file_name()
                .is_some_and(|name| name == "proxy.yaml" || name == "full.yaml")
            {
                files.push(path);
            }
        }
    }
    files
}

fn same(a: &Config, b: &Config) {
    assert_eq!(format!("{a:#?}"), format!("{b:#?}"));
}

#[test]
fn every_shipped_file_loads_without_a_warning() {
    let files = shipped();
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        // One day the presets in some of them are old, which is no fault of the files.
        let text = std::fs::read_to_string(&file).unwrap();
        match Config::parse(&text, "shipped", file.parent().unwrap(), &nothing) {
            Ok(loaded) => assert_eq!(
                loaded.warnings.render(Style::Plain),
                "",
                "{}",
                file.display()
            ),
            Err(problems) => panic!("{}", problems.render(Style::Plain)),
        }
    }
}

#[test]
fn what_is_printed_loads_to_the_same() {
    for file in shipped() {
        let loaded = Config::load(&file).unwrap();
        let printed = loaded.effective();
        // Printed paths are resolved, so the directory plays no part.
        let again = Config::parse(&printed, "printed", Path::new("/elsewhere"), &nothing)
            .unwrap_or_else(|problems| panic!("{printed}\n{}", problems.render(Style::Plain)));
        same(&again.config, &loaded.config);
        assert_eq!(again.effective(), printed);
    }
}

#[test]
fn what_is_printed_shows_every_default() {
    let loaded = parse(
        "\
listeners: { http: { address: \":8080\" } }
upstreams: { app: { endpoints: [\"127.0.0.1:9000\"] } }
routes: [{ upstream: app }]
",
    )
    .unwrap();
    assert_eq!(loaded.effective(), include_str!("defaults.yaml"));
}

#[test]
fn every_key_that_is_built_stands_in_the_full_example() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("examples/full.yaml")).unwrap();
    let root = file::parse(&text).unwrap();
    let mut written = std::collections::BTreeSet::new();
    collect_keys(&root, &mut written);
    for keys in [
        keys::ROOT,
        keys::LISTENER,
        keys::TLS,
        keys::CERTIFICATE,
        keys::CLIENT_AUTH,
        keys::PROXY_PROTOCOL,
        keys::REDIRECT,
        keys::LISTENER_TIMEOUTS,
        keys::CLIENT_IP,
        keys::CLUSTER,
        keys::TRUST,
        keys::FORWARDED,
        keys::DISCOVERY,
        keys::DISCOVERY_DNS,
        keys::UPSTREAM,
        keys::ENDPOINT,
        keys::UPSTREAM_TLS,
        keys::UPSTREAM_TIMEOUTS,
        keys::POOL,
        keys::HEALTH_CHECK,
        keys::OUTLIER_DETECTION,
        keys::RETRIES,
        keys::ROUTE,
        keys::MATCH,
        keys::PATH,
        keys::RESPOND,
        keys::ACCESS,
        keys::LIMITS,
        keys::REQUEST_ID,
        keys::ACCESS_LOG,
        keys::TRACING,
        keys::LOG,
        keys::ADMIN,
        keys::ADMIN_METRICS,
        keys::RELOAD,
        keys::SHUTDOWN,
        keys::RUNTIME,
    ] {
        for key in keys.built {
            // Other ways to say what `trust` and a string say, and what takes a feature; the comments show them.
            let elsewhere = ["trusted_proxies", "trusted_hops", "prefix", "tracing"].contains(key)
                || keys::TRACING.built.contains(key);
            assert!(
                written.contains(*key) || elsewhere && text.contains(key),
                "`{key}` isn't in examples/full.yaml"
            );
        }
    }
}

/// Removing any single key changes the configuration or makes it wrong: nothing is read and ignored.
#[test]
fn no_key_of_the_full_example_is_without_effect() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("examples/full.yaml")).unwrap();
    let root = file::parse(&text).unwrap();
    let load = |root: &value::Value| {
        let text = file::write(root).unwrap();
        Config::parse(&text, "full.yaml", Path::new("examples"), &nothing)
            .map(|loaded| format!("{:?}", loaded.config))
    };
    let complete = load(&root).unwrap();
    // Keys with one possible value so far, two whose other values exclude other keys of the example, `protocol`, which
    // says what is the default as well, and one whose other value is a warning.
    let exempt = [
        "version",
        "policy",
        "protocol",
        "source",
        "x_forwarded_for",
        "verify",
    ];
    for path in leaf_paths(&root, &[]) {
        let mut without = root.clone();
        let key = remove(&mut without, &path);
        if let Ok(config) = load(&without) {
            assert!(
                config != complete || exempt.contains(&key.as_str()),
                "`{key}` has no effect"
            );
        }
    }
}

fn collect_keys(value: &value::Value, keys: &mut std::collections::BTreeSet<String>) {
    match value {
        value::Value::Map(entries) => {
            for (key, value) in entries {
                keys.insert(key.clone());
                collect_keys(value, keys);
            }
        }
        value::Value::List(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

/// The paths, as child numbers, of every map entry that holds no map itself.
fn leaf_paths(value: &value::Value, path: &[usize]) -> Vec<Vec<usize>> {
    let below = |index: usize| [path, &[index]].concat();
    match value {
        value::Value::Map(entries) => {
            let children = entries.iter().enumerate();
            children
                .flat_map(
                    |(index, (_, value))| match leaf_paths(value, &below(index)) {
                        paths if paths.is_empty() => vec![below(index)],
                        paths => paths,
                    },
                )
                .collect()
        }
        value::Value::List(items) => items
            .iter()
            .enumerate()
            .flat_map(|(index, value)| leaf_paths(value, &below(index)))
            .collect(),
        _ => Vec::new(),
    }
}

fn remove(value: &mut value::Value, path: &[usize]) -> String {
    match (value, path) {
        (value::Value::Map(entries), [index]) => entries.remove(*index).0,
        (value::Value::Map(entries), [index, rest @ ..]) => remove(&mut entries[*index].1, rest),
        (value::Value::List(items), [index, rest @ ..]) => remove(&mut items[*index], rest),
        _ => unreachable!("a path ends at a map entry"),
    }
}

#[test]
fn the_demo_and_the_command_line_give_configurations() {
    assert_eq!(
        Config::demo().unwrap().totals(),
        "2 listeners, 1 upstream, 1 route, 0 warnings"
    );
    let to = Config::to("http://app.internal/", ":8080").unwrap();
    assert_eq!(to.totals(), "1 listener, 1 upstream, 1 route, 0 warnings");
    assert!(to.effective().contains("- app.internal:80\n"));
    let whoami = Config::whoami(":8081", Some("echo"), &["private".to_owned()]).unwrap();
    assert!(whoami.effective().contains("builtin: whoami"));
    assert_eq!(whoami.config.whoami_name.as_deref(), Some("echo"));
    for (url, listen) in [
        ("https://app:443", ":80"),
        ("http://app/path", ":80"),
        ("http://", ":80"),
        ("app", ":80"),
        ("http://app", "80"),
    ] {
        assert!(Config::to(url, listen).is_err(), "{url} {listen}");
    }
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    for (path, code, reason) in [
        (dir.path().join("none.yaml"), code::NO_FILE, "no such file"),
        (
            file("large.yaml", &vec![b' '; (1 << 20) + 1]),
            code::FILE_UNFIT,
            "larger than 1024 KiB",
        ),
        (
            file("latin1.yaml", b"name: gr\xf6\xdfer"),
            code::FILE_UNFIT,
            "not UTF-8 text",
        ),
    ] {
        let problems = Config::load(&path).unwrap_err();
        let problem = problems.iter().next().unwrap();
        assert_eq!(problem.code, code);
        assert_eq!(
            problem.message,
            format!("can't read {}: {reason}", path.display())
        );
    }
}

#[test]
fn paths_are_taken_from_the_directory_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("proxy.yaml");
    std::fs::write(&path, "\
listeners: { a: { address: \"unix:a.sock\", tls: { certificates: [{ cert: a.crt, key: /etc/a.key }] } } }
routes: [{ respond: { status: 204 } }]
").unwrap();
    let config = Config::load(&path).unwrap().config;
    let listener = &config.listeners[0];
    assert_eq!(
        listener.addresses,
        [Address::Unix(dir.path().join("a.sock"))]
    );
    let certificate = &listener.tls.as_ref().unwrap().certificates[0];
    assert_eq!(certificate.cert, dir.path().join("a.crt"));
    assert_eq!(certificate.key, Path::new("/etc/a.key"));
}

#[test]
fn variables_may_stand_for_numbers_and_switches() {
    let environment = |name: &str| match name {
        "PORT" => Some("8443".to_owned()),
        "REUSE" => Some("true".to_owned()),
        _ => None,
    };
    let text = "\
listeners: { a: { address: \":${PORT}\", public_port: \"${PORT}\", reuse_port: \"${REUSE}\" } }
limits: { max_headers: \"${MAX:-50}\" }
routes: [{ respond: { body: \"$${PORT}\" } }]
";
    let loaded = Config::parse(text, "proxy.yaml", Path::new(""), &environment).unwrap();
    let config = loaded.config.clone();
    assert_eq!(config.listeners[0].addresses, [Address::Dual(8443)]);
    assert_eq!(
        config.listeners[0].public_port.map(NonZeroU16::get),
        Some(8443)
    );
    assert!(config.listeners[0].reuse_port);
    assert_eq!(config.limits.max_headers, 50);
    assert!(matches!(&config.routes[0].action, Action::Respond { body, .. } if body == "${PORT}"));
    let again = Config::parse(&loaded.effective(), "printed", Path::new(""), &nothing).unwrap();
    same(&again.config, &config);
}

#[test]
fn a_listener_may_have_its_own_client_ip_block() {
    let text = "\
client_ip: { trusted_hops: 2 }
listeners:
  a: { address: \":80\" }
  b: { address: \":81\", client_ip: { trusted_proxies: [private] } }
routes: [{ respond: {} }]
";
    let config = parse(text).unwrap().config;
    assert_eq!(
        config.listeners[0]
            .trust
            .trusted_hops()
            .map(std::num::NonZeroU8::get),
        Some(2)
    );
    assert_eq!(config.listeners[1].trust.trusted_hops(), None);
    assert_eq!(config.listeners[1].trust.rules().len(), 1);
}

#[test]
fn changes_are_named_by_their_keys() {
    let before = "\
listeners: { a: { address: \":80\" }, b: { address: \":81\" } }
upstreams: { app: { endpoints: [\"a:1\"] }, api: { endpoints: [\"b:1\"] } }
routes: [{ upstream: app }, { match: { path: /api }, upstream: api }]
";
    let changes = |now: &str| {
        let load = |text| Config::parse(text, "proxy.yaml", Path::new(""), &nothing).unwrap();
        load(now).changes_since(&load(before))
    };
    for (from, to, changed) in [
        ("a", "a", vec![]),
        // What is written and what is meant are two things.
        (
            "address: \":80\"",
            "address: \":80\", protocols: [h1, h2]",
            vec![],
        ),
        ("a:1", "a:2", vec!["upstreams.app"]),
        ("/api", "/v1", vec!["routes"]),
        ("b: {", "c: {", vec!["listeners.c", "listeners.b"]),
        ("\":81\"", "\":81\", reuse_port: true", vec!["listeners.b"]),
        ("routes", "log: { level: debug }\nroutes", vec!["log"]),
    ] {
        assert_eq!(changes(&before.replace(from, to)), changed, "{from} → {to}");
    }
}

#[test]
fn listeners_stay_open_for_a_while_in_kubernetes() {
    let text = "listeners: { a: { address: \":80\" } }\nroutes: [{ respond: {} }]\n";
    let within = |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.0.0.1".to_owned());
    for (environment, seconds) in [(&within as &dyn Fn(&str) -> _, 5), (&nothing, 0)] {
        let loaded = Config::parse(text, "proxy.yaml", Path::new(""), environment).unwrap();
        let delay = loaded.config.shutdown.readiness_delay;
        assert_eq!(delay, Duration::from_secs(seconds));
    }
}

/// What isn't listed isn't looked at, and a change of it goes unnoticed.
#[test]
fn every_file_of_the_full_example_is_listed() {
    let path = Path::new(ROOT).join("examples/full.yaml");
    let loaded = Config::load(&path).unwrap();
    let files = loaded.config.files();
    let mut named = 0;
    for text in loaded.effective().split_whitespace() {
        if [".crt", ".key", ".pem", ".token", ".txt"]
            .iter()
            .any(|end| text.ends_with(end))
        {
            named += 1;
            assert!(
                files.iter().any(|(_, path)| *path == Path::new(text)),
                "{text}"
            );
        }
    }
    assert_eq!(named, files.len());
}
