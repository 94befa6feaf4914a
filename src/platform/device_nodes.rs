//! The device nodes of a folder, by their numbers.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns every entry of `folder` whose name is `prefix` and a number, sorted by number: `video0`, `video2`, `video10`.
/// A folder that cannot be read has none.
pub(crate) fn numbered(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse::<u32>().ok();
    let mut nodes: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((number(&path)?, path))
        })
        .collect();
    nodes.sort();
    nodes.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn nodes_are_sorted_by_number() -> io::Result<()> {
        let root = faceptor_test_support::Folder::new();
        for name in ["video10", "video2", "videodev", "v4l-subdev0", "video0", "fb0"] {
            fs::write(root.path().join(name), b"")?;
        }
        let names: Vec<PathBuf> = ["video0", "video2", "video10"].map(|name| root.path().join(name)).to_vec();
        assert_eq!(numbered(root.path(), "video"), names);
        assert!(numbered(&root.path().join("missing"), "video").is_empty());
        Ok(())
    }
}
