//! What people ask the daemon for: answered within its loop, which alone knows and decides.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Daemon;
use super::beside::{USERS, blocking_among};
use super::deeds::Done;
use super::picture::Picture;
use super::scrape::Scrape;
use super::search::Search;
use super::survey::Look;
use crate::clock;
use crate::control::{
    self, ApiError, ApiErrorKind, BoundSocket, Caller, Command, Health, InheritedSockets,
    IssuedValue, Reply, SOCKET_RETRY, SocketReport, SocketState,
};
use crate::event_log::{EventName, Fields, Severity};
use crate::lifecycle::{OperatorRequest, Validity};
use crate::secret::ValueRef;
use crate::settings::{Control, DEFAULT_SOCKET, Reader};
use crate::time::{Moment, whole_millis};

/// The group that may look, where it is there: the one that the package makes.
pub(crate) const GROUP: &str = "tokenkeep";

/// Time between two attempts to listen on `control.listen`: the address may be absent at boot, or
/// the port taken.
const LISTEN_RETRY: Duration = Duration::from_secs(3);

impl Daemon {
    /// Opens the control interface: on the sockets that systemd has handed over, or on one of its
    /// own, and on the address that is configured. Not being able to is a warning: tokens are
    /// kept alive all the same. Both are tried again until they work.
    pub fn open_control(&mut self, inherited: InheritedSockets) {
        let (sender, commands) = control::channel();
        self.control.commands = Some(commands);
        let InheritedSockets { sockets, listeners, unusable } = inherited;
        for error in unusable {
            self.warn_of_control("a socket that systemd handed over is not served", None, &error);
        }
        self.open_sockets(sockets, &sender);
        for listener in listeners {
            let control = self.control_settings().clone();
            match control::serve_public(listener, &control, sender.clone()) {
                Ok(interface) => self.control.interfaces.push(interface),
                Err(error) => {
                    let message = "a socket that systemd handed over is not served";
                    self.warn_of_control(message, None, &error.to_string());
                }
            }
        }
        if let Err((listen, error)) = self.listen(sender.clone()) {
            let message = format!(
                "page, metrics and health are not served; trying again every {} s",
                LISTEN_RETRY.as_secs()
            );
            self.warn_of_control(&message, Some(&listen.to_string()), &error.to_string());
            self.control.listen_retry = Some((clock::now() + LISTEN_RETRY, sender));
        }
    }

    /// `[control]` as of the start: a reload does not change it.
    fn control_settings(&mut self) -> &Control {
        self.control.settings.get_or_insert_with(|| self.settings.control.clone())
    }

    /// Serves page, metrics and health on the configured address, if there is one.
    fn listen(&mut self, sender: mpsc::Sender<Command>) -> Result<(), (SocketAddr, io::Error)> {
        let control = self.control_settings();
        let Some(listen) = control.listen else { return Ok(()) };
        let interface = control::listen(listen)
            .and_then(|listener| control::serve_public(listener, control, sender));
        self.control.interfaces.push(interface.map_err(|error| (listen, error))?);
        Ok(())
    }

    /// Tries the address again that could not be listened on, if that is due.
    pub(super) fn retry_listen(&mut self, now: Moment) {
        let Some((due, _)) = &self.control.listen_retry else { return };
        if *due > now {
            return;
        }
        let Some((_, sender)) = self.control.listen_retry.take() else { return };
        if self.listen(sender.clone()).is_err() {
            self.control.listen_retry = Some((now + LISTEN_RETRY, sender));
            return;
        }
        let listen = self.control.settings.as_ref().and_then(|control| control.listen);
        let listen = listen.map(|listen| listen.to_string());
        let fields = Fields { path: listen.as_deref(), ..Fields::default() };
        let message = "page, metrics and health are served now";
        self.say(EventName::ConfigWarning, Severity::Info, message, fields);
    }

    fn open_sockets(&mut self, mut sockets: Vec<BoundSocket>, sender: &mpsc::Sender<Command>) {
        let path = self.settings.control.socket.clone();
        let place = path.display().to_string();
        if sockets.is_empty() {
            match control::bind(&path, GROUP) {
                Ok((bound, remark)) => {
                    sockets.push(bound);
                    // Whoever puts it elsewhere has chosen the folder, and who may enter that.
                    if let Some(remark) = remark.filter(|_| path == Path::new(DEFAULT_SOCKET)) {
                        let message =
                            "the control socket is not for the group that it is meant for";
                        self.warn_of_control(message, Some(&place), &remark);
                    }
                }
                Err(fault) => {
                    self.warn_of_no_socket(&place, &fault.to_string());
                    let interface = control::serve_when_available(&path, GROUP, sender.clone());
                    self.control.interfaces.push(interface);
                }
            }
        }
        for bound in sockets {
            match control::serve(bound, GROUP, sender.clone()) {
                Ok(interface) => self.control.interfaces.push(interface),
                Err(error) => self.warn_of_no_socket(&place, &error.to_string()),
            }
        }
    }

