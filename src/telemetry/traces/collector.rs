//! How a collector is spoken to: one HTTP/1.1 request per message, on the exporter's own thread, which may wait.

use std::fmt;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::Method;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};

use crate::config::Collector;
use crate::http1::response;

/// Failures are told no more often than that.
const TELL: Duration = Duration::from_secs(30);

/// Of an answer, which says little.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// A collector at an address.
pub(super) struct HttpCollector {
    collector: Collector,
    timeout: Duration,
    told: Mutex<Option<Instant>>,
}

impl HttpCollector {
    pub(super) fn new(collector: &Collector, timeout: Duration) -> Self {
        Self {
            collector: collector.clone(),
            timeout,
            told: Mutex::new(None),
        }
    }

    fn send(&self, request: &Request<Bytes>) -> io::Result<Response<Bytes>> {
        let mut stream = self.connect()?;
        stream.write_all(&self.head(request))?;
        stream.write_all(request.body())?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        let answer = response(&answer).ok_or(ErrorKind::InvalidData)?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            status => {
                self.tell(&status);
                Ok(answer)
            }
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let Collector { host, port, .. } = &self.collector;
        let mut outcome = Err(ErrorKind::NotFound.into());
        for address in (host.as_str(), *port).to_socket_addrs()? {
            outcome = TcpStream::connect_timeout(&address, self.timeout);
            if outcome.is_ok() {
                break;
            }
        }
        let stream = outcome?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(stream)
    }

    fn head(&self, request: &Request<Bytes>) -> Vec<u8> {
        let mut head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n",
            self.collector.path,
            self.collector.authority(),
            request.body().len()
        )
        .into_bytes();
        for (name, value) in request.headers() {
            for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(piece);
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }

    fn tell(&self, cause: &dyn fmt::Display) {
        let Ok(mut told) = self.told.lock() else {
            return;
        };
        if told.is_none_or(|told| told.elapsed() >= TELL) {
            *told = Some(Instant::now());
            tracing::warn!(collector = %self.collector, %cause, "spans can't be sent");
        }
    }
}

/// Written by hand, as the trait's `async` is a macro's.
impl HttpClient for HttpCollector {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            self.send(&request).map_err(|error| {
                self.tell(&error);
                error.into()
            })
        })
    }
}

impl fmt::Debug for HttpCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpCollector")
            .field(&self.collector)
            .finish()
    }
}

/// The status and the body, which ends with the connection.
fn response(answer: &[u8]) -> Option<Response<Bytes>> {
    let mut answer = BytesMut::from(answer);
    let limits = response::Limits::default();
    let head = response::Reader::default().read(&mut answer, &Method::POST, &limits);
    let head = head.ok()??;
    Response::builder()
        .status(head.status)
        .body(answer.freeze())
        .ok()
}
