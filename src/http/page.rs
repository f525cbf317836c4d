//! `GET /`: the operator's page, rendered from the report; plain HTML that needs no script.
//!
//! **Invariant:** every value goes through [`escape`]; the page loads nothing from anywhere. What is approved is approved
//! through the API or the command line; the page changes nothing.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use serde_json::Value;

use crate::model::{PolicyDocument, Report, Status};
use crate::telemetry::build;

use super::handle::WantedRuns;
use super::router::Shared;

/// Rows per table; the rest is only counted.
const ROWS_MAX: usize = 500;

/// Runs of actions shown, the latest.
const RUNS_MAX: usize = 20;

/// Characters shown of a digest: enough to tell two apart.
const DIGEST_SHOWN: usize = 12;

/// Where the page leads, and under which word.
const LINKS: [(&str, &str); 19] = [
    ("api/v1/report", "report"),
    ("api/v1/subsystems", "subsystems"),
    ("api/v1/failure-points", "failure points"),
    ("api/v1/issues", "issues"),
    ("api/v1/recommendations", "recommendations"),
    ("api/v1/actions", "actions"),
    ("api/v1/bindings", "bindings"),
    ("api/v1/maintenance", "maintenance"),
    ("api/v1/alerts", "alerts"),
    ("api/v1/policy", "policy"),
    ("api/v1/policy/hooks", "hooks"),
    ("api/v1/workspace", "workspace"),
    ("api/v1/workspace/healings", "healings"),
    ("api/v1/vitals", "vitals"),
    ("api/v1/journal", "journal"),
    ("api/v1/audit", "audit"),
    ("api/v1/config", "configuration"),
    ("api/v1/openapi.json", "API"),
    ("-/ready", "ready"),
];

const STYLE: &str = include_str!("page.css");

/// What the page may load: its own style by its hash, and nothing else. A test compares the hash.
const POLICY: &str = "default-src 'none'; style-src 'sha256-qLCuHKanqE+RAU+Hwe8vKV26s7boFkTyo+nSWvlAf18='; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// What the page shows.
struct Facts<'a> {
    report: &'a Report,
    policy: &'a PolicyDocument,
    /// Runs of actions and alerts that fire, as the API tells them.
    runs: &'a [Value],
    alerts: &'a [Value],
    /// The workspace, as the API tells of it.
    workspace: &'a Value,
    dry_run: bool,
    not_ready: Option<String>,
    telemetry_path: &'a str,
}

/// Answers `GET /`.
pub(super) async fn landing(State(shared): State<Arc<Shared>>) -> Response {
    let (report, policy) = (shared.handle.report(), shared.handle.policy());
    let body = render(&Facts {
        report: &report,
        policy: &policy,
        runs: &shared.handle.runs(&WantedRuns { limit: RUNS_MAX, ..WantedRuns::ALL }),
        alerts: &shared.handle.active_alerts(),
        workspace: &shared.handle.workspace_shortly(),
        dry_run: shared.handle.dry_run(),
        not_ready: shared.handle.ready().err(),
        telemetry_path: &shared.telemetry_path,
    });
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "deny"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)));
    (headers, body).into_response()
}

fn render(facts: &Facts<'_>) -> String {
    let mut page = String::with_capacity(16 * 1024);
    let overall = facts.report.overall_status;
    let _ = write!(
        page,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>chiron: {overall}</title>\
         <style>{STYLE}</style></head><body><header><h1>chiron <small>{}</small></h1>",
        escape(build::VERSION)
    );
    let path = facts.telemetry_path.trim_start_matches('/');
    for (address, text) in std::iter::once((path, "metrics")).chain(LINKS) {
        let _ = write!(page, "<a href=\"{}\">{text}</a> ", escape(address));
    }
    page.push_str("</header><main>");
    if facts.dry_run {
        page.push_str(
            "<p class=\"banner\" role=\"status\">Dry-run: chiron acts on nothing. The line <code>mode: paper</code> or \
             <code>mode: real</code> in <code>chiron.yml</code>, without <code>dry_run</code>, changes that.</p>",
        );
    }
    if let Some(reason) = &facts.not_ready {
        let _ = write!(page, "<p class=\"banner\" role=\"alert\">Not ready: {}</p>", escape(reason));
    }
    overview(&mut page, facts);
    approvals(&mut page, facts.report);
    issues(&mut page, facts.report);
    recommendations(&mut page, facts.report);
    alerts(&mut page, facts.alerts);
    actions(&mut page, facts.runs);
    subsystems(&mut page, facts.report);
    failure_points(&mut page, facts.report);
    workspace(&mut page, facts.workspace);
    page.push_str("</main></body></html>\n");
    page
}

