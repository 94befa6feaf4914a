//! Every family of this CPU against sums that are written out.

use crate::cpu::kernel::FAMILIES;
use crate::cpu::*;

/// Returns the next number of a small generator, so that the tests need no crate.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Compares every family with the sum written out.
fn compare(a: &[u8], weights: &[i8], [rows, depth, columns]: [usize; 3]) {
    let expected: Vec<i32> = (0..rows * columns)
        .map(|i| {
            let (a, w) = (&a[i / columns * depth..][..depth], &weights[i % columns * depth..][..depth]);
            a.iter().zip(w).map(|(a, w)| *a as i32 * *w as i32).sum()
        })
        .collect();
    for kernel in Kernel::available() {
        let packed = PackedInt8::new(kernel, weights, columns, depth).expect("as many weights as there are");
        // Bytes after the depth must not matter.
        let mut padded = vec![255; rows * packed.depth_padded()];
        for (padded, a) in padded.chunks_exact_mut(packed.depth_padded()).zip(a.chunks_exact(depth)) {
            padded[..depth].copy_from_slice(a);
        }
        kernel.shift(&mut padded);
        let mut out = vec![-1; rows * packed.columns_padded()];
        kernel.multiply_int8(&padded, rows, &packed, &mut out);
        for row in 0..rows {
            let (found, expected) = (&out[row * packed.columns_padded()..], &expected[row * columns..]);
            assert_eq!(found[..columns], expected[..columns], "{} {rows}x{depth}x{columns}", kernel.name());
        }
    }
}

#[test]
fn integer_kernels_equal_the_plain_sum() {
    let mut seed = 88172645463325252;
    for case in 0..300 {
        let rows = (random(&mut seed) % 20) as usize + 1;
        let columns = (random(&mut seed) % 150) as usize + 1;
        let depth = (random(&mut seed) % 90) as usize + 1;
        let a: Vec<u8> = (0..rows * depth).map(|_| random(&mut seed) as u8).collect();
        // Half of the cases without -128, for which some families are faster.
        let weight = |bits: u64| if case % 2 == 0 { bits as i8 } else { (bits as i8).max(-127) };
        let weights: Vec<i8> = (0..columns * depth).map(|_| weight(random(&mut seed))).collect();
        compare(&a, &weights, [rows, depth, columns]);
    }
}

#[test]
fn integer_kernels_add_nothing_where_there_is_no_depth() {
    for kernel in Kernel::available() {
        let packed = PackedInt8::new(kernel, &[], 17, 0).expect("no weights");
        let mut out = vec![-1; 13 * packed.columns_padded()];
        kernel.multiply_int8(&[], 13, &packed, &mut out);
        assert!(
            out.chunks_exact(packed.columns_padded()).all(|row| row[..17].iter().all(|&sum| sum == 0)),
            "{}",
            kernel.name()
        );
    }
}

#[test]
fn integer_kernels_do_not_saturate() {
    // Each pair of bytes, products of either sign side by side: where a 16 bit intermediate would saturate.
    for a in [0, 1, 127, 128, 255] {
        for pair in [[127, 127], [-128, -128], [-127, -127], [127, -128], [-128, 127]] {
            for shape in [[1, 1, 1], [3, 16, 5], [7, 35, 17], [13, 1152, 33]] {
                let weights: Vec<i8> = (0..shape[1] * shape[2]).map(|i| pair[i % 7 % 2]).collect();
                compare(&vec![a; shape[0] * shape[1]], &weights, shape);
            }
        }
    }
}

#[test]
fn integer_kernels_take_every_count_of_rows_and_columns() {
    let mut seed = 4711;
    for rows in 1..30 {
        for columns in [1, 3, 4, 5, 8, 15, 16, 17, 31, 33, 48, 63, 64, 65, 80, 128, 129] {
            let depth = 1 + (rows * 5 + columns) % 67;
            let a: Vec<u8> = (0..rows * depth).map(|_| random(&mut seed) as u8).collect();
            let weights: Vec<i8> = (0..columns * depth).map(|_| random(&mut seed) as i8).collect();
            compare(&a, &weights, [rows, depth, columns]);
        }
    }
}

