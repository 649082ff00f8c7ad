//! Sizes in the configuration: written `"64MiB"`, `"1.5GB"` or as a plain number of bytes. To be used as `#[serde(with = "byte_size")]`
//! on a whole number. A size is shown in the largest unit that says it exactly, so what is shown can be read back.

use std::fmt;
use std::marker::PhantomData;

use bytesize::ByteSize;
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serializer};

const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// The shortest exact way to write `bytes`; a plain number where no unit fits.
pub(crate) fn written(bytes: u64) -> String {
    let unit = UNITS.into_iter().find(|(_, bits)| bytes >> bits > 0 && bytes.trailing_zeros() >= *bits);
    unit.map_or_else(|| bytes.to_string(), |(unit, bits)| format!("{}{unit}", bytes >> bits))
}

/// Writes a size.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<T: Copy + TryInto<u64>, S: Serializer>(size: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written((*size).try_into().unwrap_or(u64::MAX)))
}

/// Reads a size.
///
/// # Errors
/// The value is no size.
pub fn deserialize<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(SizeVisitor(PhantomData))
}

struct SizeVisitor<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for SizeVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"64MiB\", or a number of bytes")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<T, E> {
        T::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Unsigned(bytes), &self))
    }

    fn visit_i64<E: Error>(self, bytes: i64) -> Result<T, E> {
        let size = u64::try_from(bytes).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))?;
        self.visit_u64(size)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let size: ByteSize = text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))?;
        self.visit_u64(size.as_u64())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Deserialize, Serialize)]
    struct Limits {
        #[serde(with = "super")]
        size: usize,
    }

    fn read(value: &str) -> Result<usize, String> {
        toml::from_str(&format!("size = {value}")).map(|limits: Limits| limits.size).map_err(|problem| problem.message().to_owned())
    }

    #[test]
    fn sizes_are_read_in_every_way_and_refused_with_what_was_expected() {
        let sizes = ["67108864", "'67108864'", "'64MiB'", "'64 MiB'", "'65536KiB'"].map(|value| read(value).unwrap());
        assert_eq!(sizes, [64 << 20; 5]);
        assert_eq!(read("'1.5GB'"), Ok(1_500_000_000));
        assert_eq!(read("0"), Ok(0));
        for value in ["'many'", "-1", "true", "'-1MiB'"] {
            let problem = read(value).unwrap_err();
            assert!(problem.contains("64MiB"), "{value}: {problem}");
        }
    }

    #[test]
    fn a_size_is_shown_exactly_and_reads_back() {
        let shown = |size| toml::to_string(&Limits { size }).unwrap();
        assert_eq!(
            [64 << 20, 192 << 20, 20 << 30, 1 << 10].map(|size| shown(size).replace("size = ", "")),
            ["\"64MiB\"\n", "\"192MiB\"\n", "\"20GiB\"\n", "\"1KiB\"\n"]
        );
        for size in [0, 1, 1_000, 1_025, (1 << 30) + 1, 3 << 29, usize::MAX >> 1] {
            assert_eq!(toml::from_str::<Limits>(&shown(size)).unwrap().size, size, "{}", shown(size));
        }
    }
}
