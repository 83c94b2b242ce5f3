//! Every transcript of README.md, run as it stands there.
//!
//! `[..]` stands for anything in a line; such a line may come several times. Ports are the demo's, wherever it really
//! listens. `? N` is an exit code.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../README.md");
const PROXY_YAML: &str = include_str!("../proxy.yaml");
const HEADWATER: &str = env!("CARGO_BIN_EXE_headwater");

/// A command and what it printed.
struct Transcript {
    command: String,
    shown: Vec<String>,
    exit: i32,
}

fn transcripts() -> Vec<Transcript> {
    let mut found: Vec<Transcript> = Vec::new();
    let mut inside = false;
    for line in README.lines() {
        if let Some(language) = line.strip_prefix("```") {
            inside = language == "console";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            found.push(Transcript {
                command: command.to_owned(),
                shown: Vec::new(),
                exit: 0,
            });
        } else if inside && let Some(code) = line.strip_prefix("? ") {
            found.last_mut().unwrap().exit = code.parse().unwrap();
        } else if inside {
            found.last_mut().unwrap().shown.push(line.to_owned());
        }
    }
    found
}

/// Splits as a shell does, as far as the README needs it.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in command.chars() {
        match character {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}

/// Columns are as wide as what is in them: white space isn't compared.
fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn fits(pattern: &str, line: &str) -> bool {
    let (pattern, line) = (squeezed(pattern), squeezed(line));
    let Some((before, after)) = pattern.split_once("[..]") else {
        return pattern == line;
    };
    line.len() >= before.len() + after.len() && line.starts_with(before) && line.ends_with(after)
}

fn assert_fits(command: &str, shown: &[String], actual: &str) {
    let mut lines = actual.trim_end().lines().peekable();
    let shown: Vec<&String> = shown.iter().collect();
    for pattern in &shown {
        let line = lines.next().unwrap_or_default();
        assert!(
            fits(pattern, line),
            "$ {command}\nREADME: {pattern}\nactual: {line}\n\n{actual}"
        );
        while pattern.contains("[..]") && lines.peek().is_some_and(|next| fits(pattern, next)) {
            lines.next();
        }
    }
    assert_eq!(
        lines.next(),
        None,
        "$ {command}\nmore than the README shows:\n{actual}"
    );
}

/// The demo, running on ports of its own.
struct Demo {
    process: Child,
    announcement: String,
    ports: Vec<(u16, String)>,
}

impl Demo {
    fn start(directory: &Path) -> Self {
        let config = PROXY_YAML
            .replace("\":8080\"", "\":0\"")
            .replace("\":8443\"", "\":0\"")
            .replace("127.0.0.1:9900", "127.0.0.1:0");
        std::fs::write(directory.join("proxy.yaml"), config).unwrap();
        let mut process = Command::new(HEADWATER)
            .args(["--log-format", "text", "run"])
            .current_dir(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut announcement = String::new();
        for line in BufReader::new(process.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            announcement.push_str(&line);
            announcement.push('\n');
            if line.starts_with("ready") {
                break;
            }
        }
        let ports = announcement
            .lines()
            .filter_map(|line| line.split_once("//")?.1.split_whitespace().next())
            .map(|authority| authority.rsplit(':').next().unwrap().parse().unwrap());
        let ports = ports
            .zip(["8080", "8443", "9900"].map(str::to_owned))
            .collect();
        Self {
            process,
            announcement,
            ports,
        }
    }

    /// With the ports the README shows.
    fn as_in_readme(&self, text: &str) -> String {
        self.ports
            .iter()
            .fold(text.to_owned(), |text, (real, shown)| {
                text.replace(&format!("localhost:{real}"), &format!("localhost:{shown}"))
                    .replace(
                        &format!("127.0.0.1:{real} "),
                        &format!("127.0.0.1:{shown} "),
                    )
                    .replace(&format!("Port: {real}\n"), &format!("Port: {shown}\n"))
            })
    }

    /// What curl would print.
    fn curl(&self, arguments: &[String]) -> String {
        let (real, _) = &self.ports[0];
        assert!(
            arguments.contains(&"localhost:8080".to_owned()),
            "{arguments:?}"
        );
        let mut request = format!(
            "GET / HTTP/1.1\r\nHost: localhost:{real}\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\n"
        );
        for pair in arguments.windows(2).filter(|pair| pair[0] == "-H") {
            request.push_str(&pair[1]);
            request.push_str("\r\n");
        }
        request += "Connection: close\r\n\r\n";
        let mut stream = TcpStream::connect(("127.0.0.1", *real)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        self.as_in_readme(&body.replace("\r\n", "\n"))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The README's minimal file with a slip in it.
fn write_typo(directory: &Path) {
    let (_, after) = README.split_once("```yaml\n").unwrap();
    let (minimal, _) = after.split_once("```").unwrap();
    let text = format!("{minimal}client_ip:\n  trusted_proxys: [private]\n");
    std::fs::write(directory.join("typo.yaml"), text).unwrap();
}

fn headwater(directory: &Path, arguments: &[String]) -> (String, i32) {
    let output = Command::new(HEADWATER)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        String::from_utf8(text).unwrap(),
        output.status.code().unwrap(),
    )
}

#[test]
fn every_transcript_is_true() {
    let directory = tempfile::tempdir().unwrap();
    write_typo(directory.path());
    let demo = Demo::start(directory.path());
    let transcripts = transcripts();
    assert!(
        transcripts.len() >= 4,
        "the README has lost its transcripts"
    );
    for Transcript {
        command,
        shown,
        exit,
    } in &transcripts
    {
        let words = words(command);
        let (actual, code) = match words[0].as_str() {
            "cargo" => (demo.as_in_readme(&demo.announcement), 0),
            "curl" => (demo.curl(&words[1..]), 0),
            "headwater" => headwater(directory.path(), &words[1..]),
            other => panic!("nobody knows how to run {other}"),
        };
        assert_fits(command, shown, &actual);
        assert_eq!(code, *exit, "$ {command}");
    }
}

#[test]
fn the_minimal_file_is_correct() {
    let directory = tempfile::tempdir().unwrap();
    let (_, after) = README.split_once("```yaml\n").unwrap();
    let (minimal, _) = after.split_once("```").unwrap();
    std::fs::write(directory.path().join("proxy.yaml"), minimal).unwrap();
    let (said, code) = headwater(directory.path(), &["check".to_owned()]);
    assert_eq!(code, 0, "{said}");
}
