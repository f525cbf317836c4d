//! Whose id stands in a lock file, pid file or heartbeat.
//!
//! Understood: a number in the first line, alone or with a host after it (`4711 trader-1`); `host:4711`; JSON with a
//! member `pid`; and `pid` before a number anywhere else.
//! **Invariant:** pure; when in doubt a process is named rather than nobody, or the answer is "unclear".

use serde_json::Value;

/// More is not looked through.
const BYTES_MAX: usize = 64 << 10;
/// The largest process id that Linux gives.
const PID_MAX: u64 = 1 << 22;
/// How deep in JSON an id may stand.
const DEPTH_MAX: usize = 4;
/// Members of JSON objects that hold an id.
const PID_KEYS: [&str; 3] = ["pid", "process_id", "processid"];
/// Members that hold the name of a host.
const HOST_KEYS: [&str; 2] = ["host", "hostname"];

/// What a file says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    /// It names no process.
    Nobody,
    /// That process, on that host if it says so.
    Process { pid: u32, host: Option<String> },
    /// It names one, but not in a way that is understood.
    Unclear(String),
}

/// What stands there.
pub(super) fn inside(content: &[u8]) -> Inside {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content).trim_ascii();
    if content.iter().all(|byte| *byte == 0) {
        return Inside::Nobody;
    }
    if content.len() > BYTES_MAX {
        return Inside::Unclear(format!("it holds {} bytes, too much to tell whose id stands in it", content.len()));
    }
    let text = String::from_utf8_lossy(content);
    if text.starts_with(['{', '[']) {
        return match serde_json::from_str::<Value>(&text) {
            Ok(value) => of_json(&value),
            Err(_) => of_prose(&text)
                .unwrap_or_else(|| Inside::Unclear("it is broken JSON, and may have named a process".to_owned())),
        };
    }
    of_line(&text).or_else(|| of_prose(&text)).unwrap_or(Inside::Nobody)
}

fn of_json(value: &Value) -> Inside {
    let Some(found) = member(value, &PID_KEYS, 0) else { return Inside::Nobody };
    let number = match found {
        Value::Null => return Inside::Nobody,
        Value::Number(number) => number.as_u64(),
        Value::String(text) if text.trim().is_empty() => return Inside::Nobody,
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let host = member(value, &HOST_KEYS, 0).and_then(Value::as_str).map(str::trim).filter(|host| !host.is_empty());
    match number {
        Some(0) => Inside::Nobody,
        Some(number) if number <= PID_MAX => process(number, host),
        _ => Inside::Unclear("its member `pid` is no process id".to_owned()),
    }
}

/// The first member of one of these names, those further out first.
fn member<'a>(value: &'a Value, keys: &[&str], depth: usize) -> Option<&'a Value> {
    let Value::Object(members) = value else { return None };
    let own = members.iter().find(|(key, _)| keys.contains(&key.to_ascii_lowercase().as_str()));
    own.map(|(_, found)| found)
        .or_else(|| (depth < DEPTH_MAX).then(|| members.values().find_map(|inner| member(inner, keys, depth + 1)))?)
}

/// `4711`, `4711 host`, `host:4711`.
fn of_line(text: &str) -> Option<Inside> {
    let line = text.lines().next()?.trim();
    let mut words =
        line.split(|c: char| c.is_whitespace() || matches!(c, ';' | ',' | '@')).filter(|word| !word.is_empty());
    let (first, second, more) = (words.next()?, words.next(), words.next());
    if let Some(pid) = id(first) {
        let host = second.filter(|second| more.is_none() && second.contains(|c: char| c.is_alphabetic()));
        return Some(process(pid, host));
    }
    let (host, pid) = first.rsplit_once(':').filter(|_| second.is_none())?;
    let is_host = host.contains(|c: char| c.is_alphabetic()) && !host.contains(['=', ':', '"']);
    let is_key = PID_KEYS.contains(&host.to_ascii_lowercase().as_str());
    // Mercurial names the namespace of the id after the host.
    let host = host.split('/').next().unwrap_or(host);
    id(pid).filter(|_| is_host && !is_key).map(|pid| process(pid, Some(host)))
}

