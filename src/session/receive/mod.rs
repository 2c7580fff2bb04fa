//! The receiving side of a transfer.

mod asking;
mod claims;
pub mod driver;
mod extras;
mod flush;
mod jobs;
pub mod offer;
mod packed;
mod parcel;
mod program;
mod recipe;
mod shared;
mod signature;
mod streams;
