//! Checks of a plan that was read from a file: after them no step can reach outside its operands.

use crate::ops::{MAX_RANK, broadcast_strides};
use crate::plan::{
    Attention, BestClass, Element, Op, Plan, Product, Reach, Residual, Step, Value, ValueId, Walk, Window,
};

/// Largest number of elements of one value.
const MAX_ELEMENTS: usize = 1 << 26;
/// Largest sum of the elements of all values of one plan.
const MAX_ALL_ELEMENTS: usize = 1 << 27;
/// Largest number of steps.
const MAX_STEPS: usize = 100_000;
/// Largest number of multiply-accumulates of one run: a thousand times what the shipped network needs.
const MAX_MACS: u64 = 1 << 39;

/// What a constant of the tensor table is.
pub type Constant<'a> = (Element, &'a [usize]);

/// Checks every value and every step; the error says which.
pub fn check_plan<'a>(plan: &Plan, table: impl Fn(u32) -> Option<Constant<'a>>) -> Result<(), String> {
    if plan.steps.len() > MAX_STEPS {
        return Err(format!("has {} steps, at most {MAX_STEPS}", plan.steps.len()));
    }
    let mut all = 0usize;
    for (i, value) in plan.values.iter().enumerate() {
        if value.shape.len() > MAX_RANK {
            return Err(format!("value {i} has {} axes, at most {MAX_RANK}", value.shape.len()));
        }
        let len = value.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d).filter(|n| *n <= MAX_ELEMENTS));
        all = all.saturating_add(len.unwrap_or(usize::MAX));
        if all > MAX_ALL_ELEMENTS || value.shape.contains(&0) {
            return Err(format!("value {i} has too many elements or none: {:?}", value.shape));
        }
        if let Some(index) = value.constant {
            let fits = table(index).is_some_and(|(element, shape)| element == value.element && shape == value.shape);
            if !fits {
                return Err(format!("value {i} does not fit tensor {index} of the table"));
            }
        } else if value.element == Element::I8 {
            return Err(format!("value {i} is signed and not constant"));
        }
    }
    let mut known: Vec<bool> = plan.values.iter().map(|v| v.constant.is_some()).collect();
    let mut mark = |id: ValueId, what: &str| match known.get_mut(id as usize) {
        Some(known) if !*known => {
            *known = true;
            Ok(())
        }
        _ => Err(format!("{what} writes value {id}, which is not there, constant or written before")),
    };
    for port in &plan.inputs {
        mark(port.value, &format!("input {}", port.name))?;
    }
    // Checked in order, so that a step only reads what an earlier one wrote.
    let mut written: Vec<bool> = plan.values.iter().map(|v| v.constant.is_some()).collect();
    plan.inputs.iter().for_each(|p| written[p.value as usize] = true);
    for step in &plan.steps {
        if let Some(id) = step.inputs.iter().find(|i| written.get(**i as usize) != Some(&true)) {
            return Err(format!("step {} reads value {id} before it is written", step.name));
        }
        for id in &step.outputs {
            mark(*id, &format!("step {}", step.name))?;
            written[*id as usize] = true;
        }
        check_step(plan, step).map_err(|e| format!("step {} ({}): {e}", step.name, step.op.name()))?;
    }
    let macs = plan.steps.iter().try_fold(0u64, |n, s| n.checked_add(plan.checked_step_macs(s)?));
    if macs != Some(plan.macs) || plan.macs > MAX_MACS {
        return Err(format!("needs {macs:?} multiply-accumulates, says {}, at most {MAX_MACS}", plan.macs));
    }
    let ports = plan.inputs.iter().chain(&plan.outputs);
    if let Some((_, port)) = ports.clone().enumerate().find(|(i, p)| ports.clone().take(*i).any(|o| o.value == p.value))
    {
        return Err(format!("tensor {} shares its value with another", port.name));
    }
    for port in ports {
        let number = plan.values.get(port.value as usize).is_some_and(|v| v.element != Element::I8);
        if !number || !written[port.value as usize] {
            return Err(format!("tensor {} holds weights or is never written", port.name));
        }
    }
    Ok(())
}

