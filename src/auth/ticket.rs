//! Tickets: the addresses of a waiting side and the right to connect, in one word.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use bytes::{Buf, BufMut};
use data_encoding::{BASE32_NOPAD, BASE32_NOPAD_NOCASE};

use super::fingerprint::HEAD_BYTES;
use super::{Code, FingerprintHead, Secret};

/// Maximum addresses in a ticket: what fits into four bits, twice.
pub const ADDRESSES_MAX: usize = 15;
/// Prefix of a ticket; the digit is the format version.
const PREFIX: &str = "tl1";
/// Bytes of the checksum, which tells a typo from a wrong ticket.
const CHECKSUM_BYTES: usize = 4;
/// Address and port.
const V4_BYTES: usize = 4 + 2;
const V6_BYTES: usize = 16 + 2;
/// Bytes of the secret.
const SECRET_BYTES: usize = 16;
/// Maximum characters after the prefix: a longer text is refused before decoding.
const TEXT_CHARS_MAX: usize =
    (1 + ADDRESSES_MAX * V6_BYTES + HEAD_BYTES + SECRET_BYTES + CHECKSUM_BYTES).div_ceil(5) * 8;

/// A word that begins like a ticket is hidden from this length on; shorter ones are host names.
const SECRET_CHARS_MIN: usize = 12;
/// Base32 of this length may be part of a ticket.
const PART_CHARS_MIN: usize = 40;
/// Maximum places in a text to look for a ticket.
const BEGINNINGS_MAX: usize = 64;

/// Addresses of a waiting side, the head of its fingerprint, and a secret.
///
/// As text: `tl1` and base32 without padding, in either case, of
/// `counts(1: IPv4 × 16 + IPv6) · IPv4 × (ip(4) · port(2, big-endian)) · IPv6 × (ip(16) · port(2)) ·
/// head of the fingerprint(20) · secret(16) · checksum(4)`, where the checksum is the head of the BLAKE3 hash of
/// everything before it. Scope ids of IPv6 do not travel: they mean nothing on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Addresses of the waiting side; the first [`ADDRESSES_MAX`] are written, IPv4 before IPv6.
    pub addresses: Vec<SocketAddr>,
    /// How the fingerprint of the waiting side begins.
    pub fingerprint: FingerprintHead,
    /// The secret that the dialler proves.
    pub secret: Secret,
}

/// Why a text is not a ticket. Never contains the text, which may be a mistyped secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not begin with `tl1`.
    #[error("a ticket begins with `{PREFIX}`")]
    Prefix,
    /// It begins with `tl` and another digit.
    #[error("this ticket was made by another version of towline; use the same version on both sides")]
    Version,
    /// Characters outside base32, or too many of them.
    #[error("the ticket is mistyped: only the letters a-z and the digits 2-7 may follow `{PREFIX}`")]
    Encoding,
    /// The checksum is wrong.
    #[error("the ticket is incomplete or mistyped")]
    Checksum,
    /// More than one ticket in one text.
    #[error("there is more than one ticket")]
    Several,
    /// The checksum is right but the content is invalid.
    #[error("the ticket is malformed: {0}")]
    Malformed(&'static str),
}

/// Whether `word` has the prefix of a ticket of any version, followed by letters and digits only.
pub fn resembles_ticket(word: &str) -> bool {
    matches!(word.as_bytes(), [b't' | b'T', b'l' | b'L', b'0'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_alphanumeric))
}

/// `text` for users and logs, with tickets and codes hidden.
pub fn without_tickets(text: &str) -> Cow<'_, str> {
    without(text, |word| word.len() >= SECRET_CHARS_MIN && resembles_ticket(word))
}

/// `text` with tickets, possible parts of tickets and codes hidden, for user input.
pub fn without_parts_of_tickets(text: &str) -> Cow<'_, str> {
    let is_base32 = |b: u8| b.is_ascii_alphabetic() || (b'2'..=b'7').contains(&b);
    without(text, |word| {
        // The part may begin inside the prefix.
        let is_part = word.len() >= PART_CHARS_MIN && word.bytes().skip(PREFIX.len()).all(is_base32);
        is_part || word.len() >= SECRET_CHARS_MIN && resembles_ticket(word)
    })
}

