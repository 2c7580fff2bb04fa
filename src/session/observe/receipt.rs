//! What both sides make of a receipt: the receiver signs it, the sender checks it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::auth::{Fingerprint, Receipt, Statement};
use crate::protocol::engine::sender::ReceiverEnd;
use crate::protocol::wire::seal::Seal;
use crate::session::context::Context;
use crate::session::observe::tally::Tally;

/// What one side knows of a transfer that has ended.
pub(in crate::session) struct EndedTransfer<'a> {
    pub(in crate::session) transfer: [u8; 16],
    pub(in crate::session) tally: &'a Tally,
    pub(in crate::session) synced: bool,
    pub(in crate::session) verified: Option<u64>,
}

impl EndedTransfer<'_> {
    fn statement(
        &self,
        sender: Fingerprint,
        receiver: Fingerprint,
        time: u64,
        is_lasting: bool,
    ) -> Option<Statement> {
        let (manifest, bytes) = self.tally.listed()?;
        Some(Statement {
            transfer: self.transfer,
            time: i64::try_from(time).ok()?,
            sender,
            receiver,
            is_lasting,
            files: manifest.files(),
            bytes,
            manifest: manifest.root(),
            synced: self.synced,
            verified: self.verified,
        })
    }
}

/// What the receiver adds to the receipt of `sender`; `None` if none is wanted, or if its key signs none.
pub(in crate::session) fn seal(
    context: &Context,
    sender: Fingerprint,
    ended: &EndedTransfer<'_>,
) -> Option<Seal> {
    let identity = context.identity.as_ref()?;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let statement = ended.statement(sender, identity.fingerprint(), time, identity.is_lasting())?;
    Receipt::sign(statement, identity).map(|receipt| receipt.seal())
}

/// The text of the receipt that `receiver` has signed, if the sender wants one, or why it has none. The signature counts
/// only for what the sender knows itself.
pub(in crate::session) fn checked_receipt(
    context: &Context,
    transfer: [u8; 16],
    receiver: Fingerprint,
    tally: &Tally,
    end: &mut ReceiverEnd,
) -> Option<Result<String, String>> {
    let identity = context.identity.as_ref().filter(|_| context.receipt)?;
    let Some(Seal { time, is_lasting, key, signature }) = end.seal.take() else {
        return Some(Err("it sent none; its key may be of another kind than Ed25519".to_owned()));
    };
    let ended = EndedTransfer { transfer, tally, synced: end.synced, verified: end.verified };
    let Some(statement) = ended.statement(identity.fingerprint(), receiver, time, is_lasting) else {
        return Some(Err("its time is out of range".to_owned()));
    };
    let receipt = Receipt { statement, key, signature };
    Some(receipt.verify().map(|()| receipt.text()).map_err(|error| error.to_string()))
}
