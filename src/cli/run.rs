//! `headwater run` and `headwater whoami`: from a configuration to a running server.

use std::time::Instant;

use clap::Args;

use super::console;
use super::{Exit, Global, start};
use crate::control::reload::Origin;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Send everything to this service, without a configuration file
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = ":8080", requires = "to")]
    listen: String,
}

pub(super) fn run(global: &Global, options: &Run) -> Exit {
    let started = Instant::now();
    let (title, origin) = if let Some(url) = &options.to {
        if global.config.is_some() {
            console::usage("--to and --config exclude each other");
            return Exit::Usage;
        }
        (
            "no configuration file".to_owned(),
            Origin::To {
                url: url.clone(),
                listen: options.listen.clone(),
            },
        )
    } else if let Some(path) = start::named_file(global).or_else(start::default_file) {
        (path.display().to_string(), Origin::File(path))
    } else {
        (
            "no proxy.yaml here: running the built-in demo".to_owned(),
            Origin::Demo,
        )
    };
    start::start(global, &title, origin, started)
}

#[derive(Debug, Args)]
pub(super) struct Whoami {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = ":8081")]
    listen: String,
    /// What the service calls itself
    #[arg(long)]
    name: Option<String>,
    /// Who may set the client address: CIDR, address, preset; may be repeated
    #[arg(long, value_name = "RANGE")]
    trust: Vec<String>,
}

pub(super) fn whoami(global: &Global, options: &Whoami) -> Exit {
    let started = Instant::now();
    if global.config.is_some() {
        console::usage("whoami takes no configuration file");
        return Exit::Usage;
    }
    let origin = Origin::Whoami {
        listen: options.listen.clone(),
        name: options.name.clone(),
        trust: options.trust.clone(),
    };
    start::start(global, "whoami", origin, started)
}
