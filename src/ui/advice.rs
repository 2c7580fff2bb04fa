//! What to do so that the next transfer goes better.

use crate::event::Advice;

/// One sentence, with the flags that help.
pub(super) fn sentence(advice: Advice) -> String {
    match advice {
        Advice::MoreMemory { percent, memory_bytes, or_streams } => {
            let mib = memory_bytes.div_ceil(1 << 20);
            let or_streams = if or_streams { ", or more --streams," } else { "" };
            format!(
                "the memory budget of this side limited the transfer for {percent} % of the time; --memory {mib}M{or_streams} on this side doubles it"
            )
        }
        Advice::ReceiverDoesNotSync => {
            "the receiver does not sync to disk (--no-fsync); a power failure there can lose files".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_flag_that_helps() {
        let more = |or_streams| {
            sentence(Advice::MoreMemory { percent: 80, memory_bytes: (95 << 20) + 1, or_streams })
        };
        assert!(more(false).ends_with("for 80 % of the time; --memory 96M on this side doubles it"));
        assert!(more(true).contains("--memory 96M, or more --streams, on this side"));
        assert!(sentence(Advice::ReceiverDoesNotSync).contains("--no-fsync"));
    }
}
