//! Every key of every section: what this version acts on, and what it only knows.
//!
//! A key moves from `later` to `built` in the commit that makes it work.

/// The keys of one section, in the order in which help lists them.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) built: &'static [&'static str],
    /// Part of the interface, refused until something acts on them.
    pub(super) later: &'static [&'static str],
}

pub(super) const ROOT: Keys = Keys {
    built: &[
        "version",
        "listeners",
        "client_ip",
        "forwarded",
        "upstreams",
        "routes",
        "access",
        "limits",
        "request_id",
        "access_log",
        #[cfg(feature = "otlp")]
        "tracing",
        "log",
        "admin",
        "reload",
        "shutdown",
        "runtime",
    ],
    later: &[
        #[cfg(not(feature = "otlp"))]
        "tracing",
    ],
};

pub(super) const LISTENER: Keys = Keys {
    built: &[
        "address",
        "protocols",
        "allow_peers",
        "deny_peers",
        "tls",
        "proxy_protocol",
        "client_ip",
        "public_port",
        "redirect_to_https",
        "reuse_port",
        "timeouts",
    ],
    later: &[],
};

pub(super) const TLS: Keys = Keys {
    built: &[
        "certificates",
        "default_certificate",
        "min_version",
        "client_auth",
        "strict_sni",
    ],
    later: &[],
};

/// Keys that guard something.
pub(super) const GUARDS: &[&str] = &[
    "access",
    "allow",
    "allow_peers",
    "client_auth",
    "deny",
    "deny_peers",
    "proxy_protocol",
    "redirect_to_https",
    "tls",
];

pub(super) const CLIENT_AUTH: Keys = Keys {
    built: &["mode", "ca", "subject_header"],
    later: &[],
};

pub(super) const CERTIFICATE: Keys = Keys {
    built: &["cert", "key", "self_signed"],
    later: &[],
};

pub(super) const PROXY_PROTOCOL: Keys = Keys {
    built: &["mode", "from", "timeout"],
    later: &[],
};

pub(super) const REDIRECT: Keys = Keys {
    built: &["status", "port"],
    later: &[],
};

pub(super) const LISTENER_TIMEOUTS: Keys = Keys {
    built: &[
        "handshake",
        "request_header",
        "request_body",
        "send",
        "keep_alive",
    ],
    later: &[],
};

pub(super) const CLIENT_IP: Keys = Keys {
    built: &[
        "source",
        "trust",
        "trusted_proxies",
        "header",
        "trusted_proxies_files",
        "trusted_hops",
        "recursive",
        "max_hops",
        "on_malformed",
        "explain_header",
        "cluster",
    ],
    later: &[],
};

pub(super) const CLUSTER: Keys = Keys {
    built: &["nodes", "pods"],
    later: &[],
};

pub(super) const TRUST: Keys = Keys {
    built: &["from", "header"],
    later: &[],
};

pub(super) const FORWARDED: Keys = Keys {
    built: &[
        "x_forwarded_for",
        "chain",
        "untrusted_prior",
        "forwarded",
        "headers",
        "rewrite_host",
        "strip",
    ],
    later: &[],
};

pub(super) const UPSTREAM: Keys = Keys {
    built: &[
        "endpoints",
        "discovery",
        "builtin",
        "policy",
        "protocol",
        "tls",
        "send_proxy_protocol",
        "timeouts",
        "pool",
        "health_check",
        "outlier_detection",
        "retries",
        "max_connections_per_endpoint",
        "queue_timeout",
        "slow_start",
    ],
    later: &[],
};

pub(super) const DISCOVERY: Keys = Keys {
    built: &["dns"],
    later: &["kubernetes"],
};

pub(super) const DISCOVERY_DNS: Keys = Keys {
    built: &["name", "port", "interval"],
    later: &[],
};

pub(super) const ENDPOINT: Keys = Keys {
    built: &["address", "weight", "backup"],
    later: &[],
};

pub(super) const HEALTH_CHECK: Keys = Keys {
    built: &[
        "path",
        "interval",
        "timeout",
        "expect_status",
        "unhealthy_after",
        "healthy_after",
    ],
    later: &[],
};

