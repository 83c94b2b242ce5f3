//! Any text as proxy.yaml: no panic, and what is accepted prints as a file that means the same.
#![no_main]

use std::path::Path;

use headwater::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let parse = |text: &str| Config::parse(text, "proxy.yaml", Path::new("/nowhere"), &|_| None);
    match parse(text) {
        Ok(loaded) => {
            let printed = loaded.effective();
            let again =
                parse(&printed).unwrap_or_else(|problems| panic!("{problems:?}\n{printed}"));
            assert_eq!(again.effective(), printed);
            // All of it, and not only what is printed.
            let (first, second) = (
                format!("{:#?}", loaded.config),
                format!("{:#?}", again.config),
            );
            assert_eq!(first, second);
        }
        Err(problems) => assert!(!format!("{problems:?}").is_empty()),
    }
});
