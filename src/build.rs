//! Build script: tells the program its commit and compiler, for `--version`. Unknown where there is no git.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    // A path that isn't there would have every build run this again.
    for path in [".git/HEAD", ".git/refs/heads"] {
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    set(
        "HEADWATER_BUILD_COMMIT",
        "git",
        &["rev-parse", "--short=12", "HEAD"],
    );
    set("HEADWATER_BUILD_RUSTC", &rustc, &["--version"]);
}

/// What the environment says already (a packager's build) is left as it is.
fn set(variable: &str, program: &str, arguments: &[&str]) {
    println!("cargo::rerun-if-env-changed={variable}");
    if std::env::var_os(variable).is_some() {
        return;
    }
    let output = Command::new(program).args(arguments).output();
    if let Ok(output) = output
        && output.status.success()
        && let Ok(text) = String::from_utf8(output.stdout)
    {
        // `rustc --version` begins with its own name.
        let text = text.trim().trim_start_matches("rustc ");
        println!("cargo::rustc-env={variable}={text}");
    }
}