fn overview(page: &mut String, facts: &Facts<'_>) {
    let Facts { report, policy, .. } = facts;
    let _ = write!(
        page,
        "<section><h2>Overview</h2><dl><dt>Overall</dt><dd class=\"{overall}\">{overall}</dd>\
         <dt>Policy</dt><dd>{level}{latched}</dd><dt>Trading should continue</dt><dd>{trading}</dd>\
         <dt>Report of</dt><dd>{at}</dd></dl>",
        overall = report.overall_status,
        level = policy.policy,
        latched = if policy.latched { ", latched until a person releases it" } else { "" },
        trading = if report.trading_should_continue { "yes" } else { "no" },
        at = report.timestamp,
    );
    if !policy.reasons.is_empty() {
        page.push_str("<ul>");
        for hold in policy.reasons.iter().take(ROWS_MAX) {
            let _ = write!(
                page,
                "<li>{} by {} since {}: {}</li>",
                hold.level,
                hold.source.as_str(),
                hold.since,
                escape(&hold.reason)
            );
        }
        page.push_str("</ul>");
    }
    page.push_str("</section>");
}

fn subsystems(page: &mut String, report: &Report) {
    // The worst first, so that what is cut from a long table is what is well.
    let mut healths: Vec<_> = report.subsystem_health.iter().collect();
    healths.sort_by_key(|(_, health)| std::cmp::Reverse(rank(health.status)));
    let rows = healths.iter().map(|(name, health)| {
        let told = ["error", "warning"].iter().find_map(|key| health.details.get(*key)?.as_str()).unwrap_or_default();
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"{status}\">{status}</td><td>{}</td><td>{:.1} ms</td><td>{}</td></tr>",
            escape(name),
            escape(told),
            health.response_time_ms,
            health.timestamp,
            status = health.status,
        )
    });
    table(page, "Subsystems", &["Subsystem", "Status", "Detail", "Took", "Checked"], healths.len(), rows);
}

/// The failure points that are known; nothing at all if none is.
fn failure_points(page: &mut String, report: &Report) {
    let known = |health: &&crate::model::Health| health.timestamp > crate::model::Timestamp::EPOCH;
    let mut healths: Vec<_> = report.failure_points.categories.values().filter(known).collect();
    if healths.is_empty() {
        return;
    }
    healths.sort_by_key(|health| std::cmp::Reverse(rank(health.status)));
    let rows = healths.iter().map(|health| {
        let told = ["error", "warning"].iter().find_map(|key| health.details.get(*key)?.as_str()).unwrap_or_default();
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"{status}\">{status}</td><td>{}</td><td>{}</td></tr>",
            escape(&health.subsystem),
            escape(told),
            health.timestamp,
            status = health.status,
        )
    });
    table(page, "Failure points", &["Failure point", "Status", "Detail", "Checked"], healths.len(), rows);
}

