//! Bodies: read whole, capped on the wire and inflated, never larger in memory than allowed, each by itself and all together.

use std::io::Read;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};

use super::budget::{Claim, Share};
use super::respond::ApiError;
use super::server::RequestBody;

/// How large a body may be, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes on the wire.
    pub max_wire: usize,
    /// Bytes once inflated.
    pub max_inflated: usize,
    /// Longest time from first to last byte.
    pub timeout: Duration,
    /// How much of the budget of all bodies it may use.
    pub claim: Claim,
    /// Whether a body may be gzip without saying so.
    pub finds_gzip: bool,
}

impl BodyLimits {
    /// The same for clients that may send bodies of so many bytes, as far as the memory for bodies allows.
    pub fn of_at_least(self, bytes: usize, body: &RequestBody) -> Self {
        let bytes = bytes.min(body.budget().largest_large());
        Self { max_wire: self.max_wire.max(bytes), max_inflated: self.max_inflated.max(bytes), ..self }
    }
}

/// Bytes that count until they are dropped.
struct Held<B> {
    bytes: B,
    _share: Share,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Held<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// What gzip begins with, and no JSON and no form.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Reads and inflates the body of a request.
pub async fn read(request: Request<RequestBody>, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let (parts, body) = request.into_parts();
    read_parts(&parts.headers, body, limits).await
}

/// Reads and inflates a body that came with these headers.
pub async fn read_parts(headers: &HeaderMap, body: RequestBody, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let encoding = encoding(headers)?;
    let most = body.budget().largest_of(limits.claim);
    let limits = BodyLimits { max_wire: limits.max_wire.min(most), max_inflated: limits.max_inflated.min(most), ..limits };
    let mut share = body.budget().share(limits.claim);
    let wire = read_wire(body, limits, &mut share).await?;
    let is_gzip = encoding == Encoding::Identity && limits.finds_gzip && wire.starts_with(GZIP_MAGIC);
    let encoding = if is_gzip { Encoding::Gzip } else { encoding };
    if encoding == Encoding::Identity {
        return match wire.len() > limits.max_inflated {
            true => Err(too_large(limits.max_inflated)),
            false => Ok(Bytes::from_owner(Held { bytes: wire, _share: share })),
        };
    }
    let bytes = inflate(encoding, &wire, Inflated::new(wire.len(), limits.max_inflated, &mut share))?;
    drop(wire);
    share.hold(bytes.len())?;
    Ok(Bytes::from_owner(Held { bytes, _share: share }))
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let unsupported = |value: &str| {
        let message = format!("content-encoding `{value}` is not one of gzip, deflate, br, zstd, identity");
        Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message))
    };
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(Encoding::Identity) };
    if values.next().is_some() {
        return unsupported("several");
    }
    match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "deflate" => Ok(Encoding::Deflate),
        "br" => Ok(Encoding::Brotli),
        "zstd" => Ok(Encoding::Zstd),
        other => unsupported(other),
    }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("the body exceeds {limit} bytes"))
}

/// Room that a body of a known length gets for each byte that has come: few copies while it comes, and little memory for who sends little.
const ROOM_AHEAD: usize = 4;
/// Up to this size the room of a body counts, and not what came of it: it is memory that was used before. Larger room takes none until it is
/// written to.
const SMALL_ROOM: usize = 256 << 10;

async fn read_wire(mut body: RequestBody, limits: BodyLimits, share: &mut Share) -> Result<Bytes, ApiError> {
    if matches!(limits.claim, Claim::Unauthorized(_)) {
        body.read_small();
    }
    let hint = body.size_hint();
    if hint.lower() > limits.max_wire as u64 {
        return Err(too_large(limits.max_wire));
    }
    let known = usize::try_from(hint.lower()).unwrap_or(0);
    let mut collected: Option<Vec<u8>> = None;
    let mut first: Option<Bytes> = None;
    let mut size = 0;
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::bad_request("body_incomplete", "the body ended before its length"))?;
            let Ok(chunk) = frame.into_data() else { continue };
            size += chunk.len();
            if size > limits.max_wire {
                return Err(too_large(limits.max_wire));
            }
            // A body of one frame is used where it lies; only a second one makes a copy.
            if collected.is_none() && first.is_none() {
                share.hold(size)?;
                first = Some(chunk);
                continue;
            }
            let all = collected.get_or_insert_default();
            if size > all.capacity() {
                let ahead = match known {
                    known if known > SMALL_ROOM => known,
                    known if known > size => known.min(size * ROOM_AHEAD),
                    _ => (size * 2).min(limits.max_wire),
                };
                all.reserve_exact(size.max(ahead) - all.len());
            }
            share.hold(if all.capacity() > SMALL_ROOM { size } else { all.capacity() })?;
            all.extend_from_slice(&first.take().unwrap_or_default());
            all.extend_from_slice(&chunk);
        }
        Ok(())
    };
    match tokio::time::timeout(limits.timeout, read).await {
        Ok(result) => result?,
        Err(_) => {
            let message = format!("the body was not complete within {:?}", limits.timeout);
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", message));
        }
    }
    Ok(collected.map(Bytes::from).or(first).unwrap_or_default())
}

