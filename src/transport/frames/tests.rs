use std::time::Duration;

use super::*;
use crate::transport::deadline::TICK;

const PING: u8 = 6;
const PRIORITY: u8 = 2;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&len[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [&head, payload].concat()
}

fn started() -> Frames {
    let mut frames = Frames::new();
    frames.feed(PREFACE, 0).unwrap();
    frames
}

/// Feeds frames until they are too much, and says how many went well.
fn endured(frames: &mut Frames, mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
    (0..100_000)
        .find(|number| frames.feed(&next(*number), 0).is_err())
        .unwrap_or(100_000)
}

fn opened_and_taken_back(number: u32) -> Vec<u8> {
    let stream = 2 * number + 1;
    let opened = frame(HEADERS, END_HEADERS | END_STREAM, stream, b"x");
    [opened, frame(RST_STREAM, 0, stream, &[0; 4])].concat()
}

#[test]
fn a_window_is_ten_seconds() {
    let window = TICK * u32::try_from(WINDOW).unwrap();
    assert_eq!(window, Duration::from_secs(10));
}

#[test]
fn streams_that_are_taken_back_are_counted() {
    let most = MAX_RESETS - 1;
    assert_eq!(endured(&mut started(), opened_and_taken_back), most);
}

#[test]
fn half_of_the_streams_may_be_taken_back() {
    let mut frames = started();
    for number in 0..1_000 {
        let served = frame(HEADERS, END_HEADERS | END_STREAM, 4 * number + 1, b"x");
        frames.feed(&served, 0).unwrap();
        let taken_back = opened_and_taken_back(2 * number + 1);
        frames.feed(&taken_back, 0).unwrap();
    }
}

#[test]
fn counting_begins_anew_after_a_while() {
    let mut frames = started();
    for number in 0..MAX_RESETS - 1 {
        frames.feed(&opened_and_taken_back(number), 0).unwrap();
    }
    let later = opened_and_taken_back(MAX_RESETS);
    frames.feed(&later, WINDOW).unwrap();
}

#[test]
fn frames_that_carry_nothing_are_counted_by_what_they_cost() {
    for (kind, flags, payload, cost) in [
        (PING, 0, &[0; 8][..], PING_WORK),
        (PRIORITY, 0, &[0; 5], PING_WORK),
        (SETTINGS, 0, &[], SETTINGS_WORK),
        (DATA, 0, &[], EMPTY_DATA_WORK),
        (0x77, 0, &[], PING_WORK),
    ] {
        let survived = endured(&mut started(), |_| frame(kind, flags, 1, payload));
        assert_eq!(survived, MAX_IDLE_WORK / cost, "{kind}");
    }
}

#[test]
fn frames_that_carry_something_are_not_counted() {
    let data = frame(DATA, 0, 1, b"x");
    let ended = frame(DATA, END_STREAM, 1, b"");
    let update = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    for bytes in [data, ended, update] {
        assert_eq!(endured(&mut started(), |_| bytes.clone()), 100_000);
    }
}

#[test]
fn what_came_before_the_flood_ends_with_a_frame() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    let too_many = ping.repeat(MAX_IDLE_WORK as usize + 5);
    let whole = started().feed(&too_many, 0).unwrap_err();
    assert_eq!(whole.fine, ping.len() * (MAX_IDLE_WORK as usize + 1));

    let mut frames = started();
    let mut before = 0;
    for piece in too_many.chunks(7) {
        match frames.feed(piece, 0) {
            Ok(()) => before += piece.len(),
            Err(flood) => {
                assert_eq!(before + flood.fine, whole.fine);
                return;
            }
        }
    }
    panic!("not a flood");
}

#[test]
fn a_block_is_open_until_its_last_byte() {
    let opens = frame(HEADERS, 0, 1, b"abc");
    let goes_on = frame(CONTINUATION, 0, 1, b"");
    let ends = frame(CONTINUATION, END_HEADERS, 1, b"d");
    let mut frames = started();
    let mut after = |piece: &[u8]| {
        frames.feed(piece, 0).unwrap();
        frames.is_in_block()
    };
    assert!(!after(&[]));
    assert!(after(&opens));
    assert!(after(&goes_on));
    let (last, before) = ends.split_last().unwrap();
    assert!(after(before));
    assert!(!after(&[*last]));
}

#[test]
fn the_preface_is_no_frame() {
    let mut frames = Frames::new();
    let (last, before) = PREFACE.split_last().unwrap();
    frames.feed(before, 0).unwrap();
    assert!(!frames.has_begun());
    frames.feed(&[*last], 0).unwrap();
    assert!(frames.has_begun());
}
