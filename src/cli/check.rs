//! `chiron check`: has every check run now and tells how things are.

use std::io;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Remote};
use super::output::{Console, Output, clean, count, date, items, millis, text, waiting, word};
use super::{CRITICAL, OK, UNKNOWN, WARNING};
use crate::base::tree::did_you_mean;
use crate::model::Status;

/// Ask a running chiron to run every check now, and tell what they say.
///
/// Exit codes: 0 healthy, 1 degraded or an issue of severity high, 2 critical, failed or an issue of severity critical,
/// 3 unknown, unreachable or refused.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Only these subsystems; the exit code is then of the worst of them.
    #[arg(value_name = "SUBSYSTEM")]
    subsystems: Vec<String>,
    /// Tell what the latest checks said, without running any; the role `read` is enough.
    #[arg(long)]
    last: bool,
    #[command(flatten)]
    pub(super) remote: Remote,
}

/// Runs it; for Nagios, what stands in the way goes to stdout, since that is what it shows.
pub(super) async fn run(arguments: &CheckArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    match report(arguments, console.progress).await {
        Ok(report) => show(&report, &arguments.subsystems, console),
        Err(error) if console.output == Output::Nagios => {
            writeln!(console.out, "CHIRON UNKNOWN - {}", plugin_text(&format!("{error:#}")))?;
            Ok(UNKNOWN)
        }
        Err(error) => Err(error),
    }
}

async fn report(arguments: &CheckArgs, progress: bool) -> anyhow::Result<Value> {
    let client = Client::new(&arguments.remote)?;
    if !arguments.last {
        waiting(progress, "running every check", client.post("/health/force-check", &json!({}))).await?;
    }
    let report = client.get("/api/v1/report").await?;
    let Some(known) = report["subsystem_health"].as_object() else {
        anyhow::bail!("found no `subsystem_health` in the answer, expected chiron's report");
    };
    for name in &arguments.subsystems {
        if !known.contains_key(name) {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            let hint = did_you_mean(name, &names).unwrap_or_else(|| format!("known are {}", names.join(", ")));
            anyhow::bail!("found no subsystem `{}`, {hint}", clean(name));
        }
    }
    Ok(report)
}

fn show(report: &Value, chosen: &[String], console: &mut Console<'_>) -> anyhow::Result<u8> {
    let healths: Vec<&Value> = report["subsystem_health"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| chosen.is_empty() || chosen.contains(name))
        .map(|(_, health)| health)
        .collect();
    let status = if chosen.is_empty() {
        text(report, "overall_status")
    } else {
        worst(healths.iter().map(|health| text(health, "status")))
    };
    match console.output {
        Output::Json if chosen.is_empty() => console.json(report)?,
        Output::Json => console.json(&json!({ "status": status, "subsystems": healths }))?,
        Output::Nagios => nagios(report, &status, &healths, chosen.is_empty(), console)?,
        Output::Table => table(report, &status, &healths, chosen.is_empty(), console)?,
    }
    Ok(code_of(report, &status, chosen.is_empty()))
}

/// The exit code: of the status, or of what is open if that is worse.
fn code_of(report: &Value, status: &str, whole: bool) -> u8 {
    match (code(status), if whole { of_issues(report) } else { OK }) {
        (_, CRITICAL) => CRITICAL,
        (status, issues) => status.max(issues),
    }
}

/// The exit code for what is open: an issue of a failure point or of the host is no subsystem's status, and all is not well
/// all the same.
fn of_issues(report: &Value) -> u8 {
    let severities = items(report, "detected_issues").iter().map(|issue| text(issue, "severity"));
    severities
        .map(|severity| match severity.as_str() {
            "critical" => CRITICAL,
            "high" => WARNING,
            _ => OK,
        })
        .max()
        .unwrap_or(OK)
}

