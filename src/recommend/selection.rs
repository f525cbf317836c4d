//! Which actions an issue calls for, in order (REC-1, DET-5), and how the next one is told to people (REC-2).

use crate::model::{
    ActionSpec, Autonomy, EpisodeId, HOST, Name, POLICY_NOT_FOLLOWED, Quantity, Reason, Recommendation,
    RecommendationState, Severity, Timestamp, WORKSPACE, is_forecast,
};

use super::{Ladder, Settings};

/// One rung as selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The verb.
    pub action: Name,
    /// How far it may go alone.
    pub autonomy: Autonomy,
    /// It contains and heals nothing.
    pub containing: bool,
}

/// The ladder for an issue: the operator's first, else the built-in one of DET-5. Actions that the catalog does not
/// know are left out.
pub fn ladder_for(
    subsystem: &str,
    kind: &str,
    severity: Severity,
    settings: &Settings,
    catalog: impl Fn(&str) -> Option<&'static ActionSpec>,
) -> Vec<Step> {
    // What healing leaves standing is for a person: nothing else may write there.
    if subsystem == WORKSPACE {
        return Vec::new();
    }
    let own = own_ladder(subsystem, kind, severity, settings);
    let only_shown = own.is_none() && is_forecast(kind);
    let names: Vec<&str> = match own {
        Some(ladder) => ladder.actions.iter().map(Name::as_str).collect(),
        // No action of ours is known to make a bot follow.
        None if kind == POLICY_NOT_FOLLOWED => Vec::new(),
        // What has not happened yet is at most shown.
        None if kind == Quantity::Disk.forecast() => vec!["clear_cache"],
        None if is_forecast(kind) => Vec::new(),
        None => of_vitals(subsystem, kind)
            .or_else(|| of_failure_point(kind, severity))
            .unwrap_or_else(|| built_in(subsystem, severity, settings)),
    };
    names
        .into_iter()
        .filter_map(catalog)
        .map(|spec| Step {
            action: spec.name.into(),
            autonomy: if only_shown { Autonomy::Manual } else { autonomy(spec, settings) },
            containing: spec.containing,
        })
        .collect()
}

/// The operator's ladder for an issue, if one is for it.
pub fn own_ladder<'a>(subsystem: &str, kind: &str, severity: Severity, settings: &'a Settings) -> Option<&'a Ladder> {
    settings.ladders.iter().find(|ladder| {
        ladder.subsystem.as_ref().is_none_or(|only| *only == *subsystem)
            && ladder.kind.as_ref().is_none_or(|only| *only == *kind)
            && ladder.severity.is_none_or(|only| only == severity)
    })
}

/// The ladders of what a bot's vitals tell of (REC-1). The procedure comes first; what follows is for a target that has no
/// binding for it, and for when it did not help.
fn of_vitals(subsystem: &str, kind: &str) -> Option<Vec<&'static str>> {
    Some(match kind {
        _ if subsystem == HOST => return None,
        "websocket_disconnected" => vec!["repair_websocket", "restart_subsystem"],
        "websocket_data_stale" => vec!["refresh_subscriptions", "repair_websocket", "restart_subsystem"],
        // The counter is the exchange's: nothing else brings it down.
        "rate_limit_critical" => vec!["recover_rate_limit"],
        "high_latency" => vec!["optimize_latency", "reload_config"],
        "memory_pressure" => vec!["reduce_memory", "clear_cache", "restart_subsystem"],
        // A restart brings no exchange back and mends no strategy.
        "bot_process" | "bot_loop" => vec!["restart_subsystem", "restart_subsystem"],
        "bot_exchange" => vec!["pause_trading", "fallback_to_backup"],
        "bot_strategy" => vec!["pause_trading", "reload_config"],
        _ => return None,
    })
}

/// The ladder for what a failure point found; an empty one tells a person. What the bot decides for itself (its limits, its
/// strategies, a kill switch that is active by right) is not for chiron to undo. For what is critical a backup that is bound
/// comes before a connection is tried again; the caller knows what is bound.
fn of_failure_point(kind: &str, severity: Severity) -> Option<Vec<&'static str>> {
    Some(match (kind, severity) {
        ("exchange_api" | "network", Severity::Critical) => {
            vec!["pause_trading", "retry_connection", "fallback_to_backup"]
        }
        ("exchange_api" | "network", Severity::High) => vec!["retry_connection", "fallback_to_backup"],
        ("intelligence_api" | "intelligence_freshness", _) => vec!["refresh_intelligence", "fallback_to_backup"],
        ("file_system", _) => vec!["clear_cache"],
        ("configuration", _) => vec!["restore_configuration", "reload_config"],
        ("kill_switch", _) => vec!["release_kill_switch"],
        ("position_limits", _) => vec!["review_position_limits"],
        ("exchange_api" | "network" | "strategy_overlap" | "symbol_probation" | "signal_blocks", _) => Vec::new(),
        _ => return None,
    })
}

