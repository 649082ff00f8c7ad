//! What a statement answers.

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// What a statement answered.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The rows, in the format asked for.
    pub body: Bytes,
    /// Rows the server read.
    pub read_rows: u64,
}

/// How the rows of an answer are written.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// One JSON array a line.
    Json,
    /// Binary, every row as many bytes.
    Fixed(usize),
    /// A file, by the server's name of its format. How many rows it has only its readers know.
    File(&'static str),
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Json => "JSONCompactEachRow",
            Self::Fixed(_) => "RowBinary",
            Self::File(name) => name,
        }
    }

    /// What is counted of an answer: the ends of lines, or bytes.
    pub(super) fn measure(self, chunk: &[u8]) -> u64 {
        match self {
            Self::Json => chunk.iter().filter(|byte| **byte == b'\n').count() as u64,
            Self::Fixed(_) | Self::File(_) => chunk.len() as u64,
        }
    }

    /// How many rows that is.
    pub(super) fn rows(self, measured: u64) -> u64 {
        match self {
            Self::Json => measured,
            Self::Fixed(width) => measured / width as u64,
            Self::File(_) => u64::MAX,
        }
    }
}

/// A whole number of an answer. The server writes those of 64 bits with quotes or without, depending on a setting that a reader may
/// not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole<T>(pub T);

impl<'de, T: TryFrom<i128>> Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(WholeVisitor(PhantomData))
    }
}

struct WholeVisitor<T>(PhantomData<T>);

impl<T: TryFrom<i128>> WholeVisitor<T> {
    fn narrow<E: Error>(number: i128) -> Result<Whole<T>, E> {
        T::try_from(number).map(Whole).map_err(|_| E::custom(format!("{number} does not fit")))
    }
}

impl<T: TryFrom<i128>> Visitor<'_> for WholeVisitor<T> {
    type Value = Whole<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a whole number")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Self::narrow(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Self::narrow(number.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Self::narrow(text.parse().map_err(E::custom)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_with_quotes_and_without_and_refused_where_it_does_not_fit() {
        let (max, min, small): (Whole<u64>, Whole<i64>, Whole<u16>) =
            serde_json::from_str(r#"["18446744073709551615",-9223372036854775808,7]"#).unwrap();
        assert_eq!((max.0, min.0, small.0), (u64::MAX, i64::MIN, 7));
        for wrong in ["65536", "\"-1\"", "\"\"", "1.5", "null"] {
            assert!(serde_json::from_str::<Whole<u16>>(wrong).is_err(), "{wrong}");
        }
    }
}
