//! The fuzz targets' bodies as ordinary tests: every input of fuzz/seeds and fuzz/regressions, and a fixed number of
//! changed ones, the same each time. libFuzzer does the same for as long as one likes: docs/fuzzing.md.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "the helpers of these tests are not tests themselves"
)]

// What the library crate of fuzz/ is to libFuzzer.
#[allow(clippy::panic, unreachable_pub, reason = "a body panics where its property does not hold")]
#[path = "../../fuzz/src/lib.rs"]
mod bodies;
mod mutator;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use mutator::Mutator;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

/// The files of a folder in the order of their names; none if it is not there.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// The words of libFuzzer's dictionary: one a line in quotes, with `\\`, `\"` and `\xAB`.
fn dictionary() -> Vec<Vec<u8>> {
    let text = fs::read_to_string(folder("dictionary")).unwrap();
    let quoted = text.lines().filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'));
    let word = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'\\' => match rest.next().unwrap() {
                    b'x' => {
                        let digits = [rest.next().unwrap(), rest.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    escaped => escaped,
                },
                plain => plain,
            });
        }
        bytes
    };
    quoted.map(word).collect()
}

/// Runs `body` and, should it panic, prints the input in a form that a file can be made of.
fn run(name: &str, origin: &str, body: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        eprintln!("{name}: failed with {origin}, {} bytes:\nb\"{}\"", input.len(), input.escape_ascii());
        eprintln!("keep it: printf of these bytes into fuzz/regressions/{name}/, then mend the relay");
        std::panic::resume_unwind(panic);
    }
}

fn fuzz(name: &str, body: fn(&[u8]), times: usize) {
    let mut known = files(&folder("seeds").join(name));
    assert!(!known.is_empty(), "fuzz/seeds/{name} is empty");
    known.extend(files(&folder("regressions").join(name)));
    for (origin, input) in &known {
        run(name, origin, body, input);
    }
    let corpus: Vec<_> = known.into_iter().map(|(_, input)| input).collect();
    let words = dictionary();
    let mut mutator = Mutator::new(5424, &corpus, &words);
    for at in 0..times {
        run(name, &format!("changed input {at}"), body, &mutator.next());
    }
    body(b"");
}

/// Makes one test of each body, and the list of their names.
macro_rules! bodies {
    ($($name:ident $times:literal)*) => {
        $(
            #[test]
            fn $name() {
                fuzz(stringify!($name), bodies::$name, $times);
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

bodies! {
    frames 20_000
    lines 20_000
    record 100_000
    decoder 10_000
    encoder 10_000
    rfc3164 20_000
    framing 50_000
    relp_reader 50_000
    relp_session 50_000
    config 10_000
    certificates 4_000
    handover 20_000
}

#[test]
fn every_body_is_a_target_of_libfuzzer_too() {
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for name in NAMES {
        let target = fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(target.contains(&format!("audit_relay_fuzz::{name}(data)")), "{target}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
    assert_eq!(files(&folder("fuzz_targets")).len(), NAMES.len());
    let with_seeds = fs::read_dir(folder("seeds")).unwrap().count();
    assert_eq!(with_seeds, NAMES.len());
}

#[test]
fn the_same_inputs_come_every_time() {
    let corpus = [b"one".to_vec(), b"two and more".to_vec()];
    let words = dictionary();
    assert!(words.contains(&b"\x02\0\0\0\x18\0\0\0".to_vec()) && words.contains(&b"\\\"]".to_vec()));
    let all = |seed| {
        let mut mutator = Mutator::new(seed, &corpus, &words);
        (0..1000).map(|_| mutator.next()).collect::<Vec<_>>()
    };
    assert_eq!(all(1), all(1));
    assert_ne!(all(1), all(2));
    assert!(all(1).iter().collect::<std::collections::BTreeSet<_>>().len() > 800);
}
