//! Queue of control commands. Commands run when no check result is waiting; under sustained load
//! one runs every 4 ms, so checks cannot starve operators.

use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::sync::mpsc;

use super::commands::{Parts, PendingCommands, ValueRequest};
use super::listeners::Listeners;
use crate::control::{self, Command, InheritedSockets};
use crate::event_log::EventLog;
use crate::settings::Control;
use crate::time::Moment;

/// Time between two turns while the loop always has checks to handle. A turn takes a part of a
/// millisecond, so checks lose little of their time.
const TURN: Duration = Duration::from_millis(4);

/// The commands, queries and listeners.
#[derive(Debug)]
pub(crate) struct ControlQueue {
    /// `None` without an interface.
    commands: Option<mpsc::Receiver<Command>>,
    pub(crate) listeners: Listeners,
    pub(super) pending: PendingCommands,
    /// When the next turn is due, even if check results are waiting.
    due: Moment,
}

/// Something to do for a client.
#[derive(Debug)]
pub(crate) enum ControlEvent {
    /// A command.
    Command(Command),
    /// It is known whether a client may read a token's value.
    LookedUp(ValueRequest),
    /// A slice of the queries is due.
    Slice,
}

impl ControlQueue {
    pub(crate) fn new() -> Self {
        Self {
            commands: None,
            listeners: Listeners::default(),
            pending: PendingCommands::new(),
            due: Moment::default(),
        }
    }

    /// Opens the control interface.
    pub(crate) fn open(
        &mut self,
        settings: &Control,
        inherited: InheritedSockets,
        log: &mut EventLog,
    ) {
        let sender = self.connect();
        self.listeners.open(settings, inherited, &sender, log);
    }

    /// A channel for commands.
    pub(crate) fn connect(&mut self) -> mpsc::Sender<Command> {
        let (sender, commands) = control::channel();
        self.commands = Some(commands);
        sender
    }

    /// Waits for the next event. Cancel-safe.
    pub(crate) async fn next(&mut self) -> ControlEvent {
        let Self { commands, pending: PendingCommands { queries, lookups, .. }, .. } = self;
        let command = OptionFuture::from(commands.as_mut().map(mpsc::Receiver::recv));
        tokio::select! {
            biased;
            Some(Ok(request)) = lookups.join_next() => ControlEvent::LookedUp(request),
            Some(Some(command)) = command => ControlEvent::Command(command),
            () = queries.next_slice() => ControlEvent::Slice,
        }
    }

    /// The next event if a turn is due, whatever else the loop has to do.
    pub(crate) fn take_turn(&mut self, now: Moment) -> Option<ControlEvent> {
        if now < self.due {
            return None;
        }
        self.due = now + TURN;
        if let Some(Ok(request)) = self.pending.lookups.try_join_next() {
            return Some(ControlEvent::LookedUp(request));
        }
        let commands = self.commands.as_mut();
        let command = commands.and_then(|commands| commands.try_recv().ok());
        command
            .map(ControlEvent::Command)
            .or_else(|| self.pending.queries.is_due(now).then_some(ControlEvent::Slice))
    }

    /// Handles an event, and then runs a slice of the queries: neither delays the other.
    pub(crate) fn on_event(&mut self, event: ControlEvent, mut parts: Parts<'_>) {
        match event {
            ControlEvent::Command(command) => self.pending.handle_command(command, &mut parts),
            ControlEvent::LookedUp(request) => parts.issue_value(request),
            ControlEvent::Slice => {}
        }
        self.pending.queries.run_slice(&parts.view());
    }
}