/// What was last found in the workspace; nothing at all if it is not healed.
fn workspace(page: &mut String, workspace: &Value) {
    if workspace["enabled"] != true {
        return;
    }
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let report = &workspace["report"];
    let _ = write!(page, "<section><h2>Workspace</h2><dl>");
    if let Some(at) = report["timestamp"].as_str() {
        let status = text(&report["validation"]["status"]);
        let score = report["validation"]["score"].as_f64().unwrap_or_default();
        let count = |key: &str| report[key].as_u64().unwrap_or_default();
        let _ = write!(
            page,
            "<dt>Status</dt><dd class=\"{status}\">{status}, score {score:.0} of 100</dd><dt>Looked at</dt><dd>{}</dd>\
             <dt>Healed, failed, critical</dt><dd>{}, {}, {}{}</dd>",
            escape(at),
            count("healed"),
            count("failed"),
            count("critical"),
            if report["dry_run"] == true { ", dry-run" } else { "" },
        );
    } else {
        page.push_str("<dt>Status</dt><dd>not looked at yet</dd>");
    }
    if let Some(detail) = workspace["error"]["detail"].as_str() {
        let _ = write!(page, "<dt>Could not be looked at</dt><dd class=\"critical\">{}</dd>", escape(detail));
    }
    if let Some(why) = workspace["held_back"].as_str() {
        let _ = write!(page, "<dt>Only looked at</dt><dd class=\"degraded\">{}</dd>", escape(why));
    }
    page.push_str("</dl></section>");
    let stands = |finding: &&Value| finding["state"] == "standing" || finding["state"] == "failed";
    let findings: Vec<&Value> = report["findings"].as_array().into_iter().flatten().filter(stands).collect();
    let rows = findings.iter().map(|finding| {
        let records: Vec<&str> =
            finding["records"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"{severity}\">{severity}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            text(&finding["code"]),
            text(&finding["path"]),
            text(&finding["description"]),
            escape(&records.join(", ")),
            severity = text(&finding["severity"]),
        )
    });
    let heads = ["Finding", "Severity", "Where", "What", "Records"];
    table(page, "Standing in the workspace", &heads, findings.len(), rows);
    let healings = workspace["latest_healings"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = healings.iter().map(|healing| {
        format!(
            "<tr><th scope=\"row\"><a href=\"api/v1/workspace/healings/{id}\">{id}</a></th><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td></tr>",
            text(&healing["trigger"]),
            text(&healing["by"]),
            healing["changes"].as_u64().unwrap_or_default(),
            if healing["undone_by"].is_null() { text(&healing["end"]) } else { "undone".to_owned() },
            id = text(&healing["id"]),
        )
    });
    let heads = ["Healing", "Why", "By", "Changes", "End"];
    table(page, "Latest healings", &heads, healings.len(), rows);
}

fn rank(status: Status) -> u8 {
    // Unknown stands before healthy: what is unknown is never healthy.
    status.rank().map_or(1, |rank| rank * 2)
}

fn issues(page: &mut String, report: &Report) {
    let rows = report.detected_issues.iter().map(|issue| {
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"{severity}\">{severity}</td><td>{}</td><td>{}</td></tr>",
            escape(&issue.key.subsystem),
            escape(&issue.description),
            issue.timestamp,
            severity = issue.severity.as_str(),
        )
    });
    let heads = ["Subsystem", "Severity", "Description", "Since"];
    table(page, "Open issues", &heads, report.detected_issues.len(), rows);
}

fn recommendations(page: &mut String, report: &Report) {
    let rows = report.recovery_recommendations.iter().map(|one| {
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}: {}</td></tr>",
            escape(&one.action),
            escape(&one.subsystem),
            one.priority,
            escape(&one.description),
            one.state.as_str(),
            one.reason.as_str(),
        )
    });
    let heads = ["Action", "Subsystem", "Priority", "Description", "State"];
    table(page, "Recommendations", &heads, report.recovery_recommendations.len(), rows);
}

/// What waits for a person; nothing at all if nothing does.
fn approvals(page: &mut String, report: &Report) {
    let waiting: Vec<_> =
        report.recovery_recommendations.iter().filter_map(|one| Some((one, one.approval.as_ref()?))).collect();
    if waiting.is_empty() {
        return;
    }
    let rows = waiting.iter().map(|(one, offer)| {
        let digest: String = offer.digest.chars().take(DIGEST_SHOWN).collect();
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            escape(&one.action),
            escape(&one.subsystem),
            escape(&offer.means),
            offer.expires_at,
            escape(&one.recommendation_id),
            escape(&digest),
        )
    });
    let heads = ["Action", "Subsystem", "Means", "Until", "Recommendation", "Digest begins"];
    table(page, "Waiting for approval", &heads, waiting.len(), rows);
}

fn alerts(page: &mut String, alerts: &[Value]) {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let rows = alerts.iter().map(|alert| {
        let labels = alert["labels"].as_object().into_iter().flatten().filter(|(name, _)| *name != "alertname");
        let labels: Vec<String> =
            labels.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
            text(&alert["labels"]["alertname"]),
            escape(&labels.join(" ")),
            text(&alert["policy"]),
            text(&alert["since"]),
        )
    });
    table(page, "Active alerts", &["Alert", "Labels", "Policy", "Since"], alerts.len(), rows);
}

