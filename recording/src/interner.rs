//! Strings that occur again and again in a recording, each kept once.

use hashbrown::HashMap;

/// A string by its number in a [`StringInterner`].
pub type StringId = u32;

/// The strings so far.
#[derive(Debug)]
pub struct StringInterner {
    ids: HashMap<String, StringId>,
    strings: Vec<String>,
}

impl Default for StringInterner {
    fn default() -> Self {
        let mut interner = Self { ids: HashMap::new(), strings: Vec::new() };
        interner.intern("");
        interner
    }
}

impl StringInterner {
    /// The empty string.
    pub const EMPTY: StringId = 0;

    /// Number of a string, a new one if it has none.
    pub fn intern(&mut self, string: &str) -> StringId {
        if let Some(&id) = self.ids.get(string) {
            return id;
        }
        let id = self.strings.len() as StringId;
        self.strings.push(string.to_owned());
        self.ids.insert(string.to_owned(), id);
        id
    }

    /// A string by its number.
    #[must_use]
    pub fn get(&self, id: StringId) -> &str {
        self.strings.get(id as usize).map_or("", String::as_str)
    }
}
