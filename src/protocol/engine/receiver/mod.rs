//! The receiver as a state machine: which entries are announced, wanted, written and committed.

mod action;
mod checkpoints;
mod claims;
mod control;
mod end;
mod extras;
mod lookup;
mod machine;
mod old_files;
mod records;
mod removing;
mod state;
mod unrecorded;

pub use self::action::{Begin, BeginClaim, Existing, ReceiverAction};
pub use self::machine::Receiver;
