//! Reads a notification of Alertmanager's webhook, version 4.
//!
//! In: a body, the time and the settings. Out: every alert of it, or the one fault for which it can never be accepted.
//! What the notification says about its alerts together (`status`, `commonLabels`) is not looked at: it depends on what
//! else is in the group.
//!
//! **Invariant:** pure; never panics; nothing is half accepted. Cost and memory are linear in a body of bounded size,
//! and the numbers of alerts, labels and levels are bounded too.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

use super::Settings;
use crate::model::{AlertStatus, Fingerprint, IntakeAlert, Name, Timestamp};

/// Largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// Deepest nesting of objects and lists.
pub const DEPTH_MAX: usize = 64;
/// Most alerts in one notification.
pub const ALERTS_MAX: usize = 10_000;
/// Most labels of one alert. Prometheus itself has no limit by default, and alerts of 65 labels have been captured.
pub const LABELS_MAX: usize = 128;
/// Longest name of a label, and of a receiver, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;
/// Longest value of a label, in bytes.
pub const VALUE_BYTES_MAX: usize = 4096;
/// What is kept of a summary or description, in characters.
pub const ANNOTATION_CHARS_MAX: usize = 512;

/// What is kept of the text of a fault, in characters.
const DETAIL_CHARS_MAX: usize = 256;
/// How Go writes a time that is not set: year 1.
const ZERO_DATE: Timestamp = Timestamp::from_millis(-62_135_596_800_000);

/// A notification, each alert by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Alertmanager's receiver.
    pub receiver: Name,
    /// Alertmanager's group; empty if it was not told.
    pub group_key: String,
    /// How many alerts Alertmanager has left out. Above 0 the notification is incomplete and says nothing about those.
    pub truncated: u64,
    /// The alerts, in the order of the body.
    pub alerts: Vec<IntakeAlert>,
}

/// Why a body can never be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadProblem {
    /// The kind of fault, from [`PayloadProblem::CODES`].
    pub code: &'static str,
    /// What was found and where (`alerts[3].labels`); bounded.
    pub detail: String,
}

impl PayloadProblem {
    /// Every code.
    pub const CODES: [&str; 14] = [
        "too_large",
        "not_utf8",
        "too_deep",
        "not_json",
        "wrong_version",
        "wrong_type",
        "missing_field",
        "duplicate_key",
        "too_many_alerts",
        "too_many_labels",
        "too_long",
        "bad_label",
        "bad_status",
        "bad_time",
    ];

    fn new(code: &'static str, detail: impl fmt::Display) -> Self {
        Self { code, detail: shortened(&detail.to_string(), DETAIL_CHARS_MAX) }
    }
}

impl fmt::Display for PayloadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for PayloadProblem {}

/// Reads a notification that was received at `now`. Of the settings only the replica labels are used.
pub fn parse(body: &[u8], now: Timestamp, settings: &Settings) -> Result<Notification, PayloadProblem> {
    if body.len() > BODY_BYTES_MAX {
        let detail = format!("found {} bytes, expected at most {BODY_BYTES_MAX}", body.len());
        return Err(PayloadProblem::new("too_large", detail));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| PayloadProblem::new("not_utf8", format!("found no UTF-8 at byte {}", error.valid_up_to())))?;
    if let Some(at) = too_deep(body) {
        let detail = format!("found more than {DEPTH_MAX} levels of nesting at byte {at}");
        return Err(PayloadProblem::new("too_deep", detail));
    }
    let reader = Reader { now, settings, unnamed: Name::from(""), place: Cell::default(), fault: RefCell::default() };
    let mut json = serde_json::Deserializer::from_str(text);
    let result = Top(&reader).deserialize(&mut json).and_then(|notification| json.end().map(|()| notification));
    result.map_err(|error| {
        let place = reader.place.get();
        reader.fault.take().unwrap_or_else(|| match error.classify() {
            serde_json::error::Category::Data if place.field == "version" => {
                PayloadProblem::new("wrong_version", format!("{place}: expected \"4\", {error}"))
            }
            serde_json::error::Category::Data => PayloadProblem::new("wrong_type", format!("{place}: {error}")),
            _ => PayloadProblem::new("not_json", error),
        })
    })
}

/// The identity of an alert: see [`Fingerprint`]. Every name and value is preceded by its length, so that no two sets of
/// labels are hashed as the same bytes.
pub fn fingerprint(labels: &BTreeMap<String, String>, replica_labels: &[String]) -> Fingerprint {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut hash = Sha256::new();
    for (name, value) in labels.iter().filter(|(name, _)| !replica_labels.contains(name)) {
        for text in [name, value] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
    }
    let digest = hash.finalize();
    let mut text = String::with_capacity(32);
    for byte in &digest[..16] {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 0xf)]));
    }
    text.into()
}

/// Where in the body more than [`DEPTH_MAX`] objects and lists are open at once. Brackets inside of strings do not count;
/// whether the body is JSON at all is not asked here.
pub fn too_deep(body: &[u8]) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    body.iter().position(|&byte| {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        depth > DEPTH_MAX
    })
}

