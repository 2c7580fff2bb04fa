//! What the two sides tell each other over the pipes of ssh, before there is a connection.
//!
//! The side that listens begins with a line, because a login shell may have written something before it. Frames follow
//! in both directions, as on a control stream.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::auth::{ADDRESSES_MAX, Fingerprint, Secret};
use crate::protocol::path::printable;
use crate::protocol::wire::codec::{CodecError, Deframer, Fields, put_frame, put_varint};
use crate::transport::BytePipe;

/// All lines of an introduction begin with this.
const BEGIN: &[u8] = b"towline-";
/// The line before the first frame.
const INTRODUCTION: &str = "towline-introduction 1";
/// The line of the script that finds no towline; what it has found instead follows.
const ABSENT: &str = "towline-absent ";
/// The line of the script that cannot use a copy; what it could not do follows.
const FAILED: &str = "towline-failed ";
/// Bytes before the line, such as a message of the day, and bytes of the line.
const NOISE_BYTES_MAX: usize = 64 * 1024;
const LINE_BYTES_MAX: usize = 256;
/// Frame types: the listening side, the dialling side, and that only datagrams follow.
const LISTENER: u64 = 1;
const DIALLER: u64 = 2;
const DATAGRAMS: u64 = 3;
/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

/// The side that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListeningSide {
    /// Its key.
    pub(super) fingerprint: Fingerprint,
    /// For this meeting only.
    pub(super) secret: Secret,
    /// Where it listens, best first.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Why the other side was not understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unheard {
    /// It has ended.
    #[error("it ended before it introduced itself")]
    Ended,
    /// It has said many other things.
    #[error("what it wrote to standard output is no introduction")]
    Noise,
    /// It introduces itself in another way.
    #[error("it runs another version of towline, which introduces itself differently")]
    OtherVersion,
    /// There is no towline that this one could talk to. What there is instead.
    #[error("there is no towline ({0})")]
    Absent(String),
    /// A copy of this one cannot be used there: what the script could not do.
    #[error("it could not take a copy of this towline ({0})")]
    NotCopied(String),
    /// A frame is wrong.
    #[error("{0}")]
    Malformed(#[from] CodecError),
    /// The pipe is broken.
    #[error("the pipe to it fails: {0}")]
    Pipe(#[from] io::Error),
}

/// Reads what comes through the pipe.
pub(super) struct Listening<'a> {
    pipe: &'a BytePipe,
    frames: Deframer,
}

impl<'a> Listening<'a> {
    /// Begins with the frames.
    pub(super) fn to(pipe: &'a BytePipe) -> Self {
        Self { pipe, frames: Deframer::default() }
    }

    /// Reads the line and the introduction of a side that listens.
    pub(super) async fn listening_side(&mut self) -> Result<ListeningSide, Unheard> {
        let mut came = BytesMut::new();
        loop {
            if let Some((line, rest)) = line(&came)? {
                if let Some(what) = line.strip_prefix(ABSENT) {
                    return Err(Unheard::Absent(printable(what.as_bytes())));
                }
                if let Some(what) = line.strip_prefix(FAILED) {
                    return Err(Unheard::NotCopied(printable(what.as_bytes())));
                }
                if line != INTRODUCTION {
                    return Err(Unheard::OtherVersion);
                }
                self.frames.push(rest);
                return self.frame(LISTENER, listening_side).await;
            }
            let mut room = [0; READ_BYTES];
            match self.pipe.read(&mut room).await? {
                0 => return Err(Unheard::Ended),
                len => came.put_slice(&room[..len]),
            }
        }
    }

    /// Reads the introduction of a side that dials: its key.
    pub(super) async fn dialling_side(&mut self) -> Result<Fingerprint, Unheard> {
        self.frame(DIALLER, |mut fields| {
            let fingerprint = Fingerprint::from_bytes(fields.array()?);
            fields.skip_extensions()?;
            Ok(fingerprint)
        })
        .await
    }

