//! `headwater explain`: who the client of a request is, and why. Of any peer and header, of lines of an access log, of
//! cases with known answers, or of a running process.

mod cases;
mod live;
mod log;

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::ask::Where;
use super::console;
use super::{Exit, Format, Global, start};
use crate::client_ip::emit::EmitOptions;
use crate::client_ip::{Depth, EmitPolicy, ForwardingField, PeerSet, TrustPolicy, TrustRule};
use crate::config::{Config, Problems};
use crate::control::explanation::{Form, ParseError, Question, page};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("about").required(true), after_long_help = AFTER)]
pub(super) struct Explain {
    /// Who opened the TCP connection: an address, with or without a port, or `unix`
    #[arg(long, value_name = "ADDRESS", group = "about")]
    peer: Option<String>,
    /// Explain each line of an access log in JSON, `-` for standard input, by the configuration that `run` takes
    #[arg(long, value_name = "FILE", group = "about")]
    log: Option<PathBuf>,
    /// Check the answers that a YAML file expects: exit 1 when one differs
    #[arg(long, value_name = "FILE", group = "about")]
    cases: Option<PathBuf>,
    /// Explain the last requests of the running proxy
    #[arg(long, group = "about")]
    live: bool,
    /// Explain this one of its last requests
    #[arg(long, value_name = "REQUEST_ID", group = "about")]
    id: Option<String>,
    /// How many with --live
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(conflicts_with_all = ["peer", "log", "cases", "id"])]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    last: u16,
    /// Who may set the client address: CIDR, address, preset or `unix`; may be repeated
    #[arg(long, value_name = "RANGE", conflicts_with_all = ["listener", "live", "id"])]
    trust: Vec<String>,
    /// The header that those may set it through [default: X-Forwarded-For]
    #[arg(long, value_name = "NAME", requires = "trust")]
    header: Option<String>,
    /// Ask the configuration as this listener does [default: its first, or the one of the log line]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["live", "id"])]
    listener: Option<String>,
    /// A header of the request; may be repeated
    #[arg(short = 'H', value_name = "NAME: VALUE")]
    #[arg(conflicts_with_all = ["log", "cases", "live", "id"])]
    fields: Vec<String>,
    /// The source that an accepted PROXY header names; `v1/` before it: by version 1
    #[arg(long, value_name = "ADDRESS")]
    #[arg(conflicts_with_all = ["log", "cases", "live", "id"])]
    proxy_protocol: Option<String>,
    #[command(flatten)]
    place: Where,
    /// Form of the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

