//! A configuration, from where it comes to where it can be put to use; at start, and again when a file has changed.
//!
//! Promises that whatever is wrong with a new configuration is said, and the running one stays. Binding addresses and
//! telling the workers is the server's.

mod watch;

use std::error::Error as _;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Config, Listener, Loaded, Problem, Problems, Style, code};
use crate::control::admin::{Token, TokenError};
use crate::proxy::snapshot::TlsClients;
use crate::telemetry::{self, access_log};
use crate::transport::tls::{self, FaultKind, SelfSigned, client::SystemRoots};

use watch::{Digest, Watch};

/// Where a configuration comes from, every time.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A YAML file.
    File(PathBuf),
    /// The shipped default.
    Demo,
    /// `headwater run --to`.
    To {
        /// The service everything is sent to.
        url: String,
        /// Where to listen.
        listen: String,
    },
    /// `headwater whoami`.
    Whoami {
        /// Where to listen.
        listen: String,
        /// What the service calls itself.
        name: Option<String>,
        /// Who may set the client address.
        trust: Vec<String>,
    },
}

impl Origin {
    /// Reads it, now.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self) -> Result<Loaded, Problems> {
        match self {
            Self::File(path) => Config::load(path),
            Self::Demo => Config::demo(),
            Self::To { url, listen } => Config::to(url, listen),
            Self::Whoami {
                listen,
                name,
                trust,
            } => Config::whoami(listen, name.as_deref(), trust),
        }
    }
}

/// A configuration and what was read from the files it names: ready to be bound.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration.
    pub loaded: Loaded,
    /// In the order of its listeners.
    pub tls: Vec<Option<Arc<tls::server::Server>>>,
    /// In the order of its upstreams.
    pub upstream_tls: TlsClients,
    /// What clients of the admin interface must show.
    pub admin_token: Option<Token>,
    digests: Digests,
}

impl Prepared {
    /// Whether TLS is spoken on either side.
    pub fn speaks_tls(&self) -> bool {
        self.tls.iter().any(Option::is_some) || self.upstream_tls.iter().any(Option::is_some)
    }
}

/// A configuration that can't be put to use.
#[derive(Debug)]
pub struct Unfit {
    /// It.
    pub loaded: Loaded,
    /// At least one.
    pub problems: Problems,
}

impl Unfit {
    /// With the warnings.
    pub fn all(self) -> Problems {
        let mut problems = self.problems;
        problems.extend(self.loaded.warnings);
        problems
    }
}

/// What each named file held, by the path of its key.
type Digests = Vec<(String, PathBuf, Digest)>;

/// Reads the files a configuration names. What `before` read stays in use where nothing has changed, and TLS sessions
/// begun with it can be resumed where nothing but certificates has.
///
/// # Errors
/// Everything that is wrong with them, each at the key that names it.
pub fn prepare(
    mut loaded: Loaded,
    self_signed: SelfSigned,
    before: Option<&Prepared>,
) -> Result<Prepared, Box<Unfit>> {
    let mut problems = Problems::default();
    problems.extend(log_problem(&loaded));
    problems.extend(access_log_problem(&loaded));
    let mut digests = digests(&loaded.config);
    problems.extend(loaded.read_lists().err().into_iter().flatten());
    let mut loaded_tls = Vec::with_capacity(loaded.config.listeners.len());
    for listener in &loaded.config.listeners {
        let before = before.and_then(|before| before.tls_of(listener, &digests));
        match load_tls(listener, self_signed, before) {
            Ok(tls) => loaded_tls.push(tls),
            Err(faults) => {
                problems.extend(faults.into_iter().map(|fault| problem(&loaded, &fault)));
            }
        }
    }
    let system_roots = SystemRoots::default();
    let mut upstream_tls = Vec::with_capacity(loaded.config.upstreams.len());
    for upstream in &loaded.config.upstreams {
        match tls::client::load(upstream, &system_roots) {
            Ok(client) => upstream_tls.push(client),
            Err(faults) => {
                problems.extend(faults.into_iter().map(|fault| problem(&loaded, &fault)));
            }
        }
    }
    let admin_token = match admin_token(&loaded) {
        Ok(token) => token,
        Err(problem) => {
            problems.extend([*problem]);
            None
        }
    };
    if !problems.is_empty() {
        return Err(Box::new(Unfit { loaded, problems }));
    }
    let untimely = untimely_certificates(&loaded, &loaded_tls);
    loaded.warnings.extend(untimely);
    // What is there only now was made here.
    for (_, path, digest) in &mut digests {
        *digest = digest.or_else(|| watch::digest(path));
    }
    Ok(Prepared {
        loaded,
        tls: loaded_tls,
        upstream_tls: upstream_tls.into(),
        admin_token,
        digests,
    })
}

