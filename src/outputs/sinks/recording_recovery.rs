//! Where the whole lines of a recording end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// So much of the end is looked at first; more only when no whole line is in it.
const WINDOW: u64 = 256 << 10;

/// How many of the `length` bytes of a file are whole lines, each a JSON object: what a power loss left behind the last
/// good line (a part of one, or the zeros of blocks that were never written) does not count.
/// `None` when the file does not look like a recording, so that nobody cuts it.
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
            // The one line there is torn, or nothing but zeros: it is a recording if nothing else is in it.
            let torn = !bytes.contains(&b'\n') || bytes.iter().all(|&byte| byte == 0);
            return Ok(torn.then_some(0));
        }
        window = window.saturating_mul(4);
    }
}

/// The end of the last line of `bytes` that is a JSON object. Only where `bytes` are the whole file can their first line
/// be told to be whole.
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

fn is_object(line: &[u8]) -> bool {
    line.first() == Some(&b'{') && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_whole_line_at_the_end_does_not_count() -> io::Result<()> {
        let folder = crate::scratch::Folder::new()?;
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
