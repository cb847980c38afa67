//! Whose turn it is: what people ask for has time as long as checks do, and gets some all the
//! same where these never end.

use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::yield_now;

use super::Daemon;
use super::look::Look;
use super::survey::Surveys;
use crate::clock;
use crate::control::{Command, Interface};
use crate::time::Moment;

/// The daemon's end of the control interface.
#[derive(Debug)]
pub(super) struct Desk {
    /// `None` without an interface.
    pub(super) commands: Option<mpsc::Receiver<Command>>,
    /// They end with the daemon.
    pub(super) interfaces: Vec<Interface>,
    pub(super) surveys: Surveys,
    /// What the page waits for.
    pub(super) look: Option<Look>,
    /// The last task was to go on with a look.
    looked: bool,
    /// When somebody's turn comes, even where the loop has more to do than it can.
    turn: Moment,
    pub(super) since: Moment,
}

/// What there is to be done at the desk.
#[derive(Debug)]
pub(super) enum Task {
    /// What somebody asks for.
    Command(Command),
    /// The next slice of a look at the tokens.
    Look,
}

/// From one turn to the next where the loop always has more urgent things to do. A task takes a
/// part of a millisecond: checks lose little of their time to it.
const TURN: Duration = Duration::from_millis(4);

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            commands: None,
            interfaces: Vec::new(),
            surveys: Surveys::default(),
            look: None,
            looked: false,
            turn: Moment::default(),
            since: clock::now(),
        }
    }

    /// The next thing to be done: while a look at the tokens is to go on, once everything else
    /// that is under way has had its turn.
    pub(super) async fn next(&mut self) -> Task {
        if self.is_looking() {
            yield_now().await;
        }
        if let Some(task) = self.task() {
            return task;
        }
        let command = match &mut self.commands {
            Some(commands) => commands.recv().await,
            None => None,
        };
        match command {
            Some(command) => Task::Command(command),
            None => pending().await,
        }
    }

    /// What is to be done now, if anything is: while looks go on, every other time a command.
    fn task(&mut self) -> Option<Task> {
        let look = self.is_looking();
        self.looked = look && !self.looked;
        if self.looked {
            return Some(Task::Look);
        }
        let command = self.commands.as_mut().and_then(|commands| commands.try_recv().ok());
        command.map(Task::Command).or(look.then_some(Task::Look))
    }

    fn is_looking(&self) -> bool {
        self.surveys.are_under_way() || self.look.is_some()
    }
}

impl Daemon {
    /// Does what there is to be done at the desk.
    pub(super) fn attend(&mut self, task: Task) {
        match task {
            Task::Command(command) => self.command(command),
            Task::Look => self.survey(),
        }
    }

    /// The same after a round, whatever else waits: answers that never end must not keep whoever
    /// asks from one of his own.
    pub(super) fn attend_in_turn(&mut self) {
        if self.woke < self.control.turn {
            return;
        }
        if let Some(task) = self.control.task() {
            self.attend(task);
            self.control.turn = self.woke + TURN;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::super::deeds::Done;
    use super::*;
    use crate::clock::Alarm;
    use crate::control::{Listing, Problem, channel};
    use crate::settings::load;

    /// A daemon of one token, with somebody who asks.
    fn attended(folder: &Path) -> (Daemon, mpsc::Sender<Command>) {
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
            daemon.queries.spawn(async { Done::Looked(Vec::new()) });
            yield_now().await;
            assert!(daemon.round(&mut alarm, pending()).await.unwrap());
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
        let (first, second) = (daemon.control.next().await, daemon.control.next().await);
        assert!(matches!((first, second), (Task::Look, Task::Command(_))));
    }
}
