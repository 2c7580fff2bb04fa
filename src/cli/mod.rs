//! From the command line to the work and back to an exit code.

pub mod args;
mod bwlimit;
pub mod config;
mod exit;
pub mod help;
mod log;
pub mod peer;
mod run;
pub mod settings;
mod size;
mod values;

pub use self::run::main;
