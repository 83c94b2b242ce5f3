//! `headwater presets`.

use clap::Args;
use serde_json::{Value, json};

use super::console;
use super::{Exit, Format};
use crate::client_ip::presets::{PRESETS, Preset, preset};

#[derive(Debug, Args)]
pub(super) struct Presets {
    /// Show the ranges of this one
    name: Option<String>,
    /// Form of the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

pub(super) fn presets(options: &Presets) -> Exit {
    let text = match &options.name {
        None => match options.format {
            Format::Text => PRESETS.iter().map(line).collect(),
            Format::Json => format!("{:#}\n", PRESETS.iter().map(as_json).collect::<Value>()),
        },
        Some(name) => {
            let Some(preset) = preset(name) else {
                let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
                console::usage(&format!(
                    "no preset `{name}`; there are: {}",
                    names.join(", ")
                ));
                return Exit::Usage;
            };
            match options.format {
                Format::Text => preset.ranges.join("\n") + "\n",
                Format::Json => format!("{:#}\n", as_json(preset)),
            }
        }
    };
    console::result(&text);
    Exit::Success
}

fn line(preset: &Preset) -> String {
    let ranges = preset.ranges.len();
    format!(
        "{:<12} {ranges:>3} ranges   {:<10}   {}\n",
        preset.name, preset.seen, preset.source
    )
}

fn as_json(preset: &Preset) -> Value {
    json!({ "name": preset.name, "source": preset.source, "seen": preset.seen, "ranges": preset.ranges })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_shown_with_its_date_and_source() {
        for (name, shown) in [
            (
                "loopback",
                "loopback       2 ranges                RFC 1122, RFC 4291\n",
            ),
            (
                "cloudflare",
                "cloudflare    22 ranges   2026-11      https://www.cloudflare.com/ips/\n",
            ),
        ] {
            assert_eq!(line(preset(name).unwrap()), shown);
        }
    }
}
