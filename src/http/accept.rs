//! What a scraper takes: format and coding of the metrics page by `Accept` and `Accept-Encoding`.
//!
//! **Invariant:** pure; whatever the headers say there is an answer. OpenMetrics only for who names it: a wildcard is
//! what people and simple tools send, and they get the text format.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING};

use super::handle::PageFormat;

/// The Content-Type of a format.
pub(super) const fn content_type(format: PageFormat) -> &'static str {
    match format {
        PageFormat::Text => "text/plain; version=0.0.4; charset=utf-8",
        PageFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    }
}

/// The format with the highest weight; among equals the one named first, and a name before a wildcard. Text if
/// neither is acceptable.
pub(super) fn format(headers: &HeaderMap) -> PageFormat {
    let mut openmetrics: Option<(u16, usize)> = None;
    let mut text: Option<(u16, usize)> = None;
    let mut wildcard: Option<(u16, usize)> = None;
    for (index, range) in items(headers, &ACCEPT).enumerate() {
        let place = match range.name.as_str() {
            "application/openmetrics-text" if matches!(range.version, None | Some("1.0.0")) => &mut openmetrics,
            "text/plain" if matches!(range.version, None | Some("0.0.4")) => &mut text,
            "*/*" | "text/*" => &mut wildcard,
            _ => continue,
        };
        if place.is_none_or(|(weight, _)| weight < range.weight) {
            *place = Some((range.weight, index));
        }
    }
    let text = text.or(wildcard.map(|(weight, _)| (weight, usize::MAX)));
    match (openmetrics, text) {
        (Some((weight, _)), None) if weight > 0 => PageFormat::OpenMetrics,
        (Some((ours, at)), Some((theirs, other))) if ours > 0 && (ours > theirs || (ours == theirs && at < other)) => {
            PageFormat::OpenMetrics
        }
        _ => PageFormat::Text,
    }
}

/// Whether the page is sent compressed: gzip is acceptable, and plain is not preferred.
pub(super) fn gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut wildcard) = (None, None, None);
    for coding in items(headers, &ACCEPT_ENCODING) {
        match coding.name.as_str() {
            "gzip" | "x-gzip" => gzip = gzip.max(Some(coding.weight)),
            "identity" => identity = identity.max(Some(coding.weight)),
            "*" => wildcard = wildcard.max(Some(coding.weight)),
            _ => {}
        }
    }
    let weight = gzip.or(wildcard).unwrap_or(0);
    weight > 0 && identity.is_none_or(|identity| weight >= identity)
}

/// One element of a list.
struct Item<'a> {
    /// In lower case.
    name: String,
    version: Option<&'a str>,
    /// In thousandths; 1000 if none is given, 0 if it is no weight.
    weight: u16,
}

fn items<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> impl Iterator<Item = Item<'a>> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|element| {
        let mut parts = element.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?.to_ascii_lowercase();
        let mut item = Item { name, version: None, weight: 1000 };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match key.trim() {
                key if key.eq_ignore_ascii_case("version") => item.version = Some(value),
                key if key.eq_ignore_ascii_case("q") => item.weight = weight(value).unwrap_or(0),
                _ => {}
            }
        }
        Some(item)
    })
}

/// `0.75` as 750: 0 to 1 with at most three digits after the point.
fn weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    let weight = if whole == "1" { 1000 } else { 0 } + thousandths;
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(name: axum::http::HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_static(value));
        }
        headers
    }

    /// EXP-2: the headers of Prometheus 2.42 and 3.x, of curl, of browsers, and the edges of weights.
    #[test]
    fn the_format_follows_accept() {
        use PageFormat::{OpenMetrics, Text};
        const PROMETHEUS_2: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                                    text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                                    application/openmetrics-text;version=0.0.1;q=0.4,\
                                    text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        const PROTOBUF_FIRST: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                                      application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        for (values, expected) in [
            (&[][..], Text),
            (&["*/*"], Text),
            (&["text/*"], Text),
            (&["application/*"], Text),
            (&[PROMETHEUS_2], OpenMetrics),
            (&[PROMETHEUS_3], OpenMetrics),
            (&[PROTOBUF_FIRST], OpenMetrics),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Text),
            (&["application/openmetrics-text"], OpenMetrics),
            (&["Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"], OpenMetrics),
            (&["application/openmetrics-text;version=0.0.1"], Text),
            (&["application/openmetrics-text;version=2.0.0"], Text),
            (&["application/openmetrics-text;q=0"], Text),
            (&["application/openmetrics-text;q=0.2, text/plain;q=0.3"], Text),
            (&["application/openmetrics-text;q=0.301, text/plain;q=0.3"], OpenMetrics),
            (&["application/openmetrics-text, text/plain"], OpenMetrics),
            (&["text/plain, application/openmetrics-text"], Text),
            (&["*/*, application/openmetrics-text"], OpenMetrics),
            (&["*/*, application/openmetrics-text;q=0.9"], Text),
            (&["text/plain;q=0, */*, application/openmetrics-text;q=0.1"], OpenMetrics),
            (&["text/plain;q=0.1", "application/openmetrics-text;q=0.2"], OpenMetrics),
            (&["application/openmetrics-text;q=1.1, text/plain;q=0.1"], Text),
            (&["application/openmetrics-text;q=nonsense, text/plain;q=0.1"], Text),
            (&["image/png"], Text),
            (&[",;,q=;=,"], Text),
        ] {
            assert_eq!(format(&headers(ACCEPT, values)), expected, "{values:?}");
        }
    }

    /// EXP-2: gzip where it is wanted, and never where it is refused.
    #[test]
    fn the_coding_follows_accept_encoding() {
        for (values, expected) in [
            (&[][..], false),
            (&["gzip"], true),
            (&["GZIP"], true),
            (&["x-gzip"], true),
            (&["deflate, gzip, br, zstd"], true),
            (&["gzip;q=0"], false),
            (&["gzip;q=0.000"], false),
            (&["gzip;q=0.001"], true),
            (&["gzip; q=1.0"], true),
            (&["gzip;q=0, *"], false),
            (&["*"], true),
            (&["*;q=0"], false),
            (&["identity"], false),
            (&["identity, gzip;q=0.5"], false),
            (&["identity;q=0.5, gzip;q=0.5"], true),
            (&["identity;q=0, *"], true),
            (&["zstd"], false),
            (&["br", "gzip"], true),
            (&["gzip;q=x"], false),
            (&[""], false),
        ] {
            assert_eq!(gzip(&headers(ACCEPT_ENCODING, values)), expected, "{values:?}");
        }
    }
}