/// Whether an action is on a ladder only while what was found is overdue: should be over by itself, and is not.
pub fn only_overdue(action: &str) -> bool {
    action == "release_kill_switch"
}

/// Whether an action only asks again, and changes nothing, if chiron itself carries it out: budgets and cooldowns are not about
/// it.
pub fn only_asks(action: &str) -> bool {
    action == "retry_connection"
}

/// How far an action may go alone at most, whatever a setting or an alert says.
pub fn furthest(action: &str) -> Autonomy {
    match action {
        "release_kill_switch" => Autonomy::Approval,
        "review_position_limits" => Autonomy::Manual,
        _ => Autonomy::Automatic,
    }
}

fn built_in(subsystem: &str, severity: Severity, settings: &Settings) -> Vec<&'static str> {
    match (subsystem, severity) {
        (HOST, _) => vec!["clear_cache", "reduce_memory", "switch_to_safe_profile"],
        ("exchange_connection" | "data_feed", Severity::Critical) => {
            vec!["pause_trading", "fallback_to_backup", "restart_subsystem"]
        }
        ("ai_model", Severity::Critical) => vec!["disable_module", "restart_subsystem", "fallback_to_backup"],
        (_, Severity::Critical) => {
            let mut ladder = vec!["restart_subsystem", "restart_subsystem"];
            if settings.allow_disable_module {
                ladder.push("disable_module");
            }
            ladder
        }
        (_, Severity::High) => vec!["switch_to_safe_profile", "defensive_exit"],
        (_, Severity::Medium | Severity::Low) => vec!["reload_config"],
    }
}

/// How far an action may go alone: what the operator says of it, else the two switches of REC-1, else what it says of
/// itself.
pub fn autonomy(spec: &ActionSpec, settings: &Settings) -> Autonomy {
    if let Some(asked) = settings.autonomy.get(spec.name) {
        return (*asked).max(furthest(spec.name));
    }
    let switched = |on| if on { Autonomy::Automatic } else { Autonomy::Approval };
    match spec.name {
        "restart_subsystem" => switched(settings.auto_restart_enabled),
        "pause_trading" => switched(settings.auto_pause_on_critical),
        _ => spec.autonomy,
    }
}

/// What a recommendation is made from.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// The issue.
    pub issue_id: &'a EpisodeId,
    /// The target.
    pub subsystem: &'a Name,
    /// The issue's severity.
    pub severity: Severity,
    /// The issue in one line.
    pub problem: &'a str,
    /// 1-based.
    pub rung: u32,
    /// The action.
    pub spec: &'static ActionSpec,
    /// How far it may go alone here.
    pub autonomy: Autonomy,
}

