//! Writes annotated pixels back into a frame. Pixels that the drawing left alone keep their bytes.

use faceptor::Colour;
use faceptor::stages::{Picture, Pixels};
use gstreamer_video::VideoFormat;

use crate::pixels::Layout;

/// Weights of red and blue in luma, and the ranges of luma and chroma.
struct Encoding {
    red: f32,
    blue: f32,
    black: f32,
    luma: f32,
    chroma: f32,
}

impl Encoding {
    fn of(colour: Colour) -> Encoding {
        let (red, blue) = match colour {
            Colour::Bt601Limited | Colour::Bt601Full => (0.299, 0.114),
            Colour::Bt709Limited | Colour::Bt709Full => (0.2126, 0.0722),
        };
        let (black, luma, chroma) = match colour {
            Colour::Bt601Limited | Colour::Bt709Limited => (16.0, 219.0, 224.0),
            Colour::Bt601Full | Colour::Bt709Full => (0.0, 255.0, 255.0),
        };
        Encoding { red, blue, black, luma, chroma }
    }

    /// Converts red, green and blue, 0 to 255 each.
    fn yuv(&self, [r, g, b]: [f32; 3]) -> [u8; 3] {
        let [r, g, b] = [r, g, b].map(|value| value / 255.0);
        let y = self.red * r + (1.0 - self.red - self.blue) * g + self.blue * b;
        let u = (b - y) / (2.0 * (1.0 - self.blue));
        let v = (r - y) / (2.0 * (1.0 - self.red));
        // `as` keeps to 0..=255.
        [self.black + self.luma * y, 128.0 + self.chroma * u, 128.0 + self.chroma * v].map(|value| value.round() as u8)
    }
}

/// Writes those pixels of `after` that differ from `before` into a buffer of this layout. Bytes that it does not have are left out.
pub fn write_changes(layout: &Layout, bytes: &mut [u8], before: &Picture, after: &Picture) {
    let is_changed = |x: usize, y: usize| before.rgb(x, y) != after.rgb(x, y);
    let mut put = |plane: usize, y: usize, at: usize, value: u8| {
        if let Some(byte) = layout.index(plane, y, at).and_then(|index| bytes.get_mut(index)) {
            *byte = value;
        }
    };
    let (width, height) = (layout.width.min(after.width()), layout.height.min(after.height()));
    if matches!(layout.format, VideoFormat::Rgb | VideoFormat::Bgr) {
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))).filter(|&(y, x)| is_changed(x, y)) {
            let mut pixel = after.rgb(x, y);
            if layout.format == VideoFormat::Bgr {
                pixel.reverse();
            }
            pixel.into_iter().enumerate().for_each(|(channel, value)| put(0, y, x * 3 + channel, value));
        }
        return;
    }
    let encoding = Encoding::of(layout.colour);
    // Pixels of 2 x 1 or 2 x 2 share U and V.
    let rows = if layout.format == VideoFormat::Yuy2 { 1 } else { 2 };
    for (top, left) in (0..height).step_by(rows).flat_map(|y| (0..width).step_by(2).map(move |x| (y, x))) {
        let block = || (top..height.min(top + rows)).flat_map(|y| (left..width.min(left + 2)).map(move |x| (x, y)));
        if !block().any(|(x, y)| is_changed(x, y)) {
            continue;
        }
        let (mut sum, mut count) = ([0.0; 3], 0.0);
        for (x, y) in block() {
            let pixel = after.rgb(x, y).map(f32::from);
            sum.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            count += 1.0;
            if is_changed(x, y) {
                let at = if layout.format == VideoFormat::Yuy2 { 2 * x } else { x };
                put(0, y, at, encoding.yuv(pixel)[0]);
            }
        }
        let [_, u, v] = encoding.yuv(sum.map(|sum| sum / count));
        let (row, column) = (top / rows, left / 2);
        let [(u_plane, u_at), (v_plane, v_at)] = match layout.format {
            VideoFormat::Yuy2 => [(0, 4 * column + 1), (0, 4 * column + 3)],
            VideoFormat::Nv12 => [(1, 2 * column), (1, 2 * column + 1)],
            _ => [(1, column), (2, column)],
        };
        put(u_plane, row, u_at, u);
        put(v_plane, row, v_at, v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_is_the_inverse_of_the_library_s() {
        for colour in [Colour::Bt601Limited, Colour::Bt601Full, Colour::Bt709Limited, Colour::Bt709Full] {
            for rgb in [[0u8; 3], [255; 3], [70, 220, 110], [255, 240, 80], [12, 200, 250], [255, 0, 0]] {
                let yuv = Encoding::of(colour).yuv(rgb.map(f32::from));
                let view = faceptor::ImageView::new(faceptor::PixelFormat::I444, colour, [1, 1], 1, &yuv);
                let mut back = Picture::default();
                assert!(view.map(|view| view.to_picture(&mut back)).is_ok());
                let far = rgb.iter().zip(back.bytes()).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(far.is_some_and(|far| far <= 2), "{colour:?} {rgb:?} {:?}", back.bytes());
            }
        }
    }
}
