"""Makes a smaller network's first weights from a larger one's, layer by layer, by least squares to the larger one's activations.

    python -m faceptor_models.student.shrink CHECKPOINT --size nano --faces FACES --cache CACHE --out start.pt

Of every group of channels it keeps those that explain the others best. Then it fits each layer of the smaller network, in the
order in which the data flow, to the real output of the layers before it, so that their error is corrected as far as possible.
Both networks must have the same blocks and layers. The result is for `student.train --start-from`: far from the larger network,
but nearer to it than random weights.
"""

import argparse
import math

import torch
from torch.nn import functional as F

from .evaluate import load
from .export import calibration_images
from .network import ANSWERS, QUERIES, ConvNorm, Residual, Student, sincos, soft_argmax

RIDGE = 1e-3  # of the inputs' mean square
RELU_ROUNDS = 6  # fits of a layer before a ReLU
FEATURE_RIDGE = 0.1  # of the recognition head
DENSE = 320  # images for the pixel decoder: its maps are large, and each holds thousands of rows
SENSED = 64  # images whose gradients weigh the channels
MOST_ROWS = 24_000  # rows of a fit; more change nothing


def explain(activations, count):
    """Returns the indices of the `count` columns of [rows, channels] that explain the others best (pivoted Cholesky of the covariance)."""
    centred = activations - activations.mean(0)
    left = (centred.T @ centred / len(centred)).double()
    chosen = []
    for _ in range(count):
        gain = (left**2).sum(0) / left.diagonal().clamp(min=1e-12)
        gain[left.diagonal() < 1e-10] = 0
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        column = left[:, best]
        left = left - torch.outer(column, column) / column[best].clamp(min=1e-12)
    return torch.tensor(sorted(chosen))


def fit(inputs, target, ridge=RIDGE, before=None):
    """Returns (weight [out, in], bias [out]) of the least-squares map of rows `inputs` to rows `target`.

    With `before`, rows or 0, the positive part of `before` plus the map approximates the positive part of `target`: where the
    target is below zero, anything below zero is right. It fits repeatedly with those targets moved.
    """
    if len(inputs) > MOST_ROWS:
        rows = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(len(inputs)))[:MOST_ROWS]
        inputs, target = inputs[rows], target[rows]
        before = before[rows] if torch.is_tensor(before) else before
    mean_in = inputs.mean(0)
    x = inputs - mean_in
    gram = (x.T @ x).double()
    gram.diagonal().add_(ridge * gram.diagonal().mean() + 1e-9)
    factor, offset, goal = torch.linalg.cholesky(gram), 0 if before is None else before, target
    for _ in range(1 if before is None else RELU_ROUNDS):
        left = goal - offset
        mean_out = left.mean(0)
        weight = torch.cholesky_solve((x.T @ (left - mean_out)).double(), factor).T.float()
        if before is not None:
            found = x @ weight.T + mean_out + offset
            goal = torch.where(target > 0, target, found.clamp(max=0.0))
    return weight, mean_out - weight @ mean_in


def rows_of(maps):
    """Reshapes [B, C, H, W] to rows of channels."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def fit_weight(conv, x, target, before=None):
    """Sets a convolution's weight to the fit of its neighbourhoods of `x` to `target` [B, out, H, W]; returns the bias."""
    k, (batch, _, height, width) = conv.kernel_size[0], target.shape
    area = height * width
    keep = torch.randperm(batch * area, generator=torch.Generator().manual_seed(k))[:MOST_ROWS].sort().values
    if k == 1:
        neighbourhoods = rows_of(x)[keep]
    else:
        parts = []
        for first in range(0, batch, 64):  # a few images at a time: the neighbourhoods are nine times as large as the maps
            spread = F.unfold(x[first : first + 64], k, padding=conv.padding, stride=conv.stride).transpose(1, 2).flatten(0, 1)
            parts.append(spread[keep[(keep >= first * area) & (keep < (first + 64) * area)] - first * area])
        neighbourhoods = torch.cat(parts)
    before = rows_of(before)[keep] if torch.is_tensor(before) else before
    weight, bias = fit(neighbourhoods, rows_of(target)[keep], before=before)
    conv.weight.copy_(weight.reshape(conv.weight.shape))
    return bias


def fit_conv(conv, x, target, before=None):
    """Fits a convolution with a bias; returns its output."""
    conv.bias.copy_(fit_weight(conv, x, target, before))
    return conv(x)


