//! The receiver as a state machine: what has been announced, what is wanted of it, what is written, what has its
//! final name.

mod action;
mod control;
mod end;
mod lookup;
mod machine;
mod records;
mod state;

pub use self::action::{Begin, Existing, ReceiverAction};
pub use self::machine::Receiver;
