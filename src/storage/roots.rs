//! BLAKE3 roots of source files, for a comparison with what the receiver has.

use super::Source;
use super::block::Block;
use crate::protocol::entry::Entry;
use crate::protocol::failure::Failure;
use crate::protocol::limits::BLOCK_BYTES;

/// The roots of `files`, read through `block`: files that fit it together, or one file of any size. One answer for
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

async fn large_root<S: Source>(source: &S, entry: Entry, mut block: Block) -> Result<blake3::Hash, Failure> {
    let size = entry.size();
    let file = source.open(entry).await?;
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < size {
        let len = usize::try_from(size - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        block = source.read_at(&file, at, len, block).await?;
        hasher.update(&block[..len]);
        at += len as u64;
    }
    source.verify_unchanged(&file).await?;
    Ok(hasher.finalize())
}
