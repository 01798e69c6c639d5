//! Which role and category each call has: the built-in table, and what a file of the user changes.

use std::{collections::HashMap, path::Path};

use gpuos_host::files;
use gpuos_model::{Category, Role};
use serde::Deserialize;

use crate::{similar::similar, syscalls};

/// Why a file of roles or a filter was refused.
#[derive(Debug, thiserror::Error)]
pub enum RolesError {
    /// The file could not be read.
    #[error("cannot read the roles file `{path}`: {source}")]
    Unreadable {
        /// The file, as the user named it.
        path: String,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The file is not as it must be.
    #[error(
        "the roles file `{path}` is not valid: {reason}\nhint: it looks like\n  [roles]\n  futex = \"scheduling\"\n  [categories]\n  futex = \"my-queue\""
    )]
    Invalid {
        /// The file, as the user named it.
        path: String,
        /// What is wrong, in the words of whoever found it.
        reason: String,
    },
    /// A word that names nothing.
    #[error("`{word}` is no role, category or system call of this machine{hint}", hint = hint(.near))]
    UnknownWord {
        /// The word.
        word: String,
        /// Words that may have been meant.
        near: Vec<&'static str>,
    },
}

fn hint(near: &[&str]) -> String {
    match near {
        [] => "\nhint: roles are memory, submission, synchronization, scheduling, bookkeeping, io".to_owned(),
        near => format!("\nhint: did you mean `{}`?", near.join("`, `")),
    }
}

/// Which role and category each call has: the built-in table, and what the user changed.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    roles: HashMap<u32, Role>,
    categories: HashMap<u32, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RolesFile {
    #[serde(default)]
    roles: HashMap<String, String>,
    #[serde(default)]
    categories: HashMap<String, String>,
}

impl Roles {
    /// Reads a TOML file with the tables `roles` and `categories`, both from call name to word.
    ///
    /// # Errors
    /// When it cannot be read, or names a call or a role that does not exist.
    pub fn read(path: &Path) -> Result<Self, RolesError> {
        let shown = path.display().to_string();
        let text =
            files::read_to_string(path).map_err(|source| RolesError::Unreadable { path: shown.clone(), source })?;
        Self::parse(&text).map_err(|reason| RolesError::Invalid { path: shown, reason })
    }

    /// Parses such a file.
    ///
    /// # Errors
    /// The reason, when it is no TOML or names a call or a role that does not exist.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: RolesFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let number = |name: &str| {
            syscalls::by_name(name).map(|call| call.number).ok_or_else(|| {
                let near = similar(name, syscalls::native_syscalls().iter().map(|call| call.name));
                format!(
                    "`{name}` is no system call of this machine{}",
                    if near.is_empty() { String::new() } else { hint(&near) }
                )
            })
        };
        let mut roles = Self::default();
        for (name, word) in file.roles {
            let role = word.parse().map_err(|()| {
                format!("`{word}` is no role; there are {}", Role::ASSIGNABLE.map(Role::name).join(", "))
            })?;
            roles.roles.insert(number(&name)?, role);
        }
        for (name, category) in file.categories {
            roles.categories.insert(number(&name)?, category);
        }
        Ok(roles)
    }

    /// Role of a native call.
    #[must_use]
    pub fn role(&self, number: u32) -> Role {
        self.roles
            .get(&number)
            .copied()
            .or_else(|| syscalls::by_number(number).map(|call| call.role))
            .unwrap_or(Role::Unknown)
    }

    /// Whether the user gave the call a role.
    #[must_use]
    pub fn changes(&self, number: u32) -> bool {
        self.roles.contains_key(&number)
    }

    /// Category of a native call.
    #[must_use]
    pub fn category(&self, number: u32) -> &str {
        self.categories
            .get(&number)
            .map(String::as_str)
            .or_else(|| syscalls::by_number(number).map(|call| call.category.name()))
            .unwrap_or(Category::Unknown.name())
    }

    /// The numbers that a list of roles, categories and call names selects.
    ///
    /// # Errors
    /// [`RolesError::UnknownWord`].
    pub fn select(&self, words: &[String]) -> Result<Vec<u32>, RolesError> {
        let mut numbers = Vec::new();
        for word in words {
            let selected: Vec<u32> = syscalls::native_syscalls()
                .iter()
                .filter(|call| {
                    call.name == word || self.role(call.number).name() == word || self.category(call.number) == word
                })
                .map(|call| call.number)
                .collect();
            if selected.is_empty() {
                let known = syscalls::native_syscalls()
                    .iter()
                    .flat_map(|call| [call.name, call.category.name()])
                    .chain(Role::ALL.iter().map(|role| role.name()));
                return Err(RolesError::UnknownWord { word: word.clone(), near: similar(word, known) });
            }
            numbers.extend(selected);
        }
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_by_name_category_and_role() {
        let roles = Roles::default();
        let number = |name| syscalls::by_name(name).unwrap().number;
        assert_eq!(roles.select(&["ioctl".into()]).unwrap(), [number("ioctl")]);
        let memory = roles.select(&["memory".into()]).unwrap();
        assert!(memory.contains(&number("mmap")) && !memory.contains(&number("read")));
        let waits = roles.select(&["poll/wait".into(), "ioctl".into()]).unwrap();
        assert!(waits.contains(&number("ppoll")) && waits.contains(&number("ioctl")));
        let error = roles.select(&["ioctrl".into()]).unwrap_err().to_string();
        assert!(error.contains("did you mean `ioctl`"), "{error}");
    }

    #[test]
    fn a_file_overrides_the_table() {
        let roles = Roles::parse("[roles]\nfutex = \"submission\"\n[categories]\nfutex = \"my-queue\"").unwrap();
        let futex = syscalls::by_name("futex").unwrap().number;
        assert_eq!(roles.role(futex), Role::Submission);
        assert_eq!(roles.category(futex), "my-queue");
        assert_eq!(roles.select(&["my-queue".into()]).unwrap(), [futex]);
        assert_eq!(Roles::default().role(futex), Role::Synchronization);
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_word() {
        assert!(Roles::parse("[roles]\nfutexx = \"io\"").unwrap_err().contains("futexx"));
        assert!(Roles::parse("[roles]\nfutex = \"fast\"").unwrap_err().contains("`fast` is no role"));
        assert!(Roles::parse("[role]\nfutex = \"io\"").unwrap_err().contains("role"));
    }
}
