//! The sending side of a transfer.

mod claims;
pub mod driver;
mod open_chunk;
mod parcel;
mod parcel_stream;
mod shared;
mod streams;
