//! Numbers and byte strings as they stand in records, files and blocks: little endian, lengths as LEB128.
//!
//! Readers take off the front of a slice and give `None` where it is cut short, so damage is never a panic. On the hot path: each
//! inlines to a comparison and a load.

/// Appends `value` as LEB128: one byte for nearly all lengths.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 { out.push(value as u8) } else { put_long_varint(out, value) }
}

fn put_long_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a LEB128 value; `None` also if it is longer than 64 bits.
#[inline]
pub fn take_varint(input: &mut &[u8]) -> Option<u64> {
    match input.split_first()? {
        (&byte, rest) if byte < 0x80 => {
            *input = rest;
            Some(u64::from(byte))
        }
        _ => take_long_varint(input),
    }
}

fn take_long_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Appends a length and the bytes.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes a length and that many bytes.
#[inline]
pub fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(input)?).ok()?;
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(bytes)
}

/// Takes `N` bytes.
#[inline]
pub fn take_array<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*bytes)
}

/// Takes a byte.
#[inline]
pub fn take_u8(input: &mut &[u8]) -> Option<u8> {
    take_array(input).map(u8::from_le_bytes)
}

/// Takes two bytes, little endian.
#[inline]
pub fn take_u16(input: &mut &[u8]) -> Option<u16> {
    take_array(input).map(u16::from_le_bytes)
}

/// Takes four bytes, little endian.
#[inline]
pub fn take_u32(input: &mut &[u8]) -> Option<u32> {
    take_array(input).map(u32::from_le_bytes)
}

/// Takes eight bytes, little endian.
#[inline]
pub fn take_u64(input: &mut &[u8]) -> Option<u64> {
    take_array(input).map(u64::from_le_bytes)
}

/// Takes eight bytes, little endian, two's complement.
#[inline]
pub fn take_i64(input: &mut &[u8]) -> Option<i64> {
    take_array(input).map(i64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_is_taken_and_what_is_cut_short_is_none(value: u64, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_bytes(&mut out, &bytes);
            out.extend_from_slice(&value.to_le_bytes());
            let mut rest = out.as_slice();
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert_eq!(take_bytes(&mut rest), Some(bytes.as_slice()));
            prop_assert_eq!(take_u64(&mut rest), Some(value));
            prop_assert_eq!(take_u8(&mut rest), None);
            let mut cut = &out[..out.len() - 1];
            let taken = (take_varint(&mut cut), take_bytes(&mut cut).map(<[u8]>::len), take_i64(&mut cut));
            prop_assert_eq!(taken, (Some(value), Some(bytes.len()), None));
        }
    }

    #[test]
    fn a_varint_of_more_than_64_bits_is_damage() {
        assert_eq!(take_varint(&mut [0xff_u8; 9].iter().copied().chain([1]).collect::<Vec<u8>>().as_slice()), Some(u64::MAX));
        assert_eq!(take_varint(&mut [0xff_u8; 11].as_slice()), None);
        assert_eq!(take_varint(&mut [0x80_u8; 3].as_slice()), None);
    }
}