/// What was inflated so far, within its limit and the budget.
struct Inflated<'s> {
    out: Vec<u8>,
    wire_len: usize,
    limit: usize,
    share: &'s mut Share,
}

/// Beyond this a text gets room for the largest there may be, which takes no memory until it is written to: growing by doubling would
/// hold it twice while it is copied.
const GROWS: usize = 512 << 10;
/// Where bare deflate is inflated to first.
const CHUNK: usize = 16 << 10;
/// What is inflated between two looks at the budget.
const STEP: usize = 256 << 10;

impl<'s> Inflated<'s> {
    fn new(wire_len: usize, limit: usize, share: &'s mut Share) -> Self {
        Self { out: Vec::new(), wire_len, limit, share }
    }

    /// Makes room and returns how much of it may be written to. Errors: the limit is exceeded, or the budget.
    fn grow(&mut self) -> Result<usize, ApiError> {
        let (length, most) = (self.out.len(), self.limit.saturating_add(1));
        if length > self.limit {
            return Err(too_large(self.limit));
        }
        if length == self.out.capacity() {
            // Most texts shrink to a sixth or less.
            let wanted = length.saturating_mul(2).max(self.wire_len.saturating_mul(6)).max(64);
            let capacity = if wanted > GROWS { most } else { wanted.min(most) };
            self.out.reserve_exact(capacity.saturating_sub(length));
        }
        let room = (self.out.capacity() - length).min(most - length).min(STEP);
        self.share.hold(self.wire_len.saturating_add(length + room))?;
        Ok(room)
    }
}

fn inflate(encoding: Encoding, wire: &[u8], inflated: Inflated<'_>) -> Result<Vec<u8>, ApiError> {
    match encoding {
        Encoding::Gzip => inflate_from(flate2::read::MultiGzDecoder::new(wire), inflated),
        // HTTP's deflate is zlib; some clients send it bare.
        Encoding::Deflate => inflate_deflate(flate2::Decompress::new(is_zlib(wire)), wire, inflated),
        Encoding::Brotli => inflate_brotli(wire, inflated),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(wire).map_err(|_| not_as_encoded())?;
            // 8 MiB: what the format asks every decoder to support, and no more memory than that.
            decoder.window_log_max(23).map_err(|_| not_as_encoded())?;
            inflate_from(decoder, inflated)
        }
        Encoding::Identity => Ok(wire.to_vec()),
    }
}

