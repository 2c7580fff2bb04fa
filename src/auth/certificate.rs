//! The method of certificates: each side shows one that an authority vouches for, and signs the TLS session with its key.
//! The dialler shows its own first.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::EndEntityCert;

use super::Expected;
use super::certificate_files::{Authority, CERTIFICATES_MAX, OwnCertificate};
use super::distrust::{Distrust, Role};
use super::handshake::{
    Channel, DiallerMethod, DiallerState, DiallerStep, Greeting, ListenerState, ListenerStep, PeerCertificate,
};
use crate::protocol::failure::Failure;

/// Number of the method on the wire.
pub(super) const CERTIFICATE: u8 = 3;
/// What each side signs begins with.
const DIALLER_CONTEXT: &[u8] = b"towline 1 2026 certificate of the dialler";
const LISTENER_CONTEXT: &[u8] = b"towline 1 2026 certificate of the listener";

/// What this side shows, and what it accepts.
#[derive(Clone)]
pub struct Certified {
    /// Vouches for peers.
    pub authority: Authority,
    /// The certificate of this side. A listener needs one.
    pub own: Option<OwnCertificate>,
    /// The certificate of the peer is for one of these names. If there are none, a listener takes any.
    pub peer_names: Vec<ServerName<'static>>,
    /// The time at which certificates must be valid.
    pub clock: fn() -> UnixTime,
}

impl std::fmt::Debug for Certified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certified(peers {:?})", self.peer_names)
    }
}

/// The dialler's end: it shows its certificate, and expects one of the listener.
#[derive(Debug, Clone)]
pub struct ByCertificate(pub Arc<Certified>);

impl DiallerMethod for ByCertificate {
    fn number(&self) -> u8 {
        CERTIFICATE
    }

    fn listener(&self) -> Expected {
        Expected::Certificate
    }

    fn begin(&self, channel: &Channel) -> (Vec<u8>, Option<Box<dyn DiallerState>>) {
        let shown = self.0.show(DIALLER_CONTEXT, channel);
        (shown, Some(Box::new(AwaitsListener { certified: Arc::clone(&self.0), channel: *channel })))
    }
}

/// The dialler waits for the listener's certificate.
struct AwaitsListener {
    certified: Arc<Certified>,
    channel: Channel,
}

impl DiallerState for AwaitsListener {
    fn read(self: Box<Self>, message: &[u8]) -> Result<DiallerStep, Failure> {
        self.certified
            .check_listener(message, &self.channel)
            .map_err(|distrust| distrust.failure(Role::Listener))?;
        // Tells that the listener is accepted.
        Ok(DiallerStep::Proved(Some(Vec::new())))
    }
}

/// The listener has accepted this certificate, and waits until the dialler has accepted it too.
struct AwaitsAcceptance(PeerCertificate);

impl ListenerState for AwaitsAcceptance {
    fn read(self: Box<Self>, message: &[u8]) -> Result<ListenerStep, Failure> {
        match message {
            [] => Ok(ListenerStep::Certified(self.0)),
            _ => Err(Failure::protocol("a dialler that accepts a certificate says more")),
        }
    }
}

impl Certified {
    /// The listener's end.
    ///
    /// # Errors
    ///
    /// The dialler's certificate is not accepted, or it has none.
    pub(super) fn begin(&self, greeting: &Greeting<'_>) -> Result<ListenerStep, Failure> {
        let channel = greeting.channel;
        let name = self
            .check_dialler(greeting.message, channel)
            .map_err(|distrust| distrust.failure(Role::Dialler))?;
        let next = Box::new(AwaitsAcceptance(PeerCertificate { name }));
        Ok(ListenerStep::Ask(self.show(LISTENER_CONTEXT, channel), next))
    }

    /// This side's certificates, and the signature over the TLS session; empty without certificates.
    fn show(&self, context: &[u8], channel: &Channel) -> Vec<u8> {
        let shown = self.own.as_ref().and_then(|own| {
            let (scheme, signature) = own.sign(&signed(context, channel))?;
            Some(Shown { scheme, signature: &signature, chain: own.chain().to_vec() }.encode())
        });
        shown.unwrap_or_default()
    }

