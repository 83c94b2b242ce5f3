//! headwater: an HTTP reverse proxy that finds, forwards and proves the real client address.
//!
//! # The floors
//!
//! One order, one rule: a module may name those before it in this list, never those after.
//! `tests/layering.rs` enforces it.
//!
//! | floor | modules | about |
//! | --- | --- | --- |
//! | 0 | [`fields`], [`request`], [`client_ip`], [`balance`], [`route`], [`hop_by_hop`], [`proxy_protocol`], [`http1`] | pure: values in, values out |
//! | 1 | [`config`] | what is wanted |
//! | 2 | [`telemetry`] | what is seen |
//! | 3 | [`transport`] | bytes |
//! | 4 | [`upstream`] | the other side |
//! | 5 | [`proxy`] | the request |
//! | 6 | [`control`] | change over time |
//! | 7, 8 | [`server`], [`cli`] | assembly |
//!
//! # What always holds
//!
//! - Floor 0 opens no socket, reads no clock and writes no log; time and randomness are arguments.
//! - A request sees one immutable [`proxy::snapshot::Snapshot`] from its first byte to its last.
//! - Only [`client_ip::resolve()`] makes a [`client_ip::ClientAddr`]; nothing else decides who the client is.
//! - A worker is one thread: no lock, no file access, no name lookup on the data plane.

pub mod balance;
pub mod client_ip;
pub mod fields;
pub mod hop_by_hop;
pub mod http1;
pub mod proxy_protocol;
pub mod request;
pub mod route;

pub mod config;

pub mod telemetry;

pub mod transport;

pub mod upstream;

pub mod proxy;

pub mod control;

pub mod server;

pub mod cli;
