//! Zip archives of exports: their files one after another.
//!
//! Promises: a file is taken out as it stands in the archive, into a file without a name, and its checksum is right; nothing is written
//! under a name that an archive gives. May go wrong: an archive that inflates to more than an export does is not read on.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use encoding_rs::Encoding;
use zip::ZipArchive;

use crate::cli::import::input::{self, Text};

/// Most bytes of files for a byte of the archive: text of events makes 30, and deflate 1,032 at most.
const MAX_RATIO: u64 = 200;
/// Most bytes of text for a byte of the archive, once its compressed files are inflated too.
const MAX_TEXT_RATIO: u64 = 500;
/// What any archive may inflate to.
const FREE: u64 = 16 << 20;
const BUFFER: usize = 64 << 10;

/// An open archive.
pub(in super::super) struct Archive {
    zip: ZipArchive<File>,
    /// Bytes of files that may still come out.
    left: u64,
    /// Bytes of text.
    text_left: Arc<AtomicU64>,
}

impl Archive {
    /// The archive at `path`; `None` if it is none.
    pub(in super::super) fn open(path: &Path) -> io::Result<Option<Self>> {
        // A pipe would be emptied.
        if !std::fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        let mut file = File::open(path)?;
        let mut mark = Vec::new();
        file.by_ref().take(4).read_to_end(&mut mark)?;
        if mark != b"PK\x03\x04" && mark != b"PK\x05\x06" {
            return Ok(None);
        }
        file.rewind()?;
        let length = file.metadata()?.len();
        let [left, text_left] = [MAX_RATIO, MAX_TEXT_RATIO].map(|ratio| FREE.saturating_add(ratio.saturating_mul(length)));
        Ok(Some(Self { zip: ZipArchive::new(file)?, left, text_left: Arc::new(text_left.into()) }))
    }

    /// Number of its files.
    pub(in super::super) fn len(&self) -> usize {
        self.zip.len()
    }

    /// The name of a file, as the archive gives it; `None` for a folder and for what systems put beside.
    pub(in super::super) fn name(&self, index: usize) -> Option<String> {
        let name = self.zip.name_for_index(index)?;
        let is_hidden = name.split('/').any(|part| part == "__MACOSX" || part.starts_with("._") || part == ".DS_Store");
        (!name.ends_with('/') && !is_hidden).then_some(name.to_owned())
    }

    /// The text of a file.
    pub(in super::super) fn text(&mut self, index: usize, encoding: Option<&'static Encoding>) -> io::Result<Text> {
        let text = input::text(self.take(index)?, encoding)?;
        Ok(Box::new(BufReader::with_capacity(BUFFER, Bounded { text, left: Arc::clone(&self.text_left) })))
    }

    /// Takes a file out.
    fn take(&mut self, index: usize) -> io::Result<File> {
        let entry = self.zip.by_index(index)?;
        let mut out = tempfile::tempfile()?;
        let written = io::copy(&mut entry.take(self.left.saturating_add(1)), &mut out)?;
        self.left = self.left.checked_sub(written).ok_or_else(|| beyond(MAX_RATIO))?;
        out.rewind()?;
        Ok(out)
    }
}

/// A text that takes from what an archive may inflate to.
struct Bounded {
    text: Text,
    left: Arc<AtomicU64>,
}

impl Read for Bounded {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.text.read(out)?;
        let left = self.left.load(Ordering::Relaxed).checked_sub(read as u64).ok_or_else(|| beyond(MAX_TEXT_RATIO))?;
        self.left.store(left, Ordering::Relaxed);
        Ok(read)
    }
}

fn beyond(ratio: u64) -> io::Error {
    let problem = format!("the archive inflates to more than {ratio} times its size, as no export does; unpack it and look");
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
