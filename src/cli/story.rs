//! The story of one action, for people.

use std::io;

use serde_json::Value;

use super::output::{Console, Output, clean, date, items, rough, text, word};

/// Tells one story: what it is, then what happened in order, then what it printed.
pub(super) fn tell(story: &Value, console: &mut Console<'_>) -> io::Result<()> {
    if console.output != Output::Table {
        return console.json(story);
    }
    console.table(["ACTION", &title(story)], facts(story))?;
    let start = date(&story["issue"], "opened_at");
    let rows = items(story, "timeline").iter().map(|step| {
        let at = date(step, "at");
        // Against the opening of the issue, so that a reader sees what took how long.
        let after = at.zip(start).map_or_else(String::new, |(at, start)| {
            let (sign, span) = if at < start { ("-", start.since(at)) } else { ("+", at.since(start)) };
            format!("{sign}{:.1} s", span.as_secs_f64())
        });
        [text(step, "at"), after, word(&text(step, "what")), text(step, "detail")]
    });
    let rows: Vec<[String; 4]> = rows.collect();
    if !rows.is_empty() {
        console.line("")?;
        console.table(["WHEN", "AFTER", "WHAT", "DETAIL"], rows)?;
    }
    let output = story["output"].as_str().unwrap_or_default();
    if !output.is_empty() {
        console.line("")?;
        console.line("OUTPUT")?;
        for line in output.lines() {
            console.line(&clean(line))?;
        }
    }
    Ok(())
}

fn title(story: &Value) -> String {
    format!("{} of {}", text(story, "action"), text(story, "target"))
}

fn facts(story: &Value) -> Vec<[String; 2]> {
    let seconds = |key: &str| story[key].as_f64().map_or_else(String::new, |value| format!("{value:.1} s"));
    let outcome = text(story, "outcome");
    let (issue, verification, approval) = (&story["issue"], &story["verification"], &story["approval"]);
    let alerts: Vec<String> = items(issue, "alerts").iter().map(|alert| text(alert, "alertname")).collect();
    let of = |value: &Value, parts: &[&str]| {
        let parts: Vec<String> = parts.iter().map(|key| text(value, key)).filter(|part| !part.is_empty()).collect();
        parts.join(", ")
    };
    let begun = date(story, "started_at").zip(date(story, "closed_at"));
    let rows = [
        ("id", text(story, "id")),
        ("recommendation", text(story, "recommendation_id")),
        ("outcome", word(if outcome.is_empty() { "none yet" } else { &outcome })),
        ("state", text(story, "state")),
        ("why", text(story, "why")),
        ("issue", of(issue, &["id", "description", "severity", "source"])),
        ("alerts", alerts.join(", ")),
        ("means", of(story, &["means", "describe"])),
        ("expected", text(story, "expected_result")),
        ("risk", text(story, "risk")),
        ("approval", of(approval, &["how", "by", "reason"])),
        ("before", story["before"]["status"].as_str().map_or_else(String::new, |status| word(&clean(status)))),
        ("answer", text(story, "answer")),
        ("changed", text(story, "changed")),
        ("verification", text(verification, "detail")),
        ("to detect", seconds("to_detect")),
        ("to act", seconds("to_act")),
        ("took", seconds("duration")),
        ("to recover", seconds("to_recover")),
        ("begun to end", begun.map_or_else(String::new, |(from, to)| rough(to.since(from)))),
    ];
    let told = rows.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| [name.to_owned(), value]).collect()
}
