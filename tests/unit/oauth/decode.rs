//! How the bytes of a response body become text.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use http::HeaderMap;
use oauth_operator::oauth::http::decode::{DecodeError, decode};
use proptest::prelude::*;

const BODY: &str = r#"{"access_token":"at","refresh_token":"rt","expires_in":3600}"#;
/// [`BODY`] as compressed by Node's zlib and by python-zstandard.
const BROTLI: &str = "1b3b00002d0e78d38897571386233eaa5b2df235b3b76dcad2e854985cb1e8144c9f639c0fea374cd74283e88de088487a59eee591d11912c880141b04";
const ZSTD: &str = "28b52ffd203cc50100f4027b226163636573735f746f6b656e223a226174222c227265667265736872657870697265735f696e223a333630307d02002088b0984e";
/// A megabyte of `x`.
const BROTLI_BOMB: &str = "5bffff8f5f022f1e0b0472ef1f00";
const ZSTD_BOMB: &str =
    "28b52ffda0000010005400001078780100fbff39c00202001078020010780200107802001078020010780200107803001078";
const MAX: usize = 64 << 10;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

fn utf_16(text: &str, encode: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(encode).collect()
}

/// The text, and why the rest is missing.
fn decoded(headers: &[(&'static str, &'static str)], body: Vec<u8>) -> (String, Option<DecodeError>) {
    let headers = headers.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
    let decoded = decode(&headers.collect::<HeaderMap>(), body.into(), MAX);
    (String::from_utf8_lossy(&decoded.text).into_owned(), decoded.error)
}

#[test]
fn compressed_bodies_and_other_charsets_are_read() {
    let encoding = "content-encoding";
    let content_type = "content-type";
    let hexadecimal = |text: &str| hex::decode(text).expect("hexadecimal");
    let umlaut = r#"{"user":"Jürgen"}"#;
    let latin_1 = br#"{"user":"J"#.iter().copied().chain([0xfc]).chain(*br#"rgen"}"#).collect::<Vec<u8>>();
    type Case = (&'static str, Vec<(&'static str, &'static str)>, Vec<u8>, &'static str);
    let cases: Vec<Case> = vec![
        ("nothing special", vec![], BODY.into(), BODY),
        ("gzip", vec![(encoding, "gzip")], gzip(BODY.as_bytes()), BODY),
        ("x-gzip in capitals", vec![(encoding, "X-GZIP")], gzip(BODY.as_bytes()), BODY),
        ("gzip without its header", vec![], gzip(BODY.as_bytes()), BODY),
        ("the header without gzip", vec![(encoding, "gzip")], BODY.into(), BODY),
        ("deflate", vec![(encoding, "deflate")], zlib(BODY.as_bytes()), BODY),
        ("deflate without the zlib header", vec![(encoding, "deflate")], raw_deflate(BODY.as_bytes()), BODY),
        ("the header without deflate", vec![(encoding, "deflate")], BODY.into(), BODY),
        ("brotli", vec![(encoding, "br")], hexadecimal(BROTLI), BODY),
        ("the header without brotli", vec![(encoding, "br")], BODY.into(), BODY),
        ("zstd", vec![(encoding, "zstd")], hexadecimal(ZSTD), BODY),
        ("twice", vec![(encoding, "deflate, gzip")], gzip(&zlib(BODY.as_bytes())), BODY),
        ("identity", vec![(encoding, "identity")], BODY.into(), BODY),
        ("a byte order mark", vec![], [b"\xef\xbb\xbf", BODY.as_bytes()].concat(), BODY),
        ("a byte order mark in gzip", vec![], gzip(&[b"\xef\xbb\xbf", BODY.as_bytes()].concat()), BODY),
        ("UTF-16 with a mark", vec![], utf_16(&format!("\u{feff}{umlaut}"), u16::to_le_bytes), umlaut),
        ("UTF-16 LE without a mark", vec![], utf_16(umlaut, u16::to_le_bytes), umlaut),
        ("UTF-16 BE without a mark", vec![], utf_16(umlaut, u16::to_be_bytes), umlaut),
        ("Latin-1", vec![(content_type, "application/json; charset=ISO-8859-1")], latin_1.clone(), umlaut),
        ("Windows-1252", vec![(content_type, "application/json;charset=\"windows-1252\"")], latin_1.clone(), umlaut),
        ("Latin-1 without its charset", vec![(content_type, "application/json")], latin_1.clone(), umlaut),
        ("Latin-1 as UTF-8", vec![(content_type, "application/json; charset=utf-8")], latin_1, umlaut),
        ("UTF-8 as Latin-1", vec![(content_type, "text/plain; charset=iso-8859-1")], umlaut.into(), umlaut),
        ("an empty body", vec![(encoding, "gzip")], vec![], ""),
    ];
    for (case, headers, body, expected) in cases {
        assert_eq!(decoded(&headers, body), (expected.to_owned(), None), "{case}");
    }
}

#[test]
fn a_decompressed_body_is_bounded() {
    let hexadecimal = |text: &str| hex::decode(text).expect("hexadecimal");
    let bomb = vec![b'x'; 64 << 20];
    for (coding, body) in [
        ("gzip", gzip(&bomb)),
        ("deflate", zlib(&bomb)),
        ("br", hexadecimal(BROTLI_BOMB)),
        ("zstd", hexadecimal(ZSTD_BOMB)),
        ("gzip, gzip", gzip(&gzip(&bomb))),
    ] {
        let (text, error) = decoded(&[("content-encoding", coding)], body);
        assert_eq!(error, Some(DecodeError::TooLarge), "{coding}");
        assert_eq!(text, "x".repeat(MAX), "{coding}: its beginning");
    }
    let (text, error) = decoded(&[("content-encoding", "gzip")], gzip(&vec![b'x'; MAX]));
    assert_eq!((text.len(), error), (MAX, None), "the maximum");
    let many = "é".repeat(MAX);
    let (text, error) = decoded(&[], utf_16(&many, u16::to_le_bytes));
    assert_eq!(error, Some(DecodeError::TooLarge));
    assert!(text.len() <= MAX, "{} bytes", text.len());
}

#[test]
fn of_a_damaged_body_the_beginning_is_kept() {
    let whole = gzip(format!(r#"{{"refresh_token":"rt","padding":"{}""#, "ab".repeat(2_000)).as_bytes());
    let (text, error) = decoded(&[("content-encoding", "gzip")], whole[..whole.len() - 12].to_vec());
    assert_eq!(error, Some(DecodeError::Damaged("gzip")));
    assert!(text.starts_with(r#"{"refresh_token":"rt""#), "{text}");
    let (_, error) = decoded(&[("content-encoding", "zstd")], [&[0x28, 0xb5, 0x2f, 0xfd][..], b"broken"].concat());
    assert_eq!(error, Some(DecodeError::Damaged("zstd")));
    for coding in ["compress", "gzip, compress", "br, br, br"] {
        let (_, error) = decoded(&[("content-encoding", coding)], BODY.into());
        assert_eq!(error, Some(DecodeError::UnknownCoding), "{coding}");
    }
}

proptest! {
    #[test]
    fn decoding_never_panics_and_is_bounded(
        coding in prop::sample::select(vec!["gzip", "deflate", "br", "zstd", "deflate, gzip", "x"]),
        lead in prop::sample::select(vec![&[][..], &[0x1f, 0x8b, 8], &[0x28, 0xb5, 0x2f, 0xfd], &[0xff, 0xfe], &[0, b'{']]),
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (text, _) = decoded(&[("content-encoding", coding)], [lead, &body].concat());
        prop_assert!(text.len() <= 3 * MAX);
    }
}
