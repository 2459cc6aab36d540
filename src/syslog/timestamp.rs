//! Moments as RFC 5424 (section 6.2.3) and RFC 3164 (section 4.1.2) write them.
//!
//! Promise: a moment between 1970 and 9999 in, its text out. The text of the last second is kept, since
//! neighbouring records nearly always share it; then only three digits are written.

/// Writes `2026-11-23T09:02:31.650Z`: UTC, three digits, so that no receiver cuts or misreads the fraction.
#[derive(Clone, Debug)]
pub(super) struct Rfc3339 {
    second: u64,
    text: [u8; 24],
}

impl Default for Rfc3339 {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00.000Z" }
    }
}

impl Rfc3339 {
    /// The text of `ms` milliseconds since 1970. Values above [`crate::audit::Stamp::MAX_MS`] are taken as it.
    pub(super) fn format(&mut self, ms: u64) -> &[u8; 24] {
        let ms = ms.min(crate::audit::Stamp::MAX_MS);
        let (second, fraction) = (ms / 1000, ms % 1000);
        if second != self.second {
            self.second = second;
            let date = Civil::from_epoch(second);
            put(&mut self.text[0..4], date.year);
            put(&mut self.text[5..7], date.month);
            put(&mut self.text[8..10], date.day);
            put(&mut self.text[11..13], date.hour);
            put(&mut self.text[14..16], date.minute);
            put(&mut self.text[17..19], date.second);
        }
        put(&mut self.text[20..23], fraction);
        &self.text
    }
}

/// Writes `Nov 23 09:02:31` in local time, the only date that every owner of /dev/log understands.
#[derive(Clone, Debug)]
pub struct Rfc3164 {
    second: Option<u64>,
    text: [u8; 15],
    offset: LocalOffset,
}

/// Gives the local time's offset from UTC, in seconds east, at a moment in seconds since 1970.
pub type LocalOffset = fn(u64) -> i32;

impl Rfc3164 {
    /// `offset` is asked once a second at most.
    pub fn new(offset: LocalOffset) -> Self {
        Self { second: None, text: *b"Jan  1 00:00:00", offset }
    }

    /// The text of `ms` milliseconds since 1970.
    pub fn format(&mut self, ms: u64) -> &[u8; 15] {
        let second = ms.min(crate::audit::Stamp::MAX_MS) / 1000;
        if self.second != Some(second) {
            self.second = Some(second);
            let date = Civil::from_epoch(second.saturating_add_signed(i64::from((self.offset)(second))));
            self.text[0..3].copy_from_slice(MONTHS[usize::try_from(date.month - 1).unwrap_or(0) % 12]);
            put(&mut self.text[4..6], date.day);
            if self.text[4] == b'0' {
                self.text[4] = b' ';
            }
            put(&mut self.text[7..9], date.hour);
            put(&mut self.text[10..12], date.minute);
            put(&mut self.text[13..15], date.second);
        }
        &self.text
    }
}

const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
pub fn civil_date(days: u64) -> (i32, u8, u8) {
    let date = Civil::from_epoch(days * 86_400);
    let small = |value: u64| u8::try_from(value).unwrap_or(1);
    (i32::try_from(date.year).unwrap_or(i32::MAX), small(date.month), small(date.day))
}

struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Civil {
    /// Turns seconds since 1970 into a date of the Gregorian calendar.
    ///
    /// Days are counted from 1 March 0000, so that the leap day is the last of its year; an era is the
    /// calendar's period of 400 years or 146,097 days.
    fn from_epoch(seconds: u64) -> Self {
        let (days, time) = (seconds / 86_400 + 719_468, seconds % 86_400);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        Self { year, month, day, hour: time / 3600, minute: time / 60 % 60, second: time % 60 }
    }
}

/// Writes `value` in decimal, right-aligned, with leading zeros.
fn put(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10).to_le_bytes()[0];
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Stamp;
    use jiff::Timestamp;
    use jiff::tz::{Offset, TimeZone};
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        let mut utc = Rfc3339::default();
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (1_795_424_551_650, "2026-11-23T09:02:31.650Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (Stamp::MAX_MS, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(std::str::from_utf8(utc.format(ms)).unwrap(), text);
        }
        let mut local = Rfc3164::new(|_| -3600);
        assert_eq!(local.format(1_795_424_551_650), b"Nov 23 08:02:31");
        assert_eq!(Rfc3164::new(|_| 7200).format(951_782_400_000), b"Feb 29 02:00:00");
        assert_eq!(Rfc3164::new(|_| 0).format(0), b"Jan  1 00:00:00");
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(moments in proptest::collection::vec(0..4_291_747_200_000u64, 1..20)) {
            let (mut utc, mut local) = (Rfc3339::default(), Rfc3164::new(|_| 19_800));
            let zone = TimeZone::fixed(Offset::constant(5).saturating_add(jiff::Span::new().minutes(30)));
            for ms in moments {
                let oracle = Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap();
                prop_assert_eq!(std::str::from_utf8(utc.format(ms)).unwrap(), format!("{oracle:.3}"));
                let zoned = oracle.to_zoned(zone.clone());
                prop_assert_eq!(std::str::from_utf8(local.format(ms)).unwrap(), zoned.strftime("%b %e %H:%M:%S").to_string());
            }
        }
    }
}
