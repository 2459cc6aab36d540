//! Sizes and durations as people write them: `64MiB`, `250ms`.

use std::time::Duration;

const SIZES: [(&str, u64); 5] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];
const TIMES: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("min", 60_000), ("m", 60_000)];

/// Reads `64MiB`, `512KiB`, `8192`; whole numbers only.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let bytes = number_with_unit(text, &SIZES).ok_or_else(|| {
        format!("`{text}` is not a size; write a whole number and B, KiB, MiB or GiB, for example 64MiB")
    })?;
    usize::try_from(bytes).map_err(|_| format!("`{text}` is more than this machine can address"))
}

/// Reads `250ms`, `2s`, `1min`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    number_with_unit(text, &TIMES).map(Duration::from_millis).ok_or_else(|| {
        format!("`{text}` is not a duration; write a whole number and ms, s or min, for example 250ms")
    })
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes a size so that [`size`] reads it back, in the largest unit that needs no fraction.
pub(super) fn show_size(bytes: usize) -> String {
    let (name, factor) = SIZES
        .into_iter()
        .find(|(_, factor)| bytes > 0 && (bytes as u64).is_multiple_of(*factor))
        .unwrap_or(("B", 1));
    format!("{}{name}", bytes as u64 / factor)
}

/// Writes a duration so that [`duration`] reads it back.
pub(super) fn show_duration(time: Duration) -> String {
    let ms = time.as_millis();
    if ms > 0 && ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("8 KiB"), Ok(8192));
        assert_eq!(size("480"), Ok(480));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("250 ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "MiB", "1.5MiB", "64MB", "-1", "99999999999999999999", "18446744073709551615GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "5", "1h", "s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn shown_values_read_back(bytes in 0usize..1 << 40, ms in 0u64..1 << 40) {
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            let time = Duration::from_millis(ms);
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
        }
    }
}
