//! A bundle that is not exactly what was written is refused, with its reason, without a panic and without asking for
//! more memory than the file is long.

use std::cell::Cell;
use std::sync::OnceLock;

use faceptor_compiler::compile_folder;
use faceptor_nn::bundle::Bundle;
use faceptor_nn::bundle::BundleError;
use faceptor_nn::cpu::Kernel;
use faceptor_nn::engine::Engine;
use faceptor_nn::{PACKINGS, Packing};
use faceptor_test_support::{Folder, check, fixture};
use proptest::collection::vec;
use proptest::prelude::{Just, any, prop_oneof};
use proptest::sample::{Index, select};
use sha2::{Digest, Sha256};

const FIXED_BYTES: usize = 24;
const ENTRY_BYTES: usize = 56;

fn compiled() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| compile_folder(&fixture("tiny")).expect("the fixture compiles"))
}

fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    bytes[at..at + len].iter().rev().fold(0, |n, b| n << 8 | *b as usize)
}

/// Offset and length of each section, as the header has them.
fn sections(bytes: &[u8]) -> Vec<(usize, usize)> {
    let entry = |i: usize| FIXED_BYTES + i * ENTRY_BYTES;
    (0..number(bytes, 12, 4)).map(|i| (number(bytes, entry(i) + 8, 8), number(bytes, entry(i) + 16, 8))).collect()
}

/// Corrects all hashes, as in a bundle that was changed on purpose.
fn rehash(bytes: &mut [u8]) {
    let sections = sections(bytes);
    for (i, (offset, len)) in sections.iter().enumerate() {
        let digest = Sha256::digest(&bytes[*offset..offset + len]);
        let at = FIXED_BYTES + i * ENTRY_BYTES + 24;
        bytes[at..at + 32].copy_from_slice(&digest);
    }
    let end = FIXED_BYTES + sections.len() * ENTRY_BYTES;
    let digest = Sha256::digest(&bytes[..end]);
    bytes[end..end + 32].copy_from_slice(&digest);
}

fn refusal(bytes: &[u8]) -> BundleError {
    match Bundle::from_bytes(bytes) {
        Ok(_) => panic!("a changed bundle was accepted"),
        Err(error) => error,
    }
}

#[test]
fn a_written_bundle_is_read_back() {
    let bundle = Bundle::from_bytes(compiled()).unwrap();
    assert_eq!(bundle.manifest().name, "tiny fixture");
    assert_eq!(bundle.sha256().len(), 64);
    let names: Vec<&str> = bundle.parts().map(|p| p.name.as_str()).collect();
    assert_eq!(names[..3], ["encoder", "memory", "pixel"]);
    let encoder = bundle.parts().next().unwrap();
    assert_eq!(encoder.outputs[0].shape, [1, 16, 16, 16]);
    // The 3x3 convolutions of the encoder in make_fixtures.py: output pixels, channels from, channels to.
    let by_hand: u64 =
        [(256, 3, 16), (256, 16, 16), (256, 16, 16), (64, 16, 24), (64, 24, 24), (64, 24, 24), (16, 24, 40)]
            .iter()
            .map(|(pixels, from, to)| pixels * 9 * from * to)
            .sum();
    assert_eq!(encoder.macs, by_hand);
    assert_eq!(encoder.integer_macs, by_hand, "every convolution of the fixture is quantized");
}

#[test]
fn compiling_twice_gives_equal_bytes() {
    assert!(compile_folder(&fixture("tiny")).unwrap() == compiled());
}

#[test]
fn shared_weights_are_stored_once() {
    let bundle = Bundle::from_bytes(compiled()).unwrap();
    let used: usize = bundle.parts().map(|p| p.parameter_bytes).sum();
    let stored = sections(compiled()).last().map_or(0, |s| s.1);
    assert!(stored < used * 2 / 3, "{stored} bytes are stored, {used} are used: the decoder's weights are shared");
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let bytes = compiled();
    let sections = sections(bytes);
    let header_end = FIXED_BYTES + sections.len() * ENTRY_BYTES + 32;
    let mut places: Vec<usize> = (0..header_end).collect();
    for (offset, len) in &sections {
        places.extend([*offset, offset + 1, offset + len / 3, offset + len / 2, offset + len - 1]);
    }
    for place in places {
        let mut changed = bytes.to_vec();
        changed[place] ^= 1 << (place % 8);
        let error = refusal(&changed);
        let expected = match place {
            0..8 => matches!(error, BundleError::NotABundle),
            8..12 => matches!(error, BundleError::Older { .. } | BundleError::Newer { .. }),
            12..24 => matches!(
                error,
                BundleError::Damaged(_)
                    | BundleError::TooLarge(_)
                    | BundleError::Truncated { .. }
                    | BundleError::Trailing { .. }
            ),
            _ => matches!(error, BundleError::Damaged(_)),
        };
        assert!(expected, "byte {place}: {error}");
    }
}