fn check_step(plan: &Plan, step: &Step) -> Result<(), String> {
    let value = |id: &ValueId| &plan.values[*id as usize];
    let inputs: Vec<&Value> = step.inputs.iter().map(value).collect();
    let outputs: Vec<&Value> = step.outputs.iter().map(value).collect();
    let ensure = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_string()) };
    if let Op::Product(product) = &step.op {
        return check_product(product, &inputs, &outputs);
    }
    let operands = match step.op {
        Op::MatMul(_) | Op::Binary(_) | Op::BestClass(_) => 2,
        Op::LayerNorm { .. } | Op::Attention(_) | Op::Select | Op::Depthwise(_) => 3,
        Op::Sample(_) => inputs.len().clamp(1, 2),
        Op::Concat { .. } => inputs.len().max(1),
        _ => 1,
    };
    ensure(inputs.len() == operands && outputs.len() == 1, "has the wrong number of operands")?;
    let (x, out) = (inputs[0], outputs[0]);
    let element = |v: &Value, e: Element| v.element == e;
    let float = inputs.iter().chain(&outputs).all(|v| v.element == Element::F32);
    let alike = inputs.iter().all(|v| v.element == out.element && v.element != Element::I8);
    let same = x.shape == out.shape;
    match &step.op {
        Op::Product(_) => Ok(()),
        Op::MatMul(m) => {
            let walks = || m.outer.iter().chain([&m.m, &m.n, &m.k]);
            ensure(float && m.outer.len() <= MAX_RANK, "is not float32, or has too many axes")?;
            ensure(m.m.b == 0 && m.n.a == 0 && m.k.out == 0, "has strides where none may be")?;
            ensure(walks().all(|w| w.len > 0), "has an empty axis")?;
            let area = |a: &Walk, b: &Walk| a.len.checked_mul(b.len).is_some_and(|n| n <= MAX_ELEMENTS);
            ensure(area(&m.n, &m.k) && area(&m.n, &m.m), "is too large")?;
            let reach = |stride: fn(&Walk) -> usize| {
                walks().try_fold(0usize, |n, w| n.checked_add((w.len - 1).checked_mul(stride(w))?))
            };
            let within = |reach: Option<usize>, v: &Value| reach.is_some_and(|r| r < v.len());
            let fits = within(reach(|w| w.a), x) && within(reach(|w| w.b), inputs[1]) && within(reach(|w| w.out), out);
            ensure(fits, "reaches outside its operands")
        }
        Op::Binary(_) => {
            let fits = |v: &Value| broadcasts(&v.shape, &out.shape);
            ensure(float && fits(x) && fits(inputs[1]), "has shapes that do not fit")
        }
        Op::Unary(_) => ensure(float && same, "has shapes that do not fit"),
        Op::Reduce { axes, .. } => {
            let kept = |(i, d): (usize, &usize)| if axes.contains(&i) { 1 } else { *d };
            let expected: Vec<usize> = x.shape.iter().enumerate().map(kept).collect();
            ensure(float && axes.iter().all(|a| *a < x.shape.len()) && expected == out.shape, "has wrong axes")
        }
        Op::Softmax { axis } => ensure(float && same && *axis < x.shape.len(), "has a wrong axis"),
        Op::LayerNorm { .. } => {
            let row = |v: &Value| Some(&v.len()) == x.shape.last();
            ensure(float && same && row(inputs[1]) && row(inputs[2]), "has shapes that do not fit")
        }
        Op::Transpose { order } => {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            let permutation = sorted.iter().copied().eq(0..x.shape.len());
            let moved = || order.iter().map(|i| x.shape[*i]).eq(out.shape.iter().copied());
            ensure(alike && permutation && moved(), "has a wrong order")
        }
        Op::Reshape => ensure(alike && x.len() == out.len(), "changes the number of elements"),
        Op::Broadcast => ensure(alike && broadcasts(&x.shape, &out.shape), "has shapes that do not fit"),
        Op::Concat { axis } => {
            let others = |v: &Value| {
                v.shape.len() == out.shape.len()
                    && v.shape.iter().zip(&out.shape).enumerate().all(|(i, (a, b))| i == *axis || a == b)
            };
            ensure(alike && *axis < out.shape.len() && inputs.iter().all(|v| others(v)), "has shapes that do not fit")?;
            let sum: usize = inputs.iter().map(|v| v.shape[*axis]).sum();
            ensure(sum == out.shape[*axis], "has lengths that do not add up")
        }
        Op::Slice { axis, start, step } => {
            let others = x.shape.len() == out.shape.len()
                && x.shape.iter().zip(&out.shape).enumerate().all(|(i, (a, b))| i == *axis || a == b);
            let last = |axis: usize| (out.shape[axis] - 1).checked_mul(*step).and_then(|l| l.checked_add(*start));
            let within = || *step > 0 && last(*axis).is_some_and(|last| last < x.shape[*axis]);
            ensure(alike && *axis < x.shape.len() && others && within(), "reaches outside its operand")
        }
        Op::Pad { before, .. } => {
            let fits = before.len() == x.shape.len()
                && out.shape.len() == x.shape.len()
                && (0..before.len()).all(|i| before[i].checked_add(x.shape[i]).is_some_and(|end| end <= out.shape[i]));
            ensure(float && fits, "has shapes that do not fit")
        }
        Op::Quantize(q) => {
            ensure(element(x, Element::F32) && element(out, Element::U8) && same && q.scale > 0.0, "does not fit")
        }
        Op::Dequantize(_) => ensure(element(x, Element::U8) && element(out, Element::F32) && same, "does not fit"),
        Op::Attention(a) => check_attention(a, &inputs, out),
        Op::Sample(s) => {
            let others = x.shape.len() == out.shape.len()
                && x.shape.iter().zip(&out.shape).enumerate().all(|(i, (a, b))| i == s.axis || a == b);
            ensure(float && s.axis < x.shape.len() && others, "has shapes that do not fit")?;
            let count = out.shape[s.axis].checked_mul(s.taps);
            ensure(s.taps > 0 && count == Some(s.positions.len()), "has too few positions")?;
            ensure(s.positions.iter().all(|p| (*p as usize) < x.shape[s.axis]), "reaches outside its operand")?;
            ensure(inputs.get(1).is_none_or(|w| w.len() == s.positions.len()), "has too few weights")
        }
        Op::Select => ensure(float && inputs.iter().all(|v| v.shape == out.shape), "has shapes that do not fit"),
        Op::Depthwise(window) => {
            let (&[1, height, width, channels], &[1, rows, columns, depth]) = (&x.shape[..], &out.shape[..]) else {
                return Err("is a convolution of something else than one image".into());
            };
            check_window(window, [height, width], [rows, columns])?;
            let fits = inputs[1].len() == window.size[0] * window.size[1] * channels && inputs[2].len() == channels;
            ensure(float && depth == channels && fits, "has shapes that do not fit")
        }
        Op::BestClass(b) => check_best_class(b, &inputs, out),
    }
}

