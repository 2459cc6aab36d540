//! A strict reader of RFC 5424 messages, written from the grammar in its section 6.
//!
//! Promise: takes what the ABNF takes and nothing else, and what the text around it asks for: a date that exists,
//! UTF-8 without control characters (6.4), each SD-ID once (6.3.2), IANA's elements with their parameters and values
//! only (7). Law: nothing of the relay is called, nothing is forgiven, nothing is guessed.

/// A message's parts.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) pri: u8,
    /// Milliseconds since 1970.
    pub(crate) ms: u64,
    pub(crate) hostname: &'a str,
    pub(crate) app_name: &'a str,
    pub(crate) procid: &'a str,
    pub(crate) msgid: &'a str,
    pub(crate) elements: Vec<Element<'a>>,
    pub(crate) msg: &'a str,
}

/// One element of structured data: its id, and names and unescaped values of its parameters.
#[derive(Debug)]
pub(crate) struct Element<'a> {
    pub(crate) id: &'a str,
    pub(crate) params: Vec<(&'a str, String)>,
}

struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn expect(&mut self, what: char) -> Result<(), String> {
        self.0 = self.0.strip_prefix(what).ok_or_else(|| format!("{what:?} missing before {:?}", self.0))?;
        Ok(())
    }

    /// `min` to `max` characters that are `good`.
    fn some(&mut self, min: usize, max: usize, good: impl Fn(u8) -> bool) -> Result<&'a str, String> {
        let count = self.0.bytes().take_while(|byte| good(*byte)).count();
        if !(min..=max).contains(&count) {
            return Err(format!("{count} characters where {min} to {max} may stand: {:?}", self.0));
        }
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, digits: usize, from: u64, to: u64) -> Result<u64, String> {
        let text = self.some(digits, usize::MAX, |byte| byte.is_ascii_digit());
        let text =
            text.and_then(|text| if text.len() == digits { Ok(text) } else { Err(text.to_owned()) })?;
        let value = text.parse().map_err(|_| text.to_owned())?;
        if (from..=to).contains(&value) { Ok(value) } else { Err(format!("{value} is not {from} to {to}")) }
    }

    /// A header field and the space behind it.
    fn field(&mut self, max: usize) -> Result<&'a str, String> {
        let field = self.some(1, max, print_us_ascii)?;
        self.expect(' ')?;
        Ok(field)
    }
}

fn print_us_ascii(byte: u8) -> bool {
    (33..=126).contains(&byte)
}

/// SD-NAME: printable ASCII but `=`, space, `]` and `"`.
fn sd_name(byte: u8) -> bool {
    print_us_ascii(byte) && !matches!(byte, b'=' | b']' | b'"')
}

/// Reads one message.
pub(crate) fn read(message: &[u8]) -> Result<Message<'_>, String> {
    let text = std::str::from_utf8(message).map_err(|error| error.to_string())?;
    if let Some(control) = text.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(format!("control character {control:?}"));
    }
    let mut at = Cursor(text);
    at.expect('<')?;
    let pri = at.some(1, 3, |byte| byte.is_ascii_digit())?;
    let value: u8 = pri.parse().map_err(|_| format!("PRI {pri}"))?;
    if value > 191 || value.to_string() != pri {
        return Err(format!("PRI {pri}"));
    }
    at.expect('>')?;
    at.expect('1')?;
    at.expect(' ')?;
    let ms = timestamp(&mut at)?;
    at.expect(' ')?;
    let hostname = at.field(255)?;
    let app_name = at.field(48)?;
    let procid = at.field(128)?;
    let msgid = at.field(32)?;
    let elements = structured_data(&mut at)?;
    // MSG may be absent, but the relay always has something to say.
    at.expect(' ')?;
    if at.0.starts_with('\u{feff}') {
        return Err("a byte order mark".to_owned());
    }
    Ok(Message { pri: value, ms, hostname, app_name, procid, msgid, elements, msg: at.0 })
}

