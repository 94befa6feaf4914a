//! Lists the photos that the paths on a command line name, folders included.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::png_mark;

const EXTENSIONS: [&str; 13] =
    ["jpg", "jpeg", "jpe", "jfif", "pjpeg", "mpo", "png", "apng", "webp", "gif", "bmp", "tif", "tiff"];

/// The path that stands for standard input.
pub(crate) const STANDARD_INPUT: &str = "-";

/// Returns true for a file whose name ends like a photo's.
pub(crate) fn is_photo_name(path: &Path) -> bool {
    path.extension().is_some_and(|ending| EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

/// The photos below some paths.
pub(crate) struct Listing {
    pub photos: Vec<PathBuf>,
    /// Number of results of this program that were passed over.
    results: usize,
    /// Path and reason of each folder that cannot be read or contains no photo.
    pub failures: Vec<(PathBuf, anyhow::Error)>,
}

/// Lists every photo below `paths`. A file is listed whatever its name. A folder is walked with its subfolders, and files
/// with the extension of a photo are listed, sorted by path. Hidden files, pictures that this program wrote, and the folders
/// `except`, to which results are written, are skipped. The path `-` is standard input. Links to folders are not followed, so that a cycle of links cannot trap the walk.
pub(crate) fn list(paths: &[PathBuf], except: &[PathBuf]) -> Listing {
    let except: Vec<PathBuf> = except.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut listing = Listing { photos: Vec::new(), results: 0, failures: Vec::new() };
    for path in paths {
        if path == Path::new(STANDARD_INPUT) || !path.is_dir() {
            listing.photos.push(path.clone());
            continue;
        }
        let (before, results_before, failed_before) = (listing.photos.len(), listing.results, listing.failures.len());
        walk(path, &except, &mut listing);
        listing.photos[before..].sort();
        if listing.photos.len() == before && listing.failures.len() == failed_before {
            let reason = match listing.results > results_before {
                true => "only pictures that faceptor wrote are in this folder; name the files themselves to read them",
                false => "no JPEG, PNG or WebP in this folder",
            };
            listing.failures.push((path.clone(), anyhow::anyhow!(reason)));
        }
    }
    listing
}

fn walk(folder: &Path, except: &[PathBuf], listing: &mut Listing) {
    if let Err(error) = try_walk(folder, except, listing) {
        listing.failures.push((folder.to_owned(), anyhow::Error::new(error).context("the folder cannot be read")));
    }
}

fn try_walk(folder: &Path, except: &[PathBuf], listing: &mut Listing) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let kind = entry.file_type()?;
        if hidden {
            log::debug!("{}: hidden, skipped", path.display());
        } else if kind.is_dir() {
            if path.canonicalize().is_ok_and(|real| except.contains(&real)) {
                log::debug!("{}: results are written there, skipped", path.display());
            } else {
                walk(&path, except, listing);
            }
        } else if path.is_file() && has_photo_extension(&path) {
            match png_mark::read(&path).is_some() {
                true => {
                    log::debug!("{}: written by faceptor, skipped", path.display());
                    listing.results += 1;
                }
                false => listing.photos.push(path),
            }
        } else {
            log::debug!("{}: not a photo, skipped", path.display());
        }
    }
    Ok(())
}

fn has_photo_extension(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    #[test]
    fn folders_are_walked_in_order() -> Result<()> {
        let root = faceptor_test_support::Folder::new();
        fs::create_dir_all(root.path().join("b/results"))?;
        for name in ["b/2.JPG", "b/1.png", "a.webp", "notes.txt", ".hidden.jpg", "b/results/1.png", "jpg", "c.jpg.txt"]
        {
            fs::write(root.path().join(name), b"x")?;
        }
        let listing = list(&[root.path().to_owned()], &[root.path().join("b/results")]);
        let names: Vec<_> = listing.photos.iter().filter_map(|p| p.strip_prefix(root.path()).ok()).collect();
        assert_eq!(names, [Path::new("a.webp"), Path::new("b/1.png"), Path::new("b/2.JPG")]);
        assert!(listing.failures.is_empty());
        Ok(())
    }

    #[test]
    fn folders_without_photos_are_failures() -> Result<()> {
        let root = faceptor_test_support::Folder::new();
        fs::write(root.path().join("notes.txt"), b"x")?;
        let listing = list(&[root.path().to_owned(), root.path().join("notes.txt")], &[]);
        assert_eq!(listing.failures.len(), 1);
        assert_eq!(listing.photos, [root.path().join("notes.txt")]);
        Ok(())
    }
}
