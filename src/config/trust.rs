//! Who may set the client address, in a line for people: `run` says it at every start.

use super::value::Value;

/// Reads the effective tree, where presets still have their names.
pub(super) fn summary(effective: &Value) -> String {
    let Some(Value::Map(listeners)) = effective.get("listeners") else {
        return String::new();
    };
    let mut said: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, listener) in listeners {
        let senders = listener
            .get("proxy_protocol")
            .and_then(|rule| rule.get("from"));
        let own = listener.get("client_ip").or(effective.get("client_ip"));
        let says = match (own, senders.map(Value::texts)) {
            (Some(own), senders) => block(own, &senders.unwrap_or_default()),
            (None, _) => String::new(),
        };
        match said.iter_mut().find(|(known, _)| *known == says) {
            Some((_, names)) => names.push(name),
            None => said.push((says, vec![name])),
        }
    }
    match said.as_slice() {
        [(says, _)] => says.clone(),
        many => many
            .iter()
            .map(|(says, on)| format!("{}: {says}", on.join(", ")))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// `senders` may send PROXY headers.
fn block(block: &Value, senders: &[&str]) -> String {
    match block.text_at("source") {
        "peer" => return "nobody may set the client address (client_ip.source is peer)".to_owned(),
        "proxy_protocol" => {
            return "PROXY headers set the client address, other headers don't".to_owned();
        }
        _ => {}
    }
    if let Some(Value::Int(count)) = block.get("trusted_hops") {
        return format!(
            "{count} hops, whoever they are, may set the client address through {}",
            block.text_at("header")
        );
    }
    let files = block.get("trusted_proxies_files").map(Value::texts);
    let rules: Vec<_> = match block.get("trust") {
        Some(Value::List(rules)) => rules
            .iter()
            .map(|rule| (rule.get("from"), rule.text_at("header")))
            .collect(),
        _ => vec![(block.get("trusted_proxies"), block.text_at("header"))],
    };
    let mut rules: Vec<_> = rules
        .into_iter()
        .map(|(from, header)| (from.map(Value::texts).unwrap_or_default(), header))
        .collect();
    if let Some((first, _)) = rules.first_mut() {
        first.extend(files.unwrap_or_default());
    }
    let proxied = (!senders.is_empty()).then(|| format!("{} by PROXY headers", senders.join(", ")));
    let rules: Vec<_> = rules
        .into_iter()
        .filter(|(from, _)| !from.is_empty())
        .map(|(from, header)| format!("{} through {header}", from.join(", ")))
        .chain(proxied)
        .collect();
    if rules.is_empty() {
        "nobody may set the client address (client_ip.trusted_proxies is empty)".to_owned()
    } else {
        format!("may set the client address: {}", rules.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn summary(client_ip: &str) -> String {
        let text = format!(
            "listeners: {{ a: {{ address: \":80\" }} }}\nroutes: [{{ respond: {{}} }}]\nclient_ip: {client_ip}\n"
        );
        Config::parse(&text, "proxy.yaml", "".as_ref(), &|_| None)
            .unwrap()
            .trust_summary()
    }

    #[test]
    fn says_who_may_set_the_client_address() {
        for (client_ip, says) in [
            (
                "{}",
                "nobody may set the client address (client_ip.trusted_proxies is empty)",
            ),
            (
                "{ source: peer }",
                "nobody may set the client address (client_ip.source is peer)",
            ),
            (
                "{ source: proxy_protocol }",
                "PROXY headers set the client address, other headers don't",
            ),
            (
                "{ trusted_hops: 2, header: Forwarded }",
                "2 hops, whoever they are, may set the client address through Forwarded",
            ),
            (
                "{ trusted_proxies: [private, 203.0.113.0/24] }",
                "may set the client address: private, 203.0.113.0/24 through X-Forwarded-For",
            ),
            (
                "{ trusted_proxies: [private], trusted_proxies_files: [cdn.txt] }",
                "may set the client address: private, cdn.txt through X-Forwarded-For",
            ),
            (
                "{ trusted_proxies_files: cdn.txt, header: Forwarded }",
                "may set the client address: cdn.txt through Forwarded",
            ),
            (
                "{ trust: [{ from: private }, { from: [cloudflare], header: CF-Connecting-IP }] }",
                "may set the client address: private through X-Forwarded-For; cloudflare through CF-Connecting-IP",
            ),
        ] {
            assert_eq!(summary(client_ip), says, "{client_ip}");
        }
    }

    #[test]
    fn senders_of_proxy_headers_are_among_them() {
        let text = "\
listeners: { a: { address: \":80\", proxy_protocol: { mode: required, from: [10.0.0.0/8, unix] } } }
routes: [{ respond: {} }]
";
        let loaded = Config::parse(text, "proxy.yaml", "".as_ref(), &|_| None);
        assert_eq!(
            loaded.unwrap().trust_summary(),
            "may set the client address: 10.0.0.0/8, unix by PROXY headers"
        );
    }

    #[test]
    fn listeners_that_differ_are_named() {
        let text = "\
listeners:
  a: { address: \":80\" }
  b: { address: \":81\", client_ip: { source: peer } }
  c: { address: \":82\" }
routes: [{ respond: {} }]
";
        let loaded = Config::parse(text, "proxy.yaml", "".as_ref(), &|_| None).unwrap();
        assert_eq!(
            loaded.trust_summary(),
            "a, c: nobody may set the client address (client_ip.trusted_proxies is empty); \
             b: nobody may set the client address (client_ip.source is peer)"
        );
    }
}
