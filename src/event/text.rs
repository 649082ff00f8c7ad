//! Text within bounds. What is looked for here is looked for in every event, and nearly never there.

/// The longest prefix of `text` within `max` bytes that ends between characters.
#[inline]
pub fn clip(text: &str, max: usize) -> &str {
    if text.len() <= max { text } else { text.get(..text.floor_char_boundary(max)).unwrap_or(text) }
}

/// As [`str::trim`]: a text whose first and last byte are letters, digits or marks of ASCII has no blanks around it.
#[inline]
pub fn trim(text: &str) -> &str {
    match text.as_bytes() {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => text.trim(),
    }
}

/// Whether a text holds a NUL. Names and most values have a few letters, and those are looked at together.
#[inline]
pub fn has_nul(text: &str) -> bool {
    let bytes = text.as_bytes();
    if let (Some(first), Some(last), 8..=16) = (bytes.first_chunk(), bytes.last_chunk(), bytes.len()) {
        return word_has_nul(u64::from_le_bytes(*first)) || word_has_nul(u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last), 4..8) = (bytes.first_chunk(), bytes.last_chunk(), bytes.len()) {
        return word_has_nul(u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)));
    }
    memchr::memchr(0, bytes).is_some()
}

/// Whether a byte of eight is 0: it alone borrows from a bit that it has not.
fn word_has_nul(word: u64) -> bool {
    const ONES: u64 = u64::from_le_bytes([0x01; 8]);
    word.wrapping_sub(ONES) & !word & (ONES << 7) != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn short_ways_find_what_long_ones_find(text in "[\\x00-\\x02a\u{7f}\u{80}\u{3000} ]{0,20}", letters in ".{0,40}", max in 0_usize..40) {
            for text in [&text, &letters] {
                prop_assert_eq!(has_nul(text), text.contains('\0'));
                prop_assert_eq!(trim(text), text.trim());
                prop_assert_eq!(clip(text, max), &text[..text.floor_char_boundary(max)]);
            }
        }

        #[test]
        fn a_nul_is_found_wherever_it_stands(length in 1_usize..40, at in 0_usize..40, letter in prop::char::range('\u{1}', '\u{7f}')) {
            let mut text = letter.to_string().repeat(length);
            prop_assert!(!has_nul(&text));
            text.replace_range(at % length..=at % length, "\0");
            prop_assert!(has_nul(&text));
        }
    }
}
