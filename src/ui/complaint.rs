//! Failures in words, and what to do about them.

use super::format;
use super::paint::Paint;
use crate::protocol::failure::{Failure, Reason};

/// `towline: at the receiver: …`, and a line on what to do where that helps.
pub(super) fn failure(failure: &Failure, paint: Paint) -> String {
    let hint = if failure.advises { String::new() } else { hint_line(failure.reason) };
    failure_line(failure, paint) + &hint
}

/// `towline: at the receiver: …`.
pub(super) fn failure_line(failure: &Failure, paint: Paint) -> String {
    let side = match (failure.side, failure.from_peer) {
        (Some(side), true) => format!("the {} says: ", side.as_str()),
        (None, true) => "the other side says: ".to_owned(),
        (Some(side), false) => format!("at the {}: ", side.as_str()),
        (None, false) => String::new(),
    };
    complaint(&format!("{side}{}", failure.message), None, paint)
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
    format!("towline: {what} left out here because the reader was too slow\n").into_bytes()
}

/// The hint for `reason` on a line of its own, if there is one.
pub(super) fn hint_line(reason: Reason) -> String {
    hint(reason).map(|hint| format!("  {hint}\n")).unwrap_or_default()
}

fn hint(reason: Reason) -> Option<&'static str> {
    Some(match reason {
        Reason::Unreachable => {
            "check that both sides are running, that the address is right, and that firewalls pass UDP to the \
             port of the waiting side (4750 unless it printed another one)"
        }
        Reason::NotAuthenticated => {
            "take the ticket or code again from the waiting side; each start prints new ones. Without either, the \
             waiting side needs --fingerprint with what `towline id` prints here, or --allow with the name of a known \
             peer. A receiver that stays (--forever) needs `towline peers add NAME FINGERPRINT --may send`, and then \
             SIGHUP; a sender that stays needs --may receive. If a known peer has a new key on purpose, use `towline peers remove` and `add`. With --ca, \
             compare the authorities, names and dates of both certificates"
        }
        Reason::TicketUsed => {
            "a ticket is good for one transfer: start the waiting side again and use its new ticket"
        }
        Reason::TicketExpired => {
            "the waiting side prints a new ticket each time that one expires (--expires)"
        }
        Reason::TargetExists => {
            "to keep, replace or rename, use --exists skip, replace or rename on the receiving side"
        }
        Reason::SourceChanged => "run the command again when nothing writes to the source",
        Reason::AckTimeout => {
            "start both sides again to continue; what is safe at the receiver is not sent again. --timeout and \
             --disk-timeout set how long to wait"
        }
        Reason::Busy => "run the same command again later",
        Reason::ConnectionLost | Reason::Interrupted => {
            "start both sides again to continue; what is safe at the receiver is not sent again"
        }
        Reason::Internal
        | Reason::Protocol
        | Reason::UnknownTransfer
        | Reason::TransferFailed
        | Reason::TransferEnded => "this is a bug: please report it with the output of -vv",
        Reason::Incompatible
        | Reason::Setup
        | Reason::Refused
        | Reason::Storage
        | Reason::SourceUnreadable
        | Reason::Verification
        | Reason::SpecialFile
        | Reason::NotKept
        | Reason::SourceGrew
        | Reason::SourceRemains
        | Reason::ProgramFailed
        | Reason::ExtrasRemain => return None,
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
        assert!(text.starts_with("\u{1b}[1;31mtowline:\u{1b}[0m m\n  a ticket is good for one transfer"));
        let advising = Failure::advising(Reason::TicketUsed, "do this");
        assert_eq!(super::failure(&advising, Paint::new(false)), "towline: do this\n");
        for reason in Reason::ALL {
            assert!(!reason.is_retryable() || hint(reason).is_some(), "{reason:?}");
        }
    }
}
