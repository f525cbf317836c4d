//! Signed requests (SEC-2): HMAC-SHA256 over time and content, good for a window of time and only once.
//!
//! Used signatures are kept in memory alone; what was signed before the start is therefore refused.
//!
//! **Invariant:** compared in constant time; a signature counts as used only after it was found right, so that nobody
//! without the key can fill the memory of those used; that memory is bounded, and refuses when it is full.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::base::secret::Secret;
use crate::model::Timestamp;

use super::problem::Problem;

/// How far the clock of a sender may be behind ours just after a start.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// Signatures remembered as used.
const USED_MAX: usize = 16_384;

/// How a request is to be signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scheme<'a> {
    pub(super) secrets: &'a [Secret],
    pub(super) signature_header: &'a str,
    pub(super) timestamp_header: &'a str,
    pub(super) window: Duration,
    /// For how long used signatures have been remembered: what is older may have been used before.
    pub(super) remembered: Duration,
}

/// A signature that was found right.
pub(super) type Tag = [u8; 32];

/// What the headers of a signed request say, before its body is there: their form and time are good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim<'a> {
    timestamp: &'a str,
    given: Tag,
}

impl<'a> Claim<'a> {
    pub(super) fn of(scheme: Scheme<'_>, headers: &'a HeaderMap, now: Timestamp) -> Result<Self, Problem> {
        let timestamp = one(headers, scheme.timestamp_header)?;
        let signature = one(headers, scheme.signature_header)?;
        let seconds = Some(timestamp)
            .filter(|text| text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or_else(|| bad(format!("{} is no whole number of Unix seconds", scheme.timestamp_header)))?;
        let off = (now.millis() - seconds * 1000).unsigned_abs();
        if u128::from(off) > scheme.window.as_millis() {
            let window = scheme.window.as_secs();
            return Err(bad(format!("the request's time is {} s from ours, more than {window} s", off / 1000)));
        }
        let age = now.millis() - seconds * 1000;
        if i128::from(age) > (scheme.remembered + BEHIND_MAX).as_millis().cast_signed() {
            return Err(bad(format!(
                "the request was signed {} s before chiron started, which does not know whether it was here before; sign \
                 it anew",
                age / 1000 - i64::try_from(scheme.remembered.as_secs()).unwrap_or(i64::MAX)
            )));
        }
        let given = unhex(signature).ok_or_else(|| bad(format!("{} is not 64 hex digits", scheme.signature_header)))?;
        Ok(Self { timestamp, given })
    }

    /// The signature of a request whose signed parts come after `timestamp:`, or why it is not good.
    pub(super) fn verify(self, scheme: Scheme<'_>, parts: &[&[u8]]) -> Result<Tag, Problem> {
        let Self { timestamp, given } = self;
        // No early end: which of two keys fits takes no different time.
        let good = scheme.secrets.iter().fold(false, |good, secret| {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("any length of key will do");
            mac.update(timestamp.as_bytes());
            mac.update(b":");
            for part in parts {
                mac.update(part);
            }
            good | mac.verify_slice(&given).is_ok()
        });
        if good { Ok(given) } else { Err(bad("the signature is not of this request by a configured key")) }
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(value), None) => Ok(value.trim()),
        _ => Err(bad(format!("one {name} header is needed"))),
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "bad_signature", detail)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("HMAC-SHA256"))
}

fn unhex(text: &str) -> Option<Tag> {
    let digits = text.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut tag = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in tag.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(tag)
}

/// Signatures that were used, so that none is taken twice.
#[derive(Debug, Default)]
pub(super) struct Used(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    until: HashMap<Tag, Duration>,
    /// Oldest first. May name tags that were forgotten, or remembered anew, meanwhile.
    order: VecDeque<(Tag, Duration)>,
}