fn is_zlib(wire: &[u8]) -> bool {
    matches!(wire, [cmf, flags, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 == 0)
}

fn inflate_from(mut reader: impl Read, mut inflated: Inflated<'_>) -> Result<Vec<u8>, ApiError> {
    loop {
        let room = inflated.grow()?;
        match reader.by_ref().take(room as u64).read_to_end(&mut inflated.out) {
            // Ended before the room did.
            Ok(read) if read < room && inflated.out.len() <= inflated.limit => return Ok(inflated.out),
            Ok(_) => {}
            Err(_) => return Err(not_as_encoded()),
        }
    }
}

/// Its reader ends quietly at the end of the text, whatever stands behind it: a read after that tells.
fn inflate_brotli(mut wire: &[u8], inflated: Inflated<'_>) -> Result<Vec<u8>, ApiError> {
    let mut reader = brotli_decompressor::Decompressor::new(&mut wire, 4096);
    let out = inflate_from(&mut reader, inflated)?;
    let is_end = matches!(reader.read(&mut [0]), Ok(0));
    drop(reader);
    if is_end && wire.is_empty() { Ok(out) } else { Err(not_as_encoded()) }
}

/// The reading adapters end quietly where a deflate stream is cut short, so its end is looked for here.
fn inflate_deflate(mut state: flate2::Decompress, wire: &[u8], mut inflated: Inflated<'_>) -> Result<Vec<u8>, ApiError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let room = inflated.grow()?.min(CHUNK);
        let consumed = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let before = (consumed, inflated.out.len());
        let rest = wire.get(consumed..).unwrap_or_default();
        let place = chunk.get_mut(..room).unwrap_or_default();
        let written = state.total_out();
        let status = state.decompress(rest, place, flate2::FlushDecompress::None).map_err(|_| not_as_encoded())?;
        let written = usize::try_from(state.total_out() - written).unwrap_or(0);
        inflated.out.extend_from_slice(place.get(..written).unwrap_or_default());
        let consumed = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        match status {
            _ if inflated.out.len() > inflated.limit => return Err(too_large(inflated.limit)),
            flate2::Status::StreamEnd if consumed == wire.len() => return Ok(inflated.out),
            flate2::Status::StreamEnd => return Err(not_as_encoded()),
            _ if (consumed, inflated.out.len()) == before => return Err(not_as_encoded()),
            _ => {}
        }
    }
}

