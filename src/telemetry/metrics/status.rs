//! Which of a fixed number of places a status is counted at: endpoints may send any number of three digits.

/// The places, as labels. Statuses that have a name, and that of a client that left before its answer (499).
pub(super) const LABELS: [&str; 54] = [
    "100", "101", "103", "200", "201", "202", "203", "204", "205", "206", "207", "226", "300",
    "301", "302", "303", "304", "307", "308", "400", "401", "402", "403", "404", "405", "406",
    "407", "408", "409", "410", "411", "412", "413", "414", "415", "416", "417", "421", "422",
    "425", "426", "428", "429", "431", "451", "499", "500", "501", "502", "503", "504", "505",
    "511", "other",
];

/// By status, less 100.
const PLACES: [u8; 500] = places();

const OTHER: u8 = 53;

/// Of a client that left before its answer; never sent.
pub(super) const GONE: u16 = 499;

/// Where in [`LABELS`] a status is.
pub(super) fn place(status: u16) -> usize {
    let place = PLACES.get(usize::from(status.wrapping_sub(100)));
    usize::from(*place.unwrap_or(&OTHER))
}

const fn places() -> [u8; 500] {
    let mut places = [OTHER; 500];
    let mut index = 0;
    while index < OTHER {
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        let label = LABELS[index as usize].as_bytes();
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        let [hundreds, tens, ones] = [label[0] - b'0', label[1] - b'0', label[2] - b'0'];
        let status = hundreds as usize * 100 + tens as usize * 10 + ones as usize;
        #[expect(clippy::indexing_slicing, reason = "evaluated while compiling")]
        {
            places[status - 100] = index;
        }
        index += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_is_where_its_status_is_counted() {
        for (index, label) in LABELS.iter().enumerate().take(LABELS.len() - 1) {
            assert_eq!(place(label.parse().unwrap()), index, "{label}");
        }
    }

    #[test]
    fn statuses_nobody_has_heard_of_are_one() {
        for status in [0, 99, 104, 299, 599, 600, 999, u16::MAX] {
            assert_eq!(LABELS[place(status)], "other", "{status}");
        }
    }
}
