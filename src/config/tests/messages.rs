//! The text of messages, byte for byte.

use super::*;

/// The block of the only problem.
fn block(text: &str) -> String {
    let problems = match parse(text) {
        Ok(loaded) => loaded.warnings,
        Err(problems) => problems,
    };
    problems.render(Style::Plain)
}

/// `lines` empty lines in front, so that the interesting one has the number it has in the documentation.
fn below(lines: usize, text: &str) -> String {
    format!("{}{text}", "\n".repeat(lines))
}

#[test]
fn unknown_key_shows_the_meant_one_and_the_keys_here() {
    let text = below(
        12,
        "
upstreams: { a: { builtin: whoami } }
routes: [{ upstream: a }]
listeners: { http: { address: \":8080\" } }
client_ip:
  trusted_proxys: [private]
",
    );
    assert_eq!(block(&text), "\
error[E010]: unknown key `trusted_proxys` in `client_ip`
  --> proxy.yaml:18:3
   |
18 |   trusted_proxys: [private]
   |   ^^^^^^^^^^^^^^ did you mean `trusted_proxies`?
   |
   = help: keys here: source, trust, trusted_proxies, header, trusted_proxies_files, trusted_hops, recursive,
           max_hops, on_malformed, explain_header, cluster

");
}

#[test]
fn unknown_upstream_names_the_route_and_the_meant_one() {
    let text = below(
        25,
        "
upstreams: { whoami: { builtin: whoami } }
listeners: { http: { address: \":8080\" } }
routes:
  - name: site
    upstream: whoamy
",
    );
    assert_eq!(
        block(&text),
        "\
error[E031]: route `site` sends to an upstream that does not exist
  --> proxy.yaml:31:15
   |
31 |     upstream: whoamy
   |               ^^^^^^ no upstream `whoamy`; did you mean `whoami`?

"
    );
}

#[test]
fn unquoted_ipv6_address_is_told_apart_from_other_syntax_errors() {
    let text = "\
version: 1
listeners:

  http:
    address: [::]:8080
    unknown: true
";
    assert_eq!(
        block(text),
        "\
error[E005]: a bracketed IPv6 address must be quoted in YAML
  --> proxy.yaml:5:14
   |
 5 |     address: [::]:8080
   |              ^ YAML reads `[` as the start of a list
   |
   = help: write  address: \"[::]:8080\"

"
    );
}

#[test]
fn world_wide_trust_warns() {
    let text = below(
        13,
        "
listeners: { http: { address: \":8080\" } }
upstreams: { a: { builtin: whoami } }
client_ip:
  trusted_proxies: [0.0.0.0/0]
routes: [{ upstream: a }]
",
    );
    assert_eq!(
        block(&text),
        "\
warning[W101]: every address on the internet may choose its own client address
  --> proxy.yaml:18:21
   |
18 |   trusted_proxies: [0.0.0.0/0]
   |                     ^^^^^^^^^ this was the default of ingress-nginx
   |
   = help: list your load balancer's networks, or `private` if it is on the same network
   = help: see who connects now:  headwater explain --live

"
    );
}

#[test]
fn trust_in_the_nodes_says_what_it_means() {
    let text = "
listeners: { http: { address: \":8080\" } }
client_ip:
  trusted_proxies: [private]
  cluster: { nodes: [10.41.0.0/24] }
routes: [{ respond: {} }]
";
    assert_eq!(
        block(text),
        "\
warning[W108]: visitors whose addresses a node translates may choose their client address
  --> proxy.yaml:4:21
   |
 4 |   trusted_proxies: [private]
   |                     ^^^^^^^ holds the nodes, 10.41.0.0/24
   |
   = help: list the addresses of your balancer alone

"
    );
}

#[test]
fn long_lists_are_broken_between_their_words() {
    let text = "routes: [{ respond: {} }]\nlisteners: { a: { adress: x } }\n";
    assert!(block(text).ends_with("\
   = help: keys here: address, protocols, allow_peers, deny_peers, tls, proxy_protocol, client_ip, public_port,
           redirect_to_https, reuse_port, timeouts

"), "{}", block(text));
}

#[test]
fn a_problem_without_a_place_keeps_its_reason() {
    let problems = Config::whoami(":80", None, &["nobody".to_owned()]).unwrap_err();
    assert_eq!(
        problems.render(Style::Plain),
        "error[E023]: `trusted_proxies[0]` can't hold `nobody`
   |
   = note: is not a CIDR block, an address, `unix` or a preset (loopback, private, link_local, cgnat, \
cloudflare, fastly, google_lb)

"
    );
}

#[test]
fn as_json_a_problem_has_the_same_parts() {
    let problems = parse(
        "log: { level: inf }\nlisteners: { a: { address: \":80\" } }\nroutes: [{ respond: {} }]\n",
    )
    .unwrap_err();
    assert_eq!(
        serde_json::to_string(&problems).unwrap(),
        "[{\"code\":\"E020\",\"severity\":\"error\",\"path\":\"proxy.yaml\",\"line\":1,\"column\":15,\
         \"field\":\"log.level\",\"message\":\"`level` can't be `inf`\",\"label\":\"did you mean `info`?\",\
         \"help\":[\"words here: error, warn, info, debug, trace, off\"]}]"
    );
}

#[test]
fn the_last_line_counts() {
    let problem = Problem::error(code::SYNTAX, "proxy.yaml", "");
    let mut problems = Problems::default();
    problems.extend([
        problem.clone(),
        problem.clone(),
        problem.clone(),
        problem.clone().warning(),
    ]);
    assert_eq!(
        problems.summary("proxy.yaml"),
        "proxy.yaml: 3 errors, 1 warning"
    );
    assert_eq!(
        Problems::from(problem.clone()).summary("proxy.yaml"),
        "proxy.yaml: 1 error"
    );
    assert_eq!(
        Problems::from(problem.warning()).summary("proxy.yaml"),
        "proxy.yaml: 1 warning"
    );
}

#[test]
fn colours_are_only_for_terminals() {
    let problem = Problem::error(
        code::NO_FILE,
        "proxy.yaml",
        "can't read proxy.yaml: no such file",
    );
    assert_eq!(
        problem.render(Style::Plain),
        "error[E001]: can't read proxy.yaml: no such file\n"
    );
    assert!(problem.render(Style::Colour).contains("\u{1b}["));
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let shown = block("log: { level: \"\\e[2Jx\" }\n\"a\\u0007\": 1\n");
    assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
}

#[test]
fn almost_a_word_for_the_access_log_is_not_a_file() {
    let text = "\
listeners: { http: { address: \":8080\" } }
routes: [{ respond: {} }]
access_log:
  output: stdot
  format: clf
";
    assert_eq!(
        block(text),
        "\
error[E020]: `output` can't be `stdot`
  --> proxy.yaml:4:11
   |
 4 |   output: stdot
   |           ^^^^^ did you mean `stdout`?
   |
   = help: a file of that name is written `./stdot`

error[E020]: `format` can't be `clf`
  --> proxy.yaml:5:11
   |
 5 |   format: clf
   |           ^^^
   |
   = help: words here: auto, json, combined, text

"
    );
}