fn without(text: &str, is_secret: impl Fn(&str) -> bool) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(text);
    let is_of_code = |c: char| c.is_ascii_alphanumeric() || c == '-';
    for word in text.split(|c| !is_of_code(c)) {
        if let Ok(code) = word.parse::<Code>() {
            shown = Cow::Owned(shown.replace(word, &format!("{}-…", code.number())));
        }
    }
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_secret(word)) {
        let mark =
            if resembles_ticket(word) { format!("{}…", &word[..PREFIX.len()]) } else { "…".to_owned() };
        shown = Cow::Owned(shown.replace(word, &mark));
    }
    shown
}

impl Ticket {
    /// The ticket in `text`, which may contain other words. White space inside the ticket is ignored: tickets are
    /// often folded over several lines. `None` when no word has the prefix of a ticket.
    ///
    /// # Errors
    ///
    /// The text with the prefix is not a ticket, or there are two.
    pub fn find(text: &str) -> Option<Result<Self, TicketError>> {
        let is_between = |c: char| c.is_whitespace() || "\"'`<>(),;=".contains(c);
        let words: Vec<_> = text.split(is_between).filter(|word| !word.is_empty()).collect();
        let begin = |at: &usize| resembles_ticket(words[*at]);
        let mut found: Option<Result<Self, TicketError>> = None;
        for at in (0..words.len()).filter(begin).take(BEGINNINGS_MAX) {
            match (Self::from_words(&words[at..]), &found) {
                (Ok(ticket), Some(Ok(other))) if ticket != *other => return Some(Err(TicketError::Several)),
                (Ok(ticket), _) => found = Some(Ok(ticket)),
                (Err(error), None) => found = Some(Err(error)),
                (Err(_), Some(_)) => {}
            }
        }
        found
    }

    /// The ticket formed by the first words. Its checksum shows where it ends.
    fn from_words(words: &[&str]) -> Result<Self, TicketError> {
        let mut text = String::new();
        let mut result = Err(TicketError::Prefix);
        for word in words {
            text += word;
            if text.len() > PREFIX.len() + TEXT_CHARS_MAX || !word.bytes().all(|b| b.is_ascii_alphanumeric())
            {
                break;
            }
            match text.parse() {
                Ok(ticket) => return Ok(ticket),
                // For an unfolded ticket, the error of the first word says the most.
                Err(error) if result == Err(TicketError::Prefix) => result = Err(error),
                Err(_) => {}
            }
        }
        result
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let addresses = &self.addresses[..self.addresses.len().min(ADDRESSES_MAX)];
        let v4: Vec<_> = addresses.iter().filter(|address| address.is_ipv4()).collect();
        let v6: Vec<_> = addresses.iter().filter(|address| address.is_ipv6()).collect();
        let count = |of: &[_]| u8::try_from(of.len()).expect("at most ADDRESSES_MAX");
        out.put_u8(count(&v4) << 4 | count(&v6));
        for address in v4.into_iter().chain(v6) {
            match address.ip() {
                IpAddr::V4(ip) => out.put_slice(&ip.octets()),
                IpAddr::V6(ip) => out.put_slice(&ip.octets()),
            }
            out.put_u16(address.port());
        }
        out.put_slice(self.fingerprint.as_bytes());
        out.put_slice(self.secret.as_bytes());
        let checksum = checksum(&out);
        out.put_slice(&checksum);
        out
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        let (mut body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TicketError::Checksum)?;
        if checksum(body) != *sum {
            return Err(TicketError::Checksum);
        }
        let short = |_| TicketError::Malformed("it ends too early");
        let counts = body.try_get_u8().map_err(short)?;
        let (v4, v6) = (usize::from(counts >> 4), usize::from(counts & 0xf));
        if v4 + v6 > ADDRESSES_MAX {
            return Err(TicketError::Malformed("too many addresses"));
        }
        if body.remaining() != v4 * V4_BYTES + v6 * V6_BYTES + HEAD_BYTES + SECRET_BYTES {
            return Err(TicketError::Malformed("its length is not that of its content"));
        }
        let mut addresses = Vec::with_capacity(v4 + v6);
        for number in 0..v4 + v6 {
            let ip = match number < v4 {
                true => IpAddr::V4(Ipv4Addr::from_bits(body.try_get_u32().map_err(short)?)),
                false => IpAddr::V6(Ipv6Addr::from_bits(body.try_get_u128().map_err(short)?)),
            };
            addresses.push(SocketAddr::new(ip, body.try_get_u16().map_err(short)?));
        }
        let (mut head, mut secret) = ([0; HEAD_BYTES], [0; SECRET_BYTES]);
        body.try_copy_to_slice(&mut head).map_err(short)?;
        body.try_copy_to_slice(&mut secret).map_err(short)?;
        let (fingerprint, secret) = (FingerprintHead::from_bytes(head), Secret::from_bytes(secret));
        Ok(Self { addresses, fingerprint, secret })
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(bytes);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", BASE32_NOPAD.encode(&self.to_bytes()).to_ascii_lowercase())
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let (prefix, rest) = text.split_at_checked(PREFIX.len()).ok_or(TicketError::Prefix)?;
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            let is_newer = matches!(prefix.as_bytes(), [b't' | b'T', b'l' | b'L', b'0'..=b'9']);
            return Err(if is_newer { TicketError::Version } else { TicketError::Prefix });
        }
        if rest.len() > TEXT_CHARS_MAX {
            return Err(TicketError::Encoding);
        }
        // A length that base32 never has means a lost character; a strange one is another error.
        let is_base32 = |b: u8| b.is_ascii_alphabetic() || (b'2'..=b'7').contains(&b);
        if !rest.bytes().all(is_base32) {
            return Err(TicketError::Encoding);
        }
        let bytes = BASE32_NOPAD_NOCASE.decode(rest.as_bytes()).map_err(|_| TicketError::Checksum)?;
        Self::from_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::Fingerprint;

