//! Black-box tests: the real executable, real sockets.
//!
//! Each test starts a proxy on a port the kernel chooses, in a directory of its own, and plays both
//! the client and the upstream over raw sockets. Nothing sleeps: every read, accept and wait ends
//! at a deadline, and the proxy is killed by its own handle.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a failed assumption is a failed test"
)]

mod access_log;
mod admin;
mod admin_changes;
mod admin_requests;
mod bodies;
mod bounds;
mod client_certificates;
mod client_ip;
mod cut_responses;
mod descriptors;
mod error_codes;
mod errors;
mod exchange;
mod explain;
mod explain_header;
mod handover;
mod headers;
mod http2;
mod http2_abuse;
mod interim;
mod limits;
mod memory;
mod metrics;
mod proxy_protocol;
mod reload;
mod request_id;
mod resilience;
mod resting;
mod retries;
mod server_names;
mod service_manager;
mod shutdown;
mod support;
mod suspicions;
mod timeouts;
mod tls;
mod tls_endings;
mod tls_handshakes;
mod tls_sessions;
mod trusted_files;
mod unix;
mod upgrade;
mod upstream_h2;
mod upstream_proxy_header;
mod upstream_sessions;
mod upstream_tls;
mod upstream_websocket;
mod vanished;
mod whoami;
mod wire;
