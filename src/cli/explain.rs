//! `headwater explain`: who the client of a request is, and why, without a running server.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::console;
use super::{Exit, Format, Global, start};
use crate::client_ip::emit::EmitOptions;
use crate::client_ip::explain::explain as explain_resolution;
use crate::client_ip::{
    Addr, Depth, EmitPolicy, ForwardingField, Peer, PeerSet, ProxySource, SocketPeer, TrustPolicy,
    TrustRule, resolve,
};
use crate::config::{Config, Problems};
use crate::control::explanation::as_json;

#[derive(Debug, Args)]
pub(super) struct Explain {
    /// Who opened the TCP connection: an address, with or without a port, or `unix`
    #[arg(long, value_name = "ADDRESS")]
    peer: String,
    /// Who may set the client address: CIDR, address, preset or `unix`; may be repeated
    #[arg(long, value_name = "RANGE", conflicts_with = "listener")]
    trust: Vec<String>,
    /// The header that those may set it through [default: X-Forwarded-For]
    #[arg(long, value_name = "NAME", requires = "trust")]
    header: Option<String>,
    /// Ask the configuration given by --config as this listener does [default: its first]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// A header of the request; may be repeated
    #[arg(short = 'H', value_name = "NAME: VALUE")]
    fields: Vec<String>,
    /// The source that an accepted PROXY header names
    #[arg(long, value_name = "ADDRESS")]
    proxy_protocol: Option<String>,
    /// Form of the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

pub(super) fn explain(global: &Global, options: &Explain) -> Exit {
    let question = question(options).and_then(|(peer, headers)| {
        let (trust, emit) = policies(global, options)?;
        Ok((peer, headers, trust, emit))
    });
    let (peer, headers, trust, emit) = match question {
        Ok(question) => question,
        Err(Refused::Usage(message)) => {
            console::usage(&message);
            return Exit::Usage;
        }
        Err(Refused::Config(file, problems)) => {
            start::show(global, &file, &problems);
            return start::exit_for(&problems);
        }
    };
    let resolution = resolve(&peer, &headers, &trust);
    let explanation = explain_resolution(&resolution, &emit, None);
    match options.format {
        Format::Text => console::result(&format!("{explanation}\n")),
        Format::Json => console::result(&format!("{:#}\n", as_json(&explanation))),
    }
    Exit::Success
}

/// Why there is no answer.
#[derive(Debug)]
enum Refused {
    Usage(String),
    Config(String, Problems),
}

fn question(options: &Explain) -> Result<(Peer, HeaderMap), Refused> {
    let socket = if options.peer == "unix" {
        SocketPeer::Unix
    } else {
        let address = address(&options.peer, "--peer")?;
        SocketPeer::Ip(Addr::from_socket(address), address.port())
    };
    let proxied = options
        .proxy_protocol
        .as_deref()
        .map(proxy_source)
        .transpose()?;
    let mut headers = HeaderMap::new();
    for text in &options.fields {
        let (name, value) = field(text)?;
        headers.append(name, value);
    }
    Ok((Peer { socket, proxied }, headers))
}

fn address(text: &str, flag: &str) -> Result<SocketAddr, Refused> {
    let with_port = text.parse::<SocketAddr>();
    let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    with_port
        .or_else(|_| alone())
        .map_err(|_| Refused::Usage(format!("{flag}: `{text}` isn't an address")))
}

fn proxy_source(text: &str) -> Result<ProxySource, Refused> {
    let source = address(text, "--proxy-protocol")?;
    let refused = || {
        Refused::Usage(format!(
            "--proxy-protocol: `{text}` can't be anybody's address"
        ))
    };
    let addr = Addr::new(source.ip()).ok_or_else(refused)?;
    Ok(ProxySource {
        addr,
        port: source.port(),
        version: 2,
    })
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), Refused> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        let value = HeaderValue::from_str(value.trim_matches([' ', '\t'])).ok()?;
        Some((name, value))
    });
    parsed
        .ok_or_else(|| Refused::Usage(format!("-H: `{text}` isn't a header: write 'Name: value'")))
}

/// What `--trust` and `--header` say, else what the file says, else: nobody is trusted.
fn policies(global: &Global, options: &Explain) -> Result<(TrustPolicy, EmitPolicy), Refused> {
    if options.trust.is_empty() && (global.config.is_some() || options.listener.is_some()) {
        return policies_of_file(global, options);
    }
    let from = PeerSet::parse(&options.trust)
        .map_err(|error| Refused::Usage(format!("--trust: {error}")))?;
    let name = options.header.as_deref().unwrap_or("X-Forwarded-For");
    let field = ForwardingField::parse(name)
        .map_err(|_| Refused::Usage(format!("--header: `{name}` isn't the name of a header")))?;
    let rules = if from.is_empty() {
        Vec::new()
    } else {
        vec![TrustRule { from, field }]
    };
    let trust = TrustPolicy::by_rules(rules, Depth::Full);
    let emit = EmitPolicy::new(EmitOptions::default(), [&trust]);
    Ok((trust, emit))
}

fn policies_of_file(
    global: &Global,
    options: &Explain,
) -> Result<(TrustPolicy, EmitPolicy), Refused> {
    let path = start::named_file(global).or_else(start::default_file);
    let path =
        path.ok_or_else(|| Refused::Usage("--listener needs a configuration file".to_owned()))?;
    let loaded = Config::load(&path)
        .map_err(|problems| Refused::Config(path.display().to_string(), problems))?;
    let Config {
        listeners, emit, ..
    } = loaded.config;
    let names: Vec<_> = listeners
        .iter()
        .map(|listener| listener.name.clone())
        .collect();
    let wanted = |name: &str| {
        options
            .listener
            .as_deref()
            .is_none_or(|wanted| wanted == name)
    };
    let listener = listeners
        .into_iter()
        .find(|listener| wanted(&listener.name))
        .ok_or_else(|| {
            let listener = options.listener.as_deref().unwrap_or_default();
            Refused::Usage(format!(
                "no listener `{listener}`; there are: {}",
                names.join(", ")
            ))
        })?;
    Ok((listener.trust, emit))
}
