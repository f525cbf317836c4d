//! Numbers graded by comparisons: which of several is the worst, and what is said of it.
//!
//! **Invariant:** pure. What is no number is never healthy: it is graded like a number that is missing.

use super::check::Judgement;
use super::params;
use crate::base::redact;
use crate::base::tree::{Node, Section};
use crate::model::{Perfdata, Status};

/// How much of a series' labels is shown, in characters.
const LABELS_MAX: usize = 200;

/// What a number is held against: `> 5`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    sign: Sign,
    limit: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    Other,
}

/// The signs as they are written; the longer ones first, as one begins with another.
const SIGNS: [(&str, Sign); 6] = [
    (">=", Sign::AtLeast),
    ("<=", Sign::AtMost),
    ("==", Sign::Equal),
    ("!=", Sign::Other),
    (">", Sign::Above),
    ("<", Sign::Below),
];

impl Comparison {
    /// Reads `> 5`, `<= 0.5`, `!= 1`; a number alone stands for `>`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (sign, rest) = SIGNS
            .into_iter()
            .find_map(|(word, sign)| Some((sign, text.strip_prefix(word)?)))
            .unwrap_or((Sign::Above, text));
        let limit = rest.trim().parse().ok().filter(|limit: &f64| limit.is_finite())?;
        Some(Self { sign, limit })
    }

    /// Whether it holds for a number. Never for one that is none.
    pub fn holds(self, value: f64) -> bool {
        match self.sign {
            Sign::Above => value > self.limit,
            Sign::AtLeast => value >= self.limit,
            Sign::Below => value < self.limit,
            Sign::AtMost => value <= self.limit,
            Sign::Equal => value == self.limit,
            Sign::Other => !value.is_nan() && value != self.limit,
        }
    }

    /// Whether greater numbers are worse (1), smaller ones (-1), or neither.
    fn direction(self) -> i8 {
        match self.sign {
            Sign::Above | Sign::AtLeast => 1,
            Sign::Below | Sign::AtMost => -1,
            Sign::Equal | Sign::Other => 0,
        }
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, _) = SIGNS.iter().find(|(_, sign)| *sign == self.sign).expect("every sign is in the list");
        write!(f, "{word} {}", self.limit)
    }
}

/// Which numbers are degraded, which critical, and what it means that there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// What holds for a degraded one.
    pub degraded: Option<Comparison>,
    /// What holds for a critical one.
    pub critical: Option<Comparison>,
    /// The grade if there is no number.
    pub missing: Status,
}

/// A number and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The number; may be infinite, or none.
    pub value: f64,
    /// The labels of its series, as `{name="value"}`, of bounded length; empty if it has none.
    pub labels: String,
}

impl Sample {
    /// A sample of a series with these labels.
    pub fn new<'a>(value: f64, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::new();
        for (name, value) in labels {
            text.push(if text.is_empty() { '{' } else { ',' });
            text.push_str(name);
            text.push_str(&format!("={value:?}"));
            if text.len() > 4 * LABELS_MAX {
                break;
            }
        }
        if !text.is_empty() {
            text.push('}');
        }
        Self { value, labels: short(&text, LABELS_MAX) }
    }
}

/// A text of a peer on one line, at most `max` characters of it, without secrets.
pub fn short(text: &str, max: usize) -> String {
    redact::line(text, max)
}

impl Thresholds {
    /// Takes `degraded`, `critical` and `missing`.
    pub fn take(section: &mut Section<'_>) -> Self {
        let degraded = comparison(section, "degraded");
        let critical = comparison(section, "critical");
        let words = [Status::Healthy, Status::Unknown, Status::Degraded, Status::Critical];
        let missing = section.word("missing", &words.map(|word| (word.as_str(), word))).unwrap_or(Status::Unknown);
        if let (Some(mild), Some(bad)) = (degraded, critical)
            && mild.direction() == bad.direction()
            && f64::from(mild.direction()) * (bad.limit - mild.limit) < 0.0
        {
            section.reject("critical", &format!("expected a limit beyond that of degraded, which is `{mild}`"), None);
        }
        // Whether there is a number at all may be all that is asked.
        let asks_for_presence = matches!(missing, Status::Degraded | Status::Critical);
        if !section.has("degraded") && !section.has("critical") && !asks_for_presence {
            let hint = "a check without either is always healthy";
            section.reject("degraded", "expected `degraded` or `critical`", Some(hint.to_owned()));
        }
        Self { degraded, critical, missing }
    }

