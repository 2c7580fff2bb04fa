//! Paths on the wire: bytes, relative, and unable to leave their directory.

use std::fmt;
use std::sync::Arc;

use crate::protocol::wire::limits::{PATH_BYTES_MAX, PATH_COMPONENT_BYTES_MAX, PATH_DEPTH_MAX};

/// The directory under a target for incomplete files. No entry may have this name.
pub const STAGING_DIR: &str = ".towline";

/// A relative path of any bytes: components joined by `/`, none of them empty, `.`, `..`, too long,
/// holding NUL, or (at the first place) the staging directory.
///
/// Sender and receiver use the same rules, so any valid path is safe to join to an open directory, component by
/// component.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Arc<[u8]>);

/// Why bytes are not a [`RelPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing at all.
    #[error("the path is empty")]
    Empty,
    /// More than [`PATH_BYTES_MAX`] bytes.
    #[error("the path is longer than {PATH_BYTES_MAX} bytes")]
    TooLong,
    /// More than [`PATH_DEPTH_MAX`] components.
    #[error("the path has more than {PATH_DEPTH_MAX} components")]
    TooDeep,
    /// Begins with `/`.
    #[error("the path is absolute")]
    Absolute,
    /// `a//b` or `a/`.
    #[error("the path has an empty component")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("the path has a component `.` or `..`")]
    Dots,
    /// A component of more than [`PATH_COMPONENT_BYTES_MAX`] bytes.
    #[error("a component of the path is longer than {PATH_COMPONENT_BYTES_MAX} bytes")]
    ComponentTooLong,
    /// A NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
    /// A component is [`STAGING_DIR`], in any case of its letters.
    #[error("`{STAGING_DIR}` is reserved for incomplete files")]
    Staging,
}

impl RelPath {
    /// Checks `bytes`, the components joined by `/`.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        if bytes[0] == b'/' {
            return Err(PathError::Absolute);
        }
        for (depth, component) in bytes.split(|b| *b == b'/').enumerate() {
            if depth >= PATH_DEPTH_MAX {
                return Err(PathError::TooDeep);
            }
            Self::check_component(component)?;
            // At any depth: a mount inside the target has its own staging directory.
            if component.eq_ignore_ascii_case(STAGING_DIR.as_bytes()) {
                return Err(PathError::Staging);
            }
        }
        Ok(Self(bytes.into()))
    }

    fn check_component(component: &[u8]) -> Result<(), PathError> {
        match component {
            b"" => Err(PathError::EmptyComponent),
            b"." | b".." => Err(PathError::Dots),
            c if c.len() > PATH_COMPONENT_BYTES_MAX => Err(PathError::ComponentTooLong),
            c if c.contains(&0) => Err(PathError::Nul),
            _ => Ok(()),
        }
    }

    /// `self` with one more component.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        Self::check_component(name)?;
        if name.contains(&b'/') {
            return Err(PathError::EmptyComponent);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::new(&bytes)
    }

    /// The bytes, components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, in order; never empty.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        self.components().next_back().unwrap_or_default()
    }

    /// All but the last component; `None` at the top.
    pub fn parent(&self) -> Option<Self> {
        let at = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..at].into()))
    }

    /// Another name for an entry whose own name is taken: `name~1`, or `stem~1.ext`; a leading dot does not begin an
    /// extension.
    pub fn numbered(&self, number: u32) -> Result<Self, PathError> {
        let name = self.name();
        let stem = match name.iter().rposition(|b| *b == b'.') {
            None | Some(0) => name.len(),
            Some(at) => at,
        };
        self.with_name(&[&name[..stem], format!("~{number}").as_bytes(), &name[stem..]].concat())
    }

    /// The same path with a new last component.
    pub fn with_name(&self, name: &[u8]) -> Result<Self, PathError> {
        match self.parent() {
            Some(parent) => parent.join(name),
            None => {
                if name.contains(&b'/') {
                    return Err(PathError::EmptyComponent);
                }
                Self::new(name)
            }
        }
    }
}

