//! Strangers' words on a terminal: certificates, errors, names, lines of logs.
//!
//! Promise: what comes out is one line, holds nothing that a terminal obeys, and is read in the order in which it is
//! written. Law: pure; a character for a character.

/// The text with spaces for what commands a terminal, breaks a line, or turns the direction of what follows.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { ' ' } else { c }).collect()
}

/// Control characters (C0, DEL, C1), separators of lines, and marks of direction (Unicode's Bidi_Control).
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_is_obeyed() {
        for (text, expected) in [
            ("tls://h: refused", "tls://h: refused"),
            ("Müller, 日本", "Müller, 日本"),
            ("a\u{1b}[2Jb\rc\nd\u{7f}", "a [2Jb c d "),
            ("\u{9b}31m\u{9d}0;x\u{9c}", " 31m 0;x "),
            ("CN=\u{202e}gro\u{2066}x\u{2028}y\u{200f}", "CN= gro x y "),
        ] {
            assert_eq!(printable(text), expected);
        }
    }
}