impl Used {
    /// Marks a signature as used; `now` is time since boot.
    pub(super) fn remember(&self, tag: Tag, window: Duration, now: Duration) -> Result<(), Problem> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((oldest, until)) = seen.order.front().copied().filter(|(_, until)| *until < now) {
            seen.order.pop_front();
            if seen.until.get(&oldest) == Some(&until) {
                seen.until.remove(&oldest);
            }
        }
        if seen.until.contains_key(&tag) {
            return Err(bad("the same signed request was here before; sign it anew, with a later time"));
        }
        if seen.order.len() >= USED_MAX {
            return Err(Problem::overloaded("too many signed requests within the window to remember them all"));
        }
        // A time of the future is good for up to two windows from now.
        let until = now + 2 * window;
        seen.until.insert(tag, until);
        seen.order.push_back((tag, until));
        Ok(())
    }

    /// Lets a signature be used again: the request was not carried out for our own fault, and will come again.
    pub(super) fn forget(&self, tag: &Tag) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).until.remove(tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(300);
    const NOW: Timestamp = Timestamp::from_millis(1_763_862_896_000);

    fn check(secrets: &[&str], headers: &[(&'static str, &str)], body: &str) -> Result<Tag, String> {
        check_after(Duration::from_secs(3_600), secrets, headers, body)
    }

    fn check_after(
        remembered: Duration,
        secrets: &[&str],
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Tag, String> {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        let scheme = Scheme {
            secrets: &secrets,
            signature_header: "x-sig",
            timestamp_header: "x-time",
            window: WINDOW,
            remembered,
        };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Claim::of(scheme, &map, NOW)
            .and_then(|claim| claim.verify(scheme, &[body.as_bytes()]))
            .map_err(|problem| problem.detail)
    }

    /// SEC-2: right key, right content, right time; everything else is refused. The signatures were made by
    /// `printf 1763862896:hello | openssl dgst -sha256 -hmac KEY`.
    #[test]
    fn a_signature_holds_for_its_key_content_and_time() {
        let time = ("x-time", "1763862896");
        let good = ("x-sig", "ce0e3587c25a01201cd617845021672388f78c3610775670714f33fc5062a9fa");
        let upper = ("x-sig", &*good.1.to_uppercase());
        let early =
            [("x-time", "1763862596"), ("x-sig", "9d7327234b75fb469669dddf778a8b64f129a9b46d2735c34d067f5e413fbf7c")];
        let too_early =
            [("x-time", "1763862595"), ("x-sig", "3d3700abe986704bde03661551e5fd77beeda115cd1f0386205cbf01d77ef808")];
        let late =
            [("x-time", "1763863196"), ("x-sig", "8d0d8b1bbe6b903c47079cfb087f8cfc91262ee41d80d5decfb35829739eb66c")];
        let too_late =
            [("x-time", "1763863197"), ("x-sig", "b0c4a9172877add370b57960daa7f5ad551285bd84fcd35e18fc6b54de97e97c")];
        type Case<'a> = (&'a [&'a str], &'a [(&'static str, &'a str)], &'a str, Option<&'a str>);
        let cases: &[Case<'_>] = &[
            (&["key"], &[time, good], "hello", None),
            (&["other", "key"], &[time, good], "hello", None),
            (&["key"], &[time, upper], "hello", None),
            (&["key"], &early, "hello", None),
            (&["key"], &late, "hello", None),
            (&["key"], &too_early, "hello", Some("301 s from ours")),
            (&["key"], &too_late, "hello", Some("301 s from ours")),
            (&["other"], &[time, good], "hello", Some("not of this request")),
            (&[], &[time, good], "hello", Some("not of this request")),
            (&["key"], &[time, good], "hellO", Some("not of this request")),
            (&["key"], &[("x-time", "1763862897"), good], "hello", Some("not of this request")),
            (&["key"], &[good], "hello", Some("one x-time header")),
            (&["key"], &[time], "hello", Some("one x-sig header")),
            (&["key"], &[time, good, good], "hello", Some("one x-sig header")),
            (&["key"], &[time, ("x-sig", "00")], "hello", Some("64 hex digits")),
            (&["key"], &[time, ("x-sig", &"g".repeat(64))], "hello", Some("64 hex digits")),
            (&["key"], &[("x-time", "-1"), good], "hello", Some("Unix seconds")),
            (&["key"], &[("x-time", "99999999999999999999"), good], "hello", Some("Unix seconds")),
            (&["key"], &[("x-time", "999999999999"), good], "hello", Some("from ours")),
        ];
        for (secrets, headers, body, expected) in cases {
            match (check(secrets, headers, body), expected) {
                (Ok(_), None) => {}
                (Err(found), Some(part)) if found.contains(part) => {}
                (found, _) => panic!("{secrets:?} {headers:?} {body}: {found:?}, expected {expected:?}"),
            }
        }
    }

    /// SEC-2: what was signed before chiron started may have been used before it; a clock may be a little behind.
    #[test]
    fn what_was_signed_before_the_start_is_refused() {
        // Signed 300 s ago.
        let early =
            [("x-time", "1763862596"), ("x-sig", "9d7327234b75fb469669dddf778a8b64f129a9b46d2735c34d067f5e413fbf7c")];
        for (up, good) in [(3_600, true), (300, true), (295, true), (294, false), (0, false)] {
            let found = check_after(Duration::from_secs(up), &["key"], &early, "hello");
            assert_eq!(found.is_ok(), good, "{up}: {found:?}");
            assert!(found.err().is_none_or(|detail| detail.contains("before chiron started")));
        }
    }

    /// SEC-2: a signature is good once; its memory is bounded and refuses rather than forgets.
    #[test]
    fn a_signature_is_good_once() {
        let used = Used::default();
        let at = Duration::from_secs;
        let tag = |n: u64| {
            let mut tag = [0; 32];
            tag[..8].copy_from_slice(&n.to_be_bytes());
            tag
        };
        assert!(used.remember(tag(1), WINDOW, at(1000)).is_ok());
        assert_eq!(used.remember(tag(1), WINDOW, at(1000)).unwrap_err().code, "bad_signature");
        assert_eq!(used.remember(tag(1), WINDOW, at(1600)).unwrap_err().code, "bad_signature");
        assert!(used.remember(tag(1), WINDOW, at(1601)).is_ok(), "by then its time is out of the window");
        used.forget(&tag(1));
        assert!(used.remember(tag(1), WINDOW, at(1601)).is_ok(), "what failed for our fault may come again");
        for n in 2..USED_MAX as u64 {
            assert!(used.remember(tag(n), WINDOW, at(1601)).is_ok(), "{n}");
        }
        assert_eq!(used.remember(tag(0), WINDOW, at(1601)).unwrap_err().code, "unavailable");
        assert_eq!(used.remember(tag(9), WINDOW, at(1601)).unwrap_err().code, "bad_signature");
        assert!(used.remember(tag(0), WINDOW, at(2202)).is_ok());
        assert_eq!(used.0.lock().unwrap().until.len(), 1);
    }
}