fn digests(config: &Config) -> Digests {
    let files = config.files().into_iter();
    files
        .map(|(field, path)| (field, path.to_owned(), watch::digest(path)))
        .collect()
}

/// TLS as it was, and whether its files still hold the same.
enum Before {
    Same(Arc<tls::server::Server>),
    Renewed(Arc<tls::server::Server>),
}

impl Prepared {
    /// What `listener`'s namesake had, if it was asked for the same. `digests` are those of now.
    fn tls_of(&self, listener: &Listener, digests: &Digests) -> Option<Before> {
        let listeners = &self.loaded.config.listeners;
        let index = listeners
            .iter()
            .position(|known| known.name == listener.name)?;
        let known = listeners.get(index)?;
        if known.tls != listener.tls || known.protocols != listener.protocols {
            return None;
        }
        let tls = Arc::clone(self.tls.get(index)?.as_ref()?);
        let prefix = format!("listeners.{}.tls.", listener.name);
        let of = |digests: &Digests| -> Vec<Digest> {
            let own = digests
                .iter()
                .filter(|(field, ..)| field.starts_with(&prefix));
            own.map(|(.., digest)| *digest).collect()
        };
        Some(if of(digests) == of(&self.digests) {
            Before::Same(tls)
        } else {
            Before::Renewed(tls)
        })
    }

    fn watch(&self, origin: &Origin) -> Watch {
        let mut watch = Watch::new(self.loaded.config.reload);
        if let Origin::File(path) = origin {
            watch.add(
                path,
                Some(watch::digest_of(self.loaded.source.text().as_bytes())),
            );
        }
        watch_files(&mut watch, &self.digests);
        watch
    }

    /// The keys that say something else than in `before`, or whose files do.
    fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = self.loaded.changes_since(&before.loaded);
        for file in &self.digests {
            let (field, ..) = file;
            let is_known = changes.iter().any(|key| {
                field
                    .strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
            });
            if !is_known && !before.digests.contains(file) {
                changes.push(field.clone());
            }
        }
        changes
    }
}

fn watch_files(watch: &mut Watch, digests: &Digests) {
    for (_, path, digest) in digests {
        watch.add(path, *digest);
    }
}

fn load_tls(
    listener: &Listener,
    self_signed: SelfSigned,
    before: Option<Before>,
) -> Result<Option<Arc<tls::server::Server>>, Vec<tls::Fault>> {
    let Some(wanted) = &listener.tls else {
        return Ok(None);
    };
    let field = format!("listeners.{}.tls", listener.name);
    let load = || tls::server::load(wanted, listener.protocols, &field, self_signed);
    Ok(Some(match before {
        None => Arc::new(load()?),
        Some(Before::Same(tls)) => tls,
        Some(Before::Renewed(before)) => Arc::new(load()?.resuming(&before)),
    }))
}

fn problem(loaded: &Loaded, fault: &tls::Fault) -> Problem {
    let code = match fault.kind {
        FaultKind::Missing => code::NEEDS_FILE,
        FaultKind::Unreadable => code::FILE_UNREADABLE,
        FaultKind::Invalid => code::FILE_INVALID,
    };
    let help = fault.help.as_deref();
    loaded
        .source
        .problem_at(&fault.field, code, &fault.message, help)
}

