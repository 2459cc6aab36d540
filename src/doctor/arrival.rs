//! The test message, and how it stands in a receiver's file.
//!
//! Law: pure.

use super::machine::Arrival;

/// Bytes of the long test record: as the longest that auditd makes, a little less than what it may hand over.
pub(super) const BYTES: usize = 9_200;

/// A record of `BYTES` bytes with a mark at each end. Nobody else sends type TEST with this text.
pub(super) fn record(mark: &str, now_ms: u64) -> String {
    let (seconds, millis) = (now_ms / 1000, now_ms % 1000);
    let head =
        format!("type=TEST msg=audit({seconds}.{millis:03}:1): msg='op=audit-relay-doctor {} ", start(mark));
    let tail = format!(" {}'", end(mark));
    let room = BYTES - head.len() - tail.len();
    let pad: String = "0123456789abcdef".chars().cycle().take(room).collect();
    head + &pad + &tail
}

fn start(mark: &str) -> String {
    format!("mark={mark}-begins")
}

fn end(mark: &str) -> String {
    format!("mark={mark}-ends")
}

/// Looks for it in what a receiver has written since.
pub(super) fn find(text: &str, mark: &str) -> Option<Arrival> {
    let (start, end) = (start(mark), end(mark));
    let line = text.split('\n').find(|line| line.contains(&start))?;
    let at = line.find("type=TEST").unwrap_or(0);
    let (before, record) = line.split_at(at);
    let is_one_line = line.contains(&end);
    let bytes = record.find(&end).map_or(record.len(), |at| at + end.len() + 1);
    Some(Arrival {
        has_end: text.contains(&end),
        is_one_line,
        is_cut_by_relay: line.contains("[cut from "),
        bytes,
        shows_count: header(before).is_some_and(|at| counts(&before[..at])),
        shows_header: (header(before).is_some_and(|at| at > 0) && !is_of_ours(before)) || naked(before),
    })
}

/// Where `<PRI>1 ` stands.
fn header(before: &str) -> Option<usize> {
    let at = before.find('<')?;
    let digits = before[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
    ((1..=3).contains(&digits) && before[at + 1 + digits..].starts_with(">1 ")).then_some(at)
}

/// A line as the files in packaging/receivers write it: when and from which address it was received, and the message's own
/// header, whole and once.
fn is_of_ours(before: &str) -> bool {
    let mut words = before.splitn(9, ' ');
    let is_time = |word: &str| word.as_bytes().get(10) == Some(&b'T');
    let is_received = words.next().is_some_and(is_time)
        && words.next().is_some_and(is_address)
        && words.next().is_some_and(|word| word.starts_with('<'))
        && words.next().is_some_and(is_time);
    let data = words.nth(4).unwrap_or_default();
    // syslog-ng writes no `-` where there is none.
    is_received && (matches!(data, "- " | " ") || (data.starts_with('[') && data.ends_with("] ")))
}

/// IPv4 or IPv6, near enough: a host's name in this place has other letters, or neither dot nor colon.
fn is_address(word: &str) -> bool {
    word.contains(['.', ':'])
        && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.' || byte == b':')
}

/// Its last word is a number, with a space behind it.
fn counts(text: &str) -> bool {
    let word = text.strip_suffix(' ').map(|text| text.rsplit(' ').next().unwrap_or(text));
    word.is_some_and(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The header without its PRI, which the receiver has taken for the tag `1`: ` 1 2026-11-28T...`.
fn naked(before: &str) -> bool {
    before.match_indices(" 1 ").chain(before.match_indices(" 1: ")).any(|(at, found)| {
        let time = &before.as_bytes()[at + found.len()..];
        time.len() > 10 && time[..4].iter().all(u8::is_ascii_digit) && time[4] == b'-' && time[10] == b'T'
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<Arrival> {
        find(text, "0123abcd")
    }

    #[test]
    fn the_record_is_as_long_as_it_says() {
        let record = record("0123abcd", 1_795_424_551_650);
        assert_eq!(record.len(), BYTES);
        assert!(
            record.starts_with("type=TEST msg=audit(1795424551.650:1): ")
                && record.ends_with("mark=0123abcd-ends'")
        );
    }

    #[test]
    fn what_became_of_it() {
        let record = record("0123abcd", 1_795_424_551_650);
        let whole = Arrival {
            has_end: true,
            is_one_line: true,
            is_cut_by_relay: false,
            bytes: BYTES,
            shows_count: false,
            shows_header: false,
        };
        let line = |before: &str| found(&format!("another line\n{before}{record}\n")).unwrap();
        assert_eq!(line("Nov 28 20:00:00 web-1 auditd[7]: "), whole);
        // A file in the form of RFC 5424 is as it should be.
        assert_eq!(line("<182>1 2026-11-28T20:00:00Z web-1 auditd 7 TEST [meta sequenceId=\"1\"] "), whole);
        // And so is what packaging/receivers write in front of it, unless the header was taken for text.
        let ours = "2026-11-28T20:00:00.015732+00:00 127.0.0.1 <182>1 2026-11-28T20:00:00.650Z web-1 ";
        assert_eq!(line(&format!("{ours}auditd 7 TEST [meta sequenceId=\"1\"] ")), whole);
        assert_eq!(line(&format!("{ours}auditd 7 - - ")), whole);
        assert!(line(&format!("{ours}1 - - - 2026-11-28T20:00:00.650Z web-1 auditd 7 TEST - ")).shows_header);
        let count = line("Nov 28 20:00:00 web-1 9271 <182>1 2026-11-28T20:00:00Z web-1 auditd 7 TEST - ");
        assert!(count.shows_count && count.shows_header);
        let header = line("Nov 28 20:00:00 web-1 <182>1 2026-11-28T20:00:00Z web-1 auditd 7 TEST - ");
        assert!(!header.shows_count && header.shows_header);
        assert!(line("Nov 28 20:00:00 web-1 1 2026-11-28T20:00:00.650Z web-1 auditd 7 TEST - ").shows_header);
        let cut = found(&format!("x: {}\n", &record[..8000])).unwrap();
        assert_eq!((cut.has_end, cut.is_one_line, cut.bytes), (false, false, 8000));
        let split = found(&format!("x: {}\ny: {}\n", &record[..8000], &record[8000..])).unwrap();
        assert_eq!((split.has_end, split.is_one_line, split.bytes), (true, false, 8000));
        let ours = found(&format!("x: {} [cut from 9200 bytes]\n", &record[..7900])).unwrap();
        assert!(ours.is_cut_by_relay && !ours.has_end);
        assert_eq!(find(&format!("x: {record}\n"), "ffffffff"), None);
        assert_eq!(found(""), None);
    }
}
