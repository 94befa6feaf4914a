//! The frame header of a JPEG (SOF): size, components and their sampling.

use heapless::Vec as ShortVec;

use crate::error::{Result, bail, ensure};

/// Most components of a picture: CMYK has four.
pub(crate) const MAX_COMPONENTS: usize = 4;

/// How a component lies in the picture.
#[derive(Clone, Debug)]
pub(crate) struct Component {
    pub id: u8,
    /// Blocks of one MCU, across and down.
    pub across: usize,
    pub down: usize,
    /// Number of its quantization table.
    pub table: usize,
    /// Samples that belong to the picture.
    pub width: usize,
    pub height: usize,
    /// Blocks that hold them, and blocks of all MCUs: those beyond the picture's edge are coded too.
    pub blocks: [usize; 2],
    pub padded: [usize; 2],
}

/// Size, coding and components.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub width: usize,
    pub height: usize,
    pub is_progressive: bool,
    pub components: ShortVec<Component, MAX_COMPONENTS>,
    /// Largest sampling factors, across and down.
    pub most: [usize; 2],
    /// MCUs of a scan of several components.
    pub mcus: [usize; 2],
}

impl Frame {
    /// Reads the body of an SOFn segment; `marker` is its second byte.
    ///
    /// # Errors
    /// When the coding is not read, or the header is contradictory; or when there are more than `max_pixels` pixels.
    pub(crate) fn read(marker: u8, body: &[u8], max_pixels: u64) -> Result<Frame> {
        let name = match marker {
            0xc0..=0xc2 => "",
            0xc3 | 0xc7 | 0xcb | 0xcf => "lossless JPEG is",
            0xc9 | 0xca => "JPEG with arithmetic coding is",
            _ => "hierarchical JPEG is",
        };
        ensure!(name.is_empty(), Image, "{name} not read: convert it to an ordinary JPEG or to PNG");
        let Some((&[depth, h1, h0, w1, w0, count], entries)) = body.split_first_chunk::<6>() else {
            bail!(Image, "broken JPEG: its frame header is cut off");
        };
        ensure!(depth == 8, Image, "JPEG with {depth} bits a channel is not read: convert it to 8 bits");
        let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
        ensure!(height > 0, Image, "a JPEG that states its height after its data (DNL) is not read: convert it");
        ensure!(width > 0, Image, "the picture has no pixels");
        let (width, height) = (usize::from(width), usize::from(height));
        super::check_size(width, height, max_pixels)?;
        ensure!(matches!(count, 1 | 3 | 4), Image, "JPEG with {count} colour channels is not read: convert it to RGB");
        let mut components = ShortVec::new();
        for &entry in entries.as_chunks::<3>().0.iter().take(usize::from(count)) {
            let [id, sampling, table] = entry;
            let (across, down) = (usize::from(sampling >> 4), usize::from(sampling & 15));
            let good = (1..=4).contains(&across) && (1..=4).contains(&down) && table < 4;
            ensure!(good, Image, "broken JPEG: sampling {across} x {down}, quantization table {table}");
            let table = usize::from(table);
            let [blocks, padded] = [[0; 2]; 2];
            let component = Component { id, across, down, table, width: 0, height: 0, blocks, padded };
            // There are at most `MAX_COMPONENTS` entries.
            let _ = components.push(component);
        }
        ensure!(components.len() == usize::from(count), Image, "broken JPEG: its frame header is cut off");
        let is_progressive = marker == 0xc2;
        let mut frame = Frame { width, height, is_progressive, components, most: [1; 2], mcus: [1; 2] };
        frame.lay_out()?;
        Ok(frame)
    }

    /// Computes the sizes of the components.
    fn lay_out(&mut self) -> Result<()> {
        // The sampling of the only component says nothing: its scan has MCUs of one block.
        if let [only] = self.components.as_mut_slice() {
            (only.across, only.down) = (1, 1);
        }
        let most_of = |side: fn(&Component) -> usize| self.components.iter().map(side).max().unwrap_or(1);
        self.most = [most_of(|component| component.across), most_of(|component| component.down)];
        let [most_across, most_down] = self.most;
        self.mcus = [self.width.div_ceil(8 * most_across), self.height.div_ceil(8 * most_down)];
        for component in &mut self.components {
            let (across, down) = (component.across, component.down);
            ensure!(
                most_across.is_multiple_of(across) && most_down.is_multiple_of(down),
                Image,
                "JPEG with a channel sampled {across} x {down} beside one of {most_across} x {most_down} is not read: \
                 convert it"
            );
            component.width = (self.width * across).div_ceil(most_across);
            component.height = (self.height * down).div_ceil(most_down);
            component.blocks = [component.width.div_ceil(8), component.height.div_ceil(8)];
            component.padded = [self.mcus[0] * across, self.mcus[1] * down];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(width: u16, height: u16, components: &[[u8; 3]]) -> Vec<u8> {
        let [h1, h0] = height.to_be_bytes();
        let [w1, w0] = width.to_be_bytes();
        [&[8, h1, h0, w1, w0, components.len() as u8], components.concat().as_slice()].concat()
    }

    #[test]
    fn components_are_laid_out_by_their_sampling() {
        let frame = Frame::read(0xc0, &body(35, 17, &[[1, 0x22, 0], [2, 0x11, 1], [3, 0x21, 1]]), 1000).expect("good");
        let sizes: Vec<_> = frame.components.iter().map(|c| (c.width, c.height, c.blocks, c.padded)).collect();
        assert_eq!(frame.mcus, [3, 2]);
        assert_eq!(sizes, [(35, 17, [5, 3], [6, 4]), (18, 9, [3, 2], [3, 2]), (35, 9, [5, 2], [6, 2])]);
    }

    #[test]
    fn what_is_not_read_is_refused_by_name() {
        let good = body(8, 8, &[[1, 0x11, 0]]);
        for (marker, name) in [(0xc9, "arithmetic"), (0xca, "arithmetic"), (0xc3, "lossless"), (0xc5, "hierarchical")] {
            let text = Frame::read(marker, &good, 64).expect_err("not read").to_string();
            assert!(text.contains(name) && text.contains("convert"), "{text}");
        }
        for (bytes, words) in [
            (body(8, 0, &[[1, 0x11, 0]]), "DNL"),
            (body(0, 8, &[[1, 0x11, 0]]), "no pixels"),
            (body(9, 8, &[[1, 0x11, 0]]), "more than the 64"),
            (body(8, 8, &[[1, 0x11, 0], [2, 0x11, 0]]), "2 colour channels"),
            (body(8, 8, &[[1, 0x11, 0], [2, 0x51, 0], [3, 0x11, 0]]), "sampling 5 x 1"),
            (body(8, 8, &[[1, 0x31, 0], [2, 0x21, 0], [3, 0x11, 0]]), "sampled 2 x 1 beside one of 3 x 1"),
            (good[..7].to_vec(), "cut off"),
            ([&[12], &good[1..]].concat(), "12 bits"),
        ] {
            let text = Frame::read(0xc0, &bytes, 64).expect_err("not read").to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