/// Certificates whose time is over, or hasn't begun.
fn untimely_certificates(
    loaded: &Loaded,
    servers: &[Option<Arc<tls::server::Server>>],
) -> Vec<Problem> {
    let now = jiff::Timestamp::now().as_second();
    let mut problems = Vec::new();
    for (listener, server) in loaded.config.listeners.iter().zip(servers) {
        let (Some(tls), Some(server)) = (&listener.tls, server) else {
            continue;
        };
        let certificates = tls.certificates.iter().zip(server.certificates());
        for (index, (files, facts)) in certificates.enumerate() {
            let says = match facts {
                Some(facts) if facts.not_after < now => ("ended", facts.not_after),
                Some(facts) if facts.not_before > now => ("begins", facts.not_before),
                _ => continue,
            };
            let field = format!("listeners.{}.tls.certificates[{index}].cert", listener.name);
            let message = format!(
                "the certificate in {} {} on {}",
                files.cert.display(),
                says.0,
                day(says.1)
            );
            let problem = loaded
                .source
                .problem_at(&field, code::CERTIFICATE_TIME, &message, None);
            problems.push(problem.warning().label("clients refuse it"));
        }
    }
    problems
}

/// In UTC.
fn day(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d").to_string(),
        Err(_) => "a day that no calendar has".to_owned(),
    }
}

fn admin_token(loaded: &Loaded) -> Result<Option<Token>, Box<Problem>> {
    let admin = loaded.config.admin.as_ref();
    let Some(path) = admin.and_then(|admin| admin.token_file.as_deref()) else {
        return Ok(None);
    };
    Token::load(path).map(Some).map_err(|error| {
        let shown = path.display();
        let (code, message) = match &error {
            TokenError::Io(error) => match error.kind() {
                ErrorKind::NotFound => (code::NEEDS_FILE, format!("no such file: {shown}")),
                ErrorKind::PermissionDenied => (
                    code::FILE_UNREADABLE,
                    format!("cannot read {shown}: permission denied"),
                ),
                _ => (code::FILE_INVALID, format!("cannot read {shown}: {error}")),
            },
            TokenError::Unfit => (code::FILE_INVALID, format!("no token in {shown}: {error}")),
        };
        let help = "make one:  openssl rand -hex 32 > admin.token";
        let source = &loaded.source;
        Box::new(source.problem_at("admin.token_file", code, &message, Some(help)))
    })
}

/// What is wrong with `log.level`, which only the log itself can read.
pub fn log_problem(loaded: &Loaded) -> Option<Problem> {
    let error = telemetry::check_filter(&loaded.config.log.level).err()?;
    let cause = error
        .source()
        .map_or_else(String::new, |cause| format!(": {cause}"));
    let message = format!("`level` can't be read{cause}");
    let source = &loaded.source;
    Some(source.problem_at("log.level", code::UNKNOWN_WORD, &message, None))
}

/// Why the access log can't be written.
fn access_log_problem(loaded: &Loaded) -> Option<Problem> {
    let access_log::Error { path, source } =
        access_log::check(&loaded.config.access_log.output).err()?;
    let (code, reason) = match source.kind() {
        ErrorKind::NotFound => (code::NEEDS_FILE, "no such directory".to_owned()),
        ErrorKind::IsADirectory => (code::FILE_INVALID, "a directory".to_owned()),
        ErrorKind::InvalidInput => (code::FILE_INVALID, "not a file of this kind".to_owned()),
        ErrorKind::PermissionDenied => (code::FILE_UNWRITABLE, "permission denied".to_owned()),
        _ => (code::FILE_UNWRITABLE, source.to_string()),
    };
    let message = format!("can't write {}: {reason}", path.display());
    let source = &loaded.source;
    Some(source.problem_at("access_log.output", code, &message, None))
}

/// The configuration that runs, and how it comes by its successor.
#[derive(Debug)]
pub struct Reloader {
    origin: Origin,
    running: Arc<Prepared>,
    watch: Watch,
    counts: Counts,
}

