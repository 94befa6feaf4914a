//! Opens the source that the command line names.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::capture::child::commands::{self, Reading};
use crate::capture::child::film::Film;
use crate::capture::child::live_stream::LiveStream;
use crate::capture::demo_source::DemoSource;
use crate::capture::mjpeg::{self, Mjpeg};
use crate::capture::paced::Paced;
use crate::capture::photo_files;
use crate::capture::photo_source::PhotoSource;
use crate::capture::source::{Source, SourceRequest};
use crate::capture::timed_reader::{Supply, TimedReader};
use crate::capture::v4l2::camera::Camera;
use crate::capture::y4m::{self, Y4m};
use crate::platform::redaction;

/// Opens a camera (`/dev/video0`, or a link to one), the address of a network camera or film, `libcamera`, `gst:PIPELINE`,
/// `demo`, a `.y4m` or `.mjpg` file, `-` or a named pipe for one of these as a stream, another film, a photo, or a folder of
/// photos.
///
/// # Errors
/// When the source does not exist, cannot be read, or is of an unknown kind; the message contains a remedy.
pub(crate) fn open(name: &str, request: &SourceRequest) -> Result<Box<dyn Source>> {
    if is_device(Path::new(name)) {
        return Ok(Box::new(Camera::open(Path::new(name), request)?));
    }
    let shown = redaction::without_credentials(name);
    let context = || format!("source {shown}");
    let source = match commands::reading_of(name, request).with_context(context)? {
        // It asks the stream itself for the rate.
        Some(Reading::Live(reading)) => {
            return Ok(Box::new(LiveStream::open(&shown, reading, request).with_context(context)?));
        }
        Some(Reading::Film(program)) => Box::new(Film::open(&shown, program).with_context(context)?),
        None => open_source(name).with_context(context)?,
    };
    Ok(match request.fps {
        Some(fps) => Box::new(Paced::new(source, fps)),
        None => source,
    })
}

/// Reports whether a source is live, without opening it: it has a rate, and frames are dropped where the loop is too slow.
///
/// # Errors
/// When the name is wrong, such as an address without a host.
pub(crate) fn is_live(name: &str, request: &SourceRequest) -> Result<bool> {
    let reading = || {
        let shown = redaction::without_credentials(name);
        commands::reading_of(name, request).with_context(|| format!("source {shown}"))
    };
    Ok(request.fps.is_some() || is_device(Path::new(name)) || matches!(reading()?, Some(Reading::Live(_))))
}

/// Opens any source but a camera.
fn open_source(name: &str) -> Result<Box<dyn Source>> {
    let path = Path::new(name);
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    if name == "demo" {
        return Ok(Box::new(DemoSource::new()?));
    }
    if name == "-" {
        let input = io::stdin().as_fd().try_clone_to_owned().context("standard input cannot be read")?;
        return sniff("standard input", TimedReader::of_file(File::from(input)));
    }
    if !path.exists() {
        bail!(
            "it does not exist: use /dev/videoN, rtsp://..., http://..., libcamera, gst:PIPELINE, demo, a film, a photo, a \
             folder, or - for standard input"
        );
    }
    let file = || {
        let file = File::open(path).context("it cannot be read")?;
        match file.metadata() {
            Ok(data) if data.is_file() && data.len() == 0 => bail!("it is empty"),
            _ => Ok(TimedReader::of_file(file)),
        }
    };
    match extension.as_str() {
        "y4m" => Ok(Box::new(Y4m::open(name, file()?)?)),
        "mjpg" | "mjpeg" => Ok(Box::new(Mjpeg::open(name, file()?)?)),
        _ if path.metadata().is_ok_and(|data| data.file_type().is_fifo()) => sniff(name, file()?),
        _ if path.is_dir() || photo_files::is_photo_name(path) => Ok(Box::new(PhotoSource::open(path))),
        _ => open_unnamed(name, path, file()?),
    }
}