    fn warn_of_no_socket(&mut self, place: &str, error: &str) {
        let message = format!(
            "there is no control socket; `tokenkeep status` and the like cannot work; trying \
             again every {} s",
            SOCKET_RETRY.as_secs()
        );
        self.warn_of_control(&message, Some(place), error);
    }

    fn report_socket(&mut self, report: &SocketReport) {
        let path = report.path.display().to_string();
        let (severity, message, error) = match &report.state {
            SocketState::Created => {
                (Severity::Info, "the control socket is served now".to_owned(), None)
            }
            SocketState::Recreated => {
                let message = "the control socket was removed or replaced; it was created again";
                (Severity::Warn, message.to_owned(), None)
            }
            SocketState::Lost(error) => {
                let message = format!(
                    "the control socket was removed or replaced and cannot be created again; \
                     trying again every {} s",
                    SOCKET_RETRY.as_secs()
                );
                (Severity::Warn, message, Some(error.as_str()))
            }
        };
        let fields = Fields { path: Some(&path), error, ..Fields::default() };
        self.say(EventName::ConfigWarning, severity, &message, fields);
    }

    fn warn_of_control(&mut self, message: &str, place: Option<&str>, error: &str) {
        let fields = Fields { error: Some(error), path: place, ..Fields::default() };
        self.say(EventName::ConfigWarning, Severity::Warn, message, fields);
    }

