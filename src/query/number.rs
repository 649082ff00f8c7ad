//! Numbers as JSON writes them, also those that a 64-bit float cannot hold.
//!
//! A float stands for its shortest decimal form, as everywhere where JSON is read. A number that no float stands for is kept in the
//! table as it was written, so two of them are the same if they are written the same.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use serde_json::Value;

/// What marks such a number in a request, where it stands as a text; no other text of a request begins with it.
const MARK: char = '\u{0}';
/// Digits that a whole number of the store may have.
const MAX_DIGITS: i64 = 76;

/// A number of a request.
#[derive(Clone, Debug)]
pub(crate) struct Number {
    /// The nearest float.
    pub(crate) float: f64,
    /// As it was written, where no float stands for it.
    pub(crate) exact: Option<String>,
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.float.to_bits() == other.float.to_bits() && self.exact == other.exact
    }
}

impl Eq for Number {}

impl Hash for Number {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.float.to_bits().hash(state);
        self.exact.hash(state);
    }
}

impl Number {
    /// The number that a value of a request is, if it is one.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let text = match value {
            Value::Number(number) if number.is_f64() => return Some(Self { float: number.as_f64()? + 0.0, exact: None }),
            Value::Number(number) => number.to_string(),
            Value::String(text) => text.strip_prefix(MARK)?.to_owned(),
            _ => return None,
        };
        let float: f64 = text.parse().ok()?;
        let exact = (!is_float(&text)).then_some(text);
        Some(Self { float: float + 0.0, exact })
    }

    /// Whether a float that the table holds may stand for it, too: of a power of two that was written in full, for example.
    pub(crate) fn may_be_float(&self) -> bool {
        let Some(exact) = &self.exact else { return true };
        Decimal::parse(exact) == Decimal::parse(&format!("{:.1}", self.float))
    }

    /// How it stands to the decimal that its float stands for.
    pub(crate) fn beside_float(&self) -> Ordering {
        let Some(exact) = self.exact.as_deref().and_then(Decimal::parse) else { return Ordering::Equal };
        Decimal::parse(&format!("{:e}", self.float)).map_or(Ordering::Equal, |float| exact.cmp(&float))
    }

    /// The largest whole number that is not above it, and whether it is that one; none beyond what the store can hold.
    pub(crate) fn floor(&self) -> Option<(String, bool)> {
        let decimal = Decimal::parse(&self.exact.clone().unwrap_or_else(|| format!("{:e}", self.float)))?;
        (decimal.point <= MAX_DIGITS).then(|| decimal.floor())
    }
}

/// Whether `text`, a number of JSON, is what the shortest form of a float says.
pub(crate) fn is_float(text: &str) -> bool {
    let float = text.parse::<f64>().ok().filter(|float| float.is_finite());
    float.is_some_and(|float| Decimal::parse(text) == Decimal::parse(&format!("{float:e}")))
}

