//! Locks by key: one re-authentication at a time for each token name, even if the token was removed
//! and added again while a command runs for it, and one write at a time for each file, even if a
//! write hangs.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// The locks in use, by name or path, each with a state for the next owner. A lock that is free
/// and has the default state is dropped.
#[derive(Debug, Default)]
pub(super) struct KeyedLocks<T = ()>(HashMap<Box<OsStr>, Arc<Mutex<T>>>);

/// The lock of one key.
#[derive(Debug, Clone)]
pub(super) struct KeyedLock<T = ()>(Arc<Mutex<T>>);

impl<T: Default + PartialEq> KeyedLocks<T> {
    /// The lock of this key.
    pub(super) fn get(&mut self, key: impl AsRef<OsStr>) -> KeyedLock<T> {
        let is_default = |state: &Mutex<T>| state.try_lock().is_ok_and(|it| *it == T::default());
        self.0.retain(|_, lock| Arc::strong_count(lock) > 1 || !is_default(lock));
        if let Some(known) = self.0.get(key.as_ref()) {
            return KeyedLock(Arc::clone(known));
        }
        let new = Arc::default();
        self.0.insert(key.as_ref().into(), Arc::clone(&new));
        KeyedLock(new)
    }
}

impl<T> KeyedLock<T> {
    /// Waits until the lock is free, and holds it until the guard is dropped.
    pub(super) async fn acquire(self) -> OwnedMutexGuard<T> {
        self.0.lock_owned().await
    }
}

impl<T: Default> KeyedLock<T> {
    /// Resets the state for the next owner, if the lock is free.
    pub(super) fn reset(&self) {
        if let Ok(mut state) = self.0.try_lock() {
            *state = T::default();
        }
    }
}

/// Whether another owner waits for a lock that is held.
pub(super) fn is_awaited<T>(held: &OwnedMutexGuard<T>) -> bool {
    // One reference is that of the table, and one that of the guard.
    Arc::strong_count(OwnedMutexGuard::mutex(held)) > 2
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn owners_of_one_key_take_turns() {
        let mut locks = KeyedLocks::<()>::default();
        let first = locks.get("quotes").acquire().now_or_never().expect("it is free");
        assert!(!is_awaited(&first));
        let second = locks.get("quotes");
        assert!(is_awaited(&first));
        let mut second = Box::pin(second.acquire());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn waiter_that_was_dropped_does_not_free_the_lock() {
        let mut locks = KeyedLocks::<()>::default();
        let first = locks.get("quotes").acquire().now_or_never().expect("it is free");
        assert!(locks.get("quotes").acquire().now_or_never().is_none());
        assert!(locks.get("quotes").acquire().now_or_never().is_none());
        drop(first);
        assert!(locks.get("quotes").acquire().now_or_never().is_some());
    }

    #[test]
    fn other_keys_are_independent_and_free_locks_are_dropped() {
        let mut locks = KeyedLocks::<()>::default();
        let _held = locks.get("quotes").acquire().now_or_never().expect("it is free");
        assert!(locks.get("orders").acquire().now_or_never().is_some());
        let _next = locks.get("history");
        assert_eq!(locks.0.len(), 2);
    }

    #[test]
    fn state_is_kept_for_the_next_owner_until_it_is_reset() {
        let mut locks = KeyedLocks::<Option<u8>>::default();
        let lock = locks.get("quotes");
        *lock.clone().acquire().now_or_never().expect("it is free") = Some(7);
        drop(lock);
        let next = locks.get("quotes");
        assert_eq!(*next.clone().acquire().now_or_never().expect("it is free"), Some(7));
        next.reset();
        drop(next);
        locks.get("orders");
        assert_eq!(locks.0.len(), 1);
    }
}
