//! The listeners of the control interface: the socket, and the address of page, metrics and health.
//!
//! A listener that cannot be opened is a warning: tokens are kept alive all the same. The address
//! is tried again until it works.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock;
use crate::control::{self, Bound, Command, Interface};
use crate::daemon::notices;
use crate::events::{Fields, Journal, Name, Severity};
use crate::settings::{Control, DEFAULT_SOCKET};
use crate::time::Moment;

/// The group that may read the control socket, if it exists: the package creates it.
pub(crate) const GROUP: &str = "tokenkeep";

/// Time between two attempts to listen on `control.listen`: the address may be absent at boot, or
/// the port in use.
const LISTEN_RETRY: Duration = Duration::from_secs(3);

/// All listeners. They close when the daemon ends.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: Vec<Interface>,
    /// When `control.listen` is tried again, if it could not be listened on.
    retry: Option<(Moment, mpsc::Sender<Command>)>,
    /// `[control]` as of the start: changes need a restart.
    settings: Option<Control>,
}

impl Listeners {
    /// Opens the socket, which systemd may have `inherited` to the daemon, and the address.
    pub(super) fn open(
        &mut self,
        settings: &Control,
        inherited: Option<Bound>,
        sender: &mpsc::Sender<Command>,
        log: &mut Journal,
    ) {
        self.settings = Some(settings.clone());
        self.open_socket(settings, inherited, sender.clone(), log);
        if let Err((listen, error)) = self.listen(sender.clone()) {
            let message = format!(
                "page, metrics and health are not served; trying again every {} s",
                LISTEN_RETRY.as_secs()
            );
            warn(log, &message, &listen.to_string(), &error.to_string());
            self.retry = Some((clock::now() + LISTEN_RETRY, sender.clone()));
        }
    }

    /// When the address is tried again.
    pub(super) fn due(&self) -> Option<Moment> {
        self.retry.as_ref().map(|(due, _)| *due)
    }

    /// Tries the address again, if that is due.
    pub(super) fn retry(&mut self, now: Moment, log: &mut Journal) {
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
        let message = "page, metrics and health are served now";
        notices::log(log, Name::ConfigWarning, Severity::Info, message, fields);
    }

    /// Serves page, metrics and health on the configured address, if there is one.
    fn listen(&mut self, sender: mpsc::Sender<Command>) -> Result<(), (SocketAddr, io::Error)> {
        let Some(settings) = &self.settings else { return Ok(()) };
        let Some(listen) = settings.listen else { return Ok(()) };
        let interface = control::serve_public(listen, settings, sender);
        self.open.push(interface.map_err(|error| (listen, error))?);
        Ok(())
    }

    fn open_socket(
        &mut self,
        settings: &Control,
        inherited: Option<Bound>,
        sender: mpsc::Sender<Command>,
        log: &mut Journal,
    ) {
        let path = &settings.socket;
        let place = path.display().to_string();
        let bound = inherited.map_or_else(|| control::bind(path, GROUP), |bound| Ok((bound, None)));
        let opened = bound.map_err(|error| error.to_string()).and_then(|(bound, remark)| {
            let interface = control::serve(bound, sender).map_err(|error| error.to_string())?;
            Ok((interface, remark))
        });
        match opened {
            Ok((interface, remark)) => {
                self.open.push(interface);
                // With another path the operator has chosen the folder, and who may enter it.
                if let Some(remark) = remark.filter(|_| path == Path::new(DEFAULT_SOCKET)) {
                    let message = "the control socket is not for the group that it is meant for";
                    warn(log, message, &place, &remark);
                }
            }
            Err(error) => warn(
                log,
                "there is no control socket; `tokenkeep status` and the like cannot work",
                &place,
                &error,
            ),
        }
    }
}

fn warn(log: &mut Journal, message: &str, place: &str, error: &str) {
    let fields = Fields { error: Some(error), path: Some(place), ..Fields::default() };
    notices::log(log, Name::ConfigWarning, Severity::Warn, message, fields);
}
