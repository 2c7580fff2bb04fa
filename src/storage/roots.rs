//! BLAKE3 roots of source files, for comparisons with existing files and with what has been sent.

use super::block::Block;
use super::source::{Source, Verdict};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::place::Place;
use crate::protocol::wire::entry::Entry;
use crate::protocol::wire::limits::BLOCK_BYTES;

/// The roots of `files`, read through `block`: files that fit it together, or one file of any size. One result for
/// each, in order.
pub async fn source_roots<S: Source>(
    source: &S,
    mut files: Vec<Entry>,
    block: Block,
) -> Vec<Result<blake3::Hash, Failure>> {
    if let [file] = files.as_slice()
        && file.size() > BLOCK_BYTES as u64
    {
        return vec![large_root(source, files.remove(0), block).await];
    }
    let read = source.read_small(files, block).await;
    let hash = |range: std::ops::Range<usize>| blake3::hash(&read.block[range]);
    read.files.into_iter().map(|file| file.map(hash)).collect()
}

async fn large_root<S: Source>(source: &S, entry: Entry, block: Block) -> Result<blake3::Hash, Failure> {
    let file = source.open(entry.clone()).await?;
    let (root, block) = read_root(source, &file, entry.size(), block).await?;
    match source.verify(&file).await? {
        Verdict::Same => Ok(root),
        Verdict::Longer => read_again(source, &file, &entry, root, block).await.map(|()| root),
    }
}

/// Checks that a file that has grown still begins with the bytes of `entry`, whose root is `root`.
///
/// # Errors
///
/// `SourceChanged` when it does not.
pub async fn read_again<S: Source>(
    source: &S,
    file: &S::File,
    entry: &Entry,
    root: blake3::Hash,
    block: Block,
) -> Result<(), Failure> {
    let (again, _) = read_root(source, file, entry.size(), block).await?;
    if again == root {
        return Ok(());
    }
    let sentence = |path: &str| format!("{path} changed while being sent, and not only by growing");
    Err(Failure::about(Side::Sender, Reason::SourceChanged, &Place::from(&entry.path), sentence))
}

/// The root of the first `size` bytes.
async fn read_root<S: Source>(
    source: &S,
    file: &S::File,
    size: u64,
    mut block: Block,
) -> Result<(blake3::Hash, Block), Failure> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        block = source.read_at(file, at, len, block).await?;
        hasher.update(&block[..len]);
        at += len as u64;
    }
    Ok((hasher.finalize(), block))
}
