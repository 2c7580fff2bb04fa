//! The sender as a state machine: what has been announced, what is wanted, what is on the way, what is acked.

mod action;
mod control;
mod machine;
mod parcels;
mod state;

pub use self::action::{Parcel, ReceiverEnd, SenderAction};
pub use self::machine::Sender;
