//! Memory of the host: asked for in a way that can fail, before Linux ends somebody because of it.

use std::{fs, path::Path};

use super::ModelError;

/// Refuses an array that would take more memory than there is. Linux gives out more than it has, and ends somebody when
/// it is used.
pub(crate) fn afford(bytes: usize) -> Result<(), ModelError> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let available = in_the_machine().into_iter().chain(in_cgroups(Path::new("/sys/fs/cgroup"), &cgroups)).min();
    match available {
        Some(available) if bytes as u64 > available => Err(ModelError::NoMemory(bytes)),
        _ => Ok(()),
    }
}

/// An array of words, all 0.
pub(crate) fn zeroed(words: usize) -> Result<Vec<u32>, ModelError> {
    let bytes = words.saturating_mul(4);
    afford(bytes)?;
    let mut array = Vec::new();
    array.try_reserve_exact(words).map_err(|_| ModelError::NoMemory(bytes))?;
    array.resize(words, 0);
    Ok(array)
}

/// Memory that can be used without taking it from others, as `/proc/meminfo` has it.
fn in_the_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Names of a version's files with the limit and what is used, and of the lines of `memory.stat` with the pages of files
/// among that: the kernel takes those back before it ends anybody.
type Names = (&'static str, &'static str, [&'static str; 2]);
const VERSION_1: Names =
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ["total_inactive_file ", "total_active_file "]);
const VERSION_2: Names = ("memory.max", "memory.current", ["inactive_file ", "active_file "]);

/// What a cgroup leaves; `None` where it has no limit.
fn left_in(folder: &Path, (limit, used, of_files): Names) -> Option<u64> {
    let text = |name| fs::read_to_string(folder.join(name)).ok();
    let number = |name| text(name)?.trim().parse::<u64>().ok();
    let statistics = text("memory.stat").unwrap_or_default();
    let value = |name| statistics.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
    let in_files: u64 = of_files.into_iter().filter_map(value).sum();
    Some(number(limit)?.saturating_sub(number(used)?.saturating_sub(in_files)))
}

/// What the narrowest of this process's memory cgroups leaves: `/proc/self/cgroup` names them, a line for each hierarchy
/// (`0::/PATH` of version 2, `N:memory:/PATH` of version 1), and every folder on the way to the root has a limit.
fn in_cgroups(root: &Path, text: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            let (folder, names) = match controllers {
                "" => (root.to_owned(), VERSION_2),
                "memory" => (root.join("memory"), VERSION_1),
                _ => return None,
            };
            let own = folder.join(path);
            let on_the_way = own.ancestors().take_while(|place| place.starts_with(&folder));
            on_the_way.filter_map(|place| left_in(place, names)).min()
        })
        .min()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write in folders of their own")]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_cgroup_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = |path: &str, files: [(&str, &str); 2]| {
            let folder = root.path().join(path);
            fs::create_dir_all(&folder).unwrap();
            files.into_iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        };
        group("slice/job", [("memory.max", "max\n"), ("memory.current", "100\n")]);
        let left = |text: &str| in_cgroups(root.path(), text);
        assert_eq!(left("0::/slice/job\n"), None);
        group("slice", [("memory.max", "1000\n"), ("memory.current", "300\n")]);
        assert_eq!(left("0::/slice/job\n"), Some(700));
        // Pages of files make room.
        fs::write(root.path().join("slice/memory.stat"), "anon 50\ninactive_file 150\nactive_file 100\n").unwrap();
        assert_eq!(left("0::/slice/job\n"), Some(950));
        group("memory/old", [("memory.limit_in_bytes", "500"), ("memory.usage_in_bytes", "600")]);
        assert_eq!(left("5:cpu:/old\n4:memory:/old\n0::/slice/job\n"), Some(0));
        assert_eq!(left(""), None);
    }
}