/// The first `chars` characters, without NUL.
fn shortened(text: &str, chars: usize) -> String {
    text.chars().filter(|&found| found != '\0').take(chars).collect()
}

/// Where in the body we are, for the text of a fault.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    alert: Option<usize>,
    field: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.alert, self.field) {
            (None, "") => f.write_str("body"),
            (None, field) => f.write_str(field),
            (Some(index), "") => write!(f, "alerts[{index}]"),
            (Some(index), field) => write!(f, "alerts[{index}].{field}"),
        }
    }
}

/// What every part of the reading shares.
struct Reader<'a> {
    now: Timestamp,
    settings: &'a Settings,
    /// Stands for the receiver until it is known; the key may come last.
    unnamed: Name,
    place: Cell<Place>,
    /// A fault of our own finding. The parser can only carry its text, so it waits here.
    fault: RefCell<Option<PayloadProblem>>,
}

impl Reader<'_> {
    /// A fault at the current place.
    fn fault<E: de::Error>(&self, code: &'static str, detail: impl fmt::Display) -> E {
        self.fault.replace(Some(PayloadProblem::new(code, format!("{}: {detail}", self.place.get()))));
        E::custom(code)
    }

    /// Goes to a field; it must not have been there before.
    fn enter<E: de::Error>(&self, field: &'static str, again: bool) -> Result<(), E> {
        self.place.set(Place { field, ..self.place.get() });
        if again { Err(self.fault("duplicate_key", "found twice, expected once")) } else { Ok(()) }
    }

    /// Goes back to the object that the field is in.
    fn leave(&self) {
        self.place.set(Place { field: "", ..self.place.get() });
    }

    /// The value of a field that must be there.
    fn required<T, E: de::Error>(&self, field: &'static str, value: Option<T>) -> Result<T, E> {
        value.ok_or_else(|| {
            self.place.set(Place { field, ..self.place.get() });
            self.fault("missing_field", "found nothing, expected it to be there")
        })
    }

    fn time<E: de::Error>(&self, text: &str) -> Result<Timestamp, E> {
        Timestamp::parse_rfc3339(text)
            .ok_or_else(|| self.fault("bad_time", format!("found {text:?}, expected an RFC 3339 date")))
    }
}

/// A string, borrowed from the body where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A whole number from 0; `5.0` is one too.
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = number.as_u64().or_else(|| {
            let number = number.as_f64().filter(|number| number.fract() == 0.0)?;
            format!("{number:.0}").parse().ok()
        });
        whole.map(Self).ok_or_else(|| de::Error::custom(format!("found {number}, expected a whole number from 0")))
    }
}

/// Gives a reader's part the two traits that serde wants: it is its own visitor.
macro_rules! part {
    ($part:ident -> $value:ty, $method:ident, $expecting:literal) => {
        struct $part<'a>(&'a Reader<'a>);

        impl<'de> DeserializeSeed<'de> for $part<'_> {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.$method(self)
            }
        }

        impl<'de> Visitor<'de> for $part<'_> {
            type Value = $value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }
            part!(@visit $part, $method);
        }
    };
    (@visit $part:ident, deserialize_map) => {
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            self.read(map)
        }
    };
    (@visit $part:ident, deserialize_seq) => {
        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            self.read(list)
        }
    };
}

part!(Top -> Notification, deserialize_map, "an object");
part!(Alerts -> Vec<IntakeAlert>, deserialize_seq, "a list of alerts");
part!(Alert -> IntakeAlert, deserialize_map, "an alert, which is an object");
part!(Labels -> BTreeMap<String, String>, deserialize_map, "an object of strings");

impl Top<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<Notification, A::Error> {
        let reader = self.0;
        let (mut version, mut receiver, mut group_key, mut truncated, mut alerts) = (None, None, None, None, None);
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "version" => {
                    reader.enter("version", version.is_some())?;
                    let Text(found) = map.next_value()?;
                    if found != "4" {
                        return Err(reader.fault("wrong_version", format!("found {found:?}, expected \"4\"")));
                    }
                    version = Some(());
                }
                "receiver" => {
                    reader.enter("receiver", receiver.is_some())?;
                    let Text(found) = map.next_value()?;
                    if found.len() > NAME_BYTES_MAX {
                        let detail = format!("found {} bytes, expected at most {NAME_BYTES_MAX}", found.len());
                        return Err(reader.fault("too_long", detail));
                    }
                    receiver = Some(Name::from(shortened(&found, NAME_BYTES_MAX)));
                }
                "groupKey" => {
                    reader.enter("groupKey", group_key.is_some())?;
                    group_key = Some(map.next_value::<Text<'_>>()?.0.into_owned());
                }
                "truncatedAlerts" => {
                    reader.enter("truncatedAlerts", truncated.is_some())?;
                    truncated = Some(map.next_value::<Count>()?.0);
                }
                "alerts" => {
                    reader.enter("alerts", alerts.is_some())?;
                    alerts = Some(map.next_value_seed(Alerts(reader))?);
                    reader.place.set(Place::default());
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            reader.leave();
        }
        reader.required("version", version)?;
        let receiver = reader.required("receiver", receiver)?;
        let mut alerts: Vec<IntakeAlert> = reader.required("alerts", alerts)?;
        let truncated = truncated.unwrap_or(0);
        for alert in &mut alerts {
            alert.receiver = receiver.clone();
            alert.truncated = truncated > 0;
        }
        Ok(Notification { receiver, group_key: group_key.unwrap_or_default(), truncated, alerts })
    }
}

