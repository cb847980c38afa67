//! Whose turn it is: what people ask for has time as long as checks do, and gets some all the
//! same where these never end.

use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock;
use crate::control::{Command, Interface};
use crate::daemon::Daemon;
use crate::daemon::queries::ScanQueue;
use crate::settings::Control;
use crate::time::Moment;

/// From one turn to the next where the loop always has more urgent things to do. What is done
/// in one takes a part of a millisecond: checks lose little of their time to it.
const TURN: Duration = Duration::from_millis(4);

/// The daemon's end of the control interface.
#[derive(Debug)]
pub(crate) struct ControlQueue {
    /// `None` without an interface.
    pub(crate) commands: Option<mpsc::Receiver<Command>>,
    /// They end with the daemon.
    pub(crate) interfaces: Vec<Interface>,
    /// When `control.listen` is tried again, if it could not be listened on.
    pub(crate) listen_retry: Option<(Moment, mpsc::Sender<Command>)>,
    /// `[control]` as of the start.
    pub(crate) settings: Option<Control>,
    pub(crate) surveys: ScanQueue,
    /// When somebody's turn comes, even where the loop has more to do than it can.
    turn: Moment,
    pub(crate) since: Moment,
}

impl ControlQueue {
    pub(crate) fn new() -> Self {
        Self {
            commands: None,
            interfaces: Vec::new(),
            listen_retry: None,
            settings: None,
            surveys: ScanQueue::default(),
            turn: Moment::default(),
            since: clock::now(),
        }
    }

    /// The next thing that somebody asks for; `None` when a look at the tokens is to go on.
    pub(crate) async fn next(&mut self) -> Option<Command> {
        let Self { commands, surveys, .. } = self;
        tokio::select! {
            biased;
            command = asked(commands) => Some(command),
            () = surveys.turn() => None,
        }
    }
}

async fn asked(commands: &mut Option<mpsc::Receiver<Command>>) -> Command {
    let command = match commands {
        Some(commands) => commands.recv().await,
        None => None,
    };
    match command {
        Some(command) => command,
        None => pending().await,
    }
}

impl Daemon {
    /// Does what somebody asks for, and goes on with the looks under way: neither holds up the
    /// other.
    pub(crate) fn attend(&mut self, command: Option<Command>) {
        if let Some(command) = command {
            self.command(command);
        }
        self.survey();
    }

    /// The same after a round, whatever else waits: answers that never end must not keep whoever
    /// asks from one of his own.
    pub(crate) fn attend_in_turn(&mut self) {
        if self.woke >= self.control.turn {
            self.control.turn = self.woke + TURN;
            let commands = self.control.commands.as_mut();
            let command = commands.and_then(|commands| commands.try_recv().ok());
            self.attend(command);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;
    use crate::clock::Alarm;
    use crate::control::{Listing, Problem, channel};
    use crate::daemon::Round;
    use crate::daemon::tasks::Completion;
    use crate::settings::load;

    /// A daemon of one token, with somebody who asks.
    pub(crate) fn attended(folder: &Path) -> (Daemon, mpsc::Sender<Command>) {
        let path = folder.join("tokenkeep.toml");
        let state = folder.join("state");
        let text = format!(
            "state_dir = {state:?}\n[server.s]\nurl = \"http://127.0.0.1:1\"\n\
             [token.t]\nserver = \"s\"\nenv = \"NOWHERE\"\n"
        );
        fs::write(&path, text).unwrap();
        let settings = load(&path, std::iter::empty()).unwrap().settings;
        let mut daemon = Daemon::new(settings, Arc::new(|| unreachable!()), None).unwrap();
        let (sender, commands) = channel();
        daemon.control.commands = Some(commands);
        (daemon, sender)
    }

    /// Has the daemon go round, each time with answers that are there already, until somebody
    /// else's has come.
    async fn saturated<T>(
        daemon: &mut Daemon,
        mut answer: oneshot::Receiver<Result<T, Problem>>,
    ) -> Option<Result<T, Problem>> {
        let mut alarm = Alarm::new().unwrap();
        let end = clock::now() + Duration::from_secs(10);
        while clock::now() < end {
            if let Ok(answer) = answer.try_recv() {
                return Some(answer);
            }
            daemon.queries.spawn(async { Completion::Looked(Vec::new()) });
            yield_now().await;
            assert!(matches!(daemon.round(&mut alarm, pending()).await, Ok(Round::Worked)));
        }
        None
    }

    #[tokio::test]
    async fn whoever_asks_is_answered_even_where_answers_to_checks_never_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut daemon, sender) = attended(folder.path());
        let (reply, answer) = oneshot::channel();
        sender.send(Command::Alive(reply)).await.unwrap();
        assert_eq!(saturated(&mut daemon, answer).await, Some(Ok(())));
    }

    #[tokio::test]
    async fn a_look_at_the_tokens_comes_to_its_end_even_then() {
        let folder = tempfile::tempdir().unwrap();
        let (mut daemon, sender) = attended(folder.path());
        let (reply, answer) = oneshot::channel();
        sender.send(Command::List(Listing::default(), reply)).await.unwrap();
        let page = saturated(&mut daemon, answer).await.expect("an answer").unwrap();
        assert_eq!(page.tokens.len(), 1);
    }

    #[tokio::test]
    async fn a_command_does_not_wait_for_the_end_of_all_looks() {
        let folder = tempfile::tempdir().unwrap();
        let (mut daemon, sender) = attended(folder.path());
        let (looks, _answers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
        for reply in looks {
            daemon.command(Command::List(Listing::default(), reply));
        }
        let (reply, _answer) = oneshot::channel();
        sender.send(Command::Alive(reply)).await.unwrap();
        assert!(matches!(daemon.control.next().await, Some(Command::Alive(_))));
        assert!(daemon.control.next().await.is_none(), "a look goes on");
    }
}
