//! `chiron drill`: rehearses the recovery of a subsystem for real, and follows it to its outcome.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Remote, encoded};
use super::issues::query;
use super::output::{Console, Output, items, text, waiting, word};
use super::{CRITICAL, OK, UNKNOWN};
use crate::base::tree::parse_duration;

/// How often it is looked at.
const POLL: Duration = Duration::from_millis(500);
/// A further try or rung may begin so long after a run has ended without success.
const QUIET: Duration = Duration::from_secs(5);
/// Runs of one subsystem that are looked at; those of the drill are the latest.
const RUNS_MAX: usize = 100;

/// Rehearse the recovery of a subsystem for real: its bound actions run.
///
/// Exit codes: 0 verified, 2 failed or unverified, 3 refused, unreachable, or no outcome in time.
#[derive(Debug, Args)]
pub(super) struct DrillArgs {
    /// The subsystem that is restarted, or whatever its ladder says.
    subsystem: String,
    /// Why; goes to the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// How long the outcome may take, such as 5m.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = limit)]
    timeout: Duration,
    /// Do not wait for the outcome.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

fn limit(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as 5m, at most 1d";
    let bounds = Duration::from_secs(1)..=Duration::from_secs(86_400);
    parse_duration(text).filter(|span| bounds.contains(span)).ok_or_else(|| expected.to_owned())
}

/// Where a drill stands, judged from its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing has begun, or something is under way.
    Open,
    /// The latest run has ended without success; more may follow.
    Unproven,
    /// A run was verified.
    Verified,
}

/// `chiron drill`
pub(super) async fn run(arguments: &DrillArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.remote)?;
    let wish = json!({ "subsystem": arguments.subsystem, "reason": arguments.reason });
    let started = client.post("/api/v1/drills", &wish).await?;
    let Some(issue) = started["issue_id"].as_str().map(str::to_owned) else {
        anyhow::bail!("found no `issue_id` in the answer, expected the issue of the drill");
    };
    if arguments.no_wait {
        match console.output {
            Output::Table => console.line(&format!("begun: {}", text(&started, "issue_id")))?,
            _ => console.json(&started)?,
        }
        return Ok(OK);
    }
    let followed = followed(&client, &arguments.subsystem, &issue);
    let what = format!("drill of {}", arguments.subsystem);
    let ended = tokio::time::timeout(arguments.timeout, waiting(console.progress, &what, followed)).await;
    let (standing, runs) = match ended {
        Ok(result) => result?,
        Err(_) => (Standing::Open, runs(&client, &arguments.subsystem, &issue).await?),
    };
    let (outcome, code) = match standing {
        Standing::Verified => ("verified", OK),
        Standing::Unproven => ("failed", CRITICAL),
        Standing::Open => ("unknown", UNKNOWN),
    };
    if console.output != Output::Table {
        console.json(&json!({ "issue_id": issue, "outcome": outcome, "actions": runs }))?;
        return Ok(code);
    }
    for run in runs.iter().rev() {
        let outcome = if run["outcome"].is_null() { text(run, "state") } else { text(run, "outcome") };
        let (action, target) = (text(run, "action"), text(run, "target"));
        console.line(&format!("{action} of {target}: {}, {}", word(&outcome), text(run, "detail")))?;
    }
    console.line(&format!("drill of {}: {}", super::output::clean(&arguments.subsystem), word(outcome)))?;
    Ok(code)
}

/// The runs of the drill's issue, latest first.
async fn runs(client: &Client, subsystem: &str, issue: &str) -> anyhow::Result<Vec<Value>> {
    let path = query("/api/v1/actions", &[("subsystem", Some(subsystem))]);
    let answer = client.list(&path, "actions", Some(RUNS_MAX)).await?;
    Ok(of(items(&answer, "actions"), issue))
}

/// Those of one issue: a run's key is ISSUE/RUNG/ATTEMPT.
fn of(runs: &[Value], issue: &str) -> Vec<Value> {
    let ours = |run: &&Value| {
        run["key"].as_str().and_then(|key| key.strip_prefix(issue)).is_some_and(|rest| rest.starts_with('/'))
    };
    runs.iter().filter(ours).cloned().collect()
}

async fn followed(client: &Client, subsystem: &str, issue: &str) -> anyhow::Result<(Standing, Vec<Value>)> {
    let mut quiet = Duration::ZERO;
    loop {
        // The issue first: if it is over, every run of it is among those asked for after it.
        let open = match client.get(&format!("/api/v1/issues/{}", encoded(issue))).await {
            Ok(issue) => issue["status"] != "resolved",
            Err(trouble) if trouble.is_missing() => false,
            Err(trouble) => return Err(trouble.into()),
        };
        let runs = runs(client, subsystem, issue).await?;
        match standing(&runs) {
            Standing::Verified => return Ok((Standing::Verified, runs)),
            Standing::Unproven if !open || quiet >= QUIET => return Ok((Standing::Unproven, runs)),
            Standing::Unproven => quiet += POLL,
            // An issue that is over without any run was never acted upon.
            Standing::Open if !open && runs.is_empty() && quiet >= QUIET => return Ok((Standing::Unproven, runs)),
            Standing::Open if !open => quiet += POLL,
            Standing::Open => quiet = Duration::ZERO,
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Judges the runs of one issue.
fn standing(runs: &[Value]) -> Standing {
    if runs.iter().any(|run| run["outcome"] == "verified") {
        return Standing::Verified;
    }
    let ended = |run: &Value| matches!(run["state"].as_str(), Some("verified" | "cancelled" | "indeterminate"));
    if !runs.is_empty() && runs.iter().all(ended) { Standing::Unproven } else { Standing::Open }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_tell_where_a_drill_stands() {
        let run = |state: &str, outcome: Option<&str>| json!({ "state": state, "outcome": outcome });
        let table = [
            (vec![], Standing::Open),
            (vec![run("started", None)], Standing::Open),
            (vec![run("verified", Some("verified"))], Standing::Verified),
            (vec![run("verified", Some("unverified"))], Standing::Unproven),
            (vec![run("intended", None), run("verified", Some("failed"))], Standing::Open),
            (vec![run("verified", Some("verified")), run("verified", Some("failed"))], Standing::Verified),
            (vec![run("indeterminate", Some("indeterminate"))], Standing::Unproven),
            (vec![run("cancelled", None)], Standing::Unproven),
        ];
        for (runs, expected) in table {
            assert_eq!(standing(&runs), expected, "{runs:?}");
        }
    }

    #[test]
    fn only_runs_of_the_drill_count() {
        let runs: Vec<Value> =
            ["feed_1/1/1", "feed_1_2/1/1", "feed/1/1", "feed_1/2/1"].map(|key| json!({ "key": key })).into();
        let keys: Vec<Value> = of(&runs, "feed_1").iter().map(|run| run["key"].clone()).collect();
        assert_eq!(keys, ["feed_1/1/1", "feed_1/2/1"]);
    }
}
