//! The library as its users see it: images of every kind in, faces out, errors with a kind.

use std::time::Duration;

use faceptor::{
    Analysis, Analyzer, Augmentation, Bundle, Colour, Error, ErrorKind, ImageView, Photo, PixelFormat, Task,
    TaskOutput, Tracker,
};

const PORTRAIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo/astronaut.jpg");

fn portrait() -> Photo {
    Photo::open(PORTRAIT).expect("the portrait is there")
}

/// One view a face, so that the tests take little time.
fn analyzer(tasks: &[Task]) -> Analyzer {
    let analyzer = Analyzer::embedded().and_then(|analyzer| analyzer.tasks(tasks.iter().cloned()));
    analyzer.expect("the embedded network has these tasks").augmentation(Augmentation::Off)
}

/// Returns the box and age of the only face.
fn read(analysis: &Analysis) -> ([f32; 4], f32) {
    let [face] = analysis.faces.as_slice() else { panic!("one face: {analysis:?}") };
    let area = face.bounding_box();
    ([area.x, area.y, area.width, area.height], face.age().expect("age was chosen").years)
}

#[test]
fn every_kind_of_rgb_image_gives_the_same_face() -> Result<(), Error> {
    let photo = portrait();
    let mut analyzer = analyzer(&[Task::Age]);
    let expected = read(&analyzer.analyze(&photo)?);
    let (width, height) = (photo.width(), photo.height());
    let view = ImageView::rgb(photo.rgb(), width, height)?;
    assert_eq!(read(&analyzer.analyze(view)?), expected);
    let image =
        image::RgbImage::from_raw(width as u32, height as u32, photo.rgb().to_vec()).expect("three bytes a pixel");
    assert_eq!(read(&analyzer.analyze(&image)?), expected);
    let stride = 3 * width + 40;
    let mut padded = vec![9; stride * height];
    for (to, from) in padded.chunks_exact_mut(stride).zip(photo.rgb().chunks_exact(3 * width)) {
        to[..3 * width].copy_from_slice(from);
    }
    let view = ImageView::new(PixelFormat::Rgb24, Colour::default(), [width, height], stride, &padded)?;
    assert_eq!(read(&analyzer.analyze(view)?), expected);
    Ok(())
}

#[test]
fn each_task_has_its_accessor_and_its_name() -> Result<(), Error> {
    let bundle = Bundle::embedded()?;
    let mut analyzer = Analyzer::from_bundle(&bundle)?.tasks(bundle.tasks())?.augmentation(Augmentation::Off);
    let photo = portrait();
    let analysis = analyzer.analyze(&photo)?;
    let face = &analysis.faces[0];
    assert_eq!(face.id(), 1);
    assert!(face.score() > 0.5 && face.quality().is_trusted());
    assert_eq!(face.landmarks().expect("landmarks").points.len(), 68);
    let parsing = face.parsing().expect("parsing");
    assert!((parsing.shares().map(|(_, share)| share).sum::<f32>() - 1.0).abs() < 1e-3);
    let mask = parsing.mask();
    assert_eq!((mask.len(), mask[0]), (photo.width() * photo.height(), faceptor::Parsing::OUTSIDE));
    // The nose tip is on the nose.
    let [x, y] = face.keypoints()[2];
    let class = mask[y as usize * photo.width() + x as usize];
    assert_eq!(parsing.classes().nth(usize::from(class)), Some("nose"));
    let expression = face.expression().expect("expression");
    assert_eq!(expression.label(), "happiness");
    assert!((expression.scores().map(|(_, score)| score).sum::<f32>() - 1.0).abs() < 1e-3);
    let attributes = face.attributes().expect("attributes");
    assert_eq!((attributes.iter().count(), attributes.probability("no such attribute")), (40, None));
    assert!(attributes.probability("Smiling").is_some_and(|probability| probability > 0.5));
    let embedding = face.embedding().expect("recognition");
    assert!((embedding.similarity(embedding.as_slice()) - 1.0).abs() < 1e-3);
    assert!(matches!(face.result("age"), Some(TaskOutput::Age(age)) if Some(age) == face.age()));
    assert_eq!((face.results().count(), face.stale_frames("age")), (bundle.tasks().count(), Some(0)));
    Ok(())
}

#[test]
fn a_task_that_was_not_chosen_has_no_result() -> Result<(), Error> {
    let analysis = analyzer(&[Task::Age]).analyze(&portrait())?;
    let face = &analysis.faces[0];
    assert!(face.age().is_some() && face.landmarks().is_none() && face.result("parsing").is_none());
    let alone = analyzer(&[]).analyze(&portrait())?;
    assert_eq!((alone.faces.len(), alone.faces[0].results().count()), (1, 0));
    Ok(())
}

#[test]
fn threads_and_views_change_the_time_and_not_the_face() -> Result<(), Error> {
    let once = read(&analyzer(&[Task::Age]).analyze(&portrait())?);
    assert_eq!(read(&analyzer(&[Task::Age]).threads(2)?.analyze(&portrait())?), once);
    let twice = read(&analyzer(&[Task::Age]).augmentation(Augmentation::Mirror).analyze(&portrait())?);
    assert!(twice.0 == once.0 && twice.1 != once.1 && (twice.1 - once.1).abs() < 10.0, "{twice:?} {once:?}");
    Ok(())
}

#[test]
fn errors_have_a_kind_and_name_the_cause() {
    let error = |result: Result<Analyzer, Error>| result.err().expect("this is refused");
    let unknown = error(Analyzer::embedded().and_then(|analyzer| analyzer.tasks(["mood"])));
    assert_eq!(unknown.kind(), ErrorKind::Task);
    assert!(unknown.to_string().contains("'mood'") && unknown.to_string().contains("landmarks"), "{unknown}");
    assert_eq!(error(Analyzer::embedded().and_then(|analyzer| analyzer.threads(9))).kind(), ErrorKind::Unsupported);
    let missing = Photo::open("no/such/photo.jpg").expect_err("no such file");
    assert_eq!(
        (missing.kind(), missing.to_string().as_str()),
        (ErrorKind::Image, "no/such/photo.jpg: no such file or directory")
    );
    let short = ImageView::rgb(&[0; 10], 2, 2).expect_err("twelve bytes are needed");
    assert!(short.kind() == ErrorKind::Image && short.to_string().contains("12 bytes, not 10"), "{short}");
    let empty = analyzer(&[]).analyze(&image::RgbImage::new(0, 0)).expect_err("no pixels");
    assert_eq!(empty.kind(), ErrorKind::Image);
    let wide = analyzer(&[]).analyze_aligned(&image::RgbImage::new(20, 10)).expect_err("not square");
    assert!(wide.kind() == ErrorKind::Image && wide.to_string().contains("20 x 10"), "{wide}");
    let damaged = Bundle::from_bytes(b"FACEPTOR").err().expect("not a bundle");
    assert_eq!(damaged.kind(), ErrorKind::Bundle);
}

#[test]
fn tracked_face_keeps_its_number() -> Result<(), Error> {
    let photo = portrait();
    let view = ImageView::rgb(photo.rgb(), photo.width(), photo.height())?;
    let mut tracker = Tracker::new(analyzer(&[Task::Age]), 4);
    for _ in 0..20 {
        let analysis = tracker.update(&view, Duration::from_millis(33))?;
        assert_eq!(analysis.faces.iter().map(|face| face.id()).collect::<Vec<_>>(), [1]);
        assert!(analysis.faces[0].age().is_some() && analysis.faces[0].landmarks().is_none());
    }
    Ok(())
}
