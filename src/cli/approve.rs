//! `chiron recommendations`, `approve` and `reject`: what chiron proposes, and a person's word on it.
//!
//! **Invariant:** an approval carries the digest of what was shown; if anything of it has changed, chiron refuses.
#![expect(clippy::print_stderr, reason = "shows a person what is asked before the answer")]

use std::io::{self, BufRead, Write};

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Remote, encoded};
use super::output::{Console, Output, clean, date, items, text, word};
use super::policy::left;
use super::{OK, WARNING};
use crate::base::tree::did_you_mean;

/// Tell what chiron proposes, the most urgent first.
///
/// Exit codes: 0 nothing waits for an approval, 1 something does, 3 unreachable or refused.
#[derive(Debug, Args)]
pub(super) struct RecommendationsArgs {
    /// Only what waits for an approval.
    #[arg(long)]
    pending: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

/// Let a proposed action run, after showing exactly what it is.
///
/// Exit codes: 0 approved, 1 you said no, 3 not approved: nothing to approve, changed, expired, unreachable, refused.
#[derive(Debug, Args)]
pub(super) struct ApproveArgs {
    /// As `chiron recommendations` lists it.
    #[arg(value_name = "RECOMMENDATION")]
    id: String,
    /// Why; goes to the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Show it, but do not ask.
    #[arg(long)]
    yes: bool,
    /// Approve only what has this digest, for scripts; does not ask.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

/// Refuse a proposed action.
///
/// Exit codes: 0 rejected, 3 not: nothing to reject, changed, expired, unreachable, refused.
#[derive(Debug, Args)]
pub(super) struct RejectArgs {
    /// As `chiron recommendations` lists it.
    #[arg(value_name = "RECOMMENDATION")]
    id: String,
    /// Why; goes to the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Reject only what has this digest.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

const LIST: &str = "/api/v1/recommendations";

/// `chiron recommendations`
pub(super) async fn list(arguments: &RecommendationsArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.remote)?;
    let mut answer = client.list(LIST, "recommendations", None).await?;
    if arguments.pending
        && let Some(list) = answer["recommendations"].as_array_mut()
    {
        list.retain(waits);
    }
    let list = items(&answer, "recommendations");
    match console.output {
        Output::Table if list.is_empty() => console.line("no recommendation")?,
        Output::Table => {
            let rows = list.iter().map(|one| row(one, console)).collect();
            console.table(["PRIORITY", "RECOMMENDATION", "ACTION", "SUBSYSTEM", "STATE", "WHY"], rows)?;
        }
        _ => console.json(&answer)?,
    }
    Ok(if list.iter().any(waits) { WARNING } else { OK })
}

fn waits(recommendation: &Value) -> bool {
    recommendation["state"] == "approval"
}

fn row(one: &Value, console: &Console<'_>) -> [String; 6] {
    let mut why = text(one, "reason");
    if let Some(at) = date(one, "not_before") {
        why = format!("{why}, {}", console.relative(Some(at)));
    }
    let means = text(&one["approval"], "means");
    if !means.is_empty() {
        why = format!("{why}: {means}, for another {}", left(console, &one["approval"], "expires_at"));
    }
    [
        text(one, "priority"),
        text(one, "recommendation_id"),
        text(one, "action"),
        text(one, "subsystem"),
        word(&text(one, "state")),
        why,
    ]
}

/// The recommendation of that id and its offer.
async fn offer(client: &Client, id: &str) -> anyhow::Result<Value> {
    let answer = client.list(LIST, "recommendations", None).await?;
    let list = items(&answer, "recommendations");
    let Some(found) = list.iter().find(|one| one["recommendation_id"] == id) else {
        let ids: Vec<&str> =
            list.iter().filter(|one| waits(one)).filter_map(|one| one["recommendation_id"].as_str()).collect();
        let hint = did_you_mean(id, &ids).unwrap_or_else(|| match ids.as_slice() {
            [] => "nothing waits for an approval".to_owned(),
            _ => format!("these wait for an approval: {}", ids.join(", ")),
        });
        anyhow::bail!("found no recommendation `{}`; {}", clean(id), clean(&hint));
    };
    if !waits(found) || !found["approval"]["digest"].is_string() {
        let (state, reason) = (text(found, "state"), text(found, "reason"));
        anyhow::bail!("`{}` does not wait for an approval: {state}, {reason}", clean(id));
    }
    Ok(found.clone())
}

/// The digest of the offer, if it is the one that was named.
fn agreed(offer: &Value, named: Option<&str>) -> anyhow::Result<String> {
    let digest = offer["approval"]["digest"].as_str().unwrap_or_default();
    match named {
        Some(named) if named != digest => {
            anyhow::bail!("found the digest {}, expected {}: what is offered has changed", clean(digest), clean(named))
        }
        _ => Ok(digest.to_owned()),
    }
}

/// `chiron approve`
pub(super) async fn approve(arguments: &ApproveArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.remote)?;
    let offer = offer(&client, &arguments.id).await?;
    let digest = agreed(&offer, arguments.digest.as_deref())?;
    if arguments.digest.is_none() {
        let policy = client.get("/api/v1/policy").await?;
        eprint!("{}", shown(&offer, &policy, console));
    }
    if arguments.digest.is_none() && !arguments.yes {
        if !console.person {
            anyhow::bail!("nobody can be asked here: add --yes, or --digest {}", clean(&digest));
        }
        if !asked("Approve this? [y/N] ")? {
            eprintln!("not approved");
            return Ok(WARNING);
        }
    }
    let path = format!("{LIST}/{}/approve", encoded(&arguments.id));
    let mut body = json!({ "digest": digest });
    if let Some(reason) = &arguments.reason {
        body["reason"] = json!(reason);
    }
    let answer = client.post(&path, &body).await?;
    match console.output {
        Output::Table => {
            let run = text(&answer, "run");
            console.line(&format!(
                "approved: {} of {}, run {run}",
                text(&offer, "action"),
                text(&offer, "subsystem")
            ))?;
        }
        _ => console.json(&answer)?,
    }
    Ok(OK)
}

/// `chiron reject`
pub(super) async fn reject(arguments: &RejectArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.remote)?;
    let offer = offer(&client, &arguments.id).await?;
    let digest = agreed(&offer, arguments.digest.as_deref())?;
    let path = format!("{LIST}/{}/reject", encoded(&arguments.id));
    let answer = client.post(&path, &json!({ "digest": digest, "reason": arguments.reason })).await?;
    match console.output {
        Output::Table => {
            console.line(&format!("rejected: {} of {}", text(&offer, "action"), text(&offer, "subsystem")))?;
        }
        _ => console.json(&answer)?,
    }
    Ok(OK)
}

/// Exactly what is approved, line by line.
fn shown(offer: &Value, policy: &Value, console: &Console<'_>) -> String {
    let risks: Vec<String> = items(offer, "risks").iter().filter_map(Value::as_str).map(clean).collect();
    let lines = [
        ("action", text(offer, "action")),
        ("subsystem", text(offer, "subsystem")),
        ("means", text(&offer["approval"], "means")),
        ("issue", format!("{}: {}", text(offer, "issue_id"), text(offer, "description"))),
        ("expected", text(offer, "expected_result")),
        ("risks", risks.join("; ")),
        ("policy", text(policy, "policy")),
        ("expires", format!("in {}", left(console, &offer["approval"], "expires_at"))),
        ("digest", text(&offer["approval"], "digest")),
    ];
    lines.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect()
}

/// Asks a person a question to which only a yes is a yes.
fn asked(question: &str) -> io::Result<bool> {
    eprint!("{question}");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
