//! Carries one order out: the outer time limit, and the wall that a panicking actuator runs into.
//!
//! In: an [`Order`] whose run is durably `started`, and its means. Out: the [`Answer`] and how long it took.
//! **Invariant:** always answers, within the order's timeout and [`GRACE`], whatever the actuator does short of blocking
//! its thread; never tries twice.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::{Actuator, Answer, Order, ProbeAnswer};
use crate::base::{failpoint, redact};
use crate::model::Ending;

/// What an actuator gets beyond the order's timeout to end what it began: two seconds between the signals, and to spare.
pub const GRACE: Duration = Duration::from_secs(5);

/// Carries `order` out with `actuator`; the duration is measured on the monotonic clock.
///
/// An actuator that has not answered by the timeout and [`GRACE`] is dropped and answered for with `Timeout`; one that
/// panics with `Failed`. In both cases the effect may have happened.
pub async fn carry_out(order: Order, actuator: Arc<dyn Actuator>) -> (Answer, Duration) {
    let begun = Instant::now();
    let limit = order.timeout.saturating_add(GRACE);
    let mut answer = match tokio::time::timeout(limit, guarded(&order, &*actuator)).await {
        Ok(answer) => answer,
        Err(_) => Answer::new(
            Ending::Timeout,
            format!("no answer {GRACE:?} after the timeout of {:?}; whether it happened is not known", order.timeout),
        ),
    };
    // A command prints what it likes, its own credentials too.
    redact::string(&mut answer.detail);
    redact::string(&mut answer.output);
    redact::string(&mut answer.changed);
    (answer, begun.elapsed())
}

/// What a probe of `order` will compare with, within the order's timeout; `None` if it cannot be told, or on a panic.
pub async fn evidence(order: &Order, actuator: Arc<dyn Actuator>) -> Option<String> {
    let asked = AssertUnwindSafe(actuator.evidence(order)).catch_unwind();
    tokio::time::timeout(order.timeout, asked).await.ok()?.ok()?
}

/// Asks what became of `order` after a crash. A means that does not answer within the order's timeout and [`GRACE`], or
/// panics, cannot tell.
pub async fn probe(order: &Order, actuator: Arc<dyn Actuator>) -> ProbeAnswer {
    let asked = AssertUnwindSafe(async { actuator.probe(order).await }).catch_unwind();
    let answer = tokio::time::timeout(order.timeout.saturating_add(GRACE), asked).await;
    answer.ok().and_then(Result::ok).unwrap_or(ProbeAnswer::Unknown)
}

/// `apply`, with a panic turned into an answer.
async fn guarded(order: &Order, actuator: &dyn Actuator) -> Answer {
    if failpoint::pass("effect.before") {
        return Answer::new(Ending::NotStarted, "failpoint `effect.before`");
    }
    let attempt = catch_unwind(AssertUnwindSafe(|| actuator.apply(order)));
    let outcome = match attempt {
        Ok(future) => {
            let mut future = pin!(future);
            // After a panic the future is never polled again, so no broken state of it is ever seen.
            poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
                Ok(poll) => poll.map(Ok),
                Err(payload) => std::task::Poll::Ready(Err(payload)),
            })
            .await
        }
        Err(payload) => Err(payload),
    };
    if failpoint::pass("effect.after") {
        let output = outcome.map_or_else(|_| String::new(), |answer| answer.output);
        return Answer { output, ..Answer::new(Ending::Failed, "failpoint `effect.after`") };
    }
    outcome.unwrap_or_else(|payload| {
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Answer::new(Ending::Failed, format!("{PANICKED}: {message}"))
    })
}

/// How the detail of an answer begins that was given for an actuator that panicked.
const PANICKED: &str = "actuator panicked";

/// Whether the answer was given for an actuator that panicked: an invariant of ours is broken.
pub fn panicked(answer: &Answer) -> bool {
    answer.ending == Ending::Failed && answer.detail.starts_with(PANICKED)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::model::{Means, RunKey};

    enum Script {
        After(Duration),
        Panic(&'static str),
        PanicLater(String),
        Never,
    }

    #[async_trait]
    impl Actuator for Script {
        fn means(&self) -> Means {
            Means::Internal
        }

        async fn apply(&self, order: &Order) -> Answer {
            match self {
                Self::After(time) => tokio::time::sleep(*time).await,
                Self::Panic(message) => panic!("{message}"),
                Self::PanicLater(message) => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    panic!("{message}");
                }
                Self::Never => std::future::pending().await,
            }
            Answer::new(Ending::Ok, order.key.to_string())
        }

        async fn probe(&self, order: &Order) -> ProbeAnswer {
            self.apply(order).await;
            ProbeAnswer::DidNotHappen
        }

        async fn preflight(&self) -> Vec<String> {
            Vec::new()
        }

        fn describe(&self) -> String {
            "a script".to_owned()
        }
    }

    async fn play(script: Script) -> (Answer, Duration) {
        carry_out(order(), Arc::new(script)).await
    }

    fn order() -> Order {
        Order {
            key: RunKey { episode: "ai_model_20251123_013456".into(), rung: 1, attempt: 1 },
            action: "restart_subsystem".into(),
            target: "ai_model".into(),
            epoch: 7,
            timeout: Duration::from_secs(60),
            about: crate::execute::About::default(),
            evidence: None,
        }
    }

    /// ACT-3: a probe that panics or never answers cannot tell, and is waited for no longer than an action.
    #[tokio::test(start_paused = true)]
    async fn a_probe_always_answers() {
        let begun = Instant::now();
        let ask = async |script| probe(&order(), Arc::new(script)).await;
        assert_eq!(ask(Script::Panic("no such wire")).await, ProbeAnswer::Unknown);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(ask(Script::PanicLater("late".to_owned())).await, ProbeAnswer::Unknown);
        assert_eq!(ask(Script::After(Duration::from_secs(64))).await, ProbeAnswer::DidNotHappen);
        assert_eq!(begun.elapsed(), Duration::from_secs(65));
        assert_eq!(ask(Script::Never).await, ProbeAnswer::Unknown);
        assert_eq!(begun.elapsed(), Duration::from_secs(130));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_passes_through_with_its_duration() {
        let (answer, took) = play(Script::After(Duration::from_secs(3))).await;
        assert_eq!((answer.ending, answer.detail.as_str()), (Ending::Ok, "ai_model_20251123_013456/1/1"));
        assert_eq!(took, Duration::from_secs(3));
    }

    /// ACT-3: at 64.9 s, within the grace, the actuator's own answer counts; a silent one is answered for at 65 s.
    #[tokio::test(start_paused = true)]
    async fn silence_ends_as_timeout_after_the_grace() {
        let (answer, _) = play(Script::After(Duration::from_millis(64_900))).await;
        assert_eq!(answer.ending, Ending::Ok);
        let (answer, took) = play(Script::Never).await;
        assert_eq!(answer.ending, Ending::Timeout);
        assert_eq!(took, Duration::from_secs(65));
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_answer() {
        let (answer, _) = play(Script::Panic("no such wire")).await;
        assert_eq!((answer.ending, answer.detail.as_str()), (Ending::Failed, "actuator panicked: no such wire"));
        let (answer, took) = play(Script::PanicLater("late".to_owned())).await;
        assert_eq!((answer.ending, answer.detail.as_str()), (Ending::Failed, "actuator panicked: late"));
        assert_eq!(took, Duration::from_secs(1));
    }
}
