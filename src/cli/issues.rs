//! `chiron issues` and `chiron actions`: what is wrong, and what was done about it.

use std::io;

use clap::Args;
use serde_json::Value;

use super::client::{Client, Remote, encoded};
use super::output::{Console, Output, date, items, millis, text, word};
use super::{CRITICAL, OK, WARNING};

/// Tell what is wrong.
///
/// Exit codes: 0 no open issue, 1 open ones, none of them critical, 2 a critical one, 3 unreachable or refused.
#[derive(Debug, Args)]
pub(super) struct IssuesArgs {
    /// One issue with all that is known of it.
    #[arg(value_name = "ISSUE", conflicts_with_all = ["all", "resolved", "subsystem", "severity", "limit"])]
    issue: Option<String>,
    /// Also those that are over.
    #[arg(long, conflicts_with = "resolved")]
    all: bool,
    /// Only those that are over.
    #[arg(long)]
    resolved: bool,
    /// Only of this subsystem.
    #[arg(long, value_name = "NAME")]
    subsystem: Option<String>,
    /// Only of this severity: low, medium, high or critical.
    #[arg(long, value_name = "SEVERITY", value_parser = ["low", "medium", "high", "critical"])]
    severity: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

/// Tell what was done or only recommended, latest first, or the story of one.
///
/// Exit codes: 0, or 3 unreachable or refused.
#[derive(Debug, Args)]
pub(super) struct ActionsArgs {
    /// The whole story of one: the key of a run (ISSUE/RUNG/ATTEMPT) or a recommendation (rec_N_ISSUE).
    #[arg(value_name = "ACTION", conflicts_with_all = ["issue", "subsystem", "verb", "outcome", "state", "limit"])]
    id: Option<String>,
    /// Only for this issue.
    #[arg(long, value_name = "ISSUE")]
    issue: Option<String>,
    /// Only this action, such as restart_subsystem.
    #[arg(long = "action", value_name = "NAME")]
    verb: Option<String>,
    /// Only those that stand there, such as started, verified, waiting, approval, ended.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only on this subsystem.
    #[arg(long, value_name = "NAME")]
    subsystem: Option<String>,
    /// Only with this outcome, such as verified, unverified, failed.
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    pub(super) remote: Remote,
}

/// A path with those parameters that are given.
pub(super) fn query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given: Vec<String> =
        parameters.iter().filter_map(|(name, value)| value.map(|value| format!("{name}={}", encoded(value)))).collect();
    if given.is_empty() { path.to_owned() } else { format!("{path}?{}", given.join("&")) }
}

fn most(limit: Option<u32>) -> Option<usize> {
    limit.and_then(|limit| usize::try_from(limit).ok())
}

/// `chiron issues`
pub(super) async fn issues(arguments: &IssuesArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.remote)?;
    if let Some(issue) = &arguments.issue {
        let issue = client.get(&format!("/api/v1/issues/{}", encoded(issue))).await?;
        one(&issue, console)?;
        return Ok(verdict(std::slice::from_ref(&issue)));
    }
    let status = match (arguments.all, arguments.resolved) {
        (true, _) => Some("all"),
        (_, true) => Some("resolved"),
        _ => None,
    };
    let path = query(
        "/api/v1/issues",
        &[
            ("status", status),
            ("subsystem", arguments.subsystem.as_deref()),
            ("severity", arguments.severity.as_deref()),
        ],
    );
    let answer = client.list(&path, "issues", most(arguments.limit)).await?;
    let list = items(&answer, "issues");
    match console.output {
        Output::Table if list.is_empty() => {
            console.line(if arguments.resolved { "no resolved issue" } else { "no open issue" })?;
        }
        Output::Table => {
            let rows = list.iter().map(|issue| row(issue, console)).collect();
            console.table(["SEVERITY", "ISSUE", "SUBSYSTEM", "SINCE", "STATUS", "WHAT"], rows)?;
        }
        _ => console.json(&answer)?,
    }
    Ok(verdict(list))
}

fn row(issue: &Value, console: &Console<'_>) -> [String; 6] {
    let mut what = text(issue, "description");
    let symptoms = items(issue, "symptoms").iter().filter_map(Value::as_str).map(super::output::clean);
    let symptoms: Vec<String> = symptoms.filter(|symptom| !what.ends_with(symptom.as_str())).collect();
    if !symptoms.is_empty() {
        what = format!("{what}: {}", symptoms.join("; "));
    }
    let status = if is_open(issue) {
        "open".to_owned()
    } else {
        format!("resolved {}", console.relative(date(issue, "resolved_at")))
    };
    [
        word(&text(issue, "severity")),
        text(issue, "issue_id"),
        text(issue, "subsystem"),
        console.relative(date(issue, "timestamp")),
        status,
        what,
    ]
}