    /// Waits until the other side says that only datagrams follow.
    pub(super) async fn datagrams(&mut self) -> Result<(), Unheard> {
        self.frame(DATAGRAMS, Fields::skip_extensions).await
    }

    /// Reads to the end, whatever comes.
    pub(super) async fn end(self) {
        let mut room = [0; READ_BYTES];
        while self.pipe.read(&mut room).await.is_ok_and(|len| len > 0) {}
    }

    async fn frame<T>(
        &mut self,
        expected: u64,
        read: impl Fn(Fields<Bytes>) -> Result<T, CodecError>,
    ) -> Result<T, Unheard> {
        loop {
            if let Some((kind, payload)) = self.frames.next_frame()? {
                if kind != expected {
                    return Err(CodecError::UnknownType(kind).into());
                }
                return Ok(read(Fields(payload))?);
            }
            let mut room = [0; READ_BYTES];
            match self.pipe.read(&mut room).await? {
                0 => return Err(Unheard::Ended),
                len => self.frames.push(&room[..len]),
            }
        }
    }
}

/// The first line of an introduction in `came`, without its end, and what follows; `None` if it may still come.
fn line(came: &[u8]) -> Result<Option<(String, &[u8])>, Unheard> {
    for at in 0..came.len().min(NOISE_BYTES_MAX) {
        let Some(rest) = came[at..].strip_prefix(BEGIN) else { continue };
        let Some(end) = rest.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
            if rest.len() >= LINE_BYTES_MAX {
                continue;
            }
            return Ok(None);
        };
        let line = String::from_utf8_lossy(&came[at..at + BEGIN.len() + end]).trim_end().to_owned();
        if ["towline-introduction ", ABSENT, FAILED].iter().any(|begin| line.starts_with(begin)) {
            return Ok(Some((line, &rest[end + 1..])));
        }
    }
    if came.len() >= NOISE_BYTES_MAX { Err(Unheard::Noise) } else { Ok(None) }
}

impl ListeningSide {
    /// The line and the frame.
    pub(super) fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::from(format!("{INTRODUCTION}\n").as_bytes());
        put_frame(&mut out, LISTENER, |out| {
            out.put_slice(self.fingerprint.as_bytes());
            out.put_slice(self.secret.as_bytes());
            let addresses = &self.addresses[..self.addresses.len().min(ADDRESSES_MAX)];
            put_varint(out, addresses.len() as u64);
            for address in addresses {
                match address.ip() {
                    IpAddr::V4(ip) => {
                        out.put_u8(4);
                        out.put_slice(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        out.put_u8(6);
                        out.put_slice(&ip.octets());
                    }
                }
                out.put_u16(address.port());
            }
        });
        out
    }
}

/// The frame of a side that dials and has the key `fingerprint`.
pub(super) fn dialling_side(fingerprint: Fingerprint) -> BytesMut {
    let mut out = BytesMut::new();
    put_frame(&mut out, DIALLER, |out| out.put_slice(fingerprint.as_bytes()));
    out
}

/// The frame of a side that sends only datagrams from now on.
pub(super) fn datagrams() -> BytesMut {
    let mut out = BytesMut::new();
    put_frame(&mut out, DATAGRAMS, |_| {});
    out
}

