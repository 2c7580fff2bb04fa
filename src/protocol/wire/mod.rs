//! What goes over the wire: codec, messages, records, and the limits that are checked before anything is allocated.

pub mod codec;
pub mod entry;
pub mod limits;
pub mod message;
pub mod record;
