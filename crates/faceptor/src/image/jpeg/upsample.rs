//! Enlarges rows of subsampled components as libjpeg does ("fancy" upsampling): a factor of 2 is interpolated with the
//! weights 3/4 and 1/4, other factors repeat the samples.

/// How a component is enlarged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upsampling {
    /// The component has the picture's size.
    None,
    /// Interpolation across.
    Across,
    /// Interpolation down.
    Down,
    /// Interpolation across and down.
    Both,
    /// Repetition, `across` and `down` times.
    Repeat { across: usize, down: usize },
}

impl Upsampling {
    /// Chooses the way for a component of `width` samples that is enlarged `across` and `down` times.
    pub(crate) fn new(across: usize, down: usize, width: usize) -> Upsampling {
        match (across, down) {
            (1, 1) => Upsampling::None,
            (2, 1) if width > 2 => Upsampling::Across,
            (1, 2) => Upsampling::Down,
            (2, 2) if width > 2 => Upsampling::Both,
            _ => Upsampling::Repeat { across, down },
        }
    }

    /// Returns the two rows of the component that row `row` of the picture is made of: the nearer and the farther one.
    /// Row -1 lies above the first.
    pub(crate) fn rows(self, row: isize) -> [isize; 2] {
        match self {
            Upsampling::None | Upsampling::Across => [row; 2],
            Upsampling::Down | Upsampling::Both => {
                let near = row.div_euclid(2);
                [near, if row.rem_euclid(2) == 0 { near - 1 } else { near + 1 }]
            }
            Upsampling::Repeat { down, .. } => [row.div_euclid(down as isize); 2],
        }
    }

    /// Writes the enlarged row. `is_upper`: the farther row lies above the nearer one. `sums` is room for one row.
    pub(crate) fn enlarge(self, near: &[u8], far: &[u8], is_upper: bool, sums: &mut [u16], out: &mut [u8]) {
        match self {
            Upsampling::None => out.iter_mut().zip(near).for_each(|(out, &value)| *out = value),
            Upsampling::Across => across(near, out),
            Upsampling::Down => {
                let bias = if is_upper { 1 } else { 2 };
                for ((out, &near), &far) in out.iter_mut().zip(near).zip(far) {
                    *out = ((u16::from(near) * 3 + u16::from(far) + bias) >> 2) as u8;
                }
            }
            Upsampling::Both => both(near, far, sums, out),
            Upsampling::Repeat { across, .. } => {
                for (out, &value) in out.chunks_mut(across).zip(near) {
                    out.fill(value);
                }
            }
        }
    }
}

/// Enlarges a row of three samples or more to twice its length.
fn across(row: &[u8], out: &mut [u8]) {
    let (Some(&first), Some(&last)) = (row.first(), row.last()) else { return };
    let wide = |value: u8| u16::from(value);
    let count = row.len();
    out[0] = first;
    out[1] = ((wide(first) * 3 + wide(row[1]) + 2) >> 2) as u8;
    let neighbours = row.iter().zip(&row[1..count - 1]).zip(&row[2..]);
    for (pair, ((&left, &middle), &right)) in out[2..].as_chunks_mut::<2>().0.iter_mut().zip(neighbours) {
        let middle = wide(middle) * 3;
        *pair = [((middle + wide(left) + 1) >> 2) as u8, ((middle + wide(right) + 2) >> 2) as u8];
    }
    out[2 * count - 2] = ((wide(last) * 3 + wide(row[count - 2]) + 1) >> 2) as u8;
    out[2 * count - 1] = last;
}

/// Enlarges a row of three samples or more, between two rows, to twice its length.
fn both(near: &[u8], far: &[u8], sums: &mut [u16], out: &mut [u8]) {
    let count = near.len();
    for ((sum, &near), &far) in sums.iter_mut().zip(near).zip(far) {
        *sum = u16::from(near) * 3 + u16::from(far);
    }
    let sums = &sums[..count];
    out[0] = ((sums[0] * 4 + 8) >> 4) as u8;
    out[1] = ((sums[0] * 3 + sums[1] + 7) >> 4) as u8;
    let neighbours = sums.iter().zip(&sums[1..count - 1]).zip(&sums[2..]);
    for (pair, ((&left, &middle), &right)) in out[2..].as_chunks_mut::<2>().0.iter_mut().zip(neighbours) {
        let middle = middle * 3;
        *pair = [((middle + left + 8) >> 4) as u8, ((middle + right + 7) >> 4) as u8];
    }
    out[2 * count - 2] = ((sums[count - 1] * 3 + sums[count - 2] + 8) >> 4) as u8;
    out[2 * count - 1] = ((sums[count - 1] * 4 + 7) >> 4) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enlarged(way: Upsampling, near: &[u8], far: &[u8], is_upper: bool, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        way.enlarge(near, far, is_upper, &mut vec![0; near.len()], &mut out);
        out
    }

    #[test]
    fn factors_of_two_are_interpolated_between_neighbours() {
        let row = [0, 100, 200];
        assert_eq!(enlarged(Upsampling::Across, &row, &row, false, 6), [0, 25, 75, 125, 175, 200]);
        assert_eq!(enlarged(Upsampling::Down, &row, &[40, 100, 0], true, 3), [10, 100, 150]);
        assert_eq!(enlarged(Upsampling::Both, &row, &row, true, 6), [0, 25, 75, 125, 175, 200]);
        assert_eq!(
            enlarged(Upsampling::Repeat { across: 3, down: 1 }, &row, &row, true, 7),
            [0, 0, 0, 100, 100, 100, 200]
        );
    }

    #[test]
    fn rows_above_and_below_take_part() {
        assert_eq!([0, 1, 2].map(|row| Upsampling::Both.rows(row)), [[0, -1], [0, 1], [1, 0]]);
        assert_eq!(Upsampling::new(4, 2, 100).rows(5), [2, 2]);
        assert_eq!(Upsampling::new(2, 2, 2), Upsampling::Repeat { across: 2, down: 2 });
    }
}
