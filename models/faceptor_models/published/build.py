"""Builds a model for each system, in the size that a state's names and shapes show."""

import re

import torch

from faceptor_models.common.errors import Refused

from . import filters, official
from .checkpoint import listed, square_root
from .clip_vit import ClipVitConfig
from .decoder import DecoderConfig
from .dmlcsr import EXPANSION, DmlCsr, DmlCsrConfig
from .faceptor import Faceptor, FaceptorConfig
from .mae_vit import VitConfig, sincos_table
from .mcf import Mcf, McfConfig, McfEncoder
from .naive import NaiveConfig, NaiveFaceptor
from .tcdcn import Tcdcn, TcdcnConfig

NAIVE_MARKERS = (
    "recog.norm.weight", "recog.head.0.weight", "age.norm.weight", "biattr.norm.weight", "affect.norm.weight", "parsing.head.conv_seg.weight",
    "align.head.conv_seg.weight",
)  # fmt: skip
# These are more layers, classes or pixels than any network of this kind has: a hostile file must not make us build it.
LIMIT = 4096


def count(state, pattern):
    """Returns one more than the largest number in the names that match `pattern`, whose group is the number."""
    numbers = [int(m.group(1)) for m in (re.match(pattern, k) for k in state) if m]
    most = 1 + max(numbers, default=-1)
    if most > LIMIT:
        raise Refused(f"a name counts up to {most - 1}")
    return most


def size(state, name, axis, rank=None):
    tensor = state[name]
    if tensor.dim() <= axis or (rank is not None and tensor.dim() != rank) or not 0 < tensor.shape[axis] <= 10_000_000:
        raise Refused(f"tensor {name} has the shape {list(tensor.shape)}")
    return int(tensor.shape[axis])


def heads(given, default, width, what):
    """Returns the checked number of attention heads; `default` is the official one."""
    number = default if given is None else given
    if number < 1 or width % number:
        raise Refused(
            f"{number} attention heads{'' if given else ' (the official number; no tensor tells another)'} do not divide the {what}'s width {width}: "
            f"give the right number with --{what}-heads"
        )
    return number


def clip_vit(state, options):
    visual = "backbone_module.visual."
    width = size(state, visual + "class_embedding", 0, 1)
    grid = square_root(size(state, visual + "positional_embedding", 0, 2) - 1, "the position table")
    return ClipVitConfig(
        width=width,
        layers=count(state, re.escape(visual) + r"transformer\.resblocks\.(\d+)\."),
        heads=heads(options.encoder_heads, 12, width, "encoder"),
        patch=size(state, visual + "conv1.weight", 3, 4),
        mlp=size(state, visual + "transformer.resblocks.0.mlp.c_fc.weight", 0, 2),
        grid=grid,
        proj=size(state, visual + "proj", 1, 2),
    )


def check_levels(levels, layers, option):
    """Checks encoder blocks as given or as the official default, which needs the official number of blocks."""
    if any(not 0 <= level < layers for level in levels):
        raise Refused(f"the encoder has {layers} blocks, so levels {','.join(map(str, levels))} cannot be right: give them with {option}")
    return tuple(levels)


def check_task(task, options):
    """Returns the official task of that name, or the one that --like names for it."""
    like = options.like.get(task, task)
    if like not in official.TASKS:
        known = ", ".join(official.TASKS)
        raise Refused(f"unknown task {task}: known are {known}; --like {task}=NAME reads it as one of them")
    if official.type_of(like) != official.type_of(task):
        raise Refused(f"task {task} cannot be read as {like}: its type, the text before the first underscore, is another")


def split_losses(state):
    """Returns (state without the training losses, {name: reason why it is left out}, {recognition task: identities})."""
    skipped = {k: "class vectors of the training loss" for k in state if re.fullmatch(r"losses_module\.losses\.\w+\.classifier", k)}
    identities = {k.split(".")[2]: size(state, k, 0, 2) for k in skipped}
    return {k: v for k, v in state.items() if k not in skipped}, skipped, identities


def recognition_task(identities):
    """Returns the classifier's name; a file of stage 2 has none, and the official configuration has one such task."""
    names = [t for t in identities if official.type_of(t) == "recog"]
    if len(names) != len(identities) or len(names) > 1:
        raise Refused(f"training classifiers of {listed(identities)}: one recognition task is expected")
    return names[0] if names else "recog_ms1mv3"


