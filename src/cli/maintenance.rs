//! `chiron maintenance list|set|end`: when only listed actions run.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::OK;
use super::client::{Client, Remote, encoded};
use super::output::{Console, Output, date, items, text};
use crate::base::tree::parse_duration;
use crate::model::Timestamp;

/// Announced maintenance lasts at least and at most so long.
const SPAN: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);

/// Maintenance: while it lasts, only listed actions and what lowers risk run by themselves.
#[derive(Debug, Args)]
pub(super) struct MaintenanceArgs {
    #[command(subcommand)]
    command: MaintenanceCommand,
    #[command(flatten)]
    pub(super) remote: Remote,
}

#[derive(Debug, Subcommand)]
enum MaintenanceCommand {
    /// Tell the windows of the settings and what is announced.
    ///
    /// Exit codes: 0 told, 3 unreachable or refused.
    List,
    /// Announce maintenance; it ends by itself.
    ///
    /// Exit codes: 0 announced, 3 not.
    Set {
        /// On these subsystems; repeatable, or with commas. All if none is named.
        #[arg(long = "subsystem", value_name = "NAME", value_delimiter = ',')]
        subsystems: Vec<String>,
        /// These actions may run all the same; repeatable, or with commas.
        #[arg(long = "allow", value_name = "ACTION", value_delimiter = ',')]
        actions: Vec<String>,
        /// How long, such as 30m or 2h, at most 30d.
        #[arg(long = "for", value_name = "DURATION", value_parser = span, required_unless_present = "until")]
        span: Option<Duration>,
        /// Until when, such as 2026-01-31T22:00:00Z.
        #[arg(long, value_name = "DATE", value_parser = moment, conflicts_with = "span")]
        until: Option<Timestamp>,
        /// Why; goes to the audit log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End announced maintenance early: things run again.
    ///
    /// Exit codes: 0 ended, 3 not.
    End {
        /// Its id, as `set` and `list` tell it.
        id: String,
        /// Why; goes to the audit log.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

fn span(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as 30m or 2h, from 1s to 30d";
    parse_duration(text).filter(|span| SPAN.contains(span)).ok_or_else(|| expected.to_owned())
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "expected a date such as 2026-01-31T22:00:00Z".to_owned())
}

/// `chiron maintenance ...`
pub(super) async fn run(arguments: &MaintenanceArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.remote)?;
    match &arguments.command {
        MaintenanceCommand::List => {
            let answer = client.get("/api/v1/maintenance").await?;
            show(&answer, console)?;
        }
        MaintenanceCommand::Set { subsystems, actions, span, until, reason } => {
            let mut wish = json!({ "subsystems": subsystems, "actions": actions, "reason": reason });
            match span {
                Some(span) => wish["for"] = json!(format!("{}s", span.as_secs())),
                None => wish["until"] = json!(until),
            }
            let answer = client.post("/api/v1/maintenance", &wish).await?;
            match console.output {
                Output::Table => {
                    let ends = console.relative(date(&answer, "until"));
                    console.line(&format!("announced: {}, ends {ends}", text(&answer, "id")))?;
                }
                _ => console.json(&answer)?,
            }
        }
        MaintenanceCommand::End { id, reason } => {
            let query = reason.as_deref().map_or_else(String::new, |reason| format!("?reason={}", encoded(reason)));
            let answer = client.delete(&format!("/api/v1/maintenance/{}{query}", encoded(id))).await?;
            match console.output {
                Output::Table => console.line(&format!("ended: {}", text(&answer, "id")))?,
                _ => console.json(&answer)?,
            }
        }
    }
    Ok(OK)
}

fn show(answer: &Value, console: &mut Console<'_>) -> anyhow::Result<()> {
    if console.output != Output::Table {
        return Ok(console.json(answer)?);
    }
    let (windows, announced) = (items(answer, "windows"), items(answer, "announced"));
    if windows.is_empty() && announced.is_empty() {
        return Ok(console.line("no maintenance is planned or announced")?);
    }
    let ends = |console: &Console<'_>, one: &Value| {
        date(one, "until").map_or_else(|| "-".to_owned(), |until| console.relative(Some(until)))
    };
    let mut rows = Vec::new();
    for one in windows {
        let state = if one["open"] == true { "open" } else { "planned" };
        let next = console.relative(date(one, "next"));
        let plan = format!("{} {} for {}", text(one, "cron"), text(one, "timezone"), text(one, "duration"));
        rows.push([text(one, "name"), state.to_owned(), ends(console, one), next, named(one, "subsystems"), plan]);
    }
    for one in announced {
        let why = format!("{}: {}", text(one, "by"), text(one, "reason"));
        let until = ends(console, one);
        rows.push([text(one, "id"), "open".to_owned(), until, "-".to_owned(), named(one, "subsystems"), why]);
    }
    Ok(console.table(["MAINTENANCE", "STATE", "ENDS", "NEXT", "SUBSYSTEMS", "WHY"], rows)?)
}

/// The names of a list; an empty one is all.
fn named(one: &Value, key: &str) -> String {
    let names: Vec<&str> = items(one, key).iter().filter_map(Value::as_str).collect();
    if names.is_empty() { "all".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_from_a_second_to_a_month() {
        assert_eq!(span("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "0s", "500ms", "31d", "2", "forever"] {
            assert!(span(text).is_err(), "{text}");
        }
        assert!(moment("2026-01-31T22:00:00Z").is_ok() && moment("tomorrow").is_err());
    }
}
