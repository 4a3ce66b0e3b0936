//! Histograms of latencies, and their form on the wire: base64 of the V2 format of HdrHistogram, which every
//! implementation of that reads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

/// Longest latency told apart, in nanoseconds: 100 s.
pub(super) const LONGEST: u64 = 100_000_000_000;

/// Significant digits of a recorded latency.
const DIGITS: u8 = 2;

/// An empty histogram of nanoseconds. All of them can be added and subtracted.
#[must_use]
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("the bounds are valid")
}

/// `latency` as text; `None` if that fails, which it does for counts above 2^63 only.
#[must_use]
pub fn encode(latency: &Histogram<u64>) -> Option<String> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(latency, &mut bytes).ok()?;
    Some(STANDARD.encode(bytes))
}

/// The histogram in `text`; `None` if that is none, or one of other bounds.
#[must_use]
pub fn decode(text: &str) -> Option<Histogram<u64>> {
    let bytes = STANDARD.decode(text).ok()?;
    let latency: Histogram<u64> = Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .ok()?;
    let own = (latency.sigfig(), latency.high()) == (DIGITS, LONGEST);
    own.then_some(latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_are_read_back() {
        let mut latency = empty();
        for nanoseconds in [1, 999, 12_345, LONGEST] {
            latency.record(nanoseconds).unwrap();
        }
        let text = encode(&latency).unwrap();
        assert!(text.len() < 1000, "{} bytes", text.len());
        assert_eq!(decode(&text), Some(latency));
        assert_eq!(decode(&encode(&empty()).unwrap()), Some(empty()));
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(decode(""), None);
        assert_eq!(decode("no base64!"), None);
        assert_eq!(decode("AAAA"), None);
        let other = Histogram::<u64>::new_with_bounds(1, 1000, 3).unwrap();
        assert_eq!(decode(&encode(&other).unwrap()), None);
    }
}
