//! Dates and times of day, in UTC. Pure.
//!
//! *Promise:* any second since 1970 as the Gregorian calendar has it, leap days and centuries included.
//! *Law:* the only place that knows how long a month is.

/// `YYYY-MM-DDTHH:MM:SS` of a second since 1970.
pub(crate) fn date(second: u64) -> String {
    written(second, 'T')
}

/// `YYYY-MM-DD HH:MM:SS UTC` of a second since 1970, for people.
pub(crate) fn utc(second: u64) -> String {
    format!("{} UTC", written(second, ' '))
}

fn written(second: u64, between: char) -> String {
    let (days, time) = (second / 86_400, second % 86_400);
    // Days are counted from 1 March of a year that divides by 400, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + shifted / 146_097 * 400 + u64::from(month <= 2);
    let (hour, minute) = (time / 3600, time / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}{between}{hour:02}:{minute:02}:{:02}", time % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days_and_centuries() {
        for (second, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_200, "2024-03-01T00:00:00"),
            (1_795_424_551, "2026-11-23T09:02:31"),
            (1_798_761_599, "2026-12-31T23:59:59"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(date(second), text);
            assert_eq!(utc(second), format!("{} UTC", text.replace('T', " ")));
        }
    }
}
