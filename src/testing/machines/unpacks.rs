//! Whether a receiver reads compressed records.

use std::time::Duration;

use super::tree::CHUNK_LOG2;
use super::world::PATIENCE;
use crate::protocol::engine::sender::Sender;
use crate::protocol::wire::message::Message;

/// [W-92] The session compresses only while the machine says so.
#[test]
fn a_receiver_that_has_not_said_that_it_reads_compressed_records_gets_none() {
    let mut sender = Sender::new(CHUNK_LOG2, PATIENCE, Duration::ZERO);
    assert!(!sender.may_pack());
    // A later version may say more by the other bits.
    for (said, may_pack) in [(2, false), (1, true), (3, true), (0, false)] {
        sender.on_control(Message::Unpacks(said), Duration::ZERO).unwrap();
        assert_eq!(sender.may_pack(), may_pack, "{said}");
    }
}