/// Every field of an object on a line of its own.
fn one(issue: &Value, console: &mut Console<'_>) -> io::Result<()> {
    if console.output != Output::Table {
        return console.json(issue);
    }
    let mut rows: Vec<[String; 2]> = Vec::new();
    for (key, value) in issue.as_object().into_iter().flatten() {
        match value {
            Value::Array(list) if list.is_empty() => {}
            Value::Array(list) => {
                for (index, item) in list.iter().enumerate() {
                    let item = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
                    let name = if index == 0 { key.as_str() } else { "" };
                    rows.push([name.to_owned(), super::output::clean(&item)]);
                }
            }
            Value::Null => {}
            _ => rows.push([key.clone(), word(&text(issue, key))]),
        }
    }
    console.table(["FIELD", "VALUE"], rows)
}

/// What does not say that it is resolved counts as open.
fn is_open(issue: &Value) -> bool {
    issue["status"] != "resolved"
}

fn verdict(list: &[Value]) -> u8 {
    let mut code = OK;
    for issue in list.iter().filter(|issue| is_open(issue)) {
        code = code.max(if issue["severity"] == "critical" { CRITICAL } else { WARNING });
    }
    code
}

/// `chiron actions`
pub(super) async fn actions(arguments: &ActionsArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.remote)?;
    if let Some(id) = &arguments.id {
        let story = client.get(&format!("/api/v1/actions/{}", encoded(id))).await?;
        super::story::tell(&story, console)?;
        return Ok(OK);
    }
    let path = query(
        "/api/v1/actions",
        &[
            ("issue", arguments.issue.as_deref()),
            ("subsystem", arguments.subsystem.as_deref()),
            ("action", arguments.verb.as_deref()),
            ("outcome", arguments.outcome.as_deref()),
            ("state", arguments.state.as_deref()),
        ],
    );
    let answer = client.list(&path, "actions", most(arguments.limit)).await?;
    let list = items(&answer, "actions");
    match console.output {
        Output::Table if list.is_empty() => console.line("no action")?,
        Output::Table => {
            let rows = list.iter().map(|run| run_row(run, console)).collect();
            console.table(["WHEN", "ACTION", "TARGET", "OUTCOME", "TOOK", "ID", "DETAIL"], rows)?;
        }
        _ => console.json(&answer)?,
    }
    Ok(OK)
}

fn run_row(run: &Value, console: &Console<'_>) -> [String; 7] {
    let outcome = text(run, "outcome");
    let state = text(run, "state");
    let shown = if outcome.is_empty() { state } else { outcome };
    let mut detail = text(run, "detail");
    let reason = text(run, "reason");
    if !reason.is_empty() {
        detail = if detail.is_empty() { reason } else { format!("{reason}: {detail}") };
    }
    if detail.is_empty() && run["key"].is_null() {
        detail = text(run, "why");
    }
    let when = ["started_at", "intended_at", "recommended_at"];
    [
        console.relative(when.into_iter().find_map(|key| date(run, key))),
        text(run, "action"),
        text(run, "target"),
        word(&shown),
        run["duration_ms"].as_f64().filter(|_| !run["ended_at"].is_null()).map_or_else(|| "-".to_owned(), millis),
        if run["id"].is_null() { text(run, "key") } else { text(run, "id") },
        detail,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// SPEC 14: the exit code says whether something is open, and whether it is critical.
    #[test]
    fn open_issues_give_the_exit_code() {
        let issue = |severity: &str, status: Option<&str>| json!({ "severity": severity, "status": status });
        assert_eq!(verdict(&[]), 0);
        assert_eq!(verdict(&[issue("critical", Some("resolved"))]), 0);
        assert_eq!(verdict(&[issue("critical", Some("resolved")), issue("low", Some("open"))]), 1);
        assert_eq!(verdict(&[issue("high", None)]), 1);
        assert_eq!(verdict(&[issue("low", Some("open")), issue("critical", Some("open"))]), 2);
        assert_eq!(verdict(&[issue("critical", Some("open")), issue("low", Some("open"))]), 2);
    }

    #[test]
    fn parameters_are_encoded() {
        assert_eq!(query("/x", &[("a", None)]), "/x");
        assert_eq!(query("/x", &[("a", Some("b c")), ("d", None), ("e", Some("f"))]), "/x?a=b%20c&e=f");
    }
}