impl Alerts<'_> {
    fn read<'de, A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<IntakeAlert>, A::Error> {
        let reader = self.0;
        let mut alerts = Vec::new();
        loop {
            reader.place.set(Place { alert: Some(alerts.len()), field: "" });
            let Some(alert) = list.next_element_seed(Alert(reader))? else { return Ok(alerts) };
            if alerts.len() == ALERTS_MAX {
                reader.place.set(Place { alert: None, field: "alerts" });
                return Err(reader.fault("too_many_alerts", format!("expected at most {ALERTS_MAX}")));
            }
            alerts.push(alert);
        }
    }
}

impl Alert<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<IntakeAlert, A::Error> {
        let reader = self.0;
        let (mut status, mut labels, mut annotations, mut starts_at, mut ends_at) = (None, None, None, None, None);
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "status" => {
                    reader.enter("status", status.is_some())?;
                    status = Some(match &*map.next_value::<Text<'_>>()?.0 {
                        "firing" => AlertStatus::Firing,
                        "resolved" => AlertStatus::Resolved,
                        other => {
                            let detail = format!("found {other:?}, expected \"firing\" or \"resolved\"");
                            return Err(reader.fault("bad_status", detail));
                        }
                    });
                }
                "labels" => {
                    reader.enter("labels", labels.is_some())?;
                    labels = Some(map.next_value_seed(Labels(reader))?);
                }
                "annotations" => {
                    reader.enter("annotations", annotations.is_some())?;
                    annotations = Some(map.next_value::<Option<Annotations>>()?.unwrap_or_default().0);
                }
                "startsAt" => {
                    reader.enter("startsAt", starts_at.is_some())?;
                    starts_at = Some(reader.time(&map.next_value::<Text<'_>>()?.0)?);
                }
                "endsAt" => {
                    reader.enter("endsAt", ends_at.is_some())?;
                    let text = map.next_value::<Option<Text<'_>>>()?;
                    ends_at = Some(text.map(|text| reader.time(&text.0)).transpose()?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            reader.leave();
        }
        let status = reader.required("status", status)?;
        let labels = reader.required("labels", labels)?;
        let starts_at = reader.required("startsAt", starts_at)?;
        let resolved = status == AlertStatus::Resolved;
        Ok(IntakeAlert {
            received_at: reader.now,
            receiver: reader.unnamed.clone(),
            status,
            fingerprint: fingerprint(&labels, &reader.settings.replica_labels),
            labels,
            annotations: annotations.unwrap_or_default(),
            // A start that is not set must not make the alert look older than everything.
            starts_at: if starts_at == ZERO_DATE { reader.now } else { starts_at },
            ends_at: ends_at.flatten().filter(|&end| resolved && end != ZERO_DATE),
            truncated: false,
        })
    }
}

impl Labels<'_> {
    fn read<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<BTreeMap<String, String>, A::Error> {
        let reader = self.0;
        let mut labels = BTreeMap::new();
        while let Some((Text(name), Text(value))) = map.next_entry()? {
            if name.is_empty() || name.contains('\0') || value.contains('\0') {
                return Err(reader.fault("bad_label", format!("found the label {name:?}, empty or with a NUL")));
            }
            for (what, text, limit) in [("name", &name, NAME_BYTES_MAX), ("value", &value, VALUE_BYTES_MAX)] {
                if text.len() > limit {
                    let short = shortened(&name, 64);
                    let detail =
                        format!("found a {what} of {} bytes in {short:?}, expected at most {limit}", text.len());
                    return Err(reader.fault("too_long", detail));
                }
            }
            if labels.len() == LABELS_MAX {
                return Err(reader.fault("too_many_labels", format!("expected at most {LABELS_MAX}")));
            }
            if let Some(before) = labels.insert(name.into_owned(), value.into_owned()) {
                return Err(reader.fault("duplicate_key", format!("found a label twice, first as {before:?}")));
            }
        }
        if labels.is_empty() {
            return Err(reader.fault("missing_field", "found no label, expected at least one"));
        }
        Ok(labels)
    }
}

/// What is kept of the annotations; nothing that they say can be a fault, but that they are no strings.
#[derive(Default)]
struct Annotations(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Annotations {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            if matches!(&*name, "summary" | "description") {
                let Text(value) = map.next_value()?;
                self.0.insert(name.into_owned(), shortened(&value, ANNOTATION_CHARS_MAX));
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