def fit_norm(block, x, target, before=0):
    """Fits a ConvNorm so that a ReLU after it, and after `before` is added, gives the positive part of the target.

    Its batch norm starts with the statistics of these images. Returns its output before the ReLU.
    """
    bias = fit_weight(block[0], x, target, before)
    raw = block[0](x)
    norm = block[1]
    variance, mean = torch.var_mean(raw, (0, 2, 3), unbiased=False)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean + bias)
    return norm(raw)


def fit_linear(linear, x, target, before=None):
    weight, bias = fit(x.flatten(0, -2), target.flatten(0, -2), before=before)
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
    return linear(x)


def fit_layer_norm(norm, x, target):
    """Fits a LayerNorm over fewer channels: the gain and bias of each channel."""
    plain = F.layer_norm(x, x.shape[-1:]).flatten(0, -2)
    goal = target.flatten(0, -2)
    mean_in, mean_out = plain.mean(0), goal.mean(0)
    gain = ((plain - mean_in) * (goal - mean_out)).sum(0) / ((plain - mean_in) ** 2).sum(0).clamp(min=1e-6)
    norm.weight.copy_(gain)
    norm.bias.copy_(mean_out - gain * mean_in)
    return norm(x)


def sensitivity(net, images, seed=0):
    """Returns {module: [C]}: how strongly each channel of a module's output moves the answers (root mean square gradient).

    The answers of every task are weighted to the same spread and summed with random signs, so that no direction is favoured.
    """
    sums, hooks = {}, []

    def watch(module, _, out):
        if not torch.is_tensor(out) or not out.requires_grad:
            return
        channel = 1 if out.ndim == 4 else out.ndim - 1

        def add(gradient):
            square = gradient.detach().square().mean([d for d in range(gradient.ndim) if d != channel])
            sums[module] = sums.get(module, 0) + square

        out.register_hook(add)

    for module in net.modules():
        if isinstance(module, (ConvNorm, Residual, torch.nn.Linear, torch.nn.LayerNorm)):
            hooks.append(module.register_forward_hook(watch))
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for start in range(0, len(images), 16):
            maps = net.encode(images[start : start + 16])
            memory, pixels = net.remember(maps), net.pixels(maps)
            answers = [net.values(t, net.decode(t, memory)) for t in ANSWERS]
            answers += [soft_argmax(net.maps(net.decode("landmarks", memory), pixels)), net.maps(net.decode("parsing", memory), pixels).softmax(1)]
            answers.append(F.normalize(net.feature(maps["f16"]), dim=-1))
            loss = 0
            for out in answers:
                signs = torch.randn(out.shape, generator=generator)
                loss = loss + (out * signs).sum() / (out - out.mean(0)).detach().std() / math.sqrt(out[0].numel())
            loss.backward()
    net.zero_grad(set_to_none=True)
    for hook in hooks:
        hook.remove()
    return {m: s.sqrt() for m, s in sums.items()}