    /// Somebody asks for something. Whoever has gone meanwhile is not answered.
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Act { request: OperatorRequest::Reauth, reply, .. } if self.stopping => {
                drop(reply.send(Err(stopping())));
            }
            Command::Reload { reply, .. } if self.stopping => drop(reply.send(Err(stopping()))),
            Command::Health(reply) => drop(reply.send(Ok(self.health()))),
            Command::List(listing, reply) => {
                if let Some(search) = Search::begin(&listing, reply) {
                    self.control.surveys.add(Look::Search(search));
                }
            }
            Command::Socket(report) => self.report_socket(&report),
            Command::Ping(reply) => drop(reply.send(Ok(()))),
            Command::Metrics { names, reply } => {
                self.control.surveys.add(Look::Scrape(Scrape::begin(names, reply)));
            }
            Command::Dashboard { names, reply } => {
                self.control.surveys.add(Look::Picture(Picture::begin(names, reply)));
            }
            Command::Token(name, reply) => {
                let story = self.roster.id_of(&name).and_then(|id| self.story(id));
                drop(reply.send(story.ok_or_else(|| ApiError::no_token(&name))));
            }
            Command::Act { name, request, caller, reply } => {
                let done = self.act(&name, request, caller);
                let action = (Some(&*name), word(request));
                self.log_action(action, caller, done.as_ref().err());
                self.perform();
                drop(reply.send(done));
            }
            Command::Value { name, caller, reply } => self.value(name, caller, reply),
            Command::Reload { caller, reply } => {
                if caller.may_act() {
                    self.log_action((None, "reload"), caller, None);
                    let number = self.reload();
                    drop(reply.send(Ok(number)));
                } else {
                    let problem = forbidden();
                    self.log_action((None, "reload"), caller, Some(&problem));
                    drop(reply.send(Err(problem)));
                }
            }
            // Whoever may not ask for one must not take up a place for the length of it either.
            Command::ReloadOutcome { caller, reply, .. } if !caller.may_act() => {
                drop(reply.send(Err(forbidden())));
            }
            Command::ReloadOutcome { number, reply, .. } => self.reloads.wait(number, reply),
        }
    }

    fn act(
        &mut self,
        name: &str,
        request: OperatorRequest,
        caller: Caller,
    ) -> Result<(), ApiError> {
        if !caller.may_act() {
            return Err(forbidden());
        }
        let id = self.roster.id_of(name).ok_or_else(|| ApiError::no_token(name))?;
        let asked = self.scheduler.request(id, request, clock::now(), &mut self.outputs);
        asked.map_err(|refusal| ApiError::new(ApiErrorKind::Conflict, refusal.to_string()))
    }

    /// A value is handed to root, the daemon's user and the token's readers; who is one of these
    /// last is looked up beside the loop.
    fn value(&mut self, name: String, caller: Caller, reply: Reply<IssuedValue>) {
        if self.roster.id_of(&name).is_none() {
            // Who may not act is not told which names there are by this path.
            return drop(reply.send(Err(ApiError::no_token(&name))));
        }
        if caller.may_act() {
            return self.hand_out(&name, caller, true, reply);
        }
        let readers = self.readers(&name);
        self.queries.spawn(async move {
            let may = move || caller.is_among(&readers);
            let may = blocking_among(&USERS, may).await;
            Done::Introduced { name, caller, may, reply }
        });
    }

    pub(super) fn hand_out(
        &mut self,
        name: &str,
        caller: Caller,
        may: bool,
        reply: Reply<IssuedValue>,
    ) {
        let result = if may { self.value_of(name) } else { Err(forbidden()) };
        match &result {
            Ok(_) => {
                let fields =
                    Fields { token: Some(name), uid: Some(caller.uid), ..Fields::default() };
                self.say(EventName::ValueRead, Severity::Info, "the value was handed out", fields);
            }
            Err(problem) => self.log_action((Some(name), "value"), caller, Some(problem)),
        }
        drop(reply.send(result));
    }

    /// The value in use, unless it is known to be dead: whoever asks for it would only be refused
    /// by the server.
    fn value_of(&self, name: &str) -> Result<IssuedValue, ApiError> {
        let known = self.roster.id_of(name).and_then(|id| {
            let (token, kept) = (self.scheduler.token(id)?, self.roster.token(id)?);
            Some((token, kept.value(token.active_slot()).map(ValueRef::to_value)))
        });
        let (token, value) = known.ok_or_else(|| ApiError::no_token(name))?;
        let lack = match (token.validity(), value) {
            (Validity::Expired, _) => "the token has expired",
            (Validity::Rejected, _) => "the server has rejected the token, or it was revoked",
            (_, None) => "the token has no value",
            (_, Some(value)) => {
                let verified = token.expiry().is_some_and(|bound| bound > clock::now());
                return Ok(IssuedValue { value, verified });
            }
        };
        let is_coming = token.is_reauthenticating() || token.has_candidate();
        let next = if is_coming { "; a new value is on its way" } else { "" };
        Err(ApiError::new(ApiErrorKind::Conflict, format!("{lack}{next}")))
    }

    fn readers(&self, name: &str) -> Vec<Reader> {
        let kept = self.roster.id_of(name).and_then(|id| self.roster.token(id));
        let Some(kept) = kept else { return Vec::new() };
        let upkeep = if let Some(stock) = kept.stock() {
            self.stocks.by_id.get(&stock).map(|stock| &stock.settings.upkeep)
        } else {
            let tokens = &self.settings.tokens;
            let found = tokens.binary_search_by(|token| token.name.as_str().cmp(name));
            found.ok().map(|index| &tokens[index].upkeep)
        };
        upkeep.map(|upkeep| upkeep.readers.clone()).unwrap_or_default()
    }

    fn log_action(
        &mut self,
        (token, action): (Option<&str>, &str),
        caller: Caller,
        problem: Option<&ApiError>,
    ) {
        let uid = Some(caller.uid);
        let fields = Fields { token, action: Some(action), uid, ..Fields::default() };
        match problem {
            None => {
                let message = format!("user {} asks for: {action}", caller.uid);
                self.say(EventName::ActionRequested, Severity::Info, &message, fields);
            }
            Some(problem) => {
                let fields = Fields { error: Some(&problem.message), ..fields };
                let message = format!("user {} was refused: {action}", caller.uid);
                self.say(EventName::ActionRefused, Severity::Warn, &message, fields);
            }
        }
    }

    fn health(&self) -> Health {
        Health {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: whole_millis(clock::now().since(self.control.since)),
            counts: self.counts(),
            servers: self.server_views(),
            config_rejected: self.config_rejected.clone(),
        }
    }
}

fn forbidden() -> ApiError {
    let message = "only root and the daemon's own user may do that; those whom a token's \
                   `readers` name may fetch its value";
    ApiError::new(ApiErrorKind::Forbidden, message)
}

fn stopping() -> ApiError {
    ApiError::new(ApiErrorKind::Conflict, "tokenkeep is stopping")
}

const fn word(request: OperatorRequest) -> &'static str {
    match request {
        OperatorRequest::Check => "check",
        OperatorRequest::Reauth => "reauth",
        OperatorRequest::Pause => "pause",
        OperatorRequest::Resume => "resume",
        OperatorRequest::Revoke => "revoke",
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::super::desk::tests::attended;
    use super::*;

    #[tokio::test]
    async fn whoever_may_not_act_does_not_wait_for_a_reload_either() {
        let folder = tempfile::tempdir().unwrap();
        let (mut daemon, _sender) = attended(folder.path());
        let number = daemon.reloads.ask().0;
        let mut wait = |caller| {
            let (reply, mut answer) = oneshot::channel();
            daemon.command(Command::ReloadOutcome { number, caller, reply });
            answer.try_recv().ok().map(|answer| answer.map_err(|problem| problem.kind))
        };
        let foreign = Caller { uid: u32::MAX - 1, gid: 0 };
        assert_eq!(wait(foreign), Some(Err(ApiErrorKind::Forbidden)));
        assert_eq!(wait(Caller { uid: 0, gid: 0 }), None, "it has not ended");
    }
}
