//! Interpolates between pixels.

use crate::image::picture::Pixels;

/// Interpolates `pixel` at a point, in 65536ths, with the picture's edge repeated outside. The sum of sixteen
/// samples fits its type.
#[inline]
pub fn bilinear(picture: &impl Pixels, pixel: impl Fn(usize, usize) -> [u8; 3], x: f32, y: f32) -> [u32; 3] {
    let (last_x, last_y) = (picture.width() - 1, picture.height() - 1);
    let (x, y) = (x.clamp(0.0, last_x as f32), y.clamp(0.0, last_y as f32));
    let (left, top) = (x as usize, y as usize);
    let (right, below) = ((left + 1).min(last_x), (top + 1).min(last_y));
    let (fx, fy) = (((x - left as f32) * 256.0) as u32, ((y - top as f32) * 256.0) as u32);
    let (a, b) = (pixel(left, top), pixel(right, top));
    let (c, d) = (pixel(left, below), pixel(right, below));
    std::array::from_fn(|i| {
        let upper = u32::from(a[i]) * (256 - fx) + u32::from(b[i]) * fx;
        let lower = u32::from(c[i]) * (256 - fx) + u32::from(d[i]) * fx;
        upper * (256 - fy) + lower * fy
    })
}
