//! What is seen: installs the operational log.
//!
//! One event per line on stderr, as text for people or as JSON for machines. stdout belongs to results and to the access
//! log.

pub mod access_log;
mod frequent;
pub mod metrics;
pub mod origins;
pub mod panics;
pub mod recent;
pub mod snat;
pub mod traces;

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::LogFormat;

/// How the operational log looks and what is in it.
#[derive(Debug, Clone)]
pub struct Options {
    /// A level, or `EnvFilter` directives such as `info,headwater::proxy=debug`.
    pub filter: String,
    /// Text or JSON.
    pub format: LogFormat,
    /// Colours in text.
    pub colour: Colour,
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// For a terminal.
    On,
    /// For everything else.
    Off,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter can't be read.
    #[error("log filter can't be read")]
    Filter(#[from] ParseError),
    /// A word of the filter is neither a level nor a part of a program.
    #[error("log filter: `{0}` is no level: off, error, warn, info, debug, trace")]
    Level(String),
    /// Something else logs already.
    #[error("a log is already installed")]
    Installed(#[from] TryInitError),
}

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// The format of the log that was installed; JSON while there is none.
pub fn format() -> LogFormat {
    FORMAT.get().copied().unwrap_or(LogFormat::Json)
}

/// Installs the log for the whole process; once.
///
/// # Errors
/// The filter can't be read, or a log is there already.
pub fn install(options: &Options) -> Result<(), Error> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(&options.filter)?)
        .with_writer(std::io::stderr);
    match options.format {
        LogFormat::Text => log
            .with_ansi(options.colour == Colour::On)
            .with_target(false)
            .finish()
            .try_init()?,
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .finish()
            .try_init()?,
    }
    // Only the first log can be installed.
    FORMAT.get_or_init(|| options.format);
    panics::log();
    Ok(())
}

/// Whether a filter can be read, for `check`.
///
/// # Errors
/// It can't.
pub fn check_filter(text: &str) -> Result<(), Error> {
    filter(text).map(|_| ())
}

fn filter(text: &str) -> Result<EnvFilter, Error> {
    if let Some(word) = text
        .split(',')
        .map(str::trim)
        .find(|word| is_misspelt(word))
    {
        return Err(Error::Level(word.to_owned()));
    }
    let levels = ["info", "debug", "trace"];
    // A level alone is about headwater: what its libraries say below `warn` is for their authors.
    if levels.contains(&text) {
        Ok(EnvFilter::try_new(format!("warn,headwater={text}"))?)
    } else {
        Ok(EnvFilter::try_new(text)?)
    }
}

/// The filter takes a word that is no level for the name of a library, and then everything else is silent.
fn is_misspelt(directive: &str) -> bool {
    let is_word = directive.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word && !directive.is_empty() && directive.parse::<LevelFilter>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_about_headwater() {
        assert_eq!(filter("debug").unwrap().to_string(), "headwater=debug,warn");
        assert_eq!(filter("error").unwrap().to_string(), "error");
        assert_eq!(
            filter("info,hyper=trace").unwrap().to_string(),
            "hyper=trace,info"
        );
    }

    #[test]
    fn filters_that_cannot_be_read_are_refused() {
        for text in ["headwater=loud", "a=b=c", "[unclosed=info"] {
            assert!(check_filter(text).is_err(), "{text}");
        }
        for text in ["warning", "bogus", "info,wran", "headwater=debug, inof"] {
            let error = check_filter(text).unwrap_err();
            assert!(matches!(error, Error::Level(_)), "{text}");
        }
        for text in [
            "off",
            "WARN",
            "warn,hyper_util=info",
            "headwater::proxy",
            "3",
        ] {
            check_filter(text).unwrap();
        }
    }
}
