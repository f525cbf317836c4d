//! A platform of random size: subsystems and what they need, bindings of every class, settings of every strictness.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use crate::alerts::{self, Route, Watchdog};
use crate::app::cycle::Rules;
use crate::app::tests::sim::Played;
use crate::execute::{Binding, VerifySettings, actions};
use crate::model::{Autonomy, Class, Criticality, Level, Name, Severity, Subsystem};
use crate::{admit, detect, policy, recommend};

/// Those with a ladder of their own come first.
const NAMES: [&str; 9] = [
    "exchange_connection",
    "data_feed",
    "ai_model",
    "database",
    "risk_guard",
    "router",
    "event_executor",
    "retraining",
    "logging",
];
/// What may be bound; the reverses last.
const ACTIONS: [&str; 10] = [
    "restart_subsystem",
    "fallback_to_backup",
    "disable_module",
    "reload_config",
    "pause_trading",
    "switch_to_safe_profile",
    "resume_trading",
    "enable_module",
    "restore_profile",
    "restore_primary",
];
const CLASSES: [Class; 4] = [Class::Natural, Class::Keyed, Class::Probeable, Class::OneShot];

fn seconds(number: u32) -> Duration {
    Duration::from_secs(u64::from(number))
}

/// Everything the decider is told of the platform.
pub(super) fn platform(dice: &mut Dice) -> Rules {
    let size = 1 + dice.below(6);
    let mut names: Vec<&str> = NAMES.to_vec();
    while names.len() > size {
        names.remove(dice.below(names.len()));
    }
    let subsystems: Vec<Subsystem> = names
        .iter()
        .enumerate()
        .map(|(index, name)| Subsystem {
            name: (*name).into(),
            criticality: dice.pick(&[Criticality::Full, Criticality::Partial, Criticality::None]),
            // Only what comes earlier is needed, so the graph has no cycle.
            depends_on: names[..index].iter().filter(|_| dice.percent(25)).map(|need| (*need).into()).collect(),
        })
        .collect();
    let dry_run = dice.percent(4);
    let mut rules = Rules {
        failure_points: Vec::new(),
        raises: Vec::new(),
        intervals: vec![seconds(5); subsystems.len()],
        detect: detect::Settings { failed_after: seconds(dice.between(20, 300)), ..detect::Settings::default() },
        recommend: recommend(dice, &names),
        admit: admit(dice, dry_run),
        policy: policy::Settings {
            relax_after_cycles: dice.between(1, 3),
            min_hold: seconds(dice.pick(&[1, 20, 60])),
            ..policy::Settings::default()
        },
        alerts: Arc::new(alerts::Settings {
            routes: names.iter().flat_map(|name| routes(dice, name)).collect(),
            watchdog: dice.percent(40).then(|| Watchdog {
                alertname: "Watchdog".to_owned(),
                absent_after: seconds(120),
                policy: Level::NoNewTrades,
            }),
            ..alerts::Settings::default()
        }),
        bindings: HashMap::new(),
        hooks: Vec::new().into(),
        stalled_after: seconds(60),
        heals: false,
        money_files: Arc::new([]),
        real_money: dice.percent(50),
        catalog: actions::action,
        subsystems,
    };
    bind(dice, &mut rules, &names);
    rules
}

/// The same platform under other settings: what a reload brings.
pub(super) fn other_settings(dice: &mut Dice, rules: &Rules) -> Rules {
    let names: Vec<Name> = rules.subsystems.iter().map(|subsystem| subsystem.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    let mut next = rules.clone();
    if dice.percent(50) {
        next.admit = admit(dice, rules.admit.dry_run);
    }
    if dice.percent(30) {
        next.recommend = recommend(dice, &names);
    }
    if dice.percent(30) {
        next.bindings = HashMap::new();
        bind(dice, &mut next, &names);
    }
    next
}

fn bind(dice: &mut Dice, rules: &mut Rules, names: &[&str]) {
    let richly = dice.pick(&[15, 50, 90]);
    for name in names {
        for action in ACTIONS {
            if !dice.percent(if action == "restart_subsystem" { 85 } else { richly }) {
                continue;
            }
            let class = dice.pick(&CLASSES);
            let settle = dice.pick(&[0, 1, 5]);
            let binding = Binding {
                id: format!("{action}@{name}").into(),
                action: action.into(),
                subsystem: (*name).into(),
                class,
                verify: VerifySettings {
                    settle: seconds(settle),
                    within: seconds(settle + dice.pick(&[5, 30, 60])),
                    hold_down: dice.between(1, 3),
                },
                retries: dice.pick(&[0, 0, 1, 2]),
                timeout: seconds(dice.pick(&[2, 10, 60])),
                dry_run: dice.percent(4),
                place: String::new(),
                actuator: Arc::new(Played { evidence: dice.percent(60) }),
            };
            rules.bindings.insert((binding.action.clone(), binding.subsystem.clone()), Arc::new(binding));
        }
    }
}

fn admit(dice: &mut Dice, dry_run: bool) -> admit::Settings {
    admit::Settings {
        dry_run,
        dry_run_actions: if dice.percent(5) { ["fallback_to_backup".into()].into() } else { [].into() },
        cooldown: seconds(dice.pick(&[0, 5, 60])),
        target_budget: dice.between(1, 4),
        target_window: seconds(dice.pick(&[60, 300, 900])),
        overall_budget: dice.between(2, 10),
        overall_window: seconds(dice.pick(&[60, 600])),
        concurrency: 1 + dice.below(4),
        not_after: seconds(dice.pick(&[10, 60, 300])),
        approval_valid: seconds(dice.pick(&[30, 600])),
        ..admit::Settings::default()
    }
}

fn recommend(dice: &mut Dice, names: &[&str]) -> recommend::Settings {
    let mut autonomy = BTreeMap::new();
    for action in ACTIONS {
        if dice.percent(15) {
            let far = dice.pick(&[Autonomy::Automatic, Autonomy::Automatic, Autonomy::Approval, Autonomy::Manual]);
            autonomy.insert(Name::from(action), far);
        }
    }
    let mut ladders = Vec::new();
    if dice.percent(25) {
        let actions = (0..=dice.below(4)).map(|_| Name::from(dice.pick(&ACTIONS[..6]))).collect();
        let subsystem = dice.percent(50).then(|| dice.pick(names).into());
        ladders.push(recommend::Ladder { subsystem, kind: None, severity: None, actions });
    }
    recommend::Settings {
        auto_restart_enabled: dice.percent(80),
        auto_pause_on_critical: dice.percent(70),
        allow_disable_module: dice.percent(50),
        autonomy,
        ladders,
    }
}

/// Two alerts of a subsystem: one about its status, one of a type of its own.
fn routes(dice: &mut Dice, name: &str) -> Vec<Route> {
    let levels = [None, Some(Level::SafeRiskProfile), Some(Level::NoNewTrades), Some(Level::DefensiveExit)];
    let mut route = |kind: Option<&str>, alertname: String| Route {
        matches: BTreeMap::from([("alertname".to_owned(), alertname)]),
        subsystem: Some(name.into()),
        kind: kind.map(Name::from),
        action: dice.percent(60).then(|| dice.pick(&ACTIONS[..6]).into()),
        policy: dice.pick(&levels),
        severity: dice.percent(30).then(|| dice.pick(&Severity::ALL)),
        confirm_by_check: dice.percent(25),
        ..Route::default()
    };
    vec![route(None, format!("{name}_down")), route(Some("slowness"), format!("{name}_slow"))]
}
