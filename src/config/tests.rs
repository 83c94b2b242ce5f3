use std::path::Path;

use super::*;

mod messages;
mod problems;
mod shipped;

/// No variable is set.
fn nothing(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Loaded, Problems> {
    Config::parse(text, "proxy.yaml", Path::new(""), &nothing)
}