fn actions(page: &mut String, runs: &[Value]) {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let rows = runs.iter().take(RUNS_MAX).map(|run| {
        format!(
            "<tr><th scope=\"row\"><a href=\"api/v1/actions/{}\">{}</a></th><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td></tr>",
            text(&run["id"]).replace('/', "~"),
            text(&run["action"]),
            text(&run["target"]),
            text(&run["state"]),
            text(&run["outcome"]),
            text(&run["why"]),
            text(&run["changed"]),
            text(&run["detail"]),
            text(if run["intended_at"].is_null() { &run["recommended_at"] } else { &run["intended_at"] }),
        )
    });
    let heads = ["Action", "Target", "State", "Outcome", "Why", "Changed", "Detail", "Decided"];
    table(page, "Recent actions", &heads, runs.len().min(RUNS_MAX), rows);
}

fn table(page: &mut String, title: &str, heads: &[&str], count: usize, rows: impl Iterator<Item = String>) {
    let _ = write!(page, "<section><h2>{title}</h2>");
    if count == 0 {
        page.push_str("<p>None.</p></section>");
        return;
    }
    page.push_str("<div class=\"wide\"><table><thead><tr>");
    for head in heads {
        let _ = write!(page, "<th scope=\"col\">{head}</th>");
    }
    page.push_str("</tr></thead><tbody>");
    page.extend(rows.take(ROWS_MAX));
    page.push_str("</tbody></table></div>");
    if count > ROWS_MAX {
        let _ = write!(page, "<p>And {} more.</p>", count - ROWS_MAX);
    }
    page.push_str("</section>");
}

