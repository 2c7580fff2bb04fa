//! Entries of unknown size, over the whole session.

use std::time::Duration;

use super::{MIB, Session, bytes};
use crate::event::Event;
use crate::protocol::failure::Reason;
use crate::protocol::wire::entry::Kind;
use crate::testing::disk::{MemorySource, MemoryTarget};

fn stream(contents: &[u8]) -> MemorySource {
    MemorySource::new(vec![("f", Kind::OpenEnded, contents.to_vec())])
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_unknown_size_arrives_whole() {
    let sizes = [0, 1, 256 * 1024, MIB - 1, MIB, MIB + 1, 3 * MIB, 3 * MIB + 1, 4 * MIB - 1];
    for (seed, size) in (0..).zip(sizes) {
        let mut session = Session::new(seed);
        session.limits.delay_max = Duration::from_millis(seed % 3 * 50);
        let (target, data) = (MemoryTarget::new(), bytes(seed, size));
        let source = stream(&data);
        let ended = session.run(&source, &target).await;
        assert!(target.files() == [(b"f".to_vec(), data)].into(), "{size} bytes");
        for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
            assert_eq!((summary.files, summary.failed, summary.bytes), (1, 0, size), "{size} bytes");
        }
        assert_eq!(source.bytes_read(), size, "it is read once");
        for told in [&session.sender.told, &session.receiver.told] {
            for event in told.0.lock().unwrap().iter() {
                let Event::Progress(progress) = event else { continue };
                assert!(progress.written_bytes <= progress.total_bytes, "{progress:?}");
                assert!(!progress.walked || progress.total_bytes == size, "{progress:?}");
            }
        }
    }
}

/// The first end that a read finds is the end of the file, wherever in a chunk it lies.
#[tokio::test(start_paused = true)]
async fn an_entry_of_unknown_size_that_grows_at_its_end_ends_there() {
    // Each read lets the file grow by four bytes. The end is in the first block, two bytes before the end of a chunk,
    // after a whole chunk, and in the second chunk.
    for size in [0, 1, MIB - 14, MIB, 2 * MIB - 30] {
        let session = Session::new(1);
        let (target, data) = (MemoryTarget::new(), bytes(1, size));
        let source = stream(&data);
        source.grow_when_read("f");
        let ended = session.run(&source, &target).await;
        for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
            assert_eq!((summary.files, summary.failed), (1, 0), "{size} bytes");
        }
        let files = target.files();
        let (begin, grown) = files[&b"f"[..]].split_at(data.len());
        assert!(begin == data && grown.chunks(4).all(|more| more == b"more"), "{size} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn an_entry_of_unknown_size_that_is_there_is_no_conflict() {
    let (target, data) = (MemoryTarget::new(), bytes(1, 2 * MIB));
    for (content, identical, failed) in [(&data, 0, 0), (&data, 1, 0), (&bytes(2, 2 * MIB), 0, 1)] {
        let session = Session::new(1);
        let ended = session.run(&stream(content), &target.beside()).await;
        for summary in [ended.sent.unwrap(), ended.received.unwrap()] {
            assert_eq!((summary.identical, summary.failed), (identical, failed));
            assert_eq!(summary.gravest, (failed > 0).then_some(Reason::TargetExists));
        }
    }
    assert!(target.files() == [(b"f".to_vec(), data)].into());
}
