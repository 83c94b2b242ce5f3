use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const WITH_TLS: &str = "\
listeners: { https: { address: \":8443\", tls: { certificates: [{ cert: a.crt, key: a.key }] } } }
routes: [{ respond: {} }]
";

/// A directory with a certificate in `a.crt` and `a.key`, and a configuration that names them.
struct Site(TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(TempDir::new().unwrap());
        site.write_pair("a.crt", "a.key");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write_pair(&self, cert: &str, key: &str) {
        let made = rcgen::generate_simple_self_signed(["site.test".to_owned()]).unwrap();
        fs::write(self.path(cert), made.cert.pem()).unwrap();
        fs::write(self.path(key), made.signing_key.serialize_pem()).unwrap();
    }

    fn prepare(&self, text: &str, before: Option<&Prepared>) -> Result<Prepared, Box<Unfit>> {
        prepare(loaded(text, self.0.path()), SelfSigned::Assume, before)
    }
}

fn loaded(text: &str, dir: &Path) -> Loaded {
    Config::parse(text, "proxy.yaml", dir, &|_| None).unwrap()
}

fn tls(prepared: &Prepared) -> &Arc<tls::server::Server> {
    prepared.tls[0].as_ref().unwrap()
}

#[test]
fn a_log_level_that_cannot_be_read_is_a_problem_of_the_file() {
    let text = "listeners: { a: { address: \":80\" } }\nroutes: [{ respond: {} }]\nlog: { level: \"a=b=c\" }";
    let problem = log_problem(&loaded(text, Path::new(""))).unwrap();
    assert_eq!((problem.line, problem.column), (Some(3), Some(15)));
}

#[test]
fn an_access_log_that_cannot_be_written_is_a_problem_of_the_file() {
    let site = Site::new();
    for (output, code, reason) in [
        ("none/access.log", code::NEEDS_FILE, "no such directory"),
        ("a.crt/access.log", code::FILE_UNWRITABLE, "Not a directory"),
        (".", code::FILE_INVALID, "a directory"),
        (
            "\"syslog:///dev/null\"",
            code::FILE_INVALID,
            "not a file of this kind",
        ),
    ] {
        let text = format!("{WITH_TLS}access_log:\n  output: {output}\n");
        let unfit = site.prepare(&text, None).unwrap_err();
        let problem = unfit.problems.iter().next().unwrap();
        assert_eq!(problem.code, code, "{output}");
        assert_eq!((problem.line, problem.column), (Some(4), Some(11)));
        assert!(problem.message.contains(reason), "{}", problem.message);
    }
}

#[test]
fn what_has_not_changed_is_not_made_again() {
    let site = Site::new();
    let before = site.prepare(WITH_TLS, None).unwrap();
    let text = WITH_TLS.replace("{}", "{ status: 204 }");
    let after = site.prepare(&text, Some(&before)).unwrap();
    assert!(Arc::ptr_eq(tls(&before), tls(&after)));
    assert_eq!(after.changes_since(&before), ["routes"]);
}

#[test]
fn a_pair_that_was_made_here_is_no_change() {
    let dir = TempDir::new().unwrap();
    let text = WITH_TLS.replace("a.key", "a.key, self_signed: [localhost]");
    let prepare = |before| {
        let loaded = loaded(&text, dir.path());
        prepare(loaded, SelfSigned::Make, before).unwrap()
    };
    let before = prepare(None);
    let after = prepare(Some(&before));
    assert!(Arc::ptr_eq(tls(&before), tls(&after)));
    assert_eq!(after.changes_since(&before), [""; 0]);
}

#[test]
fn a_renewed_certificate_is_a_change_and_keeps_sessions() {
    let site = Site::new();
    let before = site.prepare(WITH_TLS, None).unwrap();
    site.write_pair("a.crt", "a.key");
    let after = site.prepare(WITH_TLS, Some(&before)).unwrap();
    assert!(!Arc::ptr_eq(tls(&before), tls(&after)));
    assert!(tls(&after).resumes_those_of(tls(&before)));
    assert_eq!(
        after.changes_since(&before),
        [
            "listeners.https.tls.certificates[0].cert",
            "listeners.https.tls.certificates[0].key",
        ]
    );
}

#[test]
fn sessions_begun_under_other_settings_are_not_resumed() {
    let site = Site::new();
    let before = site.prepare(WITH_TLS, None).unwrap();
    let text = WITH_TLS.replace("tls: {", "tls: { min_version: \"1.3\",");
    let after = site.prepare(&text, Some(&before)).unwrap();
    assert!(!tls(&after).resumes_those_of(tls(&before)));
    // The listener is named once, with whatever its files hold.
    assert_eq!(after.changes_since(&before), ["listeners.https"]);
}

#[test]
fn a_key_that_belongs_to_another_certificate_is_refused() {
    let site = Site::new();
    let before = site.prepare(WITH_TLS, None).unwrap();
    site.write_pair("other.crt", "a.key");
    let unfit = site.prepare(WITH_TLS, Some(&before)).unwrap_err();
    let fields: Vec<_> = unfit.problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(fields, ["listeners.https.tls.certificates[0].key"]);
}

#[tokio::test]
async fn a_file_that_a_rejected_configuration_misses_is_waited_for() {
    let site = Site::new();
    let yaml = site.path("proxy.yaml");
    let text = format!("{WITH_TLS}reload: {{ debounce: 0ms }}\n");
    fs::write(&yaml, &text).unwrap();
    let origin = Origin::File(yaml.clone());
    let running = prepare(origin.load().unwrap(), SelfSigned::Assume, None).unwrap();
    let mut reloader = Reloader::new(origin, running);

    fs::write(&yaml, text.replace("a.", "b.")).unwrap();
    reloader.changed().await;
    assert!(reloader.attempt().await.is_err());
    assert_eq!(reloader.counts().rejected, 1);

    site.write_pair("b.crt", "b.key");
    reloader.changed().await;
    let next = reloader.attempt().await.unwrap();
    assert_eq!(next.changed, ["listeners.https"]);
    reloader.applied(next, 0);
    let counts = Counts {
        applied: 1,
        rejected: 1,
    };
    assert_eq!(reloader.counts(), counts);
}

#[tokio::test]
async fn without_a_file_nothing_changes() {
    let origin = Origin::To {
        url: "http://127.0.0.1:9000".to_owned(),
        listen: ":8080".to_owned(),
    };
    let running = prepare(origin.load().unwrap(), SelfSigned::Assume, None).unwrap();
    let mut reloader = Reloader::new(origin, running);
    assert!(reloader.attempt().await.is_err());
    assert_eq!(reloader.counts(), Counts::default());
}
