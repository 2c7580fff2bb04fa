//! The recipe of a chunk, between the header of its record and the data.
//!
//! ```text
//! recipe = run count, run*
//! run    = length × 4 for data, length × 4 + 1 for a hole, length × 4 + 2 and an offset for bytes of the old file
//! ```

use bytes::{Buf, BytesMut};

use crate::protocol::delta::recipe::{Recipe, RecipeRun, RunSource};
use crate::protocol::wire::codec::{CodecError, Fields, put_varint};
use crate::protocol::wire::limits::{FILE_BYTES_MAX, RUNS_MAX};

/// Maximum bytes of a recipe.
const RECIPE_BYTES_MAX: usize = 8 + RUNS_MAX * 16;

impl Recipe {
    /// Appends the recipe.
    pub fn encode(&self, out: &mut BytesMut) {
        put_varint(out, self.runs().len() as u64);
        for run in self.runs() {
            match run.source {
                RunSource::Sent => put_varint(out, run.len << 2),
                RunSource::Hole => put_varint(out, run.len << 2 | 1),
                RunSource::Old(offset) => {
                    put_varint(out, run.len << 2 | 2);
                    put_varint(out, offset);
                }
            }
        }
    }

    /// Takes the recipe of `len` bytes off the front of `buffer`. While it is incomplete, returns `None` and takes
    /// nothing.
    pub fn decode(buffer: &mut BytesMut, len: u64) -> Result<Option<Self>, CodecError> {
        let mut fields = Fields(&buffer[..]);
        match decode_fields(&mut fields, len) {
            Ok(recipe) => {
                let left = fields.0.len();
                buffer.advance(buffer.len() - left);
                Ok(Some(recipe))
            }
            Err(CodecError::Truncated) if buffer.len() < RECIPE_BYTES_MAX => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn decode_fields(f: &mut Fields<&[u8]>, len: u64) -> Result<Recipe, CodecError> {
    let count = f.varint_up_to(RUNS_MAX as u64, "runs")?;
    let mut runs = Vec::new();
    let mut left = len;
    for _ in 0..count {
        let value = f.varint()?;
        let len = value >> 2;
        let source = match value & 3 {
            0 => RunSource::Sent,
            1 => RunSource::Hole,
            2 => RunSource::Old(f.varint_up_to(FILE_BYTES_MAX, "offset in the old file")?),
            _ => return Err(CodecError::BadValue("run")),
        };
        if len == 0 || len > left {
            return Err(CodecError::BadValue("run"));
        }
        left -= len;
        runs.push(RecipeRun { len, source });
    }
    if left > 0 {
        return Err(CodecError::BadValue("run"));
    }
    Ok(Recipe::of(runs))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(bytes: &[u8], len: u64) -> Result<Option<Recipe>, CodecError> {
        Recipe::decode(&mut BytesMut::from(bytes), len)
    }

    #[test]
    fn golden_bytes_of_a_recipe() {
        let mut recipe = Recipe::default();
        recipe.push(20, RunSource::Old(300));
        recipe.push(5, RunSource::Sent);
        recipe.push(7, RunSource::Hole);
        let mut out = BytesMut::new();
        recipe.encode(&mut out);
        assert_eq!(&out[..], [3, 0x40, 0x52, 0x41, 0x2c, 20, 29]);
        assert_eq!(decode(&out, 32), Ok(Some(recipe)));
    }

    /// [R-18]
    #[test]
    fn attack_34_recipes_that_do_not_add_up() {
        let bad: [&[u8]; 6] = [&[0], &[1, 20], &[1, 32], &[2, 24, 4], &[2, 24, 0], &[1, 27]];
        for bytes in bad {
            assert_eq!(decode(bytes, 6), Err(CodecError::BadValue("run")), "{bytes:?}");
        }
        let mut far = BytesMut::from(&[1, 26][..]);
        put_varint(&mut far, FILE_BYTES_MAX + 1);
        assert_eq!(decode(&far, 6), Err(CodecError::TooLarge("offset in the old file")));
        assert_eq!(decode(&[0x41, 1, 4], 6), Err(CodecError::TooLarge("runs")));
    }

    proptest! {
        #[test]
        fn recipes_come_back_whole_and_never_in_part(
            runs in prop::collection::vec((1u64..1 << 26, 0u64..1 << 40, 0u8..3), 1..20),
        ) {
            let mut recipe = Recipe::default();
            for (len, offset, source) in runs {
                recipe.push(len, [RunSource::Sent, RunSource::Hole, RunSource::Old(offset)][usize::from(source)]);
            }
            let len = recipe.runs().iter().map(|run| run.len).sum();
            let mut out = BytesMut::new();
            recipe.encode(&mut out);
            for cut in 0..out.len() {
                prop_assert_eq!(decode(&out[..cut], len), Ok(None));
            }
            out.extend_from_slice(b"data");
            prop_assert_eq!(Recipe::decode(&mut out, len), Ok(Some(recipe)));
            prop_assert_eq!(&out[..], b"data");
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), len in 0u64..1000) {
            if let Ok(Some(recipe)) = decode(&bytes, len) {
                prop_assert_eq!(recipe.runs().iter().map(|run| run.len).sum::<u64>(), len);
            }
        }
    }
}
