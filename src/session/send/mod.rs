//! The sending side of a transfer.

pub mod driver;
mod open_chunk;
mod parcel;
mod shared;
mod stream;
mod streams;
