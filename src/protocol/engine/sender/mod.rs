//! The sender as a state machine: which entries are announced, wanted, in flight and acked.

mod action;
mod claims;
mod control;
mod delta;
mod extras;
mod judging;
mod machine;
mod parcels;
mod path;
mod state;

pub use self::action::{Parcel, ReceiverEnd, SenderAction};
pub use self::machine::Sender;
pub use self::path::PathFacts;
