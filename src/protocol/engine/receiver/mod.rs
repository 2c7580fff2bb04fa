//! The receiver as a state machine: which entries are announced, wanted, written and committed.

mod action;
mod control;
mod end;
mod lookup;
mod machine;
mod records;
mod state;

pub use self::action::{Begin, Existing, ReceiverAction};
pub use self::machine::Receiver;
