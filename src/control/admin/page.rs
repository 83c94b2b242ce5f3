//! The live page: files that hold no data, so that they are the same for everybody. What they show they ask of the API.

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

impl File {
    /// What is at a path.
    pub(super) fn find(path: &str) -> Option<&'static Self> {
        FILES.iter().find(|file| file.path == path)
    }

    const fn new(path: &'static str, content_type: &'static str, text: &'static str) -> Self {
        Self {
            path,
            content_type,
            text,
        }
    }
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";

static FILES: [File; 10] = [
    File::new("/", HTML, include_str!("page/index.html")),
    File::new("/page/page.css", CSS, include_str!("page/page.css")),
    File::new("/page/icon.svg", SVG, include_str!("page/icon.svg")),
    File::new("/page/page.js", SCRIPT, include_str!("page/page.js")),
    File::new("/page/api.js", SCRIPT, include_str!("page/api.js")),
    File::new("/page/dom.js", SCRIPT, include_str!("page/dom.js")),
    File::new("/page/explain.js", SCRIPT, include_str!("page/explain.js")),
    File::new("/page/flows.js", SCRIPT, include_str!("page/flows.js")),
    File::new(
        "/page/requests.js",
        SCRIPT,
        include_str!("page/requests.js"),
    ),
    File::new("/page/state.js", SCRIPT, include_str!("page/state.js")),
];

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_BYTES: usize = 50_000;

    #[test]
    fn the_page_is_small() {
        let bytes: usize = FILES.iter().map(|file| file.text.len()).sum();
        assert!(bytes < MOST_BYTES, "{bytes}");
    }

    /// The policy would stop it, and the page would be half of one.
    #[test]
    fn nothing_is_inline_and_nothing_is_somebody_elses() {
        for file in &FILES {
            let inline = ["<style", "style=", " onclick", "javascript:", "<script>"];
            let markup = [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ];
            let foreign = file.text.replace("http://www.w3.org/2000/svg", "");
            for word in inline
                .iter()
                .chain(&markup)
                .chain(&["http://", "https://", "url("])
            {
                assert!(!foreign.contains(word), "{}: {word}", file.path);
            }
        }
    }

    #[test]
    fn every_file_that_one_of_them_names_is_there() {
        let named = FILES.iter().flat_map(|file| {
            let quoted = file.text.split(['"', '\'']);
            quoted.filter(|text| text.starts_with("/page/") || text.starts_with("./"))
        });
        let named: Vec<String> = named.map(|name| name.replace("./", "/page/")).collect();
        for name in &named {
            assert!(File::find(name).is_some(), "{name}");
        }
        for file in FILES.iter().filter(|file| file.path != "/") {
            assert!(named.iter().any(|name| name == file.path), "{}", file.path);
        }
    }
}
