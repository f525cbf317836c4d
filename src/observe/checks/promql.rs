//! `promql`: what does a Prometheus server answer to a query?

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::observe::access::Access;
use crate::observe::params;
use crate::observe::probes::get;
use crate::observe::threshold::{Sample, Thresholds, short};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Promql::KIND, doc: DOC, build };

/// How much of an answer is read: some ten thousand series.
const ANSWER_MAX: usize = 1024 * 1024;
/// The longest query; it is a part of the address.
const QUERY_MAX: usize = 4096;
/// How much is told of a server's message, in characters.
const TOLD_MAX: usize = 300;

const DOC: &str = "\
# What it asks
The value of a PromQL expression, by an instant query (`/api/v1/query`) of a Prometheus server, or of what speaks its
API. Of several series the worst counts.

# Why it matters
What Prometheus knows already need not be measured a second time: rates, quantiles, sums over machines.

# Failure reasons
- `degraded`, `critical`: the comparison of that name holds for a value.
- What `missing` says: the answer has no series, or a value is NaN.
- Could not be run: the server cannot be reached, refuses the query or the credentials, or the answer is neither a
  vector nor a scalar, or larger than 1 MiB; `error` has the server's own words. That the messenger is down says nothing
  of the platform; three times in a row it counts as critical all the same.

The age of a value is not visible: an instant query answers with the moment of the question, and with the last value of
up to five minutes before. To judge an age, ask for it: `time() - timestamp(NAME)`.

# Parameters
- `server`: the address, with its path prefix if it has one.
- `query`: the expression, at most 4096 bytes.
- `degraded`, `critical` (none): `> 5`, `>= 5`, `< 1`, `<= 1`, `== 0`, `!= 1`; a number alone stands for `>`. One of
  the two must be there, or a `missing` that is `degraded` or `critical`.
