//! `metric`: what does another exporter's page say of one metric?

use std::sync::Arc;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use tokio::time::{Instant, timeout};

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::http::told;
use crate::model::Status;
use crate::observe::access::Access;
use crate::observe::params;
use crate::observe::probes::get;
use crate::observe::probes::page::{Fault, Found, PageReader, Wanted};
use crate::observe::threshold::{Sample, Thresholds, short};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Metric::KIND, doc: DOC, build };

/// How much of a page is read. The pages of large clusters have some tens of MB.
const PAGE_MAX: usize = 256 * 1024 * 1024;

/// The plain format comes first: there a metric has the name that people see with curl.
const FORMATS: &str = "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1";

const DOC: &str = "\
# What it asks
One metric on the page of an exporter, in Prometheus' text format 0.0.4 or OpenMetrics 1.0.0, without a Prometheus in
between. The page is read line by line, and nothing of it is kept but the series that fit.

# Why it matters
Whatever exports metrics already tells how it is: queue lengths, lag, error counts, the time of its last success.

# Failure reasons
- `degraded`, `critical`: the comparison of that name holds for a value; of several series the worst counts.
- What `missing` says: no series of the page fits, or a value is NaN.
- `critical`: the exporter refuses the connection, answers with another status than 200 or with a redirect, which is not
  followed, with no page of metrics, with one that is cut off or larger than 256 MiB, or not within `timeout`; `error`
  says which.
- Could not be run: more than 10000 series fit.

Of two equal series the first counts, as for Prometheus; `repeated` tells how many there were. A timestamp beside a value
is told and not judged.

# Parameters
- `url`: the page.
- `name`: the metric, with its suffix (`_total`, `_bucket`, `_sum`, `_count`).
- `labels` (none): a mapping of labels that a series must have; an empty value stands for a label that it has not.
- `aggregate` (`worst`): `worst`, or the `sum`, `min`, `max` or `avg` of all series that fit.
- `degraded`, `critical` (none): `> 5`, `>= 5`, `< 1`, `<= 1`, `== 0`, `!= 1`; a number alone stands for `>`. One of
  the two must be there, or a `missing` that is `degraded` or `critical`.
- `missing` (`unknown`): `healthy`, `unknown`, `degraded` or `critical`.
- `timeout` (5s): the time to wait for all of the page.
- `bearer_token_file`, or `basic_auth` with `username` and `password_file` (none): the credentials.
- `ca_file` (the machine's authorities): the only authorities to trust.
- `insecure_skip_verify` (`false`): verify no certificate.
";

/// One metric of one page.
#[derive(Clone, Debug)]
pub struct Metric {
    access: Access,
    wanted: Wanted,
    aggregate: Aggregate,
    thresholds: Thresholds,
    timeout: Duration,
}

/// What is made of several series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Worst,
    Sum,
    Min,
    Max,
    Average,
}

/// What a page says.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    found: Found,
    bytes: usize,
    latency: Duration,
    open_metrics: bool,
}

impl Metric {
    async fn ask(&self) -> Result<Page, Fault> {
        let begun = Instant::now();
        let mut response =
            get::ask(&self.access.client, &self.access.url, &self.access.headers).await.map_err(Fault::Page)?;
        if let Some(why) = get::refusal(&response) {
            return Err(Fault::Page(why));
        }
        let content_type = content_type(&response);
        let open_metrics = content_type.starts_with("application/openmetrics-text");
        let mut reader = PageReader::new(&self.wanted, open_metrics);
        let mut bytes = 0;
        let torn = |error: reqwest::Error| Fault::Page(told(&error.without_url()));
        while let Some(chunk) = response.chunk().await.map_err(torn)? {
            bytes += chunk.len();
            if bytes > PAGE_MAX {
                return Err(Fault::Page(format!("the page is larger than {PAGE_MAX} bytes")));
            }
            reader.push(&chunk).map_err(|fault| with_type(fault, &content_type))?;
            // A page that comes quickly must not keep this thread from other checks.
            tokio::task::consume_budget().await;
        }
        let found = reader.finish().map_err(|fault| with_type(fault, &content_type))?;
        Ok(Page { found, bytes, latency: begun.elapsed(), open_metrics })
    }
}

fn content_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    short(&String::from_utf8_lossy(value), 60)
}

fn with_type(fault: Fault, content_type: &str) -> Fault {
    match fault {
        Fault::Page(why) if !content_type.is_empty() => Fault::Page(format!("{why}; its type is `{content_type}`")),
        other => other,
    }
}

impl Check for Metric {
    type Reading = Result<Page, Fault>;
    const KIND: &'static str = "metric";

