"""Makes tiny checkpoints in the official formats: wrappers, prefixes and names as in the official files."""

import argparse

import numpy as np
import torch

from faceptor_models.published import dmlcsr, faceptor, mcf, naive, official, tcdcn
from faceptor_models.published.clip_vit import ClipVitConfig
from faceptor_models.published.decoder import DecoderConfig
from faceptor_models.published.mae_vit import VitConfig

VIT = ClipVitConfig(width=24, layers=12, heads=4, patch=16, mlp=48, grid=4, proj=8)
TASKS = {
    "recog_ms1mv3": 2, "age_morph2": 101, "biattr_celeba": 40, "affect_rafdb": 7, "parsing_celebam": 19, "parsing_lapa": 11, "align_300w": 68,
    "align_aflw": 19,
}  # fmt: skip
DECODER = DecoderConfig(width=16, heads=4, layers=2, ffn=32)


def shaken(model, seed=0):
    """Fills every tensor with random values, so that no default hides a tensor that was not loaded; statistics stay positive."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point():
                spread = 0.3 if tensor.dim() < 2 else 1.5 / max(1, tensor[0].numel()) ** 0.5
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)
            else:
                tensor.fill_(7)
    return model.eval()


def faceptor_model(new_levels=(), tasks=TASKS):
    decoder = DecoderConfig(DECODER.width, DECODER.heads, DECODER.layers, DECODER.ffn, new_levels=new_levels)
    return shaken(faceptor.Faceptor(faceptor.FaceptorConfig(dict(tasks), VIT, decoder, 24, 12, {"recog_ms1mv3": 5})))


def naive_model(tasks=None):
    tasks = tasks or {t: official.TASKS[t] for t in official.BASE_TASKS}
    identities = {"recog_ms1mv3": 5} if "recog_ms1mv3" in tasks else {}
    config = naive.NaiveConfig(tasks, VIT, 24, 12, value_width=16, squeeze=2, map_width=8, identities=identities)
    return shaken(naive.NaiveFaceptor(config))


def ddp(model, **more):
    """Wraps a state as a DistributedDataParallel training saves it."""
    return {
        "step": 50000,
        "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()},
        "optimizer": {"state": {}, "param_groups": []},
    } | more


def mcf_model():
    encoder = VitConfig(width=24, layers=12, heads=4, mlp=48, patch=8, grid=4)
    config = mcf.McfConfig(
        encoder, decoder_width=16, decoder_layers=2, decoder_heads=4, decoder_mlp=32, projector_hidden=20, projector_out=6, predictor_hidden=10,
        perceptual=VitConfig(width=12, layers=12, heads=4, mlp=24, patch=8, grid=4), perceptual_classes=9,
    )  # fmt: skip
    return shaken(mcf.Mcf(config))


def mcf_file(model):
    args = argparse.Namespace(batch_size=64, blr=1.5e-4, output_dir="out", mask_ratio=0.75)
    return {"model": model.state_dict(), "optimizer": {"state": {}, "param_groups": []}, "epoch": 15, "scaler": {}, "args": args}


def dmlcsr_model(classes=19, edges=True):
    config = dmlcsr.DmlCsrConfig(classes, (4, 4, 6), (2, 2, 4, 2), (4, 4, 6, 6), 16, (8, 4), 6, edges)
    return shaken(dmlcsr.DmlCsr(config))


def tcdcn_model(blocks=(1, 1, 1, 1), **more):
    return shaken(tcdcn.Tcdcn(tcdcn.TcdcnConfig(widths=(4, 6, 8, 8), blocks=blocks, features=12, **more)))


def save(path, held):
    torch.save(held, path)
    return path


def save_npz(path, state):
    np.savez(path, **{k: v.numpy() for k, v in state.items()})
    return path
