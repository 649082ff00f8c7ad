//! Lines of a text.
//!
//! Owns the ends of lines and the bound on memory: of a line longer than [`MAX_LINE`] only the beginning is held. A line counts
//! when its end has been read, so a compressed file that breaks off yields its whole lines and then an error.

use std::io::{self, BufRead};

use memchr::memchr;

use super::input::Text;

/// Most bytes of a line. An event has at most 64 KiB, so a longer line is no event.
pub(super) const MAX_LINE: usize = 1 << 20;
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A line, or several that belong together, without the end of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'l> {
    /// Number of its first line, counted from 1.
    pub(super) number: u64,
    /// Its bytes; the first [`MAX_LINE`] if it is longer.
    pub(super) bytes: &'l [u8],
    /// Whether there was more.
    pub(super) is_cut: bool,
    /// What it ends with; nothing where the text ends.
    pub(super) end: &'l [u8],
}

/// Yields the lines of one text.
pub(super) struct Lines {
    input: Text,
    line: Vec<u8>,
    /// Ends of line read so far.
    ends: u64,
    /// What a line ends with; `None` until something has been read.
    end: Option<u8>,
}

impl Lines {
    /// The lines of `input`.
    pub(super) fn new(input: Text) -> Self {
        Self { input, line: Vec::new(), ends: 0, end: None }
    }

    /// The next line that is not blank, as it is in the text but for its end; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            let Some(is_whole) = self.read()? else { return Ok(None) };
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some(self.current(is_whole)));
            }
        }
    }

    /// The next line, blank or not.
    pub(super) fn next_any(&mut self) -> io::Result<Option<Line<'_>>> {
        Ok(self.read()?.map(|is_whole| self.current(is_whole)))
    }

    fn read(&mut self) -> io::Result<Option<bool>> {
        self.line.clear();
        self.append()
    }

    fn current(&self, is_whole: bool) -> Line<'_> {
        let line = self.line.as_slice();
        let bytes = match self.end {
            Some(b'\r') => line.strip_suffix(b"\r"),
            _ => line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line)),
        };
        // Of a line that is cut the end is not known, and of the last one there may be none but half of one.
        let bytes = bytes.unwrap_or_else(|| line.strip_suffix(b"\r").unwrap_or(line));
        let end = line.get(bytes.len()..).unwrap_or_default();
        let bytes = if self.ends == 1 { bytes.strip_prefix(BOM).unwrap_or(bytes) } else { bytes };
        Line { number: self.ends, bytes, is_cut: !is_whole, end }
    }

    /// Appends one line with its end; whether it had room, or `None` if there is none.
    fn append(&mut self) -> io::Result<Option<bool>> {
        let mut is_whole = true;
        let mut has_any = false;
        loop {
            let available = match self.input.fill_buf() {
                Ok(available) => available,
                Err(problem) if problem.kind() == io::ErrorKind::Interrupted => continue,
                Err(problem) => return Err(problem),
            };
            if available.is_empty() {
                break;
            }
            has_any = true;
            let end = *self.end.get_or_insert_with(|| end_of_lines(available));
            let end = memchr(end, available).map(|at| at + 1);
            let taken = end.unwrap_or(available.len());
            // One more for the end of the line.
            let room = (MAX_LINE + 1).saturating_sub(self.line.len()).min(taken);
            self.line.extend_from_slice(available.get(..room).unwrap_or_default());
            self.input.consume(taken);
            is_whole &= room == taken;
            if end.is_some() {
                break;
            }
        }
        self.ends += u64::from(has_any);
        // A last line without an end has one byte less to it.
        is_whole &= self.line.last() == self.end.as_ref() || self.line.len() <= MAX_LINE;
        self.line.truncate(if is_whole { self.line.len() } else { MAX_LINE });
        Ok(has_any.then_some(is_whole))
    }
}

