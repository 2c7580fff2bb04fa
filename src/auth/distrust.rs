//! Why a certificate is not accepted, in words.

use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error};

use crate::protocol::failure::{Failure, Reason};
use crate::protocol::path::printable;

/// Whose certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// That of the side that dials.
    Dialler,
    /// That of the side that waits.
    Listener,
}

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Distrust {
    /// There is none.
    Missing,
    /// It cannot be read.
    Malformed,
    /// Its owner has not signed the TLS session.
    NotSigned,
    /// No authority that is trusted has issued it.
    OtherAuthority,
    /// It has expired at this time, if that is known.
    Expired(Option<UnixTime>),
    /// It is not valid yet.
    NotYet,
    /// It is for other names.
    OtherName {
        /// Its names.
        shown: Vec<String>,
        /// The only name that is expected.
        wanted: Option<String>,
    },
    /// It may be used for something else only.
    OtherUse,
    /// Anything else.
    Other(String),
}

impl From<Error> for Distrust {
    fn from(error: Error) -> Self {
        let Error::InvalidCertificate(error) = error else { return Self::Other(error.to_string()) };
        match error {
            CertificateError::BadEncoding => Self::Malformed,
            CertificateError::Expired => Self::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => Self::Expired(Some(not_after)),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYet,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::OtherAuthority,
            CertificateError::NotValidForName => Self::OtherName { shown: Vec::new(), wanted: None },
            CertificateError::NotValidForNameContext { expected, presented } => Self::OtherName {
                shown: presented.iter().map(|name| plain(name).to_owned()).collect(),
                wanted: Some(expected.to_str().into_owned()),
            },
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::OtherUse
            }
            other => Self::Other(other.to_string()),
        }
    }
}

/// rustls shows names as `DnsName("a")` and `IpAddress(b)`.
fn plain(name: &str) -> &str {
    name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')').trim_matches('"'))
}

impl Distrust {
    /// For both sides: what a certificate holds is public.
    pub(super) fn failure(&self, role: Role) -> Failure {
        let (side, purpose) = match role {
            Role::Dialler => ("the dialling side", "client"),
            Role::Listener => ("the waiting side", "server"),
        };
        let message = match self {
            Self::Missing => format!("{side} shows no certificate"),
            Self::Malformed => format!("the certificate of {side} cannot be read"),
            Self::NotSigned => format!("{side} does not have the key of the certificate that it shows"),
            Self::OtherAuthority => format!(
                "the certificate of {side} is not of the authority that the other side trusts, or lacks one in between"
            ),
            Self::Expired(at) => {
                let at = at.map(|at| {
                    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(at.as_secs());
                    format!(", at {}", humantime::format_rfc3339_seconds(at))
                });
                format!("the certificate of {side} has expired{}", at.unwrap_or_default())
            }
            Self::NotYet => format!("the certificate of {side} is not valid yet; compare the clocks"),
            Self::OtherName { shown, wanted } => {
                let shown: Vec<_> = shown.iter().map(|name| printable(name.as_bytes())).collect();
                let shown = if shown.is_empty() { "no name".to_owned() } else { shown.join(", ") };
                let wanted = wanted.as_ref().map_or("a name that is expected", |wanted| wanted);
                format!("the certificate of {side} is for {shown}, not for {}", printable(wanted.as_bytes()))
            }
            Self::OtherUse => format!("the certificate of {side} may not be used by a {purpose}"),
            Self::Other(error) => {
                format!("the certificate of {side} is not accepted: {}", printable(error.as_bytes()))
            }
        };
        Failure::told(Reason::NotAuthenticated, message)
    }
}
