//! Peers of the program that are not the program: diallers that nobody knows, and a listener that says nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use data_encoding::BASE32_NOPAD;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

const ALPN: &[u8] = b"towline/1";
/// How long a stranger that fills its windows waits until it takes them for full.
const FULL: Duration = Duration::from_millis(300);
/// The beginning of a `Hello` of 16,384 bytes: as long as a message can be.
const LONG_HELLO: [u8; 5] = [1, 0x80, 0, 0x40, 0];

/// Diallers with a key of their own and nothing else. Needs a tokio runtime.
pub(crate) struct Strangers {
    endpoint: quinn::Endpoint,
    config: quinn::ClientConfig,
    listener: SocketAddr,
}

impl Strangers {
    /// Strangers of one socket that dial `listener`.
    pub(crate) fn of(listener: SocketAddr) -> Self {
        let (certificate, key) = identity();
        let tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider())))
            .with_client_auth_cert(vec![certificate], key);
        let mut tls = tls.expect("a certificate and its key");
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).expect("TLS 1.3");
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a socket");
        Self { endpoint, config, listener }
    }

    /// Dials; `None` when it is refused or ended before its handshake is over.
    pub(crate) async fn dial(&self) -> Option<quinn::Connection> {
        let connecting = self.endpoint.connect_with(self.config.clone(), self.listener, "towline");
        connecting.ok()?.await.ok()
    }

    /// Dials, begins a message that never ends, and fills all windows that it is given; `None` as before.
    pub(crate) async fn dial_and_fill(&self) -> Option<quinn::Connection> {
        let connection = self.dial().await?;
        let control = connection.clone();
        tokio::spawn(async move {
            let Ok((mut send, recv)) = control.open_bi().await else { return };
            let _ = send.write_all(&LONG_HELLO).await;
            let _ = send.write_all(&[0; 16_000]).await;
            control.closed().await;
            drop((send, recv));
        });
        let manifest = connection.clone();
        tokio::spawn(async move {
            let Ok(mut send) = manifest.open_uni().await else { return };
            while send.write_all(&[0; 16 * 1024]).await.is_ok() {}
        });
        tokio::time::sleep(FULL).await;
        Some(connection)
    }
}

/// A listener that takes connections and never says a word, what to dial, and its fingerprint as text. Needs a tokio
/// runtime.
pub(crate) fn silent_listener() -> (quinn::Endpoint, SocketAddr, String) {
    let (certificate, key) = identity();
    let fingerprint = fingerprint(&certificate);
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    let mut tls = tls.expect("a certificate and its key");
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).expect("TLS 1.3");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(config, ([127, 0, 0, 1], 0).into()).expect("a socket");
    let address = endpoint.local_addr().expect("bound");
    (endpoint, address, fingerprint)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn identity() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let parameters = rcgen::CertificateParams::new(vec!["towline".to_owned()]).expect("a name");
    let certificate = parameters.self_signed(&key).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    (certificate.der().clone(), key)
}

/// As `docs/protocol.md` has it. An Ed25519 SubjectPublicKeyInfo is always 44 bytes that begin alike.
fn fingerprint(certificate: &[u8]) -> String {
    const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    let at = certificate.windows(12).position(|bytes| bytes == ED25519).expect("an Ed25519 key");
    let digest = digest::digest(&digest::SHA256, &certificate[at..at + 44]);
    BASE32_NOPAD.encode(digest.as_ref()).to_lowercase()
}

/// Takes every certificate whose key is proved.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
