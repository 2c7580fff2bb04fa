//! The forms of PEER.

use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::auth::{
    Code, CodeError, Ticket, TicketError, resembles_code, resembles_ticket, without_parts_of_tickets,
};
use crate::protocol::path::printable;
use crate::transport::address::{AddressError, HostPort};

/// Bytes of a file that holds a PEER.
const PEER_FILE_BYTES_MAX: u64 = 64 * 1024;

const FORMS: &str = "expected a ticket (tl1…), a one-time code (N-word-word), the name of a known peer, HOST, HOST:PORT, [ADDRESS]:PORT or dir:PATH";

/// A PEER as it is written.
#[derive(Clone, PartialEq, Eq)]
pub enum Written {
    /// `tl1…`. It holds a secret.
    Ticket(Ticket),
    /// `N-word-word` or `HOST[:PORT]/N-word-word`. It is a secret.
    Code(Code, Option<HostPort>),
    /// The name of a known peer, or a host.
    Host {
        /// As written.
        text: String,
        /// Read as a host.
        host: HostPort,
    },
    /// `dir:PATH`.
    Dir(PathBuf),
}

impl fmt::Debug for Written {
    /// A ticket is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(_) => f.write_str("Ticket(…)"),
            Self::Code(code, host) => write!(f, "{code:?} at {host:?}"),
            Self::Host { text, .. } => write!(f, "Host({text})"),
            Self::Dir(path) => write!(f, "Dir({path:?})"),
        }
    }
}

/// Parses `text`. `@FILE` and `-` read the peer from a file or from `stdin`, so that other users do not see a secret
/// on the command line.
///
/// # Errors
/// A sentence that says what is wrong and how to fix it.
pub fn read(text: &OsStr, stdin: &mut dyn Read) -> Result<Written> {
    let Some(text) = text.to_str() else { return parse(text) };
    if text == "-" {
        return parse_secret(stdin).context("cannot read the peer from standard input");
    }
    if let Some(path) = text.strip_prefix('@') {
        let mut file = std::fs::File::open(path)
            .with_context(|| format!("cannot read the peer from {}", printable(path.as_bytes())))?;
        return parse_secret(&mut file)
            .with_context(|| format!("cannot read the peer from {}", printable(path.as_bytes())));
    }
    parse(OsStr::new(text))
}

fn parse_secret(from: &mut dyn Read) -> Result<Written> {
    let mut text = String::new();
    from.take(PEER_FILE_BYTES_MAX).read_to_string(&mut text)?;
    let text = text.trim();
    ensure!(!text.is_empty(), "it is empty");
    // The ticket may be part of the command that the other side printed.
    if let Some(ticket) = Ticket::find(text) {
        return Ok(Written::Ticket(ticket?));
    }
    ensure!(!text.contains(['\n', '\r']), "it has more than one line");
    if let Some(code) = code(text) {
        return code;
    }
    refuse_later_forms(text)?;
    // The content may be a mistyped secret.
    parse(OsStr::new(text)).map_err(|_| anyhow!("it does not contain a peer: {FORMS}"))
}

/// Parses `text` as it stands.
///
/// # Errors
/// A sentence that says what is wrong and how to fix it.
pub fn parse(text: &OsStr) -> Result<Written> {
    if let Some(path) = strip_dir(text) {
        ensure!(!path.as_os_str().is_empty(), "`dir:` needs a path");
        return Ok(Written::Dir(path));
    }
    let Some(text) = text.to_str() else {
        bail!("`{}` is not a valid peer: {FORMS}", printable(text.as_encoded_bytes()));
    };
    let text = text.trim();
    ensure!(!text.is_empty(), "the peer is empty: {FORMS}");
    // A host name that starts like a ticket can be given with a port.
    if let Some(ticket) = Ticket::find(text) {
        return Ok(Written::Ticket(ticket?));
    }
    if let Some(code) = code(text) {
        return code;
    }
    ensure!(!may_be_ticket(text), TicketError::Checksum);
    refuse_later_forms(text)?;
    let host = text.parse().map_err(|e: AddressError| anyhow!("{e} ({FORMS})"))?;
    Ok(Written::Host { text: text.to_owned(), host })
}

/// The code in `text`, if it has the form of one, perhaps with its host before it.
fn code(text: &str) -> Option<Result<Written>> {
    let (host, code) = text.rsplit_once('/').map_or((None, text), |(host, code)| (Some(host), code));
    resembles_code(code).then(|| {
        let host = host.map(|host| host.parse().map_err(|e: AddressError| anyhow!("before the code: {e}")));
        Ok(Written::Code(code.parse().map_err(|e: CodeError| anyhow!(e))?, host.transpose()?))
    })
}

/// Whether `text` has the form of a code, perhaps with its host before it.
pub fn may_be_code(text: &str) -> bool {
    resembles_code(text.rsplit('/').next().unwrap_or(text))
}

/// Whether `text` is a ticket or part of one, and so not a host name.
pub fn may_be_ticket(text: &str) -> bool {
    text.split_whitespace().next().is_some_and(resembles_ticket) || without_parts_of_tickets(text) != text
}

fn refuse_later_forms(text: &str) -> Result<()> {
    if text.starts_with("ssh:") {
        bail!("this version of towline cannot start the other side through ssh: use a ticket (tl1…)");
    }
    Ok(())
}

