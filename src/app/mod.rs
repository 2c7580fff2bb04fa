//! Builds the parts, runs them, handles signals.

pub mod settings;

use std::sync::Arc;

use self::settings::{Command, Ending};
use crate::event::Reporter;
use crate::protocol::failure::{Failure, Reason};

/// Runs one command to its end.
pub fn run(command: Command, _reporter: Arc<dyn Reporter>) -> Result<Ending, Failure> {
    let name = match command {
        Command::Send(_) => "send",
        Command::Receive(_) => "receive",
        Command::Id(_) => "id",
    };
    Err(Failure::new(Reason::Internal, format!("`{name}` is not joined to the session yet")))
}
