//! Certificates of an organisation, from PEM files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{RootCertStore, SignatureScheme};

use super::identity::{IdentityError, check_mode};
use crate::protocol::path::printable;
use crate::protocol::wire::limits::AUTH_BYTES_MAX;

/// Certificates that one side shows: its own, and those between that and the authority.
pub(super) const CERTIFICATES_MAX: usize = 8;
/// Bytes beside the certificates in what one side shows: the scheme, the length of each part, and room for the longest
/// signature (RSA with 8192 bits).
const AROUND_BYTES_MAX: usize = 2 + 2 * (1 + CERTIFICATES_MAX) + 1024;
/// Maximum bytes of a file with certificates or a key.
const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// Signatures that this side makes, those of TLS 1.3.
const SCHEMES: [SignatureScheme; 7] = [
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
];

/// Why the certificates of an organisation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFileError {
    /// A system call failed.
    #[error("cannot read {}: {cause}", shown(path))]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// Group or others have rights on the key file.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// The content is not what it should be.
    #[error("{}: {what}", shown(path))]
    Content {
        /// The file.
        path: PathBuf,
        /// The problem.
        what: String,
    },
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_encoded_bytes())
}

/// Vouches for certificates. Cheap to clone.
#[derive(Clone)]
pub struct Authority {
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Authority {
    /// Loads the certificates of authorities in a PEM file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or has no certificate of an authority.
    pub fn load(path: &Path) -> Result<Self, CertificateFileError> {
        let content = |what: String| CertificateFileError::Content { path: path.to_owned(), what };
        let (mut roots, provider) = (RootCertStore::empty(), Arc::new(default_provider()));
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|e| content(format!("an authority cannot be used: {e}")))?;
        }
        let (roots, algorithms) = (Arc::new(roots), provider.signature_verification_algorithms);
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let clients = WebPkiClientVerifier::builder_with_provider(roots, provider);
        Ok(Self {
            servers: servers.build().map_err(|e| content(e.to_string()))?,
            clients: clients.build().map_err(|e| content(e.to_string()))?,
            algorithms,
        })
    }

    pub(super) fn servers(&self) -> &WebPkiServerVerifier {
        &self.servers
    }

    pub(super) fn clients(&self) -> &dyn ClientCertVerifier {
        &*self.clients
    }

    pub(super) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }
}

/// The certificate of this side, and its key. Cheap to clone.
#[derive(Clone)]
pub struct OwnCertificate(Arc<CertifiedKey>);

impl OwnCertificate {
    /// Loads a certificate, perhaps followed by those between it and the authority, and its key (PKCS#8, SEC1 or PKCS#1),
    /// which only its owner may read.
    ///
    /// # Errors
    ///
    /// A file cannot be read, others can read the key, the two do not match, or the certificates are too many to be
    /// shown.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateFileError> {
        let chain = certificates(certificate)?;
        let bytes: usize = chain.iter().map(|one| one.len()).sum();
        if chain.len() > CERTIFICATES_MAX || bytes > AUTH_BYTES_MAX - AROUND_BYTES_MAX {
            let what = format!(
                "it has {} certificates in {bytes} bytes, and a side shows at most {CERTIFICATES_MAX} in {} bytes: \
                 leave out those that the other side has, such as that of the authority",
                chain.len(),
                AUTH_BYTES_MAX - AROUND_BYTES_MAX,
            );
            return Err(CertificateFileError::Content { path: certificate.to_owned(), what });
        }
        let content = |what: String| CertificateFileError::Content { path: key.to_owned(), what };
        let io = |cause| CertificateFileError::Io { path: key.to_owned(), cause };
        let file = File::open(key).map_err(io)?;
        check_mode(&file, key)?;
        let pem = read(file, key)?;
        let private = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|_| content("there is no private key in it (PEM: PKCS#8, SEC1 or PKCS#1)".to_owned()))?;
        let signer =
            any_supported_type(&private).map_err(|e| content(format!("the key cannot be used: {e}")))?;
        if signer.choose_scheme(&SCHEMES).is_none() {
            return Err(content("keys of this kind cannot be used".to_owned()));
        }
        let own = CertifiedKey::new(chain, signer);
        match own.keys_match() {
            Ok(()) => Ok(Self(Arc::new(own))),
            Err(_) => Err(content(format!("it is not the key of the certificate in {}", shown(certificate)))),
        }
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }

    /// The signature over `message`; none if the system has no random numbers.
    pub(super) fn sign(&self, message: &[u8]) -> Option<(SignatureScheme, Vec<u8>)> {
        let signer = SigningKey::choose_scheme(&*self.0.key, &SCHEMES)?;
        Some((signer.scheme(), signer.sign(message).ok()?))
    }
}

/// All certificates in a PEM file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateFileError> {
    let file = File::open(path).map_err(|cause| CertificateFileError::Io { path: path.to_owned(), cause })?;
    let pem = read(file, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(|| {
        let what = "there is no certificate in it (PEM)".to_owned();
        CertificateFileError::Content { path: path.to_owned(), what }
    })
}

fn read(file: File, path: &Path) -> Result<Vec<u8>, CertificateFileError> {
    let io = |cause| CertificateFileError::Io { path: path.to_owned(), cause };
    let mut pem = Vec::new();
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut pem).map_err(io)?;
    if pem.len() as u64 > PEM_BYTES_MAX {
        return Err(io(io::Error::other(format!("it is larger than {PEM_BYTES_MAX} bytes"))));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_are_too_many_to_be_shown_are_refused_by_name() {
        let temp = tempfile::tempdir().unwrap();
        let certs = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs");
        let one = std::fs::read_to_string(certs.join("leaf.pem")).unwrap();
        let (chain, key) = (temp.path().join("chain.pem"), temp.path().join("key.pem"));
        std::fs::copy(certs.join("leaf.key.pem"), &key).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, private).unwrap();
        let load = |certificates| {
            std::fs::write(&chain, one.repeat(certificates)).unwrap();
            OwnCertificate::load(&chain, &key).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(load(CERTIFICATES_MAX), Ok(()));
        let refused = load(CERTIFICATES_MAX + 1).unwrap_err();
        assert!(refused.contains("chain.pem: it has 9 certificates"), "{refused}");
    }
}
