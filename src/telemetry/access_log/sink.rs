//! What records are written to: a file or a stream, or a syslog daemon.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{Access, access};

use super::format::Stamp;
use crate::config::LogOutput;

/// Records tell who asked for what: they are for the owner and the group.
const FILE_MODE: u32 = 0o640;

/// How long a syslog daemon, or a stream that doesn't block, may take nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Facility local7, severity informational: RFC 5424 §6.2.1.
const PRIORITY: u8 = 23 * 8 + 6;

/// An output and what is open of it.
#[derive(Debug)]
pub(super) struct Sink {
    to: LogOutput,
    open: Option<Open>,
    /// A record was written in part: what follows must not continue its line.
    is_torn: bool,
}

#[derive(Debug)]
enum Open {
    Stream(File),
    Local(UnixDatagram),
    Remote(UdpSocket),
}

/// Records that couldn't be written.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) records: u64,
    pub(super) source: io::Error,
}

impl Sink {
    pub(super) fn new(to: LogOutput) -> Self {
        Self {
            to,
            open: None,
            is_torn: false,
        }
    }

    /// Opens it, if it isn't open.
    pub(super) fn open(&mut self) -> io::Result<()> {
        self.opened().map(drop)
    }

    /// Opens it anew. What was open stays in use when that fails.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.open = Some(open(&self.to)?);
        self.is_torn = false;
        Ok(())
    }

    /// As if its last write had been a part of a line.
    #[cfg(test)]
    pub(super) fn tear(&mut self) {
        self.is_torn = true;
    }

    /// Writes whole lines.
    ///
    /// # Errors
    /// Some of them couldn't be written, the last of `lines` among them.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failed> {
        let is_torn = self.is_torn;
        let records = |lines: &[u8]| memchr::memchr_iter(b'\n', lines).count() as u64;
        let open = self.opened().map_err(|source| Failed {
            records: records(lines),
            source,
        })?;
        if let Open::Stream(file) = open {
            if is_torn {
                write_all(file, b"\n").map_err(|(_, source)| Failed {
                    records: records(lines),
                    source,
                })?;
                self.is_torn = false;
                return self.write(lines);
            }
            return write_all(file, lines).map_err(|(written, source)| {
                let (before, after) = lines.split_at_checked(written).unwrap_or_default();
                self.is_torn = before.last().is_some_and(|byte| *byte != b'\n');
                Failed {
                    records: records(after),
                    source,
                }
            });
        }
        self.send_all(lines)
    }

    /// Sends each line as a message. One that can't be sent is lost alone, unless the daemon is gone.
    fn send_all(&mut self, lines: &[u8]) -> Result<(), Failed> {
        let mut failed: Option<Failed> = None;
        let mut message = Header::new();
        let begun = Instant::now();
        for line in lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            // A daemon that is stalled costs its patience once, not for every record.
            let is_lost = failed.is_some() && begun.elapsed() > PATIENCE;
            let sent = if is_lost {
                Err(ErrorKind::TimedOut.into())
            } else {
                self.send(message.with(line))
            };
            if let Err(source) = sent {
                let records = failed.map_or(0, |failed| failed.records) + 1;
                failed = Some(Failed { records, source });
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Sends a message; once more over a new connection, for the daemon may have been started anew.
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let first = self.opened()?.send(message);
        match first {
            Err(error) if !is_stalled(&error) => {
                self.open = None;
                self.opened()?.send(message)
            }
            outcome => outcome,
        }
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => open(&self.to)?,
        };
        Ok(self.open.insert(open))
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            LogOutput::Off => f.write_str("off"),
            LogOutput::Stdout => f.write_str("stdout"),
            LogOutput::Stderr => f.write_str("stderr"),
            LogOutput::File(path) => path.display().fmt(f),
            LogOutput::SyslogSocket(path) => write!(f, "syslog://{}", path.display()),
            LogOutput::SyslogHost { host, port } => write!(f, "syslog://{host}:{port}"),
        }
    }
}

