//! The sending side of a transfer.

mod announce;
mod answer;
mod chunk;
mod claims;
pub mod driver;
mod file_handle;
mod job;
mod judging;
mod level;
mod old_file;
mod open_chunk;
mod packing;
mod parcel;
mod parcel_stream;
mod path;
mod shared;
mod streams;
