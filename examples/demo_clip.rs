//! Writes the demo clip as a video file, for trying a camera loop without a camera:
//!
//! ```sh
//! cargo run --release --example demo_clip -- clip.y4m          # and: faceptor run --source clip.y4m
//! cargo run --release --example demo_clip -- clip.mjpg 60      # 60 frames of concatenated JPEG
//! cargo run --release --example demo_clip -- clip.yuyv 6 40    # every 40th frame, raw, as cameras give it
//! ```
//!
//! Arguments: FILE [COUNT [STEP]]; the clip has 240 frames. For each frame a JSON line on standard output says where the
//! middle of the face is drawn and how large a portrait pixel is there, both in pixels of the frame.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use faceptor::stages::{Picture, Pixels};
use faceptor_edge::capture::demo_clip::{DemoClip, HEIGHT, PERIOD, WIDTH};
use image::ImageEncoder;
use image::codecs::jpeg::JpegEncoder;

/// How good the JPEGs are, of 100: about what cameras send.
const QUALITY: u8 = 90;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "arguments: FILE.y4m|.mjpg|.yuyv [COUNT [STEP]]";
    let path = PathBuf::from(arguments.next().context(usage)?);
    let mut number = |absent: u64| arguments.next().map_or(Ok(absent), |word| word.parse().context(usage));
    let (count, step) = (number(PERIOD)?, number(1)?);
    let write: fn(&Picture, &mut dyn Write) -> Result<()> = match path.extension().and_then(|e| e.to_str()) {
        Some("y4m") => write_y4m,
        Some("mjpg") => write_jpeg,
        Some("yuyv") => write_yuyv,
        _ => bail!("{}: {usage}", path.display()),
    };

    let demo = DemoClip::new()?;
    let mut picture = Picture::default();
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::new(file);
    if path.extension().is_some_and(|e| e == "y4m") {
        writeln!(file, "YUV4MPEG2 W{WIDTH} H{HEIGHT} F30:1 Ip A1:1 C420jpeg")?;
    }
    for number in 0..count {
        demo.render(number * step, &mut picture);
        write(&picture, &mut file)?;
        let ([x, y], scale) = DemoClip::face(number * step);
        println!("{}", serde_json::json!({"frame": number, "middle": [x, y], "scale": scale}));
    }
    file.flush().with_context(|| format!("cannot write {}", path.display()))
}

/// BT.601, limited range: luma 16..=235, chroma 16..=240, as cameras and YUV4MPEG2 have it.
fn luma([r, g, b]: [f32; 3]) -> u8 {
    (16.0 + 0.256_788 * r + 0.504_129 * g + 0.097_906 * b).round() as u8
}

fn chroma([r, g, b]: [f32; 3]) -> [u8; 2] {
    let u = 128.0 - 0.148_223 * r - 0.290_993 * g + 0.439_216 * b;
    let v = 128.0 + 0.439_216 * r - 0.367_788 * g - 0.071_427 * b;
    [u.round() as u8, v.round() as u8]
}

fn rgb(picture: &Picture, x: usize, y: usize) -> [f32; 3] {
    picture.rgb(x, y).map(f32::from)
}

/// Returns the mean colour of pixels.
fn mean<const N: usize>(pixels: [[f32; 3]; N]) -> [f32; 3] {
    std::array::from_fn(|c| pixels.iter().map(|pixel| pixel[c]).sum::<f32>() / N as f32)
}

fn write_yuyv(picture: &Picture, out: &mut dyn Write) -> Result<()> {
    for y in 0..HEIGHT {
        for x in (0..WIDTH).step_by(2) {
            let pair = [rgb(picture, x, y), rgb(picture, x + 1, y)];
            let [u, v] = chroma(mean(pair));
            out.write_all(&[luma(pair[0]), u, luma(pair[1]), v])?;
        }
    }
    Ok(())
}

fn write_y4m(picture: &Picture, out: &mut dyn Write) -> Result<()> {
    out.write_all(b"FRAME\n")?;
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            out.write_all(&[luma(rgb(picture, x, y))])?;
        }
    }
    for plane in 0..2 {
        for y in (0..HEIGHT).step_by(2) {
            for x in (0..WIDTH).step_by(2) {
                let block = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| rgb(picture, x + dx, y + dy));
                out.write_all(&[chroma(mean(block))[plane]])?;
            }
        }
    }
    Ok(())
}

fn write_jpeg(picture: &Picture, out: &mut dyn Write) -> Result<()> {
    let encoder = JpegEncoder::new_with_quality(out, QUALITY);
    encoder.write_image(picture.bytes(), WIDTH as u32, HEIGHT as u32, image::ExtendedColorType::Rgb8)?;
    Ok(())
}
