//! Texts with `{{field}}` in them, for what is told to a means about an order.
//!
//! **Invariant:** only the fields of [`FIELDS`] can be named, and a value is escaped for the place where it stands, so that
//! no value can end a string of JSON, begin another header or lead a URL elsewhere (SEC-5).

use super::Order;
use crate::base::tree::did_you_mean;

/// Every field.
pub const FIELDS: [&str; 12] = [
    "action",
    "subsystem",
    "issue_id",
    "issue_type",
    "severity",
    "symbol",
    "run_key",
    "rung",
    "attempt",
    "epoch",
    "policy",
    "sequence",
];

/// Where a text is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A text that nobody takes apart.
    Plain,
    /// Inside a string of JSON, or where a number of JSON stands.
    Json,
    /// The path or the query of a URL, or a form.
    Url,
    /// The value of a header.
    Header,
}

/// A text with fields in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// One of [`FIELDS`].
    Field(&'static str),
}

impl Template {
    /// Takes a text apart, or tells the rule that it breaks and a hint.
    pub fn parse(text: &str) -> Result<Self, (String, Option<String>)> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let Some((name, after)) = after.split_once("}}") else {
                return Err(("expected `}}` after each `{{`".to_owned(), Some(known())));
            };
            let name = name.trim();
            let Some(field) = FIELDS.into_iter().find(|field| *field == name) else {
                let shown: String = name.chars().take(40).collect();
                let hint = did_you_mean(name, &FIELDS).unwrap_or_else(known);
                return Err((format!("expected known fields only, but there is `{{{{{shown}}}}}`"), Some(hint)));
            };
            parts.push(Part::Field(field));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Whether there is no field in it.
    pub fn is_constant(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The text for an order.
    pub fn fill(&self, order: &Order, place: Place) -> String {
        self.with(place, |field| value(order, field))
    }

    /// The text with a value in every field that needs no escaping anywhere; numbers where the order has numbers.
    pub fn sample(&self) -> String {
        self.with(Place::Plain, |field| match field {
            "rung" | "attempt" | "epoch" | "sequence" => "1".to_owned(),
            _ => "x".to_owned(),
        })
    }

    fn with(&self, place: Place, value: impl Fn(&'static str) -> String) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => escaped(&value(field), place),
        });
        parts.collect()
    }
}

/// The hint that lists every field.
fn known() -> String {
    format!("known fields: {}", FIELDS.join(", "))
}

/// The value of a field of [`FIELDS`].
fn value(order: &Order, field: &'static str) -> String {
    match field {
        "action" => order.action.to_string(),
        "subsystem" => order.target.to_string(),
        "issue_id" => order.key.episode.to_string(),
        "issue_type" => order.about.issue_type.clone(),
        "severity" => order.about.severity.to_owned(),
        "symbol" => order.about.symbol.clone(),
        "run_key" => order.key.to_string(),
        "rung" => order.key.rung.to_string(),
        "attempt" => order.key.attempt.to_string(),
        "epoch" => order.epoch.to_string(),
        "policy" => order.about.policy.to_owned(),
        "sequence" => order.about.sequence.to_string(),
        _ => String::new(),
    }
}

/// `value` so that it cannot leave its place.
fn escaped(value: &str, place: Place) -> String {
    match place {
        Place::Plain => value.to_owned(),
        Place::Json => {
            let quoted = serde_json::Value::from(value).to_string();
            quoted[1..quoted.len() - 1].to_owned()
        }
        Place::Url => {
            let mut out = String::with_capacity(value.len());
            // A whole segment of dots would lead to another folder.
            let dots = !value.is_empty() && value.bytes().all(|byte| byte == b'.');
            for byte in value.bytes() {
                match byte {
                    b'.' if dots => out.push('_'),
                    byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(char::from(byte)),
                    byte => out.push_str(&format!("%{byte:02X}")),
                }
            }
            out
        }
        Place::Header => value.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect(),
    }
}

#[cfg(test)]
mod tests;
