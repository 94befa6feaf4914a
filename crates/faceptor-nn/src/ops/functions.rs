//! Functions of one number, in forms that compilers turn into vector code.

use crate::cpu::ROUND;

/// Returns `e^x` to about one unit in the last place, in a form that compilers turn into vector code.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
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

/// Returns `2^x` for `x` of at most about 0, to about one unit in the last place; below -125 it stays what it is there. `FUSED`: the
/// CPU has fused multiply-add.
#[inline(always)]
pub(crate) fn exp2_negative<const FUSED: bool>(x: f32) -> f32 {
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

/// Returns `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Returns the hyperbolic tangent through `e^-2|x|`; near zero, where that cancels, through its series.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let e = exp(-2.0 * a);
    let square = x * x;
    let series = a * (1.0 + square * (-0.333_333_34 + square * (0.133_333_34 - square * 0.053_968_254)));
    let y = if a < 0.2 { series } else { (1.0 - e) / (1.0 + e) };
    y.copysign(x)
}

/// Returns the error function to within 1.5e-7: formula 7.1.26 of Abramowitz and Stegun, "Handbook of Mathematical Functions".
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    (1.0 - p * exp(-a * a)).copysign(x)
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
}