/// A value as text in an element or a quoted attribute.
fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use serde_json::json;

    use crate::http::router::ROUTES;
    use crate::http::tests::{document, report};
    use crate::model::{Level, Offer};

    use super::*;

    const EVIL: &str = "</style><script>alert('1')</script>\"&";

    fn shown(report: &Report, policy: &PolicyDocument, dry_run: bool, not_ready: Option<&str>) -> String {
        let not_ready = not_ready.map(str::to_owned);
        let evil = EVIL;
        let runs = [json!({"action": evil, "target": evil, "state": evil, "outcome": evil, "detail": evil})];
        let alerts = [json!({"labels": {"alertname": evil, evil: evil}, "policy": evil, "since": evil})];
        let (runs, alerts) = (&runs[..], &alerts[..]);
        let finding = json!({"code": evil, "severity": evil, "path": evil, "description": evil, "records": [evil, "x"],
                             "state": "standing"});
        let healing = json!({"id": evil, "trigger": evil, "by": evil, "end": evil, "changes": 2});
        let workspace = &json!({
            "enabled": true,
            "report": {"timestamp": evil, "validation": {"score": 41.6, "status": evil}, "findings": [finding],
                       "critical": 1},
            "error": {"detail": evil},
            "latest_healings": [healing],
        });
        render(&Facts { report, policy, runs, alerts, workspace, dry_run, not_ready, telemetry_path: "/metrics" })
    }

    /// Every value that comes from outside is text on the page, whatever it holds.
    #[test]
    fn every_value_is_escaped() {
        let evil = EVIL;
        let mut report = report();
        let (_, mut health) = report.subsystem_health.pop_first().unwrap();
        health.details.insert("warning".to_owned(), evil.into());
        report.subsystem_health.insert(evil.to_owned(), health);
        report.detected_issues[0].description = evil.to_owned();
        report.detected_issues[0].key.subsystem = evil.into();
        report.recovery_recommendations[0].description = evil.to_owned();
        report.recovery_recommendations[0].action = evil.into();
        report.recovery_recommendations[0].subsystem = evil.into();
        report.recovery_recommendations[0].recommendation_id = evil.to_owned();
        let (asked_at, expires_at) = (report.timestamp, report.timestamp);
        let offer = Offer { digest: "0123456789abcdef".to_owned(), means: evil.to_owned(), asked_at, expires_at };
        report.recovery_recommendations[0].approval = Some(offer);
        let mut policy = document(Level::NoNewTrades);
        policy.reasons[0].reason = evil.to_owned();
        let page = shown(&report, &policy, true, Some(evil));
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("</style>").count(), 1);
        let safe = "&lt;/style&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;";
        let places = 9 + 4 + 5 + 5 + 2 + 1 + 1 + 6 + 5;
        assert_eq!(
            page.matches(safe).count(),
            places,
            "name, warning, issue twice, recommendation thrice, hold, not ready; approval, action, alert; \
             workspace: status twice, time, error, finding, healing"
        );
        assert!(page.contains("<code>0123456789ab</code>"), "a digest is shown shortened: {page}");
    }

    /// Every list of the API is linked, and no link is dead.
    #[test]
    fn the_links_lead_somewhere() {
        let there = |path: &str| ROUTES.iter().any(|route| route.path.trim_start_matches('/') == path);
        assert_eq!(LINKS.iter().find(|(path, _)| !there(path)), None);
        let lists = ROUTES.iter().filter(|route| route.method == "GET" && route.path.starts_with("/api/v1/"));
        for route in lists.filter(|route| !route.path.contains('{') && !route.path.ends_with("/stream")) {
            assert!(LINKS.iter().any(|(path, _)| *path == &route.path[1..]), "{} is not linked", route.path);
        }
    }

    /// SPEC 14: in dry-run the page says so and names the line that changes it.
    #[test]
    fn dry_run_is_told_with_the_line_that_changes_it() {
        let (report, policy) = (report(), document(Level::AllowAll));
        let page = shown(&report, &policy, true, None);
        assert!(page.contains("<code>mode: paper</code> or <code>mode: real</code> in <code>chiron.yml</code>"));
        assert!(!shown(&report, &policy, false, None).contains("Dry-run"));
    }

    /// WEB-1: approvals, actions and alerts are on the page; without an approval there is no table of them.
    #[test]
    fn approvals_actions_and_alerts_are_shown() {
        let page = shown(&report(), &document(Level::AllowAll), false, None);
        for title in ["Open issues", "Recommendations", "Active alerts", "Recent actions", "Subsystems"] {
            assert!(page.contains(&format!("<h2>{title}</h2>")), "{title}");
        }
        assert!(!page.contains("Waiting for approval"));
    }

    /// WSP-4, WEB-1: the page tells the workspace's status, score, what stands with its records, and the latest healings; and
    /// nothing of it where healing is off.
    #[test]
    fn the_workspace_is_shown() {
        let shown = |workspace: &Value| {
            let (mut page, facts) = (String::new(), workspace);
            super::workspace(&mut page, facts);
            page
        };
        assert_eq!(shown(&json!({"enabled": false, "report": null})), "");
        let finding = |state: &str, path: &str| {
            json!({"code": "position_conflict", "severity": "critical", "path": path, "description": "two of one symbol",
                   "records": ["BTC/USDT", "ETH/USDT"], "state": state})
        };
        let page = shown(&json!({
            "enabled": true,
            "report": {"timestamp": "2025-11-23T01:34:56Z", "validation": {"score": 41.6, "status": "critical"},
                       "healed": 3, "failed": 0, "critical": 1,
                       "findings": [finding("standing", "logs/a.json"), finding("healed", "logs/b.json")]},
            "error": null,
            "latest_healings": [{"id": "20251123T013456Z-000012", "trigger": "command", "by": null, "changes": 2,
                                 "end": "finished", "undone_by": null}],
        }));
        for part in ["critical, score 42 of 100", "<dd>3, 0, 1</dd>", "BTC/USDT, ETH/USDT", "logs/a.json"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(page.contains("api/v1/workspace/healings/20251123T013456Z-000012"), "{page}");
        assert!(!page.contains("logs/b.json"), "what is healed stands no more: {page}");
        assert!(shown(&json!({"enabled": true, "report": null})).contains("not looked at yet"));
    }

    #[test]
    fn a_long_table_shows_the_worst_and_counts_the_rest() {
        let mut report = report();
        let (_, mut health) = report.subsystem_health.pop_first().unwrap();
        health.status = Status::Healthy;
        report.subsystem_health = (0..600).map(|index| (format!("s{index:03}"), health.clone())).collect();
        report.subsystem_health.get_mut("s599").unwrap().status = Status::Failed;
        let page = shown(&report, &document(Level::AllowAll), false, None);
        assert!(page.contains("<th scope=\"row\">s599</th><td class=\"failed\">"));
        assert!(page.contains("And 100 more."));
    }

    #[test]
    fn the_content_policy_knows_the_style() {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut base64 = String::new();
        for chunk in Sha256::digest(STYLE).chunks(3) {
            let bits = chunk.iter().chain([0, 0].iter()).take(3).fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
            for place in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
                base64.push(if place > chunk.len() { '=' } else { char::from(digit) });
            }
        }
        assert!(POLICY.contains(&format!("'sha256-{base64}'")), "the style's hash is sha256-{base64}");
    }
}
