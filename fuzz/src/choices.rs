//! An input's first bytes, as settings.
//!
//! Promise: an input that is too short chooses zeros. Law: every choice takes a fixed number of bytes, so that a
//! mutation of what follows changes nothing before it.

/// Bytes not yet used.
pub(crate) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    pub(crate) fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn long(&mut self) -> u32 {
        u32::from(self.word()) << 16 | u32::from(self.word())
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }
}

/// Small pieces that one stream arrives in at most. A long stream byte by byte costs a thousand short ones, and shows
/// nothing that its beginning does not (tests/every_offset.rs cuts at each place there is).
const SMALL_PIECES: u32 = 256;

/// Lengths of pieces in which a stream arrives: eleven kinds of cutting, the last one whole. What is left after
/// [`SMALL_PIECES`] comes in pieces of a read.
pub(crate) struct Cuts {
    kind: u8,
    state: u32,
    made: u32,
}

impl Cuts {
    pub(crate) fn new(choice: u8) -> Self {
        Self { kind: choice % 11, state: u32::from(choice) + 1, made: 0 }
    }

    pub(crate) fn next(&mut self) -> usize {
        // Numerical Recipes' generator: enough to cut by.
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let random = (self.state >> 16) as usize;
        self.made += 1;
        match self.kind {
            0..=6 if self.made > SMALL_PIECES => 4096,
            0 => 1,
            1 => 2,
            2 => 7,
            3 => 21,
            4 => 22,
            5 => 1 + random % 8,
            6 => 1 + random % 64,
            7 => 1 + random % 1000,
            8 => 4096,
            9 => 1 + random % 20_000,
            _ => usize::MAX,
        }
    }
}