#[test]
fn damage_names_the_section() {
    let bytes = compiled();
    let sections = sections(bytes);
    for (i, name) in [(0, "manifest"), (1, "tensor table"), (2, "plan 0"), (sections.len() - 1, "tensor data")] {
        let mut changed = bytes.to_vec();
        changed[sections[i].0] ^= 4;
        assert!(refusal(&changed).to_string().contains(name), "section {i}");
    }
}

#[test]
fn padding_is_checked_too() {
    let mut changed = compiled().to_vec();
    let (offset, len) = sections(compiled())[0];
    assert_ne!((offset + len) % 64, 0, "the fixture's manifest happens to need no padding: change its name");
    changed[offset + len] = 1;
    assert!(matches!(refusal(&changed), BundleError::Damaged(what) if what == "padding"));
}

#[test]
fn a_truncated_bundle_is_refused() {
    let bytes = compiled();
    let lengths = (0..400).chain((400..bytes.len()).step_by(977)).chain([bytes.len() - 1]);
    for len in lengths {
        let error = refusal(&bytes[..len]);
        let expected = match len {
            0 => matches!(error, BundleError::NotABundle),
            _ => matches!(error, BundleError::Truncated { .. }),
        };
        assert!(expected, "{len} bytes: {error}");
    }
}

#[test]
fn something_behind_the_bundle_is_refused() {
    let mut longer = compiled().to_vec();
    longer.push(0);
    assert!(matches!(refusal(&longer), BundleError::Trailing { .. }));
}

#[test]
fn other_versions_are_told_apart() {
    let mut changed = compiled().to_vec();
    changed[8] = 0;
    assert!(matches!(refusal(&changed), BundleError::Older { found: 0 }));
    changed[8] = 5;
    assert!(matches!(refusal(&changed), BundleError::Newer { found: 5 }));
    assert!(refusal(&changed).to_string().contains("update the program"));
}

#[test]
fn huge_counts_are_refused_before_anything_is_allocated() {
    let mut sections = compiled().to_vec();
    sections[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(refusal(&sections), BundleError::TooLarge(_)));
    let mut length = compiled().to_vec();
    length[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(refusal(&length), BundleError::TooLarge(_)));
}

/// Changed on purpose, with fitting hashes: the contents are checked as well.
#[test]
fn changed_contents_with_fitting_hashes_never_panic() {
    change_contents(compiled(), 1);
    // Here the last section says how the weights are packed.
    let packed = Bundle::from_bytes(compiled()).unwrap().repacked(Packing::named("scalar")).unwrap();
    change_contents(&packed, 0);
}

/// Changes single bytes of the sections between the manifest and the last `after` ones.
fn change_contents(bytes: &[u8], after: usize) {
    let sections = sections(bytes);
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let value = prop_oneof![Just(0), Just(1), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()];
    // The tables and plans; the manifest is text and the data is only numbers.
    let section = select(sections[1..sections.len() - after].to_vec());
    let changes = (section, vec((any::<Index>(), value), 1..=3));
    check(1500, changes, |((offset, len), changes)| {
        let mut changed = bytes.to_vec();
        for (place, value) in changes {
            changed[offset + place.index(len)] = value;
        }
        rehash(&mut changed);
        match Bundle::from_bytes(&changed) {
            Ok(bundle) => {
                accepted.set(accepted.get() + 1);
                // A bundle that passes the check must not panic when it is prepared and run.
                if let Ok(mut engine) = Engine::with_kernel(bundle.clone(), Kernel::SCALAR) {
                    let small = bundle.parts().map(|p| p.macs).sum::<u64>() < 100_000_000;
                    if small && engine.input("image").is_ok() && accepted.get() % 4 == 0 {
                        for task in &bundle.manifest().tasks {
                            let _ = engine.output(&task.output);
                        }
                    }
                }
            }
            Err(_) => refused.set(refused.get() + 1),
        }
    });
    assert!(refused.get() > 300, "{refused:?} refused, {accepted:?} accepted");
}

#[test]
fn a_manifest_of_another_format_is_refused() {
    let mut changed = compiled().to_vec();
    let (offset, _) = sections(compiled())[0];
    assert_eq!(&changed[offset..offset + 10], b"format = 1");
    changed[offset + 9] = b'7';
    rehash(&mut changed);
    assert!(matches!(refusal(&changed), BundleError::Manifest(_)));
}

