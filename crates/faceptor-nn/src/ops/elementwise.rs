//! One result per element.

use crate::ops::{Odometer, broadcast_strides, collapse};
use crate::plan::{Binary, Quantization, Unary};

/// How two inputs are broadcast to the output, joined to as few axes as possible.
#[derive(Debug, Clone)]
pub struct Broadcast {
    outer: Vec<usize>,
    outer_strides: [Vec<usize>; 2],
    inner: usize,
    /// 0 or the stride of each input along the innermost axis.
    inner_strides: [usize; 2],
}

impl Broadcast {
    pub fn new(a: &[usize], b: &[usize], out: &[usize]) -> Broadcast {
        let (mut outer, [mut a, mut b]) = collapse(out, [broadcast_strides(a, out), broadcast_strides(b, out)]);
        let inner = outer.pop().unwrap_or(1);
        let inner_strides = [a.pop().unwrap_or(0), b.pop().unwrap_or(0)];
        Broadcast { outer, outer_strides: [a, b], inner, inner_strides }
    }

    #[inline(always)]
    fn run(&self, a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
        let [a_strides, b_strides] = &self.outer_strides;
        let mut odometer = Odometer::new(&self.outer, [a_strides, b_strides]);
        for out in out.chunks_exact_mut(self.inner) {
            let [at_a, at_b] = odometer.at;
            let (a, b) = (&a[at_a..], &b[at_b..]);
            match self.inner_strides {
                [1, 1] => out.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (a, b))| *o = f(*a, *b)),
                [1, 0] => out.iter_mut().zip(a).for_each(|(o, a)| *o = f(*a, b[0])),
                [0, 1] => out.iter_mut().zip(b).for_each(|(o, b)| *o = f(a[0], *b)),
                [i, j] => out.iter_mut().enumerate().for_each(|(k, o)| *o = f(a[k * i], b[k * j])),
            }
            odometer.advance();
        }
    }
}

#[inline(always)]
pub fn binary(op: Binary, broadcast: &Broadcast, a: &[f32], b: &[f32], out: &mut [f32]) {
    match op {
        Binary::Add => broadcast.run(a, b, out, |a, b| a + b),
        Binary::Sub => broadcast.run(a, b, out, |a, b| a - b),
        Binary::Mul => broadcast.run(a, b, out, |a, b| a * b),
        Binary::Div => broadcast.run(a, b, out, |a, b| a / b),
        Binary::Min => broadcast.run(a, b, out, f32::min),
        Binary::Max => broadcast.run(a, b, out, f32::max),
        Binary::Pow => broadcast.run(a, b, out, f32::powf),
        Binary::Less => broadcast.run(a, b, out, |a, b| f32::from(a < b)),
        Binary::LessEqual => broadcast.run(a, b, out, |a, b| f32::from(a <= b)),
        Binary::Equal => broadcast.run(a, b, out, |a, b| f32::from(a == b)),
        Binary::NotEqual => broadcast.run(a, b, out, |a, b| f32::from(a != b)),
    }
}

/// `a` where the condition is not zero, else `b`.
#[inline(always)]
pub fn select(condition: &[f32], a: &[f32], b: &[f32], out: &mut [f32]) {
    for ((out, c), (a, b)) in out.iter_mut().zip(condition).zip(a.iter().zip(b)) {
        *out = if *c != 0.0 { *a } else { *b };
    }
}

#[inline(always)]
fn map(x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) {
    out.iter_mut().zip(x).for_each(|(o, x)| *o = f(*x));
}

#[inline(always)]
pub fn unary(op: Unary, x: &[f32], out: &mut [f32]) {
    match op {
        Unary::Relu => map(x, out, |x| x.max(0.0)),
        Unary::Sigmoid => map(x, out, sigmoid),
        Unary::Silu => map(x, out, |x| x * sigmoid(x)),
        Unary::Tanh => map(x, out, tanh),
        Unary::Gelu => map(x, out, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
        Unary::GeluTanh => map(x, out, |x| {
            let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + tanh(inner))
        }),
        Unary::Erf => map(x, out, erf),
        Unary::Exp => map(x, out, exp),
        Unary::Ln => map(x, out, f32::ln),
        Unary::Sqrt => map(x, out, f32::sqrt),
        Unary::Rsqrt => map(x, out, |x| 1.0 / x.sqrt()),
        Unary::Reciprocal => map(x, out, |x| 1.0 / x),
        Unary::Square => map(x, out, |x| x * x),
        Unary::Abs => map(x, out, f32::abs),
        Unary::Neg => map(x, out, |x| -x),
        Unary::Floor => map(x, out, f32::floor),
        Unary::Ceil => map(x, out, f32::ceil),
        Unary::Round => map(x, out, f32::round_ties_even),
        Unary::LeakyRelu(alpha) => map(x, out, |x| if x < 0.0 { alpha * x } else { x }),
        Unary::HardSwish => map(x, out, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        Unary::Power(exponent) => map(x, out, |x| x.powf(exponent)),
    }
}

/// Adding it rounds a number below 2^22 to a whole one, half to even, and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `e^x` to about one unit in the last place, in a form that compilers turn into vector code.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.7);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let power = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    // ln 2 in two parts, so that the remainder keeps its precision.
    let r = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // 2^128 is no float: the power is applied in two halves.
    let half = power >> 1;
    let scale = |n: i32| f32::from_bits(((n + 127) << 23) as u32);
    y * scale(half) * scale(power - half)
}

