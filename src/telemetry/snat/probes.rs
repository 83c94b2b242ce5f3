//! Which requests only ask whether somebody is there.

use crate::config::Config;

/// By common practice.
const USUAL: [&str; 8] = [
    "/healthz",
    "/readyz",
    "/livez",
    "/health",
    "/healthcheck",
    "/ready",
    "/live",
    "/ping",
];

/// Paths of health checks: the usual ones, those of this configuration, and what isn't worth a line in the access log.
#[derive(Debug)]
pub struct Probes {
    checks: Vec<String>,
    excluded: Vec<String>,
}

impl Probes {
    /// As this configuration has them.
    pub fn of(config: &Config) -> Self {
        let checks = config.upstreams.iter().filter_map(|upstream| {
            let target = upstream.health_check.as_ref()?.path.as_deref()?;
            let path = target.split_once('?').map_or(target, |(path, _)| path);
            Some(path.to_owned())
        });
        let excluded = config.access_log.exclude_paths.iter();
        // `/` would be everything, and what everybody asks for.
        let is_part = |path: &String| !path.trim_end_matches('/').is_empty();
        Self {
            checks: checks.filter(is_part).collect(),
            excluded: excluded.filter(|path| is_part(path)).cloned().collect(),
        }
    }

    /// Whether requests for this path are such.
    pub fn contain(&self, path: &str) -> bool {
        let is_within = |excluded: &String| {
            path.strip_prefix(excluded.trim_end_matches('/'))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        USUAL.contains(&path)
            || self.checks.iter().any(|check| check == path)
            || self.excluded.iter().any(is_within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_checks_are_known() {
        let text = "\
listeners: { a: { address: \":80\" } }
upstreams:
  a: { endpoints: [\"127.0.0.1:1\"], health_check: { path: \"/check?deep=1\" } }
  b: { endpoints: [\"127.0.0.1:1\"], health_check: { path: / } }
routes: [{ upstream: a }, { match: { path: /b }, upstream: b }]
access_log: { exclude_paths: [/status/, /] }
";
        let loaded = Config::parse(text, "proxy.yaml", "".as_ref(), &|_| None).unwrap();
        let probes = Probes::of(&loaded.config);
        for path in ["/healthz", "/ping", "/check", "/status", "/status/x"] {
            assert!(probes.contain(path), "{path}");
        }
        for path in ["/", "/healthz/x", "/check/x", "/statusx", "/a"] {
            assert!(!probes.contain(path), "{path}");
        }
    }
}
