"""Starts a student with an encoder that was trained elsewhere, as `faceptor-models pretrain` writes it."""

import torch


def load_encoder(net, file):
    """Loads {"size": ..., "encoder": {name: tensor}} into `net.encoder`; everything else stays as it was made."""
    held = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(held, dict) or "encoder" not in held:
        raise ValueError(f"{file} holds no encoder: expected is what `faceptor-models pretrain` writes")
    if held.get("size") != net.size:
        raise ValueError(f"{file} holds an encoder of size {held.get('size')}, the network is {net.size}")
    net.encoder.load_state_dict(held["encoder"])
