use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;
use crate::fields::tests::received;

fn hosts(texts: &[&str]) -> Vec<HostPattern> {
    texts
        .iter()
        .map(|text| HostPattern::parse(text).unwrap())
        .collect()
}

fn on(host: &[&str], path: PathPattern) -> Match {
    Match {
        hosts: hosts(host),
        path,
        ..Match::default()
    }
}

fn prefix(text: &str) -> PathPattern {
    PathPattern::prefix(text).unwrap()
}

fn exact(text: &str) -> PathPattern {
    PathPattern::exact(text).unwrap()
}

fn router(routes: impl IntoIterator<Item = Match>) -> Router<usize> {
    Router::new(
        routes
            .into_iter()
            .enumerate()
            .map(|(index, pattern)| (pattern, index)),
    )
}

fn find(router: &Router<usize>, host: &str, path: &str) -> Option<usize> {
    let fields = Fields::default();
    router
        .find(&Request {
            host,
            path,
            method: &Method::GET,
            fields: &fields,
        })
        .copied()
}

fn header(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
    (
        HeaderName::from_static(name),
        HeaderValue::from_static(value),
    )
}

#[test]
fn default_match_fits_every_request() {
    let router = router([Match::default()]);
    for (host, path) in [("a.test", "/x"), ("", "/"), ("a.test", "*"), ("", "")] {
        assert_eq!(find(&router, host, path), Some(0));
    }
}

#[test]
fn no_route_no_answer() {
    assert_eq!(find(&router([]), "a.test", "/"), None);
    assert_eq!(
        find(&router([on(&["a.test"], prefix("/x"))]), "a.test", "/"),
        None
    );
    assert_eq!(
        find(&router([on(&["a.test"], prefix("/"))]), "b.test", "/"),
        None
    );
}

#[test]
fn more_specific_host_wins_whatever_the_order() {
    let patterns = ["*", "*.test", "*.b.test", "a.b.test"];
    let forwards = router(patterns.iter().map(|host| on(&[host], prefix("/"))));
    let backwards = router(patterns.iter().rev().map(|host| on(&[host], prefix("/"))));
    for (host, expected) in [
        ("a.b.test", 3),
        ("A.B.Test", 3),
        ("a.b.test.", 3),
        ("c.b.test", 2),
        ("d.c.b.test", 2),
        ("b.test", 1),
        ("test", 0),
        (".test", 0),
        ("other", 0),
        ("", 0),
    ] {
        assert_eq!(find(&forwards, host, "/"), Some(expected), "{host}");
        assert_eq!(find(&backwards, host, "/"), Some(3 - expected), "{host}");
    }
}

#[test]
fn overlong_host_is_any_host() {
    let router = router([on(&["*.test"], prefix("/")), Match::default()]);
    let longest = format!("{}.test", "a".repeat(248));
    assert_eq!(find(&router, &longest, "/"), Some(0));
    assert_eq!(find(&router, &format!("{longest}."), "/"), Some(0));
    assert_eq!(find(&router, &format!("a{longest}"), "/"), Some(1));
}

#[test]
fn address_is_a_host() {
    let router = router([on(&["192.0.2.1", "[2001:DB8::1]"], prefix("/"))]);
    assert_eq!(find(&router, "192.0.2.1", "/"), Some(0));
    assert_eq!(find(&router, "[2001:db8::1]", "/"), Some(0));
}