fn check_best_class(b: &BestClass, inputs: &[&Value], out: &Value) -> Result<(), String> {
    let ensure = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_string()) };
    let float = inputs.iter().all(|v| v.element == Element::F32);
    ensure(float && out.element == Element::U8, "does not make bytes of float32")?;
    let lens = b.grid.iter().chain(&b.cell).chain([&b.classes, &b.depth]);
    let small = lens.clone().all(|len| (1..=MAX_ELEMENTS / 256).contains(len));
    ensure(small && b.classes <= usize::from(u8::MAX), "has an empty axis, or too long a one")?;
    // Its scratch has a block of cells, and their products with the queries of one pixel.
    ensure(b.depth.saturating_mul(b.classes) <= MAX_ELEMENTS / 256, "is too large")?;
    let pixels = |axis: usize| b.grid[axis].checked_mul(b.cell[axis]);
    let shape = [Some(1), pixels(0), pixels(1)];
    ensure(out.shape.iter().copied().map(Some).eq(shape), "has an output of another shape")?;
    let within = |lens: &[usize], strides: &[usize], v: &Value| {
        let mut walks = lens.iter().zip(strides);
        let reach = walks.try_fold(0usize, |n, (len, stride)| n.checked_add((len - 1).checked_mul(*stride)?));
        reach.is_some_and(|reach| reach < v.len())
    };
    let fits = within(&[b.cell[0], b.cell[1], b.classes, b.depth], &b.query_strides, inputs[0])
        && within(&[b.grid[0] * b.grid[1], b.depth], &b.pixel_strides, inputs[1]);
    ensure(fits, "reaches outside its operands")
}

fn check_attention(a: &Attention, inputs: &[&Value], out: &Value) -> Result<(), String> {
    let ensure = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_string()) };
    let walks = || a.outer.iter().chain([&a.queries, &a.keys, &a.depth, &a.columns]);
    let float = inputs.iter().all(|v| v.element == Element::F32);
    ensure(float && a.outer.len() <= MAX_RANK && a.scale > 0.0, "is not float32, or has too many axes or no scale")?;
    let element = if a.quantized_output.is_some() { Element::U8 } else { Element::F32 };
    let beside = a.quantized_output.is_none_or(|q| q.scale > 0.0 && a.columns.out == 1);
    ensure(out.element == element && beside, "has an output of a wrong type")?;
    ensure(
        walks().all(|w| w.len > 0)
            && [a.queries.key, a.queries.value, a.keys.query, a.keys.out].iter().all(|s| *s == 0)
            && [a.depth.value, a.depth.out, a.columns.query, a.columns.key].iter().all(|s| *s == 0),
        "has an empty axis, or strides where none may be",
    )?;
    let largest = MAX_ELEMENTS / 256;
    ensure(a.depth.len <= largest && a.columns.len <= largest, "is too large")?;
    let reach = |stride: fn(&Reach) -> usize| {
        walks().try_fold(0usize, |n, w| n.checked_add((w.len - 1).checked_mul(stride(w))?))
    };
    let within = |reach: Option<usize>, start: usize, v: &Value| {
        reach.and_then(|reach| reach.checked_add(start)).is_some_and(|last| last < v.len())
    };
    let fits = within(reach(|w| w.query), a.starts[0], inputs[0])
        && within(reach(|w| w.key), a.starts[1], inputs[1])
        && within(reach(|w| w.value), a.starts[2], inputs[2])
        && within(reach(|w| w.out), 0, out);
    ensure(fits, "reaches outside its operands")
}

