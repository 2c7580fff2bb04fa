//! Failures in words, and what to do about them.

use super::format;
use super::paint::Paint;
use crate::protocol::failure::{Failure, Reason};

/// `towline: at the receiver: …`, and a line on what to do where that helps.
pub(super) fn failure(failure: &Failure, paint: Paint) -> String {
    let side = match (failure.side, failure.from_peer) {
        (Some(side), true) => format!("the {} says: ", side.as_str()),
        (None, true) => "the other side says: ".to_owned(),
        (Some(side), false) => format!("at the {}: ", side.as_str()),
        (None, false) => String::new(),
    };
    complaint(&format!("{side}{}", failure.message), hint(failure.reason), paint)
}

/// `towline: …`, and a hint on a line of its own.
pub(super) fn complaint(message: &str, hint: Option<&str>, paint: Paint) -> String {
    let mut out = format!("{} {message}\n", paint.error("towline:"));
    if let Some(hint) = hint {
        out += &format!("  {hint}\n");
    }
    out
}

/// Says that lines are missing here.
pub(super) fn left_out(lines: u64) -> Vec<u8> {
    let what = format::count(lines, "line was", "lines were");
    format!("towline: {what} left out here: what reads them was too slow\n").into_bytes()
}

fn hint(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Unreachable => {
            "check that both sides run and use the same address, and that UDP to the port of the waiting side (4750 \
             unless it prints another) passes every firewall between"
        }
        Reason::NotAuthenticated => {
            "take ticket or fingerprint once more from what the waiting side prints now; it prints a new ticket \
             at every start"
        }
        Reason::TicketUsed => {
            "a ticket serves one transfer: start the waiting side again and take its new one"
        }
        Reason::TargetExists => {
            "`--exists skip`, `replace` or `rename` on the receiving side decides otherwise"
        }
        Reason::SourceChanged => "run the same command again when nothing writes to the source",
        Reason::AckTimeout | Reason::ConnectionLost | Reason::Interrupted => {
            "start both sides again to go on; files that are complete do not travel again"
        }
        Reason::Internal
        | Reason::Protocol
        | Reason::UnknownTransfer
        | Reason::TransferFailed
        | Reason::TransferEnded => "this should not happen: please report it with what -vv shows",
        Reason::Incompatible
        | Reason::Setup
        | Reason::Refused
        | Reason::Storage
        | Reason::SourceUnreadable
        | Reason::Verification
        | Reason::SpecialFile
        | Reason::NotKept
        | Reason::SourceGrew => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::failure::Side;

    #[test]
    fn failures_name_the_side_and_what_to_do() {
        let full = Failure::on(Side::Receiver, Reason::Storage, "cannot write /x: no space left on device");
        let text = failure(&full, Paint::new(false));
        assert_eq!(text, "towline: at the receiver: cannot write /x: no space left on device\n");
        let text = failure(&Failure::new(Reason::TicketUsed, "m"), Paint::new(true));
        assert!(text.starts_with("\u{1b}[1;31mtowline:\u{1b}[0m m\n  a ticket serves one transfer"));
        for reason in Reason::ALL {
            assert!(!reason.is_retryable() || hint(reason).is_some(), "{reason:?}");
        }
    }
}
