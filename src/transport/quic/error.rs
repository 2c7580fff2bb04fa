//! The meaning of quinn's errors, and whose fault they are.

use std::time::Duration;

use quinn::ConnectionError;

use crate::protocol::path::printable;
use crate::protocol::wire::limits::REASON_BYTES_MAX;
use crate::transport::error::TransportError;
use crate::transport::quic::udp::Fault;

/// The error by blame, for a connection whose socket has this `fault`.
pub(in crate::transport) fn error_over(
    fault: &Fault,
    error: ConnectionError,
    idle_timeout: Duration,
) -> TransportError {
    match (&error, fault.get()) {
        // quinn only reports that the connection has ended.
        (ConnectionError::TransportError(_), Some(fault)) => TransportError::Lost(fault.to_owned()),
        _ => connection_error(error, idle_timeout),
    }
}

/// The peer refuses a connection that it may accept a little later.
pub(in crate::transport) fn is_busy(error: &ConnectionError) -> bool {
    let refused = quinn::TransportErrorCode::CONNECTION_REFUSED;
    matches!(error, ConnectionError::ConnectionClosed(close) if close.error_code == refused)
}

/// The error by blame.
pub(crate) fn connection_error(error: ConnectionError, idle_timeout: Duration) -> TransportError {
    match error {
        error if is_busy(&error) => TransportError::Busy,
        ConnectionError::VersionMismatch => {
            TransportError::Incompatible("the peer uses an unknown version of QUIC".to_owned())
        }
        ConnectionError::TransportError(e) => match tls_alert(e.code.into()) {
            Some(alert) => alert_error(alert, false),
            None => TransportError::Lost(printable(e.to_string().as_bytes())),
        },
        ConnectionError::ConnectionClosed(frame) => match tls_alert(frame.error_code.into()) {
            Some(alert) => alert_error(alert, true),
            None => TransportError::Lost(format!(
                "the peer ended the connection: {}",
                printable(frame.to_string().as_bytes())
            )),
        },
        ConnectionError::ApplicationClosed(close) => {
            let mut reason = close.reason;
            reason.truncate(REASON_BYTES_MAX);
            TransportError::Closed { code: close.error_code.into_inner(), reason }
        }
        ConnectionError::Reset => {
            TransportError::Lost("the peer no longer knows this connection; was it restarted?".to_owned())
        }
        ConnectionError::TimedOut => TransportError::TimedOut(idle_timeout),
        ConnectionError::LocallyClosed => TransportError::ClosedHere,
        ConnectionError::CidsExhausted => TransportError::Lost("out of connection ids".to_owned()),
    }
}

/// The TLS alert in a QUIC error code (RFC 9001, section 4.8).
fn tls_alert(code: u64) -> Option<u8> {
    code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

fn alert_error(alert: u8, by_peer: bool) -> TransportError {
    let text = |here: &str, there: &str| {
        let text = if by_peer { there } else { here };
        format!("{text} (TLS alert {alert})")
    };
    match alert {
        // access_denied, which only a dialler with an expectation sends.
        49 => TransportError::NotAuthenticated(text(
            "the peer's fingerprint is not the expected one",
            "the peer expected a different fingerprint of this machine",
        )),
        // bad_certificate to unknown_ca, decrypt_error (a signature), unknown_psk_identity, certificate_required.
        42..=46 | 48 | 51 | 115 | 116 => TransportError::NotAuthenticated(text(
            "the certificate of the peer was not accepted",
            "the peer did not accept the certificate of this machine",
        )),
        120 => TransportError::Incompatible(text(
            "the peer does not speak towline/1",
            "the peer does not speak towline/1",
        )),
        // handshake_failure, protocol_version, insufficient_security, missing_extension.
        40 | 70 | 71 | 109 => TransportError::Incompatible(text(
            "no TLS version or algorithm in common",
            "the peer found no TLS version or algorithm in common",
        )),
        _ => TransportError::Lost(text("the TLS handshake failed", "the peer ended the TLS handshake")),
    }
}

#[cfg(test)]
mod tests {
    use quinn::VarInt;

    use super::*;

    #[test]
    fn alerts_tell_identity_from_version_from_accident() {
        for alert in [42, 43, 44, 45, 46, 48, 49, 51, 116] {
            for by_peer in [false, true] {
                assert!(
                    matches!(alert_error(alert, by_peer), TransportError::NotAuthenticated(_)),
                    "{alert}"
                );
            }
        }
        for alert in [40, 70, 71, 120] {
            assert!(matches!(alert_error(alert, true), TransportError::Incompatible(_)), "{alert}");
        }
        assert!(matches!(alert_error(80, false), TransportError::Lost(_)));
        assert_eq!([0xff, 0x100, 0x1ff, 0x200].map(tls_alert), [None, Some(0), Some(255), None]);
    }

    #[test]
    fn quinn_errors_keep_their_meaning() {
        let idle = Duration::from_secs(7);
        let map = |e| connection_error(e, idle);
        assert_eq!(map(ConnectionError::TimedOut), TransportError::TimedOut(idle));
        assert_eq!(map(ConnectionError::LocallyClosed), TransportError::ClosedHere);
        assert!(matches!(map(ConnectionError::Reset), TransportError::Lost(_)));
        assert!(matches!(map(ConnectionError::VersionMismatch), TransportError::Incompatible(_)));
        let close =
            quinn::ApplicationClose { error_code: VarInt::from_u32(12), reason: vec![b'x'; 2000].into() };
        let expected = TransportError::Closed { code: 12, reason: vec![b'x'; REASON_BYTES_MAX].into() };
        assert_eq!(map(ConnectionError::ApplicationClosed(close)), expected);
    }
}
