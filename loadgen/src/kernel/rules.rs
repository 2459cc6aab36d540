//! Audit rules in the kernel's own form.
//!
//! *Promise:* a rule that matches nothing but this run's load, with a key by which the guard finds it again.
//! *Law:* only rules with that key are ever removed; what was loaded before is not touched.
//!
//! ```text
//! flags | action | field count | syscall mask [64] | fields [64] | values [64] | operators [64] | length | strings
//! ```
//! All words are 32 bits. The strings of the fields that have one stand behind each other; the field's value is the
//! string's length.

use std::path::Path;

use nix::libc;

/// The exit list, and "always" as action.
const FILTER_EXIT: u32 = 4;
const ALWAYS: u32 = 2;
const WORDS: usize = 3 + 64 * 4 + 1;
const MASK: usize = 3;
const FIELDS: usize = MASK + 64;
const VALUES: usize = FIELDS + 64;
const OPERATORS: usize = VALUES + 64;
const LENGTH: usize = OPERATORS + 64;

/// Numbers of fields.
const PARENT: u32 = 18;
const ARCH: u32 = 11;
const PATH: u32 = 105;
const KEY: u32 = 210;
/// Fields whose value is a string: subject and object labels, watch, directory, key and executable.
const WITH_STRING: [std::ops::RangeInclusive<u32>; 5] = [13..=17, 19..=23, 105..=105, 107..=107, 112..=112];
const EQUAL: u32 = 0x4000_0000;

/// The ABI of this machine's system calls as the audit system numbers it; `None` where this program does not know it.
const ABI: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else if cfg!(target_arch = "riscv64") {
    Some(0xC000_00F3)
} else {
    None
};

/// A rule under construction.
struct Builder {
    words: Vec<u32>,
    strings: Vec<u8>,
}

impl Builder {
    fn new(abi: u32, syscall: libc::c_long) -> Self {
        let mut builder = Self { words: vec![0; WORDS], strings: Vec::new() };
        builder.words[0] = FILTER_EXIT;
        builder.words[1] = ALWAYS;
        let number = usize::try_from(syscall).unwrap_or(0);
        builder.words[MASK + number / 32] |= 1 << (number % 32);
        builder.field(ARCH, abi);
        builder
    }

    fn field(&mut self, field: u32, value: u32) {
        let index = self.words[2] as usize;
        self.words[2] += 1;
        self.words[FIELDS + index] = field;
        self.words[VALUES + index] = value;
        self.words[OPERATORS + index] = EQUAL;
    }

    fn string(&mut self, field: u32, text: &str) {
        self.field(field, u32::try_from(text.len()).unwrap_or(0));
        self.strings.extend_from_slice(text.as_bytes());
    }

    fn finish(mut self) -> Vec<u8> {
        self.words[LENGTH] = u32::try_from(self.strings.len()).unwrap_or(0);
        let mut rule: Vec<u8> = self.words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        rule.extend(self.strings);
        rule
    }
}

/// Every execve by a child of `parent`. `None` on a machine whose system calls this program does not know.
pub(crate) fn execs_of(parent: u32, key: &str) -> Option<Vec<u8>> {
    let mut rule = Builder::new(ABI?, libc::SYS_execve);
    rule.field(PARENT, parent);
    rule.string(KEY, key);
    Some(rule.finish())
}

/// Every openat of one file. `None` on a machine whose system calls this program does not know.
pub(crate) fn opens_of(file: &Path, key: &str) -> Option<Vec<u8>> {
    let mut rule = Builder::new(ABI?, libc::SYS_openat);
    rule.string(PATH, &file.to_string_lossy());
    rule.string(KEY, key);
    Some(rule.finish())
}

/// Whether a rule has this key.
pub(crate) fn has_key(rule: &[u8], key: &str) -> bool {
    let word = |index: usize| {
        let chunk = rule.get(index * 4..).and_then(|rest| rest.first_chunk());
        chunk.map_or(0, |chunk| u32::from_ne_bytes(*chunk))
    };
    let mut at = WORDS * 4;
    for index in 0..(word(2) as usize).min(64) {
        let field = word(FIELDS + index);
        let is_key = field == KEY;
        if !is_key && !WITH_STRING.iter().any(|range| range.contains(&field)) {
            continue;
        }
        let end = at.saturating_add(word(VALUES + index) as usize);
        if is_key && rule.get(at..end) == Some(key.as_bytes()) {
            return true;
        }
        at = end;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_by_their_own_key_only() {
        let rules = [
            execs_of(4711, "audit-loadgen-1").unwrap(),
            opens_of(Path::new("/var/tmp/audit-loadgen-12"), "audit-loadgen-1").unwrap(),
        ];
        for rule in rules {
            assert!(has_key(&rule, "audit-loadgen-1"));
            for other in ["audit-loadgen-12", "audit-loadgen-", "", "/var/tmp/audit-l"] {
                assert!(!has_key(&rule, other), "{other}");
            }
            assert!(!has_key(&rule[..rule.len() - 1], "audit-loadgen-1"), "a cut rule");
        }
        assert!(!has_key(&[], "audit-loadgen-1"));
    }

    #[test]
    fn the_system_call_and_the_fields_are_where_the_kernel_looks() {
        let rule = opens_of(Path::new("/a/b"), "k").unwrap();
        let word = |index: usize| u32::from_ne_bytes(rule[index * 4..index * 4 + 4].try_into().unwrap());
        assert_eq!((word(0), word(1), word(2)), (4, 2, 3));
        let number = usize::try_from(libc::SYS_openat).unwrap();
        assert_eq!(word(MASK + number / 32), 1 << (number % 32));
        assert_eq!((word(FIELDS + 1), word(VALUES + 1)), (105, 4));
        assert_eq!((word(FIELDS + 2), word(VALUES + 2)), (210, 1));
        assert_eq!(&rule[WORDS * 4..], b"/a/bk");
    }
}