/// The path after `dir:`, of any bytes.
#[cfg(unix)]
fn strip_dir(text: &OsStr) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    text.as_bytes().strip_prefix(b"dir:").map(|path| PathBuf::from(OsStr::from_bytes(path)))
}

/// The path after `dir:`.
#[cfg(not(unix))]
fn strip_dir(text: &OsStr) -> Option<PathBuf> {
    text.to_str()?.strip_prefix("dir:").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ticket::TICKET;

    fn ticket() -> Written {
        Written::Ticket(TICKET.parse().unwrap())
    }

    fn peer(text: &str) -> Result<Written> {
        parse(OsStr::new(text))
    }

    #[test]
    fn tickets_in_either_case() {
        assert_eq!(peer(TICKET).unwrap(), ticket());
        assert_eq!(peer(&TICKET.to_uppercase()).unwrap(), ticket());
        let (head, tail) = TICKET.split_at(40);
        assert_eq!(peer(&format!(" {head}\r\n {tail}\r\n")).unwrap(), ticket());
    }

    #[test]
    fn hosts_with_and_without_port() {
        for (text, host, port) in [
            ("backup", "backup", 4750),
            ("backup.example.org:99", "backup.example.org", 99),
            ("192.0.2.7", "192.0.2.7", 4750),
            ("192.0.2.7:1", "192.0.2.7", 1),
            ("::1", "::1", 4750),
            ("2001:db8::7", "2001:db8::7", 4750),
            ("[2001:db8::7]", "2001:db8::7", 4750),
            ("[2001:db8::7]:65535", "2001:db8::7", 65535),
            ("[fe80::1%eth0]:9", "fe80::1%eth0", 9),
            ("tl1.example.org", "tl1.example.org", 4750),
            ("tl1:4750", "tl1", 4750),
            ("grün.example", "grün.example", 4750),
            ("7-up", "7-up", 4750),
        ] {
            let host = HostPort { host: host.to_owned(), port };
            assert_eq!(peer(text).unwrap(), Written::Host { text: text.to_owned(), host }, "{text}");
        }
    }

    #[test]
    fn invalid_peers_say_why() {
        for (text, why) in [
            ("", "empty"),
            ("host:0", "1 to 65535"),
            ("host:65536", "1 to 65535"),
            ("host:+5", "1 to 65535"),
            ("host:", "1 to 65535"),
            (":4750", "host is missing"),
            ("[::1", "not closed"),
            ("[::1]x", "only `:PORT` may follow"),
            ("[host]:5", "an IPv6 address"),
            ("1:2:3", "in brackets"),
            ("user@host", "only letters"),
            ("a b", "only letters"),
            ("-x", "begin with a dash"),
            ("a\u{1b}[2J", "\\u{1b}"),
            ("dir:", "needs a path"),
            ("ssh:me@host:dir", "through ssh"),
            ("7-octopus-lantren", "word 2 of the code is mistyped"),
            ("a@b/7-octopus-lantern", "before the code"),
        ] {
            let error = format!("{:#}", peer(text).unwrap_err());
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn codes_with_and_without_a_host() {
        let code: Code = "7-octopus-lantern".parse().unwrap();
        assert_eq!(peer(" 7-Octopus-lan ").unwrap(), Written::Code(code.clone(), None));
        let host = Some(HostPort { host: "2001:db8::7".to_owned(), port: 9 });
        assert_eq!(peer("[2001:db8::7]:9/7-octopus-lantern").unwrap(), Written::Code(code, host));
    }

    #[cfg(unix)]
    #[test]
    fn directories_are_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let text = OsStr::from_bytes(b"dir:/a/\xff");
        assert_eq!(parse(text).unwrap(), Written::Dir(OsStr::from_bytes(b"/a/\xff").into()));
        assert!(parse(OsStr::from_bytes(b"h\xff")).unwrap_err().to_string().contains("h\\xff"));
    }

    #[test]
    fn attack_8_a_secret_comes_from_a_file_or_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ticket");
        std::fs::write(&path, format!("{TICKET}\n")).unwrap();
        let at = format!("@{}", path.display());
        let read_from = |mut text: &[u8]| read(OsStr::new("-"), &mut text);
        assert_eq!(read(OsStr::new(&at), &mut std::io::empty()).unwrap(), ticket());
        assert_eq!(read_from(format!("  {TICKET}\n\n").as_bytes()).unwrap(), ticket());
        let empty = read_from(b"").unwrap_err();
        assert_eq!(format!("{empty:#}"), "cannot read the peer from standard input: it is empty");
        let pasted = format!("$ towline receive --from {TICKET}\n");
        assert_eq!(read_from(pasted.as_bytes()).unwrap(), ticket());
        for secret in [&b"tl1a\ntl1b"[..], b"tl0secret!", b"x\ntl-secret"] {
            let error = format!("{:#}", read_from(secret).unwrap_err());
            assert!(!error.contains("secret") && !error.contains("tl1a"), "{error}");
        }
        let absent = read(OsStr::new("@/does/not/exist"), &mut std::io::empty()).unwrap_err();
        assert!(absent.to_string().contains("/does/not/exist"));
    }
}
