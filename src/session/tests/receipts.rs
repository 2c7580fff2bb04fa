//! Receipts, over the whole session. `tests/end_to_end/receipts.rs` has those that are valid.

use std::sync::Arc;

use super::{MIB, Session, one_file, source};
use crate::auth::Identity;
use crate::testing::disk::MemoryTarget;

#[tokio::test(start_paused = true)]
async fn a_receipt_counts_only_from_the_receiver_of_this_session() {
    let key = || Some(Arc::new(Identity::generate().unwrap()));
    for (is_wanted, receiver_key, why) in [
        (false, key(), None),
        (true, None, Some("sent none")),
        // The key is not the one that the receiver has proved to have.
        (true, key(), Some("another key")),
    ] {
        let mut session = Session::new(1);
        session.sender.context.receipt = is_wanted;
        session.sender.context.identity = key();
        session.receiver.context.identity = receiver_key;
        let target = MemoryTarget::new();
        let ended = session.run(&source(&one_file(MIB + 1)), &target).await;
        assert_eq!(ended.received.unwrap().files, 1);
        let told = ended.sent.unwrap().receipt;
        assert_eq!(told.is_some(), why.is_some());
        if let (Some(told), Some(why)) = (told, why) {
            assert!(told.as_ref().is_err_and(|told| told.contains(why)), "{told:?}");
        }
    }
}
