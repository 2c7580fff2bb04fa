//! TLS 1.3 between two keys. A peer is identified by its key; names, dates and issuers in certificates are ignored.

use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    ServerConfig, SignatureScheme,
};

use crate::auth::{Expected, Fingerprint, Identity};

/// The protocol and its version, as TLS negotiates it.
pub const ALPN: &[u8] = b"towline/1";
/// rustls requires a name; it is neither sent nor compared.
pub(crate) const SERVER_NAME: &str = "towline";

/// The fingerprint a dialler found, once the peer has shown its certificate.
pub(crate) type ShownFingerprint = Arc<OnceLock<Fingerprint>>;

/// AES-128-GCM first: it is the fastest, and 128 bits are enough. The key exchange is hybrid first, so that a quantum
/// computer cannot decrypt today's recordings.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    })
}

/// For a dialler that expects `expected`; the key it finds is stored in `found` in any case.
pub(crate) fn client_config(
    identity: &Identity,
    expected: Expected,
    found: ShownFingerprint,
) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier =
        ExpectedListener { expected, found, algorithms: provider.signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(vec![identity.cert().clone()], identity.key().clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// For a listener. Any peer that proves a key is accepted; its fingerprint or secret is checked afterwards.
pub(crate) fn server_config(identity: &Identity) -> Result<ServerConfig, Error> {
    let provider = provider();
    let verifier = AnyKey { algorithms: provider.signature_verification_algorithms };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(vec![identity.cert().clone()], identity.key().clone_key())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Accepts the expected listener, as far as its key shows.
#[derive(Debug)]
struct ExpectedListener {
    expected: Expected,
    found: ShownFingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ExpectedListener {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Fingerprint::of_certificate(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        let _ = self.found.set(found);
        if !self.expected.takes_key(found) {
            // The peer gets `access_denied` from this error.
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Accepts any key, but requires one, and proof that the peer holds it.
#[derive(Debug)]
struct AnyKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Fingerprint::of_certificate(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::quic::{ClientConnection, Connection, ServerConnection, Version};
    use rustls::{CipherSuite, NamedGroup};

    use super::*;
    use crate::auth::Secret;

    /// Passes handshake bytes to and fro until both are done or one refuses; the error names the side.
    fn handshake(
        client: ClientConfig,
        server: ServerConfig,
    ) -> Result<(Connection, Connection), (&'static str, Error)> {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let client = ClientConnection::new(Arc::new(client), Version::V1, name, Vec::new()).unwrap();
        let server = ServerConnection::new(Arc::new(server), Version::V1, Vec::new()).unwrap();
        let (mut client, mut server) = (Connection::from(client), Connection::from(server));
        for _ in 0..16 {
            pass(&mut client, &mut server).map_err(|e| ("server", e))?;
            pass(&mut server, &mut client).map_err(|e| ("client", e))?;
            if !client.is_handshaking() && !server.is_handshaking() {
                return Ok((client, server));
            }
        }
        panic!("the handshake did not end");
    }

    /// Bytes of different keys must not come in one piece, as they never do in QUIC.
    fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), Error> {
        loop {
            let mut bytes = Vec::new();
            let keys = from.write_hs(&mut bytes);
            if bytes.is_empty() && keys.is_none() {
                return Ok(());
            }
            to.read_hs(&bytes)?;
        }
    }

    fn configs() -> (Identity, Identity, ClientConfig, ServerConfig, ShownFingerprint) {
        let (dialler, listener) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let found = ShownFingerprint::default();
        let client = client_config(&dialler, Expected::Key(listener.fingerprint()), found.clone()).unwrap();
        let server = server_config(&listener).unwrap();
        (dialler, listener, client, server, found)
    }

    /// [W-2]
    #[test]
    fn both_are_known_and_the_best_algorithms_are_chosen() {
        let (dialler, listener, client, server, found) = configs();
        let (client, server) = handshake(client, server).unwrap();
        for (end, peer) in [(&client, &listener), (&server, &dialler)] {
            let group = end.negotiated_key_exchange_group().unwrap().name();
            assert_eq!(group, NamedGroup::X25519MLKEM768);
            let suite = end.negotiated_cipher_suite().unwrap().suite();
            assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
            assert_eq!(end.alpn_protocol(), Some(ALPN));
            let shown = Fingerprint::of_certificate(&end.peer_certificates().unwrap()[0]).unwrap();
            assert_eq!(shown, peer.fingerprint());
        }
        assert_eq!(found.get(), Some(&listener.fingerprint()));
        let Connection::Server(server) = server else { unreachable!() };
        assert_eq!(server.server_name(), None, "the name stays at home");
    }

    /// [W-52]
    #[test]
    fn another_key_is_refused_and_named() {
        for whole in [true, false] {
            let (dialler, listener, _, server, found) = configs();
            let expected =
                |key: Fingerprint| if whole { Expected::Key(key) } else { Expected::Head(key.head()) };
            let config = |key| client_config(&dialler, expected(key), found.clone()).unwrap();
            let (side, error) = handshake(config(dialler.fingerprint()), server).err().unwrap();
            assert_eq!(side, "client");
            assert_eq!(error, CertificateError::ApplicationVerificationFailure.into());
            assert_eq!(found.get(), Some(&listener.fingerprint()));
            handshake(config(listener.fingerprint()), server_config(&listener).unwrap()).unwrap();
        }
    }

    #[test]
    fn any_key_is_taken_where_the_handshake_proves_the_rest() {
        let (dialler, listener, _, server, found) = configs();
        let expected = Expected::Secret(Secret::from_bytes([1; 16]));
        let client = client_config(&dialler, expected, found.clone()).unwrap();
        handshake(client, server).unwrap();
        assert_eq!(found.get(), Some(&listener.fingerprint()));
    }

    /// Attack: a certificate is public, and worth nothing without its key.
    /// [W-1]
    #[test]
    fn a_copied_certificate_without_its_key_is_refused() {
        let (dialler, listener, client, server, _) = configs();
        let thief = Identity::generate().unwrap();
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(thief.key()).unwrap();

        let mut forged = server_config(&thief).unwrap();
        let stolen = rustls::sign::CertifiedKey::new(vec![listener.cert().clone()], signer.clone());
        forged.cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
        let (side, error) = handshake(client, forged).err().unwrap();
        assert_eq!((side, error), ("client", CertificateError::BadSignature.into()));

        let mut forged =
            client_config(&thief, Expected::Key(listener.fingerprint()), ShownFingerprint::default())
                .unwrap();
        let stolen = rustls::sign::CertifiedKey::new(vec![dialler.cert().clone()], signer);
        forged.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(stolen));
        let (side, error) = handshake(forged, server).err().unwrap();
        assert_eq!((side, error), ("server", CertificateError::BadSignature.into()));
    }

    /// [W-1]
    #[test]
    fn a_dialler_without_certificate_is_refused() {
        let (_, listener, _, server, _) = configs();
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let verifier = ExpectedListener {
            expected: Expected::Key(listener.fingerprint()),
            found: ShownFingerprint::default(),
            algorithms,
        };
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        client.alpn_protocols = vec![ALPN.to_vec()];
        let (side, error) = handshake(client, server).err().unwrap();
        assert_eq!((side, error), ("server", Error::NoCertificatesPresented));
    }

    #[test]
    fn another_protocol_is_refused() {
        let (_, _, mut client, server, _) = configs();
        client.alpn_protocols = vec![b"towline/2".to_vec()];
        let (side, error) = handshake(client, server).err().unwrap();
        assert_eq!((side, error), ("server", Error::NoApplicationProtocol));
    }
}
