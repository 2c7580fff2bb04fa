//! The receiving side of a transfer.

pub mod driver;
mod parcel;