/// `2^x` for `x` of at most about 0, to about one unit in the last place; below -125 it stays what it is there. `FUSED`: the
/// CPU has fused multiply-add.
#[inline(always)]
pub fn exp2_negative<const FUSED: bool>(x: f32) -> f32 {
    let add = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    let x = if x > -125.0 { x } else { -125.0 };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let mut p = add(1.327_647_2e-3, r, 9.675_541e-3);
    p = add(p, r, 5.550_713e-2);
    p = add(p, r, 0.240_221_2);
    p = add(p, r, 0.693_146_94);
    p = add(p, r, 1.000_000_1);
    // The low bits of `shifted` are the whole part, which goes to the exponent.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Through `e^-2|x|`; near zero, where that cancels, by its series.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let e = exp(-2.0 * a);
    let square = x * x;
    let series = a * (1.0 + square * (-0.333_333_34 + square * (0.133_333_34 - square * 0.053_968_254)));
    let y = if a < 0.2 { series } else { (1.0 - e) / (1.0 + e) };
    y.copysign(x)
}

/// Abramowitz and Stegun 7.1.26: within 1.5e-7.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    (1.0 - p * exp(-a * a)).copysign(x)
}

/// `saturate(round_half_even(x / scale) + zero_point)`.
#[inline(always)]
pub fn quantize(to: Quantization, x: &[f32], out: &mut [u8]) {
    let quantizer = Quantizer::new(to);
    out.iter_mut().zip(x).for_each(|(out, x)| *out = quantizer.quantize(*x));
}

/// What quantization needs for every element.
///
/// It multiplies by the reciprocal of the scale, as a division is several times slower: the rounding may differ where
/// the quotient lies within a millionth of a tie.
#[derive(Debug, Clone, Copy)]
pub struct Quantizer {
    factor: f32,
    low: f32,
    high: f32,
    base: u32,
}

impl Quantizer {
    #[inline(always)]
    pub fn new(to: Quantization) -> Quantizer {
        let zero_point = to.zero_point as f32;
        let base = ROUND.to_bits().wrapping_sub(to.zero_point as u32);
        Quantizer { factor: 1.0 / to.scale, low: -zero_point, high: 255.0 - zero_point, base }
    }

    #[inline(always)]
    pub fn quantize(self, x: f32) -> u8 {
        // Saturated before it is rounded: the bounds are whole, so the order makes no difference.
        let scaled = (x * self.factor).max(self.low).min(self.high);
        (scaled + ROUND).to_bits().wrapping_sub(self.base) as u8
    }
}

/// `(q - zero_point) * scale`.
#[inline(always)]
pub fn dequantize(from: Quantization, x: &[u8], out: &mut [f32]) {
    let zero_point = from.zero_point as i32;
    out.iter_mut().zip(x).for_each(|(o, x)| *o = (*x as i32 - zero_point) as f32 * from.scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0;
            let (found, expected) = (exp(x) as f64, (x as f64).exp());
            assert!((found / expected - 1.0).abs() < 3e-7, "exp({x}) = {found}, not {expected}");
        }
        assert_eq!(exp(-1000.0).max(1e-37), 1e-37);
        for i in -12400..1 {
            let x = i as f32 / 100.0;
            for found in [exp2_negative::<true>(x), exp2_negative::<false>(x)] {
                assert!((found as f64 / (x as f64).exp2() - 1.0).abs() < 3e-7, "2^{x} = {found}");
            }
        }
        assert!((0.0..1e-37).contains(&exp2_negative::<false>(f32::NEG_INFINITY)));
    }

    #[test]
    fn tanh_and_erf_are_close() {
        for i in -500..500 {
            let x = i as f32 / 100.0;
            assert!((tanh(x) - x.tanh()).abs() < 3e-7, "tanh({x})");
        }
        for (x, y) in [(0.1, 0.112_462_92), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (-2.0, -0.995_322_3)] {
            assert!((erf(x) - y).abs() < 3e-7, "erf({x})");
        }
    }

    #[test]
    fn quantization_rounds_half_to_even_and_saturates() {
        let to = Quantization { scale: 0.5, zero_point: 3 };
        let x = [0.0, 0.25, 0.75, -0.25, -0.75, 1.25, -100.0, 1e9, f32::INFINITY, f32::NEG_INFINITY, 126.0];
        let mut out = [0; 11];
        quantize(to, &x, &mut out);
        assert_eq!(out, [3, 3, 5, 3, 1, 5, 0, 255, 255, 0, 255]);
        let mut back = [0.0; 3];
        dequantize(to, &[0, 3, 255], &mut back);
        assert_eq!(back, [-1.5, 0.0, 126.0]);
    }

    #[test]
    fn inputs_are_broadcast_from_the_right() {
        let broadcast = Broadcast::new(&[2, 1, 2], &[3, 1], &[2, 3, 2]);
        let mut out = [0.0; 12];
        binary(Binary::Add, &broadcast, &[0.0, 1.0, 10.0, 11.0], &[100.0, 200.0, 300.0], &mut out);
        assert_eq!(out, [100., 101., 200., 201., 300., 301., 110., 111., 210., 211., 310., 311.]);
    }
}
