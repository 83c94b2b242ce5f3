//! stdout and stderr.

use std::error::Error;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use clap::ValueEnum;

use crate::config::Style;

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Colour {
    // On a terminal, unless `NO_COLOR` is set.
    Auto,
    Always,
    Never,
}

/// Whether a result couldn't be written, which has been said.
static LOST: AtomicBool = AtomicBool::new(false);

/// A result, on stdout. A reader that went away is no error of ours: `headwater check --print | head`.
pub(super) fn result(text: &str) {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
        && !LOST.swap(true, Relaxed)
    {
        diagnostic(&format!("error: can't write the result: {error}\n"));
    }
}

/// Whether a part of the result is lost.
pub(super) fn has_lost() -> bool {
    LOST.load(Relaxed)
}

/// A diagnostic, on stderr.
pub(super) fn diagnostic(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// An error that has no place in a file, with its sources.
pub(super) fn error(error: &dyn Error) {
    let mut text = format!("error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Some libraries repeat their source in their own text.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text.push('\n');
    diagnostic(&text);
}

/// A usage error found after the arguments were read.
pub(super) fn usage(message: &str) {
    diagnostic(&format!(
        "error: {message}\n\nFor more information, try '--help'.\n"
    ));
}

impl Colour {
    /// How diagnostics look.
    pub(super) fn style(self) -> Style {
        let on = match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
                    || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                io::stderr().is_terminal() && !refused
            }
        };
        if on { Style::Colour } else { Style::Plain }
    }
}
