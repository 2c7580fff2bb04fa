//! Taking what an old file already has: pieces cut by content, and the recipe of each chunk of the new file.

pub mod cutter;
pub mod matcher;
pub mod pieces;
pub mod recipe;
