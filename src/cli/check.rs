//! `headwater check`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::console;
use super::{Exit, Format, Global, start};
use crate::config::{Config, Loaded, Problems};
use crate::control::reload;
use crate::transport::tls::SelfSigned;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The file to check [default: as `run` finds it]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Show the whole configuration with its defaults, as YAML
    #[arg(long, conflicts_with = "format")]
    print: bool,
    /// Fail when there are warnings
    #[arg(long)]
    deny_warnings: bool,
    /// Form of the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

pub(super) fn check(global: &Global, options: &Check) -> Exit {
    if options.file.is_some() && global.config.is_some() {
        console::usage("the file is named twice: as FILE and by --config");
        return Exit::Usage;
    }
    let named = options.file.clone().or_else(|| start::named_file(global));
    let Some(path) = named.or_else(start::default_file) else {
        console::diagnostic("error: no proxy.yaml here and none in /etc/headwater: name a file\n");
        return Exit::Config;
    };
    let file = path.display().to_string();
    let outcome = Config::load(&path).and_then(|loaded| {
        match reload::prepare(loaded, SelfSigned::Assume, None) {
            Ok(prepared) => Ok(prepared.loaded),
            Err(unfit) => Err(unfit.all()),
        }
    });
    let is_denied = |loaded: &Loaded| options.deny_warnings && !loaded.warnings.is_empty();
    let is_ok = outcome.as_ref().is_ok_and(|loaded| !is_denied(loaded));
    match options.format {
        Format::Json => show_json(&file, &outcome, is_ok),
        Format::Text => show_text(global, &file, &outcome, options, is_ok),
    }
    match outcome {
        Err(problems) => start::exit_for(&problems),
        Ok(_) if is_ok => Exit::Success,
        Ok(_) => Exit::Config,
    }
}

fn show_text(
    global: &Global,
    file: &str,
    outcome: &Result<Loaded, Problems>,
    options: &Check,
    is_ok: bool,
) {
    match outcome {
        Err(problems) => start::show(global, file, problems),
        Ok(loaded) => {
            console::diagnostic(&loaded.warnings.render(global.color.style()));
            let word = if is_ok {
                "ok"
            } else {
                "not ok, by --deny-warnings"
            };
            let verdict = format!("{file}: {word} ({})\n", loaded.totals());
            if options.print {
                console::diagnostic(&verdict);
                console::result(&loaded.effective());
            } else {
                console::result(&verdict);
            }
        }
    }
}

fn show_json(file: &str, outcome: &Result<Loaded, Problems>, is_ok: bool) {
    let problems = match outcome {
        Ok(loaded) => &loaded.warnings,
        Err(problems) => problems,
    };
    let report = json!({ "file": file, "ok": is_ok, "problems": problems });
    console::result(&format!("{report:#}\n"));
}