/// How attempts to reload ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// A new configuration runs.
    pub applied: u64,
    /// It was wrong, and the old one stayed.
    pub rejected: u64,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Verdict {
    /// A new configuration runs.
    Applied {
        /// The keys that say something else now.
        changed: Vec<String>,
        /// Open connections, all of which stayed.
        open_connections: usize,
        /// What could be improved in it.
        warnings: Problems,
    },
    /// Everything is as it was.
    Unchanged,
    /// It was wrong, and the old one stayed.
    Rejected(Problems),
    /// It couldn't be tried.
    Failed,
}

/// A configuration that can follow the running one.
#[derive(Debug)]
pub struct Next {
    /// It, with its files.
    pub prepared: Prepared,
    /// Keys that differ from the running one's, directly or by what a file holds.
    pub changed: Vec<String>,
}

impl Reloader {
    /// `running` came from `origin`; its files are looked at from now on.
    pub fn new(origin: Origin, running: Prepared) -> Self {
        Self {
            watch: running.watch(&origin),
            origin,
            running: Arc::new(running),
            counts: Counts::default(),
        }
    }

    /// The configuration that runs.
    pub fn running(&self) -> &Arc<Prepared> {
        &self.running
    }

    /// How attempts ended so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Waits until a file holds something else than what was read from it last. May be dropped at any time.
    pub async fn changed(&mut self) {
        self.watch.changed().await;
    }

    /// Reads everything anew, on a thread that may wait.
    ///
    /// # Errors
    /// The verdict, when there is nothing to apply; it has been told.
    pub async fn attempt(&mut self) -> Result<Next, Verdict> {
        self.watch.note().await;
        let (origin, running) = (self.origin.clone(), Arc::clone(&self.running));
        let attempt = tokio::task::spawn_blocking(move || match origin.load() {
            Ok(loaded) => prepare(loaded, SelfSigned::Make, Some(&running)).map_err(|unfit| {
                // What is wrong may be a file that is yet to come.
                (unfit.problems, digests(&unfit.loaded.config))
            }),
            Err(problems) => Err((problems, Digests::new())),
        });
        let prepared = match attempt.await {
            Ok(Ok(prepared)) => prepared,
            Ok(Err((problems, digests))) => {
                watch_files(&mut self.watch, &digests);
                return Err(self.reject(problems));
            }
            Err(error) => {
                tracing::error!(%error, "reload");
                return Err(Verdict::Failed);
            }
        };
        watch_files(&mut self.watch, &prepared.digests);
        let changed = prepared.changes_since(&self.running);
        if changed.is_empty() {
            tracing::info!("nothing to reload, everything is as it was");
            return Err(Verdict::Unchanged);
        }
        Ok(Next { prepared, changed })
    }

    /// Says why a configuration can't follow, and counts it.
    pub fn reject(&mut self, problems: Problems) -> Verdict {
        self.counts.rejected += 1;
        tracing::error!(
            rejected = self.counts.rejected,
            problems = %format_args!("\n{}", problems.render(Style::Plain)),
            "reload rejected, everything stays as it was"
        );
        Verdict::Rejected(problems)
    }

    /// `next` runs now.
    pub fn applied(&mut self, next: Next, open_connections: usize) -> Verdict {
        let Next { prepared, changed } = next;
        self.counts.applied += 1;
        tracing::info!(
            changed = %changed.join(", "),
            open_connections_kept = open_connections,
            "reload applied"
        );
        let warnings = &prepared.loaded.warnings;
        if !warnings.is_empty() {
            let warnings = format!("\n{}", warnings.render(Style::Plain));
            tracing::warn!(problems = %warnings, "the configuration can be improved");
        }
        for key in ["runtime", "log"] {
            if changed.iter().any(|changed| changed == key) {
                tracing::warn!(key, "has changed, which takes a restart to apply");
            }
        }
        let warnings = warnings.clone();
        self.watch = prepared.watch(&self.origin);
        self.running = Arc::new(prepared);
        Verdict::Applied {
            changed,
            open_connections,
            warnings,
        }
    }
}

#[cfg(test)]
mod tests;