#[test]
fn integer_kernels_take_depths_of_whole_tiles() {
    let mut seed = 31337;
    for depth in [64, 68, 96, 100, 128, 132, 192, 200, 288, 576] {
        for (rows, columns) in [(5, 33), (6, 16), (15, 100), (16, 48), (17, 64), (31, 1), (33, 65), (49, 130)] {
            let a: Vec<u8> = (0..rows * depth).map(|_| random(&mut seed) as u8).collect();
            let weights: Vec<i8> = (0..columns * depth).map(|_| random(&mut seed) as i8).collect();
            compare(&a, &weights, [rows, depth, columns]);
        }
    }
}

#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn tiles_are_used_where_the_cpu_has_them() {
    // The kernel lists the flag only if it saves the tiles of a process.
    let facts = std::fs::read_to_string("/proc/cpuinfo").expect("facts about the CPU");
    let has = |wanted: &str| facts.split_whitespace().any(|flag| flag == wanted);
    if has("amx_int8") && has("avx512_vnni") {
        assert_eq!(Kernel::named("amx").map(Kernel::name).expect("the permission to use tiles"), "amx");
        assert_eq!(Kernel::available().last().map(Kernel::name), Some("amx"));
    } else {
        println!("left out: this CPU has no AMX, so the tests of every family do not run `amx`");
    }
}

#[test]
fn float_kernels_equal_the_plain_sum() {
    let mut seed = 1234567;
    for case in 0..200 {
        let rows = (random(&mut seed) % 20) as usize + 1;
        let columns = (random(&mut seed) % 100) as usize + 1;
        let depth = (random(&mut seed) % 50) as usize + 1;
        let mut number = || (random(&mut seed) % 2001) as f32 / 1000.0 - 1.0;
        // In turn depth outermost, which is a transposed left factor, and rows outermost.
        let (row_stride, depth_stride) = if case % 2 == 0 { (1, rows) } else { (depth, 1) };
        let a: Vec<f32> = (0..rows * depth).map(|_| number()).collect();
        let b: Vec<f32> = (0..columns * depth).map(|_| number()).collect();
        for kernel in Kernel::available() {
            let mut packed = vec![0.0; kernel.pad_float(columns) * depth];
            pack_float(kernel, &b, columns, depth, [columns, 1], &mut packed);
            let width = kernel.pad_float(columns);
            let mut out = vec![f32::NAN; rows * width];
            let strided = Strided { values: &a, row_stride, depth_stride };
            kernel.multiply_float(strided, rows, depth, &packed, &mut out);
            for row in 0..rows {
                for column in 0..columns {
                    let factor = |k: usize| a[row * row_stride + k * depth_stride];
                    let expected: f32 = (0..depth).map(|k| factor(k) * b[k * columns + column]).sum();
                    let found = out[row * width + column];
                    assert!((found - expected).abs() < 1e-4, "{}: {found} {expected}", kernel.name());
                }
            }
        }
    }
}

#[test]
fn float_kernels_take_every_tile() {
    let mut seed = 2026;
    for rows in 1..18 {
        for columns in (4..45).step_by(4) {
            let depth = 1 + (rows * 7 + columns) % 18;
            let mut number = || (random(&mut seed) % 2001) as f32 / 1000.0 - 1.0;
            let a: Vec<f32> = (0..rows * depth * 2).map(|_| number()).collect();
            let b: Vec<f32> = (0..columns * depth).map(|_| number()).collect();
            // Rows along registers, beside each other, and neither.
            for (row_stride, depth_stride) in [(depth, 1), (1, rows), (2 * depth, 2)] {
                let product = |kernel: Kernel| {
                    let width = kernel.pad_float(columns);
                    let mut packed = vec![0.0; width * depth];
                    pack_float(kernel, &b, columns, depth, [columns, 1], &mut packed);
                    let mut out = vec![f32::NAN; rows * width];
                    let strided = Strided { values: &a, row_stride, depth_stride };
                    kernel.multiply_float(strided, rows, depth, &packed, &mut out);
                    out.chunks_exact(width).flat_map(|row| row[..columns].to_vec()).collect::<Vec<f32>>()
                };
                let expected = product(Kernel::SCALAR);
                for kernel in Kernel::available() {
                    let found = product(kernel);
                    let what = format!("{} {rows}x{depth}x{columns} by {row_stride}, {depth_stride}", kernel.name());
                    // On arm64 every family adds the products in the order of the depth.
                    let tolerance = if cfg!(target_arch = "aarch64") { 0.0 } else { 1e-4 };
                    assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() <= tolerance), "{what}");
                }
            }
        }
    }
}

