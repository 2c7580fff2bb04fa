//! The certificates in `certs/`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{ServerName, UnixTime};

use crate::auth::{Authority, Certified, OwnCertificate};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("certs").join(name)
}

/// A side that trusts `ca`, shows `own` and expects one of `names`.
pub(crate) fn certified(ca: &str, own: Option<&str>, names: &[&'static str]) -> Arc<Certified> {
    let dir = tempfile::tempdir().expect("a directory");
    let own = own.map(|name| {
        // A private copy: git keeps no modes.
        let key = dir.path().join("key.pem");
        std::fs::copy(path(&format!("{name}.key.pem")), &key).expect("a copy");
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("a mode");
        OwnCertificate::load(&path(&format!("{name}.pem")), &key).expect("a certificate")
    });
    let peer_names = names.iter().map(|name| ServerName::try_from(*name).expect("a name")).collect();
    let authority = Authority::load(&path(&format!("{ca}.pem"))).expect("an authority");
    Arc::new(Certified { authority, own, peer_names, clock: UnixTime::now })
}
