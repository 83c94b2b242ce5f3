//! `headwater error`: the codes of errors and warnings, explained at length.

use std::fmt::Write as _;

use clap::Args;

use super::{Exit, console};
use crate::config::{REMEDIES, Remedy, remedy};

/// A line of text isn't longer.
const WIDTH: usize = 100;

#[derive(Debug, Args)]
pub(super) struct Explained {
    /// The code, such as W101 [default: a list of all]
    code: Option<String>,
}

pub(super) fn error(options: &Explained) -> Exit {
    let Some(code) = &options.code else {
        let list: String = REMEDIES.iter().map(line).collect();
        console::result(&list);
        return Exit::Success;
    };
    let Some(remedy) = remedy(code) else {
        console::usage(&format!("no code `{code}`: `headwater error` lists all"));
        return Exit::Usage;
    };
    console::result(&page(remedy));
    Exit::Success
}

fn line(remedy: &Remedy) -> String {
    format!("{}  {}\n", remedy.code, remedy.title)
}

fn page(remedy: &Remedy) -> String {
    let Remedy {
        code,
        title,
        meaning,
        example,
        remedy,
    } = remedy;
    let mut page = format!("{code}: {title}\n\n{}\nfor example\n\n", wrapped(meaning));
    for line in example.lines() {
        // Writing to a String can't fail.
        let _ = writeln!(page, "    {line}");
    }
    let _ = write!(page, "\nwhat to do\n\n{}", wrapped(remedy));
    page
}

/// Breaks lines between words; those that are short already stay as they are. What goes on stands under what it goes on from.
fn wrapped(text: &str) -> String {
    let mut wrapped = String::new();
    for line in text.lines() {
        let words = line.trim_start_matches(' ');
        let indent = line.len() - words.len();
        let hanging = indent + if words.starts_with("- ") { 2 } else { 0 };
        wrapped.push_str(&" ".repeat(indent));
        let mut width = indent;
        for (position, word) in words.split(' ').enumerate() {
            if position > 0 && line.len() > WIDTH && width + 1 + word.len() > WIDTH {
                wrapped.push('\n');
                wrapped.push_str(&" ".repeat(hanging));
                width = hanging;
            } else if position > 0 {
                wrapped.push(' ');
                width += 1;
            }
            wrapped.push_str(word);
            width += word.len();
        }
        wrapped.push('\n');
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_the_meaning_an_example_and_the_remedy() {
        let expected = "\
E012: a key that is there twice

YAML readers differ in which of the two they take. None is taken here.

for example

    log:
      level: info
      level: debug

what to do

Remove one of them.
";
        assert_eq!(page(remedy("e012").unwrap()), expected);
    }

    #[test]
    fn lines_break_between_words() {
        let long = "word ".repeat(50);
        let wrapped = wrapped(&format!("{}\n  short  one", long.trim()));
        assert!(wrapped.lines().all(|line| line.len() <= WIDTH));
        assert_eq!(wrapped.split_whitespace().count(), 52);
        assert!(wrapped.ends_with("\n  short  one\n"));
    }

    #[test]
    fn what_goes_on_stands_under_its_beginning() {
        let item = wrapped(&format!("  - {}", "word ".repeat(30).trim()));
        let lines: Vec<&str> = item.lines().collect();
        assert!(
            lines[0].starts_with("  - word") && lines[1].starts_with("    word"),
            "{item}"
        );
    }
}
