//! One attempt to obtain a new value at a time for each name, even where the token was removed
//! and has come again while a command still runs for it.

use std::collections::HashMap;

use tokio::sync::watch;

/// Whose attempts are under way, by name: as many as the keeper lets run at once.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<Box<str>, watch::Receiver<()>>);

/// The place of one attempt in the row of those for its name. It ends with the attempt.
#[derive(Debug)]
pub(super) struct Turn {
    before: Option<watch::Receiver<()>>,
    _end: watch::Sender<()>,
}

impl Turns {
    /// A turn after those for `name` that have not ended.
    pub(super) fn take(&mut self, name: &str) -> Turn {
        self.0.retain(|_, turn| turn.has_changed().is_ok());
        let (end, turn) = watch::channel(());
        Turn { before: self.0.insert(name.into(), turn), _end: end }
    }
}

impl Turn {
    /// Waits until all turns before this one have ended.
    pub(super) async fn comes(&mut self) {
        if let Some(before) = &mut self.before {
            // Nothing is ever sent: it ends with the turn before.
            let _ = before.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn turns_for_a_name_come_one_after_the_other() {
        let mut turns = Turns::default();
        let [mut first, mut second, mut third] = [(); 3].map(|()| turns.take("quotes"));
        assert!(first.comes().now_or_never().is_some());
        assert!(second.comes().now_or_never().is_none());
        drop(first);
        assert!(third.comes().now_or_never().is_none());
        assert!(second.comes().now_or_never().is_some());
        drop(second);
        assert!(third.comes().now_or_never().is_some());
    }

    #[test]
    fn other_names_are_not_waited_for_and_nothing_is_kept_of_ended_turns() {
        let mut turns = Turns::default();
        let _under_way = turns.take("quotes");
        assert!(turns.take("orders").comes().now_or_never().is_some());
        let _next = turns.take("history");
        assert_eq!(turns.0.len(), 2);
    }
}
