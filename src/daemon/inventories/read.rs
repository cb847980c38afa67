//! Reads an inventory, and passes on what it lists in parts.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::ControlFlow;

use tokio::sync::mpsc::Sender;
use tokio::time::sleep;

use super::InventoryEvent;
use crate::daemon::tasks::SECOND_READ_DELAY;
use crate::daemon::tasks::blocking::blocking;
use crate::daemon::tokens::InventoryId;
use crate::inventory::{
    Batch, Batches, DuplicatePolicy, InventoryEntry, InventoryError, ReadSummary, read_command,
    read_directory, read_file, read_names,
};
use crate::settings::InventorySource;
use crate::token_source::SourceErrorKind;

/// Reads an inventory, or these files of a directory only.
pub(super) async fn read(
    source: InventorySource,
    names: Option<BTreeSet<OsString>>,
    (id, pass): (InventoryId, u64),
    sender: &Sender<InventoryEvent>,
) -> Result<ReadSummary, InventoryError> {
    let (found, reading) = match (source, names) {
        (InventorySource::Dir(path), Some(names)) => {
            let read = move || {
                let (mut found, mut half_written) = (Batches::default(), false);
                let reading = read_names(&path, &names, &mut |listed| {
                    half_written |= may_be_half_written(&listed);
                    found.add(listed);
                    ControlFlow::Continue(())
                });
                (found, reading, half_written)
            };
            let (mut found, mut reading, half_written) = blocking(read.clone()).await;
            if half_written {
                sleep(SECOND_READ_DELAY).await;
                (found, reading, _) = blocking(read).await;
            }
            (found, reading?)
        }
        (InventorySource::Command { command, timeout, strict }, _) => {
            read_command(&command, timeout, strict).await?
        }
        (source, _) => {
            let sender = sender.clone();
            let pass_on =
                move |part| match sender.blocking_send(InventoryEvent::Part(id, pass, part)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                };
            return blocking(move || read_in_parts(&source, pass_on)).await;
        }
    };
    for part in found {
        // It fails when the daemon ends.
        let _ = sender.send(InventoryEvent::Part(id, pass, part)).await;
    }
    Ok(reading)
}

/// Reads a file or a directory, and passes it on in parts. Blocks. A command has its own reader.
pub(super) fn read_in_parts(
    source: &InventorySource,
    mut pass_on: impl FnMut(Batch) -> ControlFlow<()>,
) -> Result<ReadSummary, InventoryError> {
    let mut part = Batch::default();
    let mut sink = |listed: InventoryEntry<'_>| {
        part.add(listed);
        if part.is_full() { pass_on(std::mem::take(&mut part)) } else { ControlFlow::Continue(()) }
    };
    let end = match source {
        InventorySource::File { path, strict } => {
            read_file(path, *strict, DuplicatePolicy::PassOn, &mut sink)
        }
        InventorySource::Dir(path) => read_directory(path, &mut sink),
        InventorySource::Command { .. } => return Ok(ReadSummary::default()),
    };
    // A receiver that wants no more parts also refuses the last one.
    let _ = pass_on(part);
    end
}

/// Whether a file may be in the middle of being written.
fn may_be_half_written(listed: &InventoryEntry<'_>) -> bool {
    listed.value.as_ref().is_err_and(|error| matches!(error.kind, SourceErrorKind::Empty))
}
