//! Recorded behaviour of nginx under ingress-nginx's configuration, case by case, against headwater's own.
//!
//! Where the two differ, a named deviation must foresee the difference and what headwater does instead.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test data is ours"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;

#[path = "vectors/case.rs"]
mod case;
#[path = "vectors/deviations.rs"]
mod deviations;
#[path = "vectors/facts.rs"]
mod facts;

use case::{Aspect, Case, Outcome, Upstream};
use facts::{Facts, trim};

#[test]
fn every_difference_from_ingress_nginx_is_foreseen() {
    let cases = case::load();
    assert_eq!(cases.len(), 1402);
    let mut matched = 0;
    let mut deviating: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        match judge(case) {
            Ok(names) if names.is_empty() => matched += 1,
            Ok(names) => names
                .iter()
                .for_each(|name| *deviating.entry(sortable(name)).or_default() += 1),
            Err(why) => wrong.push(format!("{}: {why}", case.id)),
        }
    }
    let deviations: Vec<String> = deviating
        .iter()
        .map(|(name, count)| format!("{} {count}", name.replace(' ', "")))
        .collect();
    let apart = cases.len() - matched - wrong.len();
    // Not by `println!`, which is swallowed when the test passes: the counts are worth seeing.
    writeln!(
        std::io::stdout(),
        "\nmatched {matched} / deviates {apart} by {} / wrong {}",
        deviations.join(", "),
        wrong.len()
    )
    .unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The deviations by which headwater differs in this case; none when it doesn't.
fn judge(case: &Case) -> Result<BTreeSet<&'static str>, String> {
    let facts = Facts::of(case);
    let (nginx, headwater) = (case.nginx(), case.headwater());
    match (&nginx, &headwater) {
        (Outcome::Forwarded(nginx), Outcome::Forwarded(headwater)) => {
            judge_aspects(&facts, nginx, headwater)
        }
        _ if nginx == headwater => Ok(BTreeSet::new()),
        _ => match deviations::of_outcome(&facts, &headwater) {
            Some(name) => Ok(BTreeSet::from([name])),
            None => Err(format!("{nginx:?} there, {headwater:?} here")),
        },
    }
}

fn judge_aspects(
    facts: &Facts<'_>,
    nginx: &Upstream,
    headwater: &Upstream,
) -> Result<BTreeSet<&'static str>, String> {
    let mut names = BTreeSet::new();
    let aspects: BTreeSet<Aspect> = nginx.keys().chain(headwater.keys()).copied().collect();
    for aspect in aspects {
        let (there, here) = (nginx.get(&aspect), headwater.get(&aspect));
        if same(aspect, there, here) {
            continue;
        }
        let foreseen = |deviation: &&deviations::Deviation| {
            (deviation.instead)(facts, aspect)
                .is_some_and(|expected| same(aspect, expected.as_ref(), here))
        };
        match deviations::ALL.iter().find(foreseen) {
            Some(deviation) => names.insert(deviation.name),
            None => return Err(format!("{aspect:?} {there:?} there, {here:?} here")),
        };
    }
    Ok(names)
}

/// Lists of addresses are compared as such: an address has several spellings.
fn same(aspect: Aspect, one: Option<&String>, other: Option<&String>) -> bool {
    let is_list = matches!(
        aspect,
        Aspect::Client | Aspect::RealIp | Aspect::For | Aspect::OriginalFor
    );
    let entry = |text: &str| {
        text.parse::<IpAddr>()
            .map_or(text.to_owned(), |ip| ip.to_string())
    };
    let entries = |text: &String| text.split(',').map(trim).map(entry).collect::<Vec<_>>();
    match (one, other) {
        (Some(one), Some(other)) if is_list => entries(one) == entries(other),
        _ => one == other,
    }
}

/// `D2` before `D10`.
fn sortable(name: &str) -> String {
    let (letter, number) = name.split_at(1);
    format!("{letter}{number:>2}")
}
