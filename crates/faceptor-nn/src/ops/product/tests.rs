//! Products against their definition, written out: every family of CPUs, odd shapes, zero points at both ends.

use super::*;
use crate::ops::product::Residual;
use crate::ops::quantize::quantize;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() % 2001) as f32 / 1000.0 - 1.0).collect()
    }
}

/// One product with its operands.
struct Case {
    op: Product,
    input: [usize; 4],
    output: [usize; 4],
    x: Vec<u8>,
    weights: Vec<i8>,
    scale: Vec<f32>,
    bias: Vec<f32>,
    added: Vec<u8>,
}

impl Case {
    fn new(random: &mut Random) -> Case {
        let pair = |random: &mut Random, end: usize| [random.below(end) + 1, random.below(end) + 1];
        let [channels, columns] = pair(random, 40);
        let window = Window {
            size: pair(random, 3),
            stride: pair(random, 2),
            dilation: pair(random, 2),
            before: [random.below(3), random.below(3)],
        };
        let [height, width] = pair(random, 9);
        let [rows, across] = pair(random, 9);
        let depth = window.size[0] * window.size[1] * channels;
        let extreme = [0, 255, 128, random.next() as u8][random.below(4)];
        let op = Product {
            window: Some(window),
            columns,
            depth,
            zero_point: Some(extreme),
            bias: true,
            first: [Activation::None, Activation::Relu][random.below(2)],
            residual: Residual::Quantized(Quantization { scale: 0.25, zero_point: random.next() as u8 }),
            second: Activation::Relu,
            float_output: true,
            quantized_output: Some(Quantization { scale: 0.5, zero_point: random.next() as u8 }),
        };
        let output = [1, rows, across, columns];
        Case {
            input: [1, height, width, channels],
            output,
            x: random.bytes(height * width * channels),
            weights: random.bytes(columns * depth).into_iter().map(|w| w as i8).collect(),
            scale: random.floats(columns).iter().map(|v| v.abs() / 16.0).collect(),
            bias: random.floats(columns),
            added: random.bytes(output.iter().product()),
            op,
        }
    }

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
            if let Residual::Quantized(from) = op.residual {
                value += (i32::from(self.added[i]) - i32::from(from.zero_point)) as f32 * from.scale;
            }
            floats.push(value.max(0.0));
        }
        let mut bytes = vec![0; floats.len()];
        if let Some(to) = op.quantized_output {
            quantize(to, &floats, &mut bytes);
        }
        (floats, bytes)
    }

    fn found(&self, kernel: Kernel) -> (Vec<f32>, Vec<u8>) {
        let geometry = Geometry::new(kernel, &self.op, &self.input, &self.output);
        let mut scratch = Scratch::default();
        geometry.reserve(kernel, &mut scratch);
        let packed = PackedInt8::new(kernel, &self.weights, self.op.columns, self.op.depth).expect("fitting weights");
        let len = self.output.iter().product();
        let (mut floats, mut bytes) = (vec![f32::NAN; len], vec![0; len]);
        let mut finish = Finish {
            bias: &self.bias,
            added: match self.op.residual {
                Residual::Quantized(from) => Added::Bytes(&self.added, from),
                _ => Added::Nothing,
            },
            floats: Some(&mut floats),
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
    let mut random = Random(0x5DEE_CE66_D1CE_4E5B);
    for number in 0..250 {
        let case = Case::new(&mut random);
        let (floats, bytes) = case.expected();
        let mut first: Option<(Vec<u32>, Vec<u8>)> = None;
        for kernel in Kernel::available() {
            let (found_floats, found_bytes) = case.found(kernel);
            let what = format!("case {number}, {}: {:?} {:?} -> {:?}", kernel.name(), case.op, case.input, case.output);
            // The definition rounds after every operation; a family with fused multiply-add may not.
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs().max(1.0) * 1e-5;
            assert!(found_floats.iter().zip(&floats).all(close), "{what}");
            assert!(found_bytes.iter().zip(&bytes).all(|(a, b)| a.abs_diff(*b) <= 1), "{what}");
            // All families give the very same bits.
            let bits: Vec<u32> = found_floats.iter().map(|v| v.to_bits()).collect();
            let (first_bits, first_bytes) = first.get_or_insert_with(|| (bits.clone(), found_bytes.clone()));
            assert!(*first_bits == bits && *first_bytes == found_bytes, "{what}: differs from another family");
        }
    }
}
