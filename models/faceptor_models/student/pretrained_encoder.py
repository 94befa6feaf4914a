"""Loads an encoder that was trained elsewhere: by `faceptor-models pretrain`, or as a part of a trained network."""

import torch

from .network import SIZES


def load_encoder(net, file):
    """Loads the encoder of `file` into `net.encoder`; everything else keeps its weights.

    `file` holds {"size": ..., "encoder": {name: tensor}}, or {"size": ..., "average": {...}} with a network's weights.
    """
    held = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(held, dict) and "average" in held:
        prefix = "encoder."
        held = {"size": held.get("size"), "encoder": {k.removeprefix(prefix): v for k, v in held["average"].items() if k.startswith(prefix)}}
    if not isinstance(held, dict) or "encoder" not in held:
        raise ValueError(f"{file} holds no encoder: expected is what `faceptor-models pretrain` writes, or a network's weights")
    size, shape = held.get("size"), ("widths", "blocks")
    if size not in SIZES or any(SIZES[size][k] != SIZES[net.size][k] for k in shape):
        raise ValueError(f"{file} holds an encoder of size {size}, the network is {net.size}")
    net.encoder.load_state_dict(held["encoder"])