    async fn read(&self) -> Self::Reading {
        let late = || Err(Fault::Page(format!("no whole page within {:?}", self.timeout)));
        timeout(self.timeout, self.ask()).await.unwrap_or_else(|_| late())
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let place = get::place(&self.access.url);
        let page = match reading {
            Ok(page) => page,
            Err(Fault::Page(why)) => return Judgement::new(Status::Critical).with("error", format!("{place}: {why}")),
            Err(Fault::Wanted(why)) => return Judgement::unrunnable(format!("{place}: {why}")),
        };
        let samples = aggregated(&page.found.samples, self.aggregate);
        let nothing = format!("`{}` with these labels at {place}", self.wanted.name);
        let mut judgement = self
            .thresholds
            .judge(&samples, &nothing)
            .with("results", page.found.samples.len())
            .with("latency_ms", page.latency.as_secs_f64() * 1000.0)
            .with("page_bytes", page.bytes);
        if page.found.repeated > 0 {
            judgement = judgement.with("repeated", page.found.repeated);
        }
        if let Some(time) = page.found.oldest {
            // Seconds in OpenMetrics, milliseconds in the other format; a cast saturates.
            let millis = if page.open_metrics { time * 1000.0 } else { time };
            judgement = judgement.with("sample_timestamp", Timestamp::from_millis(millis as i64).rfc3339());
        }
        judgement
    }

    fn cautions(&self) -> Vec<String> {
        self.access.cautions.clone()
    }

    fn verifies_tls(&self) -> Option<bool> {
        self.access.verifies_tls
    }
}

/// The samples themselves, or the one number made of them.
fn aggregated(samples: &[Sample], how: Aggregate) -> Vec<Sample> {
    let values = || samples.iter().map(|sample| sample.value);
    let value = match how {
        Aggregate::Worst => return samples.to_vec(),
        _ if samples.is_empty() => return Vec::new(),
        // `f64::min` and `f64::max` leave out what is no number; only such gives NaN.
        Aggregate::Min => values().fold(f64::NAN, f64::min),
        Aggregate::Max => values().fold(f64::NAN, f64::max),
        Aggregate::Sum => values().sum(),
        Aggregate::Average => values().sum::<f64>() / samples.len() as f64,
    };
    vec![Sample { value, labels: String::new() }]
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let access = Access::take(section, "url", context);
    let name = params::required_text(section, "name");
    if name.as_ref().is_some_and(|name| !is_name(name, true)) {
        section.reject("name", "expected the name of a metric alone, such as up; labels have a key of their own", None);
    }
    let mut labels = Vec::new();
    for (name, at, node) in section.entries("labels") {
        match params::scalar(node) {
            Some(value) if is_name(name, false) => labels.push((name.clone(), value.to_owned())),
            _ => {
                let path = format!("{}.{name}", section.path_of("labels"));
                section.problems().push(*at, &path, "", "expected the name of a label, and its value as a text", None);
            }
        }
    }
    let words = [
        ("worst", Aggregate::Worst),
        ("sum", Aggregate::Sum),
        ("min", Aggregate::Min),
        ("max", Aggregate::Max),
        ("avg", Aggregate::Average),
    ];
    let aggregate = section.word("aggregate", &words).unwrap_or(Aggregate::Worst);
    let thresholds = Thresholds::take(section);
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    let (mut access, name) = (access?, name?);
    access.headers.insert(ACCEPT, HeaderValue::from_static(FORMATS));
    Some(Arc::new(Metric { access, wanted: Wanted { name, labels }, aggregate, thresholds, timeout }))
}

/// Whether a text is the name of a metric, or of a label, which has no colon.
fn is_name(text: &str, colon: bool) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
    !text.is_empty() && !text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OBS-7: of several series one number can be made; nothing gives nothing, and NaN is left out of extremes alone.
    #[test]
    fn numbers_of_several_series() {
        let samples: Vec<Sample> =
            [3.0, f64::NAN, 5.0].map(|value| Sample { value, labels: String::new() }).into_iter().collect();
        let one = |how| aggregated(&samples, how)[0].value;
        assert_eq!((one(Aggregate::Min), one(Aggregate::Max)), (3.0, 5.0));
        assert!(one(Aggregate::Sum).is_nan() && one(Aggregate::Average).is_nan());
        let two = [samples[0].clone(), samples[2].clone()];
        assert_eq!(aggregated(&two, Aggregate::Sum)[0].value, 8.0);
        assert_eq!(aggregated(&two, Aggregate::Average)[0].value, 4.0);
        assert_eq!(aggregated(&two, Aggregate::Worst).len(), 2);
        assert!(aggregated(&samples[1..2], Aggregate::Max)[0].value.is_nan());
        for how in [Aggregate::Worst, Aggregate::Sum, Aggregate::Min, Aggregate::Max, Aggregate::Average] {
            assert!(aggregated(&[], how).is_empty());
        }
    }

    #[test]
    fn names_and_what_is_none() {
        for (text, metric, label) in [
            ("up", true, true),
            ("a:b", true, false),
            ("_x9", true, true),
            ("9x", false, false),
            ("a-b", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_name(text, true), is_name(text, false)), (metric, label), "{text}");
        }
    }
}