#[test]
fn more_specific_path_wins_whatever_the_order() {
    let patterns = [
        prefix("/"),
        prefix("/api"),
        prefix("/api/v1/"),
        exact("/api"),
        exact("/api/v1/"),
    ];
    let forwards = router(patterns.iter().cloned().map(|path| on(&[], path)));
    let backwards = router(patterns.iter().rev().cloned().map(|path| on(&[], path)));
    for (path, expected) in [
        ("/", 0),
        ("/apix", 0),
        ("/ap", 0),
        ("//api", 0),
        ("/API", 0),
        ("/api", 3),
        ("/api/", 1),
        ("/api//v1", 1),
        ("/api/v", 1),
        ("/api/v1", 2),
        ("/api/v1/", 4),
        ("/api/v1/x", 2),
        ("/api/v1x", 1),
        ("*", 0),
    ] {
        assert_eq!(find(&forwards, "a.test", path), Some(expected), "{path}");
        assert_eq!(
            find(&backwards, "a.test", path),
            Some(4 - expected),
            "{path}"
        );
    }
}

#[test]
fn host_outweighs_path() {
    let router = router([
        on(&[], exact("/x")),
        on(&["*.test"], prefix("/x")),
        on(&["a.test"], prefix("/")),
    ]);
    assert_eq!(find(&router, "a.test", "/x"), Some(2));
    assert_eq!(find(&router, "b.test", "/x"), Some(1));
    assert_eq!(find(&router, "other", "/x"), Some(0));
}

#[test]
fn unmatched_path_falls_through_to_a_less_specific_host() {
    let router = router([
        on(&["a.test"], prefix("/x")),
        on(&["*.test"], prefix("/y")),
        on(&[], prefix("/z")),
    ]);
    for (path, expected) in [
        ("/x", Some(0)),
        ("/y", Some(1)),
        ("/z", Some(2)),
        ("/", None),
    ] {
        assert_eq!(find(&router, "a.test", path), expected);
    }
}

#[test]
fn more_matchers_win_and_order_breaks_ties() {
    let plain = Match::default();
    let methods = Match {
        methods: vec![Method::GET, Method::POST],
        ..Match::default()
    };
    let canary = Match {
        headers: vec![header("x-canary", "1")],
        ..Match::default()
    };
    let both = Match {
        methods: vec![Method::GET],
        ..canary.clone()
    };
    let router = router([plain, methods, canary.clone(), both, canary]);

    let with = received([("X-Canary", "0"), ("x-canary", "1")]);
    let without = received([("x-canary", "10")]);
    for (method, fields, expected) in [
        (Method::GET, &with, 3),
        (Method::POST, &with, 1),
        (Method::PUT, &with, 2),
        (Method::POST, &without, 1),
        (Method::PUT, &without, 0),
    ] {
        let request = Request {
            host: "a.test",
            path: "/",
            method: &method,
            fields,
        };
        assert_eq!(
            router.find(&request),
            Some(&expected),
            "{method} {fields:?}"
        );
    }
}

#[test]
fn unmatched_matchers_fall_through_to_less_specific_routes() {
    let post = Match {
        methods: vec![Method::POST],
        ..on(&["a.test"], exact("/x"))
    };
    let canary = Match {
        headers: vec![header("x-canary", "1")],
        ..on(&["a.test"], prefix("/"))
    };
    assert_eq!(
        find(
            &router([post, canary, on(&[], prefix("/x"))]),
            "a.test",
            "/x"
        ),
        Some(2)
    );
}

#[test]
fn refuses_patterns_that_could_not_match() {
    let overlong = "a".repeat(64);
    for (text, expected) in [
        ("", PatternError::EmptyLabel),
        (".", PatternError::EmptyLabel),
        ("*.", PatternError::HostStar),
        (".test", PatternError::EmptyLabel),
        ("a..test", PatternError::EmptyLabel),
        ("a.test..", PatternError::EmptyLabel),
        ("a.test:80", PatternError::Port),
        ("::1", PatternError::Port),
        ("[::1]:80", PatternError::HostCharacter('[')),
        ("[a.test]", PatternError::HostCharacter('[')),
        ("*a.test", PatternError::HostStar),
        ("a.*.test", PatternError::HostStar),
        ("*.*.test", PatternError::HostStar),
        ("bücher.test", PatternError::HostCharacter('ü')),
        ("a test", PatternError::HostCharacter(' ')),
        ("http://a.test", PatternError::Port),
        ("a.test/x", PatternError::HostCharacter('/')),
        (&overlong, PatternError::HostTooLong),
        (&["a"; 128].join("."), PatternError::HostTooLong),
    ] {
        assert_eq!(HostPattern::parse(text), Err(expected), "{text}");
    }
    for (text, expected) in [
        ("", PatternError::PathStart),
        ("api", PatternError::PathStart),
        ("/api/*", PatternError::PathStar),
        ("/api?x", PatternError::PathCharacter('?')),
        ("/a b", PatternError::PathCharacter(' ')),
        ("/ü", PatternError::PathCharacter('ü')),
    ] {
        assert_eq!(PathPattern::prefix(text), Err(expected), "{text}");
        assert_eq!(PathPattern::exact(text), Err(expected), "{text}");
    }
}

