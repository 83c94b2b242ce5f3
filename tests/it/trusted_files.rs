//! `client_ip.trusted_proxies_files`: files of ranges join the first rule, and are read again when they change.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Proxy, headwater};

const CONFIG: &str = "\
listeners:
  http: { address: \"127.0.0.1:0\" }
  other: { address: \"127.0.0.1:0\" }
  own: { address: \"127.0.0.1:0\", client_ip: { trusted_proxies: [127.0.0.3] } }
client_ip: { trusted_proxies: [127.0.0.2], trusted_proxies_files: [lists/a.txt, b.txt] }
reload: { debounce: 0s }
upstreams: { whoami: { builtin: whoami } }
routes: [{ upstream: whoami }]
";

fn directory(a: &str, b: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    let path = |file: &str| directory.path().join(file);
    fs::create_dir(path("lists")).unwrap();
    fs::write(path("lists/a.txt"), a).unwrap();
    fs::write(path("b.txt"), b).unwrap();
    fs::write(path("proxy.yaml"), CONFIG).unwrap();
    directory
}

/// Who the client is for the echo service, when this peer names another.
fn client(proxy: &Proxy, source: &str) -> String {
    let answer = proxy.client_from(source.parse().unwrap()).ask(
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 198.51.100.7\r\nconnection: close\r\n\r\n",
    );
    let line = answer
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("ClientIP: "));
    line.unwrap().to_owned()
}

#[test]
fn the_ranges_of_files_are_trusted_and_read_again() {
    let directory = directory("127.0.0.4 # here\n", "# none but one\n127.0.0.6/31\n");
    let mut proxy = Proxy::start_in(directory, CONFIG);
    let announced = proxy.announced();
    assert!(
        announced.contains("127.0.0.2, lists/a.txt, b.txt through"),
        "{announced}"
    );
    for (source, is_trusted) in [
        ("127.0.0.2", true),
        ("127.0.0.4", true),
        ("127.0.0.7", true),
        ("127.0.0.5", false),
    ] {
        let expected = if is_trusted { "198.51.100.7" } else { source };
        assert_eq!(client(&proxy, source), expected);
    }

    fs::write(proxy.path("lists/a.txt"), "127.0.0.5\n").unwrap();
    let said = proxy.says("reload applied");
    assert!(
        said.contains("client_ip.trusted_proxies_files[0]"),
        "{said}"
    );
    assert_eq!(client(&proxy, "127.0.0.5"), "198.51.100.7");
    assert_eq!(client(&proxy, "127.0.0.4"), "127.0.0.4");

    // What is wrong changes nothing, and is looked at until it is right.
    fs::write(proxy.path("b.txt"), "127.0.0.8\nnonsense\n").unwrap();
    proxy.says("b.txt:2:1");
    assert_eq!(client(&proxy, "127.0.0.8"), "127.0.0.8");
    assert_eq!(client(&proxy, "127.0.0.6"), "198.51.100.7");
    fs::remove_file(proxy.path("b.txt")).unwrap();
    proxy.says("no such file: b.txt");
    fs::write(proxy.path("b.txt"), "127.0.0.8\n").unwrap();
    proxy.says("reload applied");
    assert_eq!(client(&proxy, "127.0.0.8"), "198.51.100.7");
    assert_eq!(client(&proxy, "127.0.0.6"), "127.0.0.6");
}

#[test]
fn what_is_wrong_is_shown_with_its_file_and_line() {
    let check = |directory: &Path| headwater(directory, &["check", "proxy.yaml"]);
    let good = directory("10.0.0.0/8", "10.0.0.1");
    assert_eq!(check(good.path()).0, 0);

    let wrong = directory("# ours\n10.0.0.1/8 # typo\n", "10.0.0.1");
    let (code, said) = check(wrong.path());
    assert_eq!(code, 78);
    // Once, though two listeners go by it.
    assert_eq!(said.matches("error[E023]").count(), 1, "{said}");
    assert!(said.contains("--> lists/a.txt:2:1"), "{said}");
    assert!(said.contains("proxy.yaml: 1 error\n"), "{said}");

    let (code, said) = check(directory("10.0.0.0/8", "").path());
    assert_eq!(code, 78);
    assert!(said.contains("error[E042]: no range in b.txt"), "{said}");

    let world = directory("0.0.0.0/0", "10.0.0.1");
    let (code, said) = check(world.path());
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("warning[W101]").count(), 1, "{said}");
    assert!(said.contains("--> lists/a.txt:1:1"), "{said}");

    fs::remove_file(good.path().join("b.txt")).unwrap();
    let (code, said) = check(good.path());
    assert_eq!(code, 78);
    assert!(said.contains("error[E040]: no such file: b.txt"), "{said}");
    assert!(said.contains("--> proxy.yaml:5:"), "{said}");
}

#[test]
fn explain_knows_the_ranges_of_files() {
    let directory = directory("203.0.113.0/24", "10.0.0.1");
    let explain = |listener: &str| {
        let asked = ["explain", "-c", "proxy.yaml", "--peer", "203.0.113.9"];
        headwater(
            &directory,
            &[&asked[..], &["--listener", listener]].concat(),
        )
        .1
    };
    assert!(explain("http").contains("trusted: 203.0.113.0/24"));
    assert!(explain("other").contains("trusted: 203.0.113.0/24"));
    assert!(explain("own").contains("no rule trusts it"));
}
