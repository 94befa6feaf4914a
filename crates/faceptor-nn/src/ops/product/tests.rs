//! Products against their definition, written out: every family of CPUs, odd shapes, zero points at both ends.

use faceptor_test_support::check;
use proptest::array::uniform2;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use super::*;
use crate::ops::depthwise::Window;
use crate::ops::product::Residual;
use crate::ops::quantize::quantize;

/// Whole thousandths from -1 to 1.
fn floats(len: usize) -> impl Strategy<Value = Vec<f32>> {
    vec((-1000..=1000i16).prop_map(|thousandths| f32::from(thousandths) / 1000.0), len)
}

/// One product with its operands.
#[derive(Debug)]
struct Case {
    op: Product,
    input: [usize; 4],
    output: [usize; 4],
    x: Vec<u8>,
    weights: Vec<i8>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    added: Vec<u8>,
    /// `added` as float32, for a residual of that type.
    floats_added: Vec<f32>,
}

/// Convolutions of odd shapes, with zero points at both ends of the range.
fn cases() -> impl Strategy<Value = Case> {
    cases_of(1..=40usize, 1..=9usize)
}

/// Convolutions with a number of channels and sides of the image and of the output from these ranges.
fn cases_of(
    channels: impl Strategy<Value = usize> + 'static,
    side: impl Strategy<Value = usize> + Clone,
) -> impl Strategy<Value = Case> {
    let window = (uniform2(1..=3usize), uniform2(1..=2usize), uniform2(1..=2usize), uniform2(0..=2usize));
    let window = window.prop_map(|(size, stride, dilation, before)| Window { size, stride, dilation, before });
    let shapes = (window, [channels.boxed(), (1..=40usize).boxed()], uniform2(side.clone()), uniform2(side));
    shapes.prop_flat_map(|(window, [channels, columns], [height, width], [rows, across])| {
        let depth = window.size[0] * window.size[1] * channels;
        let output = [1, rows, across, columns];
        let zero_points = (prop_oneof![Just(0), Just(255), Just(128), any::<u8>()], any::<u8>(), any::<u8>());
        // What is added, and what is stored: float32, bytes or both.
        let kinds = (0..3u8, 0..3u8, any::<bool>());
        let x = vec(any::<u8>(), height * width * channels);
        let weights = vec(any::<i8>(), columns * depth);
        let added = vec(any::<u8>(), output.iter().product::<usize>());
        let numbers = (any::<bool>(), x, weights, floats(columns), floats(columns), added);
        (zero_points, numbers, kinds).prop_map(move |((zero_point, residual, to), numbers, (adds, stores, floor))| {
            let (is_linear, x, weights, scale, bias, added) = numbers;
            let op = Product {
                window: Some(window.clone()),
                columns,
                depth,
                zero_point: Some(zero_point),
                bias: true,
                first: if is_linear { Activation::None } else { Activation::Relu },
                residual: match adds {
                    0 => Residual::None,
                    1 => Residual::Float,
                    _ => Residual::Quantized(Quantization { scale: 0.25, zero_point: residual }),
                },
                second: if floor { Activation::Relu } else { Activation::None },
                float_output: stores != 1,
                quantized_output: (stores != 0).then_some(Quantization { scale: 0.5, zero_point: to }),
            };
            let scale = scale.iter().map(|value| value.abs() / 16.0).collect();
            let floats_added = added.iter().map(|value| f32::from(*value) / 8.0 - 16.0).collect();
            Case { op, input: [1, height, width, channels], output, x, weights, scale, bias, added, floats_added }
        })
    })
}

impl Case {
    /// Computes the product by its definition.
    fn expected(&self) -> (Vec<f32>, Vec<u8>) {
        let (op, [_, height, width, channels]) = (&self.op, self.input);
        let Some(w) = &op.window else { panic!("every case has a window") };
        let zero_point = i32::from(op.zero_point.unwrap_or(0));
        let mut floats = Vec::new();
        for i in 0..self.output.iter().product() {
            let (row, column) = (i / self.output[3], i % self.output[3]);
            let (y, x) = (row / self.output[2], row % self.output[2]);
            let mut sum = 0i32;
            for k in 0..op.depth {
                let (dy, dx, c) = (k / channels / w.size[1], k / channels % w.size[1], k % channels);
                let y = (y * w.stride[0] + dy * w.dilation[0]).wrapping_sub(w.before[0]);
                let x = (x * w.stride[1] + dx * w.dilation[1]).wrapping_sub(w.before[1]);
                if y < height && x < width {
                    let value = i32::from(self.x[(y * width + x) * channels + c]);
                    sum += (value - zero_point) * i32::from(self.weights[column * op.depth + k]);
                }
            }
            let mut value = sum as f32 * self.scale[column] + self.bias[column];
            if op.first == Activation::Relu {
                value = value.max(0.0);
            }
            match op.residual {
                Residual::None => {}
                Residual::Float => value += self.floats_added[i],
                Residual::Quantized(from) => {
                    value += (i32::from(self.added[i]) - i32::from(from.zero_point)) as f32 * from.scale;
                }
            }
            floats.push(if op.second == Activation::Relu { value.max(0.0) } else { value });
        }
        let mut bytes = vec![0; floats.len()];
        if let Some(to) = op.quantized_output {
            quantize(to, &floats, &mut bytes);
        }
        if !op.float_output {
            floats.clear();
        }
        (floats, bytes)
    }