fn table(report: &Value, status: &str, healths: &[&Value], whole: bool, console: &mut Console<'_>) -> io::Result<()> {
    if whole {
        let policy = text(report, "current_safety_policy");
        let issues = items(report, "detected_issues").len();
        console.line(&format!("overall {}, policy {}, {}", word(status), word(&policy), count(issues, "issue")))?;
        console.line("")?;
    }
    let rows = healths
        .iter()
        .map(|health| {
            [
                text(health, "subsystem"),
                word(&text(health, "status")),
                console.relative(date(health, "timestamp")),
                health["response_time_ms"].as_f64().map_or_else(|| "-".to_owned(), millis),
                found(health),
            ]
        })
        .collect();
    console.table(["SUBSYSTEM", "STATUS", "CHECKED", "TOOK", "FOUND"], rows)?;
    let beside = beside(report, whole);
    if !beside.is_empty() {
        console.line("")?;
    }
    beside.iter().try_for_each(|line| console.line(line))
}

/// What is open and is no subsystem's status: issues of the host, of failure points, of a bot's vitals; those that make the exit
/// code worse.
fn beside(report: &Value, whole: bool) -> Vec<String> {
    let issues = if whole { items(report, "detected_issues") } else { &[] };
    let issues = issues.iter().filter(|issue| {
        text(issue, "type") != "subsystem_status" && matches!(text(issue, "severity").as_str(), "critical" | "high")
    });
    issues
        .map(|issue| {
            let (subsystem, kind) = (text(issue, "subsystem"), text(issue, "type"));
            format!("{subsystem} {kind} {}: {}", text(issue, "severity"), text(issue, "description"))
        })
        .collect()
}

