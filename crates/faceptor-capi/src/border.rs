//! The border to C: reads what the caller's pointers point to, and writes results there.
//!
//! Null pointers are noticed. That other pointers are what the header demands is the caller's promise, of which every `unsafe`
//! block here relies.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use crate::failure::{Failure, Outcome};

/// Reads a struct.
///
/// # Safety
/// A pointer that is not null points to a struct of that type.
pub unsafe fn read<T: Copy>(pointer: *const T, name: &str) -> Outcome<T> {
    check(pointer, name)?;
    // SAFETY: it is neither null nor misaligned; the caller vouches for what lies there.
    Ok(unsafe { pointer.read() })
}

/// Writes a result.
///
/// # Safety
/// A pointer that is not null points to memory for such a value.
pub unsafe fn write<T>(pointer: *mut T, value: T, name: &str) -> Outcome<()> {
    check(pointer, name)?;
    // SAFETY: as for `read`.
    unsafe { pointer.write(value) };
    Ok(())
}

fn check<T>(pointer: *const T, name: &str) -> Outcome<()> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("{name} is NULL")));
    }
    if !pointer.is_aligned() {
        return Err(Failure::argument(format!("{name} is not aligned: it points to no such struct")));
    }
    Ok(())
}

/// Borrows bytes.
///
/// # Safety
/// A pointer that is not null points to `size` bytes, which do not change as long as the slice is used.
pub unsafe fn bytes<'a>(pointer: *const u8, size: usize, name: &str) -> Outcome<&'a [u8]> {
    if size == 0 {
        return Ok(&[]);
    }
    check(pointer, name)?;
    if size > isize::MAX as usize {
        return Err(Failure::argument(format!("{size} bytes of {name} are more than there can be")));
    }
    // SAFETY: it is not null, not longer than a slice may be, and the caller vouches for the bytes.
    Ok(unsafe { std::slice::from_raw_parts(pointer, size) })
}

/// Borrows structs or bytes for writing.
///
/// # Safety
/// A pointer that is not null points to `count` values that nothing else uses as long as the slice is used.
pub unsafe fn slice_mut<'a, T>(pointer: *mut T, count: usize, name: &str) -> Outcome<&'a mut [T]> {
    check(pointer, name)?;
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Failure::argument(format!("{count} values of {name} are more than there can be")));
    }
    // SAFETY: as for `bytes`.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, count) })
}

/// Copies a text; `None` for a null pointer.
///
/// # Safety
/// A pointer that is not null points to a text that ends with a zero byte.
pub unsafe fn text(pointer: *const c_char, name: &str) -> Outcome<Option<String>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: it is not null; the caller vouches for the text.
    let text = unsafe { CStr::from_ptr(pointer) };
    let text = text.to_str().map_err(|_| Failure::argument(format!("{name} is not UTF-8")))?;
    Ok(Some(text.to_owned()))
}

/// Copies a path; `None` for a null pointer.
///
/// # Safety
/// As for [`text`].
#[cfg(unix)]
pub unsafe fn path(pointer: *const c_char) -> Outcome<Option<PathBuf>> {
    use std::os::unix::ffi::OsStrExt;

    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: it is not null; the caller vouches for the text.
    let path = unsafe { CStr::from_ptr(pointer) };
    Ok(Some(std::ffi::OsStr::from_bytes(path.to_bytes()).into()))
}

/// Copies a path; `None` for a null pointer.
///
/// # Safety
/// As for [`text`].
#[cfg(not(unix))]
pub unsafe fn path(pointer: *const c_char) -> Outcome<Option<PathBuf>> {
    // SAFETY: the caller of this function vouches for it.
    Ok(unsafe { text(pointer, "the path") }?.map(PathBuf::from))
}