    fn found(&self, kernel: Kernel) -> (Vec<f32>, Vec<u8>) {
        let geometry = Geometry::new(kernel, &self.op, &self.input, &self.output);
        let mut scratch = Scratch::default();
        geometry.reserve(kernel, &mut scratch);
        let packed = PackedInt8::new(kernel, &self.weights, self.op.columns, self.op.depth).expect("fitting weights");
        let len = self.output.iter().product();
        let (mut floats, mut bytes) = (vec![f32::NAN; if self.op.float_output { len } else { 0 }], vec![0; len]);
        let mut finish = Finish {
            bias: &self.bias,
            added: match self.op.residual {
                Residual::None => Added::Nothing,
                Residual::Float => Added::Floats(&self.floats_added),
                Residual::Quantized(from) => Added::Bytes(&self.added, from),
            },
            floats: self.op.float_output.then_some(&mut floats[..]),
            bytes: self.op.quantized_output.map(|to| (&mut bytes[..], to)),
            origin: 0,
        };
        // In two pieces, as two threads would; the first may have no rows.
        let middle = geometry.rows() / 3;
        let mut first = finish.split_first(middle, self.op.columns);
        geometry.run_int8(kernel, &packed, &self.scale, &self.x, 0..middle, &mut first, &mut scratch);
        geometry.run_int8(kernel, &packed, &self.scale, &self.x, middle..geometry.rows(), &mut finish, &mut scratch);
        (floats, bytes)
    }
}

#[test]
fn convolutions_equal_their_definition_on_every_family() {
    check(250, cases(), compare);
}

/// Channels that fill tiles, and images that need several of them.
#[test]
fn convolutions_whose_windows_are_read_in_place_equal_their_definition_on_every_family() {
    let channels = prop_oneof![Just(16), Just(24), Just(32), Just(64), Just(96), Just(128)];
    check(120, cases_of(channels, 1..=23usize), compare);
}

#[test]
fn windows_are_read_in_place_where_tiles_take_their_runs() {
    let window = |stride| Window { size: [3, 3], stride, dilation: [1, 1], before: [1, 1] };
    for kernel in Kernel::available() {
        let is_padded =
            |stride, channels| PaddedImage::new(kernel, &window(stride), [12, 12, channels], [12, 12]).is_some();
        let is_tiled = kernel.name() == "amx";
        assert_eq!(is_padded([1, 1], 64), is_tiled, "{}", kernel.name());
        assert_eq!(is_padded([2, 2], 32), is_tiled, "{}", kernel.name());
        assert!(!is_padded([1, 1], 3), "{}: runs of nine bytes are no whole groups of the depth", kernel.name());
    }
}

fn compare(case: Case) {
    let (floats, bytes) = case.expected();
    let mut first: Option<(Vec<u32>, Vec<u8>)> = None;
    for kernel in Kernel::available() {
        let (found_floats, found_bytes) = case.found(kernel);
        let what = format!("{}: {:?} {:?} -> {:?}", kernel.name(), case.op, case.input, case.output);
        // The definition rounds after every operation; a family with fused multiply-add may not.
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs().max(1.0) * 1e-5;
        assert!(found_floats.len() == floats.len() && found_floats.iter().zip(&floats).all(close), "{what}");
        assert!(found_bytes.iter().zip(&bytes).all(|(a, b)| a.abs_diff(*b) <= 1), "{what}");
        // All families give the very same bits.
        let bits: Vec<u32> = found_floats.iter().map(|v| v.to_bits()).collect();
        let (first_bits, first_bytes) = first.get_or_insert_with(|| (bits.clone(), found_bytes.clone()));
        assert!(*first_bits == bits && *first_bytes == found_bytes, "{what}: differs from another family");
    }
}
