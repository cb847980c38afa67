//! The listeners of the control interface: the socket, and the address of page, metrics and health.
//!
//! A listener that cannot be opened is a warning: tokens are kept alive all the same. It is tried
//! again until it works.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock;
use crate::control::{
    self, BoundSocket, Command, ControlServer, InheritedSockets, SOCKET_RETRY, SocketReport,
    SocketState,
};
use crate::event_log::{EventLog, EventName, Fields, Severity};
use crate::settings::{Control, DEFAULT_SOCKET};
use crate::time::Moment;

/// The group that may read the control socket, if it exists: the package creates it.
pub(crate) const GROUP: &str = "tokenkeep";

/// Time between two attempts to listen on `control.listen`: the address may be absent at boot, or
/// the port in use.
const LISTEN_RETRY: Duration = Duration::from_secs(3);

const UNUSABLE: &str = "a socket that systemd handed over is not served";

/// All listeners. They close when the daemon ends.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    open: Vec<ControlServer>,
    /// When `control.listen` is tried again, if it could not be listened on.
    retry: Option<(Moment, mpsc::Sender<Command>)>,
    /// `[control]` as of the start: changes need a restart.
    settings: Option<Control>,
}

impl Listeners {
    /// Opens the sockets that systemd has handed over, or a socket of its own, and the address.
    pub(super) fn open(
        &mut self,
        settings: &Control,
        inherited: InheritedSockets,
        sender: &mpsc::Sender<Command>,
        log: &mut EventLog,
    ) {
        self.settings = Some(settings.clone());
        let InheritedSockets { sockets, listeners, unusable } = inherited;
        for error in unusable {
            log.config_warning(UNUSABLE, None, &error);
        }
        self.open_sockets(settings, sockets, sender, log);
        for listener in listeners {
            match control::serve_public(listener, settings, sender.clone()) {
                Ok(interface) => self.open.push(interface),
                Err(error) => log.config_warning(UNUSABLE, None, &error.to_string()),
            }
        }
        if let Err((listen, error)) = self.listen(sender.clone()) {
            let message = format!(
                "page, metrics and health endpoints are not available; retrying every {} s",
                LISTEN_RETRY.as_secs()
            );
            log.config_warning(&message, Some(&listen.to_string()), &error.to_string());
            self.retry = Some((clock::now() + LISTEN_RETRY, sender.clone()));
        }
    }

    /// When the address is tried again.
    pub(crate) fn due(&self) -> Option<Moment> {
        self.retry.as_ref().map(|(due, _)| *due)
    }

    /// Tries the address again, if that is due.
    pub(crate) fn retry(&mut self, now: Moment, log: &mut EventLog) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        let Some((_, sender)) = self.retry.take() else { return };
        if self.listen(sender.clone()).is_err() {
            self.retry = Some((now + LISTEN_RETRY, sender));
            return;
        }
        let listen = self.settings.as_ref().and_then(|control| control.listen);
        let listen = listen.map(|listen| listen.to_string());
        let fields = Fields { path: listen.as_deref(), ..Fields::default() };
        let message = "page, metrics and health endpoints are available now";
        log.event_at(Severity::Info, EventName::ConfigWarning, message, fields);
    }

    /// Serves page, metrics and health on the configured address, if there is one.
    fn listen(&mut self, sender: mpsc::Sender<Command>) -> Result<(), (SocketAddr, io::Error)> {
        let Some(settings) = &self.settings else { return Ok(()) };
        let Some(listen) = settings.listen else { return Ok(()) };
        let interface = control::listen(listen)
            .and_then(|listener| control::serve_public(listener, settings, sender));
        self.open.push(interface.map_err(|error| (listen, error))?);
        Ok(())
    }

    fn open_sockets(
        &mut self,
        settings: &Control,
        mut sockets: Vec<BoundSocket>,
        sender: &mpsc::Sender<Command>,
        log: &mut EventLog,
    ) {
        let path = &settings.socket;
        let place = path.display().to_string();
        if sockets.is_empty() {
            match control::bind(path, GROUP) {
                Ok((bound, remark)) => {
                    sockets.push(bound);
                    // With another path the operator has chosen the folder, and who may enter it.
                    if let Some(remark) = remark.filter(|_| path == Path::new(DEFAULT_SOCKET)) {
                        let message = "the control socket does not belong to the intended group";
                        log.config_warning(message, Some(&place), &remark);
                    }
                }
                Err(error) => {
                    warn_of_no_socket(log, &place, &error.to_string());
                    self.open.push(control::serve_when_available(path, GROUP, sender.clone()));
                }
            }
        }
        for bound in sockets {
            match control::serve(bound, GROUP, sender.clone()) {
                Ok(interface) => self.open.push(interface),
                Err(error) => warn_of_no_socket(log, &place, &error.to_string()),
            }
        }
    }
}

/// Logs that the control socket was created, created again, or lost.
pub(super) fn report_socket(log: &mut EventLog, report: &SocketReport) {
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
                "the control socket was removed or replaced and cannot be created again; trying \
                 again every {} s",
                SOCKET_RETRY.as_secs()
            );
            (Severity::Warn, message, Some(error.as_str()))
        }
    };
    let fields = Fields { path: Some(&path), error, ..Fields::default() };
    log.event_at(severity, EventName::ConfigWarning, &message, fields);
}

fn warn_of_no_socket(log: &mut EventLog, place: &str, error: &str) {
    let message = format!(
        "no control socket; `tokenkeep status` and other commands cannot reach this daemon; retrying \
         every {} s",
        SOCKET_RETRY.as_secs()
    );
    log.config_warning(&message, Some(place), error);
}