    fn sample() -> Ticket {
        Ticket {
            addresses: vec!["192.0.2.7:4750".parse().unwrap(), "[2001:db8::7]:65535".parse().unwrap()],
            fingerprint: FingerprintHead::from_bytes([0x5a; HEAD_BYTES]),
            secret: Secret::from_bytes([0xa5; 16]),
        }
    }

    fn text_of(body: &[u8]) -> String {
        let sealed = [body, &checksum(body)].concat();
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&sealed))
    }

    /// The layout is a contract between versions.
    #[test]
    fn the_layout_is_pinned() {
        let expected = "tl1chaaaaqhckhcaainxaaaaaaaaaaaaaaaaaaap777ljnfuws2ljnfuws2ljnfuws2ljnfuws2uws2ljnfuws2ljnfuws2ljnfuxp7wnsx";
        assert_eq!(sample().to_string(), expected);
        assert_eq!(expected.to_uppercase().parse(), Ok(sample()));
        assert_eq!(format!("  {expected}\n").parse(), Ok(sample()));
        // One address of each family: short enough for a line of a chat, and for a small QR code.
        assert!(expected.len() <= 110, "{}", expected.len());
    }

    #[test]
    fn the_secret_is_not_in_debug_output() {
        let shown = format!("{:?}", sample());
        assert!(shown.contains("Secret(..)") && !shown.contains("165"), "{shown}");
    }

    #[test]
    fn t18_no_part_of_a_ticket_is_shown() {
        let text = sample().to_string();
        let shown = |text: &str| without_parts_of_tickets(text).into_owned();
        assert_eq!(shown(&format!("cannot read '{text}': gone")), "cannot read 'tl1…': gone");
        assert_eq!(shown(&format!("{}, TL2…", text.replace("tl1", "tl2"))), "tl2…, TL2…");
        assert_eq!(shown(&text[3..60]), "…");
        assert_eq!(shown("--to=h:9/7-octopus-lantern'"), "--to=h:9/7-…'");
        assert_eq!(shown(&format!("{}-{}", &text[..30], &text[30..])), "tl1…-…");
        for plain in ["tl1.example.org", "tl1host: gone", "/srv/a-file-with-a-long-name.tar.gz", ""] {
            assert!(matches!(without_parts_of_tickets(plain), Cow::Borrowed(_)), "{plain}");
        }
        let fingerprint = Fingerprint::from_bytes([0x5a; 32]);
        assert_eq!(without_tickets(&format!("{text} of {fingerprint}")), format!("tl1… of {fingerprint}"));
    }

    #[test]
    fn t18_white_space_and_words_around_do_not_matter() {
        let text = sample().to_string();
        let (head, tail) = text.split_at(60);
        let every_four: Vec<_> = text.as_bytes().chunks(4).map(|c| std::str::from_utf8(c).unwrap()).collect();
        for folded in [
            format!("{head}\n{tail}"),
            format!("  {head}\r\n   {tail}\r\n"),
            format!("{head}\u{a0}{tail}\u{2003}"),
            every_four.join(" "),
            every_four.join("\n").to_uppercase(),
            format!("$ towline receive --from {head}\n{tail}\n\naddress 192.0.2.7:4750\nfingerprint abc"),
            format!("TOWLINE_FROM='{text}'"),
            format!("run \"towline\" with ({text}), and {text}"),
        ] {
            assert_eq!(Ticket::find(&folded), Some(Ok(sample())), "{folded}");
        }
        let other = Ticket { addresses: Vec::new(), ..sample() };
        assert_eq!(Ticket::find(&format!("{text} {other}")), Some(Err(TicketError::Several)));
        for (text, error) in [
            (head.to_owned(), TicketError::Checksum),
            (format!("{head} and so on"), TicketError::Checksum),
            (text.replace("tl1", "tl2"), TicketError::Version),
            (text.replace("tl1cha", "tl1c1a"), TicketError::Encoding),
        ] {
            assert_eq!(Ticket::find(&text), Some(Err(error)), "{text}");
        }
        for text in ["", "tl", "backup.example.org", "tl1.example.org", "tl1:4750", "3-brave-otter"] {
            assert_eq!(Ticket::find(text), None, "{text}");
        }
        // Long ones cost no more than short ones.
        assert!(matches!(Ticket::find(&"tl1 ".repeat(16 << 10)), Some(Err(_))));
    }

    /// [W-8]
    #[test]
    fn a_typo_anywhere_is_called_a_typo() {
        let text = sample().to_string();
        for at in PREFIX.len()..text.len() {
            let other = if text.as_bytes()[at] == b'q' { "r" } else { "q" };
            let mut bent = text.clone();
            bent.replace_range(at..=at, other);
            assert_eq!(bent.parse::<Ticket>(), Err(TicketError::Checksum), "character {at}");
        }
        for cut in PREFIX.len()..text.len() {
            assert_eq!(text[..cut].parse::<Ticket>(), Err(TicketError::Checksum), "cut at {cut}");
        }
    }

    #[test]
    fn invalid_tickets_say_why() {
        let body = sample().to_bytes();
        let body = &body[..body.len() - CHECKSUM_BYTES];
        let mut many = body.to_vec();
        many[0] = 0x8f;
        let length = || TicketError::Malformed("its length is not that of its content");
        let cases: [(String, TicketError); 9] = [
            (String::new(), TicketError::Prefix),
            ("7-lemon-tide".into(), TicketError::Prefix),
            ("tlé".into(), TicketError::Prefix),
            ("tl2abcd".into(), TicketError::Version),
            ("tl1ab-cd".into(), TicketError::Encoding),
            (format!("tl1{}", "a".repeat(TEXT_CHARS_MAX + 1)), TicketError::Encoding),
            (text_of(&[body, b"x"].concat()), length()),
            (text_of(&body[..body.len() - 1]), length()),
            (text_of(&many), TicketError::Malformed("too many addresses")),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Ticket>(), Err(error), "{text}");
        }
        let early = TicketError::Malformed("it ends too early");
        assert_eq!(text_of(&[]).parse::<Ticket>(), Err(early));
    }

    #[test]
    fn a_full_ticket_fits_and_more_addresses_are_left_out() {
        let mut ticket = sample();
        ticket.addresses = vec!["[2001:db8::7]:4750".parse().unwrap(); ADDRESSES_MAX + 3];
        let back: Ticket = ticket.to_string().parse().unwrap();
        assert_eq!(back.addresses.len(), ADDRESSES_MAX);
    }

    proptest! {
        #[test]
        fn round_trip(
            addresses in prop::collection::vec((any::<IpAddr>(), any::<u16>()), 0..=ADDRESSES_MAX),
            head: [u8; HEAD_BYTES],
            secret: [u8; 16],
        ) {
            let mut addresses: Vec<_> = addresses.into_iter().map(SocketAddr::from).collect();
            addresses.sort_by_key(SocketAddr::is_ipv6);
            let ticket = Ticket {
                addresses,
                fingerprint: FingerprintHead::from_bytes(head),
                secret: Secret::from_bytes(secret),
            };
            prop_assert_eq!(ticket.to_string().parse::<Ticket>(), Ok(ticket));
        }

        #[test]
        fn any_text_and_any_bytes_never_panic(text in "\\PC*", bytes: Vec<u8>) {
            let _ = text.parse::<Ticket>();
            let _ = format!("tl1{text}").parse::<Ticket>();
            let _ = text_of(&bytes).parse::<Ticket>();
        }
    }
}
