//! Another network for the recognition of a bundle answers what ONNX Runtime answers; everything else stays.

use std::path::{Path, PathBuf};

use faceptor_compiler::{Channels, Recognizer, compile_folder, compile_with_recognizer};
use faceptor_nn::bundle::Bundle;
use faceptor_nn::cpu::Kernel;
use faceptor_nn::engine::Engine;
use faceptor_nn::manifest::{GroupColour, Impostors, TaskKind};
use faceptor_test_support::{fixture, read_floats};

fn recognizer(file: PathBuf) -> Recognizer {
    Recognizer { file, channels: Channels::Rgb, mean: [127.5; 3], std: [127.5; 3], impostors: None }
}

fn named(name: &str) -> Recognizer {
    recognizer(fixture("recognizers").join(format!("{name}.onnx")))
}

#[test]
fn float_and_quantized_recognizers_equal_onnx_runtime() {
    for (name, most) in [("float", 1e-4), ("quantized", 0.02)] {
        let bundle = compile_with_recognizer(&fixture("tiny"), &named(name)).unwrap();
        let bundle = Bundle::from_bytes(&bundle).unwrap();
        let expected = read_floats(&fixture("recognizers").join(format!("ort.{name}.f32")));
        let largest = expected.iter().fold(0f32, |most, number| most.max(number.abs()));
        for kernel in Kernel::available() {
            let mut engine = Engine::with_kernel(bundle.clone(), kernel).unwrap();
            for (index, value) in engine.input("recognizer_image").unwrap().iter_mut().enumerate() {
                *value = (index * 37 % 255) as f32 / 127.5 - 1.0;
            }
            let found = engine.output("out_recognizer").unwrap();
            assert_eq!(found.len(), 128);
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() / largest).fold(0f32, f32::max);
            assert!(worst < most, "{name}, {}: differs by {worst} of the largest", kernel.name());
        }
    }
}

#[test]
fn the_other_tasks_stay_and_the_former_recognition_goes() {
    let folder = fixture("tiny");
    let before = Bundle::from_bytes(&compile_folder(&folder).unwrap()).unwrap();
    let table = Impostors {
        task: "someone else's".into(),
        measured_on: "a test".into(),
        people: 2,
        pairs: 1,
        rates: vec![0.1, 0.01],
        scores: vec![0.2, 0.3],
    };
    let own = Recognizer { channels: Channels::Bgr, impostors: Some(table), ..named("float") };
    let bundle = Bundle::from_bytes(&compile_with_recognizer(&folder, &own).unwrap()).unwrap();
    let (old, new) = (before.manifest(), bundle.manifest());
    let names = |bundle: &Bundle| bundle.manifest().tasks.iter().map(|task| task.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&bundle), names(&before));
    assert!(new.part("task_recognition").is_none() && new.part("recognizer").is_some());
    assert_eq!((new.name.as_str(), &new.input, &new.frame), ("tiny fixture+float", &old.input, &old.frame));
    for (old, new) in old.tasks.iter().zip(&new.tasks).filter(|(old, _)| old.kind != TaskKind::Recognition) {
        assert_eq!(old, new);
        assert_eq!(before.task_identity(old), bundle.task_identity(new));
    }
    let task = new.tasks.iter().find(|task| task.kind == TaskKind::Recognition).unwrap();
    assert_eq!(new.group_of(task).map(|group| (group.size, group.colour)), Some((112, GroupColour::Bgr)));
    assert_eq!(new.impostors.as_ref().map(|table| table.task.as_str()), Some("recognition"));

    // Galleries are bound to the network and to what it sees.
    let plain = Bundle::from_bytes(&compile_with_recognizer(&folder, &named("float")).unwrap()).unwrap();
    let other = Bundle::from_bytes(&compile_with_recognizer(&folder, &named("quantized")).unwrap()).unwrap();
    let identity = |bundle: &Bundle| bundle.task_identity(bundle.manifest().task("recognition").unwrap());
    let identities = [&before, &bundle, &plain, &other].map(|bundle| identity(bundle));
    assert!((1..4).all(|place| !identities[..place].contains(&identities[place])));

    // The tasks of the folder answer as before.
    let image = read_floats(&folder.join("in.image.f32"));
    let mut engines = [before, bundle].map(|bundle| Engine::with_kernel(bundle, Kernel::SCALAR).unwrap());
    let [one, two] = engines.each_mut().map(|engine| {
        let input = engine.input("image").unwrap();
        let length = input.len();
        input.copy_from_slice(&image[..length]);
        engine.output("out_age").unwrap().to_vec()
    });
    assert_eq!(one, two);
}

#[test]
fn files_that_are_no_recognizer_are_refused_with_their_name_and_reason() {
    let tiny = fixture("tiny");
    let text = std::env::temp_dir().join(format!("faceptor-no-network-{}.onnx", std::process::id()));
    std::fs::write(&text, b"no network").unwrap();
    for (file, reason) in [
        (tiny.join("none.onnx"), "cannot read"),
        (tiny.clone(), "cannot"),
        (text.clone(), "parse"),
        // Another input, and several outputs.
        (tiny.join("task_recognition.onnx"), "112"),
        (tiny.join("encoder.onnx"), "one input and one output"),
    ] {
        let error = compile_with_recognizer(&tiny, &recognizer(file.clone())).expect_err("no recognizer");
        let error = format!("{error:#}");
        let name = file.file_name().and_then(|name| name.to_str()).unwrap();
        assert!(error.contains(name) && error.contains(reason), "{error}");
    }
    std::fs::remove_file(&text).unwrap();
    let strange = Recognizer { std: [0.0; 3], ..named("float") };
    assert!(format!("{:#}", compile_with_recognizer(&tiny, &strange).expect_err("no division")).contains("std"));
    assert!(compile_with_recognizer(Path::new("nowhere"), &named("float")).is_err());
}
