//! The shipped network on every kernel family and with several threads.

use faceptor_nn::cpu::Kernel;
use faceptor_nn::engine::Engine;
use faceptor_nn::thread_pool::Threads;

/// Runs each kernel family on the whole network, also those of arm64 under QEMU.
#[test]
fn shipped_network_is_equal_on_every_kernel() {
    let bundle = faceptor::stages::embedded_bundle().unwrap();
    let input = bundle.manifest().input.clone().expect("the shipped network looks at a face").tensor;
    let mut first: Option<(Vec<u32>, Vec<Vec<f32>>)> = None;
    for kernel in Kernel::available() {
        let mut engine = Engine::with_kernel(bundle.clone(), kernel).unwrap();
        for (i, value) in engine.input(&input).unwrap().iter_mut().enumerate() {
            *value = (i * 37 % 255) as f32 / 127.5 - 1.0;
        }
        // The encoder has nothing but integer products: the same bits. Attention is float.
        let encoded: Vec<u32> = engine.output("feature16").unwrap().iter().map(|v| v.to_bits()).collect();
        let tasks = bundle.manifest().tasks.iter().map(|task| engine.output(&task.output).unwrap().to_vec());
        let answers: Vec<Vec<f32>> = tasks.collect();
        let (bits, expected) = first.get_or_insert_with(|| (encoded.clone(), answers.clone()));
        assert!(*bits == encoded, "{}: the encoder differs from the scalar reference", kernel.name());
        for (task, (found, expected)) in bundle.manifest().tasks.iter().zip(answers.iter().zip(&*expected)) {
            let largest = expected.iter().fold(0f32, |m, x| m.max(x.abs()));
            let sum: f32 = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).sum();
            // A float that lies on the border of two quantization steps may round to the other one.
            let mean = sum / found.len() as f32 / largest;
            assert!(mean < 1e-3, "{}: {} differs by {mean} of the largest", kernel.name(), task.name);
        }
    }
}

/// Returns the bits of every task's output and of the detector's outputs, for two inputs in turn.
fn bits(kernel: Kernel, count: usize) -> Vec<u32> {
    let bundle = faceptor::stages::embedded_bundle().expect("a network");
    let threads = Threads { count, ..Threads::default() };
    let mut engine = Engine::with_threads(bundle.clone(), kernel, &threads).expect("an engine");
    assert_eq!(engine.threads(), count);
    let mut found = Vec::new();
    for face in 0..2 {
        let manifest = bundle.manifest();
        for input in manifest.image_tensors().chain(["finder_image_160x120"]) {
            for (i, value) in engine.input(input).expect("an input").iter_mut().enumerate() {
                *value = ((i * 7 + face * 13) % 251) as f32 / 125.0 - 1.0;
            }
        }
        let outputs = manifest.tasks.iter().map(|task| task.output.as_str()).chain(["f160x120_s8"]);
        for output in outputs {
            found.extend(engine.output(output).expect("an output").iter().map(|value| value.to_bits()));
        }
    }
    found
}

#[test]
fn answers_are_the_same_bits_with_any_number_of_threads() {
    let fastest = Kernel::choose().expect("a kernel");
    for kernel in Kernel::available() {
        let one = bits(kernel, 1);
        // Shares of different sizes once; more threads than CPUs wait for each other.
        let counts: &[usize] = if kernel == fastest { &[2, 3, 5] } else { &[2] };
        for &count in counts {
            assert!(bits(kernel, count) == one, "{} with {count} threads", kernel.name());
        }
    }
}
