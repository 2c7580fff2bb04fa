//! The protocol without clock, socket or file: vocabulary, codec, and the two state machines.
//!
//! Everything here is a function of its inputs, so that it can be tested by sequences of operations.
//! It imports bytes, blake3 and thiserror, and nothing of this crate; everything else may import it.
//! `docs/protocol.md` is the specification.

pub mod brake;
pub mod codec;
pub mod entry;
pub mod failure;
pub mod limits;
pub mod message;
pub mod not_kept;
mod open_dirs;
pub mod parcel;
pub mod path;
pub mod patience;
pub mod place;
pub mod receiver;
pub mod sender;
pub mod tree;