#[test]
fn patterns_are_kept_in_one_spelling() {
    for (text, expected) in [
        ("A.Test.", "a.test"),
        ("*.A.test", "*.a.test"),
        ("*", "*"),
        ("a_b.test", "a_b.test"),
    ] {
        assert_eq!(HostPattern::parse(text).unwrap().to_string(), expected);
    }
    assert_eq!(prefix("/api/"), PathPattern::Prefix("/api".to_owned()));
    assert_eq!(prefix("//"), PathPattern::Prefix("/".to_owned()));
    assert_eq!(exact("/api/"), PathPattern::Exact("/api/".to_owned()));
}

/// Hidden routes, each with the one that hides it.
type Pairs = &'static [(usize, usize)];

#[test]
fn names_the_routes_that_no_request_reaches() {
    let get = Match {
        methods: vec![Method::GET],
        ..on(&["a.test"], prefix("/x"))
    };
    let get_or_post = Match {
        methods: vec![Method::POST, Method::GET],
        ..get.clone()
    };
    let canary = Match {
        headers: vec![header("x-canary", "1")],
        ..Match::default()
    };
    let canary_and_more = Match {
        headers: vec![header("x-canary", "1"), header("x-more", "1")],
        ..Match::default()
    };
    let cases: [(&[Match], Pairs); 8] = [
        (
            &[Match::default(), Match::default(), Match::default()],
            &[(1, 0), (2, 0)],
        ),
        (
            &[
                on(&["a.test"], prefix("/x")),
                on(&["A.test."], prefix("/x/")),
            ],
            &[(1, 0)],
        ),
        (
            &[on(&["a.test"], prefix("/x")), on(&["a.test"], exact("/x"))],
            &[],
        ),
        (
            &[
                on(&["a.test"], prefix("/")),
                on(&["a.test", "b.test"], prefix("/")),
            ],
            &[],
        ),
        (
            &[
                on(&["a.test"], prefix("/")),
                on(&["b.test"], prefix("/")),
                on(&["a.test", "b.test"], prefix("/")),
            ],
            &[(2, 0)],
        ),
        (&[on(&["a.test", "a.test"], prefix("/"))], &[]),
        (
            &[
                get_or_post.clone(),
                get.clone(),
                on(&["a.test"], prefix("/x")),
            ],
            &[(1, 0)],
        ),
        (
            &[get, get_or_post, canary_and_more, canary.clone(), canary],
            &[(4, 3)],
        ),
    ];
    for (routes, expected) in cases {
        let shadowed = router(routes.iter().cloned()).shadowed();
        let pairs: Vec<_> = shadowed
            .iter()
            .map(|shadowed| (shadowed.route, shadowed.by))
            .collect();
        assert_eq!(pairs, expected, "{routes:?}");
    }
}

