//! The forms of PEER.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail, ensure};
use zeroize::Zeroizing;

use crate::auth::{
    Code, CodeError, Ticket, TicketError, resembles_code, resembles_ticket, without_parts_of_tickets,
};
use crate::protocol::path::printable;
use crate::transport::address::{AddressError, HostPort};

/// Bytes of a file that holds a PEER.
const PEER_FILE_BYTES_MAX: u64 = 64 * 1024;

const FORMS: &str = "expected a ticket (tl1…), a one-time code (N-word-word), the name of a known peer, HOST, HOST:PORT, [ADDRESS]:PORT, ssh:[USER@]HOST[:PATH] or dir:PATH";

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
    /// `ssh:[USER@]HOST[:PATH]`.
    Ssh(SshPath),
    /// `stdio:`.
    Stdio,
    /// `dir:PATH`.
    Dir(PathBuf),
}

/// A machine that ssh reaches, and a path there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshPath {
    /// `[USER@]HOST`, as ssh takes it.
    pub destination: String,
    /// The host in it.
    pub host: String,
    /// The path, from the home directory there; empty for that itself.
    pub path: OsString,
}

impl fmt::Debug for Written {
    /// A ticket is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(_) => f.write_str("Ticket(…)"),
            Self::Code(code, host) => write!(f, "{code:?} at {host:?}"),
            Self::Host { text, .. } => write!(f, "Host({text})"),
            Self::Ssh(path) => write!(f, "{path:?}"),
            Self::Stdio => f.write_str("Stdio"),
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
    let mut text = Zeroizing::new(String::new());
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
    // The content may be a mistyped secret.
    parse(OsStr::new(text)).map_err(|_| anyhow!("it does not contain a peer: {FORMS}"))
}

/// Parses `text` as it stands.
///
/// # Errors
/// A sentence that says what is wrong and how to fix it.
pub fn parse(text: &OsStr) -> Result<Written> {
    if let Some(path) = strip(text, b"dir:") {
        ensure!(!path.is_empty(), "`dir:` needs a path");
        return Ok(Written::Dir(path.into()));
    }
    if let Some(rest) = strip(text, b"ssh:") {
        return ssh_path(&rest).map(Written::Ssh);
    }
    if text == "stdio:" {
        return Ok(Written::Stdio);
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

/// What follows after `prefix`, of any bytes.
fn strip(text: &OsStr, prefix: &[u8]) -> Option<OsString> {
    text.as_bytes().strip_prefix(prefix).map(|rest| OsStr::from_bytes(rest).to_owned())
}

/// Reads `[USER@]HOST[:PATH]`, with an IPv6 address in brackets.
fn ssh_path(text: &OsStr) -> Result<SshPath> {
    let bytes = text.as_bytes();
    let shown = || printable(bytes);
    ensure!(
        !bytes.starts_with(b"//"),
        "`ssh:{}` is a URL: write ssh:[USER@]HOST[:PATH], and the port as in --ssh 'ssh -p 2222'",
        shown()
    );
    // A colon within brackets belongs to the address.
    let open = bytes.iter().position(|byte| *byte == b'[').unwrap_or(bytes.len());
    let end = match bytes.iter().position(|byte| *byte == b':') {
        Some(colon) if colon < open => colon,
        first => {
            let close = bytes.iter().position(|byte| *byte == b']');
            ensure!(close.is_some() || open == bytes.len(), "in `ssh:{}`, a bracket is not closed", shown());
            close.map_or(first.unwrap_or(bytes.len()), |close| close + 1)
        }
    };
    let (machine, rest) = bytes.split_at(end);
    let path = match rest {
        [] => rest,
        [b':', path @ ..] => path,
        _ => bail!("in `ssh:{}`, only `:PATH` may follow the bracket", shown()),
    };
    let machine = std::str::from_utf8(machine).map_err(|_| anyhow!("`ssh:{}` names no host", shown()))?;
    let (user, host) = machine.rsplit_once('@').map_or((None, machine), |(user, host)| (Some(user), host));
    let host: HostPort = host.parse().map_err(|e: AddressError| anyhow!("{e}"))?;
    let is_of_name = |c: char| c.is_alphanumeric() || "._-+@\\".contains(c);
    if let Some(user) = user {
        let is_name = !user.is_empty() && !user.starts_with('-') && user.chars().all(is_of_name);
        ensure!(is_name, "in `ssh:{}`, the user is not valid", shown());
    }
    let destination = user.map_or(host.host.clone(), |user| format!("{user}@{}", host.host));
    // A shell would do that, but there is none that reads the path.
    let path = match path {
        b"~" => b"",
        [b'~', b'/', path @ ..] => path,
        path => path,
    };
    Ok(SshPath { destination, host: host.host, path: OsStr::from_bytes(path).to_owned() })
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
            ("ssh:", "host is missing"),
            ("ssh:-oProxyCommand=x:dir", "begin with a dash"),
            ("ssh:-x@host:dir", "the user is not valid"),
            ("ssh:a b@host:dir", "the user is not valid"),
            ("ssh:me@-host", "begin with a dash"),
            ("ssh:ho$st:dir", "only letters"),
            ("ssh:[2001:db8::7:dir", "not closed"),
            ("ssh:[2001:db8::7]dir", "only `:PATH` may follow"),
            ("ssh://me@host/dir", "is a URL"),
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

    #[test]
    fn machines_by_ssh() {
        for (text, destination, host, path) in [
            ("ssh:host", "host", "host", ""),
            ("ssh:host:", "host", "host", ""),
            ("ssh:me@host.example:a b/c:d", "me@host.example", "host.example", "a b/c:d"),
            ("ssh:me@corp@host:/srv", "me@corp@host", "host", "/srv"),
            ("ssh:me@[2001:db8::7]:dir", "me@2001:db8::7", "2001:db8::7", "dir"),
            ("ssh:[fe80::1%eth0]", "fe80::1%eth0", "fe80::1%eth0", ""),
            ("ssh:host:a[1]:b", "host", "host", "a[1]:b"),
            ("ssh:host:~/x", "host", "host", "x"),
            ("ssh:host:~", "host", "host", ""),
        ] {
            let expected =
                SshPath { destination: destination.to_owned(), host: host.to_owned(), path: path.into() };
            assert_eq!(peer(text).unwrap(), Written::Ssh(expected), "{text}");
        }
        assert_eq!(peer("stdio:").unwrap(), Written::Stdio);
    }

    #[test]
    fn directories_are_bytes() {
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
