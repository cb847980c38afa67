//! One at a time: attempts at a new value for one name, even where the token was removed and has
//! come again while a command still runs for it, and writes of one file, even where an earlier
//! one hangs.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// What is under way, by name or path, each with what the next one has to know of it. No more
/// than the keeper lets run at once, and those of which something is to be known.
#[derive(Debug, Default)]
pub(crate) struct KeyedLocks<T = ()>(HashMap<Box<OsStr>, Arc<Mutex<T>>>);

/// The wish to be the only one at something.
#[derive(Debug, Clone)]
pub(crate) struct KeyedLock<T = ()>(Arc<Mutex<T>>);

impl<T: Default + PartialEq> KeyedLocks<T> {
    /// A turn at what is called `name`.
    pub(crate) fn take(&mut self, name: impl AsRef<OsStr>) -> KeyedLock<T> {
        let is_nothing = |known: &Mutex<T>| known.try_lock().is_ok_and(|it| *it == T::default());
        self.0.retain(|_, turn| Arc::strong_count(turn) > 1 || !is_nothing(turn));
        if let Some(known) = self.0.get(name.as_ref()) {
            return KeyedLock(Arc::clone(known));
        }
        let new = Arc::default();
        self.0.insert(name.as_ref().into(), Arc::clone(&new));
        KeyedLock(new)
    }
}

impl<T> KeyedLock<T> {
    /// Waits until nobody else is at it, and nobody will be until the guard is dropped.
    pub(crate) async fn comes(self) -> OwnedMutexGuard<T> {
        self.0.lock_owned().await
    }
}

impl<T: Default> KeyedLock<T> {
    /// The next one has to know nothing, if nobody is at it.
    pub(crate) fn forget(&self) {
        if let Ok(mut known) = self.0.try_lock() {
            *known = T::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn turns_at_a_name_come_one_after_the_other() {
        let mut turns = KeyedLocks::<()>::default();
        let [first, second] = [(); 2].map(|()| turns.take("quotes"));
        let first = first.comes().now_or_never().expect("it is the first");
        let mut second = Box::pin(second.comes());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn who_has_stopped_waiting_lets_nobody_past_the_one_before() {
        let mut turns = KeyedLocks::<()>::default();
        let first = turns.take("quotes").comes().now_or_never().expect("it is the first");
        assert!(turns.take("quotes").comes().now_or_never().is_none());
        assert!(turns.take("quotes").comes().now_or_never().is_none());
        drop(first);
        assert!(turns.take("quotes").comes().now_or_never().is_some());
    }

    #[test]
    fn other_names_are_not_waited_for_and_nothing_is_kept_of_ended_turns() {
        let mut turns = KeyedLocks::<()>::default();
        let _under_way = turns.take("quotes").comes().now_or_never().expect("it is the first");
        assert!(turns.take("orders").comes().now_or_never().is_some());
        let _next = turns.take("history");
        assert_eq!(turns.0.len(), 2);
    }

    #[test]
    fn what_the_next_one_has_to_know_is_kept_until_it_is_forgotten() {
        let mut turns = KeyedLocks::<Option<u8>>::default();
        let turn = turns.take("quotes");
        *turn.clone().comes().now_or_never().expect("it is the first") = Some(7);
        drop(turn);
        let next = turns.take("quotes");
        assert_eq!(*next.clone().comes().now_or_never().expect("it is the only one"), Some(7));
        next.forget();
        drop(next);
        turns.take("orders");
        assert_eq!(turns.0.len(), 1);
    }
}
