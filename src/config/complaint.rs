//! What is wrong in a configuration file, in words for who has written it. Pure.
//!
//! Law: the parser's own lines, which show the place, stay; only its sentence about Rust's types is put into what to write.

/// `text` is all that the parser says, `sentence` the part of it that says what is wrong.
pub(super) fn in_words(text: &str, sentence: &str) -> String {
    let text = text.trim_end();
    match (text.strip_suffix(sentence.trim_end()), words(sentence)) {
        (Some(place), Some(words)) => format!("{place}{words}"),
        _ => text.to_owned(),
    }
}

fn words(sentence: &str) -> Option<String> {
    if let Some(rest) = sentence.strip_prefix("unknown field `") {
        let (key, known) = rest.split_once('`')?;
        // An older name of tls-verify is understood and not offered.
        let known = known.split('`').skip(1).step_by(2).filter(|known| *known != "verify");
        return Some(match nearest(key, known) {
            Some(near) => {
                format!("there is no key `{key}` here; is `{near}` meant? Every key: audit-relay.toml(5)")
            }
            None => format!("there is no key `{key}` here. Every key: audit-relay.toml(5)"),
        });
    }
    let rest = sentence.strip_prefix("invalid type: ")?;
    Some(match rest.rsplit_once(", expected ")? {
        (found, "a sequence") if found.starts_with("map") => {
            "write [[destination]], with two brackets".to_owned()
        }
        (_, "a sequence") => "a list is wanted here; write it in brackets: [\"...\"]".to_owned(),
        (found, "a string") if found.starts_with("sequence") => {
            "one text is wanted here, not a list".to_owned()
        }
        (_, "a string") => {
            "text is wanted here; write it in quotes, a size or a time with its unit".to_owned()
        }
        (_, wanted) if wanted.starts_with(['u', 'i']) => {
            "a whole number is wanted here, without quotes".to_owned()
        }
        _ => return None,
    })
}

/// The one of `known` that somebody who wrote `word` is likely to have meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.into_iter().map(|known| (distance(word, known), known));
    distances
        .filter(|(distance, _)| *distance <= 1 + word.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, near)| near)
}

/// How many letters have to be changed, put in, taken out or swapped with the next to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(80).collect(), b.chars().take(80).collect());
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        rows[2][0] = i;
        for j in 1..=b.len() {
            let changed = rows[1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[1][j] + 1).min(rows[2][j - 1] + 1);
            if i > 1 && j > 1 && (a[i - 1], a[i - 2]) == (b[j - 2], b[j - 1]) {
                least = least.min(rows[0][j - 2] + 1);
            }
            rows[2][j] = least;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_likely_to_be_meant_is_found_and_nothing_else() {
        let keys =
            ["to", "failover", "balance", "format", "queue-size", "tls-ca", "tls-cert", "drain-timeout"];
        for (word, near) in [
            ("queue_size", Some("queue-size")),
            ("queue-sise", Some("queue-size")),
            ("qeueu-size", Some("queue-size")),
            ("tow", Some("to")),
            ("fromat", Some("format")),
            ("tls-cer", Some("tls-cert")),
            ("drain_timeout", Some("drain-timeout")),
            ("colour", None),
            ("destinations", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, keys), near, "{word}");
        }
        assert_eq!((distance("kitten", "sitting"), distance("ab", "ba"), distance("", "abc")), (3, 1, 3));
    }

    #[test]
    fn the_place_stays_and_the_sentence_says_what_to_write() {
        let place = "TOML parse error at line 1, column 1\n  |\n1 | x\n  | ^\n";
        for (sentence, words) in [
            (
                "unknown field `queue_size`, expected one of `to`, `queue-size`",
                "no key `queue_size` here; is `queue-size` meant?",
            ),
            ("unknown field `zzz`, expected `a` or `verify`", "no key `zzz` here. Every key"),
            ("unknown field `verfy`, expected one of `verify`, `x`", "no key `verfy` here. Every key"),
            ("invalid type: string \"a, expected b\", expected a sequence", "write it in brackets"),
            ("invalid type: map, expected a sequence", "[[destination]]"),
            ("invalid type: integer `5`, expected a string", "in quotes"),
            ("invalid type: sequence, expected a string", "not a list"),
            ("invalid type: string \"1\", expected u32", "without quotes"),
            ("unclosed array, expected `]`", "unclosed array, expected `]`"),
        ] {
            let said = in_words(&format!("{place}{sentence}\n"), sentence);
            assert!(said.starts_with(place) && said.contains(words), "{sentence}: {said}");
        }
        assert_eq!(in_words("something else\n", "unknown field `x`, expected `y`"), "something else");
    }
}
