//! A proxy made of pingora: round robin, Host kept, X-Real-IP, X-Forwarded-For appended, X-Forwarded-Proto.
//!
//! usage: pingora-peer PLAIN TLS CERTIFICATE KEY WORKERS ENDPOINT...

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pingora_core::Result;
use pingora_core::listeners::tls::TlsSettings;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

struct Peer {
    endpoints: Vec<String>,
    next: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for Peer {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.endpoints.len();
        Ok(Box::new(HttpPeer::new(
            &self.endpoints[turn],
            false,
            String::new(),
        )))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut (),
    ) -> Result<()> {
        let client = session
            .client_addr()
            .and_then(|addr| addr.as_inet())
            .map(|addr| addr.ip().to_string())
            .unwrap_or_default();
        let chain = match request.headers.get("x-forwarded-for") {
            Some(before) => format!("{}, {client}", before.to_str().unwrap_or_default()),
            None => client.clone(),
        };
        let scheme = match session
            .digest()
            .and_then(|digest| digest.ssl_digest.as_ref())
        {
            Some(_) => "https",
            None => "http",
        };
        request.insert_header("X-Forwarded-For", chain)?;
        request.insert_header("X-Real-IP", client)?;
        request.insert_header("X-Forwarded-Proto", scheme)?;
        Ok(())
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plain, tls, certificate, key, workers, endpoints @ ..] = &arguments[..] else {
        println!("pingora-peer with pingora-proxy 0.9.1");
        return;
    };
    let conf = ServerConf {
        threads: workers.parse().expect("a number of workers"),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let peer = Peer {
        endpoints: endpoints.to_vec(),
        next: AtomicUsize::new(0),
    };
    let mut service = http_proxy_service(&Arc::clone(&server.configuration), peer);
    service.add_tcp(plain);
    let mut settings =
        TlsSettings::intermediate(certificate, key).expect("a certificate and its key");
    settings.enable_h2();
    service.add_tls_with_settings(tls, None, settings);
    server.add_service(service);
    server.run_forever();
}
