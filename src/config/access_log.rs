//! `access_log`: what is recorded about requests, how, and where.

use std::path::PathBuf;

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Where records go.
    pub output: LogOutput,
    /// `None`: as the operational log.
    pub format: Option<RecordFormat>,
    /// Requests for these paths, and for those below them, aren't recorded.
    pub exclude_paths: Vec<String>,
    /// What isn't recorded of queries.
    pub redact_query: RedactQuery,
    /// What isn't recorded of addresses.
    pub redact_ip: RedactIp,
}

/// Where access records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Nowhere: none are made.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error, where the operational log goes.
    Stderr,
    /// Appended to a file, which SIGUSR1 reopens.
    File(PathBuf),
    /// Syslog messages, to a Unix datagram socket.
    SyslogSocket(PathBuf),
    /// Syslog messages, over UDP.
    SyslogHost {
        /// A name or an address.
        host: String,
        /// UDP port.
        port: u16,
    },
}

/// How a record looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFormat {
    /// One object per line.
    Json,
    /// The combined log format, with the client's address first and the peer's last.
    Combined,
    /// For people.
    Text,
}

/// What isn't recorded of queries, those of referrers included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedactQuery {
    /// All of it.
    Whole,
    /// The values of these parameters; none when empty.
    Values(Vec<String>),
}

/// What isn't recorded of addresses, wherever they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedactIp {
    /// They are recorded whole.
    None,
    /// The host part: /24 and /48 are left.
    Truncate,
    /// All of it: what is recorded is the same for the same address, until the process ends.
    Hash,
}
