//! Turns the bytes of a response body into text: decompresses them, and decodes them by their charset. Pure.
//!
//! Servers and proxies in front of them compress responses although nobody asked for it, some remove the header that
//! says so, and others send a byte order mark or another charset than UTF-8. Such a response may contain the only copy
//! of a refresh token.

#![deny(clippy::disallowed_methods)]

use std::io::Read;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use zeroize::Zeroizing;

/// The maximum number of codings that are removed from one body. More than one is allowed (RFC 9110, section 8.4), but
/// servers do not use it.
const MAX_CODINGS: usize = 2;
/// The maximum window of zstd, in bytes (RFC 9659).
const MAX_WINDOW: u64 = 8 << 20;
/// The size of the buffer for compressed bytes.
const BUFFER: usize = 4 << 10;

/// Why a body, or its rest, is not available.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The text is larger than the limit.
    #[error("is too large")]
    TooLarge,
    /// The header names a coding that is not known.
    #[error("has an unknown Content-Encoding")]
    UnknownCoding,
    /// The bytes are not valid in the coding, or incomplete.
    #[error("cannot be decompressed ({0})")]
    Damaged(&'static str),
}

/// The text of a body, in UTF-8.
#[derive(Debug)]
pub struct Decoded {
    /// The text, or its beginning if there is an error.
    pub text: Zeroizing<Vec<u8>>,
    /// Why the rest is missing.
    pub error: Option<DecodeError>,
}

/// A coding of a body (RFC 9110, section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// The coding with this name; `None` inside if there is nothing to do.
    fn of(name: &str) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" | "utf-8" => return Ok(None),
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            _ => return Err(DecodeError::UnknownCoding),
        }))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Whether the bytes begin like a body with this coding. Brotli and raw deflate have no signature.
    fn matches(self, bytes: &[u8]) -> bool {
        match self {
            Self::Gzip => bytes.starts_with(&GZIP),
            Self::Zstd => bytes.starts_with(&ZSTD),
            Self::Deflate | Self::Brotli => true,
        }
    }
}

const GZIP: [u8; 3] = [0x1f, 0x8b, 0x08];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Decodes a body that was received with these headers, up to `max` bytes of text.
#[must_use]
pub fn decode(headers: &HeaderMap, body: Zeroizing<Vec<u8>>, max: usize) -> Decoded {
    let names: Vec<&str> = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok()).collect();
    let codings = names.iter().flat_map(|value| value.split(',')).map(Coding::of).collect::<Result<Vec<_>, _>>();
    let mut codings: Vec<Coding> = match codings {
        Ok(codings) => codings.into_iter().flatten().collect(),
        Err(error) => return Decoded { text: text_of(headers, body, max).text, error: Some(error) },
    };
    if codings.len() > MAX_CODINGS {
        return Decoded { text: Zeroizing::default(), error: Some(DecodeError::UnknownCoding) };
    }
    if codings.is_empty() && body.starts_with(&GZIP) {
        // A proxy has removed the header. No text begins like this.
        codings.push(Coding::Gzip);
    }
    let mut body = body;
    let mut error = None;
    // The coding that was applied last is removed first.
    for coding in codings.into_iter().rev() {
        // A proxy has decompressed the body, and not removed the header.
        if body.is_empty() || !coding.matches(&body) {
            continue;
        }
        let plain;
        (plain, error) = decompress(coding, &body, max);
        // Not compressed at all: deflate and brotli cannot be recognized by their beginning.
        if error.is_some() && is_json(&body) {
            error = None;
            continue;
        }
        body = plain;
        if error.is_some() {
            break;
        }
    }
    let decoded = text_of(headers, body, max);
    Decoded { error: error.or(decoded.error), ..decoded }
}

fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// The decompressed bytes, or their beginning and why the rest is missing.
fn decompress(coding: Coding, bytes: &[u8], max: usize) -> (Zeroizing<Vec<u8>>, Option<DecodeError>) {
    let damaged = DecodeError::Damaged(coding.name());
    match coding {
        Coding::Gzip => read(flate2::read::MultiGzDecoder::new(bytes), max, damaged),
        // "deflate" means the zlib format (RFC 9110, section 8.4.1.2), but some servers omit its header.
        Coding::Deflate => match read(flate2::read::ZlibDecoder::new(bytes), max, damaged.clone()) {
            (plain, Some(_)) if plain.is_empty() => read(flate2::read::DeflateDecoder::new(bytes), max, damaged),
            done => done,
        },
        Coding::Brotli => read(brotli_decompressor::Decompressor::new(bytes, BUFFER), max, damaged),
        Coding::Zstd => match ruzstd::decoding::StreamingDecoder::new_with_max_window_size(bytes, MAX_WINDOW) {
            Ok(decoder) => read(decoder, max, damaged),
            Err(_) => (Zeroizing::default(), Some(damaged)),
        },
    }
}

/// Reads up to `max` bytes.
fn read(mut from: impl Read, max: usize, damaged: DecodeError) -> (Zeroizing<Vec<u8>>, Option<DecodeError>) {
    // Allocated at full size, because a reallocation would leave a copy in memory that is not zeroized.
    let mut plain = Zeroizing::new(vec![0; max]);
    let mut length = 0;
    let error = loop {
        let Some(rest) = plain.get_mut(length..).filter(|rest| !rest.is_empty()) else {
            break match from.read(&mut [0]) {
                Ok(0) => None,
                Ok(_) => Some(DecodeError::TooLarge),
                Err(_) => Some(damaged),
            };
        };
        match from.read(rest) {
            Ok(0) => break None,
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break Some(damaged),
        }
    };
    plain.truncate(length);
    (plain, error)
}

/// The body in UTF-8, without a byte order mark.
fn text_of(headers: &HeaderMap, body: Zeroizing<Vec<u8>>, max: usize) -> Decoded {
    let (encoding, skipped) = encoding_of(headers, &body);
    let whole = |text| Decoded { text, error: None };
    if encoding == UTF_8 {
        let mut body = body;
        body.drain(..skipped);
        return whole(body);
    }
    let bytes = body.get(skipped..).unwrap_or_default();
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let Some(length) = decoder.max_utf8_buffer_length(bytes.len()) else { return whole(body) };
    let mut text = Zeroizing::new(vec![0; length.min(max)]);
    let (result, _, written, _) = decoder.decode_to_utf8(bytes, &mut text, true);
    text.truncate(written);
    let error = matches!(result, encoding_rs::CoderResult::OutputFull).then_some(DecodeError::TooLarge);
    Decoded { text, error }
}

/// The encoding of a body, and the length of its byte order mark.
fn encoding_of(headers: &HeaderMap, body: &[u8]) -> (&'static Encoding, usize) {
    if let Some(found) = Encoding::for_bom(body) {
        return found;
    }
    let encoding = match body {
        // The first two characters of JSON, and of a token, are ASCII.
        [0, first, ..] if *first != 0 => UTF_16BE,
        [first, 0, ..] if *first != 0 => UTF_16LE,
        // Many servers name a charset that is not that of their JSON. Text in another charset is hardly ever valid UTF-8.
        _ if std::str::from_utf8(body).is_ok() => UTF_8,
        _ => charset(headers).filter(|named| *named != UTF_8).unwrap_or(WINDOWS_1252),
    };
    (encoding, 0)
}

/// The charset that the header `Content-Type` names.
fn charset(headers: &HeaderMap) -> Option<&'static Encoding> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    Encoding::for_label(value.trim().trim_matches('"').as_bytes())
}
