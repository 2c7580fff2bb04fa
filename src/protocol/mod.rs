//! The protocol without clock, socket or file: vocabulary, codec, and the two state machines.
//!
//! Everything here is a function of its inputs, so that it can be tested by sequences of operations.
//! It imports bytes, blake3 and thiserror, and nothing of this crate; everything else may import it.
//! `docs/protocol.md` is the specification.

pub mod announced;
pub mod delta;
pub mod engine;
pub mod failure;
pub mod final_name;
pub mod hash;
pub mod manifest_root;
pub mod not_kept;
pub mod path;
pub mod place;
pub mod planned;
pub mod program_end;
pub mod removal;
pub mod request;
pub mod wire;