    fn check_listener(&self, message: &[u8], channel: &Channel) -> Result<(), Distrust> {
        let shown = Shown::decode(message)?;
        let (own, between) = shown.chain.split_first().ok_or(Distrust::Malformed)?;
        let name = self.peer_names.first().ok_or(Distrust::Malformed)?;
        self.authority.servers().verify_server_cert(own, between, name, &[], (self.clock)())?;
        shown.verify(LISTENER_CONTEXT, channel, self.authority.algorithms())
    }

    fn check_dialler(&self, message: &[u8], channel: &Channel) -> Result<Option<String>, Distrust> {
        let shown = Shown::decode(message)?;
        let (own, between) = shown.chain.split_first().ok_or(Distrust::Malformed)?;
        self.authority.clients().verify_client_cert(own, between, (self.clock)())?;
        shown.verify(DIALLER_CONTEXT, channel, self.authority.algorithms())?;
        let parsed = EndEntityCert::try_from(own).map_err(|_| Distrust::Malformed)?;
        let mut names = parsed.valid_dns_names().map(str::to_owned);
        let is_for = |name: &ServerName<'_>| parsed.verify_is_valid_for_subject_name(name).is_ok();
        if !self.peer_names.is_empty() && !self.peer_names.iter().any(is_for) {
            return Err(Distrust::OtherName { shown: names.collect(), wanted: None });
        }
        Ok(names.next())
    }
}

/// What is signed: who signs, and the TLS session.
fn signed(context: &[u8], channel: &Channel) -> Vec<u8> {
    [context, &channel.exporter].concat()
}

/// The certificates of a side, its own first, with its signature. All lengths have 16 bits.
struct Shown<'a> {
    scheme: SignatureScheme,
    signature: &'a [u8],
    chain: Vec<CertificateDer<'a>>,
}

impl<'a> Shown<'a> {
    fn encode(&self) -> Vec<u8> {
        let mut message = u16::from(self.scheme).to_be_bytes().to_vec();
        let parts = std::iter::once(self.signature).chain(self.chain.iter().map(|one| &one[..]));
        for part in parts {
            message.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
            message.extend(part);
        }
        message
    }

    fn decode(message: &'a [u8]) -> Result<Self, Distrust> {
        if message.is_empty() {
            return Err(Distrust::Missing);
        }
        let (scheme, mut rest) = message.split_first_chunk().ok_or(Distrust::Malformed)?;
        let signature = part(&mut rest)?;
        let mut chain = vec![CertificateDer::from(part(&mut rest)?)];
        while !rest.is_empty() {
            if chain.len() == CERTIFICATES_MAX {
                return Err(Distrust::Malformed);
            }
            chain.push(CertificateDer::from(part(&mut rest)?));
        }
        Ok(Self { scheme: u16::from_be_bytes(*scheme).into(), signature, chain })
    }

