"""Makes a larger network that starts with a smaller one's answers: every map of the encoder gets several copies of every channel.

    python -m faceptor_models.student.widen edge/weights.pt --size teacher --out teacher-start.pt

The copies of a channel are equal, and each reader splits its weight among them unequally, at random (Net2Net's widening, Chen
et al. 2016): the answers are the smaller network's up to rounding, and gradients separate the copies from the first step on.
Decoder, pixel decoder and heads keep their size.
"""

import argparse

import torch

from .evaluate import load
from .network import SIZES, Student, levels_of

# Deviation of a copy's share, relative to an equal share.
UNEVEN = 0.5


def times(size, of):
    """Returns how often the size `size` has each channel of the encoder of the size `of`; raises ValueError where it is no such widening."""
    wide, narrow = SIZES[size], SIZES[of]
    factors = {w // n for w, n in zip(wide["widths"], narrow["widths"]) if w % n == 0}
    if len(factors) != 1 or [n * min(factors) for n in narrow["widths"]] != list(wide["widths"]):
        raise ValueError(f"{size}'s widths are no common multiple of {of}'s")
    other = [k for k in narrow if k != "widths" and wide.get(k) != narrow[k]]
    if other:
        raise ValueError(f"{size} and {of} differ in {', '.join(other)} too, which are not widened")
    return factors.pop()


def shares(weight, count, generator):
    """Splits a weight [out, in, ...] among `count` equal copies of its inputs, [out, count * in, ...]; the shares sum to the weight."""
    part = 1 + UNEVEN * torch.randn(count, *weight.shape, generator=generator)
    part += (count - part.sum(0)) / count
    return torch.cat([weight * p / count for p in part], 1)


def repeated(state, wide, count, generator):
    """Returns the narrow `state` in the shapes of the state `wide`, with channels `count` times."""
    out = {}
    for name, value in state.items():
        shape = wide[name].shape
        if value.ndim > 1 and shape[1] == count * value.shape[1]:
            # Each copy of an output has its own shares.
            copies = count if shape[0] == count * value.shape[0] else 1
            out[name] = torch.cat([shares(value, count, generator) for _ in range(copies)])
        elif value.ndim and shape[0] == count * value.shape[0]:
            out[name] = torch.cat([value] * count)
        else:
            out[name] = value.clone()
    return out


def widen(net, size, seed=0):
    """Builds a network of the size `size` that answers as `net` does."""
    count = times(size, net.size)
    state = net.state_dict()
    large = Student(size, levels_of(state))
    large.load_state_dict(repeated(state, large.state_dict(), count, torch.Generator().manual_seed(seed)))
    return large.eval()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint", help="weights of the smaller network")
    p.add_argument("--size", default="teacher", choices=list(SIZES))
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", required=True)
    args = p.parse_args()
    net, _ = load(args.checkpoint)
    try:
        large = widen(net, args.size, args.seed)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    torch.save({"size": args.size, "step": 0, "average": large.state_dict()}, args.out)
    count = lambda n: sum(v.numel() for v in n.parameters()) / 1e6  # noqa: E731
    print(f"{args.out}: {count(large):.2f} M parameters from {count(net):.2f} M of {args.checkpoint}")


if __name__ == "__main__":
    main()
