//! `towline id`: this machine's identity.

use tracing::info;

use super::settings::{IdAction, IdSettings};
use crate::auth::{Identity, IdentityError, default_path};
use crate::event::{Event, Reporter};
use crate::protocol::failure::{Failure, Reason};

/// Shows the identity, or makes a new one.
pub(super) fn run(settings: &IdSettings, reporter: &dyn Reporter) -> Result<u8, Failure> {
    let path = default_path().map_err(|e| identity_failure(&e))?;
    let (identity, is_new) = match settings.action {
        IdAction::Show => {
            let is_new = !path.exists();
            (Identity::load_or_create(&path), is_new)
        }
        IdAction::New => (Identity::replace(&path), true),
    };
    let identity = identity.map_err(|e| identity_failure(&e))?;
    reporter.report(Event::Identity { fingerprint: identity.fingerprint().to_string(), path, is_new });
    Ok(0)
}

/// This machine's identity, made when first needed. If it cannot be stored and the peer does not depend on it, a key
/// for this run is used.
pub(super) fn own(is_known_by_it: bool) -> Result<Identity, Failure> {
    let identity = default_path().and_then(|path| Identity::load_or_create(&path));
    let identity = match identity {
        Err(error) if !is_known_by_it && error.is_for_want_of_a_place() => {
            info!(%error, "no identity file can be made: using a key for this run");
            Identity::generate()
        }
        other => other,
    };
    identity.map_err(|e| identity_failure(&e))
}

pub(super) fn identity_failure(error: &IdentityError) -> Failure {
    Failure::new(Reason::Setup, error.to_string())
}
