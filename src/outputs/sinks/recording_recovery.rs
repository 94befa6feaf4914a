//! Finds the end of the last whole line of a recording after a power loss.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// Bytes of the end that are searched first; more only when they hold no whole line.
const WINDOW: u64 = 256 << 10;

/// Returns whether a file looks like a recording: empty, or its first line is a result. The first block may be zeros that a
/// power loss left, and the only line a part of one.
///
/// # Errors
/// When the file cannot be read.
pub fn is_recording(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut window = WINDOW;
    loop {
        let mut bytes = vec![0; window.min(length) as usize];
        file.read_exact_at(&mut bytes, 0)?;
        if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            return Ok(bytes[0] == 0 || is_result(&bytes[..end]));
        }
        if window >= length {
            let begins = |start: &str| bytes.starts_with(&start.as_bytes()[..start.len().min(bytes.len())]);
            let is_part = serde_json::from_slice::<IgnoredAny>(&bytes).is_err_and(|error| error.is_eof());
            let is_part = is_part && ["{\"width\":", "{\"path\":"].into_iter().any(begins);
            let is_zero = bytes.iter().all(|&byte| byte == 0);
            return Ok(is_zero || is_part || is_result(&bytes));
        }
        window = window.saturating_mul(4);
    }
}

/// Returns how many of the `length` bytes of a file are whole lines, each a JSON object. Bytes that a power loss left after
/// the last whole line do not count: a part of a line, or zeros of blocks that were never written. Returns `None` when
/// the file does not look like a recording, so that it is not cut.
///
/// # Errors
/// When the file cannot be read.
pub fn whole_lines(file: &File, length: u64) -> io::Result<Option<u64>> {
    if length == 0 {
        return Ok(Some(0));
    }
    let mut first = [0];
    file.read_exact_at(&mut first, 0)?;
    // Zeros are a file whose very first block was never written.
    if !matches!(first[0], b'{' | 0) {
        return Ok(None);
    }
    let mut window = WINDOW;
    loop {
        let from = length.saturating_sub(window);
        let mut bytes = vec![0; (length - from) as usize];
        file.read_exact_at(&mut bytes, from)?;
        if let Some(end) = last_whole_line(&bytes, from == 0) {
            return Ok(Some(from + end as u64));
        }
        if from == 0 {
            // Only one partial line, or nothing but zeros, is a recording too.
            let torn = !bytes.contains(&b'\n') || bytes.iter().all(|&byte| byte == 0);
            return Ok(torn.then_some(0));
        }
        window = window.saturating_mul(4);
    }
}

/// Returns the end of the last line of `bytes` that is a JSON object. The first line of `bytes` is only known to be whole if
/// they are the whole file.
fn last_whole_line(bytes: &[u8], whole_file: bool) -> Option<usize> {
    let mut end = bytes.len();
    loop {
        end = bytes[..end].iter().rposition(|&byte| byte == b'\n')? + 1;
        let start = match bytes[..end - 1].iter().rposition(|&byte| byte == b'\n') {
            Some(before) => before + 1,
            None if whole_file => 0,
            None => return None,
        };
        if is_object(&bytes[start..end - 1]) {
            return Some(end);
        }
        end -= 1;
    }
}

/// Returns whether a line is an object with a list of faces.
fn is_result(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "faces")]
        _faces: IgnoredAny,
    }
    line.first() == Some(&b'{') && serde_json::from_slice::<Line>(line).is_ok()
}

fn is_object(line: &[u8]) -> bool {
    line.first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_is_a_result() -> io::Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let path = folder.path().join("a");
        let long = [b"{\"width\":4,\"faces\":[\"".to_vec(), vec![b'x'; 2 << 20], b"\"]}\n".to_vec()].concat();
        let cases: [(&[u8], bool); 15] = [
            (b"", true),
            (b"{\"width\":4,\"faces\":[]}\n", true),
            (b"{\"width\":4,\"faces\":[]}\n{\"wid", true),
            (b"{\"width\":4,\"faces\":[]}", true),
            (b"{\"width\":4,\"fac", true),
            (b"{\"path\":\"a", true),
            (b"{\"wi", true),
            (&[0; 4096], true),
            (&long, true),
            (&long[..1 << 20], true),
            (b"{\"a\":1}\n", false),
            (b"{\"width\":4}", false),
            (b"{\"name\":\"a", false),
            (b"{\n \"faces\": []\n}\n", false),
            (b"[{\"faces\":[]}]\n", false),
        ];
        for (bytes, expected) in cases {
            std::fs::write(&path, bytes)?;
            let found = is_recording(&File::open(&path)?)?;
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
        }
        Ok(())
    }

    #[test]
    fn partial_lines_at_the_end_do_not_count() -> io::Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let path = folder.path().join("a");
        let count = |bytes: &[u8]| {
            std::fs::write(&path, bytes)?;
            whole_lines(&File::open(&path)?, bytes.len() as u64)
        };
        let zeros = [b"{\"a\":1}\n".as_slice(), &[0; 5000]].concat();
        let damaged = [b"{\"a\":1}\n{\"b\":\0\0\0\n".as_slice(), &[0; 70], b"\n"].concat();
        let long = [b"{\"a\":1}\n{\"b\":\"".to_vec(), vec![b'x'; 3 << 20], b"\"}\n".to_vec()].concat();
        let cases: [(&[u8], Option<u64>); 12] = [
            (b"", Some(0)),
            (b"{\"a\":1}\n", Some(8)),
            (b"{\"a\":1}\n{\"a\":2}\n", Some(16)),
            (b"{\"a\":1}\n{\"a\":2}", Some(8)),
            (b"{\"a\":1}\n{\"a\":2\n", Some(8)),
            (b"{\"a\":1", Some(0)),
            (&[0; 4096], Some(0)),
            (&zeros, Some(8)),
            (&damaged, Some(8)),
            (&long[..long.len() - 1], Some(8)),
            (b"{ this is\n not JSON }\n", None),
            (b"#!/bin/sh\n", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(count(bytes)?, expected, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]));
        }
        assert_eq!(count(&long)?, Some(long.len() as u64));
        Ok(())
    }
}
