//! Bad input: one clear line for each file, the others are processed, exit status 1 if any failed.

use image::{DynamicImage, ImageBuffer, Luma, Rgb, RgbImage};

use crate::pictures::{
    animated_gif, animated_webp, cmyk_jpeg, encode, gradient, jpeg, jpeg_with_orientation, png, portrait,
};
use crate::program::{FACE, Folder, PORTRAIT, faceptor, overlap};

#[test]
fn each_bad_file_gets_one_line_and_the_others_are_processed() {
    let folder = Folder::new();
    let whole = jpeg(&portrait());
    let cut_png = png(portrait());
    let webp = encode(portrait(), image::ImageFormat::WebP);
    let bad = [
        ("cut.jpg", whole[..whole.len() / 2].to_vec(), "truncated JPEG"),
        ("cut.png", cut_png[..cut_png.len() / 2].to_vec(), "broken PNG"),
        ("cut.webp", webp[..webp.len() / 2].to_vec(), "WebP"),
        ("empty.jpg", Vec::new(), "the file is empty"),
        ("text.png", b"no picture at all".to_vec(), "not a JPEG, PNG, WebP, GIF, BMP or TIFF picture"),
        ("head.jpg", whole[..20].to_vec(), "JPEG"),
    ];
    let mut arguments = ["image", "--json", "--tasks", "none"].map(String::from).to_vec();
    arguments.push(folder.file("missing.jpg"));
    arguments.extend(bad.iter().map(|(name, bytes, _)| folder.write(name, bytes)));
    arguments.push(PORTRAIT.to_owned());
    let run = faceptor(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).expect(1);
    assert_eq!(run.err.lines().count(), bad.len() + 1, "{}", run.err);
    for (name, _, reason) in &bad {
        let line = run.line_about(name);
        assert!(line.starts_with(&format!("faceptor: {}: ", folder.file(name))) && line.contains(reason), "{line}");
    }
    assert!(run.line_about("missing.jpg").contains("no such file"), "{}", run.err);
    let lines = run.json();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["faces"].as_array().map(Vec::len), Some(1));
}

#[test]
fn unusual_pictures_show_the_same_face() {
    let folder = Folder::new();
    let portrait = portrait();
    let grey = DynamicImage::from(portrait.clone()).into_luma8();
    let deep: ImageBuffer<Rgb<u16>, Vec<u16>> = DynamicImage::from(portrait.clone()).into_rgb16();
    let deep_grey: ImageBuffer<Luma<u16>, Vec<u16>> = DynamicImage::from(portrait.clone()).into_luma16();
    let clear = DynamicImage::from(portrait.clone()).into_rgba8();
    let other = gradient(512, 512);
    let mut wide = RgbImage::from_pixel(20_000, 512, Rgb([90, 100, 110]));
    image::imageops::replace(&mut wide, &portrait, 0, 0);
    let files = [
        ("grey.png", png(grey.clone())),
        ("grey.jpg", encode(grey, image::ImageFormat::Jpeg)),
        ("deep.png", png(deep)),
        ("deep_grey.png", png(deep_grey)),
        ("alpha.png", png(clear)),
        ("plain.bmp", encode(portrait.clone(), image::ImageFormat::Bmp)),
        ("plain.tiff", encode(portrait.clone(), image::ImageFormat::Tiff)),
        ("still.webp", encode(portrait.clone(), image::ImageFormat::WebP)),
        ("still.gif", encode(portrait.clone(), image::ImageFormat::Gif)),
        ("moving.webp", animated_webp(&portrait, &other)),
        ("moving.gif", animated_gif(&portrait, &other)),
        ("turned.jpg", jpeg_with_orientation(&image::imageops::rotate270(&portrait), 6)),
        // The name does not decide what a file is.
        ("jpeg_inside.png", jpeg(&portrait)),
    ];
    for (name, bytes) in &files {
        let file = folder.write(name, bytes);
        let run = faceptor(&["image", "--json", "--tasks", "none", &file]).expect(0);
        let line = &run.json()[0];
        assert_eq!((&line["width"], &line["height"]), (&512.into(), &512.into()), "{name}");
        assert_eq!(line["faces"].as_array().map(Vec::len), Some(1), "{name}: {line}");
        assert!(overlap(&line["faces"][0]["box"], FACE) > 0.5, "{name}: {line}");
        match name.starts_with("moving") {
            true => assert!(run.line_about(name).contains("animated, its first frame is used"), "{}", run.err),
            false => assert_eq!(run.err, "", "{name}"),
        }
    }
}