    fn verify(
        &self,
        context: &[u8],
        channel: &Channel,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Distrust> {
        let own = self.chain.first().ok_or(Distrust::Malformed)?;
        let found = algorithms.mapping.iter().find(|(scheme, _)| *scheme == self.scheme);
        // As in TLS 1.3, the first one counts.
        let algorithm = found.and_then(|(_, algorithms)| algorithms.first()).ok_or(Distrust::Malformed)?;
        let parsed = EndEntityCert::try_from(own).map_err(|_| Distrust::Malformed)?;
        let verified = parsed.verify_signature(*algorithm, &signed(context, channel), self.signature);
        verified.map_err(|_| Distrust::NotSigned)
    }
}

/// Takes a length and so many bytes from the beginning of `rest`.
fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Distrust> {
    let (len, after) = rest.split_first_chunk().ok_or(Distrust::Malformed)?;
    let (part, after) =
        after.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or(Distrust::Malformed)?;
    *rest = after;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Fingerprint;
    use crate::auth::handshake::{DiallerHandshake, ListenerHandshake};
    use crate::protocol::failure::Reason;
    use crate::testing::certificates::certified;

    const SESSION: Channel = Channel { exporter: [7; 32], peer: Fingerprint::from_bytes([1; 32]) };

    /// Runs both ends, each in its own view of the TLS session. Returns the name of the dialler.
    fn meet(
        dialler: &Arc<Certified>,
        listener: &Arc<Certified>,
        [here, there]: [Channel; 2],
    ) -> Result<Option<String>, Failure> {
        let method = ByCertificate(Arc::clone(dialler));
        let (mut dialling, first) = DiallerHandshake::new(&method, &here);
        assert!(!dialling.may_offer());
        let greeting = Greeting { method: CERTIFICATE, message: &first, channel: &there };
        let step = listener.begin(&greeting)?;
        let (mut listening, answer) = ListenerHandshake::new(step);
        let accepted = dialling.read(&answer.unwrap())?.unwrap();
        assert!(dialling.may_offer() && !listening.is_done());
        assert_eq!(listening.read(&accepted)?, None);
        assert!(listening.is_done());
        Ok(listening.into_certificate().expect("it came by one").name)
    }

    fn refused(dialler: &Arc<Certified>, listener: &Arc<Certified>) -> String {
        let failure = meet(dialler, listener, [SESSION; 2]).unwrap_err();
        assert_eq!(failure.reason, Reason::NotAuthenticated);
        failure.message
    }

    /// [W-52] [W-53]
    #[test]
    fn each_side_accepts_what_its_authority_vouches_for_and_says_what_is_wrong() {
        let client = certified("ca", Some("client"), &["localhost"]);
        let server = certified("ca", Some("leaf"), &[]);
        assert_eq!(meet(&client, &server, [SESSION; 2]).unwrap().as_deref(), Some("backup.client.test"));
        let by_address = certified("ca", Some("client"), &["127.0.0.1"]);
        let by_name = certified("ca", Some("leaf"), &["other.client.test", "backup.client.test"]);
        assert!(meet(&by_address, &by_name, [SESSION; 2]).is_ok());
        for (dialler, listener, what) in [
            (certified("ca", Some("expired"), &["localhost"]), &server, "of the dialling side has expired"),
            (
                certified("ca", Some("other"), &["localhost"]),
                &server,
                "of the dialling side is not of the authority",
            ),
            (certified("ca", None, &["localhost"]), &server, "the dialling side shows no certificate"),
            (
                client.clone(),
                &certified("ca", Some("leaf"), &["other.client.test"]),
                "of the dialling side is for backup.client.test",
            ),
            (client.clone(), &certified("ca", Some("expired"), &[]), "of the waiting side has expired"),
            (
                certified("other-ca", Some("client"), &["localhost"]),
                &server,
                "of the waiting side is not of the authority",
            ),
            (certified("ca", Some("client"), &["example.org"]), &server, "not for example.org"),
            (
                client.clone(),
                &certified("ca", Some("client"), &[]),
                "of the waiting side may not be used by a server",
            ),
            (client.clone(), &certified("ca", None, &[]), "the waiting side shows no certificate"),
        ] {
            let said = refused(&dialler, listener);
            assert!(said.contains(what), "{what}: {said}");
        }
    }

    /// Attack 10: somebody in between has two TLS sessions, and a certificate proves nothing in the other one.
    /// [W-52] [W-53]
    #[test]
    fn attack_10_a_certificate_proves_one_session_and_one_end_only() {
        let client = certified("ca", Some("client"), &["localhost"]);
        let server = certified("ca", Some("leaf"), &[]);
        let other = Channel { exporter: [8; 32], ..SESSION };
        let failure = meet(&client, &server, [SESSION, other]).unwrap_err();
        assert!(failure.message.contains("does not have the key"), "{failure}");
        // What the dialler has said, said back to it.
        let both = certified("ca", Some("leaf"), &["localhost"]);
        let method = ByCertificate(Arc::clone(&both));
        let (mut dialling, first) = DiallerHandshake::new(&method, &SESSION);
        let failure = dialling.read(&first).unwrap_err();
        assert!(failure.message.contains("does not have the key"), "{failure}");
        // Changed bytes, cut messages and others that are none.
        for at in 0..first.len() {
            let mut changed = first.clone();
            changed[at] ^= 1;
            for message in [&changed[..], &first[..at]] {
                let greeting = Greeting { method: CERTIFICATE, message, channel: &SESSION };
                assert!(server.begin(&greeting).is_err(), "{at}");
            }
        }
        let (mut listening, _) = ListenerHandshake::new(ListenerStep::Ask(
            Vec::new(),
            Box::new(AwaitsAcceptance(PeerCertificate { name: None })),
        ));
        assert_eq!(listening.read(b"x").unwrap_err().reason, Reason::Protocol);
    }
}
