//! Compares the JPEG decoder with libjpeg over every sampling, order of scans, restart interval and progression that `cjpeg`
//! can make (package libjpeg-turbo-progs).

use std::io::Write;
use std::process::{Command, Stdio};

use faceptor::Photo;
use faceptor_test_support::{Folder, skip};

const SAMPLINGS: [&str; 24] = [
    "1x1",
    "2x1",
    "1x2",
    "2x2",
    "4x1",
    "1x4",
    "4x2",
    "2x4",
    "3x1",
    "1x3",
    "3x3",
    "4x4",
    "2x2,1x1,2x1",
    "2x2,2x1,1x2",
    "1x1,2x2,2x2",
    "1x1,2x1,1x2",
    "2x1,1x1,2x1",
    "1x2,1x1,1x1",
    "4x1,2x1,1x1",
    "4x2,2x1,1x2",
    "3x2,1x1,1x2",
    "2x3,1x1,1x1",
    "1x1,1x1,2x2",
    "2x2,2x2,1x1",
];
/// Scripts of scans; the empty one stands for one scan, `p` for the usual progression.
const SCANS: [&str; 10] = [
    "",
    "p",
    "0;\n1;\n2;\n",
    "2;\n1;\n0;\n",
    "0;\n1,2;\n",
    "0,1;\n2;\n",
    "0,2;\n1;\n",
    "0:0-0,0,0;\n1:0-0,0,0;\n2:0-0,0,0;\n0:1-63,0,0;\n1:1-63,0,0;\n2:1-63,0,0;\n",
    "0,1,2:0-0,0,2;\n0:1-5,0,3;\n1:1-63,0,2;\n2:1-63,0,2;\n0:6-63,0,3;\n0:1-63,3,2;\n0:1-63,2,1;\n1:1-63,2,1;\n2:1-63,2,1;\n\
     0,1,2:0-0,2,1;\n0,1,2:0-0,1,0;\n0:1-63,1,0;\n1:1-63,1,0;\n2:1-63,1,0;\n",
    "0,1:0-0,0,1;\n2:0-0,0,1;\n0:1-2,0,0;\n0:3-63,0,1;\n1:1-63,0,0;\n2:1-9,0,0;\n2:10-63,0,0;\n0:3-63,1,0;\n0:0-0,1,0;\n\
     1,2:0-0,1,0;\n",
];
const RESTARTS: [&[&str]; 3] = [&[], &["-restart", "3B"], &["-restart", "1"]];
const SIZES: [[usize; 2]; 4] = [[67, 45], [33, 19], [5, 3], [16, 32]];

/// Runs a program. Returns its output, or `None` when it fails; and an error when it cannot be started.
fn filter(program: &str, arguments: &[&str], input: &[u8]) -> std::io::Result<Option<Vec<u8>>> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let mut pipe = child.stdin.take().expect("a pipe");
    // cjpeg may refuse the options before it reads the picture.
    let _ = pipe.write_all(input);
    drop(pipe);
    let output = child.wait_with_output()?;
    Ok(output.status.success().then_some(output.stdout))
}

/// Returns a PPM with ramps, edges and noise.
fn ppm([width, height]: [usize; 2]) -> Vec<u8> {
    let mut state = 7u32;
    let mut file = format!("P6 {width} {height} 255\n").into_bytes();
    for y in 0..height {
        for x in 0..width {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 24) as u8;
            let pixel =
                [(x * 9 + y * 3) as u8, (255 * x / width) as u8, if (x / 6 + y / 7) % 2 == 0 { 0 } else { 230 }];
            file.extend(if noise < 14 { [noise * 17, (state >> 16) as u8, (state >> 8) as u8] } else { pixel });
        }
    }
    file
}

/// Returns the RGB pixels of the PPM or PGM that djpeg writes.
fn pixels(file: &[u8], count: usize) -> Vec<u8> {
    match file.starts_with(b"P5") {
        true => file[file.len() - count..].iter().flat_map(|&grey| [grey; 3]).collect(),
        false => file[file.len() - 3 * count..].to_vec(),
    }
}

#[test]
fn pixels_of_every_layout_are_those_of_libjpeg() {
    if let Err(error) = filter("cjpeg", &["-version"], &[]).and_then(|_| filter("djpeg", &["-version"], &[])) {
        return skip(format_args!("cjpeg and djpeg cannot be started (package libjpeg-turbo-progs): {error}"));
    }
    let folder = Folder::new();
    let mut layouts: Vec<(String, Vec<String>)> = Vec::new();
    for sampling in SAMPLINGS {
        for (number, script) in SCANS.iter().enumerate() {
            let path = folder.write(&format!("{number}.scans"), script.as_bytes());
            let scans = match *script {
                "" => vec![],
                "p" => vec!["-progressive".to_owned()],
                _ => vec!["-scans".to_owned(), path],
            };
            for restart in RESTARTS {
                let mut options = vec!["-sample".to_owned(), sampling.to_owned()];
                options.extend(scans.iter().cloned());
                options.extend(restart.iter().map(|&word| word.to_owned()));
                layouts.push((format!("{sampling}, scans {number}, {restart:?}"), options));
            }
        }
    }
    for extra in
        ["-grayscale", "-rgb", "-grayscale -progressive", "-rgb -progressive", "-optimize -quality 100", "-quality 3"]
    {
        layouts.push((extra.to_owned(), extra.split(' ').map(str::to_owned).collect()));
    }
    let pictures = SIZES.map(|size| (size, ppm(size)));
    let (mut compared, mut farthest, mut not_made) = (0, 0, 0);
    for (number, (name, options)) in layouts.iter().enumerate() {
        let ([width, height], picture) = &pictures[number % pictures.len()];
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let Some(file) = filter("cjpeg", &options, picture).expect("cjpeg starts") else {
            // It refuses fractions, and MCUs of more than ten blocks.
            not_made += 1;
            continue;
        };
        let expected = filter("djpeg", &["-dct", "int", "-pnm"], &file).expect("djpeg starts").expect("its own file");
        let expected = pixels(&expected, width * height);
        let photo = Photo::decode(&file).unwrap_or_else(|error| panic!("{name}, {width} x {height}: {error}"));
        assert!(photo.warnings().is_empty(), "{name}: {:?}", photo.warnings());
        let difference = photo.rgb().iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(255);
        assert!(difference <= 2, "{name}, {width} x {height}: {difference} grey levels from libjpeg");
        farthest = farthest.max(difference);
        compared += 1;
    }
    println!("{compared} layouts compared, {not_made} not made by cjpeg, at most {farthest} grey levels apart");
    assert!(compared > 550, "only {compared} layouts were compared");
}