/// FULL-DATE "T" FULL-TIME with the relay's three digits of fraction and `Z`.
fn timestamp(at: &mut Cursor<'_>) -> Result<u64, String> {
    let year = at.number(4, 1970, 9999)?;
    at.expect('-')?;
    let month = at.number(2, 1, 12)?;
    at.expect('-')?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month - 1).map_err(|error| error.to_string())?;
    let day = at.number(2, 1, lengths[before])?;
    at.expect('T')?;
    let hour = at.number(2, 0, 23)?;
    at.expect(':')?;
    let minute = at.number(2, 0, 59)?;
    at.expect(':')?;
    let second = at.number(2, 0, 59)?;
    at.expect('.')?;
    let fraction = at.number(3, 0, 999)?;
    at.expect('Z')?;
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let days = days + lengths[..before].iter().sum::<u64>() + day - 1;
    Ok((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + fraction)
}

fn structured_data<'a>(at: &mut Cursor<'a>) -> Result<Vec<Element<'a>>, String> {
    let mut elements: Vec<Element<'a>> = Vec::new();
    if at.0.starts_with('-') {
        at.expect('-')?;
        return Ok(elements);
    }
    loop {
        at.expect('[')?;
        let id = at.some(1, 32, sd_name)?;
        let mut params = Vec::new();
        while at.0.starts_with(' ') {
            at.expect(' ')?;
            let name = at.some(1, 32, sd_name)?;
            at.expect('=')?;
            at.expect('"')?;
            params.push((name, param_value(at)?));
        }
        at.expect(']')?;
        if elements.iter().any(|element| element.id == id) {
            return Err(format!("{id} twice"));
        }
        let element = Element { id, params };
        known(&element)?;
        elements.push(element);
        if !at.0.starts_with('[') {
            return Ok(elements);
        }
    }
}

/// Up to the closing quote, unescaped; that quote is taken too.
fn param_value(at: &mut Cursor<'_>) -> Result<String, String> {
    let mut value = String::new();
    let mut characters = at.0.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => {
                at.0 = &at.0[place + 1..];
                return Ok(value);
            }
            ']' => return Err("] in a PARAM-VALUE".to_owned()),
            '\\' => match characters.next() {
                Some((_, escaped @ ('"' | '\\' | ']'))) => value.push(escaped),
                other => return Err(format!("a lone backslash before {other:?}")),
            },
            other => value.push(other),
        }
    }
    Err("PARAM-VALUE without an end".to_owned())
}

/// A parameter's name, and what its value may be.
type Rule = (&'static str, fn(&str) -> bool);

/// Section 7 for IANA's elements; others need a name with an enterprise number (6.3.2).
fn known(element: &Element<'_>) -> Result<(), String> {
    let allowed: &[Rule] = match element.id {
        "meta" => &[("sequenceId", |v| number_in(v, 1, 2_147_483_647))],
        "origin" => &[
            ("software", |v| !v.is_empty() && v.chars().count() <= 48),
            ("swVersion", |v| !v.is_empty() && v.chars().count() <= 32),
            ("enterpriseId", |v| number_in(v, 0, u64::from(u32::MAX))),
        ],
        "timeQuality" => &[
            ("tzKnown", |v| matches!(v, "0" | "1")),
            ("isSynced", |v| matches!(v, "0" | "1")),
            ("syncAccuracy", |v| number_in(v, 0, u64::MAX)),
        ],
        other => {
            let (name, number) = other.split_once('@').ok_or_else(|| format!("{other} is not IANA's"))?;
            let good = !name.is_empty() && number_in(number, 0, u64::from(u32::MAX));
            return if good { Ok(()) } else { Err(format!("SD-ID {other}")) };
        }
    };
    for (at, (name, value)) in element.params.iter().enumerate() {
        let good = allowed.iter().any(|(known, good)| known == name && good(value));
        let twice = element.params[..at].iter().any(|(other, _)| other == name);
        if !good || twice {
            return Err(format!("{}: {name}={value:?}", element.id));
        }
    }
    let says = |name: &str| element.params.iter().find(|(known, _)| *known == name).map(|(_, v)| v.as_str());
    if says("syncAccuracy").is_some() && says("isSynced") != Some("1") {
        return Err("syncAccuracy of a clock that is not synchronised".to_owned());
    }
    Ok(())
}

fn number_in(text: &str, from: u64, to: u64) -> bool {
    text.parse::<u64>().is_ok_and(|value| (from..=to).contains(&value) && value.to_string() == text)
}
