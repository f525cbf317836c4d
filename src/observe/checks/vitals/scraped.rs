//! Vitals from a bot's metrics page: which series is which key.
//!
//! **Invariant:** a number that is none (`NaN`) is a key that is absent; a page with none of the series is wrong.

use serde_json::{Map, Number, Value, json};

use super::{Section, Shown, taken};
use crate::base::tree::Node;
use crate::observe::bot::{Claim, STAMPS};
use crate::observe::params;
use crate::observe::probes::page::{Found, Look};
use crate::observe::probes::polled::Page;
use crate::observe::probes::series::Selector;

/// Flags below `websocket_status`, then its numbers.
const FLAGS: [&str; 3] = ["connected", "authenticated", "data_flowing"];
const NUMBERS: [&str; 3] = ["latency_ms", "reconnect_count", "last_update"];
const SERIES_RULE: &str = "expected a series such as bot_up{venue=\"kraken\"}, or {series, factor, symbol_label}";

/// One vital and where it is.
#[derive(Clone, Debug)]
pub(super) struct Series {
    key: String,
    selector: Selector,
    factor: f64,
    symbol_label: String,
}

impl Series {
    /// Whether it has a series for each symbol.
    fn is_by_symbol(&self) -> bool {
        self.key == "rate_limit_status"
    }

    /// What to look for on the page.
    fn look(&self) -> Look<'_> {
        let kept = self.is_by_symbol().then_some(self.symbol_label.as_str());
        Look { wanted: self.selector.wanted(), kept }
    }
}

/// `series`, which must name at least one.
pub(super) fn take(section: &mut Section<'_>) -> Option<Vec<Series>> {
    if !section.has("series") {
        section.reject("series", "missing, expected a mapping from vitals to series", None);
        return None;
    }
    let folder = section.path_of("series");
    let entries = section.entries("series");
    if entries.is_empty() {
        section.reject("series", "expected at least one vital", None);
    }
    let mut all = Vec::new();
    for (key, at, node) in entries {
        let path = format!("{folder}.{key}");
        if !is_key(key) {
            let rule = "expected a key of vitals, such as error_rate or websocket_status.connected";
            section.problems().push(*at, &path, "", rule, None);
        }
        all.extend(one(key, node, &path, section));
    }
    Some(all)
}

fn is_key(key: &str) -> bool {
    match key.split_once('.') {
        Some(("websocket_status", below)) => FLAGS.contains(&below) || NUMBERS.contains(&below),
        Some(_) => false,
        None => !matches!(key, "websocket_status" | "portfolio_sync" | "") && !key.chars().any(char::is_control),
    }
}

fn one(key: &str, node: &Node, path: &str, section: &Section<'_>) -> Option<Series> {
    let (text, factor, symbol_label) = match params::scalar(node) {
        Some(text) => (text.to_owned(), None, None),
        None => {
            let mut section = Section::open(node, path, section.problems())?;
            let text = params::required_text(&mut section, "series");
            let factor = params::number(&mut section, "factor");
            let symbol_label = params::text(&mut section, "symbol_label");
            section.finish();
            (text?, factor, symbol_label)
        }
    };
    let selector = Selector::parse(&text).map_err(|rule| {
        section.problems().push(node.at, path, &text, rule, Some(SERIES_RULE.to_owned()));
    });
    let symbol_label = symbol_label.unwrap_or_else(|| "symbol".to_owned());
    Some(Series { key: key.to_owned(), selector: selector.ok()?, factor: factor.unwrap_or(1.0), symbol_label })
}

/// Scrapes a page.
pub(super) async fn read(page: &Page, series: &[Series]) -> Result<Shown, String> {
    let found = page.series(series.iter().map(Series::look).collect()).await?;
    shown(series, &found).map_err(|why| format!("{}: {why}", page.place()))
}

/// The vitals in what was found of each.
fn shown(series: &[Series], found: &[Found]) -> Result<Shown, String> {
    let mut map = Map::new();
    let mut absent = Vec::new();
    for (series, found) in series.iter().zip(found) {
        if found.repeated > 0 {
            return Err(format!("found a series of `{}` twice, expected each once", series.selector));
        }
        let values = found.samples.iter().map(|sample| sample.value).enumerate();
        let values: Vec<(usize, f64)> = values.filter(|(_, value)| !value.is_nan()).collect();
        if values.is_empty() {
            absent.push(series.key.clone());
            continue;
        }
        if series.is_by_symbol() {
            let symbols_of = |(at, value): (usize, f64)| (found.kept.get(at).and_then(Option::as_deref), value);
            map.insert(series.key.clone(), symbols(series, values.into_iter().map(symbols_of))?);
            continue;
        }
        if values.len() > 1 {
            let (selector, count) = (&series.selector, values.len());
            return Err(format!("`{selector}` stands for {count} series, expected one; name further labels"));
        }
        let value = of(series, values[0].1)?;
        match series.key.split_once('.') {
            Some((above, below)) => {
                let socket = map.entry(above).or_insert_with(|| json!({}));
                socket[below] = value;
            }
            None => drop(map.insert(series.key.clone(), value)),
        }
    }
    if map.is_empty() {
        return Err("found none of the series, expected at least one of them".to_owned());
    }
    Ok(Shown { absent, ..taken(map, Claim::default())? })
}

fn symbols<'a>(series: &Series, values: impl Iterator<Item = (Option<&'a str>, f64)>) -> Result<Value, String> {
    let mut symbols = Map::new();
    for (symbol, value) in values {
        let symbol = symbol.ok_or_else(|| {
            let (selector, label) = (&series.selector, &series.symbol_label);
            format!("found a series of `{selector}` without the label `{label}`, expected one for each symbol")
        })?;
        let used = number(series, value)?;
        if symbols.insert(symbol.to_owned(), json!({"percentage": used})).is_some() {
            return Err(format!("found several series of `{}` for one symbol, expected one", series.selector));
        }
    }
    Ok(Value::Object(symbols))
}

/// A sample as the key wants it.
fn of(series: &Series, value: f64) -> Result<Value, String> {
    let below = series.key.rsplit('.').next().unwrap_or_default();
    if series.key.contains('.') && FLAGS.contains(&below) {
        return match value {
            0.0 => Ok(false.into()),
            1.0 => Ok(true.into()),
            other => Err(format!("`{}`: found {other}, expected 0 or 1", series.key)),
        };
    }
    let number = number(series, value)?;
    // Counts are whole in JSON.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "looked at just before")]
    if matches!(below, "reconnect_count" | "task_count") && number.fract() == 0.0 && (0.0..1e15).contains(&number) {
        return Ok((number as u64).into());
    }
    Ok(number.into())
}

fn number(series: &Series, value: f64) -> Result<f64, String> {
    let number = if STAMPS.contains(&series.key.as_str()) { value } else { value * series.factor };
    match Number::from_f64(number) {
        Some(_) => Ok(number),
        None => Err(format!("`{}`: found {value}, expected a number", series.key)),
    }
}
