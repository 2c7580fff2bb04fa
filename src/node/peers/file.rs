//! The file of known peers. People edit it by hand, so a change keeps comments and order.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use nix::fcntl::{Flock, FlockArg, OFlag};
use tempfile::NamedTempFile;
use toml_edit::{DocumentMut, Item};

use super::edit::{prefer, remove, spread_out, table, write_rights};
use super::entry::{KnownPeer, KnownPeers, PeerChange};
use super::error::PeersError;
use super::name::PeerName;
use crate::node::private_dir;
use crate::protocol::path::printable;
use crate::transport::address::HostPort;

/// Maximum bytes of the file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Maximum characters of a message about its content: keys can be long.
const MESSAGE_CHARS_MAX: usize = 500;
/// Addresses of one peer from which on a new one replaces another.
const ADDRESSES_MAX: usize = 8;
/// Locked, beside the file, while a process changes that.
const LOCK_FILE: &str = ".peers.lock";
/// The beginning of a new file.
const HEADING: &str = "# The machines that this one knows; `man towline-peers` describes the keys.\n";

/// The file of known peers, which need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeersFile {
    path: Option<PathBuf>,
}

impl PeersFile {
    /// `towline/peers.toml` in `$XDG_CONFIG_HOME` or `~/.config`.
    pub fn of_this_user() -> Self {
        let dir = etcetera::choose_base_strategy().ok().map(|strategy| strategy.config_dir());
        Self::at(dir.map(|dir| dir.join("towline").join("peers.toml")))
    }

