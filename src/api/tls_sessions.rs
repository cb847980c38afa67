//! TLS session cache of one server: what a new connection needs to resume an earlier session, so that
//! neither side verifies a certificate again.
//!
//! A ticket of TLS 1.3 resumes one session. The library's own cache keeps eight, so of 64 connections
//! that are opened at once after an outage, 56 would take a full handshake. This cache grows by one
//! ticket for each connection that found none.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

/// Tickets that are kept while no connection lacked one. Most servers send two for each connection.
const FEWEST_TICKETS: usize = 8;

/// The maximum number of tickets, each about 1 kB larger than the server's certificates.
const MOST_TICKETS: usize = 256;

/// The sessions of a server, and of its proxy if that is reached over TLS.
#[derive(Default)]
pub(super) struct TlsSessions(Mutex<HashMap<ServerName<'static>, Sessions>>);

/// Sessions with one name.
#[derive(Default)]
struct Sessions {
    key_exchange: Option<NamedGroup>,
    /// TLS 1.2: one session can be resumed any number of times.
    tls12: Option<Tls12ClientSessionValue>,
    /// Tickets of TLS 1.3, oldest first.
    tickets: VecDeque<Tls13ClientSessionValue>,
    /// Connections that found no ticket.
    misses: usize,
}

impl TlsSessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, Sessions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for TlsSessions {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.lock().entry(server).or_default().key_exchange = Some(group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().get(server)?.key_exchange
    }

    fn set_tls12_session(&self, server: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.lock().entry(server).or_default().tls12 = Some(session);
    }

    fn tls12_session(&self, server: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().get(server)?.tls12.clone()
    }

    fn remove_tls12_session(&self, server: &ServerName<'static>) {
        if let Some(sessions) = self.lock().get_mut(server) {
            sessions.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut all = self.lock();
        let sessions = all.entry(server).or_default();
        if sessions.tickets.len() >= MOST_TICKETS.min(FEWEST_TICKETS + sessions.misses) {
            sessions.tickets.pop_front();
        }
        sessions.tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut all = self.lock();
        let sessions = all.entry(server.clone()).or_default();
        let newest = sessions.tickets.pop_back();
        if newest.is_none() {
            sessions.misses += 1;
        }
        newest
    }
}

impl fmt::Debug for TlsSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The sessions contain keys.
        f.debug_struct("TlsSessions").finish_non_exhaustive()
    }
}
