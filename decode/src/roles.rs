//! Which role and category each call has: the built-in table, and what a file of the user changes.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use gpuos_host::files;
use gpuos_model::{Category, Role};
use serde::Deserialize;

use crate::{
    arguments::{self, Kind},
    similar::similar,
    syscalls::{self, Syscall},
};

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
    /// What follows a slash is no regular expression.
    #[error("`/{pattern}` is no regular expression: {reason}")]
    Pattern {
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that strace chooses by.
    #[error("`-e {word}=` of strace is not known here{instead}")]
    OfStrace {
        /// Its name.
        word: &'static str,
        /// What there is in its place.
        instead: &'static str,
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

/// Qualifiers of strace's `-e` that are none of calls, and what there is in their place.
const OF_STRACE: [(&str, &str); 8] = [
    ("status", "\nhint: `--failed` prints calls that failed"),
    ("signal", ""),
    ("inject", ""),
    ("fault", ""),
    ("raw", "\nhint: `--json` has the words of the arguments"),
    ("abbrev", ""),
    ("verbose", ""),
    ("decode-fds", "\nhint: descriptors are shown with what was opened"),
];

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

    /// The numbers that a list of roles, categories and call names selects, also as people type them for strace: `trace=ioctl`,
    /// `%file`, `%memory`, `/regular expression`, and from the first word with `!` on what is left out.
    ///
    /// # Errors
    /// [`RolesError::UnknownWord`], [`RolesError::Pattern`].
    pub fn select(&self, words: &[String]) -> Result<Vec<u32>, RolesError> {
        let mut wanted: BTreeSet<u32> = BTreeSet::new();
        let mut is_without = false;
        for (place, word) in words.iter().enumerate() {
            let prefixes = ["trace=", "t="];
            let mut bare = prefixes.iter().find_map(|prefix| word.strip_prefix(prefix)).unwrap_or(word);
            if let Some(negated) = word.strip_prefix("trace!=") {
                (bare, is_without) = (negated, true);
                if place == 0 {
                    wanted = syscalls::native_syscalls().iter().map(|call| call.number).collect();
                }
            }
            // strace takes a call that is not there for nothing, where it is asked so.
            let may_be_nothing = bare.strip_prefix('?').inspect(|rest| bare = rest).is_some();
            if OF_STRACE.iter().any(|(name, _)| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))) {
                let (name, instead) =
                    OF_STRACE.iter().find(|(name, _)| word.starts_with(name)).copied().unwrap_or_default();
                return Err(RolesError::OfStrace { word: name, instead });
            }
            if let Some(rest) = bare.strip_prefix('!') {
                // Of a list that begins so, everything else is wanted.
                if place == 0 {
                    wanted = syscalls::native_syscalls().iter().map(|call| call.number).collect();
                }
                (bare, is_without) = (rest, true);
            }
            let selected = self.of_word(bare)?;
            if selected.is_empty() && !may_be_nothing {
                let known = syscalls::native_syscalls()
                    .iter()
                    .flat_map(|call| [call.name, call.category.name()])
                    .chain(Role::ALL.iter().map(|role| role.name()));
                return Err(RolesError::UnknownWord { word: word.clone(), near: similar(bare, known) });
            }
            for number in selected {
                if is_without {
                    wanted.remove(&number)
                } else {
                    wanted.insert(number)
                };
            }
        }
        Ok(wanted.into_iter().collect())
    }

    /// What one word selects; nothing where it names nothing.
    fn of_word(&self, word: &str) -> Result<Vec<u32>, RolesError> {
        let pattern = word.strip_prefix('/').map(|pattern| {
            regex_lite::Regex::new(pattern)
                .map_err(|source| RolesError::Pattern { pattern: pattern.to_owned(), reason: source.to_string() })
        });
        let pattern = pattern.transpose()?;
        let has = |name: &str, kinds: &[Kind]| {
            arguments::signature(name).is_some_and(|all| all.iter().any(|kind| kinds.contains(kind)))
        };
        let is_named = |call: &Syscall, word: &str| {
            call.name == word || self.role(call.number).name() == word || self.category(call.number) == word
        };
        let is_selected = |call: &&Syscall| match (&pattern, word.strip_prefix('%')) {
            (Some(pattern), _) => pattern.is_match(call.name),
            (None, Some("all")) => true,
            (None, None) if word == "all" => true,
            (None, None) if ["file", "desc"].contains(&word) && !is_named(call, word) => {
                has(call.name, if word == "file" { &[Kind::Path] } else { &[Kind::Fd, Kind::Folder] })
            }
            (None, None) if word == "process" => is_named(call, Category::ThreadProcess.name()),
            (None, Some("file")) => has(call.name, &[Kind::Path]),
            (None, Some("desc")) => has(call.name, &[Kind::Fd, Kind::Folder]),
            (None, Some("net")) => is_named(call, Category::Network.name()),
            (None, Some("process")) => is_named(call, Category::ThreadProcess.name()),
            (None, Some("clock")) => is_named(call, Category::Time.name()),
            (None, Some(class)) => is_named(call, class),
            (None, None) => is_named(call, word),
        };
        Ok(syscalls::native_syscalls().iter().filter(is_selected).map(|call| call.number).collect())
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
    fn selects_as_people_type_it_for_strace() {
        let select = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Roles::default().select(&words)
        };
        let number = |name| syscalls::by_name(name).unwrap().number;
        let all = syscalls::native_syscalls().len();
        assert_eq!(select(&["trace=ioctl", "futex"]).unwrap(), select(&["futex", "ioctl"]).unwrap());
        let but = select(&["!futex", "ioctl"]).unwrap();
        assert!(but.len() == all - 2 && !but.contains(&number("futex")) && !but.contains(&number("ioctl")));
        let memory_but_brk = select(&["%memory", "!brk"]).unwrap();
        assert!(memory_but_brk.contains(&number("mmap")) && !memory_but_brk.contains(&number("brk")));
        let files = select(&["%file"]).unwrap();
        assert!(
            files.contains(&number("openat")) && files.contains(&number("execve")) && !files.contains(&number("read"))
        );
        assert!(
            select(&["%net"]).unwrap().contains(&number("connect"))
                && select(&["%desc"]).unwrap().contains(&number("read"))
        );
        let opens = select(&["/^(open|openat2?)$"]).unwrap();
        assert!(opens.contains(&number("openat")) && opens.len() <= 3);
        assert_eq!(select(&["all"]).unwrap().len(), all);
        assert_eq!(select(&["trace!=futex"]).unwrap(), select(&["!futex"]).unwrap());
        assert_eq!(select(&["?nothing", "ioctl"]).unwrap(), select(&["ioctl"]).unwrap());
        assert_eq!(select(&["trace=file"]).unwrap(), select(&["%file"]).unwrap());
        assert!(select(&["status=failed"]).unwrap_err().to_string().contains("--failed"));
        assert!(select(&["/("]).unwrap_err().to_string().contains("no regular expression"));
        assert!(select(&["!futx"]).unwrap_err().to_string().contains("did you mean `futex`"));
        assert!(select(&["%nothing"]).is_err() && select(&["/nothing"]).is_err());
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