#[test]
fn factors_are_packed_from_any_strides() {
    let mut seed = 99;
    for case in 0..300 {
        let columns = (random(&mut seed) % 150) as usize + 1;
        let depth = (random(&mut seed) % 70) as usize + 1;
        let gap = (random(&mut seed) % 3) as usize;
        // Rows side by side, columns side by side, neither.
        let strides = [[columns + gap, 1], [1, depth + gap], [2, 2 * depth + gap]][case % 3];
        let len = (depth - 1) * strides[0] + (columns - 1) * strides[1] + 1;
        let b: Vec<f32> = (0..len).map(|_| random(&mut seed) as f32).collect();
        for kernel in Kernel::available() {
            let all = kernel.pad_float(columns);
            let mut packed = vec![f32::NAN; all * depth];
            pack_float(kernel, &b, columns, depth, strides, &mut packed);
            for column in 0..all {
                let first = column / kernel.panel_float() * kernel.panel_float();
                let width = kernel.panel_float().min(all - first);
                for k in 0..depth {
                    let found = packed[first * depth + k * width + column - first];
                    let expected = if column < columns { b[k * strides[0] + column * strides[1]] } else { 0.0 };
                    assert_eq!(found, expected, "{} {strides:?} {columns} {k} {column}", kernel.name());
                }
            }
        }
    }
}

#[test]
fn every_family_has_its_own_name_and_one_is_always_available() {
    let names: Vec<&str> = Kernel::known_names().collect();
    assert!(names.iter().enumerate().all(|(i, n)| !names[..i].contains(n)), "{names:?}");
    let available: Vec<&str> = Kernel::available().map(Kernel::name).collect();
    assert!(available.iter().all(|name| names.contains(name)) && available[0] == Kernel::SCALAR.name());
    #[cfg(target_arch = "aarch64")]
    assert!(available.contains(&"neon"));
}

#[test]
fn the_peak_is_above_what_a_product_reaches() {
    for kernel in Kernel::available() {
        let peak = kernel.int8_peak();
        assert!(peak > 1e6 && peak < 1e13, "{}: {peak} multiply-accumulates a second", kernel.name());
    }
}

#[test]
fn the_table_of_packings_is_what_the_kernels_read() {
    for family in FAMILIES {
        assert_eq!(Packing::named(family.name()), Some(family.packing()), "{}", family.name());
    }
}

#[test]
fn packing_loses_no_weight() {
    let mut seed = 0xB5297A4D;
    for case in 0..60 {
        let (columns, depth) = ((random(&mut seed) % 150) as usize + 1, (random(&mut seed) % 90) as usize + 1);
        let weights: Vec<i8> = (0..columns * depth).map(|_| random(&mut seed) as i8).collect();
        for (name, packing) in PACKINGS {
            let mut packed = vec![0; packing.padded(columns, depth).iter().product()];
            packing.pack(&weights, columns, depth, &mut packed);
            assert!(packing.unpack(&packed, columns, depth) == weights, "{name}, case {case}: {columns}x{depth}");
        }
    }
}

