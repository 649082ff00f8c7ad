//! Numbers of requests and answers, also whole ones that a 64-bit float cannot hold.
//!
//! The table keeps a number as a float, but a whole one of up to 64 bits that no float holds as its digits, as JSON text. What is
//! neither is the nearest float, here as there.

use std::cmp::Ordering;

use serde_json::Value;

use super::canonical::{Canonical, CanonicalForm};

/// Floats beyond this are not compared with whole numbers digit by digit: there are none in the table.
const MOST: f64 = 1e38;

/// A number of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number {
    /// The nearest float.
    pub(crate) float: f64,
    /// The number itself, where no float holds it.
    pub(crate) exact: Option<i128>,
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.float.to_bits() == other.float.to_bits() && self.exact == other.exact
    }
}

impl Eq for Number {}

impl Canonical for Number {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { float, exact } = self;
        to.field("float", &float.to_bits()).field("exact", exact);
    }
}

impl Number {
    /// The number that a value is, if it is one.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        match value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from)) {
            Some(whole) => Some(Self { float: whole as f64, exact: (!is_held(whole)).then_some(whole) }),
            // Adding zero makes one of the two.
            None => Some(Self { float: value.as_f64()? + 0.0, exact: None }),
        }
    }

    /// How it stands to its float.
    pub(crate) fn beside_float(&self) -> Ordering {
        self.exact.map_or(Ordering::Equal, |exact| exact.cmp(&(self.float as i128)))
    }

    /// The largest whole number that is not above it; none beyond [`MOST`].
    pub(crate) fn floor(&self) -> Option<i128> {
        let floor = (self.float.abs() < MOST).then(|| self.float.floor() as i128);
        self.exact.or(floor)
    }

    /// Whether it is a whole number.
    pub(crate) fn is_whole(&self) -> bool {
        self.exact.is_some() || self.float.fract() == 0.0
    }
}

/// Whether a float holds a whole number.
fn is_held(whole: i128) -> bool {
    whole as f64 as i128 == whole
}

/// Whether a number of the table, as text, is kept as a float.
pub(crate) fn is_float(text: &str) -> bool {
    text.parse().map_or(true, is_held)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_that_no_float_holds_keeps_its_digits() {
        for whole in [9_007_199_254_740_993_i64, -9_007_199_254_740_993, 7_203_685_477_580_776_123, i64::MAX] {
            assert_eq!(Number::of(&json!(whole)).unwrap().exact, Some(i128::from(whole)));
            assert!(!is_float(&whole.to_string()));
        }
        assert_eq!(Number::of(&json!(u64::MAX)).unwrap().exact, Some(i128::from(u64::MAX)));
    }

    #[test]
    fn all_other_numbers_are_floats_and_there_is_one_zero() {
        for value in
            [json!(0), json!(1), json!(9_007_199_254_740_992_i64), json!(1_152_921_504_606_846_976_i64), json!(0.1), json!(1.7e308)]
        {
            assert_eq!(Number::of(&value).unwrap().exact, None, "{value}");
        }
        assert_eq!(Number::of(&json!(-0.0)), Number::of(&json!(0)));
        assert_eq!(Number::of(&json!(1_000)), Number::of(&json!(1e3)));
        assert_eq!(Number::of(&json!("1")), None);
        assert!(is_float("1e21") && is_float("-2.5"));
    }

    #[test]
    fn a_number_stands_beside_its_float_and_above_its_floor() {
        let number = |value: Value| Number::of(&value).unwrap();
        assert_eq!(number(json!(9_007_199_254_740_993_i64)).beside_float(), Ordering::Greater);
        assert_eq!(number(json!(9_007_199_254_740_995_i64)).beside_float(), Ordering::Less);
        assert_eq!(number(json!(2.5)).beside_float(), Ordering::Equal);
        for (value, floor, is_whole) in [(json!(2.5), 2, false), (json!(-2.5), -3, false), (json!(0), 0, true), (json!(1e3), 1_000, true)] {
            assert_eq!((number(value.clone()).floor(), number(value).is_whole()), (Some(floor), is_whole));
        }
        assert_eq!(number(json!(1e300)).floor(), None);
    }
}
