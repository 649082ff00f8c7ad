//! Makes a body readable that holds bytes which no JSON string may hold: a byte that is no UTF-8 (a name
//! in Latin-1, a character cut in the middle), a bare control character or a backslash that escapes nothing (`C:\Users`) must not cost
//! the events beside the one that holds it.

use std::borrow::Cow;

/// The same text with a question mark in the place of each byte that may not stand in a string. Nothing moves, so what was found in it
/// stands at the same place in `bytes`. What is wrong outside of strings stays wrong.
pub(super) fn sanitize(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if Scan::default().next_bad(bytes).is_none() => Cow::Borrowed(text),
        _ => Cow::Owned(masked(bytes)),
    }
}

/// Walks through a JSON text.
#[derive(Default)]
struct Scan {
    at: usize,
    is_in_string: bool,
}

impl Scan {
    /// The place of the next byte that may not be where it is in a string.
    fn next_bad(&mut self, bytes: &[u8]) -> Option<usize> {
        while let Some(rest) = bytes.get(self.at..).filter(|rest| !rest.is_empty()) {
            let at = self.at;
            self.at += 1;
            match rest {
                [b'"', ..] => self.is_in_string = !self.is_in_string,
                [b'\\', escaped @ ..] if self.is_in_string => match escaped {
                    [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 1,
                    [b'u', hex @ ..] if hex.len() >= 4 && hex.iter().take(4).all(u8::is_ascii_hexdigit) => self.at += 5,
                    _ => return Some(at),
                },
                [0..b' ', ..] if self.is_in_string => return Some(at),
                _ => {}
            }
        }
        None
    }
}

fn masked(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        // Outside of a string a question mark is as wrong as what it stands for.
        out.resize(out.len() + chunk.invalid().len(), b'?');
    }
    let mut scan = Scan::default();
    while let Some(at) = scan.next_bad(&out) {
        if let Some(byte) = out.get_mut(at) {
            *byte = b'?';
        }
    }
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_byte_that_may_not_be_in_a_string_is_a_question_mark() {
        let cases: [(&[u8], &str); 9] = [
            (b"[\"M\xfcller\"]", "[\"M?ller\"]"),
            (b"[\"M\xc3\"]", "[\"M?\"]"),
            (b"[\"\xed\xa0\xbd\"]", "[\"???\"]"),
            (b"[\"a\nb\\\"\tc\",\n1]", "[\"a?b\\\"?c\",\n1]"),
            (b"[\"\\\n\"]", "[\"??\"]"),
            (b"[\"\\\xff\",\xff]", "[\"??\",?]"),
            (b"[\"C:\\Users\\\xfc\\\"\"]", "[\"C:?Users??\\\"\"]"),
            (b"[\"\\u12\", \"\\ud800\"]", "[\"?u12\", \"\\ud800\"]"),
            ("[\"ä\"]".as_bytes(), "[\"ä\"]"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(sanitize(bytes), expected);
        }
        assert!(matches!(sanitize("{\n\t\"ä\": \"\\u0001\"}".as_bytes()), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn nothing_moves_and_good_text_stays(bytes in prop::collection::vec(any::<u8>(), 0..100), text in "[\"\\\\a-c\n,]{0,40}") {
            prop_assert_eq!(sanitize(&bytes).len(), bytes.len());
            let mixed = [text.as_bytes(), &bytes].concat();
            prop_assert_eq!(sanitize(&mixed).len(), mixed.len());
        }

        /// What a JSON writer wrote, with bytes of its strings overwritten, still parses.
        #[test]
        fn a_json_text_with_bad_bytes_in_its_strings_parses(texts in prop::collection::vec("[a-zäöü\"\\\\]{0,8}", 1..6), bad in prop::collection::vec((0_usize..200, any::<u8>()), 0..6)) {
            let mut bytes = serde_json::to_vec(&texts).unwrap();
            for (at, byte) in bad {
                let at = at % bytes.len();
                let is_plain = |byte: u8| !matches!(byte, b'"' | b'\\' | b'[' | b']' | b',');
                let is_escaped = at > 0 && bytes[at - 1] == b'\\';
                if is_plain(bytes[at]) && is_plain(byte) && !is_escaped {
                    bytes[at] = byte;
                }
            }
            let parsed: Vec<String> = serde_json::from_str(&sanitize(&bytes)).unwrap();
            prop_assert_eq!(parsed.len(), texts.len());
        }
    }
}