impl Open {
    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Local(socket) => socket.send(message).map(drop),
            Self::Remote(socket) => socket.send(message).map(drop),
            Self::Stream(_) => Ok(()),
        }
    }
}

fn open(to: &LogOutput) -> io::Result<Open> {
    let copy = |stream: &dyn AsFd| stream.as_fd().try_clone_to_owned().map(File::from);
    Ok(match to {
        LogOutput::Off => Open::Stream(File::open("/dev/null")?),
        LogOutput::Stdout => Open::Stream(copy(&io::stdout())?),
        LogOutput::Stderr => Open::Stream(copy(&io::stderr())?),
        LogOutput::File(path) => Open::Stream(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(FILE_MODE)
                .open(path)?,
        ),
        LogOutput::SyslogSocket(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Open::Local(socket)
        }
        LogOutput::SyslogHost { host, port } => {
            let mut addresses = (host.as_str(), *port).to_socket_addrs()?;
            let address = addresses.next().ok_or(ErrorKind::NotFound)?;
            let any = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            Open::Remote(socket)
        }
    })
}

/// Writes everything, or says how much.
fn write_all(file: &mut File, lines: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    let mut stalled = None;
    while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(length) => {
                written += length;
                stalled = None;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Whoever started us may share a stream that doesn't block.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if stalled.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err((written, error));
                }
                thread::park_timeout(PATIENCE / 100);
            }
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

fn is_stalled(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The beginning of a syslog message (RFC 5424 §6), and room for the rest.
struct Header {
    message: Vec<u8>,
    length: usize,
}

impl Header {
    fn new() -> Self {
        let mut stamp = Stamp::default();
        stamp.set(SystemTime::now());
        let mut message = format!("<{PRIORITY}>1 ").into_bytes();
        stamp.rfc3339(&mut message);
        let name = rustix::system::uname();
        let name = name.nodename().to_bytes();
        let is_printable = |byte: &u8| byte.is_ascii_graphic();
        message.push(b' ');
        if name.is_empty() || !name.iter().all(is_printable) {
            message.push(b'-');
        } else {
            message.extend_from_slice(name);
        }
        let process = format!(" headwater {} access - ", std::process::id());
        message.extend_from_slice(process.as_bytes());
        Self {
            length: message.len(),
            message,
        }
    }

    fn with(&mut self, line: &[u8]) -> &[u8] {
        self.message.truncate(self.length);
        self.message.extend_from_slice(line);
        &self.message
    }
}

/// Why an output can't be written to, as far as that can be known without writing.
///
/// # Errors
/// What the operating system would say, and the path it is about.
pub fn check(to: &LogOutput) -> Result<(), Error> {
    let path = match to {
        LogOutput::File(path) | LogOutput::SyslogSocket(path) => path,
        LogOutput::Off | LogOutput::Stdout | LogOutput::Stderr | LogOutput::SyslogHost { .. } => {
            return Ok(());
        }
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error { path, source }
    };
    match path.metadata() {
        Ok(found) if found.is_dir() => Err(failed(path)(ErrorKind::IsADirectory.into())),
        Ok(found) if matches!(to, LogOutput::SyslogSocket(_)) != found.file_type().is_socket() => {
            Err(failed(path)(ErrorKind::InvalidInput.into()))
        }
        Ok(_) => access(path, Access::WRITE_OK).map_err(|error| failed(path)(error.into())),
        // A daemon may be started later.
        Err(error)
            if error.kind() == ErrorKind::NotFound && matches!(to, LogOutput::SyslogSocket(_)) =>
        {
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let directory = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            access(directory, Access::WRITE_OK | Access::EXEC_OK)
                .map_err(|error| failed(directory)(error.into()))
        }
        Err(error) => Err(failed(path)(error)),
    }
}

/// Why records can't be written.
#[derive(Debug, thiserror::Error)]
#[error("{} can't be written", path.display())]
pub struct Error {
    /// The file, or the directory it would be in.
    pub path: std::path::PathBuf,
    /// What is wrong with it.
    pub source: io::Error,
}