    /// The grade of one number.
    pub fn grade(&self, value: f64) -> Status {
        if value.is_nan() {
            self.missing
        } else if self.critical.is_some_and(|bad| bad.holds(value)) {
            Status::Critical
        } else if self.degraded.is_some_and(|mild| mild.holds(value)) {
            Status::Degraded
        } else {
            Status::Healthy
        }
    }

    /// Grades by the worst of some numbers; `nothing` says what was looked for.
    pub fn judge(&self, samples: &[Sample], nothing: &str) -> Judgement {
        let Some(worst) = samples.iter().reduce(|a, b| if self.is_worse(b.value, a.value) { b } else { a }) else {
            let judgement = Judgement::new(self.missing).with("results", 0);
            return self.remark(judgement, format!("found nothing, expected {nothing}"));
        };
        let status = self.grade(worst.value);
        let mut judgement = Judgement::new(status).with("results", samples.len());
        judgement = match worst.value.is_finite() {
            true => judgement.with("value", worst.value),
            false => judgement.with("value", worst.value.to_string()),
        };
        if !worst.labels.is_empty() {
            judgement = judgement.with("series", worst.labels.as_str());
        }
        if worst.value.is_finite() {
            judgement.perfdata.push(Perfdata { label: "value".into(), value: worst.value, unit: String::new() });
        }
        let broken = match status {
            _ if worst.value.is_nan() => return self.remark(judgement, "found NaN, expected a number".to_owned()),
            Status::Critical => self.critical,
            Status::Degraded => self.degraded,
            _ => None,
        };
        match broken {
            Some(limit) => self.remark(judgement, format!("found {}, which is {limit}", worst.value)),
            None => judgement,
        }
    }

    fn remark(&self, judgement: Judgement, text: String) -> Judgement {
        match judgement.status {
            Status::Healthy => judgement,
            Status::Critical => judgement.with("error", text),
            _ => judgement.with("warning", text),
        }
    }

    /// Whether a number is to be told rather than another: by its grade, then by how far it has gone.
    fn is_worse(&self, value: f64, than: f64) -> bool {
        let severity = |status| match status {
            Status::Healthy => 0,
            Status::Unknown => 1,
            Status::Degraded => 2,
            Status::Critical | Status::Failed => 3,
        };
        let (a, b) = (severity(self.grade(value)), severity(self.grade(than)));
        let direction = self.critical.or(self.degraded).map_or(0, Comparison::direction);
        a > b || (a == b && f64::from(direction) * value > f64::from(direction) * than)
    }
}

