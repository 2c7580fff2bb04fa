//! Trees with every kind of entry, and an exact comparison of two trees.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::host::has;
use super::random::Random;

/// Sizes around the edges of blocks and chunks.
const SIZES: [usize; 11] =
    [0, 1, 4096, 262_143, 262_144, 262_145, 1_048_575, 1_048_576, 1_048_577, 2_097_153, 3 * 1_048_576 + 5];
/// Names that are text but break careless programs.
const TEXT_NAMES: [&str; 10] = [
    "-rf",
    "--help",
    " leading and trailing ",
    "new\nline",
    "back\\slash",
    "tab\tand\x1b[31mescape",
    "quote'\"$(x)`",
    "grün 漢字 🚢",
    "a:b*?",
    ".hidden",
];
/// Names that are no text at all.
const BYTE_NAMES: [&[u8]; 2] = [b"\xff\xfe", b"caf\xe9"];
/// A sparse file is this long and has its data in the middle.
const SPARSE_BYTES: u64 = 9 * 1_048_576 + 3;
/// What file systems may allocate beside data.
const ALLOCATION_SLACK_BYTES: u64 = 256 * 1024;

/// Makes a tree with every kind of entry that travels at `root`, which does not exist yet.
pub(crate) fn create(root: &Path, seed: u64) {
    create_with_names(root, seed, true);
}

/// Like [`create`], but every name is text: what `b3sum --check` can read back.
pub(crate) fn create_text(root: &Path, seed: u64) {
    create_with_names(root, seed, false);
}

fn create_with_names(root: &Path, seed: u64, with_byte_names: bool) {
    let mut random = Random::new(seed);
    fs::create_dir(root).expect("the root is new");
    let sizes = subdirectory(root, "sizes");
    for size in SIZES {
        fs::write(sizes.join(size.to_string()), random.bytes(size)).expect("a file");
    }
    sparse_file(&root.join("sparse"), &mut random);
    File::create(root.join("hole")).and_then(|f| f.set_len(SPARSE_BYTES)).expect("a file that is all hole");

    subdirectory(&subdirectory(root, "empty"), "inner");
    let deep = (0..20).fold(subdirectory(root, "deep"), |d, n| subdirectory(&d, &n.to_string()));
    fs::write(deep.join("bottom"), b"far down").expect("a file");
    let many = subdirectory(root, "many");
    for n in 0..200 {
        fs::write(many.join(format!("f{n:03}")), random.bytes(n * 7)).expect("a file");
    }

    let names = subdirectory(root, "names");
    let texts = TEXT_NAMES.iter().map(|n| n.as_bytes());
    for name in texts.chain(BYTE_NAMES.into_iter().filter(|_| with_byte_names)) {
        fs::write(names.join(OsStr::from_bytes(name)), name).expect("the file system takes any name");
        let dir = names.join(OsStr::from_bytes(&[name, b".d"].concat()));
        fs::create_dir(&dir).and_then(|()| fs::write(dir.join("in it"), name)).expect("a directory");
    }
    fs::write(names.join("n".repeat(255)), b"as long as a name can be").expect("a file");

    let links = subdirectory(root, "links");
    for (name, target) in [
        ("relative", &b"../sizes/1"[..]),
        ("absolute", b"/etc/hostname"),
        ("dangling", b"nowhere/at all"),
        ("to-a-directory", b"../sizes"),
        ("up", b"../../.."),
        ("bytes", if with_byte_names { b"\xff\n" } else { b"x\n" }),
    ] {
        symlink(OsStr::from_bytes(target), links.join(name)).expect("a link");
    }

    modes_and_times(root, &mut random);
}

fn modes_and_times(root: &Path, random: &mut Random) {
    let modes = subdirectory(root, "modes");
    for mode in [0o400, 0o444, 0o600, 0o640, 0o755, 0o777] {
        let path = modes.join(format!("{mode:o}"));
        fs::write(&path, b"mode").expect("a file");
        set_mode(&path, mode);
    }
    let read_only = subdirectory(root, "read-only");
    let inner = subdirectory(&read_only, "inner");
    fs::write(read_only.join("child"), b"in a directory that cannot be written").expect("a file");
    fs::write(inner.join("grandchild"), random.bytes(300_000)).expect("a file");

    let times = subdirectory(root, "times");
    for (name, seconds, nanos) in
        [("ns", 1_600_000_000, 123_456_789), ("before-1970", -86_401, 999_999_999), ("epoch", 0, 1)]
    {
        let path = times.join(name);
        fs::write(&path, name).expect("a file");
        set_mtime(&path, seconds, nanos);
        let dir = subdirectory(&times, &format!("{name}.d"));
        fs::write(dir.join("x"), b"x").expect("a file");
        set_mtime(&dir, seconds, nanos);
        let link = times.join(format!("{name}.link"));
        symlink("x", &link).expect("a link");
        set_mtime(&link, seconds, nanos);
    }
    // Last, and children first: making entries changes times, and needs the right to write.
    for (n, dir) in [inner, read_only, times, modes, root.to_owned()].iter().enumerate() {
        set_mtime(dir, 1_500_000_000 + i64::try_from(n).expect("a few"), 5);
    }
    set_mode(&root.join("read-only/inner"), 0o500);
    set_mode(&root.join("read-only"), 0o555);
    set_mode(root, 0o751);
}