#[test]
fn files_that_are_no_bundle_are_refused() {
    let folder = Folder::new();
    let folder = folder.path();
    let path = folder.join("no.bundle");
    std::fs::write(&path, b"GIF89a and so on, for more than a header's length").unwrap();
    assert!(matches!(Bundle::open(&path), Err(BundleError::NotABundle)));
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(Bundle::open(&path), Err(BundleError::NotABundle)));
    assert!(matches!(Bundle::open(&folder.join("absent.bundle")), Err(BundleError::Io(_))));
    assert!(Bundle::open(folder).is_err(), "a folder");
    std::fs::write(&path, compiled()).unwrap();
    assert!(Bundle::open(&path).is_ok());
}

#[test]
fn a_wrong_export_folder_is_refused_with_its_reason() {
    let source = fixture("odd");
    let folder = Folder::new();
    let folder = folder.path();
    let manifest = std::fs::read_to_string(source.join("manifest.toml")).unwrap();
    let reason = |manifest: &str, onnx: &[u8]| {
        std::fs::write(folder.join("manifest.toml"), manifest).unwrap();
        std::fs::write(folder.join("odd.onnx"), onnx).unwrap();
        format!("{:#}", compile_folder(folder).expect_err("a wrong folder was compiled"))
    };
    let onnx = std::fs::read(source.join("odd.onnx")).unwrap();
    let mut damaged = onnx.clone();
    damaged[100] ^= 1;
    assert!(reason(&manifest, &damaged).contains("SHA-256"));
    let hash = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect::<String>();
    let other_hash = manifest.replace(&hash(&onnx), &hash(b"no ONNX at all"));
    assert!(reason(&other_hash, b"no ONNX at all").contains("tract cannot"));
    assert!(reason(&manifest.replace("\"odd.onnx\"", "\"../odd.onnx\""), &onnx).contains("inside the export folder"));
    assert!(reason(&manifest.replace("[\"y\", \"z\"]", "[\"y\", \"w\"]"), &onnx).contains("outputs"));
    assert!(reason("format = 9", &onnx).contains("format 9"));
    std::fs::remove_file(folder.join("manifest.toml")).unwrap();
    assert!(format!("{:#}", compile_folder(folder).unwrap_err()).contains("manifest.toml"));
}

/// Returns every task's answer, and the bytes of buffers and weights that the engine needs besides the bundle.
fn answers(bundle: &std::sync::Arc<Bundle>, kernel: Kernel) -> (Vec<Vec<f32>>, usize) {
    let mut engine = Engine::with_kernel(bundle.clone(), kernel).unwrap();
    for (i, value) in engine.input("image").unwrap().iter_mut().enumerate() {
        *value = (i % 251) as f32 / 125.0 - 1.0;
    }
    let tasks = &bundle.manifest().tasks;
    let answers = tasks.iter().map(|task| engine.output(&task.output).unwrap().to_vec()).collect();
    (answers, engine.memory_bytes())
}

#[test]
fn packed_bundles_are_the_same_network_on_every_family() {
    let plain = Bundle::from_bytes(compiled()).unwrap();
    assert_eq!(plain.packing(), None);
    for (name, packing) in PACKINGS {
        let bytes = plain.repacked(Some(packing)).unwrap();
        let packed = Bundle::from_bytes(&bytes).unwrap();
        assert_eq!((packed.packing(), packed.sha256()), (Some(packing), plain.sha256()), "{name}");
        assert!(packed.repacked(None).unwrap() == compiled(), "{name}: unpacking gives the plain bundle's bytes");
        for kernel in Kernel::available() {
            let (expected, own) = answers(&plain, kernel);
            let (found, lent) = answers(&packed, kernel);
            assert!(found == expected, "packed for {name}, run by {}", kernel.name());
            match kernel.packing() == packing {
                true => assert!(lent < own, "{name}: {lent} bytes beside the bundle, {own} beside a plain one"),
                false => assert_eq!(lent, own, "{name} on {}", kernel.name()),
            }
        }
    }
}

#[test]
fn a_packing_that_no_family_reads_is_refused() {
    let packed = Bundle::from_bytes(compiled()).unwrap().repacked(Packing::named("sdot")).unwrap();
    let (offset, _) = *sections(&packed).last().unwrap();
    let mut changed = packed.clone();
    // The first number is the width of a panel.
    changed[offset] = 17;
    rehash(&mut changed);
    assert!(refusal(&changed).to_string().contains("a family that this program does not know"));
}
