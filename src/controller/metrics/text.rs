//! The format of a scrape: OpenMetrics, or the older text format of Prometheus for a client that does not accept it.

use std::fmt::Write;

/// The media type of OpenMetrics.
const OPENMETRICS: &str = "application/openmetrics-text";
/// The media type of the text format.
const PLAIN: &str = "text/plain";

/// A format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Text,
}

impl Format {
    /// The format for a client with these `Accept` headers: OpenMetrics if it prefers that, or has no preference. Without a
    /// header, the format that every client understands.
    pub(crate) fn negotiate<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let ranges: Vec<(String, f32)> = accept.flat_map(|accept| accept.split(',')).map(weighted).collect();
        let weight = |name: &str| {
            let of = ranges.iter().filter(|(range, _)| range == name).map(|(_, weight)| *weight);
            of.fold(0.0, f32::max)
        };
        let openmetrics = weight(OPENMETRICS);
        if openmetrics > 0.0 && openmetrics >= weight(PLAIN) { Self::OpenMetrics } else { Self::Text }
    }

    /// The `Content-Type` of a response.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// A scrape in this format.
    pub(crate) fn of(self, openmetrics: String) -> String {
        match self {
            Self::OpenMetrics => openmetrics,
            Self::Text => to_text(&openmetrics),
        }
    }
}

/// The media type of a range, and its weight: 1 without one, 0 if it is not acceptable (RFC 9110, section 12.4.2).
fn weighted(range: &str) -> (String, f32) {
    let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
    let weight = parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
    let weight = weight.map_or(1.0, |weight| weight.parse().unwrap_or_default());
    (name.trim().to_ascii_lowercase(), weight)
}

/// The same samples as text: counters and infos have the name of their samples, and there are neither units, exemplars, nor an
/// end marker.
fn to_text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The type, which determines the name, follows.
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            let _ = writeln!(text, "{}", without_exemplar(line));
        }
    }
    text
}

/// A sample without its exemplar, which begins with the first ` # ` outside of a label's value.
fn without_exemplar(sample: &str) -> &str {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in sample.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'#' if !is_quoted => return sample[..at].trim_end(),
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_decides_about_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("text/plain, application/openmetrics-text", Format::OpenMetrics),
            ("text/plain;q=1, application/openmetrics-text;q=0.1", Format::Text),
            ("application/openmetrics-text;q=0.00, text/plain", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("*/*", Format::Text),
        ] {
            assert_eq!(Format::negotiate([accept].into_iter()), format, "{accept}");
        }
        assert_eq!(Format::negotiate(std::iter::empty()), Format::Text);
        assert_eq!(
            Format::negotiate(["text/plain;q=0.1", "application/openmetrics-text"].into_iter()),
            Format::OpenMetrics
        );
    }

    #[test]
    fn text_has_the_names_of_the_samples_and_no_exemplars() {
        let openmetrics = "# HELP a_requests Requests.\n# TYPE a_requests counter\na_requests_total{outcome=\"ok # {\"} 3\n\
                           # HELP a_seconds Time.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n\
                           a_seconds_sum 1.5\na_seconds_count 1\na_seconds_bucket{le=\"2.0\"} 1 # {trace_id=\"ab\"} 1.5 1.0\n\
                           # HELP a_build Version.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n# EOF\n";
        let text = "# HELP a_requests_total Requests.\n# TYPE a_requests_total counter\na_requests_total{outcome=\"ok # {\"} 3\n\
                    # HELP a_seconds Time.\n# TYPE a_seconds histogram\n\
                    a_seconds_sum 1.5\na_seconds_count 1\na_seconds_bucket{le=\"2.0\"} 1\n\
                    # HELP a_build_info Version.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n";
        assert_eq!(Format::Text.of(openmetrics.to_owned()), text);
    }
}