def in_order(tasks):
    """Sorts official tasks in the order of the configuration, others after them."""
    order = list(official.TASKS)
    return dict(sorted(tasks.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def faceptor(state, options):
    state, skipped, identities = split_losses(state)
    encoder = clip_vit(state, options)
    decoder, notes = "heads_module.decoder.", []
    tasks = {}
    for name in state:
        match = re.fullmatch(re.escape(decoder) + r"query_feat\.(\w+)\.weight", name)
        if match:
            tasks[match.group(1)] = size(state, name, 0, 2)
    feature = "heads_module.interpreters.feature_v2.head."
    if any(k.startswith("heads_module.interpreters.feature_v2.") for k in state):
        tasks[recognition_task(identities)] = 2
    elif identities:
        raise Refused(f"it has {listed(skipped)}, but no interpreter feature_v2")
    if not tasks:
        raise Refused("it has no task: no query_feat and no interpreter feature_v2")
    for task in tasks:
        check_task(task, options)
    types = {official.type_of(t) for t in tasks}
    for interpreter, readers in (("value", set(official.TYPES) - {*official.DENSE, "recog"}), ("map_v2", set(official.DENSE))):
        if not types & readers:
            skipped |= {
                k: f"interpreter {interpreter}, which no task of the file has"
                for k in state
                if k.startswith(f"heads_module.interpreters.{interpreter}.")
            }
    state = {k: v for k, v in state.items() if k not in skipped}
    width = size(state, decoder + "level_embed.weight", 1, 2)
    levels, new = size(state, decoder + "level_embed.weight", 0), 0
    if any(k.startswith((decoder + "new_level_embed.", decoder + "new_input_proj.")) for k in state):
        new = size(state, decoder + "new_level_embed.weight", 0, 2)
    chosen = options.levels or ((11,) if levels == 1 else ())
    added = options.new_levels or ((1, 3, 5, 7, 9) if new == 5 else ())
    for given, found, option in ((chosen, levels, "--levels"), (added, new, "--new-levels")):
        if len(given) != found:
            raise Refused(f"it has {found} level embeddings, so {option} must name {found} encoder blocks")
    config = FaceptorConfig(
        tasks=in_order(tasks),
        encoder=encoder,
        decoder=DecoderConfig(
            width=width,
            heads=heads(options.decoder_heads, 8, width, "decoder"),
            layers=count(state, re.escape(decoder) + r"transformer_\w+_layers\.(\d+)\."),
            ffn=size(state, decoder + "transformer_ffn_layers.0.linear1.weight", 0, 2),
            levels=check_levels(chosen, encoder.layers, "--levels"),
            new_levels=check_levels(added, encoder.layers, "--new-levels"),
        ),
        feature_hidden=size(state, feature + "0.weight", 0, 2) if feature + "0.weight" in state else 768,
        embedding=size(state, feature + "2.weight", 0, 2) if feature + "2.weight" in state else 512,
    )
    if new:
        notes.append("with Layer-Attention (stage 2)")
    return Faceptor(config), state, skipped, notes


def naive(state, options):
    state, skipped, identities = split_losses(state)
    encoder = clip_vit(state, options)
    prefix = "heads_module.heads."
    kinds = {k[len(prefix) :].split(".")[0] for k in state if k.startswith(prefix)}
    unknown = kinds - set(official.TYPES)
    if unknown:
        raise Refused(f"unknown task type {listed(sorted(unknown))}: known are {', '.join(official.TYPES)}")
    tasks, extra = {}, {}
    for kind in official.TYPES:
        head = f"{prefix}{kind}."
        if kind not in kinds:
            continue
        if kind == "recog":
            tasks[recognition_task(identities)] = 2
            extra |= {"feature_hidden": size(state, head + "head.0.weight", 0, 2), "embedding": size(state, head + "head.2.weight", 0, 2)}
        elif kind in official.DENSE:
            tasks |= dense_tasks(kind, size(state, head + "head.conv_seg.weight", 0, 4), options)
            extra["map_width"] = size(state, head + "head.conv_seg.weight", 1, 4)
        else:
            found = {
                k[len(head + "fcs.") : -len(".weight")]: size(state, k, 0, 2) for k in state if re.fullmatch(re.escape(head) + r"fcs\.\w+\.weight", k)
            }
            if not found:
                raise Refused(f"its head {kind} has no layer fcs.TASK")
            tasks |= found
            extra |= {"value_width": size(state, head + "norm.weight", 0, 1), "squeeze": size(state, head + "channel_attention.mlp.1.weight", 0, 2)}
    for task in tasks:
        check_task(task, options)
    config = NaiveConfig(
        tasks=tasks,
        encoder=encoder,
        value_levels=check_levels(options.value_levels or (5, 7, 9, 11), encoder.layers, "--value-levels"),
        map_levels=check_levels(options.map_levels or (3, 5, 7, 11), encoder.layers, "--map-levels"),
        **extra,
    )
    return NaiveFaceptor(config), state, skipped, []


def dense_tasks(kind, outputs, options):
    """Returns the official tasks of a type whose outputs add up to `outputs`; the file does not name them."""
    if options.map_tasks is not None:
        chosen = {t: n for t, n in options.map_tasks.items() if official.type_of(t) == kind}
        if sum(chosen.values()) != outputs:
            raise Refused(f"--map-tasks names {sum(chosen.values())} outputs of type {kind}, the file has {outputs}")
        return chosen
    known = [(t, n) for t, n in official.TASKS.items() if official.type_of(t) == kind]
    fitting = []
    for mask in range(1, 1 << len(known)):
        chosen = dict(pair for i, pair in enumerate(known) if mask >> i & 1)
        if sum(chosen.values()) == outputs:
            fitting.append(chosen)
    if len(fitting) != 1:
        raise Refused(f"its {outputs} outputs of type {kind} are no sum of official tasks: name them with --map-tasks {kind}_NAME=COUNT,...")
    return fitting[0]


def vit(state, prefix, given, what):
    width = size(state, prefix + "cls_token", 2, 3)
    return VitConfig(
        width=width,
        layers=count(state, re.escape(prefix) + r"blocks\.(\d+)\."),
        heads=heads(given, 12, width, what),
        mlp=size(state, prefix + "blocks.0.mlp.fc1.weight", 0, 2),
        patch=size(state, prefix + "patch_embed.proj.weight", 3, 4),
        grid=square_root(size(state, prefix + "pos_embed", 1, 3) - 1, f"the position table {prefix}pos_embed"),
    )


def perceptual_heads(state, options):
    """Returns the encoder's number of heads unless the frozen network's width forbids it: only training needs the right one."""
    number, width = options.encoder_heads or 12, size(state, "perceptual_loss.model.cls_token", 2, 3)
    return number if width % number == 0 else 1


ONLINE = "online_encoder."
# Modules of an MCF file that only training needs; each is there as a whole or missing.
MCF_TRAINING = {
    "target_encoder": ("target_encoder.",),
    "predictor": ("predictor.",),
    "decoder": ("mask_token", "decoder_pos_embed", "decoder_embed.", "decoder_blocks.", "decoder_norm.", "decoder_pred."),
    "perceptual_loss": ("perceptual_loss.",),
}


def mcf(state, options):
    encoder = vit(state, ONLINE, options.encoder_heads, "encoder")
    absent = [m for m, starts in MCF_TRAINING.items() if not any(k.startswith(starts) for k in state)]
    alone = len(absent) == len(MCF_TRAINING)
    if alone and not any(k.startswith(ONLINE + "fc.") for k in state):
        projector = {"projector_hidden": 0}
    else:
        projector = {"projector_hidden": size(state, ONLINE + "fc.0.weight", 0, 2), "projector_out": size(state, ONLINE + "fc.3.weight", 0, 2)}
    ratio = 0.75 if options.mask_ratio is None else options.mask_ratio
    if not 0 < ratio < 1:
        raise Refused(f"a masking ratio of {ratio:g} is not between 0 and 1")
    if alone:
        notes = ["the online encoder alone"] + ([] if projector["projector_hidden"] else ["without its projector"])
        return McfEncoder(McfConfig(encoder=encoder, perceptual=None, mask_ratio=ratio, **projector)), state, {}, notes
    if absent and absent != ["perceptual_loss"]:
        raise Refused(f"it lacks {listed(absent)}: a checkpoint of MCF's pre-training has all of {', '.join(MCF_TRAINING)}")
    width = size(state, "mask_token", 2, 3)
    notes, perceptual, classes = [], None, 1000
    if not absent:
        perceptual = vit(state, "perceptual_loss.model.", options.perceptual_heads or perceptual_heads(state, options), "perceptual")
        head = "perceptual_loss.model.head.weight"
        classes = size(state, head, 0, 2) if head in state else classes
    else:
        notes.append("without the frozen perceptual network")
    if ratio != 0.75:
        notes.append(f"masking ratio {ratio:g} instead of 0.75")
    config = McfConfig(
        encoder=encoder,
        decoder_width=width,
        decoder_layers=count(state, r"decoder_blocks\.(\d+)\."),
        decoder_heads=heads(options.decoder_heads, 16, width, "decoder"),
        decoder_mlp=size(state, "decoder_blocks.0.mlp.fc1.weight", 0, 2),
        mask_ratio=ratio,
        **projector,
        predictor_hidden=size(state, "predictor.0.weight", 0, 2),
        perceptual=perceptual,
        perceptual_classes=classes,
    )
    return Mcf(config), state, {}, notes


def timm(state, options):
    """Builds an encoder with the names of timm's ViT, as MCF's files are converted for other programs, without prefix and projector."""
    skipped = {k: "a classifier behind the encoder" for k in state if re.fullmatch(r"head\.(weight|bias)", k)}
    kept = {ONLINE + k: v for k, v in state.items() if k not in skipped}
    model, kept, _, notes = mcf(kept, options)
    notes.append("named as timm's ViT: nothing says that MCF trained it")
    table = kept[ONLINE + "pos_embed"].float()
    with torch.device("cpu"):
        fixed = table.shape[-1] % 4 == 0 and torch.allclose(table, sincos_table(table.shape[-1], model.config.encoder.grid), atol=1e-3)
    if not fixed:
        notes.append("its table of positions is not MCF's fixed one")
    return model, kept, skipped, notes


def dmlcsr(state, options):
    widths = tuple(size(state, f"layer{i}.0.conv1.weight", 0, 4) for i in (1, 2, 3, 4))
    edges = any(k.startswith("edge_layer.") for k in state)
    config = DmlCsrConfig(
        classes=size(state, "layer6.conv4.weight", 0, 4),
        stem=tuple(size(state, f"conv{i}.weight", 0, 4) for i in (1, 2, 3)),
        blocks=tuple(count(state, rf"layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)),
        widths=widths,
        context=size(state, "context.conva.0.weight", 0, 4),
        head=(size(state, "layer6.conv1.0.weight", 0, 4), size(state, "layer6.conv2.0.weight", 0, 4)),
        edge=size(state, "edge_layer.conv1.0.weight", 0, 4) if edges else 256,
        edges=edges,
    )
    if any(size(state, f"layer{i}.0.conv3.weight", 0, 4) != w * EXPANSION for i, w in enumerate(widths, 1)):
        raise Refused(f"its blocks do not widen {EXPANSION} times, as those of this network do")
    return DmlCsr(config), state, {}, ["with edge branches"] if edges else ["without edge branches"]


def tcdcn(state, options):
    convs = filters.convolutions(state)
    if any(state[f"{c}.weight"].dim() not in (4, 6) for c in convs):
        raise Refused("a convolution's weight has neither four axes, [out, in, k, k], nor six, filters per region")
    state, layout = filters.unified(state, convs, options.filters)
    held = [state[f"{c}.weight"] for c in convs]
    kernels, widths = tuple(int(t.shape[-1]) for t in held), tuple(int(t.shape[-4]) for t in held)
    blocks = tuple(1 if t.dim() == 4 else int(t.shape[0]) for t in held)
    last = filters.inputs(state, widths[-1])
    side, sizes = filters.picture(last, kernels, blocks, options.size)
    heads_found = {k[: -len(".weight")]: size(state, k, 0, 2) for k in state if k.endswith(".weight") and not re.match(r"conv\d+\.|fc\.", k)}
    unknown = set(heads_found) - {"landmark", *official.TCDCN_HEADS}
    if unknown:
        raise Refused(f"unknown task {listed(sorted(unknown))}: known are landmark, {', '.join(official.TCDCN_HEADS)}")
    if heads_found.get("landmark", 0) % 2 or "landmark" not in heads_found:
        raise Refused("its landmark head is missing or has an odd number of coordinates")
    order = ["landmark", *official.TCDCN_HEADS]
    config = TcdcnConfig(side, widths, kernels, blocks, size(state, "fc.weight", 0, 2), {h: heads_found[h] for h in order if h in heads_found})
    notes = [f"for pictures of {side} x {side}, by the inputs of fc"] if side != filters.OFFICIAL else []
    if side != filters.OFFICIAL and options.size is None and len(sizes) > 1:
        notes.append(f"the sides {', '.join(map(str, sizes))} fit as well: --size for another")
    if layout != filters.OWN:
        notes.append(f"filters with the axes {layout}")
    absent = [h for h in order if h not in heads_found]
    return Tcdcn(config), state, {}, notes + ([f"without {listed(absent)}"] if absent else [])
