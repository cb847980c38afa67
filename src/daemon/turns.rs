//! One at a time: attempts at a new value for one name, even where the token was removed and has
//! come again while a command still runs for it, and writes of one file, even where an earlier
//! one hangs.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// What is under way, by name or path: no more than the keeper lets run at once.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<Box<OsStr>, Weak<Mutex<()>>>);

/// The wish to be the only one at something.
#[derive(Debug)]
pub(super) struct Turn(Arc<Mutex<()>>);

impl Turns {
    /// A turn at what is called `name`.
    pub(super) fn take(&mut self, name: impl AsRef<OsStr>) -> Turn {
        self.0.retain(|_, turn| turn.strong_count() > 0);
        let known = self.0.get(name.as_ref()).and_then(Weak::upgrade);
        Turn(known.unwrap_or_else(|| {
            let new = Arc::default();
            self.0.insert(name.as_ref().into(), Arc::downgrade(&new));
            new
        }))
    }
}

impl Turn {
    /// Waits until nobody else is at it, and nobody will be until the guard is dropped.
    pub(super) async fn comes(self) -> OwnedMutexGuard<()> {
        self.0.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn turns_at_a_name_come_one_after_the_other() {
        let mut turns = Turns::default();
        let [first, second] = [(); 2].map(|()| turns.take("quotes"));
        let first = first.comes().now_or_never().expect("it is the first");
        let mut second = Box::pin(second.comes());
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    #[test]
    fn who_has_stopped_waiting_lets_nobody_past_the_one_before() {
        let mut turns = Turns::default();
        let first = turns.take("quotes").comes().now_or_never().expect("it is the first");
        assert!(turns.take("quotes").comes().now_or_never().is_none());
        assert!(turns.take("quotes").comes().now_or_never().is_none());
        drop(first);
        assert!(turns.take("quotes").comes().now_or_never().is_some());
    }

    #[test]
    fn other_names_are_not_waited_for_and_nothing_is_kept_of_ended_turns() {
        let mut turns = Turns::default();
        let _under_way = turns.take("quotes").comes().now_or_never().expect("it is the first");
        assert!(turns.take("orders").comes().now_or_never().is_some());
        let _next = turns.take("history");
        assert_eq!(turns.0.len(), 2);
    }
}
