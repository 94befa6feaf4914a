//! The size of the last-level cache, from the kernel's files.

use std::fs;
use std::path::Path;

use crate::platform::machine_facts::text;

/// Returns the bytes of the first CPU's last-level cache; `None` if the kernel does not describe it, as on some boards.
pub fn last_level_bytes() -> Option<u64> {
    last_level_below(Path::new("/sys/devices/system/cpu/cpu0/cache"))
}

/// Reads the folders `index0`, `index1` ... below `folder`.
fn last_level_below(folder: &Path) -> Option<u64> {
    let caches = fs::read_dir(folder).ok()?.filter_map(|entry| {
        let folder = entry.ok()?.path();
        let level: u32 = text(&folder.join("level"))?.parse().ok()?;
        let is_for_data = text(&folder.join("type"))? != "Instruction";
        is_for_data.then_some((level, bytes(&text(&folder.join("size"))?)?))
    });
    caches.max().map(|(_, bytes)| bytes)
}

/// Reads a size as the kernel writes it: `512K`, `8M`, or bytes.
fn bytes(size: &str) -> Option<u64> {
    let (digits, unit) = match size.as_bytes().last()? {
        b'K' => (&size[..size.len() - 1], 1 << 10),
        b'M' => (&size[..size.len() - 1], 1 << 20),
        b'G' => (&size[..size.len() - 1], 1 << 30),
        _ => (size, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_units_of_the_kernel() {
        let sizes = ["48K", "266240K", "8M", "1G", "4096"].map(bytes);
        assert_eq!(sizes, [48 << 10, 266_240 << 10, 8 << 20, 1 << 30, 4096].map(Some));
        assert!(
            ["", "K", "0K", "-1K", "12 K", "unknown", "99999999999999999999K", "18446744073709551615K"]
                .iter()
                .all(|size| bytes(size).is_none())
        );
    }

    #[test]
    fn the_highest_level_counts_and_instruction_caches_do_not() {
        let folder = std::env::temp_dir().join(format!("faceptor-cpu-cache-{}", std::process::id()));
        let caches = [("1", "Data", "48K"), ("2", "Unified", "2048K"), ("3", "Instruction", "9M"), ("x", "Data", "9M")];
        for (index, (level, kind, size)) in caches.iter().enumerate() {
            let cache = folder.join(format!("index{index}"));
            fs::create_dir_all(&cache).expect("a folder");
            for (name, text) in [("level", level), ("type", kind), ("size", size)] {
                fs::write(cache.join(name), format!("{text}\n")).expect("a file");
            }
        }
        let found = last_level_below(&folder);
        fs::remove_dir_all(&folder).expect("the folder");
        assert_eq!(found, Some(2048 << 10));
        assert_eq!(last_level_below(&folder), None);
    }
}