/// Opens a regular file whose name says nothing to this program: its first bytes determine the kind.
fn open_unnamed(name: &str, path: &Path, mut reader: TimedReader<File>) -> Result<Box<dyn Source>> {
    reader.supply(u64::MAX).context("it cannot be read")?;
    let is_film = path.extension().is_some_and(commands::is_film_name);
    match reader.bytes() {
        bytes if bytes.starts_with(y4m::MAGIC) => Ok(Box::new(Y4m::open(name, reader)?)),
        bytes if !is_film && image::guess_format(bytes).is_ok() => Ok(Box::new(PhotoSource::open(path))),
        _ => {
            let what =
                if is_film { "films are read by ffmpeg" } else { "neither a photo nor a film that ffmpeg reads" };
            Ok(Box::new(Film::open(name, commands::film_program(path)).context(what)?))
        }
    }
}

/// Opens a stream; its first byte determines the kind.
pub(crate) fn sniff<R: Read + Send + 'static>(name: &str, mut reader: TimedReader<R>) -> Result<Box<dyn Source>> {
    while reader.supply(u64::MAX).context("it cannot be read")? == Supply::Nothing {}
    match reader.bytes().first() {
        None => bail!("it is empty: expected YUV4MPEG2 (ffmpeg -f yuv4mpegpipe) or JPEGs (ffmpeg -f mjpeg)"),
        Some(first) if *first == y4m::MAGIC[0] => Ok(Box::new(Y4m::open(name, reader)?)),
        // Multipart streams begin with a boundary, an empty line or the head of an HTTP response.
        Some(first) if [mjpeg::MAGIC[0], b'-', b'\r', b'\n', b'H'].contains(first) => {
            Ok(Box::new(Mjpeg::open(name, reader)?))
        }
        Some(_) => bail!("neither YUV4MPEG2 (ffmpeg -f yuv4mpegpipe) nor JPEGs (ffmpeg -f mjpeg)"),
    }
}

/// Returns true for a character device, and for a missing file below `/dev`.
fn is_device(path: &Path) -> bool {
    match path.metadata() {
        Ok(data) => data.file_type().is_char_device(),
        Err(_) => path.starts_with("/dev"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn reason(name: &str) -> String {
        let error = open(name, &SourceRequest::default()).err().expect("a bad source");
        format!("{error:#}")
    }

    #[test]
    fn refusals_of_sources_contain_a_remedy() -> Result<()> {
        let missing = reason("/dev/no-such-video");
        assert!(missing.contains("/dev/no-such-video") && missing.contains("faceptor devices"), "{missing}");
        assert!(
            reason("/dev/null").ends_with("not a camera: `faceptor devices` lists them"),
            "{}",
            reason("/dev/null")
        );
        assert!(reason("no-such-file.y4m").starts_with("source no-such-file.y4m: it does not exist: use /dev/videoN"));
        let root = faceptor_test_support::Folder::new();
        for (name, expected) in [("a.y4m", "not YUV4MPEG2"), ("a.mjpg", "not concatenated JPEGs")] {
            let path = root.path().join(name);
            fs::write(&path, b"something else\n")?;
            let text = reason(&path.to_string_lossy());
            assert!(text.contains(name) && text.contains(expected), "{text}");
        }
        Ok(())
    }

    #[test]
    fn kinds_of_files_are_recognized_by_name() -> Result<()> {
        let root = faceptor_test_support::Folder::new();
        let photo = include_bytes!("../../models/demo/astronaut.jpg");
        fs::write(root.path().join("a.mjpg"), [photo.as_slice(), photo].concat())?;
        fs::write(root.path().join("b.Y4M"), b"YUV4MPEG2 W2 H2 Cmono\nFRAME\nabcd")?;
        fs::write(root.path().join("c.jpg"), photo)?;
        for (name, width) in [("a.mjpg", 512), ("b.Y4M", 2), ("c.jpg", 512)] {
            let mut source = open(&root.path().join(name).to_string_lossy(), &SourceRequest::default())?;
            source.poll(0)?;
            assert_eq!(source.view().width(), width, "{}", source.describe());
        }
        let paced = SourceRequest { fps: Some(25.0), ..SourceRequest::default() };
        assert_eq!(open("demo", &paced)?.period_us(), Some(40_000));
        Ok(())
    }
}
