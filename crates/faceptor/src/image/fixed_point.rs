//! Draws turned and scaled pictures in integers, so that every machine draws the same pixels.

use crate::image::picture::{Picture, Pixels};

impl Picture {
    /// Samples this picture along a line into a row of RGB pixels: the first sample lies at `from`, each further one `step` on,
    /// as x and y in 65536ths of a pixel. Interpolates between pixels, and takes `outside` beyond the picture.
    pub fn sample_line(&self, from: [i64; 2], step: [i64; 2], outside: [u8; 3], row: &mut [u8]) {
        let [mut x, mut y] = from;
        for pixel in row.as_chunks_mut::<3>().0 {
            *pixel = self.sample(x, y).unwrap_or(outside);
            x += step[0];
            y += step[1];
        }
    }

    #[inline]
    fn sample(&self, x: i64, y: i64) -> Option<[u8; 3]> {
        let (width, height) = (self.width() as i64, self.height() as i64);
        if x < 0 || y < 0 || x >= (width - 1) << 16 || y >= (height - 1) << 16 {
            return None;
        }
        let at = ((y >> 16) * width + (x >> 16)) as usize * 3;
        let below = at + width as usize * 3;
        let bytes = self.bytes();
        let (upper, lower) = (bytes.get(at..at + 6)?, bytes.get(below..below + 6)?);
        let (right, down) = ((x >> 8 & 255) as u32, (y >> 8 & 255) as u32);
        Some(std::array::from_fn(|colour| {
            let mix = |row: &[u8]| u32::from(row[colour]) * (256 - right) + u32::from(row[colour + 3]) * right;
            ((mix(upper) * (256 - down) + mix(lower) * down + (1 << 15)) >> 16) as u8
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_interpolated_and_have_an_outside() {
        let mut picture = Picture::filled(3, 2, [0; 3]);
        picture.bytes_mut().copy_from_slice(&[0, 0, 0, 100, 40, 0, 200, 80, 0, 0, 0, 50, 100, 40, 50, 200, 80, 50]);
        let mut row = [7; 15];
        picture.sample_line([-(1 << 15), 1 << 15], [1 << 15, 0], [1, 2, 3], &mut row);
        assert_eq!(row, [1, 2, 3, 0, 0, 25, 50, 20, 25, 100, 40, 25, 150, 60, 25]);
    }
}
