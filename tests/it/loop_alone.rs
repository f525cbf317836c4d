//! From a dead process to a verified recovery, by chiron's own detection alone.

use chiron::model::Level;

use crate::common::{Bot, Chiron, PolicyWatch, in_order, kinds, wait_for};
use crate::loop_with_alertmanager::{assert_restarted_once, config, wait_status};

/// REC-1, ACT-3, ACT-4, DET-3: with `auto_restart_enabled` no alert is needed; one episode, one restart, verified, resolved.
#[test]
fn dead_process_is_restarted_by_detection() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut bot = Bot::start(dir.path());
    let chiron = Chiron::with_config(dir.path(), config(dir.path(), true).text()).start();
    let policy = PolicyWatch::start(dir.path());
    wait_status(&chiron, "order_router", "healthy");

    let killed = std::time::Instant::now();
    bot.kill9();
    assert_restarted_once(&chiron, &bot);
    let story = ["episode_opened", "run_intended", "run_started", "run_finished", "run_verified", "episode_resolved"];
    wait_for("the journal to tell the story", || in_order(&kinds(&chiron.journal()), &story));
    let found = kinds(&chiron.journal());
    assert!(!found.iter().any(|kind| kind == "alert_taken"), "no alert took part: {found:?}");
    assert_eq!(found.iter().filter(|kind| *kind == "episode_opened").count(), 1, "one episode: {found:?}");
    let (reached, _) = policy.loosened(killed, Level::NoNewTrades);
    assert!(reached, "the policy was tightened meanwhile");
}
