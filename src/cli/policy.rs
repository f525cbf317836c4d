//! `chiron policy get|hooks|set|release`: what the bot may do, and a person's say in it.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Remote};
use super::output::{Console, Output, date, items, rough, text, word};
use super::{CRITICAL, OK, UNKNOWN, WARNING};
use crate::base::tree::parse_duration;
use crate::model::Level;

/// A person's hold lasts at least and at most so long.
const HOLD: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(31 * 86_400);
/// How long the decision task may take until its document shows what was asked for.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// The safety policy.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
    #[command(flatten)]
    pub(super) remote: Remote,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Tell what is in force and who holds it.
    ///
    /// Exit codes: 0 allow_all, 1 restricted, 2 defensive_exit or emergency_shutdown, 3 unreachable or refused.
    Get,
    /// Tell whether the bot follows what the hooks tell it.
    ///
    /// Exit codes: 0 it follows, or nothing is to be told; 1 it is being told, or cannot be seen to follow; 2 it does not
    /// follow; 3 unreachable or refused.
    Hooks,
    /// Hold a level for a person, beside what is held already: it can only tighten.
    ///
    /// Exit codes: 0 held, 3 not.
    Set {
        /// allow_all (ends the person's hold), safe_risk_profile, no_new_trades, defensive_exit or
        /// emergency_shutdown.
        #[arg(value_parser = Level::ALL.map(Level::as_str))]
        level: String,
        /// Why; goes to the audit log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// How long, such as 30m or 2h, at most 31d; only emergency_shutdown goes without.
        #[arg(long = "for", value_name = "DURATION", value_parser = hold)]
        hold: Option<Duration>,
    },
    /// End what a person holds, and the latch of emergency_shutdown.
    ///
    /// Exit codes: 0 released, 3 not.
    Release {
        /// Why; goes to the audit log.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

fn hold(text: &str) -> Result<Duration, String> {
    let expected = "expected a duration such as 30m or 2h, from 1s to 31d";
    parse_duration(text).filter(|span| HOLD.contains(span)).ok_or_else(|| expected.to_owned())
}

/// `chiron policy ...`
pub(super) async fn run(arguments: &PolicyArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.remote)?;
    match &arguments.command {
        PolicyCommand::Get => {
            let document = client.get("/api/v1/policy").await?;
            show(&document, console)?;
            Ok(code(&document))
        }
        PolicyCommand::Hooks => {
            let answer = client.get("/api/v1/policy/hooks").await?;
            show_hooks(&answer, console)?;
            Ok(hooks_code(&answer))
        }
        PolicyCommand::Set { level, reason, hold } => {
            let mut wish = json!({ "level": level, "reason": reason });
            match hold {
                Some(hold) => wish["expires_in_seconds"] = json!(hold.as_secs()),
                None if level == "emergency_shutdown" => {}
                None if level == "allow_all" => wish["expires_in_seconds"] = json!(HOLD.start().as_secs()),
                None => anyhow::bail!("found no --for, expected how long `{level}` is held, such as --for 2h"),
            }
            let first = client.post("/api/v1/policy", &wish).await?;
            let wanted = (level != "allow_all").then_some(level.as_str());
            let document = settled(&client, first, |document| held(document) == wanted).await?;
            show(&document, console)?;
            Ok(OK)
        }
        PolicyCommand::Release { reason } => {
            let first = client.post("/api/v1/policy/release", &json!({ "reason": reason })).await?;
            let free = |document: &Value| held(document).is_none() && document["latched"] != true;
            let document = settled(&client, first, free).await?;
            show(&document, console)?;
            Ok(OK)
        }
    }
}

