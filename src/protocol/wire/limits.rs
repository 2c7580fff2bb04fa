//! All limits of the protocol, with names. A peer that exceeds one is refused before anything is allocated.

/// Bytes of a relative path, as Linux has it (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;
/// Bytes of one component (`NAME_MAX`).
pub const PATH_COMPONENT_BYTES_MAX: usize = 255;
/// Components of a path.
pub const PATH_DEPTH_MAX: usize = 128;
/// Bytes of a symbolic link's target.
pub const LINK_TARGET_BYTES_MAX: usize = 4096;
/// Bytes of the attributes of one entry on the wire. An entry that has more goes without them.
pub const ATTRIBUTE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of attributes that go into the message of their entry; more of them precede it, in messages of their own.
pub const ATTRIBUTES_INLINE_BYTES_MAX: usize = 7 * 1024;
/// Bytes of the name of an extended attribute, as Linux has it (`XATTR_NAME_MAX`).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Bytes of the value of one, as Linux has it (`XATTR_SIZE_MAX`).
pub const XATTR_VALUE_BYTES_MAX: usize = 64 * 1024;
/// Extended attributes of one entry.
pub const XATTRS_MAX: usize = 4096;
/// Entries of a POSIX ACL.
pub const ACL_ENTRIES_MAX: usize = 4096;
/// Bytes of the name of a user or a group.
pub const OWNER_NAME_BYTES_MAX: usize = 255;
/// Bytes of a file: 1 EiB, so that lengths and offsets, and twice a length, are varints.
pub const FILE_BYTES_MAX: u64 = 1 << 60;

/// Smallest chunk, as a power of two: 1 MiB.
pub const CHUNK_LOG2_MIN: u8 = 20;
/// Largest chunk, as a power of two: 64 MiB.
pub const CHUNK_LOG2_MAX: u8 = 26;
/// Bytes of one block, the unit in which a chunk is read, hashed and written. Memory is counted in blocks.
pub const BLOCK_BYTES: usize = 256 * 1024;
/// Files up to this size travel together; a parcel of several never holds more than a chunk of bytes.
pub const SMALL_FILE_BYTES_MAX: u64 = BLOCK_BYTES as u64;
/// Files in one parcel.
pub const PARCEL_FILES_MAX: usize = 1024;
/// Maximum parcels in flight: what a peer may ask for with its stream credits.
pub const STREAMS_MAX: u32 = 1024;

/// Connections of one session.
pub const CONNECTIONS_MAX: u32 = 16;

/// Payload of one message on the control or manifest stream.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of text in a message (agent, reason).
pub const TEXT_BYTES_MAX: usize = 512;
/// Bytes of one message of the handshake that authenticates: it may hold several certificates.
pub const AUTH_BYTES_MAX: usize = 8 * 1024;
/// Such messages from one side.
pub const AUTH_MESSAGES_MAX: usize = 8;
/// Bytes of the reason in an application close: it must fit the smallest packet.
pub const REASON_BYTES_MAX: usize = 1000;

/// Bytes of unconfirmed messages kept per stream. Above that, only messages about open entries are added, whose
/// number is limited.
pub const LOG_BYTES_MAX: usize = 1024 * 1024;
/// Control messages a second without progress (`Heartbeat`, `Came`, `Left`): ten heart-beats, each with a `Came`.
pub const IDLE_MESSAGES_PER_S_MAX: u32 = 20;
/// Maximum burst of such messages. They pile up for a process that was stopped: 64 KiB wait at their sender, and the
/// shortest takes three bytes.
pub const IDLE_MESSAGES_BURST_MAX: u32 = 32 * 1024;

/// Seconds for which a peer may ask a person before the transfer.
pub const ANSWER_SECONDS_MAX: u64 = 60 * 60;
/// Seconds for which a receiver may run a program after the transfer.
pub const PROGRAM_SECONDS_MAX: u64 = 24 * 60 * 60;

/// Entries announced and not yet settled.
pub const OPEN_ENTRIES_MAX: usize = 16 * 1024;
/// Bytes of paths, link targets and attributes of entries announced and not yet settled.
pub const OPEN_PATH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Chunks verified ahead of the first missing one of their file.
pub const CHUNKS_AHEAD_MAX: usize = 4096;
/// Runs of data or hole in one record: every other page of the smallest chunk.
pub const RUNS_MAX: usize = 256;
/// Bytes a second below which a transfer counts as stalled: a quarter of the lowest `--bwlimit`.
pub const PROGRESS_BYTES_PER_S_MIN: u64 = 256;
/// Minimum bytes a second at which a peer hashes a file for comparison.
pub const COMPARE_BYTES_PER_S_MIN: u64 = 1024 * 1024;
/// Ranges of chunks in one message.
pub const CHUNK_RANGES_MAX: usize = 256;
/// Claims in one parcel.
pub const CLAIMS_MAX: usize = 64;
/// Names in one message about extras, and bytes of its paths; the last one may exceed them.
pub const EXTRAS_MAX: usize = 64;
/// Bytes of the paths in one message about extras. The last one may exceed it.
pub const EXTRAS_BYTES_MAX: usize = 8 * 1024;
/// Messages about extras that are not answered.
pub const EXTRAS_OPEN_MAX: usize = 8;
/// Aspects that a receiver may report as not kept.
pub const NOT_KEPT_MAX: usize = 16;
/// Names tried when `--exists rename` looks for a free one.
pub const RENAME_TRIES_MAX: u32 = 10_000;
/// Existing files under such names that are compared with the incoming one: the latest ones.
pub const RENAME_COMPARED_MAX: usize = 16;
/// Average size of the pieces of an old file, as a power of two: 8 KiB.
pub const PIECE_LOG2_MIN: u8 = 13;
/// Largest average size of pieces, as a power of two: 4 MiB.
pub const PIECE_LOG2_MAX: u8 = 22;
/// Pieces in the signature of an old file.
pub const PIECES_MAX: usize = 64 * 1024;
/// Pieces in one message.
pub const MESSAGE_PIECES_MAX: usize = 512;
/// Requests for the signature of one old file: it costs a few bytes, and the receiver reads all of the file.
pub const SIGNATURES_MAX: u32 = 3;
/// Entries in transfer whose old file is signed.
pub const SIGNED_ENTRIES_MAX: usize = 64;
