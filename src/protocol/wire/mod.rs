//! The wire format: codec, messages, records, and limits, which are checked before anything is allocated.

pub mod activity;
pub mod attributes;
pub mod codec;
mod decode;
mod encode;
pub mod entry;
pub mod limits;
pub mod message;
pub mod recipe;
pub mod record;
pub mod role;
pub mod seal;
pub mod status;
