//! Changes inputs at random, the same way every time.
//!
//! Promise: the same seed gives the same inputs. Law: no clock, no machine's own randomness; what libFuzzer finds by
//! coverage this does not look for, it only keeps the bodies honest.

/// A generator (SplitMix64) and what inputs are changed with.
pub(crate) struct Mutator<'a> {
    state: u64,
    corpus: &'a [Vec<u8>],
    words: &'a [Vec<u8>],
}

/// No input becomes longer, in bytes.
const LONGEST: usize = 4096;

impl<'a> Mutator<'a> {
    pub(crate) fn new(seed: u64, corpus: &'a [Vec<u8>], words: &'a [Vec<u8>]) -> Self {
        Self { state: seed, corpus, words }
    }

    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, 0 where that is 0.
    fn below(&mut self, limit: usize) -> usize {
        let limit = limit.max(1) as u64;
        usize::try_from(self.random() % limit).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.random().to_le_bytes()[0]
    }

    /// One of the corpus, changed one to eight times.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let pick = self.below(self.corpus.len());
        let mut input = self.corpus[pick].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let until = (at + self.below(32)).min(input.len());
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.byte(),
            2 if at < input.len() => {
                input[at] = [0, 1, 2, b'0', b'9', b' ', b'\n', 0x7f, 0x80, 0xff][self.below(10)]
            }
            3 => drop(input.drain(at..until)),
            4 => input.insert(at, self.byte()),
            5 => {
                let copy = input[at..until].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            6 if !self.words.is_empty() => {
                let word = self.words[self.below(self.words.len())].clone();
                let over = (at + word.len() * self.below(2)).min(input.len());
                input.splice(at..over, word);
            }
            7 => {
                let pick = self.below(self.corpus.len());
                let other = &self.corpus[pick];
                let from = self.below(other.len() + 1);
                let other = &self.corpus[pick][from..];
                input.truncate(at);
                input.extend_from_slice(other);
            }
            _ => input.truncate(at.max(1)),
        }
    }
}
