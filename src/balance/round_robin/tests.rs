use std::cell::Cell;

use proptest::prelude::*;

use crate::balance::{Load, Picker, Policy};

#[derive(Debug, Clone, Copy)]
struct Endpoint {
    weight: u16,
    available: bool,
}

impl Load for Endpoint {
    fn available(&self) -> bool {
        self.available
    }
    fn weight(&self) -> u16 {
        self.weight
    }
    fn in_flight(&self) -> usize {
        0
    }
}

fn up(weights: &[u16]) -> Vec<Endpoint> {
    weights
        .iter()
        .map(|weight| Endpoint {
            weight: *weight,
            available: true,
        })
        .collect()
}

fn picker(seed: usize) -> Picker {
    Picker::new(Policy::RoundRobin, seed)
}

fn any_of(_index: usize) -> bool {
    true
}

fn picks(picker: &mut Picker, endpoints: &[Endpoint], count: usize) -> Vec<usize> {
    (0..count)
        .map(|_| picker.pick(endpoints, any_of).unwrap())
        .collect()
}

fn counts(picks: &[usize], endpoints: usize) -> Vec<usize> {
    (0..endpoints)
        .map(|index| picks.iter().filter(|picked| **picked == index).count())
        .collect()
}

#[test]
fn equal_weights_take_turns() {
    assert_eq!(
        picks(&mut picker(0), &up(&[1, 1, 1]), 7),
        [0, 1, 2, 0, 1, 2, 0]
    );
    assert_eq!(picks(&mut picker(0), &up(&[9, 9]), 4), [0, 1, 0, 1]);
}

#[test]
fn weights_are_spread_smoothly() {
    assert_eq!(
        picks(&mut picker(0), &up(&[5, 1, 1]), 14),
        [0, 1, 0, 0, 0, 2, 0, 0, 1, 0, 0, 0, 2, 0]
    );
}

#[test]
fn one_of_many_that_weighs_more_comes_evenly() {
    let mut weights = [1; 1000];
    weights[700] = 4;
    let picked = picks(&mut picker(0), &up(&weights), 3 * 1003);
    let turns: Vec<_> = (0..)
        .zip(&picked)
        .filter(|(_, index)| **index == 700)
        .collect();
    let gaps = turns.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(
        gaps.clone().all(|gap: i32| (245..=257).contains(&gap)),
        "{:?}",
        gaps.collect::<Vec<_>>()
    );
}

/// What a pick looks at, however many endpoints there are.
#[test]
fn a_pick_among_thousands_costs_what_it_does_among_few() {
    struct Counted(u16, Cell<usize>);
    impl Load for Counted {
        fn available(&self) -> bool {
            self.1.set(self.1.get() + 1);
            true
        }
        fn weight(&self) -> u16 {
            self.1.set(self.1.get() + 1);
            self.0
        }
        fn in_flight(&self) -> usize {
            0
        }
    }
    for heaviest in [1, 3, 256] {
        let weight = |index: u16| 1 + index % heaviest;
        let endpoints: Vec<_> = (0..3000)
            .map(|index| Counted(weight(index), Cell::default()))
            .collect();
        let mut picker = picker(1);
        picker.pick(&endpoints, any_of);
        for endpoint in &endpoints {
            endpoint.1.set(0);
        }
        for _ in 0..30_000 {
            picker.pick(&endpoints, any_of);
        }
        let looks: usize = endpoints.iter().map(|endpoint| endpoint.1.get()).sum();
        assert!(looks <= 30_000 * 5, "{looks} with weights up to {heaviest}");
    }
}

#[test]
fn seeds_spread_the_starting_points() {
    for (weights, expected) in [([1, 1, 1], [0, 1, 2]), ([3, 2, 1], [1, 0, 0])] {
        let firsts = [0, 1, 2].map(|seed| picker(seed).pick(&up(&weights), any_of).unwrap());
        assert_eq!(firsts, expected, "{weights:?}");
    }
}

#[test]
fn any_seed_is_a_starting_point() {
    assert_eq!(picks(&mut picker(usize::MAX), &up(&[1]), 2), [0, 0]);
    assert_eq!(picks(&mut picker(usize::MAX), &up(&[2, 1]), 3).len(), 3);
}

#[test]
fn others_alternate_around_an_unavailable_endpoint() {
    let mut endpoints = up(&[1, 1, 1]);
    endpoints[1].available = false;
    assert_eq!(picks(&mut picker(0), &endpoints, 6), [0, 2, 0, 2, 0, 2]);
}

#[test]
fn returning_endpoint_gets_its_share_and_no_burst() {
    for weights in [[1, 1, 1], [2, 1, 1]] {
        let mut endpoints = up(&weights);
        let mut picker = picker(0);
        endpoints[1].available = false;
        picks(&mut picker, &endpoints, 1000);
        endpoints[1].available = true;
        let after = picks(&mut picker, &endpoints, 40);
        let expected = 40
            / endpoints
                .iter()
                .map(|endpoint| usize::from(endpoint.weight))
                .sum::<usize>();
        assert!(counts(&after, 3)[1].abs_diff(expected) <= 1, "{after:?}");
        assert!(!after.windows(2).any(|pair| pair == [1, 1]), "{after:?}");
    }
}

#[test]
fn nothing_to_pick_is_none() {
    let mut picker = picker(1);
    assert_eq!(picker.pick::<Endpoint>(&[], any_of), None);
    for weights in [[1, 1], [1, 2]] {
        let mut endpoints = up(&weights);
        assert_eq!(picker.pick(&endpoints, |_| false), None);
        for endpoint in &mut endpoints {
            endpoint.available = false;
        }
        assert_eq!(picker.pick(&endpoints, any_of), None);
    }
}

