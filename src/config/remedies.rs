//! What each code of a problem means, what it looks like, and what to do: `headwater error CODE`.

use super::problem::code;

/// A code, explained at length.
#[derive(Debug)]
pub struct Remedy {
    /// One of [`code`].
    pub code: &'static str,
    /// In a few words.
    pub title: &'static str,
    /// What it means, and why it matters.
    pub meaning: &'static str,
    /// A part of a configuration that has the problem, or what is shown where no part of one has it.
    pub example: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// The one for this code, in any case.
pub fn remedy(code: &str) -> Option<&'static Remedy> {
    let mut all = REMEDIES.iter();
    all.find(|remedy| remedy.code.eq_ignore_ascii_case(code))
}

/// All of them, in the order of their codes.
pub const REMEDIES: &[Remedy] = &[
    Remedy {
        code: code::NO_FILE,
        title: "the file doesn't exist",
        meaning: "A file that was named, by --config, HEADWATER_CONFIG or as an argument, isn't there. A named file that is missing is never replaced by another.",
        example: "can't read /etc/headwater/proxy.yaml: no such file",
        remedy: "Correct the path. Without one, ./proxy.yaml is taken, then /etc/headwater/proxy.yaml; `headwater run` shows the built-in demo where neither is there.",
    },
    Remedy {
        code: code::FILE_PERMISSION,
        title: "the file may not be read",
        meaning: "The file is there, and the user the process runs as may not read it, or may not enter a directory on the way.",
        example: "can't read /etc/headwater/proxy.yaml: permission denied",
        remedy: "Let that user read it:  chgrp headwater proxy.yaml && chmod 640 proxy.yaml",
    },
    Remedy {
        code: code::FILE_IO,
        title: "reading the file failed",
        meaning: "The system reported something else than a missing file or permission: a directory in its place, or a disk that fails.",
        example: "can't read conf.d: Is a directory (os error 21)",
        remedy: "Name a file. If it is one, look for errors of the disk in the kernel's log:  dmesg",
    },
    Remedy {
        code: code::FILE_UNFIT,
        title: "the file is too large, or not text",
        meaning: "A configuration is at most 1 MiB of UTF-8 text. A larger one is a mistake, and so is one in another encoding.",
        example: "can't read proxy.yaml: not UTF-8 text",
        remedy: "Convert it:  iconv -f latin1 -t utf-8 proxy.yaml . Keep long lists of ranges in files of their own: client_ip.trusted_proxies_files.",
    },
    Remedy {
        code: code::SYNTAX,
        title: "this can't be read as YAML",
        meaning: "The text isn't YAML, or uses a part of YAML that means nothing here: tags, merge keys, several documents. It hides all other problems and is reported alone. The usual causes: an address or a host pattern without quotes, and a tab.",
        example: "listeners:\n  http:\n    address: [::]:8080",
        remedy: "Put what begins with `[`, `{`, `*`, `&` or `!` in quotes:  address: \"[::]:8080\"",
    },
    Remedy {
        code: code::UNKNOWN_KEY,
        title: "a key that nobody knows",
        meaning: "Keys are never ignored: a misspelt one would leave a default in force that nobody asked for. All keys are snake_case, and stand in examples/full.yaml.",
        example: "client_ip: { trusted_proxys: [private] }",
        remedy: "Take the key that is proposed, or one of those listed for the section.",
    },
    Remedy {
        code: code::NOT_BUILT,
        title: "something this version doesn't do yet",
        meaning: "The key or word is part of the interface, and nothing acts on it in this version or in this build: it may take a feature. It is refused, so that nobody relies on it.",
        example: "listeners: { https: { address: \":443\", protocols: [h3] } }",
        remedy: "Remove it, or use a build that has it: `headwater --version` lists the features.",
    },
    Remedy {
        code: code::DUPLICATE_KEY,
        title: "a key that is there twice",
        meaning: "YAML readers differ in which of the two they take. None is taken here.",
        example: "log:\n  level: info\n  level: debug",
        remedy: "Remove one of them.",
    },
    Remedy {
        code: code::MISSING_KEY,
        title: "a key that has to be there",
        meaning: "A section lacks what has no default.",
        example: "listeners: { http: {} }",
        remedy: "Add the key; the help beneath the problem shows the shortest form.",
    },
    Remedy {
        code: code::WRONG_TYPE,
        title: "a value of the wrong type",
        meaning: "A text stands where a number, a switch, a list or a mapping is wanted, or the other way round. YAML takes 8080 for a number, and yes for a text.",
        example: "listeners: { http: { address: 8080 } }",
        remedy: "Write what the message asks for. A text that looks like a number goes in quotes:  address: \":8080\"",
    },
    Remedy {
        code: code::UNDEFINED_VARIABLE,
        title: "a variable without a value",
        meaning: "`${NAME}` stands for an environment variable. An empty text in its place could mean anything, so one that isn't set is an error.",
        example: "log: { level: \"${LEVEL}\" }",
        remedy: "Set it, or give a default:  ${LEVEL:-info} . `$${` stands for `${` itself.",
    },
    Remedy {
        code: code::UNKNOWN_WORD,
        title: "a word that isn't one of those allowed here",
        meaning: "The key takes one of a few words.",
        example: "client_ip: { on_malformed: refuse }",
        remedy: "Take one of the words that are listed.",
    },
    Remedy {
        code: code::BAD_NUMBER,
        title: "a number, size or duration that can't be used",
        meaning: "It can't be read, or is out of bounds. Durations have a unit, and are never without end; sizes may have one (KiB, MiB, GiB).",
        example: "shutdown: { grace_period: 30 }",
        remedy: "Write it with its unit:  grace_period: 30s",
    },
    Remedy {
        code: code::BAD_ADDRESS,
        title: "an address that can't be used",
        meaning: "Listeners are bound to addresses, endpoints are connected to: each has its forms.",
        example: "listeners: { http: { address: \"localhost:8080\" } }",
        remedy: "Listeners:  \":8080\"  \"127.0.0.1:8080\"  \"[::1]:8080\"  \"unix:app.sock\" . Endpoints the same, or \"host:port\", without a scheme and a path.",
    },
    Remedy {
        code: code::BAD_RANGE,
        title: "a range that can't be read",
        meaning: "Lists of addresses hold CIDR blocks, single addresses, and the names of presets. A block whose address has bits behind its prefix is refused: one of the two is wrong.",
        example: "client_ip: { trusted_proxies: [10.0.0.1/8] }",
        remedy: "Write the block's first address (10.0.0.0/8), or the single one (10.0.0.1). `headwater presets` lists the names. In a file of ranges: one on each line, `#` begins a comment.",
    },
    Remedy {
        code: code::BAD_FIELD,
        title: "a header that can't be used",
        meaning: "The name or value isn't one of HTTP, or it means something else already: a name that others write too can't carry what only we may say.",
        example: "request_id: { header: Host }",
        remedy: "Take the usual name that is proposed, or another that nobody uses.",
    },
    Remedy {
        code: code::BAD_MATCH,
        title: "a host, path or method that can't match",
        meaning: "No request has such a host, path or method, so the route would never be taken.",
        example: "routes: [{ match: { path: api }, upstream: app }]",
        remedy: "Hosts are names, with a `*` for the first labels at most, without a port; paths begin with `/`; methods are in capitals.",
    },
    Remedy {
        code: code::BAD_NAME,
        title: "a name that can't be used",
        meaning: "Names of listeners, upstreams and routes stand in logs, metrics and the paths of keys; names of certificates in TLS.",
        example: "listeners: { my.site: { address: \":8080\" } }",
        remedy: "1 to 64 letters, digits, `_` and `-`. For certificates: a DNS name or an address, without a port.",
    },
    Remedy {
        code: code::EXCLUSIVE,
        title: "keys that don't go together",
        meaning: "One of them would have no effect beside the other. Nothing that is written is ignored.",
        example: "client_ip: { trusted_hops: 2, trusted_proxies: [private] }",
        remedy: "Remove the one that isn't meant.",
    },
    Remedy {
        code: code::NO_UPSTREAM,
        title: "a route to an upstream that doesn't exist",
        meaning: "Routes name one of `upstreams`, letter by letter.",
        example: "routes: [{ upstream: ap }]",
        remedy: "Correct the name, or add the upstream.",
    },
    Remedy {
        code: code::ADDRESS_TWICE,
        title: "an address that is bound twice",
        meaning: "Two listeners, or a listener and `admin`, want the same address and port; \":8080\" covers that port of every address.",
        example: "listeners:\n  a: { address: \":8080\" }\n  b: { address: \"127.0.0.1:8080\" }",
        remedy: "Give one of them another port, or make one listener of both.",
    },
    Remedy {
        code: code::EMPTY,
        title: "a list without an entry, or a guard without a value",
        meaning: "An empty list here means nobody, nothing or nowhere, and that can't be meant. A key that keeps somebody out, such as `tls` or `allow`, keeps out nobody when nothing stands behind it.",
        example: "listeners: { http: { address: [] } }",
        remedy: "Add an entry, or remove the key.",
    },
    Remedy {
        code: code::HEADER_LIST,
        title: "several headers where exactly one is allowed",
        meaning: "Whoever may name the client may do so through one header. With a list of them in order of preference, a client would send the preferred one, and the balancer that only sets another would pass it on.",
        example: "client_ip: { trusted_proxies: [private], header: [CF-Connecting-IP, X-Forwarded-For] }",
        remedy: "Bind each header to those who set it:\n  trust:\n    - { from: [cloudflare], header: CF-Connecting-IP }\n    - { from: [private], header: X-Forwarded-For }",
    },
    Remedy {
        code: code::NEEDS_TOKEN,
        title: "an admin address that others can reach, and no token",
        meaning: "The admin interface shows clients' addresses and drains endpoints. On loopback and Unix sockets only this machine gets there; anywhere else whoever asks must show a token.",
        example: "admin: { address: \":9900\" }",
        remedy: "openssl rand -hex 32 > admin.token  and  admin: { token_file: admin.token } ; or listen on 127.0.0.1:9900.",
    },
    Remedy {
        code: code::NEEDS_FILE,
        title: "a named file doesn't exist",
        meaning: "A certificate, key, token or list that the configuration names isn't there. Paths are taken from the directory of the configuration. At a reload the old configuration stays, and the file is looked for until it comes.",
        example: "no such file: certs/example.com.key",
        remedy: "Correct the path, or put the file there.",
    },
    Remedy {
        code: code::FILE_UNREADABLE,
        title: "a named file can't be read",
        meaning: "The user the process runs as may not read it. Keys often belong to root alone.",
        example: "cannot read certs/example.com.key: permission denied",
        remedy: "chgrp headwater example.com.key && chmod 640 example.com.key",
    },
    Remedy {
        code: code::FILE_INVALID,
        title: "a named file isn't what it should be",
        meaning: "It could be read, and what is in it doesn't fit: no certificate in PEM, a key of another certificate, a name that no certificate covers, an empty token.",
        example: "certs/other.key isn't the key of certs/example.com.crt",
        remedy: "The message says what was found in which file. What a certificate holds:  openssl x509 -noout -text -in FILE",
    },
    Remedy {
        code: code::FILE_UNWRITABLE,
        title: "a named file can't be written",
        meaning: "The access log, or a certificate that is to be made, can't be created there.",
        example: "can't write /var/log/headwater/access.log: permission denied",
        remedy: "Let the user the process runs as write to the directory, or name another place.",
    },
    Remedy {
        code: code::CANNOT_BIND,
        title: "an address that can't be listened on",
        meaning: "Another process listens there (exit 69), the port is below 1024 and the process isn't privileged (77), or no interface has the address (78).",
        example: "cannot bind 0.0.0.0:80: permission denied",
        remedy: "`ss -ltnp` shows who listens. Ports below 1024 need CAP_NET_BIND_SERVICE: by the systemd unit, by setcap, or take port 8080.",
    },
    Remedy {
        code: code::MORE,
        title: "more problems than are shown",
        meaning: "The first fifty are shown. The others are of the same file, and often have the same cause.",
        example: "12 more problems aren't shown",
        remedy: "Correct those that are shown, and check again.",
    },
    Remedy {
        code: code::WORLD_TRUST,
        title: "everybody may choose the client address",
        meaning: "The list covers the whole internet, so that whoever sends the header is whoever they say: access lists, rate limits and logs are theirs to write. It was the default of ingress-nginx (proxy-real-ip-cidr).",
        example: "client_ip: { trusted_proxies: [0.0.0.0/0] }",
        remedy: "List your balancer's networks, a CDN's preset, or `private` if the balancer is on the same network. See who connects now:  headwater explain --live . If its addresses aren't known:  trusted_hops: 1",
    },
    Remedy {
        code: code::REDIRECT_WITH_TLS,
        title: "a listener that speaks TLS redirects to HTTPS",
        meaning: "Clients that are there already are sent on; they come back to the same listener, without end.",
        example: "listeners:\n  https:\n    address: \":443\"\n    redirect_to_https: true\n    tls: { certificates: [{ cert: a.crt, key: a.key }] }",
        remedy: "Put `redirect_to_https` on the listener of port 80.",
    },
    Remedy {
        code: code::UNREACHABLE_ROUTE,
        title: "a route that no request can reach",
        meaning: "Another route matches everything that this one does, and comes first. The most specific match wins; the order of the file breaks ties.",
        example: "routes:\n  - { match: { path: /api }, upstream: app }\n  - { match: { path: /api }, respond: { status: 404 } }",
        remedy: "Remove one of them, or make this one more specific.",
    },
    Remedy {
        code: code::NO_PROXY_HEADERS,
        title: "the client address comes from PROXY headers that nobody may send",
        meaning: "`source: proxy_protocol` takes the client from the PROXY header, and no listener setting lets anybody send one here. Every client is then its socket peer: behind a balancer, all of them are the balancer.",
        example: "listeners: { http: { address: \":8080\", client_ip: { source: proxy_protocol } } }",
        remedy: "proxy_protocol: { mode: required, from: [10.0.0.0/16] }  on the listener, with the balancer's networks.",
    },
    Remedy {
        code: code::UNUSED_UPSTREAM,
        title: "an upstream that no route leads to",
        meaning: "Nothing is ever sent there. Often a route has another name in it.",
        example: "upstreams: { app: { builtin: whoami }, old: { builtin: whoami } }",
        remedy: "Add a route, or remove the upstream.",
    },
    Remedy {
        code: code::UNVERIFIED_UPSTREAM,
        title: "an upstream whose certificates nobody verifies",
        meaning: "With `verify: false` whoever sits in between can show any certificate, and read and change everything.",
        example: "upstreams: { app: { endpoints: [\"10.0.1.11:443\"], tls: { verify: false } } }",
        remedy: "Name the authority that issued its certificate:  tls: { ca: internal-ca.pem } , and the name it is for, if that isn't the endpoint's:  server_name: api.internal",
    },
    Remedy {
        code: code::GRPC_COLLECTOR,
        title: "a collector whose port speaks another protocol",
        meaning: "Port 4317 is for OTLP over gRPC. Spans are sent over HTTP here, which collectors take at port 4318.",
        example: "tracing: { otlp_endpoint: \"http://otel-collector:4317\" }",
        remedy: "otlp_endpoint: \"http://otel-collector:4318\"",
    },
    Remedy {
        code: code::CLUSTER_TRUST,
        title: "nodes or pods of the own cluster may choose the client address",
        meaning: "The range holds nodes or pods of the cluster. Behind a Service with externalTrafficPolicy: Cluster visitors arrive with the address of a node, so that every visitor is believed; and any pod that is broken into can be whoever it likes.",
        example: "client_ip: { trusted_proxies: [private], cluster: { nodes: [10.41.0.0/24] } }",
        remedy: "List the addresses of your balancer alone. If it has none of its own:  externalTrafficPolicy: Local , or PROXY protocol ( headwater error W120 ).",
    },
    Remedy {
        code: code::FOREIGN_CDN_HEADER,
        title: "a header of a CDN's is believed from elsewhere",
        meaning: "A CDN overwrites the header, so that its servers can be believed. Anybody else passes on what a client wrote into it.",
        example: "client_ip: { trusted_proxies: [private], header: CF-Connecting-IP }",
        remedy: "Bind the header to its senders:\n  trust:\n    - { from: [cloudflare], header: CF-Connecting-IP }\n    - { from: [private], header: X-Forwarded-For }",
    },
    Remedy {
        code: code::PROBE_WITHOUT_PROXY_HEADER,
        title: "probes come from where a PROXY header is required",
        meaning: "With `mode: required` a listed sender without a PROXY header is closed. Health checks of the same addresses often send none, and fail.",
        example: "client_ip: { cluster: { nodes: [10.41.0.0/24] } }\nlisteners:\n  http:\n    address: \":8080\"\n    proxy_protocol: { mode: required, from: [10.41.0.0/16] }",
        remedy: "mode: optional  believes the same senders and serves them without a header, too. Or send probes to /readyz of the admin address.",
    },
    Remedy {
        code: code::STALE_PRESET,
        title: "the ranges of a preset are old",
        meaning: "Presets are part of the program. After a year the CDN may have ranges that aren't in it: visitors through those have the CDN's address.",
        example: "the ranges of `cloudflare` may have changed since this program was made",
        remedy: "Take a newer headwater, or list what is missing beside the preset, in a file for example:  client_ip.trusted_proxies_files . `headwater presets NAME` shows what it has, and where that is from.",
    },
    Remedy {
        code: code::CERTIFICATE_TIME,
        title: "a certificate that isn't valid now",
        meaning: "Its time is over, or hasn't begun. It is used all the same, and clients refuse it.",
        example: "the certificate in tls.crt ended on 2026-01-31",
        remedy: "Put a renewed one in the file's place: it is read within a second, nothing has to be restarted. If the dates are right, look at this machine's clock.",
    },
    Remedy {
        code: code::TRANSLATED,
        title: "the visitors' addresses are lost before they get here",
        meaning: "Nearly all requests come from few addresses that have no visitors of their own: nodes of the cluster, the gateway of a container network, or this machine. Somebody in front replaces the source address (SNAT), and nothing in the requests tells the real one. Access lists, limits and logs see one visitor.",
        example: "97 % of 1240 requests in a minute came from 10.42.0.1, a node of this cluster: the visitors' addresses are lost before headwater",
        remedy: "One of these:\n  - externalTrafficPolicy: Local on the Service, and a proxy on every node that the balancer targets\n  - PROXY protocol on the balancer, and here:  proxy_protocol: { mode: optional, from: [10.0.0.0/16] }\n  - hostNetwork or hostPort; for a container host networking, or no userland proxy\n  - let systemd listen and pass the socket\n  - if an HTTP balancer is in front, trust its header:  client_ip: { trusted_proxies: [10.0.0.0/16] }",
    },
    Remedy {
        code: code::UNTRUSTED_HEADER,
        title: "a peer that nobody trusts names clients",
        meaning: "Most requests come from one peer that sends a forwarding header, and no rule trusts it: the header is removed, and the peer is everybody's address. It may be your balancer, or somebody who tries.",
        example: "X-Forwarded-For arrives from 10.0.3.7 on 100 % of requests and is not trusted",
        remedy: "If that is your balancer:  client_ip: { trusted_proxies: [10.0.3.7] } . What is removed shows in  headwater explain --live",
    },
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, Problems};

    /// What these look like isn't part of a configuration: they are about files, addresses, time and traffic.
    const SHOWN: [&str; 14] = [
        code::NO_FILE,
        code::FILE_PERMISSION,
        code::FILE_IO,
        code::FILE_UNFIT,
        code::NEEDS_FILE,
        code::FILE_UNREADABLE,
        code::FILE_INVALID,
        code::FILE_UNWRITABLE,
        code::CANNOT_BIND,
        code::MORE,
        code::STALE_PRESET,
        code::CERTIFICATE_TIME,
        code::TRANSLATED,
        code::UNTRUSTED_HEADER,
    ];

    const REST: [&str; 3] = [
        "listeners: { http: { address: \":8080\" } }",
        "upstreams: { app: { builtin: whoami } }",
        "routes: [{ upstream: app }]",
    ];

    /// The example, with whatever else a configuration needs.
    fn whole(example: &str) -> String {
        let says = |part: &str| {
            let (key, _) = part.split_once(':').unwrap();
            let mut lines = example.lines();
            lines.any(|line| line.starts_with(&format!("{key}:")))
        };
        let rest = REST.iter().filter(|part| !says(part));
        rest.fold(example.to_owned(), |text, part| format!("{text}\n{part}"))
    }

    #[test]
    fn each_example_has_the_problem_and_no_other() {
        let needs_otlp = [code::GRPC_COLLECTOR];
        for Remedy { code, example, .. } in REMEDIES {
            if SHOWN.contains(code) || needs_otlp.contains(code) && cfg!(not(feature = "otlp")) {
                continue;
            }
            let text = whole(example);
            let loaded = Config::parse(&text, "proxy.yaml", Path::new(""), &|_| None);
            let problems: Problems = match loaded {
                Ok(loaded) => loaded.warnings,
                Err(problems) => problems,
            };
            let found: Vec<_> = problems.iter().map(|problem| problem.code).collect();
            assert_eq!(found, [*code], "{text}");
        }
    }

    /// A constant without an entry here would leave an operator with a bare code.
    #[test]
    fn every_code_has_a_remedy() {
        let constants = include_str!("problem.rs").lines();
        let constants = constants.filter_map(|line| line.trim().strip_prefix("pub const "));
        let codes: Vec<_> = constants
            .filter_map(|constant| constant.split_once(": &str = \"")?.1.split('"').next())
            .collect();
        assert!(codes.len() > 30, "{codes:?}");
        for code in codes {
            assert!(
                remedy(code).is_some(),
                "{code} has no entry in src/config/remedies.rs: say what it means, and what to do"
            );
        }
        assert!(REMEDIES.is_sorted_by(|a, b| a.code < b.code));
    }
}
