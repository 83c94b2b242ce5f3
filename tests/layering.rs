//! The floors: a module may name those before it in [`ORDER`], and floor 0 stays pure.
//!
//! Reads the code as text, which is enough because the code keeps two habits, checked here as well:
//! paths into another module are written `crate::module::…`, and `super::` stays inside a module.
//! Comments and tests may name anything.

#![allow(
    clippy::expect_used,
    reason = "a test that can't read the code has to fail"
)]

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Every module, lowest first.
const ORDER: [&str; 16] = [
    "fields",
    "request",
    "client_ip",
    "balance",
    "route",
    "hop_by_hop",
    "proxy_protocol",
    "http1",
    "config",
    "telemetry",
    "transport",
    "upstream",
    "proxy",
    "control",
    "server",
    "cli",
];

/// The modules that don't name each other, the exceptions aside.
const FLOOR_0: &[&str] = ORDER.split_at(8).0;
const NEIGHBOURS: [(&str, &str); 7] = [
    ("request", "fields"),
    ("client_ip", "fields"),
    ("route", "fields"),
    ("hop_by_hop", "fields"),
    ("http1", "fields"),
    ("http1", "request"),
    ("http1", "hop_by_hop"),
];

/// What floor 0 does without.
const IMPURE: [&str; 14] = [
    "tokio",
    "hyper",
    "rustls",
    "serde_yaml",
    "tracing",
    "std::fs",
    "std::env",
    "std::thread",
    "std::{",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "Instant::now",
    "SystemTime::now",
];

const PRINTING: [&str; 5] = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];

#[test]
fn every_module_keeps_to_its_floor() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect_files(&src, &mut files).expect("the sources");
    assert!(
        files.len() > ORDER.len(),
        "only {} files in {}",
        files.len(),
        src.display()
    );

    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        let path = file
            .strip_prefix(&src)
            .expect("a file below src")
            .to_string_lossy();
        for (line, problem) in violations(&path, &text) {
            all.push(format!("src/{path}:{line}: {problem}"));
        }
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_test {
            collect_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            files.push(path);
        }
    }
    Ok(())
}

/// Line numbers and what is wrong there, for one file given by its path below `src`.
fn violations(path: &str, text: &str) -> Vec<(usize, String)> {
    if ["build.rs", "lib.rs", "main.rs"].contains(&path) {
        return Vec::new();
    }
    let segments: Vec<_> = path
        .trim_end_matches(".rs")
        .split('/')
        .filter(|s| *s != "mod")
        .collect();
    let Some(module) = segments.first().filter(|module| ORDER.contains(module)) else {
        return vec![(1, "a module without a floor".to_owned())];
    };
    let mut inline_modules = Vec::new();
    let mut found = Vec::new();
    for (line, code) in code_lines(text) {
        follow_inline_modules(&mut inline_modules, code);
        let way_out = "super::".repeat(segments.len() + inline_modules.len());
        let mut problem = |text: String| found.push((line, text));
        for named in modules_named(code) {
            if named == "{" {
                problem("several paths in one `crate::{`".to_owned());
            } else if !may_name(module, named) {
                problem(format!("{module} names {named}"));
            }
        }
        if occurs(code, &way_out) {
            problem(format!("`super::` leads out of {module}"));
        }
        if FLOOR_0.contains(module) {
            for word in IMPURE.into_iter().filter(|word| occurs(code, word)) {
                problem(format!("`{word}` on floor 0"));
            }
        }
        if path != "config/file.rs" && occurs(code, "serde_yaml") && !FLOOR_0.contains(module) {
            problem("`serde_yaml` outside config/file.rs".to_owned());
        }
        if *module != "cli" && PRINTING.iter().any(|word| occurs(code, word)) {
            problem("prints outside cli".to_owned());
        }
    }
    found
}

fn may_name(module: &str, named: &str) -> bool {
    let floor = |name| ORDER.iter().position(|known| *known == name);
    let neighbours = FLOOR_0.contains(&module) && FLOOR_0.contains(&named);
    module == named
        || NEIGHBOURS.contains(&(module, named))
        || (!neighbours && floor(named).is_some() && floor(named) < floor(module))
}

/// Keeps the indents of the `mod name {` that are open: each is one more `super::` away from the
/// root.
fn follow_inline_modules(open: &mut Vec<usize>, code: &str) {
    let indent = code.len() - code.trim_start().len();
    if code.trim_start() == "}" && open.last() == Some(&indent) {
        open.pop();
    } else if code.ends_with('{') && code.split_whitespace().any(|word| word == "mod") {
        open.push(indent);
    }
}

/// What follows each `crate::`: a module's name or an opening brace.
fn modules_named(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).map(|rest| {
        let name = rest.split(|c: char| !is_word(c)).next().unwrap_or_default();
        if name.is_empty() { "{" } else { name }
    })
}

