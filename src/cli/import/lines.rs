//! Lines of a file, a gzip file or standard input.
//!
//! Owns decompression and the bound on memory: of a line longer than [`MAX_LINE`] only the beginning is held. A line counts
//! when its end has been read, so a gzip file that breaks off yields its whole lines and then an error.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use memchr::memchr;

/// Most bytes of a line. An event has at most 64 KiB, so a longer line is no event.
pub(super) const MAX_LINE: usize = 1 << 20;
const BUFFER: usize = 256 << 10;
const GZIP: [u8; 2] = [0x1F, 0x8B];
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
}

/// Yields the lines of one input.
pub(super) struct Lines {
    input: Box<dyn BufRead + Send>,
    line: Vec<u8>,
    /// Ends of line read so far.
    ends: u64,
}

impl Lines {
    /// The lines of the file at `path`, or of standard input for `-`. `progress` moves by the bytes read from the file.
    pub(super) fn open(path: &Path, progress: &ProgressBar) -> io::Result<Self> {
        if path.as_os_str() == "-" {
            return Self::new(io::stdin());
        }
        Self::new(progress.wrap_read(File::open(path)?))
    }

    /// The lines of `input`, decompressed if it begins as gzip does.
    pub(super) fn new(mut input: impl Read + Send + 'static) -> io::Result<Self> {
        let mut head = Vec::with_capacity(GZIP.len());
        input.by_ref().take(GZIP.len() as u64).read_to_end(&mut head)?;
        let is_gzip = head == GZIP;
        let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(head).chain(input));
        let input: Box<dyn BufRead + Send> =
            if is_gzip { Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole))) } else { Box::new(whole) };
        Ok(Self { input, line: Vec::new(), ends: 0 })
    }

    /// The next line, continued while `continues` says so of the line just added; `None` at the end. Blank lines are passed over.
    pub(super) fn next(&mut self, mut continues: impl FnMut(&[u8]) -> bool) -> io::Result<Option<Line<'_>>> {
        loop {
            self.line.clear();
            let number = self.ends + 1;
            let mut is_cut = false;
            loop {
                let start = self.line.len();
                let Some(is_whole) = self.append()? else { break };
                is_cut |= !is_whole;
                if is_cut || !continues(self.line.get(start..).unwrap_or_default()) {
                    break;
                }
            }
            if number == self.ends + 1 {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                let bytes = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
                let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
                let bytes = if number == 1 { bytes.strip_prefix(BOM).unwrap_or(bytes) } else { bytes };
                return Ok(Some(Line { number, bytes, is_cut }));
            }
        }
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
            let end = memchr(b'\n', available).map(|at| at + 1);
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
        is_whole &= self.line.last() == Some(&b'\n') || self.line.len() <= MAX_LINE;
        self.line.truncate(if is_whole { self.line.len() } else { MAX_LINE });
        Ok(has_any.then_some(is_whole))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn all(input: Vec<u8>) -> Vec<(u64, Vec<u8>, bool)> {
        let mut lines = Lines::new(io::Cursor::new(input)).unwrap();
        let mut out = Vec::new();
        while let Some(line) = lines.next(|_| false).unwrap() {
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
        let mut lines = Lines::new(io::Cursor::new(broken)).unwrap();
        let mut read = Vec::new();
        let problem = loop {
            match lines.next(|_| false) {
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
            prop_assume!(!input.starts_with(BOM) && !input.starts_with(&GZIP));
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
