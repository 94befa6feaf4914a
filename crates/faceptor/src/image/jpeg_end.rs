//! Whether a JPEG reaches its end: the decoder fills what is missing with grey, which would be answered as a face.

/// Markers that stand alone: SOI, EOI, RSTn and TEM have no length after them.
fn stands_alone(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xd0..=0xd9)
}

/// True when the end-of-image marker of the picture itself is there. A thumbnail inside an APPn segment has markers
/// of its own, so segments are stepped over by their lengths; in entropy-coded data `ff` is followed by `00` or RSTn.
pub fn reaches_end(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at + 1 < bytes.len() {
        if bytes[at] != 0xff {
            at += 1;
            continue;
        }
        match bytes[at + 1] {
            0xd9 => return true,
            // Stuffing, or a fill byte before a marker.
            0x00 => at += 2,
            0xff => at += 1,
            marker if stands_alone(marker) => at += 2,
            _ => {
                let Some(length) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::reaches_end;

    #[test]
    fn the_end_inside_a_thumbnail_does_not_count() {
        let header = [0xff, 0xd8, 0xff, 0xe1, 0x00, 0x06, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xda, 0x00, 0x02];
        let data = [0x12, 0xff, 0x00, 0x34, 0xff, 0xd0, 0x56];
        let mut file = [header.as_slice(), &data].concat();
        assert!(!reaches_end(&file));
        file.extend([0xff, 0xd9]);
        assert!(reaches_end(&file));
        file.extend([1, 2, 3]);
        assert!(reaches_end(&file), "cameras append their own data after the end");
    }

    #[test]
    fn nothing_and_a_cut_segment_have_no_end() {
        assert!(!reaches_end(&[]));
        assert!(!reaches_end(&[0xff, 0xd8, 0xff, 0xe0, 0x00]));
    }
}
