//! Begins what may block only before a deadline, and answers by it.
//!
//! Where it sits: below the actuators whose effects are calls that a file system can hold up.
//! **Invariant:** what was told not to have begun never begins later; exactly one of the waiting side and the working side
//! decides it.
#![expect(clippy::disallowed_methods, reason = "runs what may block off the async threads")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// What became of it by the deadline.
pub(super) enum Begun<T> {
    /// It is done.
    Done(T),
    /// It has not begun, and never will; why.
    Not(String),
    /// It has begun and has not come back. Dropping this lets it go on.
    Hangs(JoinHandle<Option<T>>),
    /// It has begun and has broken off; how.
    Broken(String),
}

/// Does `work` on a thread that may wait, unless `deadline` has passed before its turn comes.
pub(super) async fn before<T: Send + 'static>(
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Begun<T> {
    let decided = Arc::new(AtomicBool::new(false));
    let mut handle = {
        let decided = Arc::clone(&decided);
        tokio::task::spawn_blocking(move || {
            let begins = Instant::now() < deadline && !decided.swap(true, Ordering::SeqCst);
            begins.then(work)
        })
    };
    let late = || Begun::Not("its time was over before it could begin".to_owned());
    let joined = match timeout_at(deadline, &mut handle).await {
        Ok(joined) => joined,
        Err(_) if !decided.swap(true, Ordering::SeqCst) => return late(),
        Err(_) => match (&mut handle).now_or_never() {
            Some(joined) => joined,
            None => return Begun::Hangs(handle),
        },
    };
    match joined {
        Ok(Some(done)) => Begun::Done(done),
        Ok(None) => late(),
        Err(error) if error.is_cancelled() => Begun::Not("chiron is stopping".to_owned()),
        Err(error) => Begun::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// ACT-3: what waits for its turn until the deadline is told not to have begun, and does not begin afterwards either.
    #[test]
    fn what_is_late_never_begins() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        let (release, held) = mpsc::channel::<()>();
        let began = Arc::new(AtomicBool::new(false));
        runtime.block_on(async {
            drop(tokio::task::spawn_blocking(move || held.recv()));
            let mark = Arc::clone(&began);
            let work = move || mark.store(true, Ordering::SeqCst);
            let told = before(Instant::now() + Duration::from_millis(50), work).await;
            assert!(matches!(told, Begun::Not(_)));
            release.send(()).unwrap();
            // Its turn has come and gone once the next one's has.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        });
        assert!(!began.load(Ordering::SeqCst));
    }

    /// ACT-3: what has begun and does not come back is no reason not to answer; what it gives can still be had.
    #[tokio::test]
    async fn what_hangs_is_told_at_the_deadline() {
        let (release, held) = mpsc::channel::<u8>();
        let begun = before(Instant::now() + Duration::from_millis(300), move || held.recv().unwrap()).await;
        let Begun::Hangs(handle) = begun else { panic!("it cannot have come back") };
        release.send(7).unwrap();
        assert_eq!(handle.await.unwrap(), Some(7));
        assert!(matches!(before(Instant::now() + Duration::from_secs(60), || 8).await, Begun::Done(8)));
        assert!(matches!(before(Instant::now(), || 8).await, Begun::Not(_)));
    }
}
