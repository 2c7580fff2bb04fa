//! The certificates in `certs/`: made again with `TOWLINE_BLESS=1 cargo test --test certs`, checked otherwise.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use towline::auth::{Fingerprint, Identity};

/// 2126-01-01, when the certificates expire, in seconds since 1970.
const EXPIRY: u64 = 4_922_899_200;
/// 2020-06-01, when the one was valid that has expired.
const BEFORE: u64 = 1_590_969_600;
/// Bytes of a key of P-256 in SEC1, without its parameters.
const SEC1_BYTES: usize = 109;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("certs").join(name)
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2126, 1, 1);
    params
}

/// A certificate for the machine that the tests run on.
fn of_this_machine(name: &str) -> CertificateParams {
    let mut leaf = params(name);
    leaf.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into().unwrap()),
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    ];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    leaf
}

/// Writes a certificate of `authority` and its key.
fn issue(file: &str, mut leaf: CertificateParams, authority: &Issuer<'_, KeyPair>) -> KeyPair {
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, authority).unwrap();
    fs::write(path(&format!("{file}.pem")), leaf.pem()).unwrap();
    fs::write(path(&format!("{file}.key.pem")), key.serialize_pem()).unwrap();
    key
}

/// The same key as SEC1 has it, which PKCS#8 wraps.
fn sec1(key: &KeyPair) -> String {
    let der = key.serialize_der();
    let inner = &der[der.len() - SEC1_BYTES..];
    assert_eq!(inner[..2], [0x30, 0x6b], "a sequence");
    let text = data_encoding::BASE64.encode(inner);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n", lines.join("\n"))
}

fn authority(name: &str) -> (CertificateParams, KeyPair) {
    let mut ca = params(name);
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (ca, KeyPair::generate().unwrap())
}

fn make() {
    let (ca, ca_key) = authority("towline test CA, trusted by nothing");
    fs::write(path("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    fs::write(path("ca.key.pem"), ca_key.serialize_pem()).unwrap();
    let ca = Issuer::new(ca, ca_key);
    issue("leaf", of_this_machine("towline test leaf"), &ca);

    let mut client = params("towline test client");
    client.subject_alt_names = vec![SanType::DnsName("backup.client.test".try_into().unwrap())];
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = issue("client", client, &ca);
    fs::write(path("client.sec1.pem"), sec1(&key)).unwrap();

    let mut expired = of_this_machine("towline test leaf of before");
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    issue("expired", expired, &ca);

    let (other, other_key) = authority("another towline test CA, trusted by nothing");
    fs::write(path("other-ca.pem"), other.self_signed(&other_key).unwrap().pem()).unwrap();
    issue("other", of_this_machine("towline test leaf of another CA"), &Issuer::new(other, other_key));

    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("identity.pem");
    let identity = Identity::load_or_create(&file).unwrap();
    fs::write(path("identity.pem"), fs::read(&file).unwrap()).unwrap();
    fs::write(path("identity.fingerprint"), format!("{}\n", identity.fingerprint())).unwrap();
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path(name)).unwrap()
}

/// The private copy that the program wants of an identity; git keeps no modes.
fn private_copy(dir: &Path) -> PathBuf {
    use std::os::unix::fs::OpenOptionsExt;
    let copy = dir.join("identity.pem");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy).unwrap();
    std::io::copy(&mut fs::File::open(path("identity.pem")).unwrap(), &mut file).unwrap();
    copy
}

fn now() -> UnixTime {
    UnixTime::now()
}

#[test]
fn the_committed_certificates_are_whole() {
    if std::env::var_os("TOWLINE_BLESS").is_some_and(|v| v == "1") {
        make();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (ca, leaf) = (certificate("ca.pem"), certificate("leaf.pem"));
    let [client, expired, other] = ["client.pem", "expired.pem", "other.pem"].map(certificate);
    for (cert, key) in [
        (&ca, "ca.key.pem"),
        (&leaf, "leaf.key.pem"),
        (&client, "client.key.pem"),
        (&client, "client.sec1.pem"),
        (&expired, "expired.key.pem"),
        (&other, "other.key.pem"),
    ] {
        let key = PrivateKeyDer::from_pem_file(path(key)).unwrap();
        rustls::sign::CertifiedKey::from_der(vec![cert.clone()], key, &provider)
            .unwrap()
            .keys_match()
            .unwrap();
    }

    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let roots = Arc::new(roots);
    let servers =
        WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    for name in ["localhost", "127.0.0.1"] {
        let name = ServerName::try_from(name).unwrap();
        servers.verify_server_cert(&leaf, &[], &name, &[], now()).unwrap();
        servers.verify_server_cert(&leaf, &[], &name, &[], at(EXPIRY - 1)).unwrap();
        servers.verify_server_cert(&leaf, &[], &name, &[], at(EXPIRY + 1)).unwrap_err();
    }
    clients.verify_client_cert(&leaf, &[], now()).unwrap();
    clients.verify_client_cert(&client, &[], now()).unwrap();
    clients.verify_client_cert(&expired, &[], now()).unwrap_err();
    clients.verify_client_cert(&expired, &[], at(BEFORE)).unwrap();
    clients.verify_client_cert(&other, &[], now()).unwrap_err();

    let scratch = tempfile::tempdir().unwrap();
    let identity = Identity::load(&private_copy(scratch.path())).unwrap();
    let pinned: Fingerprint = fs::read_to_string(path("identity.fingerprint")).unwrap().parse().unwrap();
    assert_eq!(identity.fingerprint(), pinned);
}
