//! The key of a host, and its file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use etcetera::BaseStrategy;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::{Zeroize, Zeroizing};

use super::Fingerprint;

/// Maximum bytes of an identity file.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Environment variable for the path of the identity file.
const PATH_VARIABLE: &str = "TOWLINE_IDENTITY";

/// A private key (Ed25519 when made here) and its self-signed certificate.
pub struct Identity {
    cert: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    fingerprint: Fingerprint,
    /// It is kept in a file.
    is_lasting: bool,
}

/// Why no identity can be used, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Neither `$TOWLINE_IDENTITY` nor `$XDG_CONFIG_HOME` nor a home directory.
    #[error("there is no home directory for the identity; set {PATH_VARIABLE} to a path")]
    NoHome,
    /// A system call failed.
    #[error("cannot {op} the identity {}: {source}{}", path.display(), hint(source))]
    Io {
        /// The operation: `read`, `write`, …
        op: &'static str,
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Group or others have rights on the key file.
    #[error("other users can read the key in {p} (mode {mode:04o}); fix it with: chmod 600 {p}", p = path.display())]
    OthersCanRead {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file has no usable key and certificate.
    #[error("{}: {what}; restore it from a copy, or make a new identity", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem.
        what: String,
    },
    /// The cryptographic library failed.
    #[error("cannot make a key: {0}")]
    Generate(String),
}

impl IdentityError {
    /// Whether there is no usable default place for an identity, and none was given.
    pub fn is_for_want_of_a_place(&self) -> bool {
        match self {
            Self::NoHome => true,
            Self::Io { .. } => std::env::var_os(PATH_VARIABLE).is_none_or(|path| path.is_empty()),
            Self::OthersCanRead { .. } | Self::Malformed { .. } | Self::Generate(_) => false,
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (TOWLINE_IDENTITY names another place)",
        _ => "",
    }
}

/// The path of this host's identity: `$TOWLINE_IDENTITY`, else `towline/identity.pem` in `$XDG_CONFIG_HOME` or
/// `~/.config`.
///
/// # Errors
///
/// [`IdentityError::NoHome`].
pub fn default_path() -> Result<PathBuf, IdentityError> {
    if let Some(path) = std::env::var_os(PATH_VARIABLE).filter(|p| !p.is_empty()) {
        return Ok(path.into());
    }
    let strategy = etcetera::choose_base_strategy().map_err(|_| IdentityError::NoHome)?;
    Ok(strategy.config_dir().join("towline").join("identity.pem"))
}

impl Identity {
    /// Generates an identity that is not saved.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Generate`].
    pub fn generate() -> Result<Self, IdentityError> {
        let (key, cert) = generate()?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|e| IdentityError::Generate(e.to_string()))?;
        Self::new(cert.der().clone(), key, false).map_err(IdentityError::Generate)
    }

    /// Loads the identity in `path`; makes one if there is none. Two processes at once get the same one.
    ///
    /// # Errors
    ///
    /// As [`Identity::load`], and [`IdentityError::Io`] when the file cannot be written.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        // Unlike a rename, a hard link does not replace a file made by another process meanwhile.
        write_new(path, |temp| match fs::hard_link(temp, path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        })?;
        Self::load(path)
    }

    /// Loads the identity in `path`: a PEM file with one private key and one certificate, accessible to its owner
    /// only.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Io`], [`IdentityError::OthersCanRead`], [`IdentityError::Malformed`].
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let io = |source| IdentityError::Io { op: "read", path: path.to_owned(), source };
        let malformed =
            |what: &str| IdentityError::Malformed { path: path.to_owned(), what: what.to_owned() };
        let file = File::open(path).map_err(io)?;
        check_mode(&file, path)?;
        let mut pem = Zeroizing::new(Vec::new());
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut pem).map_err(io)?;
        if pem.len() as u64 > FILE_BYTES_MAX {
            return Err(malformed("the file is too large for an identity"));
        }
        let key =
            PrivateKeyDer::from_pem_slice(&pem).map_err(|_| malformed("the file has no private key"))?;
        let cert =
            CertificateDer::from_pem_slice(&pem).map_err(|_| malformed("the file has no certificate"))?;
        Self::new(cert, key, true).map_err(|what| malformed(&what))
    }

    /// Replaces the identity at `path` by a new one.
    ///
    /// # Errors
    ///
    /// As [`Identity::load_or_create`].
    pub fn replace(path: &Path) -> Result<Self, IdentityError> {
        write_new(path, |temp| fs::rename(temp, path))?;
        Self::load(path)
    }

    /// The certificate with the key.
    pub fn cert(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    /// The private key.
    pub fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    /// The fingerprint of the key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether it is kept, so that peers can know it again.
    pub fn is_lasting(&self) -> bool {
        self.is_lasting
    }

    fn new(
        cert: CertificateDer<'static>,
        key: PrivateKeyDer<'static>,
        is_lasting: bool,
    ) -> Result<Self, String> {
        let fingerprint = Fingerprint::of_certificate(&cert).map_err(|e| e.to_string())?;
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|e| format!("the private key cannot be used: {e}"))?;
        CertifiedKey::new(vec![cert.clone()], signer)
            .keys_match()
            .map_err(|_| "the private key and the certificate do not match".to_owned())?;
        Ok(Self { cert, key, fingerprint, is_lasting })
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        let Self { cert, key, fingerprint, is_lasting } = self;
        Self { cert: cert.clone(), key: key.clone_key(), fingerprint: *fingerprint, is_lasting: *is_lasting }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.fingerprint)
    }
}

