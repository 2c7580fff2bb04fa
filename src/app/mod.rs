//! What the commands do: build the parts, run them, handle signals.

mod bench;
mod consent;
mod exec;
mod id;
mod known_path;
mod manifest;
mod meet;
mod moving;
mod on_disk;
mod partial;
mod peers;
mod pki;
mod receipt;
mod receipt_file;
mod receive;
mod remember;
mod run;
mod send;
mod service;
pub mod settings;
mod spool;
mod stay;
mod transfer;
mod unfinished;
mod uses;

pub use self::run::run;
