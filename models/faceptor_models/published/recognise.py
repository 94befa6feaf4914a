"""Recognises the system and the size of a checkpoint from its names and shapes; options give what shapes do not show."""

import argparse
import copy
from dataclasses import dataclass, field

import torch

from faceptor_models.common.errors import Refused

from . import build
from .checkpoint import check_fit, is_state, load
from .mcf import McfEncoder


@dataclass
class Options:
    """Holds what the file does not show, each None for the official default."""

    prefix: str | None = None
    encoder_heads: int | None = None
    decoder_heads: int | None = None
    perceptual_heads: int | None = None
    mask_ratio: float | None = None
    levels: tuple | None = None
    new_levels: tuple | None = None
    value_levels: tuple | None = None
    map_levels: tuple | None = None
    # Naive Faceptor's dense tasks, {task: outputs} in order.
    map_tasks: dict | None = None
    # TCDCN's: order of the axes of filters per region, side of the pictures.
    filters: str | None = None
    size: int | None = None
    # {task of the file: official task whose preprocessing and class names it has}
    like: dict = field(default_factory=dict)
    # Names of the tasks to export; None for all.
    tasks: tuple | None = None


@dataclass
class Recognised:
    system: str
    model: object
    # Tensors left out on purpose: {name: reason}.
    skipped: dict
    notes: list
    # Tensors of the file that the model holds.
    used: int


@dataclass(frozen=True)
class System:
    name: str
    title: str
    wrapper: str | None
    prefix: str
    # Endings of names that only this system has; one is enough.
    markers: tuple
    builder: object


SYSTEMS = [
    System(
        "faceptor",
        "Faceptor",
        "state_dict",
        "module.",
        ("heads_module.decoder.level_embed.weight", "heads_module.decoder.adapt_pos2d.0.weight"),
        build.faceptor,
    ),
    System("naive", "Naive Faceptor", "state_dict", "module.", tuple(f"heads_module.heads.{k}" for k in build.NAIVE_MARKERS), build.naive),
    System(
        "mcf", "MCF", "model", "", ("online_encoder.patch_embed.proj.weight", "online_encoder.cls_token", "online_encoder.norm.weight"), build.mcf
    ),
    System("mcf", "MCF's encoder by itself", None, "", ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), build.timm),
    System("dmlcsr", "DML-CSR", None, "", ("context.dualgcn.gamma1", "context.dualgcn.phi.weight", "layer6.conv4.weight"), build.dmlcsr),
    System("tcdcn", "TCDCN", None, "", ("landmark.weight", "landmark.bias"), build.tcdcn),
]
WRAPPERS = ("state_dict", "model")
# The classifier of MCF's frozen network, which no code reads.
UNUSED = ("perceptual_loss.model.head.weight", "perceptual_loss.model.head.bias")
# Systems with attention, and the options that give their numbers of heads.
HEADS = {"faceptor": ("encoder_heads", "decoder_heads"), "naive": ("encoder_heads",), "mcf": ("encoder_heads", "decoder_heads")}


def states(held):
    """Returns [(wrapper, {name: tensor})] of everything in the file that could be a model's state."""
    if is_state(held):
        return [(None, held)]
    if not isinstance(held, dict):
        raise Refused(f"the file holds a {type(held).__name__}, not named tensors")
    # The order is official names first, then any other.
    found = [(w, held[w]) for w in (*WRAPPERS, *(k for k in held if k not in WRAPPERS)) if is_state(held.get(w))]
    if not found:
        keys = ", ".join(str(k)[:40] for k in list(held)[:8])
        raise Refused(f"the file holds no named tensors, neither itself nor under {' or '.join(WRAPPERS)}; it has: {keys or 'nothing'}")
    return found


def identify(held):
    """Returns (system, wrapper, state, prefix found)."""
    for wrapper, state in states(held):
        for system in SYSTEMS:
            for marker in system.markers:
                # A marker stands alone or after a prefix that ends in a point.
                prefixes = [k[: -len(marker)] for k in state if k == marker or k.endswith("." + marker)]
                if prefixes:
                    return system, wrapper, state, min(prefixes, key=len)
    names = ", ".join(list(states(held)[0][1])[:4])
    known = ", ".join(s.title for s in SYSTEMS)
    raise Refused(f"this is no checkpoint of {known}: its tensors are named {names}, ...")


def without_prefix(system, state, found, options):
    """Returns the state without its prefix; another prefix than the official one must be named."""
    prefix = system.prefix if options.prefix is None else options.prefix

    def quoted(p):
        return f'begin with "{p}"' if p else "have no prefix"

    if found != prefix:
        expected = "the official file's" if options.prefix is None else "by --prefix, the"
        raise Refused(f"wrong prefix: {expected} names of {system.title} {quoted(prefix)}, this file's {quoted(found)} (--prefix '{found}' reads it)")
    others = [k for k in state if not k.startswith(prefix)]
    if others:
        raise Refused(f'{len(others)} names lack the prefix "{prefix}" of the others, {others[0]} for one')
    return {k[len(prefix) :]: v for k, v in state.items()}


def settings_of(held, options):
    """Completes the options by the file's own settings (`args`) of its network."""
    said = held.get("args") if isinstance(held, dict) else None
    ratio = (said if isinstance(said, dict) else vars(said) if isinstance(said, argparse.Namespace) else {}).get("mask_ratio")
    if options.mask_ratio is None and isinstance(ratio, float) and 0 < ratio < 1:
        options = copy.copy(options)
        options.mask_ratio = ratio
    return options


def has_decoder(model):
    # MCF has it unless the file is the encoder alone.
    return not isinstance(model, McfEncoder)


def recognise(held, options):
    """Returns the model in evaluation mode with every tensor of the file loaded, or raises Refused."""
    system, wrapper, state, found = identify(held)
    if system.name == "mcf":
        options = settings_of(held, options)
    state = without_prefix(system, state, found, options)
    try:
        # The model is first built without memory: a hostile file's sizes count only when its tensors have them.
        with torch.device("meta"):
            draft, used, skipped, notes = system.builder(state, options)
        unused = () if any(name in used for name in UNUSED) else UNUSED
        check_fit(draft, used, optional=("num_batches_tracked", ".ln.weight", ".ln.bias", *unused))
        model = load(system.builder(state, options)[0], used)
    except Refused as error:
        raise Refused(f"this looks like {system.title}, but {error}") from None
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        reason = f"tensor {error} is missing" if isinstance(error, KeyError) else str(error)
        raise Refused(f"this looks like {system.title}, but {reason}") from error
    if wrapper != system.wrapper:
        where = f'under "{wrapper}"' if wrapper else "at its top"
        notes.append(f"the tensors lie {where}, where the official file has {system.wrapper or 'no wrapper'}")
    assumed = [o for o in HEADS.get(system.name, ()) if getattr(options, o) is None and (o == "encoder_heads" or has_decoder(model))]
    if assumed:
        given = " and ".join(f"--{o.replace('_', '-')}" for o in assumed)
        notes.append(f"attention heads as in the official file, no tensor tells them: {given} for others")
    return Recognised(system.name, model, skipped, notes, len(used))