/// The change is durable once it is answered; the document that shows it may come a moment later.
async fn settled(client: &Client, first: Value, shows: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
    let mut document = first;
    let newer = async {
        while !shows(&document) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            document = client.get("/api/v1/policy").await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    match tokio::time::timeout(SHOWN_WITHIN, newer).await {
        Ok(result) => result?,
        Err(_) => tracing::debug!("the policy does not show the change yet"),
    }
    Ok(document)
}

/// The level that a person holds.
fn held(document: &Value) -> Option<&str> {
    items(document, "reasons").iter().find(|hold| hold["source"] == "operator").and_then(|hold| hold["level"].as_str())
}

fn show(document: &Value, console: &mut Console<'_>) -> anyhow::Result<()> {
    if console.output != Output::Table {
        return Ok(console.json(document)?);
    }
    let latched = if document["latched"] == true { ", latched until a person releases it" } else { "" };
    let level = text(document, "policy");
    let since = console.relative(date(document, "changed_at"));
    console.line(&format!("{}, since {since}{latched}", word(&level)))?;
    console.line(&format!("the bot: {}", restrictions(&document["restrictions"])))?;
    let valid = date(document, "valid_until");
    if valid.is_some_and(|until| until < console.now()) {
        console.line("this copy is no longer valid; a bot takes it as no_new_trades")?;
    }
    let holds = items(document, "reasons");
    if holds.is_empty() {
        return Ok(());
    }
    console.line("")?;
    let rows = holds
        .iter()
        .map(|hold| {
            let ends = date(hold, "until").map_or_else(|| "-".to_owned(), |until| console.relative(Some(until)));
            [
                word(&text(hold, "level")),
                text(hold, "source"),
                text(hold, "subject"),
                console.relative(date(hold, "since")),
                ends,
                text(hold, "reason"),
            ]
        })
        .collect();
    console.table(["LEVEL", "SOURCE", "SUBJECT", "SINCE", "ENDS", "WHY"], rows)?;
    if let Some(more) = document["reasons_omitted"].as_u64().filter(|more| *more > 0) {
        console.line(&format!("and {more} more"))?;
    }
    Ok(())
}

fn show_hooks(answer: &Value, console: &mut Console<'_>) -> anyhow::Result<()> {
    if console.output != Output::Table {
        return Ok(console.json(answer)?);
    }
    let hooks = items(answer, "hooks");
    if hooks.is_empty() {
        return Ok(console.line("no hooks: the bot asks for the policy itself")?);
    }
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let rows = hooks
        .iter()
        .map(|hook| {
            // What was seen of the bot says more than what the means said of itself.
            let why = [text(hook, "seen"), text(hook, "detail")].into_iter().find(|text| !text.is_empty());
            let told = date(hook, "told_at").map_or_else(|| "-".to_owned(), |at| console.relative(Some(at)));
            [
                text(hook, "hook"),
                word(&text(hook, "state")),
                or_dash(text(hook, "policy")),
                told,
                hook["attempts"].to_string(),
                why.unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    console.table(["HOOK", "STATE", "POLICY", "TOLD", "TRIES", "SAID"], rows)?;
    Ok(())
}

fn hooks_code(answer: &Value) -> u8 {
    let of = |hook: &Value| match hook["state"].as_str() {
        Some("followed" | "idle" | "dry_run") => OK,
        Some("telling" | "unproven") => WARNING,
        Some("late") => CRITICAL,
        _ => UNKNOWN,
    };
    items(answer, "hooks").iter().map(of).max().unwrap_or(OK)
}

/// What is forbidden, for people.
fn restrictions(value: &Value) -> String {
    let mut said: Vec<String> = Vec::new();
    for (key, forbidden) in [("open", "opens nothing"), ("increase", "increases nothing"), ("trade", "trades nothing")]
    {
        if value[key] == false {
            said.push(forbidden.to_owned());
        }
    }
    if let Some(most) = value["max_leverage"].as_f64() {
        said.push(format!("leverage at most {most}"));
    }
    if let Some(factor) = value["size_factor"].as_f64().filter(|factor| *factor < 1.0) {
        said.push(format!("sizes times {factor}"));
    }
    if value["tighten_stops"] == true {
        said.push("tightens stops".to_owned());
    }
    match value["close"].as_str() {
        Some("risky") => said.push("closes what is risky".to_owned()),
        Some("all") => said.push("closes everything".to_owned()),
        _ => {}
    }
    if said.is_empty() { "no restriction".to_owned() } else { said.join(", ") }
}

fn code(document: &Value) -> u8 {
    match document["policy"].as_str().and_then(Level::parse) {
        Some(Level::AllowAll) => OK,
        Some(Level::SafeRiskProfile | Level::NoNewTrades) => WARNING,
        Some(Level::DefensiveExit | Level::EmergencyShutdown) => CRITICAL,
        None => UNKNOWN,
    }
}

/// How long until a date, for a question.
pub(super) fn left(console: &Console<'_>, value: &Value, key: &str) -> String {
    date(value, key).map_or_else(|| "-".to_owned(), |until| rough(until.since(console.now())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restrictions_are_told_in_words() {
        for (level, expected) in [
            (Level::AllowAll, "no restriction"),
            (Level::SafeRiskProfile, "leverage at most 5, sizes times 0.5, tightens stops"),
            (Level::NoNewTrades, "opens nothing, increases nothing"),
            (Level::DefensiveExit, "opens nothing, increases nothing, closes what is risky"),
            (Level::EmergencyShutdown, "opens nothing, increases nothing, trades nothing, closes everything"),
        ] {
            let value = serde_json::to_value(level.restrictions()).unwrap();
            assert_eq!(restrictions(&value), expected, "{level}");
        }
    }

    /// SPEC 14: the exit code tells how far the bot is held back.
    #[test]
    fn the_level_gives_the_exit_code() {
        let codes = Level::ALL.map(|level| code(&json!({ "policy": level })));
        assert_eq!(codes, [0, 1, 1, 2, 2]);
        assert_eq!(code(&json!({ "policy": "what" })), 3);
        assert_eq!(code(&json!({})), 3);
    }

    /// POL-5: the exit code tells the worst hook.
    #[test]
    fn the_worst_hook_gives_the_exit_code() {
        for (states, expected) in [
            (&[][..], OK),
            (&["idle", "followed", "dry_run"][..], OK),
            (&["followed", "unproven"][..], WARNING),
            (&["telling", "late", "idle"][..], CRITICAL),
            (&["what"][..], UNKNOWN),
        ] {
            let hooks: Vec<Value> = states.iter().map(|state| json!({ "state": state })).collect();
            assert_eq!(hooks_code(&json!({ "hooks": hooks })), expected, "{states:?}");
        }
    }

    #[test]
    fn a_hold_is_from_a_second_to_a_month() {
        assert_eq!(hold("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(hold("31d"), Ok(Duration::from_secs(31 * 86_400)));
        for text in ["", "0s", "500ms", "32d", "2", "forever"] {
            assert!(hold(text).is_err(), "{text}");
        }
    }
}
