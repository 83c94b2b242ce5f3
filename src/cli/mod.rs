//! The command line: flags, commands, exit codes. The only module that prints.
//!
//! stdout carries results; diagnostics, start-up lines and the operational log go to stderr.

mod ask;
mod check;
mod console;
mod error;
mod explain;
mod healthcheck;
mod port_owner;
mod presets;
mod reload;
mod run;
mod start;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use console::Colour;

/// Runs the program with its arguments, the first of which is its own name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let exit = match cli.command {
        Command::Run(options) => run::run(&cli.global, &options),
        Command::Check(options) => check::check(&cli.global, &options),
        Command::Explain(options) => explain::explain(&cli.global, &options),
        Command::Whoami(options) => run::whoami(&cli.global, &options),
        Command::Reload(options) => reload::reload(&cli.global, &options),
        Command::Healthcheck(options) => healthcheck::healthcheck(&cli.global, &options),
        Command::Presets(options) => presets::presets(&options),
        Command::Error(options) => error::error(&options),
    };
    let exit = match exit {
        Exit::Success if console::has_lost() => Exit::Io,
        exit => exit,
    };
    ExitCode::from(exit as u8)
}

/// How the program ends. The numbers above 2 are those of sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Success = 0,
    Failure = 1,
    Usage = 2,
    AddressInUse = 69,
    Io = 74,
    Permission = 77,
    Config = 78,
}

/// HTTP reverse proxy that finds, forwards and proves the real client address
#[derive(Debug, Parser)]
#[command(name = "headwater", version = VERSION.as_str(), arg_required_else_help = true)]
#[command(disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// The configuration file.
    // Not by clap's `env`, which would make `--to` exclude the variable, too.
    #[arg(short, long, value_name = "FILE", global = true)]
    #[arg(
        help = "Configuration file [default: ./proxy.yaml, then /etc/headwater/proxy.yaml] [env: HEADWATER_CONFIG]"
    )]
    config: Option<PathBuf>,
    /// Log errors only, and no start-up lines
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Log more: -v debug, -vv trace
    #[arg(short, long, action = ArgAction::Count, global = true)]
    verbose: u8,
    /// Form of the log
    #[arg(
        long,
        value_name = "FORMAT",
        env = "HEADWATER_LOG_FORMAT",
        global = true
    )]
    log_format: Option<LogChoice>,
    /// Coloured output
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    color: Colour,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogChoice {
    // Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// Form of a command's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the proxy
    Run(run::Run),
    /// Check a configuration: never binds, never writes
    Check(check::Check),
    /// Show how the client address of a request is found
    Explain(explain::Explain),
    /// Start an echo service that shows each request and its client address
    Whoami(run::Whoami),
    /// Have a running proxy take up its configuration: exit 0, or 78 with what is wrong
    Reload(reload::Reload),
    /// Ask a running proxy whether it is ready, for container probes: exit 0 or 1
    Healthcheck(healthcheck::Healthcheck),
    /// Show the built-in lists of address ranges
    Presets(presets::Presets),
    /// Explain the code of an error or a warning: what it means, an example, what to do
    Error(error::Explained),
}

/// For bug reports; the commit and the compiler are known when the build was told.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let features: Vec<_> = [
        ("dev-certs", cfg!(feature = "dev-certs")),
        ("otlp", cfg!(feature = "otlp")),
        ("systemd", cfg!(feature = "systemd")),
    ]
    .iter()
    .filter_map(|(name, is_built)| is_built.then_some(*name))
    .collect();
    let features = match features.as_slice() {
        [] => "none".to_owned(),
        features => features.join(" "),
    };
    format!(
        "{}\ncommit    {}\nrustc     {}\ntls       rustls with aws-lc-rs\nfeatures  {features}",
        env!("CARGO_PKG_VERSION"),
        option_env!("HEADWATER_BUILD_COMMIT").unwrap_or("unknown"),
        option_env!("HEADWATER_BUILD_RUSTC").unwrap_or("unknown"),
    )
});

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn exit_of(args: &[&str]) -> i32 {
        Cli::try_parse_from(args).unwrap_err().exit_code()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_is_a_usage_error() {
        assert_eq!(exit_of(&["headwater"]), 2);
        assert_eq!(exit_of(&["headwater", "serve"]), 2);
        assert_eq!(exit_of(&["headwater", "run", "--quiet", "--verbose"]), 2);
        assert_eq!(exit_of(&["headwater", "--version"]), 0);
        assert_eq!(exit_of(&["headwater", "help"]), 2);
    }

    #[test]
    fn global_flags_may_stand_behind_the_command() {
        let cli = Cli::try_parse_from([
            "headwater",
            "check",
            "-c",
            "a.yaml",
            "-vv",
            "--color",
            "never",
        ])
        .unwrap();
        assert_eq!(cli.global.config, Some("a.yaml".into()));
        assert_eq!(cli.global.verbose, 2);
        assert_eq!(cli.global.color, Colour::Never);
    }
}