/// `body` with every number that would not survive as one written as a marked text.
pub(crate) fn mark(body: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let (mut at, mut copied) = (0, 0);
    while let Some(byte) = body.get(at) {
        match byte {
            b'"' => at = after_text(body, at + 1),
            b'-' | b'0'..=b'9' => {
                let end = body.get(at..)?.iter().position(|byte| !is_of_number(*byte)).map_or(body.len(), |length| at + length);
                let text = std::str::from_utf8(body.get(at..end)?).ok()?;
                if needs_mark(text) {
                    let out = out.get_or_insert_with(Vec::new);
                    out.extend_from_slice(body.get(copied..at)?);
                    out.extend_from_slice(format!("\"\\u0000{text}\"").as_bytes());
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    let mut out = out?;
    out.extend_from_slice(body.get(copied..)?);
    Some(out)
}

/// Behind the end of the text that begins at `at`.
fn after_text(body: &[u8], mut at: usize) -> usize {
    while let Some(byte) = body.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Whether it is a number of JSON that neither a 64-bit integer nor a float stands for. What is out of the range of floats stays as
/// it is, and is refused.
fn needs_mark(text: &str) -> bool {
    let is_short = text.len() <= 15;
    let is_integer = || text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
    let is_json = || serde_json::from_str::<f64>(text).is_ok_and(f64::is_finite);
    !is_short && !is_integer() && is_json() && !is_float(text)
}

/// A decimal number: `0.digits * 10^point`, without zeros at either end. Zero has no digits.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    is_negative: bool,
    digits: Vec<u8>,
    point: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Self> {
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        let length = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        let digits = digits.get(zeros..length).unwrap_or_default().to_vec();
        if digits.is_empty() {
            return Some(Self { is_negative: false, digits, point: 0 });
        }
        let exponent: i64 = exponent.parse().ok()?;
        let point = i64::try_from(whole.len()).ok()?.checked_sub(i64::try_from(zeros).ok()?)?.checked_add(exponent)?;
        Some(Self { is_negative, digits, point })
    }

    /// The largest whole number that is not above it, and whether it is that one.
    fn floor(&self) -> (String, bool) {
        let point = usize::try_from(self.point).unwrap_or(0);
        let is_whole = self.digits.len() <= point;
        let mut digits: Vec<u8> = self.digits.iter().copied().chain(std::iter::repeat(b'0')).take(point).collect();
        if self.is_negative && !is_whole {
            increment(&mut digits);
        }
        let text: String = digits.into_iter().map(char::from).collect();
        let sign = if self.is_negative && !text.is_empty() { "-" } else { "" };
        (if text.is_empty() { "0".to_owned() } else { format!("{sign}{text}") }, is_whole)
    }
}

/// Adds one to a row of digits.
fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
    digits.insert(0, b'1');
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |decimal: &Self| match (decimal.digits.is_empty(), decimal.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let size = || self.point.cmp(&other.point).then_with(|| self.digits.cmp(&other.digits));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => size(),
            _ => size().reverse(),
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn number(text: &str) -> Number {
        let body = mark(text.as_bytes()).unwrap_or_else(|| text.as_bytes().to_vec());
        Number::of(&serde_json::from_slice(&body).unwrap()).unwrap()
    }

    #[test]
    fn a_number_that_a_float_stands_for_is_one_however_it_is_written() {
        for text in ["0", "-0", "-0.0", "1", "1.0", "0.1", "1e3", "1E+3", "100000000000000000000000", "9007199254740992", "1.7e308"] {
            assert_eq!(number(text).exact, None, "{text}");
        }
        assert_eq!(number("-0.0"), number("0"));
        assert_eq!(number("1000"), number("1e3"));
    }

    #[test]
    fn a_number_that_no_float_stands_for_stays_as_it_was_written() {
        let exact = [
            "9007199254740993",
            "7203685477580776123",
            "18446744073709551615",
            "123456789012345678901234567890",
            "-123456789012345678901234567890",
            "0.12345678901234567890",
        ];
        for text in exact {
            assert_eq!(number(text).exact.as_deref(), Some(text));
        }
    }

    #[test]
    fn only_numbers_are_marked_and_only_outside_of_texts() {
        let body = br#"{"a":"12345678901234567890123","b":[12345678901234567890123,1.5],"c\"":"\\"}"#;
        let marked = mark(body).unwrap();
        let expected = json!({"a": "12345678901234567890123", "b": ["\u{0}12345678901234567890123", 1.5], "c\"": "\\"});
        assert_eq!(serde_json::from_slice::<Value>(&marked).unwrap(), expected);
        assert_eq!(mark(br#"{"a":1e400,"b":[1,2]}"#), None);
    }

    #[test]
    fn the_floor_of_a_number_has_all_its_digits() {
        for (text, floor, is_whole) in [
            ("0", "0", true),
            ("2.5", "2", false),
            ("-2.5", "-3", false),
            ("-9.5", "-10", false),
            ("0.001", "0", false),
            ("-0.001", "-1", false),
            ("1e3", "1000", true),
            ("7203685477580776123", "7203685477580776123", true),
            ("-123456789012345678901234567890.5", "-123456789012345678901234567891", false),
        ] {
            assert_eq!(number(text).floor(), Some((floor.to_owned(), is_whole)), "{text}");
        }
        assert_eq!(number("1e300").floor(), None);
    }

    proptest! {
        #[test]
        fn decimals_are_in_the_order_of_the_numbers(left in -1_000_000_i64..1_000_000, right in -1_000_000_i64..1_000_000, shift in 0_u32..5) {
            let text = |number: i64| {
                let fraction = format!("{number:07}");
                let (whole, fraction) = fraction.split_at(fraction.len() - shift as usize);
                format!("{whole}.{fraction}0")
            };
            prop_assert_eq!(Decimal::parse(&text(left)).unwrap().cmp(&Decimal::parse(&text(right)).unwrap()), left.cmp(&right));
        }

        #[test]
        fn every_float_stands_for_its_shortest_form(bits: u64) {
            let float = f64::from_bits(bits);
            prop_assume!(float.is_finite());
            for text in [format!("{float:e}"), serde_json::to_string(&float).unwrap()] {
                prop_assert!(is_float(&text), "{}", text);
            }
        }
    }
}