/// How specific a route is for a request, if it fits: written from the rule, walking over all
/// routes.
fn naive_find(routes: &[Match], request: &Request<'_>) -> Option<usize> {
    let host = request.host.to_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let host_rank = |pattern: &HostPattern| match pattern.to_string() {
        any if any == "*" => Some((0, 0)),
        wildcard if wildcard.starts_with('*') => {
            let before = host.strip_suffix(wildcard.trim_start_matches('*'))?;
            (!before.is_empty()).then_some((1, wildcard.len()))
        }
        exact => (exact == host).then_some((2, 0)),
    };
    let rank = |(index, route): (usize, &Match)| {
        let any = [HostPattern::parse("*").unwrap()];
        let patterns = if route.hosts.is_empty() {
            &any[..]
        } else {
            &route.hosts
        };
        let host = patterns.iter().filter_map(host_rank).max()?;
        let path = match &route.path {
            PathPattern::Exact(path) => (path == request.path).then_some((1, 0))?,
            PathPattern::Prefix(root) if root == "/" => (0, 0),
            PathPattern::Prefix(path) => {
                let rest = request.path.strip_prefix(path.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then_some((0, path.len()))?
            }
        };
        let headers_fit = route
            .headers
            .iter()
            .all(|(name, value)| request.fields.get(name) == Some(value.as_bytes()));
        let fits =
            headers_fit && (route.methods.is_empty() || route.methods.contains(request.method));
        let matchers = usize::from(!route.methods.is_empty()) + route.headers.len();
        fits.then_some((host, path, matchers, Reverse(index)))
    };
    routes
        .iter()
        .enumerate()
        .filter_map(rank)
        .max()
        .map(|(_, _, _, Reverse(index))| index)
}

fn any_match() -> impl Strategy<Value = Match> {
    let host = prop::sample::select(vec![
        "*",
        "test",
        "a.test",
        "b.a.test",
        "*.test",
        "*.a.test",
        "*.b.a.test",
    ]);
    let path = (any::<bool>(), any_path())
        .prop_map(|(is_exact, path)| if is_exact { exact(path) } else { prefix(path) });
    let methods = prop::sample::subsequence(vec![Method::GET, Method::POST], 0..=2);
    let headers = prop::sample::subsequence(
        vec![header("x-a", "1"), header("x-b", "1"), header("x-a", "2")],
        0..=2,
    );
    (prop::collection::vec(host, 0..3), path, methods, headers).prop_map(
        |(host, path, methods, headers)| Match {
            hosts: hosts(&host),
            path,
            methods,
            headers,
        },
    )
}

fn any_path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "/", "/x", "/x/", "/xy", "/x/y", "/x/y/z", "//", "/x//y",
    ])
}

fn any_request() -> impl Strategy<Value = (&'static str, &'static str, Method, Fields)> {
    let host = prop::sample::select(vec![
        "",
        "test",
        "A.Test",
        "b.a.test",
        "b.a.test.",
        "c.b.a.test",
        "c.test",
        ".test",
        "xtest",
    ]);
    let method = prop::sample::select(vec![Method::GET, Method::POST, Method::PUT]);
    let fields = prop::sample::subsequence(vec![header("x-a", "1"), header("x-b", "1")], 0..=2);
    (host, any_path(), method, fields.prop_map(Fields::from_iter))
}

proptest! {
    #[test]
    fn agrees_with_a_walk_over_all_routes(
        routes in prop::collection::vec(any_match(), 0..12),
        (host, path, method, fields) in any_request(),
    ) {
        let request = Request { host, path, method: &method, fields: &fields };
        let expected = naive_find(&routes, &request);
        prop_assert_eq!(router(routes).find(&request).copied(), expected);
    }

    #[test]
    fn shadowed_routes_are_never_found(
        routes in prop::collection::vec(any_match(), 0..12),
        (host, path, method, fields) in any_request(),
    ) {
        let router = router(routes);
        let request = Request { host, path, method: &method, fields: &fields };
        let found = router.find(&request).copied();
        prop_assert!(router.shadowed().iter().all(|shadowed| Some(shadowed.route) != found));
    }
}