/// Whether `word` begins anywhere in `code`: `tokio` is in `tokio_rustls::x`, not in `mytokio`.
fn occurs(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(at, _)| !code.split_at(at).0.ends_with(is_word))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The lines that are code outside tests, without comments, numbered from one.
///
/// An item under `#[cfg(test)]` ends at a line of the same indent that ends in `}` or `;`.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut test_indent = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let code = line.split("//").next().unwrap_or_default().trim_end();
        let indent = code.len() - code.trim_start().len();
        if code.trim_start().starts_with("#[cfg(test)]") {
            test_indent = Some(indent);
        }
        if test_indent.is_none() {
            return Some((index + 1, code));
        }
        if test_indent == Some(indent) && code.ends_with(['}', ';']) {
            test_indent = None;
        }
        None
    })
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn planted_violations_are_found() {
    for (path, text, expected) in [
        (
            "config/mod.rs",
            "use crate::proxy::Proxy;",
            "config names proxy",
        ),
        (
            "cli/mod.rs",
            "\nfn f() { crate::main::g() }",
            "cli names main",
        ),
        (
            "route.rs",
            "use crate::client_ip::Addr;",
            "route names client_ip",
        ),
        (
            "hop_by_hop.rs",
            "pub(crate) use crate::http1;",
            "hop_by_hop names http1",
        ),
        (
            "proxy/mod.rs",
            "use crate::{route, server};",
            "several paths in one `crate::{`",
        ),
        (
            "route.rs",
            "use super::balance;",
            "`super::` leads out of route",
        ),
        (
            "upstream/mod.rs",
            "use super::proxy;",
            "`super::` leads out of upstream",
        ),
        (
            "server/x.rs",
            "mod y {\n    use super::super::super::cli;\n}",
            "`super::` leads out of server",
        ),
        (
            "server/x.rs",
            "mod y {\n    x;\n}\nuse super::super::cli;",
            "`super::` leads out of server",
        ),
        (
            "upstream/h1/body.rs",
            "use super::super::super::proxy;",
            "`super::` leads out of upstream",
        ),
        (
            "http1/chunked.rs",
            "async fn f(io: tokio::net::X) {}",
            "`tokio` on floor 0",
        ),
        ("http1/mod.rs", "use tokio_rustls::X;", "`tokio` on floor 0"),
        (
            "balance/mod.rs",
            "let now = Instant::now();",
            "`Instant::now` on floor 0",
        ),
        (
            "client_ip/mod.rs",
            "use std::{fs, io};",
            "`std::{` on floor 0",
        ),
        (
            "client_ip/mod.rs",
            "fn f() { std::env::var(\"X\"); }",
            "`std::env` on floor 0",
        ),
        (
            "client_ip/mod.rs",
            "use serde_yaml::Value;",
            "`serde_yaml` on floor 0",
        ),
        (
            "config/load.rs",
            "use serde_yaml::Value;",
            "`serde_yaml` outside config/file.rs",
        ),
        (
            "proxy/mod.rs",
            "    eprintln!(\"x\");",
            "prints outside cli",
        ),
        ("utils.rs", "", "a module without a floor"),
        (
            "route.rs",
            "#[cfg(test)]\nmod tests;\nuse crate::proxy;",
            "route names proxy",
        ),
        (
            "route.rs",
            "#[cfg(test)]\nmod tests {\n    x;\n}\nuse crate::proxy;",
            "route names proxy",
        ),
    ] {
        let found = violations(path, text);
        assert!(
            matches!(&found[..], [(_, problem)] if problem == expected),
            "{path}: {found:?}"
        );
    }
}

#[test]
fn what_is_allowed_is_not_found() {
    for (path, text) in [
        ("lib.rs", "pub mod anything; use tokio::x;"),
        (
            "proxy/mod.rs",
            "use crate::client_ip::Addr;\nuse crate::proxy::error;",
        ),
        ("http1/request.rs", "use crate::hop_by_hop::HopByHop;"),
        ("hop_by_hop.rs", "use crate::fields::Fields;"),
        ("upstream/h1/body.rs", "use super::super::pool::Pool;"),
        (
            "server/x.rs",
            "pub(super) mod y {\n    use super::super::worker;\n}",
        ),
        ("route.rs", "use std::collections::HashMap;"),
        (
            "route.rs",
            "//! [`crate::proxy`] and tokio\n/// println!\nlet a = 1; // std::fs",
        ),
        (
            "route.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::proxy;\n}",
        ),
        (
            "route.rs",
            "impl X {\n    #[cfg(test)]\n    fn f() {\n        std::fs::x();\n    }\n}",
        ),
        ("config/file.rs", "use serde_yaml::Value;"),
        ("cli/run.rs", "println!();"),
        ("telemetry/mod.rs", "my_println!(); mytokio();"),
    ] {
        assert_eq!(violations(path, text), [], "{path}: {text}");
    }
}

#[test]
fn line_numbers_are_those_of_the_file() {
    let text = "//! doc\n\n#[cfg(test)]\nuse crate::x;\nuse crate::proxy;\n";
    assert_eq!(
        violations("route.rs", text),
        [(5, "route names proxy".to_owned())]
    );
}
