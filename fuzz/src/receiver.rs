//! What a receiver does with a stream of messages, and with one RFC 3164 message.
//!
//! Promise: the messages in the bytes, by RFC 6587 section 3.4.1 (octet counting) or 3.4.2 (a line feed behind each).
//! Law: nothing of the relay is called; a stream that a strict receiver would not understand is an error.

/// The messages of a stream of `MSG-LEN SP MSG`.
pub(crate) fn octet_counted(mut stream: &[u8]) -> Result<Vec<&[u8]>, String> {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let space = stream.iter().position(|byte| *byte == b' ').ok_or("no space behind a length")?;
        let (length, rest) = stream.split_at(space);
        // MSG-LEN = NONZERO-DIGIT *DIGIT
        let good = length.first().is_some_and(|first| (b'1'..=b'9').contains(first))
            && length.len() <= 9
            && length.iter().all(u8::is_ascii_digit);
        if !good {
            return Err(format!("length {}", length.escape_ascii()));
        }
        let length = length.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        let message = rest.get(1..=length).ok_or("a message shorter than its length")?;
        messages.push(message);
        stream = &rest[length + 1..];
    }
    Ok(messages)
}

/// The messages of a stream of lines.
pub(crate) fn lines(stream: &[u8]) -> Result<Vec<&[u8]>, String> {
    if stream.is_empty() {
        return Ok(Vec::new());
    }
    let whole = stream.strip_suffix(b"\n").ok_or("no line feed behind the last message")?;
    Ok(whole.split(|byte| *byte == b'\n').collect())
}

/// `<PRI>Mmm dd hh:mm:ss [HOST ]TAG[PID]: MSG` (RFC 3164 section 4.1). Gives PRI, host, tag, PID and MSG.
pub(crate) fn rfc3164(message: &[u8], named: bool) -> Result<(&str, &str, &str, &str, &str), String> {
    let text = std::str::from_utf8(message).map_err(|error| error.to_string())?;
    if let Some(control) = text.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(format!("control character {control:?}"));
    }
    let (pri, rest) =
        text.strip_prefix('<').and_then(|rest| rest.split_once('>')).ok_or("PRI is not there")?;
    if pri.parse::<u8>().ok().is_none_or(|value| value > 191 || value.to_string() != pri) {
        return Err(format!("PRI {pri}"));
    }
    let (date, rest) = rest.split_at_checked(16).ok_or("no date")?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let b = date.as_bytes();
    let digits =
        |a: u8, b: u8, max: u8| a.is_ascii_digit() && b.is_ascii_digit() && (a - b'0') * 10 + b - b'0' <= max;
    let good = months.contains(&&date[..3])
        && [b[3], b[6], b[15]] == *b"   "
        && [b[9], b[12]] == *b"::"
        && b[5].is_ascii_digit()
        && (b[4] == b' ' && b[5] != b'0' || matches!(b[4], b'1' | b'2') || b[4..6] <= b"31"[..])
        && digits(b[7], b[8], 23)
        && digits(b[10], b[11], 59)
        && digits(b[13], b[14], 59);
    if !good {
        return Err(format!("date {date:?}"));
    }
    let (host, rest) = if named { rest.split_once(' ').ok_or("no host")? } else { ("", rest) };
    let (tag, rest) = rest.split_once('[').ok_or("no tag")?;
    let (pid, msg) = rest.split_once("]: ").ok_or("no PID")?;
    Ok((pri, host, tag, pid, msg))
}