/// `pid=4711`, `"pid": 4711`, `PID 4711` anywhere.
fn of_prose(text: &str) -> Option<Inside> {
    let lower = text.to_ascii_lowercase();
    let after = |key: &str| {
        lower.match_indices(key).find_map(|(at, _)| {
            let starts = lower[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric());
            let rest = text.get(at + key.len()..)?;
            let rest = rest.trim_start_matches(['"', '\'', ' ', '\t', ':', '=']);
            let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '.' | '-' | '_'))).unwrap_or(rest.len());
            (starts && end > 0).then(|| &rest[..end])
        })
    };
    let pid = PID_KEYS.iter().find_map(|key| after(key).and_then(id))?;
    Some(process(pid, HOST_KEYS.iter().rev().find_map(|key| after(key))))
}

/// A number that can be a process id.
fn id(word: &str) -> Option<u64> {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|number| is_number && (1..=PID_MAX).contains(number))
}

fn process(pid: u64, host: Option<&str>) -> Inside {
    match u32::try_from(pid) {
        Ok(pid) => Inside::Process { pid, host: host.map(str::to_owned) },
        Err(_) => Inside::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WSP-2: every common form of a lock file is understood, and what is no id is not taken for one.
    #[test]
    fn ids_are_found_in_every_form() {
        let on = |pid, host: &str| Inside::Process { pid, host: Some(host.to_owned()) };
        let here = |pid| Inside::Process { pid, host: None };
        for (text, expected) in [
            ("", Inside::Nobody),
            ("\0\0\0", Inside::Nobody),
            ("   \n", Inside::Nobody),
            ("4711", here(4711)),
            ("\u{feff} 4711\n", here(4711)),
            ("4711\ntrader\n", here(4711)),
            ("4711 trader-1\n", on(4711, "trader-1")),
            ("4711;trader-1", on(4711, "trader-1")),
            ("4711 17:05 x", here(4711)),
            ("trader-1:4711", on(4711, "trader-1")),
            ("trader-1/f0a2:4711", on(4711, "trader-1")),
            ("pid:4711", here(4711)),
            ("pid=4711\nhost=trader-1\n", on(4711, "trader-1")),
            ("locked by PID 4711 since noon", here(4711)),
            ("rapid 4711", Inside::Nobody),
            ("0", Inside::Nobody),
            ("-5", Inside::Nobody),
            ("1732324496", Inside::Nobody),
            ("2025-11-23T01:34:56Z", Inside::Nobody),
            ("locked", Inside::Nobody),
            (r#"{"pid": 4711}"#, here(4711)),
            (r#"{"pid": "4711", "hostname": "trader-1"}"#, on(4711, "trader-1")),
            (r#"{"owner": {"PID": 4711, "host": "trader-1"}}"#, on(4711, "trader-1")),
            (r#"{"host": "", "pid": 4711}"#, here(4711)),
            (r#"{"pid": null}"#, Inside::Nobody),
            (r#"{"pid": 0}"#, Inside::Nobody),
            (r#"{"at": 4711}"#, Inside::Nobody),
            (r#"[4711]"#, Inside::Nobody),
            (r#"{"pid": 4711, "at": "2025-"#, here(4711)),
        ] {
            assert_eq!(inside(text.as_bytes()), expected, "{text:?}");
        }
        for text in [r#"{"pid": true}"#, r#"{"pid": -1}"#, r#"{"pid": 99999999}"#, r#"{"pid": "bot"}"#, r#"{"pi"#] {
            assert!(matches!(inside(text.as_bytes()), Inside::Unclear(_)), "{text:?}");
        }
        assert!(matches!(inside(&[b'x'; BYTES_MAX + 1]), Inside::Unclear(_)));
        assert_eq!(inside(b"\xff\xfe pid 7"), here(7));
    }
}
