//! The sender as a state machine: which entries are announced, wanted, in flight and acked.

mod action;
mod claims;
mod control;
mod machine;
mod parcels;
mod state;

pub use self::action::{Parcel, ReceiverEnd, SenderAction};
pub use self::machine::Sender;