fn generate() -> Result<(rcgen::KeyPair, rcgen::Certificate), IdentityError> {
    let error = |e: rcgen::Error| IdentityError::Generate(e.to_string());
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(error)?;
    // Peers only check the key. rcgen's dates (1975 to 4096) satisfy tools that check dates.
    let mut params = rcgen::CertificateParams::new(vec!["towline".to_owned()]).map_err(error)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "towline");
    let cert = params.self_signed(&key).map_err(error)?;
    Ok((key, cert))
}

/// Refuses a key that others may read, because they may know it already.
#[cfg(unix)]
pub(super) fn check_mode(file: &File, path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt;
    let metadata =
        file.metadata().map_err(|source| IdentityError::Io { op: "read", path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::OthersCanRead { path: path.to_owned(), mode });
    }
    Ok(())
}

/// On other systems, the directory's access list protects the file.
#[cfg(not(unix))]
pub(super) fn check_mode(_file: &File, _path: &Path) -> Result<(), IdentityError> {
    Ok(())
}

/// Writes a new identity next to `path`, complete and for its owner only, and moves it there by `place`.
fn write_new(path: &Path, place: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), IdentityError> {
    let (key, cert) = generate()?;
    let pem = Zeroizing::new(format!("{}{}", &*Zeroizing::new(key.serialize_pem()), cert.pem()));
    let io = |source| IdentityError::Io { op: "write", path: path.to_owned(), source };
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    create_dir(dir).map_err(|source| IdentityError::Io {
        op: "make the directory of",
        path: path.to_owned(),
        source,
    })?;
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).map_err(|e| IdentityError::Generate(e.to_string()))?;
    let temp = dir.join(format!(".identity-{}.tmp", HEXLOWER.encode(&unique)));
    let written = write_private(&temp, pem.as_bytes()).and_then(|()| place(&temp));
    // After a rename it is gone already; after a link or a failure it must be removed.
    let _ = fs::remove_file(&temp);
    written.map_err(io)?;
    #[cfg(unix)]
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn create_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn it_is_made_once_private_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/identity.pem");
        let made = Identity::load_or_create(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(Identity::load_or_create(&path).unwrap().fingerprint(), made.fingerprint());
        let replaced = Identity::replace(&path).unwrap();
        assert_ne!(replaced.fingerprint(), made.fingerprint());
        assert_eq!(mode(&path), 0o600);
        assert_eq!(Identity::load(&path).unwrap().fingerprint(), replaced.fingerprint());
        let names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["identity.pem"], "nothing else is left behind");
    }

    /// The file format and the input of the fingerprint are stable.
    #[test]
    fn an_identity_from_before_keeps_its_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.pem");
        write_private(&path, include_bytes!("../../certs/identity.pem")).unwrap();
        let pinned: Fingerprint = include_str!("../../certs/identity.fingerprint").parse().unwrap();
        assert_eq!(Identity::load_or_create(&path).unwrap().fingerprint(), pinned);
    }

    #[test]
    fn many_at_once_end_with_one_identity() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.pem");
        let barrier = std::sync::Barrier::new(8);
        let mut found: Vec<Fingerprint> = std::thread::scope(|scope| {
            let make = || {
                barrier.wait();
                Identity::load_or_create(&path).unwrap().fingerprint()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        found.dedup();
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.pem");
        Identity::load_or_create(&path).unwrap();
        for bad in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bad)).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err();
            assert!(matches!(error, IdentityError::OthersCanRead { mode, .. } if mode == bad));
            assert!(error.to_string().ends_with(&format!("chmod 600 {}", path.display())), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        Identity::load(&path).unwrap();
    }

    #[test]
    fn a_broken_file_is_named_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("identity.pem"), dir.path().join("other.pem"));
        Identity::load_or_create(&path).unwrap();
        Identity::load_or_create(&other).unwrap();
        let (pem, pem_other) = (fs::read_to_string(&path).unwrap(), fs::read_to_string(&other).unwrap());
        let begin = "-----BEGIN CERTIFICATE";
        let (key, cert) = pem.split_at(pem.find(begin).unwrap());
        let mixed = format!("{key}{}", &pem_other[pem_other.find(begin).unwrap()..]);
        let large = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
        let cases = [
            ("", "no private key"),
            (key, "no certificate"),
            (cert, "no private key"),
            (&mixed, "do not match"),
            (&large, "too large"),
        ];
        for (content, what) in cases {
            fs::write(&path, content).unwrap();
            let error = Identity::load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains(what) && error.contains(path.to_str().unwrap()), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Identity::load(&dir.path().join("none.pem")).unwrap_err();
        assert!(error.to_string().contains("none.pem: "), "{error}");
    }

    #[test]
    fn the_private_key_is_not_in_debug_output() {
        let identity = Identity::generate().unwrap();
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.fingerprint()));
        assert_eq!(identity.clone().fingerprint(), identity.fingerprint());
    }
}