const AFTER: &str = "\
A file for --cases; only `peer` and one thing to expect are needed:

  cases:
    - name: a visitor behind the balancer
      listener: https                  # default: --listener, or the first
      peer: 10.0.0.5                   # as --peer takes it
      proxy_protocol: 192.0.2.1        # as --proxy-protocol takes it
      headers: { X-Forwarded-For: \"6.6.6.6, 198.51.100.7\" }   # a list of values: one line each
      expect:                          # the names and words of --format json
        client_ip: 198.51.100.7
        client_ip_reason: first_untrusted
        client_ip_source: header:x-forwarded-for
        forged: []                     # fields that are removed, all of them
        sent: { X-Real-IP: 198.51.100.7 }

With --log and --live the JSON is an object per line, with the request's id.";

pub(super) fn explain(global: &Global, options: &Explain) -> Exit {
    let is_live = options.live || options.id.is_some();
    if options.place.is_given() && !is_live {
        console::usage("--url and --token-file go with --live or --id");
        return Exit::Usage;
    }
    if let Some(id) = &options.id {
        return live::one(global, options, id);
    }
    if options.live {
        return live::last(global, options);
    }
    let outcome = Rules::of_command_line(global, options).and_then(|rules| {
        match (&options.peer, &options.log, &options.cases) {
            (Some(peer), ..) => offline(options, peer, &rules),
            (_, Some(file), _) => Ok(log::explain(global, options, file, &rules)),
            (.., Some(file)) => cases::check(options, file, &rules),
            (None, None, None) => Err(Refused::Usage("nothing to explain".to_owned())),
        }
    });
    match outcome {
        Ok(exit) => exit,
        Err(Refused::Usage(message)) => {
            console::usage(&message);
            Exit::Usage
        }
        Err(Refused::Config(file, problems)) => {
            start::show(global, &file, &problems);
            start::exit_for(&problems)
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Refused {
    Usage(String),
    Config(String, Problems),
}

impl From<ParseError> for Refused {
    fn from(error: ParseError) -> Self {
        let flag = match error {
            ParseError::Peer(_) => "--peer",
            ParseError::ProxySource(_) | ParseError::NobodysSource(_) => "--proxy-protocol",
            ParseError::Field(_) => "-H",
        };
        Self::Usage(format!("{flag}: {error}"))
    }
}

fn offline(options: &Explain, peer: &str, rules: &Rules) -> Result<Exit, Refused> {
    let mut question = Question::by(peer)?;
    if let Some(source) = &options.proxy_protocol {
        question = question.behind_proxy_header(source)?;
    }
    for field in &options.fields {
        question = question.with(field)?;
    }
    let trust = rules.of(None).map_err(Refused::Usage)?;
    let explanation = question.answer(trust, &rules.emit);
    console::result(&page(&explanation, options.form()));
    Ok(Exit::Success)
}

impl Explain {
    fn form(&self) -> Form {
        match self.format {
            Format::Text => Form::Text,
            Format::Json => Form::Json,
        }
    }
}

/// By which rules questions are answered.
#[derive(Debug)]
struct Rules {
    /// Of listeners; without a name: of any.
    trust: Vec<(Option<String>, TrustPolicy)>,
    emit: EmitPolicy,
}

impl Rules {
    /// What `--trust` and `--header` say, else what the configuration says. Only a question about a peer can do without
    /// both: then nobody is trusted.
    fn of_command_line(global: &Global, options: &Explain) -> Result<Self, Refused> {
        let is_asked = global.config.is_some() || options.listener.is_some();
        if options.trust.is_empty() && (is_asked || options.peer.is_none()) {
            return Self::of_file(global, options);
        }
        let from = PeerSet::parse(&options.trust)
            .map_err(|error| Refused::Usage(format!("--trust: {error}")))?;
        let name = options.header.as_deref().unwrap_or("X-Forwarded-For");
        let field = ForwardingField::parse(name).map_err(|_| {
            Refused::Usage(format!("--header: `{name}` isn't the name of a header"))
        })?;
        let rules = if from.is_empty() {
            Vec::new()
        } else {
            vec![TrustRule { from, field }]
        };
        let trust = TrustPolicy::by_rules(rules, Depth::Full);
        Ok(Self {
            emit: EmitPolicy::new(EmitOptions::default(), [&trust]),
            trust: vec![(None, trust)],
        })
    }

    fn of_file(global: &Global, options: &Explain) -> Result<Self, Refused> {
        let path = start::named_file(global).or_else(start::default_file);
        let path = path.ok_or_else(|| {
            Refused::Usage("no configuration here: name it by --config, or use --trust".to_owned())
        })?;
        let read = Config::load(&path).and_then(|mut loaded| {
            loaded.read_lists()?;
            Ok(loaded)
        });
        let loaded =
            read.map_err(|problems| Refused::Config(path.display().to_string(), problems))?;
        let Config {
            listeners, emit, ..
        } = loaded.config;
        let trust = listeners.into_iter();
        let mut rules = Self {
            trust: trust
                .map(|listener| (Some(listener.name), listener.trust))
                .collect(),
            emit,
        };
        if let Some(name) = &options.listener {
            let chosen = rules.of(Some(name)).map_err(Refused::Usage)?.clone();
            rules.trust = vec![(None, chosen)];
        }
        Ok(rules)
    }

    /// Those of a listener; `None`: the first.
    fn of(&self, listener: Option<&str>) -> Result<&TrustPolicy, String> {
        let applies = |known: &Option<String>| match (known.as_deref(), listener) {
            (Some(known), Some(listener)) => known == listener,
            _ => true,
        };
        let found = self.trust.iter().find(|(known, _)| applies(known));
        found.map(|(_, trust)| trust).ok_or_else(|| {
            let names: Vec<&str> = self
                .trust
                .iter()
                .filter_map(|(known, _)| known.as_deref())
                .collect();
            format!(
                "no listener `{}`; there are: {}",
                listener.unwrap_or_default(),
                names.join(", ")
            )
        })
    }
}

/// One of several explanations: texts stand apart by an empty line, JSON objects each on a line with the request's id.
/// What a text is about is told on stderr.
struct Series<'a> {
    global: &'a Global,
    form: Form,
    shown: usize,
    failed: usize,
}

impl<'a> Series<'a> {
    fn new(global: &'a Global, options: &Explain) -> Self {
        Self {
            global,
            form: options.form(),
            shown: 0,
            failed: 0,
        }
    }

    /// `text` is the explanation's page; `about` the request, for people.
    fn text(&mut self, about: &str, text: &str) {
        if self.shown > 0 {
            console::result("\n");
        }
        self.shown += 1;
        if !self.global.quiet {
            console::diagnostic(&format!("{about}\n"));
        }
        console::result(text);
    }

    fn json(&mut self, object: &serde_json::Value) {
        self.shown += 1;
        console::result(&format!("{object}\n"));
    }

    fn fail(&mut self, what: &str, why: &str) {
        self.failed += 1;
        console::diagnostic(&format!("error: {what}: {why}\n"));
    }

    fn end(&self) -> Exit {
        if self.failed == 0 {
            Exit::Success
        } else {
            Exit::Failure
        }
    }
}
