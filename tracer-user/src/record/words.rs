//! Words that occur again and again in a recording, each kept once.

use hashbrown::HashMap;

/// A word by its number in [`Words`].
pub type Code = u32;

/// The words so far.
#[derive(Debug)]
pub struct Words {
    codes: HashMap<String, Code>,
    words: Vec<String>,
}

impl Default for Words {
    fn default() -> Self {
        let mut words = Self { codes: HashMap::new(), words: Vec::new() };
        words.code("");
        words
    }
}

impl Words {
    /// The empty word.
    pub const EMPTY: Code = 0;

    /// Number of a word, a new one if it has none.
    pub fn code(&mut self, word: &str) -> Code {
        if let Some(&code) = self.codes.get(word) {
            return code;
        }
        let code = self.words.len() as Code;
        self.words.push(word.to_owned());
        self.codes.insert(word.to_owned(), code);
        code
    }

    /// A word by its number.
    #[must_use]
    pub fn word(&self, code: Code) -> &str {
        self.words.get(code as usize).map_or("", String::as_str)
    }
}
