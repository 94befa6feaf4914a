"""Implements MCF: masked contrastive pre-training of a ViT with a frozen perceptual network in the decoder."""

import copy
from dataclasses import dataclass

import torch
from torch import nn

from . import mcf_encoders
from .clip_vit import ClipVitConfig
from .frozen_networks import PERCEPTUAL_LEVELS, Perceptual
from .mae_vit import Block, VitConfig, sincos_table
from .mcf_encoders import ConvConfig


@dataclass(frozen=True)
class McfConfig:
    encoder: VitConfig | ClipVitConfig | ConvConfig = VitConfig()
    decoder_width: int = 512
    decoder_layers: int = 8
    decoder_heads: int = 16
    decoder_mlp: int = 2048
    projector_hidden: int = 4096
    projector_out: int = 256
    predictor_hidden: int = 4096
    # The official frozen network; None for a file without it, or where `Mcf` gets another one.
    perceptual: VitConfig | None = VitConfig()
    perceptual_classes: int = 1000
    mask_ratio: float = 0.75
    momentum: float = 0.99
    temperature: float = 0.2


class Mcf(nn.Module):
    """Holds the two encoders and the decoder; `frozen` replaces the official network after the decoder (`frozen_networks.py`)."""

    def __init__(self, config, frozen=None):
        super().__init__()
        c = self.config = config
        self.online_encoder = mcf_encoders.build(c.encoder, c.projector_hidden, c.projector_out)
        self.target_encoder = copy.deepcopy(self.online_encoder)
        self.target_encoder.requires_grad_(False)
        out, hidden = c.projector_out, c.predictor_hidden
        self.predictor = nn.Sequential(nn.Linear(out, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out, bias=False))
        width, patch = c.decoder_width, c.encoder.patch
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.decoder_pos_embed = nn.Parameter(sincos_table(width, c.encoder.grid), requires_grad=False)
        self.decoder_embed = nn.Linear(c.encoder.width, width)
        self.decoder_blocks = nn.ModuleList([Block(width, c.decoder_heads, c.decoder_mlp) for _ in range(c.decoder_layers)])
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, patch * patch * 3)
        if frozen is not None:
            self.perceptual_loss = frozen.requires_grad_(False)
        elif c.perceptual is not None:
            self.perceptual_loss = Perceptual(c.perceptual, c.perceptual_classes)

    def train(self, mode=True):
        super().train(mode)
        if hasattr(self, "perceptual_loss"):
            self.perceptual_loss.eval()
        return self

    def decode(self, latent, ids_restore):
        """Maps normed tokens of the kept patches to patch vectors [B, N, patch * patch * 3] of the pseudo image."""
        x = self.decoder_embed(latent)
        b, n = ids_restore.shape
        fill = self.mask_token.expand(b, n + 1 - x.shape[1], -1)
        patches = torch.cat([x[:, 1:], fill], 1)
        patches = torch.gather(patches, 1, ids_restore[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :1], patches], 1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]

    def unpatchify(self, vectors):
        """Maps patch vectors in the order row, column, channel to images [B, 3, S, S]."""
        patch, grid = self.config.encoder.patch, self.config.encoder.grid
        x = vectors.reshape(-1, grid, grid, patch, patch, 3)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, 3, grid * patch, grid * patch)

    @torch.no_grad()
    def update_target(self, momentum=None):
        """Updates theta_target <- m theta_target + (1 - m) theta_online over the parameters; batch statistics stay its own."""
        m = self.config.momentum if momentum is None else momentum
        for target, online in zip(self.target_encoder.parameters(), self.online_encoder.parameters()):
            target.mul_(m).add_(online, alpha=1 - m)

    def forward(self, image, noise_online=None, noise_target=None, momentum=None):
        """Returns one step's outputs: pseudo image, query and key of the contrast, perceptual features of both images.

        The target follows the online encoder here, before it computes the key, as in the official code.
        """
        c = self.config
        shape = (image.shape[0], c.encoder.grid**2)
        noise_online = torch.rand(shape, device=image.device) if noise_online is None else noise_online
        noise_target = torch.rand(shape, device=image.device) if noise_target is None else noise_target
        latent, mask, ids_restore = self.online_encoder.masked(image, noise_online, c.mask_ratio)
        query = self.predictor(self.online_encoder.fc(latent[:, 0]))
        vectors = self.decode(latent, ids_restore)
        pseudo = self.unpatchify(vectors)
        with torch.no_grad():
            self.update_target(momentum)
            key = self.target_encoder.fc(self.target_encoder.masked(image, noise_target, c.mask_ratio)[0][:, 0])
        out = {"latent": latent, "mask": mask, "ids_restore": ids_restore, "decoder_pred": vectors, "pseudo": pseudo, "query": query, "key": key}
        if hasattr(self, "perceptual_loss"):
            with torch.no_grad():
                out["features_real"] = self.perceptual_loss(image)
            out["features_pseudo"] = self.perceptual_loss(pseudo)
        return out


class McfEncoder(nn.Module):
    """Holds the online encoder of a file that contains nothing else."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.online_encoder = mcf_encoders.build(config.encoder, config.projector_hidden, config.projector_out)


@torch.no_grad()
def run_arrays(model, arrays):
    """Maps `image` (and `noise_online`) to the arrays that the references hold."""
    image = torch.from_numpy(arrays["image"]).float()
    encoder = model.online_encoder
    features = encoder.features(image)
    out = {"vit_cls": encoder.norm(features[-1])[:, 0]}
    out |= {f"vit_block{i:02d}": features[i] for i in PERCEPTUAL_LEVELS if i < len(features)}
    if "noise_online" in arrays:
        # Kept in float64: numbers that differ only there have an order too.
        noise = torch.from_numpy(arrays["noise_online"])
        latent, mask, ids_restore = encoder.masked(image, noise, model.config.mask_ratio)
        out |= {"latent": latent, "mask": mask, "ids_restore": ids_restore}
        if hasattr(model, "decoder_pred"):
            out["decoder_pred"] = model.decode(latent, ids_restore)
    return {k: v.numpy() for k, v in out.items()}
