//! New values: what a re-auth attempt has brought, and what came of storing it.

use super::Daemon;
use super::deeds::{Obtained, Stored};
use crate::clock;
use crate::keeper::Ticket;
use crate::lifecycle::{ReauthFault, Reauthenticated};
use crate::token_file::StoreFault;

impl Daemon {
    /// What a re-auth attempt has brought, measured by the value that it was to replace.
    pub(super) fn weigh(&mut self, ticket: Ticket, obtained: Obtained) -> Reauthenticated {
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

    pub(super) fn stored(&mut self, ticket: Ticket, result: Result<Stored, StoreFault>) {
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