#[test]
fn kernels_are_found_by_name_only_where_the_cpu_can_run_them() {
    let unknown = Kernel::named("abacus").expect_err("no such kernel");
    assert_eq!(unknown.kind(), crate::ErrorKind::UnknownKernel);
    assert!(unknown.to_string().contains("no such kernel, this build has scalar"), "{unknown}");
    for name in Kernel::known_names() {
        match (Kernel::named(name), Kernel::available().find(|kernel| kernel.name() == name)) {
            (Ok(named), Some(available)) => assert_eq!(named, available),
            (Err(error), None) => assert_eq!(error.kind(), crate::ErrorKind::UnsupportedKernel),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Returns whether a call panics, which is how the products refuse operands of a wrong length.
fn is_refused(call: impl FnOnce()) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err()
}

#[test]
fn integer_products_refuse_operands_of_a_wrong_length() {
    for kernel in Kernel::available() {
        let weights = PackedInt8::new(kernel, &[1; 60], 6, 10).expect("sixty weights");
        let (depth, columns) = (weights.depth_padded(), weights.columns_padded());
        let multiply = |a: usize, rows: usize, out: usize| {
            let (a, mut out) = (vec![1; a], vec![0; out]);
            is_refused(|| kernel.multiply_int8(&a, rows, &weights, &mut out))
        };
        assert!(!multiply(3 * depth, 3, 3 * columns));
        assert!(multiply(3 * depth - 1, 3, 3 * columns) && multiply(3 * depth, 3, 3 * columns - 1));
        // As many rows as would wrap around to a length that fits.
        assert!(multiply(3 * depth, usize::MAX / columns + 2, 3 * columns));
    }
    let fastest = Kernel::available().last().expect("a kernel");
    let weights = PackedInt8::new(Kernel::SCALAR, &[1; 60], 6, 10).expect("sixty weights");
    let refused = is_refused(|| fastest.multiply_int8(&[1; 64], 1, &weights, &mut [0; 64]));
    assert!(fastest == Kernel::SCALAR || refused, "weights packed for another kernel");
}

#[test]
fn float_products_refuse_operands_of_a_wrong_length() {
    for kernel in Kernel::available() {
        let (rows, depth, columns) = (5, 7, kernel.pad_float(9));
        let multiply = |a: usize, [row_stride, depth_stride]: [usize; 2], b: usize, out: usize| {
            let (values, b, mut out) = (vec![1.0; a], vec![1.0; b], vec![0.0; out]);
            let a = Strided { values: &values, row_stride, depth_stride };
            is_refused(|| kernel.multiply_float(a, rows, depth, &b, &mut out))
        };
        let (a, b, out) = (rows * depth, depth * columns, rows * columns);
        assert!(!multiply(a, [depth, 1], b, out));
        assert!(multiply(a - 1, [depth, 1], b, out) && multiply(a, [depth + 1, 1], b, out));
        assert!(multiply(a, [depth, 1], b - 1, out) && multiply(a, [depth, 1], b, out - 1));
        // Strides that would wrap around to a place that fits.
        assert!(multiply(a, [usize::MAX / 4 + 1, 1], b, out) && multiply(a, [1, usize::MAX / 6 + 1], b, out));
        let pack = |b: usize, stride: usize| {
            let (b, mut panel) = (vec![1.0; b], vec![0.0; depth * columns]);
            is_refused(|| pack_float(kernel, &b, 9, depth, [1, stride], &mut panel))
        };
        assert!(!pack(9 * depth, depth) && pack(9 * depth - 1, depth) && pack(9 * depth, usize::MAX / 8 + 1));
    }
}

#[test]
fn rows_of_bytes_are_multiplied_alike_by_every_family() {
    let mut seed = 362436069;
    // Lengths of templates, with and without whole registers, and numbers of rows with and without whole blocks.
    for depth in [0, 1, 3, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 192, 256, 300, 512, 4096] {
        for rows in [0, 1, 2, 7, 8, 9, 15, 16, 17, 40] {
            let query: Vec<i8> = (0..depth).map(|_| random(&mut seed) as i8).collect();
            let templates: Vec<i8> = (0..rows * depth).map(|_| random(&mut seed) as i8).collect();
            let product = |row: usize| {
                let row = &templates[row * depth..][..depth];
                row.iter().zip(&query).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
            };
            let expected: Vec<i32> = (0..rows).map(product).collect();
            for kernel in Kernel::available() {
                let mut out = vec![-1; rows];
                kernel.dot_rows(&query, &templates, &mut out);
                assert_eq!(out, expected, "{} {rows} x {depth}", kernel.name());
            }
        }
    }
}

#[test]
fn products_of_rows_do_not_saturate() {
    for query in [i8::MIN, -1, 0, 127] {
        for row in [i8::MIN, -1, 0, 127] {
            let expected = vec![i32::from(query) * i32::from(row) * 512; 17];
            for kernel in Kernel::available() {
                let mut out = vec![-1; 17];
                kernel.dot_rows(&[query; 512], &[row; 17 * 512], &mut out);
                assert_eq!(out, expected, "{} {query} {row}", kernel.name());
            }
        }
    }
}

#[test]
#[should_panic(expected = "another length")]
fn rows_of_another_length_are_refused() {
    Kernel::SCALAR.dot_rows(&[1; 128], &[1; 255], &mut [0; 2]);
}

#[test]
fn words_are_read_alike_by_every_family() {
    let mut seed = 521288629;
    let bytes: Vec<i8> = (0..64 * 9).map(|_| random(&mut seed) as i8).collect();
    let sum = |kernel: Kernel| kernel.read_words(&bytes);
    let words =
        bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(std::array::from_fn(|byte| word[byte] as u8)));
    let expected = words.fold(0u64, u64::wrapping_add);
    Kernel::available().for_each(|kernel| assert_eq!(sum(kernel), expected, "{}", kernel.name()));
}
