//! A large file of the source, while it is sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::{Mutex, OnceCell};

use crate::event::ActiveFile;
use crate::protocol::delta::recipe::Recipe;
use crate::protocol::engine::sender::Sender;
use crate::protocol::failure::Failure;
use crate::protocol::wire::entry::{Entry, EntryId};
use crate::session::observe::progress::ACTIVE_FILES_MAX;
use crate::session::send::old_file::{OldFile, Recipes, fetch_signature};
use crate::session::send::packing::Trials;
use crate::session::send::shared::Sending;
use crate::storage::block::Block;
use crate::storage::{Source, Verdict, read_again};
use crate::transport::Connection;

/// A large file, opened when its first chunk is read.
pub(super) struct FileHandle<F> {
    pub(super) entry: Entry,
    file: OnceCell<F>,
    /// Bytes read past the last chunk of a file of unknown size, and their number.
    pub(super) ahead: Mutex<Option<(Block, usize)>>,
    /// Whether its data shrinks.
    pub(super) trials: Trials,
    /// How its chunks take bytes from an old file.
    pub(super) recipes: Mutex<Option<Recipes>>,
    pub(super) sent_bytes: AtomicU64,
}

impl<F: Send + Sync> FileHandle<F> {
    pub(super) fn new(entry: Entry) -> Self {
        Self {
            entry,
            file: OnceCell::new(),
            ahead: Mutex::default(),
            trials: Trials::default(),
            recipes: Mutex::default(),
            sent_bytes: AtomicU64::new(0),
        }
    }

    pub(super) async fn open<S: Source<File = F>>(&self, sending: &Sending<S>) -> Result<&F, Failure> {
        self.file.get_or_try_init(|| sending.source.open(self.entry.clone())).await
    }

    /// Whether the source is still as announced and sent with this root; true if it has only grown.
    pub(super) async fn verify<S: Source<File = F>>(
        &self,
        sending: &Sending<S>,
        root: blake3::Hash,
    ) -> Result<bool, Failure> {
        let file = self.open(sending).await?;
        match sending.source.verify(file).await? {
            Verdict::Same => Ok(false),
            Verdict::Longer => {
                let block = sending.pool.acquire().await;
                read_again(&*sending.source, file, &self.entry, root, block).await.map(|()| true)
            }
        }
    }

    /// Gets the signature of the old file, so that chunks have recipes. False when the receiver cannot give it.
    pub(super) async fn sign<C: Connection, S: Source<File = F>>(
        &self,
        streams: (C::Send, C::Recv),
        sending: &Sending<S>,
        id: EntryId,
        old: OldFile,
        chunk_bytes: u64,
    ) -> Result<bool, Failure> {
        let Some(index) = fetch_signature::<C, S>(streams, sending, id, old).await? else { return Ok(false) };
        let recipes = Recipes::new(index, old.piece_log2, self.entry.size(), chunk_bytes);
        *self.recipes.lock().await = Some(recipes);
        Ok(true)
    }

    /// The recipe of a chunk, if its file has recipes.
    pub(super) async fn recipe<S: Source<File = F>>(
        &self,
        sending: &Sending<S>,
        chunk: u64,
    ) -> Result<Option<Recipe>, Failure> {
        let mut recipes = self.recipes.lock().await;
        let Some(recipes) = recipes.as_mut() else { return Ok(None) };
        recipes.take(sending, self.open(sending).await?, chunk).await
    }

    /// A chunk was lost with its connection, and needs its recipe again.
    pub(super) async fn keep_recipe(&self, chunk: u64, recipe: Recipe) {
        if let Some(recipes) = self.recipes.lock().await.as_mut() {
            recipes.keep(chunk, recipe);
        }
    }
}

/// The first few large files in flight.
pub(super) fn active_files<F>(
    files: &HashMap<EntryId, Arc<FileHandle<F>>>,
    machine: &Sender,
) -> Vec<ActiveFile> {
    let mut active: Vec<_> = files.iter().collect();
    active.sort_by_key(|(id, _)| **id);
    let active = active.into_iter().take(ACTIVE_FILES_MAX).map(|(id, handle)| ActiveFile {
        id: id.0,
        path: handle.entry.path.clone(),
        // For files of unknown size: the bytes so far.
        size: handle.entry.size().max(handle.sent_bytes.load(Relaxed)),
        sent_bytes: handle.sent_bytes.load(Relaxed),
        written_bytes: machine.written_bytes(*id),
    });
    active.collect()
}