#[test]
fn sizes_at_the_limits() {
    let folder = Folder::new();
    let wide = folder.write("wide.png", &png(gradient(20_000, 300)));
    let thin = folder.write("thin.png", &png(gradient(1, 3000)));
    let dot = folder.write("dot.png", &png(gradient(1, 1)));
    let out = folder.file("out");
    let run = faceptor(&["image", "--json", "--out", &out, &wide, &thin, &dot]).expect(0);
    let sizes: Vec<_> = run.json().iter().map(|line| (line["width"].as_u64(), line["height"].as_u64())).collect();
    assert_eq!(sizes, [(Some(20_000), Some(300)), (Some(1), Some(3000)), (Some(1), Some(1))]);
    assert_eq!(folder.names("out"), ["dot.png", "thin.png", "wide.png"]);
    // 20,000 x 20,000 pixels are refused from the header, whatever follows it.
    let mut huge = png(gradient(1, 1));
    huge[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x4e, 0x20]);
    let crc = !huge[12..29].iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    });
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    let run = faceptor(&["image", "--json", &folder.write("huge.png", &huge), &dot]).expect(1);
    assert!(run.line_about("huge.png").contains("20000 x 20000 pixels are more than"), "{}", run.err);
    assert_eq!(run.json().len(), 1);
}

#[test]
fn cmyk_is_read_as_colours() {
    let folder = Folder::new();
    let file = folder.write("cmyk.jpg", &cmyk_jpeg([30, 200, 90, 255]));
    let run = faceptor(&["image", "--json", "--out", &folder.file("out"), &file]).expect(0);
    assert_eq!((run.err.as_str(), &run.json()[0]["width"]), ("", &8.into()));
    let drawn = image::open(folder.file("out/cmyk.png")).expect("a PNG").into_rgb8();
    assert_eq!(drawn.dimensions(), (8, 8));
    let Rgb([red, green, blue]) = *drawn.get_pixel(4, 4);
    // Inverted inks are the colours themselves where there is no black.
    assert!(red.abs_diff(30) < 8 && green.abs_diff(200) < 8 && blue.abs_diff(90) < 8, "{red} {green} {blue}");
}

#[test]
fn folders_with_other_files() {
    let folder = Folder::new();
    let portrait = std::fs::read(PORTRAIT).expect("the portrait");
    folder.write("photos/b.jpg", &portrait);
    folder.write("photos/a/deep.JPEG", &portrait);
    folder.write("photos/notes.txt", b"not a photo");
    folder.write("photos/.hidden.jpg", b"broken");
    folder.write("none/readme.md", b"no photo here");
    let photos = folder.file("photos");
    let run = faceptor(&["image", "--json", "--tasks", "none", &photos]).expect(0);
    let paths: Vec<_> = run.json().iter().filter_map(|line| line["path"].as_str().map(str::to_owned)).collect();
    assert_eq!(paths, [folder.file("photos/a/deep.JPEG"), folder.file("photos/b.jpg")]);
    assert_eq!(run.err, "");
    let run = faceptor(&["-v", "image", "--json", "--tasks", "none", &photos]).expect(0);
    assert!(run.line_about("notes.txt").starts_with("faceptor: debug: "), "{}", run.err);
    let none = folder.file("none");
    let run = faceptor(&["image", "--json", "--tasks", "none", &none, &photos]).expect(1);
    assert!(run.line_about("none").ends_with("no JPEG, PNG or WebP in this folder"), "{}", run.err);
    assert_eq!(run.json().len(), 2);
}

#[test]
fn task_names() {
    let run = faceptor(&["image", "--tasks", "age,agee", PORTRAIT]).expect(2);
    assert_eq!(run.out, "");
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    for name in ["'agee'", "landmarks", "parsing", "age", "expression", "attributes", "recognition"] {
        assert!(run.err.contains(name), "{name}: {}", run.err);
    }
    let run = faceptor(&["image", "--json", "--tasks", "age,expression,age", PORTRAIT]).expect(0);
    assert_eq!(run.err, "faceptor: warning: task age is named twice; once is enough\n");
    assert_eq!(run.json()[0]["timing_us"]["decode"].as_object().map(|d| d.len()), Some(2));
    assert!(faceptor(&["image", "--tasks", ",", PORTRAIT]).expect(2).err.contains("no task is named"));
}

#[test]
fn folders_that_cannot_be_written() {
    let folder = Folder::new();
    let file = folder.write("file", b"in the way");
    for option in ["--out", "--masks"] {
        let run = faceptor(&["image", option, &format!("{file}/below"), PORTRAIT]).expect(1);
        assert!(run.err.starts_with("faceptor: cannot create the folder"), "{}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    }
    let run = faceptor(&["run", "--frames", "1", "--out", &format!("{file}/last.png")]).expect(1);
    assert!(run.line_about("last.png").contains("cannot write"), "{}", run.err);
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    for arguments in [&[][..], &["image"], &["image", "--max-faces", "0", "x"], &["nothing"], &["image", "--jsn", "x"]]
    {
        let run = faceptor(arguments).expect(2);
        assert_eq!(run.out, "", "{arguments:?}");
        assert!(run.err.contains("Usage") || run.err.contains("error"), "{arguments:?}: {}", run.err);
    }
    for verb in ["image", "run", "tasks", "compile"] {
        let run = faceptor(&[verb, "--help"]).expect(0);
        assert!(run.out.contains("Usage: faceptor") && run.err.is_empty(), "{verb}");
    }
    assert!(faceptor(&["--version"]).expect(0).out.starts_with("faceptor "));
}
