//! Files of ranges: `client_ip.trusted_proxies_files`.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::load::{self, Loaded, ReadError};
use super::problem::{Problem, Problems, Severity, code};
use crate::client_ip::PeerSet;
use crate::client_ip::ip_set::ParseCause;
use crate::client_ip::presets::preset;

/// A file that the configuration names, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The path of its key, such as `client_ip.trusted_proxies_files[0]`.
    pub field: String,
    /// Already resolved against the directory of the configuration.
    pub path: PathBuf,
}

/// Of one file, before those that follow are only counted.
const MAX_SHOWN: usize = 10;

impl Loaded {
    /// Reads the files of ranges that the configuration names; what they hold joins the first rule of each listener that
    /// goes by them. Each time from the beginning: for a configuration that was just loaded.
    ///
    /// # Errors
    /// All that is wrong with them, each with its file and line. Warnings join those of the configuration.
    pub fn read_lists(&mut self) -> Result<(), Problems> {
        let mut read = HashMap::new();
        let mut problems = Problems::default();
        for listener in &mut self.config.listeners {
            for file in &listener.trust_files {
                let set = read.entry(file.field.clone()).or_insert_with(|| {
                    let text = match load::read(&file.path) {
                        Ok(text) => text,
                        Err(error) => {
                            let (code, message) = unreadable(&file.path, &error);
                            let source = &self.source;
                            problems.push(source.problem_at(&file.field, code, &message, None));
                            return PeerSet::default();
                        }
                    };
                    let (set, found) = parse(&text, file);
                    problems.extend(found);
                    set
                });
                listener.trust.join(set);
            }
        }
        if problems.has_errors() {
            return Err(problems);
        }
        self.warnings.extend(problems);
        Ok(())
    }
}

fn unreadable(path: &Path, error: &ReadError) -> (&'static str, String) {
    let shown = path.display();
    let kind = match error {
        ReadError::Io(error) => Some(error.kind()),
        ReadError::TooLarge | ReadError::NotText => None,
    };
    match kind {
        Some(io::ErrorKind::NotFound) => (code::NEEDS_FILE, format!("no such file: {shown}")),
        Some(io::ErrorKind::PermissionDenied) => (
            code::FILE_UNREADABLE,
            format!("cannot read {shown}: permission denied"),
        ),
        _ => (code::FILE_INVALID, format!("cannot read {shown}: {error}")),
    }
}

/// One block or address on each line; `#` begins a comment.
fn parse(text: &str, file: &NamedFile) -> (PeerSet, Problems) {
    let mut problems = Problems::default();
    let mut entries = Vec::new();
    let mut omitted = 0;
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        match range(entry) {
            Ok(set) if set.addresses().is_world() => {
                problems.push(world(entry).at(file, index, line, entry));
                entries.push(entry);
            }
            Ok(_) => entries.push(entry),
            Err(cause) if problems.count(Severity::Error) < MAX_SHOWN => {
                let message = format!("a list of ranges can't hold `{entry}`");
                let problem = Problem::error(code::BAD_RANGE, "", message).label(cause);
                problems.push(problem.at(file, index, line, entry));
            }
            Err(_) => omitted += 1,
        }
    }
    let name = file.path.display().to_string();
    if omitted > 0 {
        let message = format!("{omitted} more problems aren't shown");
        problems.push(Problem::error(code::MORE, &name, message));
    }
    if entries.is_empty() && problems.is_empty() {
        // Half-written, most likely; to trust nobody at once would be a surprise.
        let problem = Problem::error(code::FILE_INVALID, &name, format!("no range in {name}"));
        problems.push(problem.help("one block or address on each line; `#` begins a comment"));
    }
    // Each of them was read before.
    (PeerSet::parse(&entries).unwrap_or_default(), problems)
}

/// A block or an address. Names are for the configuration: a list may come from elsewhere.
fn range(entry: &str) -> Result<PeerSet, String> {
    if entry == "unix" || preset(entry).is_some() {
        return Err("write it into the configuration".to_owned());
    }
    PeerSet::parse(&[entry]).map_err(|error| match error.cause {
        ParseCause::NotAnEntry => "is not a CIDR block and not an address".to_owned(),
        host_bits @ ParseCause::HostBits(_) => host_bits.to_string(),
    })
}

fn world(entry: &str) -> Problem {
    let message = format!("`{entry}` lets every address choose its own client address");
    Problem::error(code::WORLD_TRUST, "", message)
        .warning()
        .help("see who connects now:  headwater explain --live")
}

impl Problem {
    /// In a line of a file, counted from 0, at `entry`.
    fn at(mut self, file: &NamedFile, index: usize, line: &str, entry: &str) -> Self {
        let before = line.split(entry).next().unwrap_or_default();
        self.path = file.path.display().to_string();
        self.field.clone_from(&file.field);
        self.line = Some(index + 1);
        self.column = Some(before.chars().count() + 1);
        line.clone_into(&mut self.excerpt);
        self.marked = entry.chars().count();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (PeerSet, Problems) {
        let file = NamedFile {
            field: "client_ip.trusted_proxies_files[0]".to_owned(),
            path: "lists/a.txt".into(),
        };
        parse(text, &file)
    }

    fn found(text: &str) -> Vec<(&'static str, usize, usize)> {
        let place = |problem: &Problem| {
            (
                problem.code,
                problem.line.unwrap_or(0),
                problem.column.unwrap_or(0),
            )
        };
        read(text).1.iter().map(place).collect()
    }

    #[test]
    fn a_line_is_a_range_and_a_comment() {
        let (set, problems) = read(
            "\u{feff}# of the CDN\r\n203.0.113.0/24 # Europe\r\n\r\n  2001:db8::/32\n198.51.100.7",
        );
        assert!(problems.is_empty(), "{problems:?}");
        for (ip, is_in) in [
            ("203.0.113.9", true),
            ("2001:db8::1", true),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
        ] {
            assert_eq!(set.contains(ip.parse().unwrap()), is_in, "{ip}");
        }
        let ip = "203.0.113.9".parse().unwrap();
        assert_eq!(set.entry_for(ip), Some("203.0.113.0/24"));
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        for (text, expected) in [
            ("10.0.0.0/8\n <html>\n", vec![("E023", 2, 2)]),
            ("10.0.0.1/8", vec![("E023", 1, 1)]),
            ("private\nunix", vec![("E023", 1, 1), ("E023", 2, 1)]),
            ("", vec![("E042", 0, 0)]),
            ("# nothing\n", vec![("E042", 0, 0)]),
            ("10.0.0.0/8\n::/0", vec![("W101", 2, 1)]),
        ] {
            assert_eq!(found(text), expected, "{text}");
        }
        let many = found(&"x\n".repeat(15));
        assert_eq!(many.len(), MAX_SHOWN + 1);
        assert_eq!(many.last(), Some(&("E099", 0, 0)));
    }

    #[test]
    fn a_problem_shows_the_line() {
        let (_, problems) = read("# list\n10.0.0.1/8\n");
        let shown = problems.render(super::super::Style::Plain);
        assert_eq!(
            shown,
            "\
error[E023]: a list of ranges can't hold `10.0.0.1/8`
  --> lists/a.txt:2:1
   |
 2 | 10.0.0.1/8
   | ^^^^^^^^^^ has host bits set: write `10.0.0.0/8`, or the address alone

"
        );
    }
}
