//! What a file is, before it has lines: compressed, in another encoding, or no text at all.
//!
//! Owns what the first bytes say. Promises: a file is either read as UTF-8 text or refused by the name of what it is; nothing is
//! taken for text because it begins like some.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use bzip2::read::MultiBzDecoder;
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use encoding_rs_io::DecodeReaderBytesBuilder;
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;
use lzma_rust2::XzReader;

const BUFFER: usize = 256 << 10;
/// Bytes looked at to tell what a file is: a tar's mark stands at 257.
const HEAD: usize = 4 << 10;
const TAR: (usize, &[u8]) = (257, b"ustar");

/// Text of one file, decompressed and decoded.
pub(super) type Text = Box<dyn BufRead + Send>;

/// Files that hold no text, by their first bytes. A spreadsheet is a zip archive.
const NO_TEXT: [(&[u8], &str); 13] = [
    (b"PK\x03\x04", "a zip archive or a spreadsheet; unpack it, or save it as CSV"),
    (b"\xD0\xCF\x11\xE0", "a spreadsheet of an old Excel; save it as CSV"),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive; unpack it"),
    (b"Rar!", "a rar archive; unpack it"),
    (b"\x04\x22\x4D\x18", "compressed by lz4, which is not read; gz, zst, xz and bz2 are"),
    (b"\x1F\x9D", "compressed by compress (.Z), which is not read; gz, zst, xz and bz2 are"),
    (b"LZIP", "compressed by lzip, which is not read; gz, zst, xz and bz2 are"),
    (b"PAR1", "a Parquet file, which is not read; write it as CSV or NDJSON"),
    (b"Obj\x01", "an Avro file, which is not read; write it as NDJSON"),
    (b"ARROW1", "an Arrow file, which is not read; write it as CSV or NDJSON"),
    (b"ORC", "an ORC file, which is not read; write it as CSV or NDJSON"),
    (b"SQLite format 3", "an SQLite database; write the table as CSV"),
    (b"%PDF", "a PDF document"),
];

/// The text of the file at `path`, or of standard input for `-`. `progress` moves by the bytes read from the file.
pub(super) fn open(path: &Path, encoding: Option<&'static Encoding>, progress: &ProgressBar) -> io::Result<Text> {
    if path.as_os_str() == "-" {
        return text(io::stdin(), encoding);
    }
    text(progress.wrap_read(File::open(path)?), encoding)
}

/// The text that `input` holds. Without `encoding` it is UTF-8, or what its first bytes say.
pub(super) fn text(input: impl Read + Send + 'static, encoding: Option<&'static Encoding>) -> io::Result<Text> {
    let (head, input) = peek(input)?;
    let plain: Box<dyn Read + Send> = match head.as_slice() {
        [0x1F, 0x8B, ..] => Box::new(MultiGzDecoder::new(input)),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => Box::new(zstd::Decoder::new(input)?),
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(XzReader::new(input, true)),
        [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..] if rest.starts_with(b"1AY&SY") || rest.starts_with(b"\x17rE8P\x90") => {
            Box::new(MultiBzDecoder::new(input))
        }
        _ => return decoded(&head, input, encoding),
    };
    let (head, input) = peek(plain)?;
    decoded(&head, input, encoding)
}

type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

/// The first bytes of `input`, and all of it.
fn peek<R: Read>(mut input: R) -> io::Result<(Vec<u8>, Whole<R>)> {
    let mut head = Vec::with_capacity(HEAD);
    input.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    Ok((head.clone(), io::Cursor::new(head).chain(input)))
}

fn decoded(head: &[u8], input: impl Read + Send + 'static, encoding: Option<&'static Encoding>) -> io::Result<Text> {
    if let Some(problem) = no_text(head).filter(|_| encoding.is_none()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(match encoding.or_else(|| utf_16(head)) {
        None => Box::new(BufReader::with_capacity(BUFFER, input)),
        Some(encoding) => {
            let decoded = DecodeReaderBytesBuilder::new().encoding(Some(encoding)).bom_override(true).strip_bom(true).build(input);
            Box::new(BufReader::with_capacity(BUFFER, decoded))
        }
    })
}

/// Why the bytes are no text, if they are none.
fn no_text(head: &[u8]) -> Option<String> {
    let is_tar = head.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1));
    let archive = is_tar.then_some("a tar archive; unpack it");
    let known = archive.or_else(|| NO_TEXT.iter().find(|(mark, _)| head.starts_with(mark)).map(|(_, name)| *name));
    if let Some(name) = known {
        return Some(format!("is {name}"));
    }
    if head.starts_with(b"\xFF\xFE\0\0") || head.starts_with(b"\0\0\xFE\xFF") {
        return Some("is text in UTF-32, which is not read; write it as UTF-8".to_owned());
    }
    // A log that was truncated while its server went on writing begins with a hole.
    let after_hole = head.iter().position(|byte| *byte != 0).and_then(|at| head.get(at..)).unwrap_or_default();
    (after_hole.contains(&0) && utf_16(head).is_none()).then(|| "is no text: it holds bytes of zero".to_owned())
}

/// UTF-16, by its mark or because every other byte of what looks like Latin letters is zero.
fn utf_16(head: &[u8]) -> Option<&'static Encoding> {
    match head {
        [0xFF, 0xFE, ..] => return Some(UTF_16LE),
        [0xFE, 0xFF, ..] => return Some(UTF_16BE),
        _ => {}
    }
    let zeros = |from: usize| head.iter().skip(from).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    // Most characters of a table are ASCII, and text has no zero of its own.
    let most = head.len() / 2 - head.len() / 8;
    match () {
        () if head.len() < 4 => None,
        () if odd >= most && even == 0 => Some(UTF_16LE),
        () if even >= most && odd == 0 => Some(UTF_16BE),
        () => None,
    }
}

