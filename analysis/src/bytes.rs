//! Sizes as plans write them.

use serde::{Deserialize, Serialize};

/// A number of bytes: a number, or text with K, M or G (powers of 1,024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "BytesText")]
pub struct Bytes(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum BytesText {
    Number(u64),
    Text(String),
}

impl TryFrom<BytesText> for Bytes {
    type Error = String;
    fn try_from(text: BytesText) -> Result<Self, String> {
        let text = match text {
            BytesText::Number(number) => return Ok(Self(number)),
            BytesText::Text(text) => text,
        };
        let (number, shift) = match text.as_bytes().last() {
            Some(b'K') => (&text[..text.len() - 1], 10),
            Some(b'M') => (&text[..text.len() - 1], 20),
            Some(b'G') => (&text[..text.len() - 1], 30),
            _ => (text.as_str(), 0),
        };
        let number: u64 =
            number.parse().map_err(|_| format!("`{text}` is no size; write 4096, \"64K\", \"1M\" or \"2G\""))?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("`{text}` is too large"))
    }
}