impl fmt::Display for RelPath {
    /// Safe to print: control bytes, bidirectional marks and invalid UTF-8 are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({self})")
    }
}

/// A name from a peer or a file system, made safe for a terminal. C0 and C1 controls, bidirectional and zero-width
/// marks, line separators and the backslash are escaped; bytes of invalid UTF-8 become `\xNN`.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let unsafe_mark = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{061c}');
            match c {
                '\\' => out.push_str("\\\\"),
                c if c.is_control() || unsafe_mark => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            out.push_str(&format!("\\x{b:02x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_names_pass() {
        for name in [&b"a"[..], b"a/b/c", b"...", b"..a", b"a b", b"\xff\xfe", b"a\nb", b"-rf", b"a:b"] {
            assert!(RelPath::new(name).is_ok(), "{name:?}");
        }
    }

    /// Linux gives them no meaning. A check that refused them would lose honest files.
    #[test]
    fn attack_5_names_that_are_special_elsewhere_are_names_here() {
        for name in [
            "a:b",
            "C:",
            "NUL",
            "com1.txt",
            "end.",
            "end ",
            "a\\b",
            "\\\\host\\share",
            "~",
            "$HOME",
            "*",
            "a|b",
        ] {
            assert_eq!(RelPath::new(name.as_bytes()).unwrap().as_bytes(), name.as_bytes());
        }
    }

    /// [W-16], [R-3]
    #[test]
    fn attack_1_names_that_leave_the_directory() {
        let cases: [(&[u8], PathError); 14] = [
            (b"", PathError::Empty),
            (b"/etc/passwd", PathError::Absolute),
            (b"..", PathError::Dots),
            (b"a/../b", PathError::Dots),
            (b"./a", PathError::Dots),
            (b"a/.", PathError::Dots),
            (b"a//b", PathError::EmptyComponent),
            (b"a/", PathError::EmptyComponent),
            (b"a\0b", PathError::Nul),
            (b".towline", PathError::Staging),
            (b"mount/.TowLine/x", PathError::Staging),
            (b".Towline/x", PathError::Staging),
            (&[b'a'; 256], PathError::ComponentTooLong),
            (&[b'a'; 5000], PathError::TooLong),
        ];
        for (name, want) in cases {
            assert_eq!(RelPath::new(name), Err(want), "{name:?}");
        }
        assert_eq!(RelPath::new(&b"a/".repeat(200)[..399]), Err(PathError::TooDeep));
        assert!(RelPath::new(b"a").unwrap().join(b"../b").is_err());
        assert!(RelPath::new(b"a").unwrap().with_name(b"x/y").is_err());
    }

    ///
    #[test]
    fn attack_4_terminal_controls_are_escaped() {
        assert_eq!(printable(b"a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(printable("x\u{202e}txt\u{9b}".as_bytes()), "x\\u{202e}txt\\u{9b}");
        assert_eq!(printable(b"\xff\n\\"), "\\xff\\n\\\\");
        assert_eq!(printable("grün 漢字 🚢".as_bytes()), "grün 漢字 🚢");
    }

    #[test]
    fn parts() {
        let p = RelPath::new(b"a/b/c").unwrap();
        assert_eq!(p.name(), b"c");
        assert_eq!(p.parent().unwrap().as_bytes(), b"a/b");
        assert_eq!(p.with_name(b"d").unwrap().as_bytes(), b"a/b/d");
        assert!(RelPath::new(b"a").unwrap().parent().is_none());
    }

    #[test]
    fn other_names_keep_the_extension() {
        let cases = [
            ("a", "a~1"),
            ("a.txt", "a~1.txt"),
            ("d.x/a", "d.x/a~1"),
            (".bashrc", ".bashrc~1"),
            ("a.tar.gz", "a.tar~1.gz"),
            ("a.", "a~1."),
        ];
        for (path, want) in cases {
            let path = RelPath::new(path.as_bytes()).unwrap();
            assert_eq!(path.numbered(1).unwrap().as_bytes(), want.as_bytes());
        }
        assert!(RelPath::new(&[b'x'; 255]).unwrap().numbered(1).is_err());
    }
}