    /// At `path`; without one, nobody is known.
    pub fn at(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Its path, safe to print.
    pub fn shown(&self) -> String {
        let path = self.path.as_deref().unwrap_or(Path::new("peers.toml"));
        printable(path.as_os_str().as_encoded_bytes())
    }

    /// Reads it. Nobody is known when there is no file.
    ///
    /// # Errors
    ///
    /// It cannot be read, others can change it, or its content is invalid.
    pub fn load(&self) -> Result<KnownPeers, PeersError> {
        let Some(path) = &self.path else { return Ok(KnownPeers::default()) };
        self.parse(&read(path)?)
    }

    /// Adds a peer.
    ///
    /// # Errors
    ///
    /// Its name or key is known already, or the file cannot be read or written.
    pub fn add(&self, name: &PeerName, peer: &KnownPeer) -> Result<(), PeersError> {
        self.change(|known, document| {
            if let Some((_, known)) = known.named(name.as_str()) {
                return Err(PeersError::NameTaken { name: name.clone(), known: known.fingerprint });
            }
            if let Some((name, _)) = known.with_key(peer.fingerprint) {
                let fingerprint = peer.fingerprint;
                return Err(PeersError::KeyTaken { name: name.clone(), fingerprint });
            }
            let mut table = table(peer);
            // Comments at the end of the file stay before the new entry.
            table.decor_mut().set_prefix(format!("{}\n", document.trailing().as_str().unwrap_or_default()));
            document.set_trailing("");
            document.insert(name.as_str(), Item::Table(table));
            Ok(())
        })
    }

    /// What is known of a peer.
    ///
    /// # Errors
    ///
    /// There is no such peer, or the file cannot be read.
    pub fn known(&self, name: &PeerName) -> Result<KnownPeer, PeersError> {
        find(&self.load()?, name).map(|(_, peer)| peer.clone())
    }

    /// Puts `address` first among those of a peer; returns what is known of it then. When there are many, it replaces
    /// the first: those after it may have been written by hand.
    ///
    /// # Errors
    ///
    /// There is no such peer, or the file cannot be read or written.
    pub fn prefer_address(&self, name: &PeerName, address: &HostPort) -> Result<KnownPeer, PeersError> {
        self.change(|known, document| {
            let (_, peer) = find(known, name)?;
            let mut peer = peer.clone();
            peer.addresses.retain(|other| other != address);
            if peer.addresses.len() >= ADDRESSES_MAX {
                peer.addresses.remove(0);
            }
            peer.addresses.insert(0, address.clone());
            prefer(document, name.as_str(), address, peer.addresses.len());
            Ok(peer)
        })
    }

    /// Changes what a peer may do; returns what is known of it then.
    ///
    /// # Errors
    ///
    /// There is no such peer, it would have a quota without a directory, or the file cannot be read or written.
    pub fn set(&self, name: &PeerName, change: &PeerChange) -> Result<KnownPeer, PeersError> {
        self.change(|known, document| {
            let mut peer = find(known, name)?.1.clone();
            change.apply(&mut peer);
            spread_out(document, name.as_str());
            if let Some(table) = document.get_mut(name.as_str()).and_then(Item::as_table_mut) {
                write_rights(table, &peer);
            }
            Ok(peer)
        })
    }

    /// Removes a peer; returns what was known of it.
    ///
    /// # Errors
    ///
    /// There is no such peer, or the file cannot be read or written.
    pub fn remove(&self, name: &PeerName) -> Result<KnownPeer, PeersError> {
        self.change(|known, document| {
            let (_, peer) = find(known, name)?;
            remove(document, name.as_str());
            Ok(peer.clone())
        })
    }

    /// Gives a peer another name.
    ///
    /// # Errors
    ///
    /// There is no such peer, the new name is taken, or the file cannot be read or written.
    pub fn rename(&self, name: &PeerName, to: &PeerName) -> Result<KnownPeer, PeersError> {
        self.change(|known, document| {
            let (_, peer) = find(known, name)?;
            if let Some((_, other)) = known.named(to.as_str()) {
                return Err(PeersError::NameTaken { name: to.clone(), known: other.fingerprint });
            }
            spread_out(document, name.as_str());
            if let Some(entry) = document.remove(name.as_str()) {
                document.insert(to.as_str(), entry);
            }
            Ok(peer.clone())
        })
    }

    /// Changes the file in one step: another process sees the old content or the new one, and no change of another
    /// process in between is lost.
    fn change<T>(
        &self,
        change: impl FnOnce(&KnownPeers, &mut DocumentMut) -> Result<T, PeersError>,
    ) -> Result<T, PeersError> {
        let path = self.path.as_ref().ok_or(PeersError::NoHome)?;
        let io = |cause| PeersError::Io { op: "write", path: path.clone(), cause };
        // A link stays a link: the file may lie among others that are kept under version control.
        let real = match is_missing(path).map_err(io)? {
            true => path.clone(),
            false => fs::canonicalize(path).map_err(io)?,
        };
        let dir = real.parent().unwrap_or(Path::new("."));
        private_dir::create(dir).map_err(io)?;
        let _lock = lock(dir).map_err(io)?;
        let text = read(&real)?;
        let known = self.parse(&text)?;
        let text = if text.is_empty() { HEADING.to_owned() } else { text };
        let mut document: DocumentMut =
            text.parse().map_err(|e: toml_edit::TomlError| self.malformed(&text, e.span(), e.message()))?;
        let changed = change(&known, &mut document)?;
        let text = document.to_string();
        // Whatever was written must be readable.
        self.parse(&text)?;
        replace(&real, dir, &text).map_err(io)?;
        Ok(changed)
    }

    fn parse(&self, text: &str) -> Result<KnownPeers, PeersError> {
        let peers: BTreeMap<PeerName, KnownPeer> =
            toml::from_str(text).map_err(|e| self.malformed(text, e.span(), e.message()))?;
        let path = self.path.clone().unwrap_or_default();
        let has_no_directory = |peer: &KnownPeer| peer.quota.is_some() && peer.into.is_none();
        if let Some((name, _)) = peers.iter().find(|(_, peer)| has_no_directory(peer)) {
            return Err(PeersError::NoDirectory { path, name: name.clone() });
        }
        KnownPeers::new(peers).map_err(|(first, second)| PeersError::Twice { path, first, second })
    }

    fn malformed(&self, text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> PeersError {
        let line = span.map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        let mut what = printable(message.as_bytes());
        if let Some((at, _)) = what.char_indices().nth(MESSAGE_CHARS_MAX) {
            what.replace_range(at.., "…");
        }
        PeersError::Malformed { path: self.path.clone().unwrap_or_default(), line, what }
    }
}

fn find<'a>(known: &'a KnownPeers, name: &PeerName) -> Result<(&'a PeerName, &'a KnownPeer), PeersError> {
    let near = || known.near(name.as_str());
    known.named(name.as_str()).ok_or_else(|| PeersError::Unknown { name: name.clone(), near: near() })
}

/// The text of a regular file that only its owner can change; empty when there is none.
fn read(path: &Path) -> Result<String, PeersError> {
    let io = |cause| PeersError::Io { op: "read", path: path.to_owned(), cause };
    if is_missing(path).map_err(io)? {
        return Ok(String::new());
    }
    let mut options = OpenOptions::new();
    // Without waiting: opening a FIFO would block.
    #[cfg(unix)]
    options.custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.read(true).open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    // A device might not end.
    if !metadata.is_file() {
        return Err(io(io::Error::other("it is not a regular file")));
    }
    check_private(&metadata, path)?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes"))));
    }
    Ok(text)
}

