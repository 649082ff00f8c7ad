//! Bodies: read whole, capped on the wire and inflated, never larger in memory than allowed.

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::{self, HeaderMap};
use hyper::{Request, StatusCode};

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

/// Reads and inflates the body of a request.
pub async fn read(request: Request<RequestBody>, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let encoding = encoding(request.headers())?;
    let wire = read_wire(request, limits).await?;
    match encoding {
        Encoding::Identity if wire.len() > limits.max_inflated => Err(too_large(limits.max_inflated)),
        Encoding::Identity => Ok(wire),
        encoding => inflate(encoding, &wire, limits.max_inflated).map(Bytes::from),
    }
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

async fn read_wire(request: Request<RequestBody>, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let mut body = request.into_body();
    let hint = body.size_hint();
    if hint.lower() > limits.max_wire as u64 {
        return Err(too_large(limits.max_wire));
    }
    let known = usize::try_from(hint.lower()).unwrap_or(0);
    let mut collected: Option<BytesMut> = None;
    let mut first: Option<Bytes> = None;
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| ApiError::bad_request("body_incomplete", "the body ended before its length"))?;
            let Ok(chunk) = frame.into_data() else { continue };
            // A body of one frame is used where it lies; only a second one makes a copy.
            match (&mut collected, first.take()) {
                (None, None) => first = Some(chunk),
                (None, Some(before)) => {
                    let mut all = BytesMut::with_capacity(known.max(before.len() + chunk.len()));
                    all.extend_from_slice(&before);
                    all.extend_from_slice(&chunk);
                    collected = Some(all);
                }
                (Some(all), _) => all.extend_from_slice(&chunk),
            }
            if collected.as_ref().map_or(0, BytesMut::len).max(first.as_ref().map_or(0, Bytes::len)) > limits.max_wire {
                return Err(too_large(limits.max_wire));
            }
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
    Ok(collected.map(BytesMut::freeze).or(first).unwrap_or_default())
}

fn inflate(encoding: Encoding, wire: &[u8], limit: usize) -> Result<Vec<u8>, ApiError> {
    match encoding {
        Encoding::Gzip => inflate_from(flate2::read::MultiGzDecoder::new(wire), wire.len(), limit),
        // HTTP's deflate is zlib; some clients send it bare.
        Encoding::Deflate if is_zlib(wire) => inflate_from(flate2::read::ZlibDecoder::new(wire), wire.len(), limit),
        Encoding::Deflate => inflate_from(flate2::read::DeflateDecoder::new(wire), wire.len(), limit),
        Encoding::Brotli => inflate_from(brotli_decompressor::Decompressor::new(wire, 4096), wire.len(), limit),
        Encoding::Zstd => {
            let not_zstd = |_| ApiError::bad_request("invalid_encoding", "the body does not match its content-encoding");
            let mut decoder = zstd::stream::read::Decoder::new(wire).map_err(not_zstd)?;
            // 8 MiB: what the format asks every decoder to support, and no more memory than that.
            decoder.window_log_max(23).map_err(not_zstd)?;
            inflate_from(decoder, wire.len(), limit)
        }
        Encoding::Identity => Ok(wire.to_vec()),
    }
}

fn is_zlib(wire: &[u8]) -> bool {
    matches!(wire, [cmf, flags, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flags)) % 31 == 0)
}

fn inflate_from(reader: impl Read, wire_len: usize, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut out = Vec::with_capacity(limit.min(wire_len.saturating_mul(6)));
    match reader.take(limit as u64 + 1).read_to_end(&mut out) {
        Ok(_) if out.len() > limit => Err(too_large(limit)),
        Ok(_) => Ok(out),
        Err(_) => Err(ApiError::bad_request("invalid_encoding", "the body does not match its content-encoding")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

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
        let bomb = gzip(&vec![0; 50 << 20]);
        assert_eq!(inflate(Encoding::Gzip, &bomb, 1 << 20).unwrap_err().code, "body_too_large");
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
    fn nested_and_unknown_encodings_are_refused() {
        for value in ["gzip, gzip", "foo", "compress"] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_ENCODING, value.parse().unwrap());
            assert_eq!(encoding(&headers).unwrap_err().status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
    }
}
