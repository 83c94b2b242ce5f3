//! `headwater error`: nothing is printed with a code that nobody explains.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::headwater;

/// Codes that the source writes as a text of their own, with a file that does.
fn codes() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for word in text.split('"').filter(|word| is_code(word)) {
                found.insert(word.to_owned(), path.clone());
            }
        }
    }
    found
}

fn is_code(word: &str) -> bool {
    let digits = word.strip_prefix(['E', 'W']).unwrap_or_default();
    digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn every_code_of_the_source_is_explained() {
    let (exit, list) = headwater(".", &["error"]);
    assert_eq!(exit, 0);
    let listed: Vec<&str> = list.lines().map(|line| &line[..4]).collect();
    let codes = codes();
    assert!(codes.len() > 30, "{codes:?}");
    for (code, path) in codes {
        assert!(
            listed.contains(&code.as_str()),
            "{} has {code}, which `headwater error` doesn't know: add it to src/config/remedies.rs",
            path.display()
        );
    }
    for code in listed {
        let (exit, page) = headwater(".", &["error", code]);
        assert_eq!(exit, 0, "{code}");
        assert!(page.starts_with(&format!("{code}: ")), "{page}");
        assert!(page.contains("\nfor example\n\n    "), "{page}");
        assert!(page.contains("\nwhat to do\n\n"), "{page}");
    }
}

#[test]
fn a_code_is_found_in_any_case_and_a_wrong_one_is_a_usage_error() {
    let (exit, page) = headwater(".", &["error", "w101"]);
    assert_eq!((exit, &page[..6]), (0, "W101: "));
    let (exit, said) = headwater(".", &["error", "W999"]);
    assert_eq!(exit, 2);
    assert!(said.contains("no code `W999`"), "{said}");
}

#[test]
fn a_result_that_cannot_be_written_is_no_success() {
    for arguments in [&["presets"][..], &["error", "W101"]] {
        let full = fs::File::options().write(true).open("/dev/full");
        let output = crate::support::program()
            .args(arguments)
            .stdout(full.unwrap())
            .stderr(std::process::Stdio::piped())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(74), "{arguments:?}: {said}");
        assert!(said.contains("can't write the result"), "{said}");
    }
}