/// Programs of old Macs end lines with a carriage return alone.
fn end_of_lines(head: &[u8]) -> u8 {
    // The last byte may be the first half of an end of two bytes.
    let is_mac = memchr(b'\r', head).is_some_and(|at| at + 1 < head.len()) && memchr(b'\n', head).is_none();
    if is_mac { b'\r' } else { b'\n' }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;
    use crate::cli::import::input;

    /// A buffer is filled this far at a time.
    const BUFFER: usize = 256 << 10;

    fn lines(input: Vec<u8>) -> Lines {
        Lines::new(input::text(io::Cursor::new(input), None).unwrap())
    }

    fn all(input: Vec<u8>) -> Vec<(u64, Vec<u8>, bool)> {
        let mut lines = lines(input);
        let mut out = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            out.push((line.number, line.bytes.to_vec(), line.is_cut));
        }
        out
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn blank_lines_are_passed_over_but_counted_in_line_numbers() {
        let lines = all(b"\xEF\xBB\xBFa\r\n\n  \nb".to_vec());
        assert_eq!(lines, [(1, b"a".to_vec(), false), (4, b"b".to_vec(), false)]);
        assert!(all(Vec::new()).is_empty());
    }

    #[test]
    fn lines_of_an_old_mac_end_with_a_carriage_return() {
        assert_eq!(all(b"a\rb\rc".to_vec()), [(1, b"a".to_vec(), false), (2, b"b".to_vec(), false), (3, b"c".to_vec(), false)]);
        assert_eq!(all(b"a\rb\r".to_vec()).len(), 2);
        assert_eq!(all(b"a\r".to_vec()), [(1, b"a".to_vec(), false)]);
        assert_eq!(all(b"a\rb\nc".to_vec()), [(1, b"a\rb".to_vec(), false), (2, b"c".to_vec(), false)]);
    }

    #[test]
    fn a_line_beyond_the_limit_is_cut_and_the_next_one_is_whole() {
        for (excess, is_cut) in [(0, false), (1, true), (3 * BUFFER, true)] {
            for end in ["\n", ""] {
                let input = [b"first\n".as_slice(), &vec![b'x'; MAX_LINE + excess], end.as_bytes()].concat();
                let lines = all(input);
                assert_eq!(lines[1], (2, vec![b'x'; MAX_LINE], is_cut), "{excess} {end:?}");
            }
        }
        let lines = all([vec![b'x'; 2 * MAX_LINE], b"\nnext\n".to_vec()].concat());
        assert_eq!(lines[1], (2, b"next".to_vec(), false));
    }

    #[test]
    fn a_gzip_file_of_several_members_is_read_to_its_end() {
        let lines = all([gzip(b"a\nb"), gzip(b"c\nd\n")].concat());
        let texts: Vec<_> = lines.iter().map(|(_, bytes, _)| bytes.as_slice()).collect();
        assert_eq!(texts, [b"a".as_slice(), b"bc", b"d"]);
    }

    #[test]
    fn a_gzip_file_that_breaks_off_yields_whole_lines_and_then_an_error() {
        let text: Vec<u8> = (0..50_000u32).flat_map(|n| format!("{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        let mut broken = gzip(&text);
        broken.truncate(broken.len() / 2);
        let mut lines = lines(broken);
        let mut read = Vec::new();
        let problem = loop {
            match lines.next() {
                Ok(Some(line)) => read.extend([line.bytes, b"\n"].concat()),
                Ok(None) => panic!("ended well"),
                Err(problem) => break problem,
            }
        };
        assert_eq!(problem.kind(), io::ErrorKind::UnexpectedEof);
        assert!(text.starts_with(&read));
    }

    proptest! {
        #[test]
        fn lines_are_those_of_a_naive_split(input in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), 1u8..=255], 0..200)) {
            prop_assume!(!input.starts_with(b"\xEF") && input.iter().all(|byte| *byte != b'\r' && *byte < 0xFE));
            let naive: Vec<_> = input
                .split(|byte| *byte == b'\n')
                .enumerate()
                .filter(|(_, line)| !line.trim_ascii().is_empty())
                .map(|(index, line)| (index as u64 + 1, line.strip_suffix(b"\r").unwrap_or(line).to_vec(), false))
                .collect();
            prop_assert_eq!(all(input), naive);
        }
    }
}
