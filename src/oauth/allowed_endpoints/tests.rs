//! Attempts to bypass a pin.

use crate::oauth::allowed_endpoints::*;

fn admits(pinned: &str, url: &str) -> bool {
    let pin = AllowedEndpoints::parse("it", None, pinned, false).expect("a pin");
    pin.admits(&Url::parse(url).expect("a URL"))
}

#[test]
fn a_pinned_path_includes_all_paths_below_it() {
    for url in [
        "https://host/api",
        "https://host/api/",
        "https://host/api/v2.0/token",
        "https://host/api/x@y.example:generateAccessToken",
        "https://host:443/api/~user_1/token?resource=x",
    ] {
        assert!(admits("https://host/api", url) && admits("https://host/api/", url), "{url}");
    }
    for url in [
        "https://host/apis",
        "https://host/API/token",
        "https://host/",
        "https://host/api/../admin",
        "https://host:8443/api",
        "http://host/api",
        "https://host.evil.example/api",
    ] {
        assert!(!admits("https://host/api", url), "{url}");
    }
}

#[test]
fn a_path_traversal_is_not_below_the_pinned_path() {
    for way in [
        "..%00",
        "..%20",
        ".%00.",
        "..%09",
        "..%0a",
        "..%3f",
        "..%3F",
        "..%23",
        "..;",
        "..;x",
        "..%3b",
        "..%2f",
        "..%5c",
        "..\\",
        "%252e%252e",
        "%25%32%65%25%32%65",
        "%u002e%u002e",
        "%uff0e%uff0e",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "%ff.",
        "...",
        "..a",
        ".x",
        "a;..",
        "a%2f..%2f..",
        "%ef%bc%8e%ef%bc%8e",
        "x%00",
        "x'",
        "x|y",
        "..+",
        "x+",
    ] {
        let url = format!("https://host/api/{way}/admin");
        assert!(!admits("https://host/api", &url), "{url}");
        assert!(admits("https://host", &url), "{url}: the whole origin is pinned");
    }
    // The owner may pin such a path as a whole.
    assert!(admits("https://host/my%20realm/token", "https://host/my%20realm/token"));
    assert!(!admits("https://host/my%20realm", "https://host/my realm%20/token"));
}

#[test]
fn a_pinned_query_is_compared() {
    let pinned = "https://host/token?tenant=a";
    assert!(admits(pinned, "https://host/token?tenant=a"));
    for url in [
        "https://host/token",
        "https://host/token?tenant=b",
        "https://host/token?tenant=a&x",
        "https://host/token?x&tenant=a",
    ] {
        assert!(!admits(pinned, url), "{url}");
    }
    assert!(admits("https://host/token", "https://host/token?tenant=b"), "without a pinned query, all are allowed");
}

#[test]
fn with_a_pinned_path_only_harmless_headers_are_allowed() {
    let url = Url::parse("https://host/api/token").expect("a URL");
    let admits = |pinned: &str, name: &str| {
        AllowedEndpoints::parse("it", None, pinned, false).is_ok_and(|pin| pin.admits_header(&url, name))
    };
    for name in ["Accept", "user-agent", "X-GitHub-Api-Version"] {
        assert!(admits("https://host/api", name), "{name}");
    }
    for name in ["X-Original-URL", "X-Rewrite-URL", "X-Tenant", "X-Anything"] {
        assert!(!admits("https://host/api", name) && admits("https://host", name), "{name}");
    }
    assert!(admits("https://host/api https://host", "X-Tenant"), "one endpoint is enough");
    assert!(!admits("https://host/api https://other", "X-Tenant"), "the pin of another host does not count");
}

/// Servers and gateways that decode a path in non-standard ways, and then resolve it.
mod servers {
    use proptest::prelude::*;

    use super::*;

