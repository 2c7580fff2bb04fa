//! `towline receive --list-partial` and `--discard-partial`: what interrupted transfers have left.

use super::settings::{PartialAction, PartialSettings};
use crate::event::{Event, PartialState, Reporter};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::storage::fs::{discard_partials, list_partials};

/// Lists or removes partial files.
pub(super) fn run(settings: &PartialSettings, reporter: &dyn Reporter) -> Result<u8, Failure> {
    let found = match settings.action {
        PartialAction::List => list_partials(&settings.into),
        PartialAction::Discard(age) => discard_partials(&settings.into, age),
    };
    let found = found.map_err(|error| error.failure(Side::Receiver, Reason::Storage))?;
    for partial in found {
        if matches!(settings.action, PartialAction::Discard(_)) && partial.state == PartialState::InUse {
            let message = format!("{} was not removed: a receiver is using it", partial.path);
            reporter.report(Event::Warning { path: None, reason: None, message });
        }
        reporter.report(Event::Partial(partial));
    }
    Ok(0)
}