fn listening_side(mut fields: Fields<Bytes>) -> Result<ListeningSide, CodecError> {
    let fingerprint = Fingerprint::from_bytes(fields.array()?);
    let secret = Secret::from_bytes(fields.array()?);
    let count = fields.varint_up_to(ADDRESSES_MAX as u64, "number of addresses")?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        let ip: IpAddr = match fields.u8()? {
            4 => Ipv4Addr::from(fields.array::<4>()?).into(),
            6 => Ipv6Addr::from(fields.array::<16>()?).into(),
            _ => return Err(CodecError::BadValue("kind of address")),
        };
        let port = fields.0.try_get_u16().map_err(|_| CodecError::Truncated)?;
        addresses.push((ip, port).into());
    }
    fields.skip_extensions()?;
    Ok(ListeningSide { fingerprint, secret, addresses })
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::connect::ssh::SPEAKS;

    fn sample() -> ListeningSide {
        ListeningSide {
            fingerprint: Fingerprint::from_bytes([0x5a; 32]),
            secret: Secret::from_bytes([0xa5; 16]),
            addresses: vec!["192.0.2.7:4750".parse().unwrap(), "[2001:db8::7]:9".parse().unwrap()],
        }
    }

    fn pipe(stream: UnixStream) -> BytePipe {
        let input = OwnedFd::from(stream.try_clone().unwrap());
        BytePipe::new(input, stream.into()).unwrap()
    }

    async fn heard(bytes: &[u8]) -> Result<ListeningSide, Unheard> {
        let (here, there) = UnixStream::pair().unwrap();
        let (here, there) = (pipe(here), pipe(there));
        let writing = async {
            // A side that has heard enough hangs up.
            let _ = there.write_all(bytes).await;
            drop(there);
        };
        let (heard, ()) = tokio::join!(async { Listening::to(&here).listening_side().await }, writing);
        heard
    }

    /// The layout is a contract between versions.
    #[test]
    fn the_introductions_are_pinned() {
        let hex = data_encoding::HEXLOWER.encode(&sample().to_bytes());
        let line = data_encoding::HEXLOWER.encode(b"towline-introduction 1\n");
        let (key, secret) = ("5a".repeat(32), "a5".repeat(16));
        let addresses = "0204c0000207128e0620010db80000000000000000000000070009";
        assert_eq!(hex, format!("{line}01404b{key}{secret}{addresses}"));
        let frame = dialling_side(Fingerprint::from_bytes([1; 32]));
        assert_eq!(data_encoding::HEXLOWER.encode(&frame), format!("0220{}", "01".repeat(32)));
        assert_eq!(&datagrams()[..], [3, 0]);
    }

    #[test]
    fn what_is_spoken_has_both_versions() {
        let alpn = String::from_utf8_lossy(crate::transport::quic::tls::ALPN);
        let number = INTRODUCTION.rsplit(' ').next().unwrap();
        assert_eq!(SPEAKS, format!("speaks {alpn}, introduction {number}."));
    }

    /// [W-70]
    #[tokio::test]
    async fn what_a_shell_says_before_is_skipped_up_to_a_limit() {
        let whole = sample().to_bytes();
        for noise in ["", "Welcome to towline-land\r\nLast login: never\n", "towline-is-fast", "\n\n"] {
            let came = [noise.as_bytes(), &whole].concat();
            assert_eq!(heard(&came).await.unwrap(), sample(), "{noise:?}");
        }
        let long = [&vec![b'x'; NOISE_BYTES_MAX], &whole[..]].concat();
        assert!(matches!(heard(&long).await, Err(Unheard::Noise)));
        assert!(matches!(heard(b"Have a nice day\n").await, Err(Unheard::Ended)));
        assert!(matches!(heard(b"towline-introduction 2\n").await, Err(Unheard::OtherVersion)));
        let Err(Unheard::Absent(what)) = heard(b"hello\ntowline-absent Linux\x1b\n").await else { panic!() };
        assert_eq!(what, "Linux\\u{1b}");
    }

    #[tokio::test]
    async fn attack_14_broken_introductions_are_refused() {
        let whole = sample().to_bytes();
        for len in 0..whole.len() {
            assert!(matches!(heard(&whole[..len]).await, Err(Unheard::Ended)), "{len}");
        }
        let at = INTRODUCTION.len() + 1;
        for (place, byte) in [(at, 9), (at + 3 + 48, 17), (at + 3 + 49, 5)] {
            let mut bent = whole.clone();
            bent[place] = byte;
            assert!(matches!(heard(&bent).await, Err(Unheard::Malformed(_))), "{place}");
        }
        let mut long = BytesMut::from(format!("{INTRODUCTION}\n").as_bytes());
        long.put_slice(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(heard(&long).await, Err(Unheard::Malformed(CodecError::TooLarge(_)))));
    }
}
