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
    /// A file cannot be read, others can read the key, or the two do not match.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, CertificateFileError> {
        let chain = certificates(certificate)?;
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
