//! Asking a running process, at its admin interface.

use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Exit, Global, console, start};
use crate::config::{Address, Config, Problems};

/// On this machine, or close to it.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// What a process is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) method: &'static str,
    pub(super) token: Option<&'a str>,
    /// For each read and write.
    pub(super) patience: Duration,
}

/// Where to ask, and what to show there.
#[derive(Debug, Args)]
pub(super) struct Where {
    /// The admin interface, by plain HTTP, when it isn't where the configuration says
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File with its token [default: the configuration's]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Where {
    /// Whether it says anything.
    pub(super) fn is_given(&self) -> bool {
        self.url.is_some() || self.token_file.is_some()
    }

    /// The place and its token.
    pub(super) fn find(&self, global: &Global) -> Result<(Place, Option<String>), Unknown> {
        let (place, token_file) = match &self.url {
            Some(url) => (Place::of_url(url).ok_or(Unknown::Url)?, None),
            None => configured(global)?,
        };
        let token = match self.token_file.as_ref().or(token_file.as_ref()) {
            None => None,
            Some(path) => match std::fs::read_to_string(path) {
                Ok(token) => Some(token.trim().to_owned()),
                Err(error) => return Err(Unknown::Token(path.clone(), error)),
            },
        };
        Ok((place, token))
    }
}

/// Why nobody can say where to ask.
#[derive(Debug)]
pub(super) enum Unknown {
    /// The configuration can't be read.
    Config(Problems),
    /// It has no admin interface.
    NoAdmin,
    /// What was named is no place.
    Url,
    /// The token can't be read from there.
    Token(PathBuf, io::Error),
}

impl Unknown {
    /// Says why.
    pub(super) fn tell(&self, global: &Global) -> Exit {
        match self {
            // What runs would say the same of it.
            Self::Config(problems) => {
                start::show(global, start::problems_file(problems), problems);
                start::exit_for(problems)
            }
            Self::NoAdmin => failed(NO_ADMIN),
            Self::Url => {
                console::usage("--url is an http:// URL");
                Exit::Usage
            }
            Self::Token(path, error) => failed(&format!("can't read {}: {error}", path.display())),
        }
    }
}

/// Says why there is no answer.
pub(super) fn failed(message: &str) -> Exit {
    console::diagnostic(&format!("error: {message}\n"));
    Exit::Failure
}

/// What to do where a configuration has no admin interface.
pub(super) const NO_ADMIN: &str = "the configuration has no `admin` section: name a place by --url";

/// The admin interface of the configuration that `run` would take, and the file with its token.
pub(super) fn configured(global: &Global) -> Result<(Place, Option<PathBuf>), Unknown> {
    let loaded = match start::named_file(global).or_else(start::default_file) {
        Some(path) => Config::load(&path),
        None => Config::demo(),
    };
    let loaded = loaded.map_err(Unknown::Config)?;
    let admin = loaded.config.admin.ok_or(Unknown::NoAdmin)?;
    let address = admin.addresses.first().ok_or(Unknown::NoAdmin)?;
    let end = match address {
        Address::Unix(path) => End::Unix(path.clone()),
        Address::Dual(port) => End::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, *port))),
        Address::Ip(address) => End::Tcp(SocketAddr::new(reachable(address.ip()), address.port())),
    };
    let place = Place {
        end,
        host: "localhost".to_owned(),
        path: "/".to_owned(),
    };
    Ok((place, admin.token_file))
}

/// Where to connect for what listens on this address.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// What is asked, and of whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    end: End,
    host: String,
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Tcp(SocketAddr),
    Name(String),
    Unix(PathBuf),
}

/// As much of it as matters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Place {
    pub(super) fn of_url(url: &str) -> Option<Self> {
        let uri: http::Uri = url.parse().ok()?;
        let authority = uri.authority()?;
        if uri.scheme_str() != Some("http") || authority.as_str().contains('@') {
            return None;
        }
        let port = authority.port_u16().unwrap_or(80);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Some(Self {
            end: End::Name(format!("{}:{port}", authority.host())),
            host: authority.to_string(),
            path: path.to_owned(),
        })
    }

    /// The same process, at another path.
    pub(super) fn at(&self, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            ..self.clone()
        }
    }

    pub(super) fn shown(&self) -> String {
        match &self.end {
            End::Tcp(address) => address.to_string(),
            End::Name(name) => name.clone(),
            End::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    pub(super) fn ask(&self, question: &Question<'_>) -> io::Result<Answer> {
        let read = match &self.end {
            End::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(question.patience))?;
                stream.set_write_timeout(Some(question.patience))?;
                self.exchange(stream, question)?
            }
            End::Tcp(address) => self.exchange(connect([*address], question)?, question)?,
            End::Name(name) => {
                self.exchange(connect(name.to_socket_addrs()?, question)?, question)?
            }
        };
        Answer::parse(&read).ok_or_else(|| io::Error::other("what answers doesn't speak HTTP"))
    }

    fn exchange(
        &self,
        mut stream: impl io::Read + io::Write,
        question: &Question<'_>,
    ) -> io::Result<Vec<u8>> {
        let Self { host, path, .. } = self;
        let token = question.token.map_or_else(String::new, |token| {
            format!("Authorization: Bearer {token}\r\n")
        });
        let Question { method, .. } = question;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{token}Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let mut read = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut read)?;
        Ok(read)
    }
}

/// The last requests, each with its explanation, are the most.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;

fn connect(
    addresses: impl IntoIterator<Item = SocketAddr>,
    question: &Question<'_>,
) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIME) {
            Ok(stream) => {
                stream.set_read_timeout(Some(question.patience))?;
                stream.set_write_timeout(Some(question.patience))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

impl Answer {
    fn parse(read: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(read);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut words = head.strip_prefix("HTTP/1.")?.split(' ');
        words.next()?;
        Some(Self {
            status: words.next()?.get(..3)?.parse().ok()?,
            body: body.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_plain_http() {
        for (url, shown, path) in [
            ("http://127.0.0.1:9900/readyz", "127.0.0.1:9900", "/readyz"),
            ("http://[::1]:9900", "[::1]:9900", "/"),
            ("http://proxy/health?x=1", "proxy:80", "/health?x=1"),
        ] {
            let place = Place::of_url(url).unwrap();
            assert_eq!((place.shown().as_str(), place.path.as_str()), (shown, path));
        }
        for url in ["https://a/", "127.0.0.1:9900", "/readyz", "http://a@b/", ""] {
            assert_eq!(Place::of_url(url), None, "{url}");
        }
    }

    #[test]
    fn answers_have_a_status_and_a_line() {
        let answer = |text: &str| Answer::parse(text.as_bytes());
        assert_eq!(
            answer("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\ndraining\n"),
            Some(Answer {
                status: 503,
                body: "draining\n".to_owned()
            })
        );
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 2\r\n\r\n",
        ] {
            assert_eq!(answer(text), None, "{text:?}");
        }
    }
}
