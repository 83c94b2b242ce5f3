//! Watches the frames of an HTTP/2 client for work that costs it nothing and us something.
//!
//! The HTTP/2 library bounds what it must hold: streams, header lists, CONTINUATION frames, empty DATA, resets it has to
//! send itself. It doesn't bound how often a client may open a stream and take it back, nor what it must merely answer or
//! note. Those are counted here, over windows of ten seconds; only the nine bytes at the head of each frame are looked
//! at.

/// How HTTP/2 begins (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24;

/// The head of a frame (RFC 9113 §4.1).
const HEAD_BYTES: usize = 9;

/// Ticks over which is counted: ten seconds.
const WINDOW: u64 = 100;

/// Streams that a client may take back in a window, if they are more than half of those it opened.
const MAX_RESETS: u32 = 200;

/// The worth of frames that carry nothing, in a window.
///
/// A PING is worth one. Clients that measure bandwidth (gRPC) send one for each round trip, in a data centre some
/// thousand a second, so the bound is on what a thousand frames a second cost: little.
const MAX_IDLE_WORK: u32 = 10_000;
const PING_WORK: u32 = 1;
const EMPTY_DATA_WORK: u32 = 10;
/// Each is answered, and may change every stream.
const SETTINGS_WORK: u32 = 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Follows the frames of one connection.
#[derive(Debug)]
pub struct Frames {
    place: Place,
    /// Where in its block a HEADERS or CONTINUATION frame stands.
    block: Block,
    last_stream: u32,
    window: Window,
    flooding: bool,
}

#[derive(Debug)]
enum Place {
    Preface(usize),
    Head { bytes: [u8; HEAD_BYTES], len: usize },
    Payload(usize),
}

impl Place {
    const BETWEEN: Self = Self::Head {
        bytes: [0; HEAD_BYTES],
        len: 0,
    };

    fn is_between(&self) -> bool {
        matches!(self, Self::Head { len: 0, .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    /// More CONTINUATION frames must follow.
    Open,
    /// The frame at hand ends it.
    Ending,
}

/// What was counted since a tick.
#[derive(Debug, Default)]
struct Window {
    since: u64,
    opened: u32,
    resets: u32,
    idle_work: u32,
}

/// A client that floods: whatever follows the first `fine` bytes fed last mustn't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// These bytes end with a frame.
    pub fine: usize,
}

impl Frames {
    /// For a connection whose preface is still to come.
    pub fn new() -> Self {
        Self {
            place: Place::Preface(PREFACE_BYTES),
            block: Block::None,
            last_stream: 0,
            window: Window::default(),
            flooding: false,
        }
    }

    /// Looks at the bytes that came next, in pieces of any size. `now` is in ticks.
    ///
    /// # Errors
    /// [`Flood`], at the first end of a frame after the one that was too much.
    pub fn feed(&mut self, input: &[u8], now: u64) -> Result<(), Flood> {
        let mut rest = input;
        while !rest.is_empty() {
            if self.flooding && self.is_between_blocks() {
                break;
            }
            self.step(&mut rest, now);
        }
        if self.flooding && self.is_between_blocks() {
            let fine = input.len() - rest.len();
            return Err(Flood { fine });
        }
        Ok(())
    }

    /// Whether the preface has come.
    pub fn has_begun(&self) -> bool {
        !matches!(self.place, Place::Preface(_))
    }

    /// Whether a block of fields has begun to come, and not ended.
    pub fn is_in_block(&self) -> bool {
        match self.block {
            Block::None => false,
            Block::Open => true,
            Block::Ending => matches!(self.place, Place::Payload(_)),
        }
    }

    fn is_between_blocks(&self) -> bool {
        self.place.is_between() && !self.is_in_block()
    }

    fn step(&mut self, rest: &mut &[u8], now: u64) {
        match &mut self.place {
            Place::Preface(left) | Place::Payload(left) => {
                *left -= take(rest, *left).len();
                if *left == 0 {
                    self.place = Place::BETWEEN;
                }
            }
            Place::Head { bytes, len } => {
                let more = take(rest, HEAD_BYTES - *len);
                for (to, from) in bytes.iter_mut().skip(*len).zip(more) {
                    *to = *from;
                }
                *len += more.len();
                if *len == HEAD_BYTES {
                    let head = Head::read(*bytes);
                    self.place = match head.len {
                        0 => Place::BETWEEN,
                        len => Place::Payload(len),
                    };
                    self.frame(&head, now);
                }
            }
        }
    }

    fn frame(&mut self, head: &Head, now: u64) {
        let window = &mut self.window;
        if now.saturating_sub(window.since) >= WINDOW {
            *window = Window {
                since: now,
                ..Window::default()
            };
        }
        self.block = Block::None;
        match head.kind {
            HEADERS | CONTINUATION => {
                self.block = if head.flags & END_HEADERS == 0 {
                    Block::Open
                } else {
                    Block::Ending
                };
                // A second block on a stream is its trailers.
                if head.stream > self.last_stream {
                    self.last_stream = head.stream;
                    window.opened += 1;
                }
            }
            DATA if head.len > 0 || head.flags & END_STREAM != 0 => {}
            DATA => window.idle_work += EMPTY_DATA_WORK,
            RST_STREAM => window.resets += 1,
            SETTINGS => window.idle_work += SETTINGS_WORK,
            // As many as the client reads; GOAWAY ends the connection.
            WINDOW_UPDATE | GOAWAY => {}
            // PING, PRIORITY, PRIORITY_UPDATE, and what nobody knows.
            _ => window.idle_work += PING_WORK,
        }
        self.flooding |= window.is_too_much();
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Window {
    fn is_too_much(&self) -> bool {
        let takes_back = self.resets >= MAX_RESETS && self.resets > self.opened / 2;
        takes_back || self.idle_work > MAX_IDLE_WORK
    }
}

/// The head of a frame.
#[derive(Debug)]
struct Head {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn read(bytes: [u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        Self {
            len: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        }
    }
}

/// Takes up to `len` bytes off the front.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
    *rest = after;
    taken
}

/// Frames that make the HTTP/2 library say GOAWAY with `ENHANCE_YOUR_CALM`, which it can't be told to: a block of fields
/// without an end.
pub fn calm_down() -> Vec<u8> {
    // More than it allows for at the largest block that a configuration may ask for.
    const FRAMES: usize = 256;
    let frame = |kind: u8| [0, 0, 0, kind, 0, 0, 0, 0, 1];
    let mut bytes = Vec::with_capacity((1 + FRAMES) * HEAD_BYTES);
    bytes.extend_from_slice(&frame(HEADERS));
    for _ in 0..FRAMES {
        bytes.extend_from_slice(&frame(CONTINUATION));
    }
    bytes
}

#[cfg(test)]
mod tests;