#[test]
fn retry_goes_to_another_endpoint() {
    for weights in [[1, 1, 1], [5, 1, 1]] {
        let endpoints = up(&weights);
        let mut picker = picker(0);
        let first = picker.pick(&endpoints, any_of).unwrap();
        let second = picker.pick(&endpoints, |index| index != first).unwrap();
        let third = picker
            .pick(&endpoints, |index| index != first && index != second)
            .unwrap();
        let mut all = [first, second, third];
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    }
}

#[test]
fn weight_zero_counts_as_one() {
    assert_eq!(counts(&picks(&mut picker(0), &up(&[0, 3]), 4), 2), [1, 3]);
}

#[test]
fn changed_weights_are_heeded_within_a_round() {
    let mut picker = picker(0);
    picks(&mut picker, &up(&[1, 1]), 2);
    picks(&mut picker, &up(&[3, 1]), 2);
    assert_eq!(counts(&picks(&mut picker, &up(&[3, 1]), 8), 2), [6, 2]);
    assert_eq!(counts(&picks(&mut picker, &up(&[1, 1]), 8), 2), [4, 4]);
}

#[test]
fn debts_of_greater_weights_are_forgiven() {
    let mut picker = picker(0);
    picks(&mut picker, &up(&[60_000, 30_000, 1]), 1);
    let after = picks(&mut picker, &up(&[2, 1, 1]), 40);
    assert!(counts(&after, 3)[0] >= 18, "{after:?}");
}

proptest! {
    #[test]
    fn shares_are_exact_over_a_full_period(
        weights in prop::collection::vec(1..30_u16, 1..8),
        seed in any::<usize>(),
    ) {
        let period = weights.iter().copied().map(usize::from).sum();
        let mut picker = picker(seed);
        for _ in 0..2 {
            let shares = counts(&picks(&mut picker, &up(&weights), period), weights.len());
            prop_assert_eq!(shares, weights.iter().copied().map(usize::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nobody_waits_for_much_longer_than_its_share(
        weights in prop::collection::vec(1..30_u16, 2..12),
        seed in 0..20_usize,
    ) {
        let total: usize = weights.iter().copied().map(usize::from).sum();
        let picked = picks(&mut picker(seed), &up(&weights), 3 * total);
        for (index, weight) in weights.iter().enumerate() {
            let fair = total.div_ceil(usize::from(*weight));
            let longest = picked.split(|picked| *picked == index).map(<[usize]>::len).max();
            prop_assert!(longest.unwrap() < fair + weights.len(), "{index} of {weights:?}: {picked:?}");
        }
    }

    #[test]
    fn equal_weights_never_differ_by_more_than_one(
        availability in prop::collection::vec(any::<bool>(), 1..9),
        count in 0..60_usize,
        seed in 0..20_usize,
    ) {
        let endpoint = |available: &bool| Endpoint { weight: 3, available: *available };
        let endpoints: Vec<_> = availability.iter().map(endpoint).collect();
        prop_assume!(availability.contains(&true));

        let counts = counts(&picks(&mut picker(seed), &endpoints, count), endpoints.len());
        let mut available: Vec<_> = counts.iter().zip(availability).collect();
        available.retain(|(_, available)| *available);
        let most = available.iter().map(|(count, _)| **count).max().unwrap();
        let least = available.iter().map(|(count, _)| **count).min().unwrap();
        prop_assert!(most - least <= 1, "{:?}", counts);
        prop_assert_eq!(counts.iter().sum::<usize>(), count);
    }

    #[test]
    fn shares_hold_among_those_left_after_any_history(
        weights in prop::collection::vec(1..9_u16, 2..6),
        history in prop::collection::vec(any::<u8>(), 0..40),
        left in any::<u8>(),
    ) {
        let mask = |bits: u8| -> Vec<Endpoint> {
            let available = |index: usize| bits >> index & 1 == 1;
            let weights = weights.iter().copied().enumerate();
            weights.map(|(i, weight)| Endpoint { weight, available: available(i) }).collect()
        };
        let mut picker = picker(0);
        for bits in history {
            picker.pick(&mask(bits), any_of);
        }
        let share = |endpoint: &Endpoint| usize::from(endpoint.weight) * usize::from(endpoint.available);
        let endpoints = mask(left);
        let left: usize = endpoints.iter().map(share).sum();
        prop_assume!(left > 0);

        let rounds = 100;
        let counts = counts(&picks(&mut picker, &endpoints, left * rounds), weights.len());
        let total: usize = weights.iter().copied().map(usize::from).sum();
        for (endpoint, count) in endpoints.iter().zip(counts) {
            let owed_before = 2 * total.div_ceil(left);
            let expected = share(endpoint) * rounds;
            prop_assert!(count.abs_diff(expected) <= owed_before, "{count} for {expected}");
        }
    }

    #[test]
    fn picks_only_what_may_be_picked_whatever_changes(
        steps in prop::collection::vec(
            (prop::collection::vec((0..4_u16, any::<bool>()), 0..6), any::<u8>()),
            0..30,
        ),
        seed in any::<usize>(),
    ) {
        let mut picker = picker(seed);
        for (endpoints, eligible) in steps {
            let endpoint = |(weight, available)| Endpoint { weight, available };
            let endpoints: Vec<_> = endpoints.into_iter().map(endpoint).collect();
            let is_eligible = |index: usize| eligible >> index & 1 == 1;
            let may_be_picked = |index: usize| endpoints[index].available && is_eligible(index);
            match picker.pick(&endpoints, is_eligible) {
                Some(picked) => prop_assert!(may_be_picked(picked)),
                None => prop_assert!(!(0..endpoints.len()).any(may_be_picked)),
            }
        }
    }
}
