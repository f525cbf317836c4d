//! `configuration`: are the bot's configuration files there, whole, and as their schema wants them?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::exchange_api::number;
use super::findings::Findings;
use super::source::{Place, Seen, Source};
use super::{Built, PointContext, PointSpec};
use crate::base::files;
use crate::base::tree::{self, Node, Problems, Section};
use crate::model::{Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::params;
use crate::observe::probes::state_file::parse_json;

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: ConfigurationFiles::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str =
    "bring back the file from its backup, or mend what the finding names, before the bot is started again";

const DOC: &str = "\
# What it asks
Whether each configuration file of the bot is there, may be read, is JSON (or YAML, if it is named `.yml` or `.yaml`), and
holds to its schema, if it has one.

# Why it matters
The bot that runs has read its files already. The next start, by a person or as a recovery, is what fails.

# Failure reasons
- `degraded`, finding high: missing, empty, half-written, no JSON or YAML, something else than a file, or against its schema.
  What is found against the schema names places, never values.
- `unknown`: it may not be read, and nothing else is wrong.

`restore_configuration` brings back the last good copy or the default of the files that chiron heals (`heal` in the settings).

# Parameters
- `files`: a mapping from files, up to 64, to `{schema, default}`, each optional. Required. `schema` is a JSON schema, read
  with the settings; it may refer to itself only. `default` is what healing restores the file from; the check does not look at it.
";

/// The most files.
const FILES_MAX: usize = 64;
/// The largest schema.
const SCHEMA_MAX: u64 = 1024 * 1024;
/// What is told of one file.
const TOLD_MAX: usize = 3;

/// One file, parsed and held against its schema; `Ok` holds nothing.
struct File {
    source: Source<()>,
}

/// Every file.
struct ConfigurationFiles {
    files: Vec<File>,
}

impl Check for ConfigurationFiles {
    type Reading = Vec<Seen<()>>;
    const KIND: &'static str = "configuration";

    async fn read(&self) -> Self::Reading {
        let mut seen = Vec::new();
        for file in &self.files {
            seen.push(file.source.read().await);
        }
        seen
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let mut findings = Findings::default();
        let mut unread = None;
        let mut files = Vec::new();
        let mut broken = 0;
        for (file, seen) in self.files.iter().zip(reading) {
            let trouble = file.source.content(seen, Status::Degraded).err();
            files.push(json!({
                "path": file.source.place(),
                "problem": trouble.as_ref().map(|trouble| trouble.text.as_str()),
            }));
            match trouble {
                None => {}
                Some(trouble) if trouble.unrunnable => unread = unread.or(Some(trouble)),
                Some(trouble) => {
                    broken += 1;
                    findings.add(Status::Degraded, Severity::High, None, trouble.text);
                }
            }
        }
        let mut judgement = findings.judgement();
        if let (Status::Healthy, Some(trouble)) = (judgement.status, unread) {
            judgement = trouble.judgement(Severity::High);
        }
        judgement.perfdata.push(number("broken", f64::from(broken), ""));
        judgement.with("files", files).with("broken", broken)
    }

    fn blocking(&self) -> bool {
        true
    }

    fn watches(&self) -> Vec<PathBuf> {
        self.files.iter().filter_map(|file| file.source.path()).collect()
    }
}

/// Whether the bytes are what they should be.
fn look(bytes: &[u8], is_yaml: bool, schema: Option<&Validator>) -> Result<(), String> {
    let value = if is_yaml { yaml(bytes)? } else { parse_json(bytes)? };
    let Some(schema) = schema else { return Ok(()) };
    let mut errors = schema.iter_errors(&value);
    let told: Vec<String> = errors
        .by_ref()
        .take(TOLD_MAX)
        .map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "at the top".to_owned() } else { format!("at `{place}`") };
            // The text of an error may hold what is at fault, which may be a secret.
            format!("{place}: {}", error.masked())
        })
        .collect();
    if told.is_empty() {
        return Ok(());
    }
    let more = if errors.next().is_some() { "; and more" } else { "" };
    Err(format!("against its schema {}{more}", told.join("; ")))
}

fn yaml(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "no UTF-8 text".to_owned())?;
    if text.trim().is_empty() {
        return Err("empty".to_owned());
    }
    let problems = Problems::new("");
    let root = tree::parse(text, &problems);
    match (root, problems.into_vec().first()) {
        (Some(root), None) => Ok(plain(&root)),
        (_, Some(problem)) => Err(format!("not YAML: line {}: {}", problem.line, problem.rule)),
        (None, None) => Err("not YAML".to_owned()),
    }
}

fn plain(node: &Node) -> Value {
    match &node.value {
        tree::Value::Null => Value::Null,
        tree::Value::Scalar { text, quoted: true } => json!(text),
        tree::Value::Scalar { text, quoted: false } => match text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            _ => serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| json!(text), Value::Number),
        },
        tree::Value::List(items) => Value::Array(items.iter().map(plain).collect()),
        tree::Value::Map(entries) => {
            Value::Object(entries.iter().map(|(key, _, value)| (key.clone(), plain(value))).collect())
        }
    }
}

fn schema(path: &Path) -> Result<Validator, String> {
    let (bytes, _) = files::read_bounded(path, SCHEMA_MAX).map_err(|problem| problem.to_string())?;
    let value = parse_json(&bytes)?;
    jsonschema::validator_for(&value).map_err(|error| format!("no schema: {error}"))
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let base = section.path_of("files");
    let entries = section.entries("files");
    if entries.is_empty() || entries.len() > FILES_MAX {
        let rule = format!("expected a mapping from one to {FILES_MAX} files to their settings");
        section.reject("files", &rule, None);
    }
    let mut files = Vec::new();
    for (name, _, node) in entries.iter().take(FILES_MAX) {
        let Some(mut entry) = Section::open(node, &format!("{base}.{name}"), section.problems()) else { continue };
        let against = params::text(&mut entry, "schema").and_then(|text| {
            schema(&context.checks.workspace.join(text))
                .map_err(|why| entry.reject("schema", &format!("expected a file with a JSON schema, but {why}"), None))
                .ok()
        });
        // Taken for the healing of the file; nothing of it is looked at here.
        let _ = params::text(&mut entry, "default");
        entry.finish();
        let path = context.checks.workspace.join(name);
        let is_yaml = path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml");
        let source =
            Source::new(Place::File(path), context.checks, move |bytes| look(bytes, is_yaml, against.as_ref()));
        files.push(File { source });
    }
    if files.is_empty() {
        return None;
    }
    Some(Built { check: Arc::new(ConfigurationFiles { files }), limit: super::LIMIT })
}