/// The sentences among the details of a health.
fn found(health: &Value) -> String {
    ["error", "warning", "message"]
        .iter()
        .map(|key| text(&health["details"], key))
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// The first line with its performance data, then a line for each subsystem that is not well.
fn nagios(report: &Value, status: &str, healths: &[&Value], whole: bool, console: &mut Console<'_>) -> io::Result<()> {
    let word = match code_of(report, status, whole) {
        OK => "OK",
        WARNING => "WARNING",
        CRITICAL => "CRITICAL",
        _ => "UNKNOWN",
    };
    let unwell: Vec<&&Value> = healths.iter().filter(|health| text(health, "status") != "healthy").collect();
    let mut summary = if whole {
        let issues = items(report, "detected_issues");
        let policy = text(report, "current_safety_policy");
        format!("{status}, policy {policy}, {}", count(issues.len(), "issue"))
    } else {
        let names: Vec<String> =
            healths.iter().map(|h| format!("{} {}", text(h, "subsystem"), text(h, "status"))).collect();
        names.join(", ")
    };
    summary = plugin_text(&summary);
    let mut data = Vec::new();
    if whole {
        let issues = items(report, "detected_issues");
        let critical = issues.iter().filter(|issue| issue["severity"] == "critical").count();
        data.push(format!("issues={};;;0", issues.len()));
        data.push(format!("critical_issues={critical};;;0"));
        for status in Status::ALL {
            data.push(format!("{status}={};;;0", report["summary"][status.as_str()].as_u64().unwrap_or_default()));
        }
    } else {
        for health in healths {
            let took = health["response_time_ms"].as_f64().unwrap_or_default();
            data.push(format!("{}={took}ms;;;0", text(health, "subsystem")));
        }
    }
    writeln!(console.out, "CHIRON {word} - {summary} | {}", data.join(" "))?;
    for health in unwell {
        let line = format!("{} {}: {}", text(health, "subsystem"), text(health, "status"), found(health));
        writeln!(console.out, "{}", plugin_text(line.trim_end_matches([':', ' '])))?;
    }
    for line in beside(report, whole) {
        writeln!(console.out, "{}", plugin_text(&line))?;
    }
    Ok(())
}

/// `|` begins performance data, so it is none of the text's.
fn plugin_text(text: &str) -> String {
    clean(text).replace('|', "/")
}

/// The worst of some statuses; what is unknown is never healthy, and never hides what is broken.
fn worst(statuses: impl IntoIterator<Item = String>) -> String {
    let order = ["failed", "critical", "unknown", "degraded", "healthy"];
    let rank = |status: &String| order.iter().position(|one| one == status).unwrap_or(2);
    statuses.into_iter().min_by_key(rank).unwrap_or_else(|| "unknown".to_owned())
}

/// The exit code of a status.
fn code(status: &str) -> u8 {
    match status {
        "healthy" => OK,
        "degraded" => WARNING,
        "critical" | "failed" => CRITICAL,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPEC 14: 0, 1, 2 and 3 in the Nagios convention; what is unknown is never healthy.
    #[test]
    fn the_worst_status_gives_the_exit_code() {
        let table: [(&[&str], &str, u8); 7] = [
            (&["healthy", "healthy"], "healthy", 0),
            (&["healthy", "degraded"], "degraded", 1),
            (&["degraded", "unknown"], "unknown", 3),
            (&["unknown", "critical"], "critical", 2),
            (&["critical", "failed"], "failed", 2),
            (&["healthy", "fine"], "fine", 3),
            (&[], "unknown", 3),
        ];
        for (statuses, status, exit) in table {
            let found = worst(statuses.iter().map(|status| (*status).to_owned()));
            assert_eq!((found.as_str(), code(&found)), (status, exit), "{statuses:?}");
        }
    }

    #[test]
    fn a_plugin_line_has_its_data_behind_one_bar() {
        let report = json!({
            "overall_status": "critical", "current_safety_policy": "no_new_trades",
            "detected_issues": [{"severity": "critical", "type": "subsystem_status"}, {"severity": "low"}],
            "summary": {"healthy": 1, "critical": 1},
            "subsystem_health": {
                "feed": {"subsystem": "feed", "status": "healthy", "response_time_ms": 1.5, "details": {}},
                "router": {"subsystem": "router", "status": "critical", "response_time_ms": 2,
                           "details": {"error": "a|b\u{1b}[2J"}},
            },
        });
        let shown = |chosen: &[&str]| {
            let mut out = Vec::new();
            let chosen: Vec<String> = chosen.iter().map(|name| (*name).to_owned()).collect();
            let mut console = Console {
                out: &mut out,
                output: Output::Nagios,
                colour: false,
                width: None,
                progress: false,
                person: false,
                clock: crate::base::clock::Clock::system(),
            };
            let code = show(&report, &chosen, &mut console).unwrap();
            (code, String::from_utf8(out).unwrap())
        };
        let all = "CHIRON CRITICAL - critical, policy no_new_trades, 2 issues | issues=2;;;0 critical_issues=1;;;0 \
                   healthy=1;;;0 degraded=0;;;0 critical=1;;;0 failed=0;;;0 unknown=0;;;0\nrouter critical: a/b [2J\n";
        assert_eq!(shown(&[]), (2, all.to_owned()));
        assert_eq!(shown(&["feed"]), (0, "CHIRON OK - feed healthy | feed=1.5ms;;;0\n".to_owned()));
    }

    /// OBS-8: an issue that is no subsystem's status counts for the exit code, and is told.
    #[test]
    fn issues_beside_the_subsystems_count() {
        let report = |severity: &str| {
            json!({
                "overall_status": "healthy", "current_safety_policy": "no_new_trades",
                "detected_issues": [{"severity": severity, "type": "kill_switch", "subsystem": "platform",
                                     "description": "kill switch active"}],
                "summary": {}, "subsystem_health": {},
            })
        };
        for (severity, expected) in [("critical", CRITICAL), ("high", WARNING), ("medium", OK)] {
            assert_eq!(code_of(&report(severity), "healthy", true), expected, "{severity}");
            assert_eq!(code_of(&report(severity), "healthy", false), OK, "{severity}");
        }
        assert_eq!(code_of(&report("critical"), "unknown", true), CRITICAL);
        assert_eq!(code_of(&report("high"), "unknown", true), UNKNOWN);
        assert_eq!(beside(&report("critical"), true), ["platform kill_switch critical: kill switch active"]);
        assert_eq!(beside(&report("medium"), true), [""; 0]);
    }
}