class Shrinking:
    """Walks through both networks together; `big` and `small` name the tensors of each."""

    def __init__(self, big, small, images):
        self.big, self.small, self.images = big.eval(), small.eval(), images
        self.weight = sensitivity(big, images[:SENSED])

    def choose(self, activations, count, *modules):
        """Chooses the channels to keep: those that explain the others, each weighted by how strongly the modules' answers depend on it."""
        weight = sum(self.weight[m] ** 2 for m in modules).sqrt()
        return explain(activations * (weight / weight.mean()), count)

    @torch.no_grad()
    def run(self):
        maps = self.encoder()
        memory = self.memory(maps)
        decoded = self.decoder(memory)
        self.values(decoded)
        self.dense(maps, decoded)
        self.feature(maps)
        self.auxiliary(maps)
        return self.small

    @staticmethod
    def before_relu(block, x):
        return block[1](block[0](x))

    def stage(self, big, small, x, y):
        """Fits a strided ConvNorm and residual blocks, or only residual blocks whose channels are already chosen (`self.keep`)."""
        blocks = list(zip(big, small))
        if not hasattr(big[0], "first"):
            stream, flow = [], x
            for module in big:
                flow = module(flow)
                stream.append(rows_of(flow))
            self.keep = self.choose(torch.cat(stream)[:: max(1, len(stream[0]) // MOST_ROWS)], small[0][0].out_channels, *big)
            goal = self.before_relu(big[0], x)
            x, y = F.relu(goal), F.relu(fit_norm(small[0], y, goal[:, self.keep]))
            blocks = blocks[1:]
        for a, b in blocks:
            inner = self.before_relu(a.first, x)
            kept = self.choose(rows_of(F.relu(inner)), b.first[0].out_channels, a.first)
            between = F.relu(fit_norm(b.first, y, inner[:, kept]))
            goal = x + self.before_relu(a.second, F.relu(inner))
            y = F.relu(y + fit_norm(b.second, between, goal[:, self.keep], y))
            x = F.relu(goal)
        return x, y

    def encoder(self):
        big, small = self.big.encoder, self.small.encoder
        goal = self.before_relu(big.stem, self.images)
        kept = self.choose(rows_of(F.relu(goal)), small.stem[0].out_channels, big.stem)
        x, y = F.relu(goal), F.relu(fit_norm(small.stem, self.images, goal[:, kept]))
        x4, y4 = self.stage(big.stage4, small.stage4, x, y)
        x8, y8 = self.stage(big.stage8, small.stage8, x4, y4)
        # The last stride runs through two lists of blocks.
        whole = torch.nn.Sequential(*big.down16, *big.stage16), torch.nn.Sequential(*small.down16, *small.stage16)
        middle = len(big.down16)
        xa, ya = self.stage(whole[0][:middle], whole[1][:middle], x8, y8)
        x16, y16 = self.stage(big.stage16, small.stage16, xa, ya) if len(big.stage16) else (xa, ya)
        return {"f4": (x4, y4), "f8": (x8, y8), "middle": (xa, ya), "f16": (x16, y16)}

    @staticmethod
    def heads(values, big_heads, small_heads):
        """Returns the columns of the heads whose output varies most, [.., dim] split among `big_heads`."""
        width = values.shape[-1] // big_heads
        spread = values.flatten(0, -2).var(0).reshape(big_heads, width).sum(1)
        kept = spread.argsort(descending=True)[:small_heads].sort().values
        return (kept[:, None] * width + torch.arange(width)).flatten()

    def memory(self, maps):
        big, small = self.big.memory, self.small.memory
        levels = [maps[k] for k in ("f8", "middle", "f16")][-len(big.inputs) :]
        goals = [rows(p(x)) for p, (x, _) in zip(big.inputs, levels)]
        normed = big.norm(torch.cat(goals, 1))
        keep = self.choose(normed.flatten(0, 1), small.dim, big.norm)
        tokens = []
        for project, (_, y), goal in zip(small.inputs, levels, goals):
            batch, _, height, width = y.shape
            wanted = goal[:, :, keep].transpose(1, 2).reshape(batch, len(keep), height, width)
            tokens.append(rows(fit_conv(project, y, wanted)))
        mine = fit_layer_norm(small.norm, torch.cat(tokens, 1), normed[:, :, keep])
        grids = [x.shape[2:] for x, _ in levels]
        waves = [torch.cat([sincos(h, w, m.dim, "cpu") for h, w in grids]) for m in (big, small)]
        hidden = big.place[0](waves[0])
        kept = explain(F.relu(hidden), small.dim)
        ours = F.relu(fit_linear(small.place[0], waves[1], hidden[:, kept], 0))
        fit_linear(small.place[2], ours, big.place(waves[0])[:, keep])
        small.level.copy_(big.level[:, keep])
        places = []
        for m, wave in ((big, waves[0]), (small, waves[1])):
            level = torch.cat([m.level[i].expand(h * w, -1) for i, (h, w) in enumerate(grids)])
            places.append(m.place(wave) + level)
        out = []
        for i in range(len(big.keys)):
            heads = self.big.layers[i].cross.heads, self.small.layers[i].cross.heads
            key, value = big.keys[i](normed + places[0]), big.values[i](normed)
            kept = self.heads(value, *heads)
            k = fit_linear(small.keys[i], mine + places[1], key[..., kept])
            v = fit_linear(small.values[i], mine, value[..., kept])
            out.append(((key, value), (k, v), kept))
        return out

    def attend(self, big, small, kept, queries, keys_values, mine, goal):
        """Fits one attention's query and output; `goal` is what its output must add, on the kept channels."""
        (x, y), (yk, yv) = queries, keys_values
        fit_linear(small.q, y, big.q(x)[..., kept])
        mixed = F.scaled_dot_product_attention(small.split(small.q(y)), small.split(yk), small.split(yv))
        b, h, n, d = mixed.shape
        return mine + fit_linear(small.out, mixed.transpose(1, 2).reshape(b, n, h * d), goal - mine)

    def decoder(self, memory):
        """Returns the content of every task's queries after the last layer, {task: (big, small)}. A task attends only to itself."""
        batch = len(self.images)
        spans, first = {}, 0
        for task, queries in QUERIES.items():
            spans[task] = slice(first, first + queries)
            first += queries
        ends = torch.cat([self.big.decode(t, [m[0] for m in memory]) for t in QUERIES], 1)
        norms = [n for layer in self.big.layers for n in (layer.norm1, layer.norm2, layer.norm3)]
        keep = self.choose(ends.flatten(0, 1), self.small.content["age"].shape[1], *norms)
        for task in QUERIES:
            self.small.content[task].copy_(self.big.content[task][:, keep])
            self.small.position[task].copy_(self.big.position[task][:, keep])
        join = lambda net, table: torch.cat([getattr(net, table)[t] for t in QUERIES]).expand(batch, -1, -1)  # noqa: E731
        x, y = join(self.big, "content"), join(self.small, "content")
        px, py = join(self.big, "position"), join(self.small, "position")
        inside = torch.full((first, first), float("-inf"))
        for span in spans.values():
            inside[span, span] = 0.0
        for a, b, (theirs, ours, kept) in zip(self.big.layers, self.small.layers, memory):
            goal = x + a.cross(x + px, *theirs)
            y = self.attend(a.cross, b.cross, kept, (x + px, y + py), ours, y, goal[..., keep])
            x = a.norm1(goal)
            y = fit_layer_norm(b.norm1, y, x[..., keep])
            placed, mine = x + px, y + py
            key, value = a.self_key(placed), a.self_value(x)
            columns = self.heads(value, a.self_.heads, b.self_.heads)
            k, v = fit_linear(b.self_key, mine, key[..., columns]), fit_linear(b.self_value, y, value[..., columns])
            fit_linear(b.self_.q, mine, a.self_.q(placed)[..., columns])
            goal = x + self.within(a.self_, placed, key, value, inside, a.self_.out)
            y = y + fit_linear(b.self_.out, self.within(b.self_, mine, k, v, inside), goal[..., keep] - y)
            x = a.norm2(goal)
            y = fit_layer_norm(b.norm2, y, x[..., keep])
            up = a.up(x)
            hidden = self.choose(F.relu(up).flatten(0, 1), b.up.out_features, a.up)
            ours_up = F.relu(fit_linear(b.up, y, up[..., hidden], 0))
            goal = x + a.down(F.relu(up))
            y = y + fit_linear(b.down, ours_up, goal[..., keep] - y)
            x = a.norm3(goal)
            y = fit_layer_norm(b.norm3, y, x[..., keep])
        return {t: (x[:, s], y[:, s]) for t, s in spans.items()}

    @staticmethod
    def within(attention, query, key, value, inside, out=None):
        """Computes self-attention inside every task at once, before its output layer unless that is given."""
        mixed = F.scaled_dot_product_attention(*(attention.split(t) for t in (attention.q(query), key, value)), attn_mask=inside)
        b, h, n, d = mixed.shape
        mixed = mixed.transpose(1, 2).reshape(b, n, h * d)
        return out(mixed) if out else mixed

    def values(self, decoded):
        for task, answers in ANSWERS.items():
            x, y = decoded[task]
            goal = self.big.values(task, x)
            for query in range(QUERIES[task]):
                span = slice(query * answers, (query + 1) * answers)
                weight, bias = fit(y[:, query], goal[:, span], ridge=1e-2)
                self.small.value_weight[task][span] = weight
                self.small.value_bias[task][span] = bias

    def dense(self, maps, decoded):
        """Fits the pixel decoder and the mask embeddings; their product keeps the directions that matter most to it."""
        a, b = self.big.pixel, self.small.pixel
        (x4, y4), (x8, y8), (x16, y16) = ([m[:DENSE] for m in maps[k]] for k in ("f4", "f8", "f16"))
        deep, goal = a.deep(x16), a.deep(x16) + a.middle(x8)
        keep = explain(rows_of(F.relu(goal)), b.middle.out_channels)
        mine = fit_up(b.deep, y16, deep[:, keep])
        mine = F.relu(mine + fit_conv(b.middle, y8, goal[:, keep], mine))
        mixed = self.before_relu(a.mix, F.relu(goal))
        keep = self.choose(rows_of(F.relu(mixed)), b.mix[0].out_channels, a.mix)
        mine = F.relu(fit_norm(b.mix, mine, mixed[:, keep]))
        up = a.up4(F.relu(mixed))
        goal = up + a.skip(x4)
        keep = explain(rows_of(F.relu(goal)), b.skip.out_channels)
        mine = fit_up(b.up4, mine, up[:, keep])
        mine = F.relu(mine + fit_conv(b.skip, y4, goal[:, keep], mine))
        fine = self.before_relu(a.refine, F.relu(goal))
        keep = self.choose(rows_of(F.relu(fine)), b.refine[0].out_channels, a.refine)
        mine = F.relu(fit_norm(b.refine, mine, fine[:, keep]))
        pixels = a.up2(F.relu(fine))
        x, y = (torch.cat([decoded[t][i] for t in ("landmarks", "parsing")], 1) for i in (0, 1))
        embedded = self.big.mask_embed(x)
        left, right = product_basis(embedded.flatten(0, 1), rows_of(pixels), b.refine[0].out_channels)
        fit_up(b.up2, mine, torch.einsum("bchw,kc->bkhw", pixels, right))
        hidden = self.big.mask_embed[0](x)
        kept = explain(F.relu(hidden).flatten(0, 1), self.small.mask_embed[0].out_features)
        ours = F.relu(fit_linear(self.small.mask_embed[0], y, hidden[..., kept], 0))
        fit_linear(self.small.mask_embed[2], ours, embedded @ left)

    def feature(self, maps):
        a, b = self.big.feature, self.small.feature
        x, y = maps["f16"]
        goal = self.before_relu(a.squeeze, x)
        keep = explain(rows_of(F.relu(goal)), b.squeeze[0].out_channels)
        fit_norm(b.squeeze, y, goal[:, keep])
        b.weight.copy_(a.weight[:, keep])
        b.norm.load_state_dict(a.norm.state_dict())
        if x.shape[2:] != b.weight.shape[2:]:
            return  # the head's weights are resized to this input, and cannot be fitted by it
        # There are more weights than images: only the missing part is fitted, and drawn to zero.
        seen = b.squeeze(y).flatten(1)
        missing = F.linear(a.squeeze(x).flatten(1), a.weight.flatten(1)) - F.linear(seen, b.weight.flatten(1))
        kernel = (seen @ seen.T).double()
        kernel.diagonal().add_(FEATURE_RIDGE * kernel.diagonal().mean())
        b.weight.add_((torch.linalg.solve(kernel, missing.double()).T.float() @ seen).reshape(b.weight.shape))

    def auxiliary(self, maps):
        x, y = (m.mean((2, 3)) for m in maps["f16"])
        for task, head in self.big.auxiliary.items():
            weight, bias = fit(y, head(x), ridge=1e-2)
            self.small.auxiliary[task].weight.copy_(weight)
            self.small.auxiliary[task].bias.copy_(bias)


def rows(maps):
    """Reshapes [B, C, H, W] to tokens [B, H * W, C]."""
    return maps.flatten(2).transpose(1, 2)


def fit_up(up, x, target):
    """Fits an UpConv to a target of twice its input's side."""
    b, c, h, w = target.shape
    split = target.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, 4 * c, h // 2, w // 2)
    fit_conv(up.conv, x, split)
    return up(x)


def product_basis(left, right, rank):
    """Returns (A [n, rank], B [rank, n]) such that left @ A @ B @ right.T is as near to left @ right.T as this rank allows."""
    roots = []
    for rows_in in (left, right):
        values, vectors = torch.linalg.eigh((rows_in.T @ rows_in / len(rows_in)).double())
        root = values.clamp(min=1e-9).sqrt()
        roots.append((vectors * root @ vectors.T, vectors / root @ vectors.T))
    u, s, v = torch.linalg.svd(roots[0][0] @ roots[1][0])
    scale = s[:rank].sqrt()
    return (roots[0][1] @ u[:, :rank] * scale).float(), (scale[:, None] * v[:rank] @ roots[1][1]).float()


def main(arguments=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint", help="weights of the larger network")
    p.add_argument("--size", default="nano")
    p.add_argument("--faces", default="../../shared/faces")
    p.add_argument("--cache", required=True)
    p.add_argument("--images", type=int, default=1000, help="more are better, and cost memory: about 2 MB each")
    p.add_argument("--px", type=int, default=96)
    p.add_argument("--out", required=True)
    args = p.parse_args(arguments)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net, _ = load(args.checkpoint)
    images = calibration_images(args.faces, args.cache, args.px, args.images)
    small = Shrinking(net, Student(args.size, len(net.memory.level)), images).run()
    torch.save({"size": args.size, "step": 0, "average": small.state_dict()}, args.out)
    print(f"{args.out}: {sum(v.numel() for v in small.parameters()) / 1e6:.2f} M parameters from {args.checkpoint}")


if __name__ == "__main__":
    main()
