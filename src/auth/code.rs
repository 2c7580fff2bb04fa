//! One-time codes: a number that finds the waiting side, and words that only the two people know.

use std::fmt;
use std::str::FromStr;

/// EFF's short word list 2.0, without some words that do not suit everybody: each word has three first letters of its
/// own, and no two words sound alike. <https://www.eff.org/dice>, CC BY 3.0 US.
const WORDS: &str = include_str!("words.txt");
/// Letters that tell each word from all others.
const PREFIX_LETTERS: usize = 3;
/// Maximum number of a code. Small ones are easy to say.
const NUMBER_MAX: u16 = 99;
/// Words of a code. Two carry more than 20 bits.
pub const CODE_WORDS: std::ops::RangeInclusive<usize> = 2..=8;

/// `7-octopus-lantern`. It is good for one guess.
#[derive(Clone, PartialEq, Eq)]
pub struct Code {
    number: u16,
    words: Vec<&'static str>,
}

/// Why a text is not a code. Never contains the text, which may be nearly the code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It is not a number and words.
    #[error("a code is a number and at least two words, such as 7-octopus-lantern")]
    Form,
    /// A word is not on the list.
    #[error("word {0} of the code is mistyped: it is not one of the words that codes are made of")]
    Word(usize),
}

/// Whether `word` has the form of a code: a number and two or more words of letters. They may be mistyped.
pub fn resembles_code(word: &str) -> bool {
    let mut parts = word.split('-');
    let is_number =
        |part: &str| !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphabetic());
    parts.next().is_some_and(is_number) && parts.clone().count() >= *CODE_WORDS.start() && parts.all(is_word)
}

impl Code {
    /// A new code with random words.
    ///
    /// # Panics
    ///
    /// When the system has no random numbers; nothing is secure then.
    pub fn generate(words: usize) -> Self {
        let number = u16::try_from(random_below(usize::from(NUMBER_MAX))).expect("at most NUMBER_MAX") + 1;
        Self::with_number(number, words)
    }

    /// A new code that is found by the same number.
    pub fn renewed(&self) -> Self {
        Self::with_number(self.number, self.words.len())
    }

    fn with_number(number: u16, words: usize) -> Self {
        let all: Vec<_> = WORDS.lines().collect();
        Self { number, words: (0..words).map(|_| all[random_below(all.len())]).collect() }
    }

    /// The number, which is not a secret.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The code as text, for the people on both sides only.
    pub fn reveal(&self) -> String {
        format!("{}-{}", self.number, self.words.join("-"))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({}-…)", self.number)
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Reads a code in either case; a word may be shortened to its first letters.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        if !resembles_code(text) {
            return Err(CodeError::Form);
        }
        let (number, words) = text.split_once('-').ok_or(CodeError::Form)?;
        let number = number.parse().map_err(|_| CodeError::Form)?;
        let words = words.split('-').enumerate().map(|(at, word)| find(word).ok_or(CodeError::Word(at + 1)));
        Ok(Self { number, words: words.collect::<Result<_, _>>()? })
    }
}

/// The word that `typed` stands for: the word itself, or at least three of its first letters.
fn find(typed: &str) -> Option<&'static str> {
    let typed = typed.to_ascii_lowercase();
    let is_it = |word: &&str| *word == typed || typed.len() >= PREFIX_LETTERS && word.starts_with(&typed);
    WORDS.lines().find(is_it)
}

/// The first `count` words that `key` stands for, at most four.
pub(super) fn words_for(key: &[u8; 32], count: usize) -> Vec<&'static str> {
    let all: Vec<_> = WORDS.lines().collect();
    let (numbers, _) = key.as_chunks::<8>();
    // 64 bits for each word: no word is noticeably likelier than another.
    let word = |number: &[u8; 8]| {
        let at = u64::from_le_bytes(*number) % all.len() as u64;
        all[usize::try_from(at).expect("below a length")]
    };
    numbers.iter().take(count).map(word).collect()
}

/// A random number below `end`, each equally likely.
fn random_below(end: usize) -> usize {
    let end = u32::try_from(end).expect("a list of words is short");
    // The rest above the last multiple would favour small numbers.
    let limit = u32::MAX - u32::MAX % end;
    loop {
        let number = getrandom::u32().expect("the system has no random numbers");
        if number < limit {
            return (number % end) as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn two_words_carry_20_bits_and_three_letters_tell_them_apart() {
        let words: Vec<_> = WORDS.lines().collect();
        assert!(words.len() >= 1024, "{} words", words.len());
        assert!((words.len() as f64).log2() * 2.0 > 20.0);
        let prefixes: HashSet<_> = words.iter().map(|word| &word[..PREFIX_LETTERS]).collect();
        assert_eq!(prefixes.len(), words.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase())));
        assert!(words.is_sorted());
    }

    #[test]
    fn a_code_is_read_in_either_case_and_shortened() {
        let code: Code = "7-octopus-lantern".parse().unwrap();
        assert_eq!((code.number(), &*code.reveal()), (7, "7-octopus-lantern"));
        for text in ["7-OCTOPUS-Lantern", "7-oct-lan", "7-octop-lantern"] {
            assert_eq!(text.parse(), Ok(code.clone()), "{text}");
        }
        for (text, error) in [
            ("7-oc-lantern", CodeError::Word(1)),
            ("7-octopus-lantren", CodeError::Word(2)),
            ("7-octopus", CodeError::Form),
            ("7", CodeError::Form),
            ("", CodeError::Form),
            ("x-octopus-lantern", CodeError::Form),
            ("12345-octopus-lantern", CodeError::Form),
            ("7-octopus--lantern", CodeError::Form),
        ] {
            assert_eq!(text.parse::<Code>(), Err(error), "{text}");
        }
    }

    #[test]
    fn new_codes_differ_and_are_not_in_debug_output() {
        let codes: HashSet<_> = (0..50).map(|_| Code::generate(2).reveal()).collect();
        assert!(codes.len() > 45, "{codes:?}");
        let code = Code::generate(3);
        assert_eq!(code.reveal().parse(), Ok(code.clone()));
        assert_eq!(code.renewed().number(), code.number());
        assert_ne!(code.renewed(), code);
        assert!((1..=NUMBER_MAX).contains(&code.number()));
        assert_eq!(format!("{code:?}"), format!("Code({}-…)", code.number()));
    }
}