/// The recommendation as people see it.
pub fn recommendation(
    proposal: &Proposal<'_>,
    state: RecommendationState,
    reason: Reason,
    not_before: Option<Timestamp>,
) -> Recommendation {
    Recommendation {
        recommendation_id: format!("rec_{}_{}", proposal.rung, proposal.issue_id),
        issue_id: proposal.issue_id.clone(),
        subsystem: proposal.subsystem.clone(),
        action: proposal.spec.name.into(),
        priority: proposal.severity.priority(),
        description: format!("{} for {}: {}", proposal.spec.name, proposal.subsystem, proposal.problem),
        expected_result: proposal.spec.expected_result.to_owned(),
        risks: vec![proposal.spec.risk.to_owned()],
        can_auto_execute: proposal.autonomy == Autonomy::Automatic,
        requires_approval: proposal.autonomy == Autonomy::Approval,
        state,
        reason,
        not_before,
        approval: None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const fn spec(name: &'static str, autonomy: Autonomy, containing: bool) -> ActionSpec {
        ActionSpec {
            name,
            expected_result: "",
            risk: "",
            autonomy,
            containing,
            lowers_risk: containing,
            raises_risk: false,
            needs_policy: None,
            holds: None,
            reverse: None,
            settle: Duration::from_secs(1),
            doc: "",
        }
    }

    const CATALOG: [ActionSpec; 18] = [
        spec("restart_subsystem", Autonomy::Automatic, false),
        spec("pause_trading", Autonomy::Automatic, true),
        spec("switch_to_safe_profile", Autonomy::Automatic, true),
        spec("disable_module", Autonomy::Automatic, true),
        spec("fallback_to_backup", Autonomy::Automatic, false),
        spec("defensive_exit", Autonomy::Approval, true),
        spec("reload_config", Autonomy::Manual, false),
        spec("clear_cache", Autonomy::Automatic, false),
        spec("reduce_memory", Autonomy::Automatic, false),
        spec("repair_websocket", Autonomy::Automatic, false),
        spec("refresh_subscriptions", Autonomy::Automatic, false),
        spec("recover_rate_limit", Autonomy::Automatic, false),
        spec("optimize_latency", Autonomy::Automatic, false),
        spec("refresh_intelligence", Autonomy::Automatic, false),
        spec("restore_configuration", Autonomy::Automatic, false),
        spec("release_kill_switch", Autonomy::Approval, false),
        spec("retry_connection", Autonomy::Automatic, false),
        spec("review_position_limits", Autonomy::Manual, false),
    ];

    fn catalog(name: &str) -> Option<&'static ActionSpec> {
        CATALOG.iter().find(|spec| spec.name == name)
    }

    fn ladder(subsystem: &str, severity: Severity, settings: &Settings) -> Vec<(String, Autonomy)> {
        ladder_for(subsystem, "subsystem_status", severity, settings, catalog)
            .into_iter()
            .map(|step| (step.action.to_string(), step.autonomy))
            .collect()
    }

    /// OBS-8, DET-5: what a failure point finds is told to a person where nothing of chiron's helps.
    #[test]
    fn ladders_of_failure_points() {
        let of = |kind: &str, severity| -> Vec<String> {
            let steps = ladder_for("platform", kind, severity, &Settings::default(), catalog);
            steps.into_iter().map(|step| step.action.to_string()).collect()
        };
        assert_eq!(of("exchange_api", Severity::Critical), ["pause_trading", "retry_connection", "fallback_to_backup"]);
        assert_eq!(of("network", Severity::High), ["retry_connection", "fallback_to_backup"]);
        assert_eq!(of("file_system", Severity::Critical), ["clear_cache"]);
        assert_eq!(of("configuration", Severity::High), ["restore_configuration", "reload_config"]);
        for kind in ["intelligence_api", "intelligence_freshness"] {
            assert_eq!(of(kind, Severity::Medium), ["refresh_intelligence", "fallback_to_backup"], "{kind}");
        }
        assert_eq!(of("position_limits", Severity::Medium), ["review_position_limits"]);
        assert_eq!(of("kill_switch", Severity::Critical), ["release_kill_switch"]);
        for kind in ["strategy_overlap", "symbol_probation", "signal_blocks"] {
            assert!(of(kind, Severity::Critical).is_empty(), "{kind}");
        }
        assert!(of("exchange_api", Severity::Medium).is_empty());
    }

    /// WSP-7: no setting lets a kill switch be released unasked, or positions be closed for their limits.
    #[test]
    fn no_setting_goes_further() {
        let all = |asked| {
            let autonomy = CATALOG.iter().map(|spec| (Name::from(spec.name), asked)).collect();
            let settings = Settings { autonomy, ..Settings::default() };
            let of = |name: &str| autonomy_of(name, &settings);
            [of("release_kill_switch"), of("review_position_limits"), of("refresh_intelligence")]
        };
        use Autonomy::{Approval, Automatic, Manual};
        assert_eq!(all(Automatic), [Approval, Manual, Automatic]);
        assert_eq!(all(Manual), [Manual, Manual, Manual]);
    }

    fn autonomy_of(name: &str, settings: &Settings) -> Autonomy {
        autonomy(catalog(name).expect("it is in the catalog"), settings)
    }

    /// OBS-10: about what has not happened yet, nothing is done but by a person; the operator's own ladder is another matter.
    #[test]
    fn forecasts_are_at_most_shown() {
        let step = |action: &str, autonomy| Step { action: action.into(), autonomy, containing: false };
        let autonomy = BTreeMap::from([("clear_cache".into(), Autonomy::Automatic)]);
        let mut settings = Settings { autonomy, ..Settings::default() };
        let of = |kind: &str, settings: &Settings| ladder_for(HOST, kind, Severity::Low, settings, catalog);
        assert_eq!(of("disk_forecast", &settings), [step("clear_cache", Autonomy::Manual)]);
        assert_eq!(of("memory_forecast", &settings), []);
        let actions = vec!["clear_cache".into()];
        settings.ladders.push(Ladder {
            subsystem: None,
            kind: Some("memory_forecast".into()),
            severity: None,
            actions,
        });
        assert_eq!(of("memory_forecast", &settings), [step("clear_cache", Autonomy::Automatic)]);
    }

    /// REC-1, DET-5: the built-in table.
    #[test]
    fn table() {
        use Autonomy::{Approval, Automatic, Manual};
        let on = Settings { auto_restart_enabled: true, auto_pause_on_critical: true, ..Settings::default() };
        let off = Settings::default();
        let steps = |of: &[(&str, Autonomy)]| of.iter().map(|(n, a)| ((*n).to_owned(), *a)).collect::<Vec<_>>();
        let connection =
            [("pause_trading", Automatic), ("fallback_to_backup", Automatic), ("restart_subsystem", Automatic)];
        assert_eq!(ladder("data_feed", Severity::Critical, &on), steps(&connection));
        assert_eq!(ladder("exchange_connection", Severity::Critical, &on), steps(&connection));
        assert_eq!(ladder("data_feed", Severity::Critical, &off)[0], ("pause_trading".to_owned(), Approval));
        assert_eq!(
            ladder("ai_model", Severity::Critical, &off),
            steps(&[("disable_module", Automatic), ("restart_subsystem", Approval), ("fallback_to_backup", Automatic)])
        );
        assert_eq!(
            ladder("database", Severity::Critical, &on),
            steps(&[("restart_subsystem", Automatic), ("restart_subsystem", Automatic)])
        );
        let allowed = Settings { allow_disable_module: true, ..on.clone() };
        assert_eq!(ladder("database", Severity::Critical, &allowed).len(), 3);
        assert_eq!(
            ladder("database", Severity::High, &on),
            steps(&[("switch_to_safe_profile", Automatic), ("defensive_exit", Approval)])
        );
        assert_eq!(ladder("database", Severity::Medium, &on), steps(&[("reload_config", Manual)]));
        assert_eq!(ladder("host", Severity::High, &on)[0].0, "clear_cache");
    }

    /// REC-1: what a bot's vitals tell of has ladders by its type; memory of the host keeps the host's.
    #[test]
    fn ladders_of_vitals() {
        let on = Settings { auto_restart_enabled: true, ..Settings::default() };
        let names = |subsystem: &str, kind: &str, severity| -> Vec<String> {
            let steps = ladder_for(subsystem, kind, severity, &on, catalog);
            steps.into_iter().map(|step| step.action.to_string()).collect()
        };
        for (subsystem, kind, severity, rungs) in [
            ("bot", "websocket_disconnected", Severity::Critical, &["repair_websocket", "restart_subsystem"][..]),
            (
                "data_feed",
                "websocket_data_stale",
                Severity::High,
                &["refresh_subscriptions", "repair_websocket", "restart_subsystem"],
            ),
            ("bot", "rate_limit_critical", Severity::Critical, &["recover_rate_limit"]),
            ("bot", "high_latency", Severity::Medium, &["optimize_latency", "reload_config"]),
            ("bot", "memory_pressure", Severity::High, &["reduce_memory", "clear_cache", "restart_subsystem"]),
            (HOST, "memory_pressure", Severity::High, &["clear_cache", "reduce_memory", "switch_to_safe_profile"]),
        ] {
            assert_eq!(names(subsystem, kind, severity), rungs, "{subsystem} {kind}");
        }
    }

    /// OBS-9, DET-5: the parts of a bot have ladders of their own, whatever the subsystem is called.
    #[test]
    fn parts_of_a_bot() {
        use Autonomy::{Automatic, Manual};
        let on = Settings { auto_restart_enabled: true, auto_pause_on_critical: true, ..Settings::default() };
        for (kind, severity, expected) in [
            ("bot_process", Severity::Critical, [("restart_subsystem", Automatic), ("restart_subsystem", Automatic)]),
            ("bot_loop", Severity::Critical, [("restart_subsystem", Automatic), ("restart_subsystem", Automatic)]),
            ("bot_exchange", Severity::High, [("pause_trading", Automatic), ("fallback_to_backup", Automatic)]),
            ("bot_strategy", Severity::High, [("pause_trading", Automatic), ("reload_config", Manual)]),
        ] {
            for subsystem in ["bot", "exchange_connection"] {
                let steps = ladder_for(subsystem, kind, severity, &on, catalog);
                let steps: Vec<_> = steps.iter().map(|step| (step.action.as_str(), step.autonomy)).collect();
                assert_eq!(steps, expected, "{kind}");
            }
        }
    }

    /// REC-1: rules in the configuration come first.
    #[test]
    fn own_ladder_wins() {
        let own = Ladder {
            subsystem: Some("database".into()),
            kind: None,
            severity: None,
            actions: vec!["clear_cache".into()],
        };
        let settings = Settings { ladders: vec![own], ..Settings::default() };
        assert_eq!(
            ladder("database", Severity::Critical, &settings),
            [("clear_cache".to_owned(), Autonomy::Automatic)]
        );
        assert_eq!(ladder("other", Severity::Critical, &settings).len(), 2);
    }
}
