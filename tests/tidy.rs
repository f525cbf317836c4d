//! Rules of the source tree that no compiler holds: layering, first lines, registries, words, ids, dependencies.
//!
//! In: the files of this repository. Out: every breach at once, each with its place and what to do.
#![expect(clippy::disallowed_methods, reason = "reads the source tree")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom, by the first path segment after `crate::`. A module may always import itself.
/// Arrows point down only; what is missing here is forbidden.
const LAYERS: [(&str, &[&str]); 26] = [
    // Level 0, and what every shell module shares.
    ("model", &[]),
    ("base", &["model"]),
    // Level 1.
    ("detect", &["model", "base"]),
    ("recommend", &["model", "base"]),
    ("admit", &["model", "base"]),
    ("policy", &["model", "base"]),
    ("journal", &["model", "base"]),
    ("telemetry", &["model", "base"]),
    // Level 2.
    ("alerts", &["model", "base", "telemetry"]),
    ("clients", &["model", "base", "telemetry", "alerts"]),
    ("workspace", &["model", "base", "telemetry", "journal"]),
    ("ohlcv", &["model", "base", "telemetry", "journal"]),
    ("exchange", &["model", "base", "telemetry"]),
    ("gateway", &["model", "base", "telemetry", "journal"]),
    // Level 3. Stages never import each other.
    ("observe", &["model", "base", "telemetry", "clients", "alerts", "workspace", "ohlcv", "exchange", "gateway"]),
    (
        "execute",
        &["model", "base", "telemetry", "clients", "alerts", "workspace", "ohlcv", "exchange", "gateway", "journal"],
    ),
    ("verify", &["model", "base", "telemetry"]),
    ("publish", &["model", "base", "telemetry", "policy"]),
    ("store", &["model", "base", "telemetry", "journal"]),
    // Level 4. Everything else reaches it through the handles that it defines.
    ("http", &["model", "base", "telemetry", "journal", "alerts"]),
    // Level 5 assembles the settings of each module above.
    (
        "config",
        &[
            "model",
            "base",
            "detect",
            "recommend",
            "admit",
            "policy",
            "journal",
            "telemetry",
            "alerts",
            "workspace",
            "ohlcv",
            "exchange",
            "gateway",
            "observe",
            "execute",
            "verify",
            "publish",
            "store",
            "http",
        ],
    ),
    // Level 6 sees everything below it; `*` stands for every module of this table above the one that names it.
    ("app", &["*"]),
    ("demo", &["*"]),
    ("cli", &["*"]),
    ("lib", &["*"]),
    ("main", &["*"]),
];

/// Words that stand for something better named, and marks of unfinished work. Lower case; whole words of code and prose.
const BANNED: [(&str, &str); 10] = [
    ("todo", "finish it, or write down where it is deliberately absent"),
    ("fixme", "finish it"),
    ("xxx", "say what is meant"),
    ("hack", "say what it does and why"),
    ("remediate", "say heal, repair, restart or recover"),
    ("remediation", "say recovery"),
    ("blacklist", "say what is refused"),
    ("whitelist", "say allow list"),
    ("healthcheck", "say check"),
    ("autoheal", "say heal"),
];

/// Crates of which the lock file holds at most one version.
const SINGLE: [&str; 8] = ["rustls", "hyper", "tokio", "axum", "serde", "http", "reqwest", "rusqlite"];

/// Crates that must not come in, and why.
const FORBIDDEN: [(&str, &str); 6] = [
    ("openssl", "TLS is rustls with ring"),
    ("openssl-sys", "TLS is rustls with ring"),
    ("native-tls", "TLS is rustls with ring"),
    ("aws-lc-rs", "TLS is rustls with ring"),
    ("aws-lc-sys", "TLS is rustls with ring"),
    ("serde_yaml", "unmaintained; settings are read by `base::tree`"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file below a folder of the repository: path relative to the root, and text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![root().join(folder)];
    while let Some(folder) = left.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are UTF-8");
                let name = path.strip_prefix(root()).expect("it is below the root").display().to_string();
                found.push((name, text));
            }
        }
    }
    found.sort();
    found
}

fn all_sources() -> Vec<(String, String)> {
    [sources("src"), sources("tests")].concat()
}

fn report(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}