/// What is known of a file's encoding once all its lines have been seen.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// Lines that are UTF-8 and not ASCII alone.
    utf_8: u64,
    /// Lines that are no UTF-8.
    other: u64,
}

impl Census {
    /// Takes a line in.
    pub(super) fn see(&mut self, line: &[u8]) {
        match std::str::from_utf8(line) {
            Ok(text) => self.utf_8 += u64::from(!text.is_ascii()),
            Err(_) => self.other += 1,
        }
    }

    /// The encoding, unless it is UTF-8. Nothing says which of the 8-bit encodings it is: the one of Western Windows, which holds
    /// Latin-1, is by far the most frequent. A file of both is UTF-8 with broken lines.
    pub(super) fn encoding(&self) -> Option<&'static Encoding> {
        (self.other > 0 && self.utf_8 == 0).then_some(WINDOWS_1252)
    }
}

/// The encoding called `name`: a label of the WHATWG, such as `latin1`, `windows-1250`, `shift_jis`.
pub(super) fn encoding_named(name: &str) -> Result<&'static Encoding, String> {
    let found = Encoding::for_label(name.as_bytes()).filter(|encoding| *encoding != encoding_rs::REPLACEMENT);
    found.ok_or_else(|| format!("`{name}` is no encoding; such as {}, {}, utf-16le, shift_jis", UTF_8.name(), WINDOWS_1252.name()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    const TEXT: &str = "type,anonymousId\nbuy,Müller\n";

    fn read(bytes: &[u8]) -> Result<String, String> {
        let mut out = String::new();
        let input = io::Cursor::new(bytes.to_vec());
        text(input, None).and_then(|mut text| text.read_to_string(&mut out)).map_err(|problem| problem.to_string())?;
        Ok(out)
    }

    /// What a program makes of text. The programs are those that made the files in the first place.
    fn compressed(program: &str) -> Vec<u8> {
        let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(TEXT.as_bytes()).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    fn utf_16(big_endian: bool, mark: bool) -> Vec<u8> {
        let mark = mark.then_some('\u{FEFF}').map(String::from).unwrap_or_default();
        let units: Vec<u16> = format!("{mark}{TEXT}").encode_utf16().collect();
        units.iter().flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
    }

    #[test]
    fn compressed_files_are_read_whatever_they_are_called() {
        assert_eq!(read(&compressed("gzip")).unwrap(), TEXT);
        assert_eq!(read(&compressed("xz")).unwrap(), TEXT);
        assert_eq!(read(&compressed("bzip2")).unwrap(), TEXT);
        assert_eq!(read(&zstd::encode_all(TEXT.as_bytes(), 1).unwrap()).unwrap(), TEXT);
        // Files put behind each other are one.
        for twice in [compressed("gzip").repeat(2), compressed("xz").repeat(2), compressed("bzip2").repeat(2)] {
            assert_eq!(read(&twice).unwrap(), TEXT.repeat(2));
        }
        let frames = zstd::encode_all(TEXT.as_bytes(), 1).unwrap().repeat(2);
        assert_eq!(read(&frames).unwrap(), TEXT.repeat(2));
    }

    #[test]
    fn a_compressed_file_that_breaks_off_is_an_error() {
        let whole = [compressed("gzip"), compressed("xz"), compressed("bzip2"), zstd::encode_all(TEXT.as_bytes(), 1).unwrap()];
        for whole in whole {
            assert!(read(&whole[..whole.len() - 6]).is_err(), "{:?}", &whole[..4]);
        }
    }

    #[test]
    fn utf_16_is_read_with_its_mark_and_without() {
        for (big_endian, mark) in [(false, true), (true, true), (false, false), (true, false)] {
            assert_eq!(read(&utf_16(big_endian, mark)).unwrap(), TEXT, "{big_endian} {mark}");
        }
        assert_eq!(read(TEXT.as_bytes()).unwrap(), TEXT);
        assert_eq!(read(b"").unwrap(), "");
        assert_eq!(read(b"a").unwrap(), "a");
        assert_eq!(read(b"\0\0\0\0\0\0a line").unwrap(), "\0\0\0\0\0\0a line");
    }

    #[test]
    fn what_is_no_text_is_refused_by_name() {
        let tar = [vec![b'a'; 257], b"ustar".to_vec()].concat();
        let gzipped = {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        };
        for (bytes, name) in [
            (b"PK\x03\x04rest".as_slice(), "zip"),
            (b"\x04\x22\x4D\x18", "lz4"),
            (b"PAR1", "Parquet"),
            (b"\xFF\xFE\0\0a\0\0\0", "UTF-32"),
            (b"text\0\0\0\x01\x02", "no text"),
            (&tar, "tar"),
            (&gzipped, "tar"),
        ] {
            assert!(read(bytes).unwrap_err().contains(name), "{name}");
        }
    }

    #[test]
    fn a_file_is_of_windows_only_if_none_of_its_lines_is_utf_8() {
        let of = |lines: &[&[u8]]| {
            let mut census = Census::default();
            lines.iter().for_each(|line| census.see(line));
            census.encoding().map(Encoding::name)
        };
        assert_eq!(of(&[b"a", b"M\xFCller"]), Some("windows-1252"));
        assert_eq!(of(&[b"a", "Müller".as_bytes(), b"M\xFCller"]), None);
        assert_eq!(of(&[b"a"]), None);
        assert_eq!(encoding_named("Latin1").unwrap().name(), "windows-1252");
        assert!(encoding_named("klingon").unwrap_err().contains("utf-16le"));
    }
}