fn broadcasts(from: &[usize], to: &[usize]) -> bool {
    from.len() <= to.len() && broadcast_strides(from, to).len() == to.len() && {
        let skipped = to.len() - from.len();
        from.iter().zip(&to[skipped..]).all(|(a, b)| a == b || *a == 1)
    }
}

fn check_product(p: &Product, inputs: &[&Value], outputs: &[&Value]) -> Result<(), String> {
    let ensure = |ok: bool, what: &str| if ok { Ok(()) } else { Err(what.to_string()) };
    let quantized = p.zero_point.is_some();
    let residual = p.residual != Residual::None;
    let expected = 2 + quantized as usize + p.bias as usize + residual as usize;
    let stored = p.float_output as usize + p.quantized_output.is_some() as usize;
    ensure(inputs.len() == expected && outputs.len() == stored && stored > 0, "has the wrong number of operands")?;
    ensure(p.columns > 0 && p.depth > 0, "has no columns or no depth")?;
    let (activations, weights) = if quantized { (Element::U8, Element::I8) } else { (Element::F32, Element::F32) };
    let (x, w, out) = (inputs[0], inputs[1], outputs[0]);
    ensure(x.element == activations && x.constant.is_none(), "has activations of a wrong type")?;
    ensure(w.element == weights && w.constant.is_some() && w.shape == [p.columns, p.depth], "has wrong weights")?;
    let vectors = quantized as usize + p.bias as usize;
    let column = |v: &&Value| v.element == Element::F32 && v.constant.is_some() && v.shape == [p.columns];
    ensure(inputs[2..2 + vectors].iter().all(column), "has a wrong scale or bias")?;
    ensure(outputs.iter().all(|o| o.shape == out.shape), "has outputs of different shapes")?;
    let mut types = Vec::new();
    types.extend(p.float_output.then_some(Element::F32));
    types.extend(p.quantized_output.map(|_| Element::U8));
    ensure(outputs.iter().map(|o| o.element).eq(types), "has outputs of wrong types")?;
    let scales = [p.quantized_output, if let Residual::Quantized(q) = p.residual { Some(q) } else { None }];
    ensure(scales.iter().flatten().all(|q| q.scale > 0.0), "has a scale that is not positive")?;
    if residual {
        let element = if p.residual == Residual::Float { Element::F32 } else { Element::U8 };
        let added = inputs[inputs.len() - 1];
        ensure(added.element == element && added.len() == out.len(), "has a wrong residual")?;
    }
    let Some(window) = &p.window else {
        let rows = x.len() / p.depth;
        let fits = x.shape.last() == Some(&p.depth) && out.shape.last() == Some(&p.columns);
        return ensure(fits && out.len() == rows * p.columns, "has shapes that do not fit");
    };
    let (&[1, height, width, channels], &[1, rows, columns, depth]) = (&x.shape[..], &out.shape[..]) else {
        return Err("is a convolution of something else than one image".into());
    };
    check_window(window, [height, width], [rows, columns])?;
    ensure(window.size[0] * window.size[1] * channels == p.depth && depth == p.columns, "has a wrong depth")
}

/// Each output pixel's window must at least begin within the padded image, so that no index can wrap around.
fn check_window(window: &Window, input: [usize; 2], output: [usize; 2]) -> Result<(), String> {
    let small = |values: &[usize; 2]| values.iter().all(|v| (1..=1024).contains(v));
    if !(small(&window.size) && small(&window.stride) && small(&window.dilation)) {
        return Err("has a window out of range".into());
    }
    let begins = |axis: usize| {
        window.before[axis] <= 4096 && (output[axis] - 1).saturating_mul(window.stride[axis]) < input[axis] + 8192
    };
    if begins(0) && begins(1) { Ok(()) } else { Err("has an output that is too large".into()) }
}