fn subdirectory(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    fs::create_dir(&path).expect("a new directory");
    path
}

/// Data in the middle, holes before and after.
fn sparse_file(path: &Path, random: &mut Random) {
    let file = File::create(path).expect("a file");
    file.set_len(SPARSE_BYTES).expect("any length");
    file.write_all_at(&random.bytes(70_000), 4 * 1_048_576 + 4096).expect("data in the middle");
    file.write_all_at(b"x", 6 * 1_048_576 - 1).expect("data at the end of a chunk");
}

/// Sets permission bits, whatever the umask is.
pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("permission bits");
}

/// Sets the modification time of anything, of a link itself too.
pub(crate) fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a modification time");
}

/// Writes a file of `len` random bytes, last modified long ago.
pub(crate) fn random_file(path: &Path, len: usize, seed: u64) -> blake3::Hash {
    let bytes = Random::new(seed).bytes(len);
    fs::write(path, &bytes).expect("a file");
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let file = File::options().write(true).open(path).expect("the file");
    file.set_times(FileTimes::new().set_modified(then)).expect("a modification time");
    blake3::hash(&bytes)
}

/// Everything about an entry that a transfer keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Facts {
    kind: &'static str,
    /// Permission bits; 0 for links, which have none.
    mode: u32,
    mtime: (i64, i64),
    size: u64,
    /// The BLAKE3 root of a file, the target of a link.
    content: Vec<u8>,
}

/// Paths below a root, the root itself being empty, with what is known and the bytes allocated.
type Listing = BTreeMap<Vec<u8>, (Facts, u64)>;

fn list(root: &Path) -> Listing {
    let mut listing = Listing::new();
    list_into(root, Vec::new(), &mut listing);
    listing
}

fn list_into(path: &Path, name: Vec<u8>, listing: &mut Listing) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file_type = meta.file_type();
    let mut facts = Facts {
        kind: "file",
        mode: meta.mode() & 0o7777,
        mtime: (meta.mtime(), meta.mtime_nsec()),
        size: meta.len(),
        content: Vec::new(),
    };
    if file_type.is_symlink() {
        facts.kind = "link";
        facts.mode = 0;
        facts.content = fs::read_link(path).expect("a link has a target").as_os_str().as_bytes().to_vec();
    } else if file_type.is_dir() {
        facts.kind = "directory";
        // The size of a directory is the file system's own affair.
        facts.size = 0;
        for entry in fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) {
            let entry = entry.expect("an entry of a directory");
            let mut child = name.clone();
            if !child.is_empty() {
                child.push(b'/');
            }
            child.extend_from_slice(entry.file_name().as_bytes());
            list_into(&entry.path(), child, listing);
        }
    } else if file_type.is_file() {
        facts.content = hash(path).as_bytes().to_vec();
    } else {
        facts.kind = if file_type.is_fifo() || file_type.is_socket() { "FIFO or socket" } else { "device" };
    }
    listing.insert(name, (facts, meta.blocks() * 512));
}

/// The BLAKE3 root of a file.
pub(crate) fn hash(path: &Path) -> blake3::Hash {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).expect("a file can be read") {
            0 => return hasher.finalize(),
            len => hasher.update(&buffer[..len]),
        };
    }
}

/// Says how two trees differ: kinds, bytes, permission bits, times to the nanosecond (of directories and links
/// too), link targets, and holes that were filled. Empty when they do not.
pub(crate) fn differences(source: &Path, copy: &Path) -> String {
    let (source, mut copy) = (list(source), list(copy));
    let mut out = String::new();
    for (name, (facts, allocated)) in source {
        let shown = name.escape_ascii();
        match copy.remove(&name) {
            None => writeln!(out, "{shown}: missing").expect("a string takes all"),
            Some((other, _)) if other != facts => {
                writeln!(out, "{shown}: {facts:?} became {other:?}").expect("a string takes all");
            }
            Some((_, other)) => {
                let is_sparse = facts.kind == "file" && allocated + ALLOCATION_SLACK_BYTES < facts.size;
                if is_sparse && other > allocated + ALLOCATION_SLACK_BYTES {
                    writeln!(out, "{shown}: {allocated} bytes allocated became {other}")
                        .expect("a string takes all");
                }
            }
        }
    }
    for name in copy.keys() {
        writeln!(out, "{}: not in the source", name.escape_ascii()).expect("a string takes all");
    }
    out
}

/// Panics when two trees differ, by the comparison here and by rsync's when it is installed.
#[track_caller]
pub(crate) fn assert_same(source: &Path, copy: &Path) {
    let differences = differences(source, copy);
    assert!(differences.is_empty(), "the trees differ:\n{differences}");
    if !has("rsync") {
        return;
    }
    let output = Command::new("rsync")
        .args(["-rlptn", "--itemize-changes", "--checksum", "--delete"])
        .args([source.join(""), copy.join("")])
        .output()
        .expect("rsync starts");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "rsync: {}", said.escape_ascii());
}
