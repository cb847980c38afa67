//! The ends of what was under way: what they bring is put where it belongs, and the keeper
//! hears of it.
//!
//! The token may have gone meanwhile, and its number may be another's: what came for it must
//! not be taken for the other's.

use super::Daemon;
use super::deeds::{Done, Obtained, Stored};
use crate::clock;
use crate::keeper::Ticket;
use crate::lifecycle::{ReauthEnd, ReauthFault, Reauthenticated};
use crate::token_file::StoreFault;

impl Daemon {
    pub(super) fn done(&mut self, done: Done) {
        let now = clock::now();
        self.close_for_quiet(now);
        match done {
            Done::Answered(ticket, answer, new_value) => {
                if let Some((slot, value)) = new_value
                    && self.keeper.expects(ticket)
                    && let Some(kept) = self.roster.token_mut(ticket.token)
                {
                    kept.put(slot, value);
                }
                self.keeper.answered(ticket, answer, now, &mut self.outputs);
            }
            Done::Reauthenticated { ticket, duration, obtained, unkept } => {
                if let Some(fault) = unkept {
                    self.ledger_kept(Err(fault));
                }
                let result = self.weigh(ticket, obtained);
                let end = ReauthEnd { result, duration };
                self.keeper.reauthenticated(ticket, end, now, &mut self.outputs);
                self.look_once_more(ticket.token);
            }
            Done::Stored(ticket, result) => self.stored(ticket, result),
            Done::Looked(looks) => looks.into_iter().for_each(|look| self.looked(look)),
            Done::LedgerKept(result) => self.ledger_kept(result),
            Done::Revoked(revoked) => self.revoked(revoked),
            Done::Loaded(loaded) => self.loaded(*loaded),
        }
        self.perform();
    }

    /// What a re-auth attempt has brought, measured by the value that it was to replace.
    fn weigh(&mut self, ticket: Ticket, obtained: Obtained) -> Reauthenticated {
        let (value, stored) = match obtained {
            Obtained::Value(value) => (value, false),
            Obtained::InSource(Ok(found)) => (found.value, true),
            Obtained::InSource(Err(fault)) => {
                let error = format!("it says that it wrote the token's file, but {fault}").into();
                let fault = ReauthFault { error, exit_status: Some(0), ..ReauthFault::default() };
                return Reauthenticated::Failed(fault);
            }
            Obtained::Nothing(fault) => return Reauthenticated::Failed(fault),
        };
        let spare = self.keeper.spare_slot(ticket.token);
        let Some(kept) = self.roster.token_mut(ticket.token) else {
            return Reauthenticated::SameValue;
        };
        if kept.value(spare.other()) == Some(&value) {
            return Reauthenticated::SameValue;
        }
        if stored {
            kept.in_source = Some(value.clone());
            kept.epoch += 1;
        }
        if self.keeper.expects(ticket) {
            kept.put(spare, value);
        }
        Reauthenticated::NewValue { stored }
    }

    fn stored(&mut self, ticket: Ticket, result: Result<Stored, StoreFault>) {
        let now = clock::now();
        match result {
            Ok(Stored::Written(value)) => {
                if let Some(kept) = self.roster.token_mut(ticket.token)
                    && kept.file().is_some()
                {
                    kept.in_source = Some(value);
                    kept.epoch += 1;
                }
                self.keeper.stored(ticket, Ok(()), now, &mut self.outputs);
            }
            Ok(Stored::SourceChanged(value)) => {
                self.keeper.stored(ticket, Ok(()), now, &mut self.outputs);
                self.offer(ticket.token, value);
            }
            Err(fault) => {
                let error = fault.to_string().into();
                self.keeper.stored(ticket, Err(error), now, &mut self.outputs);
            }
        }
    }
}
