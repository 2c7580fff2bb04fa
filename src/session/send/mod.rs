//! The sending side of a transfer.

pub mod driver;
mod parcel;
mod shared;
mod streams;