fn comparison(section: &mut Section<'_>, key: &'static str) -> Option<Comparison> {
    let node: &Node = section.node(key)?;
    let found = params::scalar(node).and_then(Comparison::parse);
    if found.is_none() {
        section.reject(key, "expected a comparison such as \"> 5\" or \"< 1\", or a number, which stands for >", None);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::tree::{Problems, parse};

    fn thresholds(yaml: &str) -> Result<Thresholds, String> {
        let problems = Problems::new("test.yml");
        let node = parse(yaml, &problems).unwrap();
        let mut section = Section::open(&node, "check", &problems).unwrap();
        let taken = Thresholds::take(&mut section);
        section.finish();
        let told: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
        if told.is_empty() { Ok(taken) } else { Err(told.join("\n")) }
    }

    fn sample(value: f64) -> Sample {
        Sample { value, labels: format!("{{n=\"{value}\"}}") }
    }

    /// OBS-7: every sign, at its limit and on both sides of it; what is no number satisfies none.
    #[test]
    fn both_sides_of_every_sign() {
        for (text, below, at, above) in [
            ("5", false, false, true),
            (" > 5 ", false, false, true),
            (">=5", false, true, true),
            ("< 5", true, false, false),
            ("<= 5.0", true, true, false),
            ("== 5", false, true, false),
            ("!= 5", true, false, true),
        ] {
            let comparison = Comparison::parse(text).unwrap();
            let holds = [4.999, 5.0, 5.001, f64::NAN].map(|value| comparison.holds(value));
            assert_eq!(holds, [below, at, above, false], "{text}");
        }
        for text in ["", ">", "=> 5", "five", "> NaN", "> inf", "5 >"] {
            assert_eq!(Comparison::parse(text), None, "{text}");
        }
        assert_eq!(Comparison::parse(">=1.5").unwrap().to_string(), ">= 1.5");
    }

    /// OBS-7: the worst of several decides, in the direction of the limit; NaN and nothing at all are `missing`.
    #[test]
    fn the_worst_decides() {
        use Status::{Critical, Degraded, Healthy, Unknown};
        let high = thresholds("{degraded: 5, critical: '>= 10'}").unwrap();
        let low = thresholds("{critical: '< 1', missing: degraded}").unwrap();
        let free = thresholds("{degraded: '> 9', missing: healthy}").unwrap();
        for (limits, values, status, value) in [
            (high, vec![1.0, 5.0], Healthy, Some(5.0)),
            (high, vec![7.0, 6.0, 1.0], Degraded, Some(7.0)),
            (high, vec![10.0, 50.0, 2.0], Critical, Some(50.0)),
            (high, vec![f64::INFINITY], Critical, None),
            (high, vec![1.0, f64::NAN], Unknown, None),
            (high, vec![f64::NAN, 6.0], Degraded, Some(6.0)),
            (high, vec![], Unknown, None),
            (low, vec![3.0, 0.5, 0.9], Critical, Some(0.5)),
            (low, vec![3.0, 2.0], Healthy, Some(2.0)),
            (low, vec![], Degraded, None),
            (free, vec![], Healthy, None),
            (free, vec![9.0], Healthy, Some(9.0)),
        ] {
            let samples: Vec<Sample> = values.iter().copied().map(sample).collect();
            let judgement = limits.judge(&samples, "a number");
            assert_eq!(judgement.status, status, "{values:?}");
            assert_eq!(judgement.perfdata.first().map(|data| data.value), value, "{values:?}");
            assert_eq!(judgement.details["results"], values.len());
            let told = judgement.details.contains_key("error") || judgement.details.contains_key("warning");
            assert_eq!(told, status != Healthy, "{judgement:?}");
        }
        let told = high.judge(&[sample(12.0)], "a number").details;
        assert_eq!(told["error"], "found 12, which is >= 10");
        assert_eq!(told["series"], "{n=\"12\"}");
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        assert!(thresholds("{degraded: '> 5', critical: '> 3'}").unwrap_err().contains("beyond that of degraded"));
        assert!(thresholds("{degraded: '< 5', critical: '<= 7'}").unwrap_err().contains("beyond that of degraded"));
        assert!(thresholds("{degraded: '< 5', critical: '> 3'}").is_ok());
        assert!(thresholds("{degraded: [1]}").unwrap_err().contains("a comparison such as"));
        for none in ["{}", "{missing: healthy}", "{missing: unknown}"] {
            assert!(thresholds(none).unwrap_err().contains("expected `degraded` or `critical`"), "{none}");
        }
        assert!(thresholds("{missing: critical}").is_ok() && thresholds("{missing: degraded}").is_ok());
        assert!(thresholds("{missing: failed}").unwrap_err().contains("`healthy`, `unknown`, `degraded`, `critical`"));
    }

    /// SEC-3: what a peer sends is shown on one line, of bounded length and without credentials; a secret goes before the cut.
    #[test]
    fn labels_are_shown_short() {
        redact::remember("threshold-test-canary");
        assert!(!short("key threshold-test-canary", 20).contains("threshold"));
        let long = "x".repeat(10_000);
        let labels = [("url", "http://me:canary@host/"), ("line", "a\nb"), ("long", &long)];
        let shown = Sample::new(1.0, labels.into_iter()).labels;
        assert!(
            shown.chars().count() <= LABELS_MAX + 3 && !shown.contains("canary") && !shown.contains('\n'),
            "{shown}"
        );
        assert_eq!(Sample::new(1.0, std::iter::empty()).labels, "");
    }
}
