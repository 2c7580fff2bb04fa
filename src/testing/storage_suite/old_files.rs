//! Files that entries replace, and what is read of them.

use super::rig::{FsRig, MemoryRig, Rig};
use super::{Exists, commit, file, stage};
use crate::protocol::wire::entry::EntryId;
use crate::storage::Target;
use crate::storage::block::{BlockCount, BlockPool};
use crate::testing::disk::{Node, rel_path};

#[tokio::test]
async fn on_file_system() {
    old_files_are_read_as_they_were_opened(&FsRig::new()).await;
}

#[tokio::test]
async fn on_memory() {
    old_files_are_read_as_they_were_opened(&MemoryRig::new(None)).await;
}

/// What `id` reads from `offset` of its old file.
async fn read(target: &impl Target, id: u64, path: &str, offset: u64, len: usize) -> Vec<u8> {
    let block = BlockPool::new(1, BlockCount::default()).acquire().await;
    let (n, block) = target.read_old(EntryId(id), rel_path(path), offset, 5..5 + len, block).await;
    block[5..5 + n].to_vec()
}

async fn old_files_are_read_as_they_were_opened(rig: &impl Rig) {
    rig.put("old", file(b"old content"));
    rig.put("d", Node::Dir);
    rig.put("link", Node::Link(b"old".to_vec()));
    let target = rig.target();
    let paths = ["old", "d", "link", "none", "none/old"].map(rel_path).to_vec();
    assert_eq!(target.old(paths).await, [Some(11), None, None, None, None]);

    assert_eq!(read(&target, 0, "old", 4, 7).await, b"content");
    assert_eq!(read(&target, 0, "old", 4, 100).await, b"content");
    assert_eq!(read(&target, 0, "old", 11, 5).await, b"");
    assert_eq!(read(&target, 0, "old", 1 << 60, 5).await, b"");
    for path in ["d", "link", "none"] {
        assert_eq!(read(&target, 1, path, 0, 5).await, b"", "{path}");
    }
    // Another entry takes the name, and this one still reads what it has opened.
    stage(&target, 7, b"new").await.unwrap();
    target.commit(vec![commit(7, "old", 3, Exists::Replace)]).await.remove(0).unwrap();
    assert_eq!(read(&target, 0, "old", 0, 3).await, b"old");
    assert_eq!(read(&target, 8, "old", 0, 100).await, b"new");
    target.discard(EntryId(0)).await;
    assert_eq!(read(&target, 0, "old", 0, 100).await, b"new", "it was closed");
    target.abort().await;
}
