//! Why an event that does not parse does not.
//!
//! A second parser finds where the text breaks off; what stands there says which defect it is. Its message is for people only: no
//! program goes by its words.

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use crate::outcome::Defect;

/// Nesting at which the parsers give up.
const MAX_DEPTH: usize = 127;

/// The defect of an event that does not parse, and a message about it.
pub(super) fn why(bytes: &[u8]) -> (Defect, String) {
    let Err(problem) = serde_json::from_slice::<Readable>(bytes) else {
        // What one parser reads and the other does not is a number at the edge of a float's range.
        return (Defect::NumberOutOfRange, "a number is beyond a 64-bit float".to_owned());
    };
    let end = offset(bytes, problem.line(), problem.column());
    (Lexer { bytes, at: 0, depth: 0 }.defect_before(end).unwrap_or(Defect::InvalidJson), problem.to_string())
}

/// The offset of a position that is given as the line, from 1, and the bytes before it in that line.
fn offset(bytes: &[u8], line: usize, column: usize) -> usize {
    let ends = memchr::memchr_iter(b'\n', bytes).map(|end| end + 1);
    let start = std::iter::once(0).chain(ends).nth(line.saturating_sub(1)).unwrap_or(bytes.len());
    start.saturating_add(column)
}

/// Walks through the tokens of a text that parses up to some place.
struct Lexer<'b> {
    bytes: &'b [u8],
    at: usize,
    depth: usize,
}

/// What keeps a token from being one, and where that shows.
type Found = Option<(usize, Defect)>;

impl Lexer<'_> {
    /// The defect of the first token that has one, if it shows before `end`: what is behind was never looked at.
    fn defect_before(mut self, end: usize) -> Option<Defect> {
        while self.at < end {
            let found = match self.bytes.get(self.at)? {
                b'[' | b'{' => self.open(),
                b']' | b'}' => self.close(),
                b'"' => self.string(),
                b'-' | b'0'..=b'9' => self.number(),
                _ => self.skip(),
            };
            if let Some((at, defect)) = found {
                return (at < end).then_some(defect);
            }
        }
        None
    }

    fn open(&mut self) -> Found {
        self.at += 1;
        self.depth += 1;
        (self.depth > MAX_DEPTH).then_some((self.at - 1, Defect::NestingTooDeep))
    }

    fn close(&mut self) -> Found {
        self.at += 1;
        self.depth = self.depth.saturating_sub(1);
        None
    }

    fn skip(&mut self) -> Found {
        self.at += 1;
        None
    }

    /// A number: out of range only if it is one by its form.
    fn number(&mut self) -> Found {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let begins_with_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        let mut is_number = whole == 1 || whole > 1 && !begins_with_zero;
        if is_number && self.peek() == Some(b'.') {
            self.at += 1;
            is_number = self.digits() > 0;
        }
        if is_number && matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            is_number = self.digits() > 0;
        }
        let text = std::str::from_utf8(self.bytes.get(start..self.at)?).ok()?;
        let is_infinite = text.parse().is_ok_and(f64::is_infinite);
        match is_number {
            true if is_infinite => Some((start + 1, Defect::NumberOutOfRange)),
            true => None,
            false => Some((start, Defect::InvalidJson)),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Passes over digits and returns how many there were.
    fn digits(&mut self) -> usize {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// A string: its escapes first, and whether it is UTF-8 once its end is found.
    fn string(&mut self) -> Found {
        let start = self.at + 1;
        self.at = start;
        loop {
            match self.bytes.get(self.at..)? {
                [b'"', ..] => {
                    let text = self.bytes.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return std::str::from_utf8(text).err().map(|error| (start + error.valid_up_to(), Defect::InvalidUnicode));
                }
                [b'\\', b'u', hex @ ..] => match escape(hex) {
                    Ok(length) => self.at += 2 + length,
                    Err(defect) => return Some((self.at, defect)),
                },
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => self.at += 2,
                [b'\\', ..] | [] => return Some((self.at, Defect::InvalidJson)),
                [0..b' ', ..] => return Some((self.at, Defect::InvalidCharacter)),
                _ => self.at += 1,
            }
        }
    }
}

/// The length of what follows `\u`: four digits, or the two halves of a surrogate pair.
fn escape(hex: &[u8]) -> Result<usize, Defect> {
    let (first, rest) = unit(hex).ok_or(Defect::InvalidJson)?;
    match first {
        0xDC00..=0xDFFF => Err(Defect::InvalidUnicode),
        0xD800..=0xDBFF => match rest {
            [b'\\', b'u', hex @ ..] => match unit(hex).ok_or(Defect::InvalidJson)? {
                (0xDC00..=0xDFFF, _) => Ok(10),
                _ => Err(Defect::InvalidUnicode),
            },
            [] | [b'\\'] => Err(Defect::InvalidJson),
            _ => Err(Defect::InvalidUnicode),
        },
        _ => Ok(4),
    }
}

/// Four hexadecimal digits, and what is behind them.
fn unit(hex: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = hex.split_at_checked(4)?;
    let mut bytes = [0; 2];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some((u16::from_be_bytes(bytes), rest))
}

/// A value of which nothing is kept. `IgnoredAny` would pass over numbers and escapes unread.
struct Readable;

impl<'de> serde::Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The defect by the words of the parser, as they are in the release that the lock file names.
    fn by_words(text: &str) -> Defect {
        match text {
            text if text.contains("recursion limit") => Defect::NestingTooDeep,
            text if text.contains("number out of range") => Defect::NumberOutOfRange,
            text if text.contains("surrogate") || text.contains("unexpected end of hex escape") => Defect::InvalidUnicode,
            text if text.contains("unicode code point") => Defect::InvalidUnicode,
            text if text.contains("control character") => Defect::InvalidCharacter,
            _ => Defect::InvalidJson,
        }
    }

    fn agrees(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Err(problem) = serde_json::from_slice::<Readable>(bytes) {
            let (defect, message) = why(bytes);
            prop_assert_eq!(defect, by_words(&message), "{:?}: {}", String::from_utf8_lossy(bytes), problem);
        }
        Ok(())
    }

    #[test]
    fn nesting_is_refused_where_the_parser_gives_up() {
        for depth in 120..135 {
            for open in ["[", "{\"a\":"] {
                agrees(open.repeat(depth).as_bytes()).unwrap();
                agrees(format!("[{}", open.repeat(depth)).as_bytes()).unwrap();
            }
        }
    }

    proptest! {
        #[test]
        fn the_defect_is_the_one_that_the_parser_names(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "[", "]", ":", ",", "\"", "\"a\"", "\\ud83d", "\\ude00", "\\u00e9", "\\u12", "\\n", "\\U", "\\", "1e400", "-1e999", "12",
                "-", "1.", "true", "nul", "\n", "\t", " ", "\u{1}", "\u{e4}", "x",
            ]), 0..12),
            bad in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = pieces.concat().into_bytes();
            if let Some((at, byte)) = bad && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            agrees(&bytes)?;
            agrees(&[b"[\"".as_slice(), &bytes, b"\"]"].concat())?;
            agrees(&[b"{\"a\":\n".as_slice(), &bytes, b"}"].concat())?;
        }
    }
}