/// Whether there is no file at `path`. A link that leads nowhere is an error: its file may come back, for example when
/// a volume is mounted.
fn is_missing(path: &Path) -> io::Result<bool> {
    for part in path.ancestors() {
        match fs::symlink_metadata(part) {
            Ok(_) => return fs::metadata(part).map(|_| part != path),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Others must not be able to change the file, or to put another one in its place.
#[cfg(unix)]
fn check_private(file: &Metadata, path: &Path) -> Result<(), PeersError> {
    let io = |cause| PeersError::Io { op: "read", path: path.to_owned(), cause };
    let (owner, mode) = (file.uid(), file.mode() & 0o7777);
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(PeersError::OfOtherUser { path: path.to_owned(), owner });
    }
    if mode & 0o022 != 0 {
        return Err(PeersError::OthersCanChange { path: path.to_owned(), mode });
    }
    // Where the link is, and where it leads to.
    for path in [path, &fs::canonicalize(path).map_err(io)?] {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mode = fs::metadata(dir).map_err(io)?.mode() & 0o7777;
        // With the sticky bit, only the owner of a file can replace it.
        if mode & 0o022 != 0 && mode & 0o1000 == 0 {
            return Err(PeersError::OthersCanReplace { dir: dir.to_owned(), mode });
        }
    }
    Ok(())
}

/// On other systems, the directory's access list protects the file.
#[cfg(not(unix))]
fn check_private(_file: &Metadata, _path: &Path) -> Result<(), PeersError> {
    Ok(())
}

/// Waits for other processes that change the file in `dir`. Other users cannot open the lock file, so they cannot hold
/// the lock; they could hold one of the directory itself.
fn lock(dir: &Path) -> io::Result<Flock<File>> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    options.mode(0o600).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let file = options.write(true).create(true).truncate(false).open(dir.join(LOCK_FILE))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// Replaces `path` in `dir`, with mode 0600, so that after a crash it has the old content or the new one.
fn replace(path: &Path, dir: &Path, text: &str) -> io::Result<()> {
    let mut file = NamedTempFile::with_prefix_in(".peers-", dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::super::entry::Right;
    use super::*;
    use crate::auth::Fingerprint;
    use crate::protocol::final_name::Exists;
    use crate::storage::fs::Bounds;

    fn file() -> (TempDir, PeersFile) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("towline/peers.toml");
        (dir, PeersFile { path: Some(path) })
    }

    fn path(file: &PeersFile) -> &Path {
        file.path.as_deref().unwrap()
    }

    fn name(text: &str) -> PeerName {
        text.parse().unwrap()
    }

    fn peer(key: u8) -> KnownPeer {
        KnownPeer {
            fingerprint: Fingerprint::from_bytes([key; 32]),
            addresses: vec!["192.0.2.7".parse().unwrap(), "[2001:db8::7]:9".parse().unwrap()],
            may: vec![Right::Send],
            into: None,
            exists: Vec::new(),
            quota: None,
            limits: Bounds::default(),
        }
    }

    #[test]
    fn what_was_added_is_known_in_a_private_file() {
        let (_dir, file) = file();
        assert_eq!(file.load().unwrap(), KnownPeers::default());
        file.add(&name("laptop"), &peer(1)).unwrap();
        file.add(&name("desk.example"), &peer(2)).unwrap();
        let known = file.load().unwrap();
        assert_eq!(known.named("laptop"), Some((&name("laptop"), &peer(1))));
        assert_eq!(known.with_key(peer(2).fingerprint).unwrap().0.as_str(), "desk.example");
        assert_eq!(known.at_host("192.0.2.7").len(), 2);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(path(&file)), mode(path(&file).parent().unwrap())), (0o600, 0o700));
        let left: Vec<_> = fs::read_dir(path(&file).parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 2, "nothing but the lock is left behind");
        assert_eq!(mode(&path(&file).with_file_name(LOCK_FILE)), 0o600);
    }

    #[test]
    fn changes_keep_comments_order_and_links() {
        let (dir, file) = file();
        let [one, two] = [1, 2].map(|key| peer(key).fingerprint);
        let text = format!(
            "# mine\n[b] # the desk\nfingerprint = \"{one}\" # by phone\nmay = [ \"send\" ]\n\n# theirs\n[a]\nfingerprint='{two}'\n"
        );
        fs::create_dir(path(&file).parent().unwrap()).unwrap();
        let real = dir.path().join("real.toml");
        fs::write(&real, &text).unwrap();
        std::os::unix::fs::symlink(&real, path(&file)).unwrap();

        file.rename(&name("b"), &name("c")).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), text.replace("[b]", "[c]"));
        file.prefer_address(&name("a"), &"192.0.2.9".parse().unwrap()).unwrap();
        file.prefer_address(&name("a"), &"192.0.2.10".parse().unwrap()).unwrap();
        file.prefer_address(&name("a"), &"192.0.2.9".parse().unwrap()).unwrap();
        let known = file.load().unwrap();
        let addresses: Vec<_> =
            known.named("a").unwrap().1.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.9:4750", "192.0.2.10:4750"]);
        file.remove(&name("a")).unwrap();
        let text = fs::read_to_string(&real).unwrap();
        fs::write(&real, format!("# all of them\n\n{text}# the end\n")).unwrap();
        file.add(&name("d"), &peer(3)).unwrap();
        let after = fs::read_to_string(&real).unwrap();
        assert!(after.starts_with("# all of them\n\n# mine\n[c] # the desk\n"), "{after}");
        assert!(after.contains("# by phone\n") && after.contains("# the end\n\n[d]\n"), "{after}");
        file.remove(&name("c")).unwrap();
        file.remove(&name("d")).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "# all of them\n# the end\n");
        assert!(fs::symlink_metadata(path(&file)).unwrap().is_symlink());
    }

    #[test]
    fn entries_in_one_line_keep_their_comments() {
        let (_dir, file) = file();
        let [one, two, three] = [1, 2, 3].map(|key| peer(key).fingerprint);
        fs::create_dir(path(&file).parent().unwrap()).unwrap();
        let text = format!(
            "# all\n\n# mine\na = {{ fingerprint = \"{one}\", addresses = [ \"192.0.2.1\" ] }} # by phone\n\
             # theirs\nb.fingerprint = \"{two}\" # by mail\nb.addresses = [\n  # at home\n  \"192.0.2.1\", # old\n] # both\n\
             c = {{ fingerprint = \"{three}\" }}\n"
        );
        fs::write(path(&file), text).unwrap();
        let now = || fs::read_to_string(path(&file)).unwrap();
        file.prefer_address(&name("a"), &"192.0.2.9".parse().unwrap()).unwrap();
        file.prefer_address(&name("b"), &"192.0.2.9".parse().unwrap()).unwrap();
        file.prefer_address(&name("c"), &"192.0.2.9".parse().unwrap()).unwrap();
        let comments = [
            "# all\n",
            "# mine\n",
            "# by phone\n",
            "# theirs\n",
            "# by mail\n",
            "# at home\n",
            "# old\n",
            "# both\n",
        ];
        let keeps = |text: &str, which: &[&str]| {
            for comment in which {
                assert!(text.contains(comment), "{comment} is gone: {text}");
            }
        };
        keeps(&now(), &comments);
        for (from, to) in [("a", "d"), ("b", "e"), ("c", "f")] {
            file.rename(&name(from), &name(to)).unwrap();
            keeps(&now(), &comments);
        }
        let known = file.load().unwrap();
        assert_eq!(known.named("e").unwrap().1.addresses.len(), 2);
        assert_eq!(known.named("f").unwrap().1.addresses.len(), 1);
        file.remove(&name("d")).unwrap();
        keeps(&now(), &["# all\n", "# theirs\n"]);
        assert!(!now().contains("# mine"), "{}", now());
    }

    #[test]
    fn rights_are_changed_one_by_one_and_comments_beside_them_stay() {
        let (_dir, file) = file();
        file.add(&name("a"), &peer(1)).unwrap();
        let text = fs::read_to_string(path(&file)).unwrap();
        fs::write(path(&file), text.replace("may = [\"send\"]", "may = [\"send\"] # by phone")).unwrap();
        let set = |change: PeerChange| file.set(&name("a"), &change);
        let quota = PeerChange { quota: Some(Some(10 << 30)), ..PeerChange::default() };
        let error = set(quota.clone()).unwrap_err().to_string();
        assert!(error.ends_with("a has a `quota`, which needs `into`, a directory of its own"), "{error}");
        set(PeerChange { into: Some(Some("ann".into())), ..quota }).unwrap();
        let exists = Some(vec![Exists::Rename, Exists::Skip]);
        set(PeerChange { exists, may: Some(vec![Right::Receive]), ..PeerChange::default() }).unwrap();
        let text = fs::read_to_string(path(&file)).unwrap();
        for line in [
            "may = [\"receive\"] # by phone\n",
            "into = \"ann\"\n",
            "exists = [\"rename\", \"skip\"]\n",
            "quota = \"10G\"\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let changed = set(PeerChange { quota: Some(None), exists: Some(vec![]), ..PeerChange::default() });
        let expected = KnownPeer { may: vec![Right::Receive], into: Some("ann".into()), ..peer(1) };
        assert_eq!((changed.unwrap(), file.known(&name("a")).unwrap()), (expected.clone(), expected));
        let text = fs::read_to_string(path(&file)).unwrap();
        fs::write(path(&file), format!("{text}quota = 1_000\n")).unwrap();
        assert_eq!(file.known(&name("a")).unwrap().quota, Some(1000));
        fs::write(path(&file), format!("{text}quota = true\n")).unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("expected a size such as \"10G\""), "{error}");
    }

    #[test]
    fn names_and_keys_are_known_once() {
        let (_dir, file) = file();
        file.add(&name("laptop"), &peer(1)).unwrap();
        let error = file.add(&name("laptop"), &peer(2)).unwrap_err().to_string();
        assert!(error.contains(&peer(1).fingerprint.to_string()), "{error}");
        let error = file.add(&name("other"), &peer(1)).unwrap_err().to_string();
        assert!(error.ends_with("already known as laptop"), "{error}");
        file.add(&name("desk"), &peer(2)).unwrap();
        assert!(file.rename(&name("desk"), &name("laptop")).is_err());
        let error = file.remove(&name("labtop")).unwrap_err().to_string();
        assert_eq!(error, "`labtop` is not a known peer; did you mean `laptop`?");
        assert!(!file.remove(&name("zzz")).unwrap_err().to_string().contains("did you mean"));
        let text = fs::read_to_string(path(&file)).unwrap();
        fs::write(
            path(&file),
            text.replace(&peer(2).fingerprint.to_string(), &peer(1).fingerprint.to_string()),
        )
        .unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.ends_with("desk and laptop have the same fingerprint"), "{error}");
    }

    #[test]
    fn attack_21_an_invalid_file_says_where_and_is_left_alone() {
        let (_dir, file) = file();
        file.add(&name("laptop"), &peer(1)).unwrap();
        let good = fs::read_to_string(path(&file)).unwrap();
        for (from, to, why) in [
            (
                "addresses",
                "adresses",
                "line 5: unknown field `adresses`, expected one of `fingerprint`, `addresses`",
            ),
            ("\"send\"", "\"sent\"", "unknown variant `sent`, expected one of `send`, `receive`"),
            ("[laptop]", "[\"a b\"]", "only letters, digits"),
            ("fingerprint", "#", "missing field `fingerprint`"),
            ("192.0.2.7", "a@b", "not a valid HOST[:PORT]"),
            ("[laptop]", "\u{1b}", "line 3: "),
        ] {
            let bad = good.replacen(from, to, 1);
            fs::write(path(&file), &bad).unwrap();
            let error = file.load().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("peers.toml, line "), "{to}: {error}");
            assert!(!error.contains('\u{1b}'), "{error}");
            file.add(&name("new"), &peer(9)).unwrap_err();
            assert_eq!(fs::read_to_string(path(&file)).unwrap(), bad);
        }
        fs::write(path(&file), &good).unwrap();
        fs::set_permissions(path(&file), fs::Permissions::from_mode(0o664)).unwrap();
        let error = file.load().unwrap_err().to_string();
        assert!(error.contains("chmod 600 "), "{error}");
    }

    #[test]
    fn attack_21_a_link_that_leads_nowhere_is_an_error_and_stays() {
        let (dir, file) = file();
        let mount = dir.path().join("mount");
        fs::create_dir(path(&file).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(mount.join("peers.toml"), path(&file)).unwrap();
        assert!(matches!(file.load(), Err(PeersError::Io { .. })));
        assert!(file.add(&name("laptop"), &peer(1)).is_err());
        assert!(fs::symlink_metadata(path(&file)).unwrap().is_symlink());
        // A home that is no directory has no file.
        assert!(PeersFile::at(Some("/dev/null/towline/peers.toml".into())).load().is_ok());
        let below = dir.path().join("towline2");
        std::os::unix::fs::symlink(&mount, &below).unwrap();
        let file = PeersFile::at(Some(below.join("peers.toml")));
        assert!(matches!(file.load(), Err(PeersError::Io { .. })));
    }

    #[test]
    fn attack_21_a_file_that_others_can_replace_is_refused() {
        let (_dir, file) = file();
        file.add(&name("laptop"), &peer(1)).unwrap();
        let dir = path(&file).parent().unwrap();
        for (mode, is_refused) in [(0o770, true), (0o702, true), (0o1777, false), (0o755, false)] {
            fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
            let loaded = file.load();
            assert_eq!(loaded.is_err(), is_refused, "{mode:o}");
            if let Err(error) = loaded {
                assert!(error.to_string().contains("chmod go-w "), "{error}");
            }
        }
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path(&file), Some(12345), None).unwrap();
            let error = file.load().unwrap_err().to_string();
            assert!(error.contains("belongs to another user (12345)"), "{error}");
        }
        fs::remove_file(path(&file)).unwrap();
        nix::unistd::mkfifo(path(&file), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(file.load().unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn a_lock_of_the_directory_holds_up_no_change() {
        let (_dir, file) = file();
        file.add(&name("laptop"), &peer(1)).unwrap();
        let dir = File::open(path(&file).parent().unwrap()).unwrap();
        let held = Flock::lock(dir, FlockArg::LockExclusiveNonblock).unwrap();
        let (tell, added) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(file.add(&name("desk"), &peer(2)).is_ok()));
        assert_eq!(added.recv_timeout(std::time::Duration::from_secs(20)), Ok(true));
        drop(held);
    }

    #[test]
    fn many_at_once_lose_nothing() {
        let (_dir, file) = file();
        std::thread::scope(|scope| {
            for key in 0..8 {
                let file = &file;
                scope.spawn(move || file.add(&name(&format!("peer-{key}")), &peer(key)).unwrap());
            }
        });
        assert_eq!(file.load().unwrap().iter().count(), 8);
    }
}