/// The module of the table that a file belongs to: `src/execute/engine.rs` -> `execute`.
fn module_of(path: &str) -> &str {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
}

/// Blanks out comments, strings and character literals, keeping lines, so that only code is read.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(end) = raw_string(rest) {
            end
        } else if rest.starts_with('"') {
            quoted(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            0
        };
        if skipped == 0 {
            let next = rest.chars().next().expect("there is more");
            out.push(next);
            at += next.len_utf8();
        } else {
            out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            at += skipped;
        }
    }
    out
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = inner.bytes().take_while(|byte| *byte == b'#').count();
    if inner.as_bytes().get(hashes) != Some(&b'"') {
        return None;
    }
    let start = rest.len() - inner.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(rest[start..].find(&close).map_or(rest.len(), |end| start + end + close.len()))
}

/// Every first segment after `crate::` in code, with its line, groups such as `crate::{a, b::C}` taken apart.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push((line, word(rest)));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && depth == 0 && !c.is_whitespace() => {
                    found.push((line, word(&group[at..])));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// who may import whom: arrows point down only.
#[test]
fn layers() {
    let modules: Vec<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    let mut breaches = Vec::new();
    for (path, text) in sources("src") {
        let own = module_of(&path);
        let Some(level) = modules.iter().position(|name| *name == own) else {
            breaches.push(format!("{path}: module `{own}` is not in the table; give it a level in tests/tidy.rs"));
            continue;
        };
        let may = LAYERS[level].1;
        for (line, target) in imports(&code_only(&text)) {
            let known = modules.contains(&target.as_str());
            let below = may.contains(&"*") && modules[..level].contains(&target.as_str());
            if known && target != own && !below && !may.contains(&target.as_str()) {
                breaches.push(format!("{path}:{line}: `{own}` imports `{target}`, may import {may:?}"));
            }
        }
    }
    report("who may import whom", &breaches);
}

/// The table itself points down only.
#[test]
fn layers_point_down() {
    for (level, (name, may)) in LAYERS.iter().enumerate() {
        for target in *may {
            let below = *target == "*" || LAYERS[..level].iter().any(|(other, _)| other == target);
            assert!(below, "`{name}` may import `{target}`, which does not stand above it in the table");
        }
    }
}

/// every file opens with `//!`.
#[test]
fn files_say_what_they_answer() {
    let mute = |text: &str| !text.trim_start_matches("#!/").starts_with("//! ");
    let breaches: Vec<String> = all_sources()
        .into_iter()
        .filter(|(_, text)| mute(text))
        .map(|(path, _)| format!("{path}: begins without `//! ` and what the file answers"))
        .collect();
    report("first lines", &breaches);
}

/// lints are silenced with `#[expect(.., reason = "..")]`.
#[test]
fn lints_are_expected_with_a_reason() {
    let mut breaches = Vec::new();
    for (path, text) in all_sources() {
        let code = code_only(&text);
        for (number, line) in code.lines().enumerate() {
            if line.contains("#[allow(") || line.contains("#![allow(") {
                breaches.push(format!("{path}:{}: use #[expect(.., reason = \"..\")]", number + 1));
            }
        }
        for (at, _) in code.match_indices("[expect(") {
            let end = code[at..].find(")]").map_or(code.len(), |end| at + end);
            if !code[at..end].contains("reason") {
                breaches.push(format!("{path}:{}: an expectation has a reason", code[..at].matches('\n').count() + 1));
            }
        }
    }
    report("lint attributes", &breaches);
}

/// one word, one meaning; and nothing unfinished.
#[test]
fn words() {
    let mut breaches = Vec::new();
    for (path, text) in all_sources().into_iter().filter(|(path, _)| path != "tests/tidy.rs") {
        for (number, line) in text.lines().enumerate() {
            for found in line.split(|c: char| !c.is_alphanumeric()) {
                let found = found.to_lowercase();
                if let Some((word, instead)) = BANNED.iter().find(|(word, _)| *word == found) {
                    breaches.push(format!("{path}:{}: `{word}`: {instead}", number + 1));
                }
            }
            let declared = ["struct ", "enum ", "trait "].iter().find_map(|kind| line.trim().split_once(*kind));
            if let Some((_, name)) = declared
                && word(name).ends_with("Manager")
            {
                breaches.push(format!("{path}:{}: `{}`: name what it does", number + 1, word(name)));
            }
        }
    }
    report("words", &breaches);
}