- `missing` (`unknown`): `healthy`, `unknown`, `degraded` or `critical`.
- `timeout` (5s): the time to wait for all of the answer.
- `bearer_token_file`, or `basic_auth` with `username` and `password_file` (none): the credentials.
- `ca_file` (the machine's authorities): the only authorities to trust.
- `insecure_skip_verify` (`false`): verify no certificate.
";

/// One query.
#[derive(Clone, Debug)]
pub struct Promql {
    access: Access,
    thresholds: Thresholds,
    timeout: Duration,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    samples: Vec<Sample>,
    warnings: Vec<String>,
    latency: Duration,
}

impl Promql {
    async fn ask(&self) -> Result<Answer, String> {
        let begun = Instant::now();
        let mut response = get::ask(&self.access.client, &self.access.url, &self.access.headers).await?;
        // Prometheus tells of mistakes in JSON, with a status of 400, 422 or 503.
        let refusal = get::refusal(&response);
        let body = get::body(&mut response, ANSWER_MAX).await;
        let answer = match body {
            Ok(body) => serde_json::from_slice::<Value>(&body).map_err(|error| format!("found no JSON: {error}")),
            Err(why) if why.starts_with("found more than") => Err(format!("{why}: aggregate the query")),
            Err(why) => Err(why),
        };
        if let Some(error) = answer.as_ref().ok().and_then(refused) {
            return Err(error);
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let answer = answer?;
        let warnings = answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let warnings = warnings.take(3).map(|warning| short(warning, TOLD_MAX)).collect();
        Ok(Answer { samples: samples(&answer)?, warnings, latency: begun.elapsed() })
    }
}

impl Check for Promql {
    type Reading = Result<Answer, String>;
    const KIND: &'static str = "promql";

    async fn read(&self) -> Self::Reading {
        let place = get::place(&self.access.url);
        match timeout(self.timeout, self.ask()).await {
            Ok(answer) => answer.map_err(|why| format!("{place}: {why}")),
            Err(_) => Err(format!("{place}: no answer within {:?}", self.timeout)),
        }
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let answer = match reading {
            Ok(answer) => answer,
            Err(error) => return Judgement::unrunnable(error.as_str()),
        };
        let judgement = self.thresholds.judge(&answer.samples, "at least one series in the answer");
        let judgement = judgement.with("latency_ms", answer.latency.as_secs_f64() * 1000.0);
        if answer.warnings.is_empty() { judgement } else { judgement.with("server_warnings", answer.warnings.clone()) }
    }

    fn cautions(&self) -> Vec<String> {
        self.access.cautions.clone()
    }

    fn verifies_tls(&self) -> Option<bool> {
        self.access.verifies_tls
    }
}

/// What Prometheus says of a query that it does not answer.
fn refused(answer: &Value) -> Option<String> {
    if answer["status"] != "error" {
        return None;
    }
    let of = |key: &str| short(answer[key].as_str().unwrap_or("no reason given"), TOLD_MAX);
    Some(format!("the query is not answered ({}): {}", of("errorType"), of("error")))
}

/// The values of an answer, in its order.
fn samples(answer: &Value) -> Result<Vec<Sample>, String> {
    let data = &answer["data"];
    let result = &data["result"];
    match data["resultType"].as_str() {
        Some("scalar") => Ok(vec![Sample { value: number(result)?, labels: String::new() }]),
        Some("vector") => {
            let elements = result.as_array().ok_or("found a vector that is no list, expected the API of Prometheus")?;
            elements
                .iter()
                .map(|element| {
                    if element.get("histogram").is_some() {
                        return Err("found a native histogram, expected numbers: \
                                    ask for histogram_quantile(...) or histogram_count(...) of it"
                            .to_owned());
                    }
                    let labels = element["metric"].as_object().into_iter().flatten();
                    let labels = labels.map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
                    Ok(Sample::new(number(&element["value"])?, labels))
                })
                .collect()
        }
        Some("matrix") => Err("found a matrix, expected a vector or a scalar: take a function of the range, \
                               such as rate(...[5m])"
            .to_owned()),
        Some("string") => Err("found a string, expected a vector or a scalar".to_owned()),
        _ => Err("found JSON without `data.resultType`, expected the API of Prometheus".to_owned()),
    }
}

/// The number in `[TIME, "NUMBER"]`.
fn number(pair: &Value) -> Result<f64, String> {
    let text = pair[1].as_str().and_then(|text| text.parse().ok());
    text.ok_or_else(|| format!("found `{}`, expected a time and a number as text", short(&pair.to_string(), 60)))
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let access = Access::take(section, "server", context);
    let query = params::required_text(section, "query");
    if query.as_ref().is_some_and(|query| query.len() > QUERY_MAX) {
        section.reject("query", &format!("expected at most {QUERY_MAX} bytes; write a recording rule"), None);
    }
    let thresholds = Thresholds::take(section);
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    let (mut access, query) = (access?, query?);
    if access.url.query().is_some() || access.url.fragment().is_some() {
        section.reject("server", "expected an address without a query; that has a key of its own", None);
        return None;
    }
    let path = format!("{}/api/v1/query", access.url.path().trim_end_matches('/'));
    access.url.set_path(&path);
    // The server gives up when nobody waits any more.
    let limit = timeout.as_secs_f64().to_string();
    access.url.query_pairs_mut().append_pair("query", &query).append_pair("timeout", &limit);
    Some(Arc::new(Promql { access, thresholds, timeout }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vector(elements: Value) -> Value {
        json!({"status": "success", "data": {"resultType": "vector", "result": elements}})
    }

    /// OBS-7: scalars and vectors are numbers, NaN and infinities too; anything else says what to ask instead.
    #[test]
    fn answers_of_every_type() {
        let scalar = json!({"data": {"resultType": "scalar", "result": [1.5, "42"]}});
        assert_eq!(samples(&scalar).unwrap()[0].value, 42.0);
        let pairs = json!([
            {"metric": {"__name__": "up", "job": "a\"b"}, "value": [1.5, "1"]},
            {"metric": {}, "value": [1.5, "NaN"]},
            {"metric": {}, "value": [1.5, "-Inf"]},
        ]);
        let found = samples(&vector(pairs)).unwrap();
        assert_eq!(found[0], Sample { value: 1.0, labels: r#"{__name__="up",job="a\"b"}"#.to_owned() });
        assert!(found[1].value.is_nan() && found[2].value == f64::NEG_INFINITY);
        assert_eq!(samples(&vector(json!([]))), Ok(vec![]));
        for (answer, expected) in [
            (vector(json!([{"metric": {}, "histogram": [1, {}]}])), "histogram_quantile"),
            (vector(json!([{"metric": {}, "value": [1, 2]}])), "found `[1,2]`"),
            (vector(json!([{"metric": {}}])), "found `null`"),
            (vector(json!("x")), "no list"),
            (json!({"data": {"resultType": "matrix", "result": []}}), "found a matrix"),
            (json!({"data": {"resultType": "string", "result": [1, "x"]}}), "found a string"),
            (json!([1, 2]), "the API of Prometheus"),
            (json!({"status": "success"}), "the API of Prometheus"),
        ] {
            assert!(samples(&answer).unwrap_err().contains(expected), "{answer}");
        }
        let told = refused(&json!({"status": "error", "errorType": "bad_data", "error": "parse error: x"}));
        assert_eq!(told.unwrap(), "the query is not answered (bad_data): parse error: x");
        assert_eq!(refused(&vector(json!([]))), None);
    }
}