pub(super) const OUTLIER_DETECTION: Keys = Keys {
    built: &["consecutive_failures", "eject_for", "max_eject_for"],
    later: &[],
};

pub(super) const RETRIES: Keys = Keys {
    built: &["attempts", "on", "methods"],
    later: &[],
};

pub(super) const UPSTREAM_TLS: Keys = Keys {
    built: &["server_name", "ca", "cert", "key", "verify"],
    later: &[],
};

pub(super) const UPSTREAM_TIMEOUTS: Keys = Keys {
    built: &["connect", "response_header", "idle", "tunnel"],
    later: &[],
};

pub(super) const POOL: Keys = Keys {
    built: &["max_idle_per_endpoint", "idle_timeout"],
    later: &[],
};

pub(super) const ROUTE: Keys = Keys {
    built: &[
        "name",
        "match",
        "access",
        "upstream",
        "respond",
        "max_request_body",
        "timeouts",
    ],
    later: &[
        "rewrite",
        "rate_limits",
        "upstreams",
        "request_headers",
        "response_headers",
    ],
};

pub(super) const ROUTE_TIMEOUTS: Keys = Keys {
    built: &["response_header"],
    later: &[],
};

pub(super) const MATCH: Keys = Keys {
    built: &["hosts", "path", "methods", "headers"],
    later: &[],
};

pub(super) const PATH: Keys = Keys {
    built: &["exact", "prefix"],
    later: &[],
};

pub(super) const RESPOND: Keys = Keys {
    built: &["status", "body"],
    later: &[],
};

pub(super) const ACCESS: Keys = Keys {
    built: &["allow", "deny"],
    later: &["deny_files"],
};

pub(super) const LIMITS: Keys = Keys {
    built: &[
        "max_connections",
        "max_connections_per_client",
        "max_handshakes_per_client",
        "max_header_bytes",
        "max_headers",
        "max_target_bytes",
        "max_trailer_bytes",
        "max_request_body",
        "max_response_header_bytes",
        "max_concurrent_streams",
        "underscore_headers",
    ],
    later: &[],
};

pub(super) const REQUEST_ID: Keys = Keys {
    built: &["header", "trust_incoming"],
    later: &[],
};

pub(super) const TRACING: Keys = Keys {
    built: &["otlp_endpoint", "sample_ratio", "service_name"],
    later: &[],
};

pub(super) const ACCESS_LOG: Keys = Keys {
    built: &[
        "output",
        "format",
        "exclude_paths",
        "redact_query",
        "redact_ip",
    ],
    later: &[],
};

pub(super) const LOG: Keys = Keys {
    built: &["level", "format"],
    later: &[],
};

pub(super) const ADMIN: Keys = Keys {
    built: &["address", "ui", "token_file", "metrics"],
    later: &[],
};

pub(super) const ADMIN_METRICS: Keys = Keys {
    built: &["path"],
    later: &["per_client_ip"],
};

pub(super) const RELOAD: Keys = Keys {
    built: &["watch", "debounce"],
    later: &[],
};

pub(super) const SHUTDOWN: Keys = Keys {
    built: &["grace_period", "readiness_delay"],
    later: &[],
};

pub(super) const RUNTIME: Keys = Keys {
    built: &["worker_threads"],
    later: &[],
};

// Of a file of cases.

pub(super) const CASES: Keys = Keys {
    built: &["cases"],
    later: &[],
};

pub(super) const CASE: Keys = Keys {
    built: &[
        "name",
        "listener",
        "peer",
        "proxy_protocol",
        "headers",
        "expect",
    ],
    later: &[],
};

pub(super) const EXPECT: Keys = Keys {
    built: &[
        "client_ip",
        "client_ip_reason",
        "client_ip_source",
        "forged",
        "sent",
    ],
    later: &[],
};

/// Words of the interface that a `choice` knows and refuses.
pub(super) mod words {
    pub(crate) const PROTOCOLS_LATER: &[&str] = &["h3"];
    pub(crate) const POLICY_LATER: &[&str] = &[
        "least_connections",
        "random_two",
        "client_ip_hash",
        "cookie",
    ];
}