/// a file that no `mod` line names is compiled by nobody; in a registry's folder it is a plugin forgotten.
#[test]
fn every_file_is_registered() {
    let files = sources("src");
    let texts: BTreeMap<&str, &str> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let mut breaches = Vec::new();
    for (path, _) in &files {
        let file = Path::new(path);
        let (folder, stem) = (file.parent().expect("it has a folder"), file.file_stem().expect("it has a name"));
        let (name, owner) = match stem.to_str().expect("names are UTF-8") {
            "lib" | "main" => continue,
            "mod" => (folder.file_name().expect("it has a name"), folder.parent().expect("it is below src")),
            _ => (stem, folder),
        };
        let name = name.to_str().expect("names are UTF-8");
        let owner = owner.display().to_string();
        let parents = [format!("{owner}/mod.rs"), format!("{owner}.rs"), "src/lib.rs".to_owned()];
        let parents = if owner == "src" { &parents[2..] } else { &parents[..2] };
        let declared = parents.iter().filter_map(|parent| texts.get(parent.as_str())).any(|text| {
            let code = code_only(text);
            code.lines().any(|line| line.trim_end().ends_with(&format!("mod {name};")))
        });
        if !declared {
            breaches.push(format!("{path}: no `mod {name};` in {}", parents.join(" or ")));
        }
    }
    report("unregistered files", &breaches);
}

/// SPEC: a requirement id in a comment exists.
#[test]
fn requirement_ids_exist() {
    let list = fs::read_to_string(root().join("tests/requirements.txt")).expect("the list of ids is there");
    let ids: BTreeSet<&str> = list.lines().collect();
    let groups: BTreeSet<&str> = ids.iter().filter_map(|id| id.split('-').next()).collect();
    let mut breaches = Vec::new();
    for (path, text) in all_sources() {
        for (number, line) in text.lines().enumerate() {
            for token in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
                let Some((group, rest)) = token.split_once('-') else { continue };
                let number_like = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
                if groups.contains(group) && number_like && !ids.contains(token) {
                    breaches.push(format!("{path}:{}: `{token}` is not in tests/requirements.txt", number + 1));
                }
            }
        }
    }
    report("requirement ids", &breaches);
}

/// One version of what must agree with itself, and none of what must not come in.
#[test]
fn locked_dependencies() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file is committed");
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |key: &str| {
            let prefix = format!("{key} = \"");
            package.lines().find_map(|line| line.strip_prefix(prefix.as_str())?.strip_suffix('"'))
        };
        let (name, version) = (field("name").expect("a package has a name"), field("version").expect("and a version"));
        versions.entry(name).or_default().push(version);
    }
    assert!(versions.contains_key("chiron"), "the lock file was read");
    let mut breaches = Vec::new();
    for name in SINGLE {
        let found = versions.get(name).map_or(&[][..], Vec::as_slice);
        if found.len() > 1 {
            breaches.push(format!("{name}: {found:?}, expected one version"));
        }
    }
    for (name, why) in FORBIDDEN {
        if let Some(found) = versions.get(name) {
            breaches.push(format!("{name} {found:?}: {why}"));
        }
    }
    report("Cargo.lock", &breaches);
}

/// The readers of this file see what they should, so that a silent pass means something.
#[test]
fn readers_read() {
    let text = "use crate::model::X;\nuse crate::{\n    admit,\n    alerts::{Route, Y}, detect as d\n};\n// crate::app\nlet x = \"crate::cli\"; crate::base::f(); my_crate::no::x();\nlet r = r#\"crate::http \" \"#; $crate::store::m!();\n";
    let found: Vec<String> = imports(&code_only(text)).into_iter().map(|(_, target)| target).collect();
    assert_eq!(found, ["model", "admit", "alerts", "detect", "base"]);
    assert_eq!(imports(&code_only(text))[4].0, 7);
    assert_eq!(module_of("src/execute/engine.rs"), "execute");
    assert_eq!(module_of("src/main.rs"), "main");
    assert_eq!(code_only("a 'b \"c\\\"//\" d // e\nf"), "a 'b  d \nf");
}
