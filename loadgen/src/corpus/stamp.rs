//! The moment and serial of an event, `SEC.MSC:SERIAL`, as a function of the event's number.
//!
//! *Promise:* ten events a millisecond from a fixed moment on, serials going up by one; so a run can be repeated to the
//! byte, and every stamp has the same length.
//! *Law:* pure, and cheap enough to be asked for every record: a stamp is formatted once for ten events, which differ in
//! the last digit only.

/// `SEC.MSC:SERIAL` with a serial of nine digits.
pub(super) const LEN: usize = 10 + 1 + 3 + 1 + 9;

const FIRST_EVENT_MS: u64 = 1_795_424_551_000;
const EVENTS_PER_MS: u64 = 10;
const FIRST_SERIAL: u64 = 100_000_000;
const SERIALS: u64 = 900_000_000;

/// The stamps of the last ten events asked for.
#[derive(Clone, Debug)]
pub(super) struct Stamps {
    ten: u64,
    bytes: [u8; LEN],
}

impl Default for Stamps {
    fn default() -> Self {
        Self { ten: 0, bytes: format_ten(0) }
    }
}

impl Stamps {
    /// The stamp of `event`.
    pub(super) fn of(&mut self, event: u64) -> &[u8; LEN] {
        let ten = event / 10;
        if ten != self.ten {
            self.ten = ten;
            self.bytes = format_ten(ten);
        }
        self.bytes[LEN - 1] = digit(event);
        &self.bytes
    }
}

/// The time of `event` in milliseconds since 1970.
pub(super) fn milliseconds(event: u64) -> u64 {
    FIRST_EVENT_MS + event / EVENTS_PER_MS
}

/// The stamp of event `10 * ten`.
fn format_ten(ten: u64) -> [u8; LEN] {
    // Ten events share a millisecond, and the serials start and wrap at multiples of ten.
    const { assert!(EVENTS_PER_MS == 10 && FIRST_SERIAL.is_multiple_of(10) && SERIALS.is_multiple_of(10)) }
    let ms = FIRST_EVENT_MS + ten;
    let mut stamp = [0; LEN];
    write_decimal(&mut stamp[..10], ms / 1000);
    stamp[10] = b'.';
    write_decimal(&mut stamp[11..14], ms % 1000);
    stamp[14] = b':';
    write_decimal(&mut stamp[15..], FIRST_SERIAL + ten % (SERIALS / 10) * 10);
    stamp
}

/// Fills `out` with decimal digits.
pub(super) fn write_decimal(out: &mut [u8], mut value: u64) {
    for place in out.iter_mut().rev() {
        *place = digit(value);
        value /= 10;
    }
}

/// The last decimal digit of `value`.
fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value % 10).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_own() {
        let mut stamps = Stamps::default();
        for (event, text) in [
            (0, b"1795424551.000:100000000"),
            (12_345, b"1795424552.234:100012345"),
            (12_346, b"1795424552.234:100012346"),
            (9, b"1795424551.000:100000009"),
            (10, b"1795424551.001:100000010"),
            (899_999_999, b"1795514550.999:999999999"),
            (900_000_000, b"1795514551.000:100000000"),
        ] {
            assert_eq!(stamps.of(event), text);
        }
    }
}
