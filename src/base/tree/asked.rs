//! Which keys were asked for, by path; so that a test can compare them with the schema.

use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static ASKED: RefCell<Option<BTreeSet<String>>> = const { RefCell::new(None) };
}

/// Runs `work` and gathers the path of every key that a section of this thread was asked for meanwhile.
pub(crate) fn during<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<String>) {
    ASKED.set(Some(BTreeSet::new()));
    let done = work();
    (done, ASKED.take().unwrap_or_default())
}

pub(super) fn note(path: impl FnOnce() -> String) {
    ASKED.with_borrow_mut(|asked| {
        if let Some(asked) = asked {
            asked.insert(path());
        }
    });
}