fn not_as_encoded() -> ApiError {
    ApiError::bad_request("invalid_encoding", "the body does not match its content-encoding")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::http::budget::Budget;

    fn inflate(encoding: Encoding, wire: &[u8], limit: usize) -> Result<Vec<u8>, ApiError> {
        let mut share = Budget::new(64 << 20).share(Claim::Live);
        super::inflate(encoding, wire, Inflated::new(wire.len(), limit, &mut share))
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_body_at_the_limit_is_read_and_one_above_it_is_not() {
        assert_eq!(inflate(Encoding::Gzip, &gzip(&[7; 100]), 100).unwrap(), [7; 100]);
        assert_eq!(inflate(Encoding::Gzip, &gzip(&[7; 101]), 100).unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn a_bomb_is_refused_without_being_inflated() {
        let zeros = vec![0; 64 << 20];
        let deflated = |mut encoder: flate2::write::DeflateEncoder<Vec<u8>>| {
            encoder.write_all(&zeros).unwrap();
            encoder.finish().unwrap()
        };
        // So many zeros in 53 bytes.
        const BROTLI: [u8; 53] = [
            0xcf, 0xff, 0xff, 0x7f, 0xf8, 0x27, 0x00, 0xe2, 0xb1, 0x40, 0x20, 0xf7, 0xfe, 0x9f, 0xff, 0xff, 0xff, 0xf0, 0x4f, 0x00, 0xc4,
            0x61, 0x01, 0x80, 0xee, 0xfd, 0x3f, 0xff, 0xff, 0xff, 0xe1, 0x9f, 0x00, 0x88, 0xc3, 0x22, 0x00, 0xdd, 0xfb, 0xff, 0xfc, 0xff,
            0xff, 0xc7, 0x3f, 0x01, 0x10, 0x87, 0x05, 0x00, 0xba, 0xf7, 0xff,
        ];
        for (encoding, bomb) in [
            (Encoding::Gzip, gzip(&zeros)),
            (Encoding::Deflate, deflated(flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast()))),
            (Encoding::Zstd, zstd::encode_all(zeros.as_slice(), 1).unwrap()),
            (Encoding::Brotli, BROTLI.to_vec()),
        ] {
            assert_eq!(inflate(encoding, &bomb, 1 << 20).unwrap_err().code, "body_too_large", "{encoding:?}");
        }
    }

    #[test]
    fn truncated_or_mislabelled_bodies_are_an_invalid_encoding() {
        let good = gzip(b"{}");
        for bad in [&good[..good.len() - 4], b"{}".as_slice(), &[]] {
            assert_eq!(inflate(Encoding::Gzip, bad, 100).unwrap_err().code, "invalid_encoding");
        }
        assert_eq!(inflate(Encoding::Zstd, b"{}", 100).unwrap_err().code, "invalid_encoding");
        assert_eq!(inflate(Encoding::Brotli, b"{}", 100).unwrap_err().code, "invalid_encoding");
    }

    #[test]
    fn deflate_is_read_with_and_without_its_zlib_frame() {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(b"hello").unwrap();
        assert_eq!(inflate(Encoding::Deflate, &zlib.finish().unwrap(), 100).unwrap(), b"hello");
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        bare.write_all(b"hello").unwrap();
        assert_eq!(inflate(Encoding::Deflate, &bare.finish().unwrap(), 100).unwrap(), b"hello");
    }

    #[test]
    fn a_deflate_body_cut_short_or_with_more_behind_it_is_an_invalid_encoding() {
        let text = b"{}\n".repeat(5_000);
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&text).unwrap();
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        bare.write_all(&text).unwrap();
        for good in [zlib.finish().unwrap(), bare.finish().unwrap()] {
            assert_eq!(inflate(Encoding::Deflate, &good, 1 << 20).unwrap(), text);
            for bad in [&good[..good.len() - 1], &good[..good.len() / 2], &[good.as_slice(), b"more"].concat()] {
                assert_eq!(inflate(Encoding::Deflate, bad, 1 << 20).map(|out| out.len()).unwrap_err().code, "invalid_encoding");
            }
        }
    }

    #[test]
    fn a_truncated_body_is_an_invalid_encoding_in_every_encoding() {
        let text: Vec<u8> = (0_u32..5_000).flat_map(u32::to_le_bytes).collect();
        let zstd = zstd::encode_all(text.as_slice(), 1).unwrap();
        for length in [zstd.len() - 1, zstd.len() / 2, 5] {
            assert_eq!(inflate(Encoding::Zstd, &zstd[..length], 1 << 20).unwrap_err().code, "invalid_encoding", "{length}");
        }
        // "hello" as brotli stores it: a meta-block header, the bytes, an empty last meta-block.
        let brotli = [0x0b, 0x02, 0x80, b'h', b'e', b'l', b'l', b'o', 0x03];
        assert_eq!(inflate(Encoding::Brotli, &brotli, 100).unwrap(), b"hello");
        for length in 1..brotli.len() {
            assert_eq!(inflate(Encoding::Brotli, &brotli[..length], 100).unwrap_err().code, "invalid_encoding", "{length}");
        }
        for behind in [&b"m"[..], &[b'm'; 10_000]] {
            assert_eq!(inflate(Encoding::Brotli, &[brotli.as_slice(), behind].concat(), 100).unwrap_err().code, "invalid_encoding");
        }
    }

    proptest::proptest! {
        #[test]
        fn fuzz_of_encodings(
            encoding in 0_usize..4,
            text in "[a-c]{0,200}",
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
            changes in proptest::collection::vec((proptest::prelude::any::<usize>(), proptest::prelude::any::<u8>()), 0..4),
            cut in 0_usize..400,
        ) {
            let text = text.repeat(40);
            let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            zlib.write_all(text.as_bytes()).unwrap();
            let (encoding, mut wire) = match encoding {
                0 => (Encoding::Gzip, gzip(text.as_bytes())),
                1 => (Encoding::Zstd, zstd::encode_all(text.as_bytes(), 1).unwrap()),
                2 => (Encoding::Deflate, zlib.finish().unwrap()),
                // Nothing here writes it: what is read is anything.
                _ => (Encoding::Brotli, bytes.clone()),
            };
            let whole = inflate(encoding, &wire, 4_000);
            if encoding != Encoding::Brotli && text.len() <= 4_000 {
                proptest::prop_assert_eq!(whole.unwrap(), text.as_bytes());
            }
            for (at, byte) in changes {
                let at = at % (wire.len() + 1);
                wire.iter_mut().skip(at).take(1).for_each(|changed| *changed = byte);
            }
            wire.truncate(cut);
            wire.extend(&bytes);
            match inflate(encoding, &wire, 4_000) {
                Ok(out) => proptest::prop_assert!(out.len() <= 4_000),
                Err(problem) => proptest::prop_assert!(["invalid_encoding", "body_too_large"].contains(&problem.code), "{problem:?}"),
            }
        }
    }

    #[test]
    fn nested_and_unknown_encodings_are_refused() {
        for value in ["gzip, gzip", "foo", "compress"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, value.parse().unwrap());
            assert_eq!(encoding(&headers).unwrap_err().status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
    }
}