    /// Decodes percent-encoding, including `%uXXXX`; overlong UTF-8 becomes the character that it encodes.
    fn decode(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, others @ ..] = rest {
            let hex =
                |digits: &[u8]| std::str::from_utf8(digits).ok().and_then(|text| u16::from_str_radix(text, 16).ok());
            let (decoded, used) = match others {
                [b'u', digits @ ..] if *first == b'%' && digits.len() >= 4 => (hex(&digits[..4]), 5),
                digits if *first == b'%' && digits.len() >= 2 => (hex(&digits[..2]), 2),
                _ => (None, 0),
            };
            // Full-width forms are converted to ASCII.
            let plain = decoded.map(|value| if value & 0xff00 == 0xff00 { (value & 0xff) + 0x20 } else { value });
            bytes.push(plain.and_then(|value| u8::try_from(value).ok()).unwrap_or(*first));
            rest = if decoded.is_some() { &others[used..] } else { others };
        }
        let text = bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
        text.replace("\u{c0}\u{ae}", ".").replace("\u{c0}\u{af}", "/").replace("\u{e0}\u{80}\u{ae}", ".")
    }

    /// How a server resolves a path.
    #[derive(Clone, Copy, Debug)]
    struct Server {
        decodes: usize,
        /// The characters that end a segment: parameters, NUL as in C, a decoded question mark or hash.
        ends: &'static str,
        /// The characters that are dropped anywhere.
        drops: &'static str,
        /// The characters that are treated as a slash.
        slashes: &'static str,
        /// Whether trailing dots and spaces are dropped, as on Windows, and every segment that begins with two dots
        /// is the parent directory.
        lenient: bool,
    }

    impl Server {
        fn walk(self, path: &str) -> Vec<String> {
            let text = (0..self.decodes).fold(path.to_owned(), |text, _| decode(&text));
            let text: String = text.chars().filter(|c| !self.drops.contains(*c)).collect();
            let mut parts: Vec<String> = Vec::new();
            for part in text.split(|c| c == '/' || self.slashes.contains(c)) {
                let part = part.split(|c| self.ends.contains(c)).next().unwrap_or_default();
                let is_up = part == ".." || (self.lenient && part.starts_with(".."));
                match part {
                    _ if is_up => drop(parts.pop()),
                    "" | "." => {}
                    part => parts.push(part.to_owned()),
                }
            }
            parts
        }
    }

    fn server() -> impl Strategy<Value = Server> {
        let one_of = |texts: &'static [&'static str]| prop::sample::select(texts);
        (
            0..4_usize,
            one_of(&["", ";", "\0", "?#;\0"]),
            one_of(&["", "\0", " \t\r\n+", "\u{ff}"]),
            one_of(&["", "\\", "|"]),
            any::<bool>(),
        )
            .prop_map(|(decodes, ends, drops, slashes, lenient)| Server {
                decodes,
                ends,
                drops,
                slashes,
                lenient,
            })
    }

    /// Paths composed of parts that some servers interpret in unusual ways.
    fn rest() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            ".",
            "..",
            "/",
            "a",
            "admin",
            "%2e",
            "%2E",
            "%252e",
            "%25",
            "%2f",
            "%5c",
            "\\",
            ";",
            "%3b",
            "%00",
            "%20",
            "%09",
            "%0d%0a",
            "%3f",
            "?",
            "%u002e",
            "%u002f",
            "%uff0e",
            "%c0%ae",
            "%c0%af",
            "%e0%80%ae",
            "%ff",
            "+",
            "~",
            "@",
            ":",
            "|",
            "v2.0",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn no_server_leaves_a_pinned_path(rest in rest(), server in server()) {
            let Ok(url) = Url::parse(&format!("https://host/api/v1{rest}")) else { return Ok(()) };
            if admits("https://host/api/v1", url.as_str()) {
                let walked = server.walk(url.path());
                prop_assert!(walked.starts_with(&["api".to_owned(), "v1".to_owned()]), "{url} leads to {walked:?}");
            }
        }
    }
}
