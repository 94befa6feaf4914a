"""Tests MCF pre-training of the three kinds of encoders: masks, target, frozen networks, losses, files, several processes."""

import math
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from faceptor_models.common.distributed import World
from faceptor_models.common.errors import Refused
from faceptor_models.published import frozen_networks, mcf, recognise
from faceptor_models.published.checkpoint import read
from faceptor_models.published.clip_vit import ClipVitConfig
from faceptor_models.published.decoder import DecoderConfig
from faceptor_models.published.faceptor import Faceptor, FaceptorConfig
from faceptor_models.published.mae_vit import VitConfig
from faceptor_models.published.mcf_encoders import ClipEncoder, ConvConfig, ConvEncoder, VitEncoder, choose
from faceptor_models.published.recipes.faceptor import load_farl
from faceptor_models.published.recipes.mcf import momentum_at
from faceptor_models.published.recipes.run import Run
from faceptor_models.student.network import Student
from faceptor_models.student.pretrained_encoder import load_encoder
from tests import small_crops
from tests.two_processes import run_on_two_processes

torch.set_num_threads(1)
SMALL = [
    "run.precision=float32", "encoder={width=16,layers=2,heads=2,mlp=24,patch=8,grid=4}", "decoder={width=16,layers=1,heads=2,mlp=24}",
    "frozen.kind=pixels",
    "contrast={projector_hidden=12,projector_out=8,predictor_hidden=12}", "task.batch=6", "schedule={epochs=3.0,warm=1.0,per_epoch=2}",
]  # fmt: skip
STUDENT = ["encoder={kind='student',size='nano',grid=3}", "input={look='student',mean=[0.5,0.5,0.5],std=[0.5,0.5,0.5]}", "masking.ratio=0.6"]
CLIP = ["encoder.kind=clip"]
CROPS = small_crops.crops(8)


def made(*changes, world=None):
    recipe, held = small_crops.prepared("mcf.toml", *SMALL, *changes)
    torch.manual_seed(0)
    return recipe(held, CROPS, world or World())


def run(out, *changes, resume=False, world=None):
    recipe, held = small_crops.prepared("mcf.toml", *SMALL, *changes)
    world = world or World()
    torch.manual_seed(held.run.seed)
    return Run(recipe(held, CROPS, world), held, out, world, resume, log=lambda *a: None)


def tensors(arrays):
    return {k: torch.from_numpy(v) for k, v in arrays.items()}


def test_the_convolution_sees_only_kept_patches_and_returns_their_places():
    torch.manual_seed(0)
    encoder = ConvEncoder(ConvConfig("nano", 3), 12, 8).eval()
    image, noise = torch.randn(2, 3, 48, 48), torch.rand(2, 9)
    latent, mask, restore = encoder.masked(image, noise, 0.6)
    # int(9 * 0.4) = 3 patches stay, and their mean before the norm stands for the class token.
    assert latent.shape == (2, 4, 128) and mask.sum(1).tolist() == [6, 6]
    places, again, _ = choose(noise, 0.6)
    assert torch.equal(mask, again) and torch.equal(torch.argsort(noise)[:, :3], places)
    area = mask.reshape(2, 1, 3, 3).repeat_interleave(16, 2).repeat_interleave(16, 3)
    torch.testing.assert_close(encoder.masked(image + 5 * area * torch.randn_like(image), noise, 0.6)[0], latent)
    assert not torch.allclose(encoder.masked(image + 5 * (1 - area), noise, 0.6)[0], latent)
    whole = encoder.body(image * (1 - area))[-1].flatten(2).transpose(1, 2)
    for i in range(2):
        kept = whole[i, places[i]]
        torch.testing.assert_close(latent[i], encoder.norm(torch.cat([kept.mean(0, keepdim=True), kept])))
        assert [int(restore[i, p]) for p in places[i]] == [0, 1, 2]
    with pytest.raises(ValueError, match="48 x 48"):
        encoder.masked(torch.zeros(1, 3, 64, 64), noise[:1], 0.6)


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_without_masking_a_vit_returns_its_own_tokens(kind):
    torch.manual_seed(0)
    shape = {"width": 16, "layers": 2, "heads": 2, "mlp": 24, "patch": 8, "grid": 3}
    image, noise = torch.randn(2, 3, 24, 24), torch.rand(2, 9)
    if kind == "vit":
        encoder = VitEncoder(VitConfig(**shape), 12, 8).eval()
        expected = encoder.norm(encoder.features(image)[-1])[:, 1:]
    else:
        encoder = ClipEncoder(ClipVitConfig(**shape), 12, 8).eval()
        expected = encoder.visual.ln_post(encoder.visual(image)[-1].flatten(2).transpose(1, 2))
    latent, mask, restore = encoder.masked(image, noise, 0.0)
    assert mask.sum() == 0
    torch.testing.assert_close(torch.gather(latent[:, 1:], 1, restore[..., None].expand(-1, -1, 16)), expected)


@pytest.mark.parametrize("count, ratio, kept", [(196, 0.75, 49), (16, 0.6, 6), (9, 0.0, 9)])
def test_the_masking_ratio_rounds_the_kept_patches_down(count, ratio, kept):
    places, mask, restore = choose(torch.rand(3, count), ratio)
    assert places.shape == (3, kept) and mask.sum(1).tolist() == [count - kept] * 3
    assert torch.equal(torch.sort(restore, 1).values, torch.arange(count).expand(3, -1))
    # Restored, the kept come first: the mask is 0 exactly where the place in the shuffled order is below their count.
    assert torch.equal(mask, (restore >= kept).float())
    with pytest.raises(ValueError):
        choose(torch.rand(1, 4), 0.9)


def test_momentum_is_constant_or_rises_to_one():
    assert [momentum_at(i, 100, 0.99, "constant") for i in (0, 50, 100)] == [0.99] * 3
    assert [momentum_at(i, 100, 0.99, "cosine") for i in (0, 50, 100)] == pytest.approx([0.99, 0.995, 1.0])
    assert momentum_at(25, 100, 0.9, "cosine") == pytest.approx(1 - 0.1 * 0.5 * (1 + math.cos(math.pi / 4)))


@pytest.mark.parametrize("changes", [[], STUDENT, CLIP], ids=["vit", "student", "clip"])
def test_losses_follow_the_formulas_and_gradients_stop_where_they_must(changes):
    recipe = made(*changes, "target.momentum=0.75")
    model, batch = recipe.model.train(), tensors(recipe.batch(0))
    online, target = ({k: v.detach().clone() for k, v in e.named_parameters()} for e in (model.online_encoder, model.target_encoder))
    for parameter in model.target_encoder.parameters():
        parameter.data.add_(0.5)
    torch.manual_seed(1)
    image = recipe.normal(batch["image"])
    terms = recipe.losses(model, batch)
    # The target has moved by a quarter of the way to the online encoder before its keys were computed.
    for k, v in model.target_encoder.named_parameters():
        torch.testing.assert_close(v.detach(), 0.75 * (target[k] + 0.5) + 0.25 * online[k])
    latent, _, restore = model.online_encoder.masked(image, batch["noise_online"], recipe.config.mask_ratio)
    with torch.no_grad():
        key = model.target_encoder.fc(model.target_encoder.masked(image, batch["noise_target"], recipe.config.mask_ratio)[0][:, 0])
    query = model.predictor(model.online_encoder.fc(latent[:, 0]))
    cosine = F.normalize(query, dim=1) @ F.normalize(key, dim=1).T / 0.2
    contrast = 0.4 * (torch.logsumexp(cosine, 1) - cosine.diagonal()).mean()
    assert float(terms["contrast"]) == pytest.approx(float(contrast), rel=1e-4)
    # Pixels: each of a patch's numbers, its values over the patches of unit length, the whole image counted.
    patch, grid = recipe.config.encoder.patch, recipe.config.encoder.grid

    def numbers(x):
        x = x.reshape(6, 3, grid, patch, grid, patch).permute(0, 1, 3, 5, 2, 4).reshape(6, -1, grid * grid)
        return x / x.norm(dim=2, keepdim=True)

    pseudo = model.unpatchify(model.decode(latent, restore))
    expected = ((numbers(pseudo) - numbers(image)) ** 2).mean()
    assert float(terms["reconstruction"]) == pytest.approx(float(expected), rel=1e-4)
    total = recipe.total(terms)
    assert float(total) == pytest.approx(1000 * float(terms["reconstruction"]) + float(terms["contrast"]), rel=1e-6)
    total.backward()
    assert all(p.grad is None for p in model.target_encoder.parameters())
    trained = [n for n, p in model.online_encoder.named_parameters() if p.requires_grad and "proj" not in n.split(".")[-1]]
    assert all(model.online_encoder.get_parameter(n).grad is not None for n in trained)
    assert float(model.decoder_pred.weight.grad.abs().sum()) > 0 and float(model.predictor[3].weight.grad.abs().sum()) > 0


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.PReLU(4), nn.Conv2d(4, 4, 3, 1, 1, groups=2), nn.ReLU6(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(4, 6, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(6 * 4 * 4, 5),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path, model = tmp_path_factory.mktemp("onnx") / "small.onnx", small_network()
    model[1].running_mean.normal_()
    torch.onnx.export(model, torch.zeros(1, 3, 16, 16), str(path), dynamo=False, input_names=["image"], output_names=["out"])
    return path, model


def test_a_frozen_onnx_network_returns_its_maps_and_passes_gradients(network):
    path, model = network
    maps = frozen_networks.OnnxMaps(path, 16, mean=(0.2, 0.3, 0.4), std=(0.5, 0.25, 1.0), given=((0.5,) * 3, (0.5,) * 3))
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    wanted = ((image + 1) / 2 - torch.tensor([0.2, 0.3, 0.4]).reshape(1, 3, 1, 1)) / torch.tensor([0.5, 0.25, 1.0]).reshape(1, 3, 1, 1)
    # The last map of 8x8 places and the last of 4x4: before the pooling and before the flattening.
    found = maps(image)
    for got, expected in zip(found, (model[:5](wanted), model[:8](wanted)), strict=True):
        torch.testing.assert_close(got, expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
    assert not list(maps.state_dict()) and not list(maps.parameters())
    image.requires_grad_(True)
    maps(image)[1].sum().backward()
    assert float(image.grad.abs().sum()) > 0
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.run(None, {"image": wanted[:1].detach().numpy()})[0].shape == (1, 5)


def test_frozen_networks_that_do_not_fit_are_refused(network, tmp_path):
    path, _ = network
    with pytest.raises(Refused, match="no tensor nose"):
        frozen_networks.OnnxMaps(path, 16, names=["nose"])
    with pytest.raises(Refused, match="at least 4x4"):
        frozen_networks.OnnxMaps(path, 4)
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"no network")
    with pytest.raises(Refused, match="cannot read"):
        frozen_networks.OnnxMaps(wrong)
    torch.save({"state_dict": {"module.base_encoder.cls_token": torch.zeros(1, 1, 8)}}, tmp_path / "moco.pth")
    with pytest.raises(Refused, match="MoCo"):
        frozen_networks.moco(tmp_path / "moco.pth", VitConfig(width=8, layers=1, heads=2, mlp=8, patch=8, grid=2))


def test_the_official_moco_file_is_read_without_its_head(tmp_path):
    config = VitConfig(width=8, layers=6, heads=2, mlp=8, patch=8, grid=2)
    source = frozen_networks.Perceptual(config, 3)
    state = {f"module.base_encoder.{k}": v for k, v in source.model.state_dict().items() if not k.startswith("head.")}
    state |= {"module.base_encoder.head.0.weight": torch.zeros(2, 2), "module.momentum_encoder.cls_token": torch.zeros(1)}
    torch.save({"state_dict": state, "args": None}, tmp_path / "moco.pth")
    read_back = frozen_networks.moco(tmp_path / "moco.pth", config, 3)
    image = torch.randn(1, 3, 16, 16)
    assert len(read_back(image)) == 2 and torch.equal(read_back(image)[1], source(image)[1])


def test_invalid_settings_are_refused():
    wrong = (
        "encoder.kind=cnn",
        "frozen.kind=moco",
        "masking.ratio=1.0",
        "input.look=upside",
        "input.sources=['nobody']",
        "stopping.every=3",
        "encoder.heads=3",
    )
    for change in wrong:
        with pytest.raises(Refused):
            made(change)


def test_rate_and_decay_are_those_of_the_paper():
    recipe = made("optimizer.blr=1.5e-4", "task.batch=64", "schedule={epochs=16.0,warm=1.0,per_epoch=100}")
    peak = 1.5e-4 * 64 / 256
    assert [recipe.rate(i, 1.0) for i in (0, 50, 100, 850, 1600)] == pytest.approx([0, peak / 2, peak, peak / 2, 0])
    wide, flat = recipe.optimizer().param_groups
    assert (wide["weight_decay"], flat["weight_decay"]) == (0.05, 0.0) and wide["betas"] == (0.9, 0.95)
    assert all(p.ndim > 1 for p in wide["params"]) and all(p.ndim <= 1 for p in flat["params"])


@pytest.mark.parametrize("changes", [[], STUDENT], ids=["vit", "student"])
def test_a_resumed_pre_training_repeats_an_unbroken_one(changes, tmp_path):
    whole = run(tmp_path / "whole", *changes).train()
    run(tmp_path / "parts", *changes).train(until=2)
    assert run(tmp_path / "parts", *changes, resume=True).train() == whole
    assert len(whole) == 6 and len({r["loss"] for r in whole}) == 6
    states = [torch.load(tmp_path / p / "checkpoint.pt", weights_only=True)["model"] for p in ("whole", "parts")]
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_the_vit_is_written_as_an_mcf_checkpoint_that_import_reads(tmp_path):
    trained = run(tmp_path)
    trained.train(until=1)
    found = recognise.recognise(read(tmp_path / "model.pth"), recognise.Options(encoder_heads=2, decoder_heads=2))
    assert found.system == "mcf" and found.model.config.perceptual is None
    image = torch.randn(1, 3, 32, 32)
    ours = trained.recipe.model.eval().online_encoder
    torch.testing.assert_close(found.model.online_encoder.features(image)[-1], ours.features(image)[-1])


def test_the_student_starts_with_its_encoder_and_statistics_of_whole_images(tmp_path):
    trained = run(tmp_path, *STUDENT)
    trained.train(until=1)
    net = Student("nano")
    before = net.encoder.stem[0].weight.detach().clone()
    load_encoder(net, tmp_path / "model.pth")
    body = trained.recipe.model.online_encoder.body
    assert torch.equal(net.encoder.stem[0].weight, body.stem[0].weight) and not torch.equal(net.encoder.stem[0].weight, before)
    images = [trained.recipe.normal(torch.from_numpy(trained.recipe.batch(i)["image"])) for i in range(6)]
    with torch.no_grad():
        means = [body.stem[0](x).mean((0, 2, 3)) for x in images]
    torch.testing.assert_close(net.encoder.stem[1].running_mean, torch.stack(means).mean(0), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="size nano"):
        load_encoder(Student("edge"), tmp_path / "model.pth")


def test_faceptors_encoder_is_written_as_a_farl_file_that_its_training_loads(tmp_path):
    trained = run(tmp_path, *CLIP)
    trained.train(until=0)
    visual = trained.recipe.model.online_encoder.visual
    model = Faceptor(FaceptorConfig({"affect_rafdb": 7}, visual.config, DecoderConfig(8, 2, 1, 8, (1,)), 8, 8))
    load_farl(model, tmp_path / "model.pth")
    image = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(model.eval().backbone_module(image)[-1], visual.eval()(image)[-1])


def worker(rank, out, jobs):
    world = World.start("cpu")
    for i, (_, *changes) in enumerate(jobs):
        rows = run(f"{out}/{i}", *changes, world=world).train()
        torch.save(rows, f"{out}/{i}/rank{rank}.pt")
    world.stop()


def test_two_processes_pre_train_as_one_with_twice_the_batch(tmp_path):
    """It covers batch norms of the projectors, keys of both processes as negatives, and masks that belong to the sample."""
    jobs = [("vit", "task.batch=3"), ("student", *STUDENT, "task.batch=3")]
    run_on_two_processes(worker, tmp_path, jobs, timeout_s=60)
    for i, (name, *changes) in enumerate(jobs):
        one = run(tmp_path / f"one{i}", *changes, "task.batch=6").train()
        both = [torch.load(tmp_path / f"{i}/rank{r}.pt", weights_only=True) for r in (0, 1)]
        assert both[0] == both[1], name
        for ours, theirs in zip(one, both[0], strict=True):
            assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-5), name


def test_the_command_runs_and_refuses(tmp_path, capsys, monkeypatch):
    from faceptor_models import command
    from faceptor_models.published.recipes import command as recipe_command

    monkeypatch.setattr(recipe_command, "Crops", SimpleNamespace(read=lambda *a: CROPS))
    config = small_crops.CONFIGS / "mcf.toml"
    changes = [v for c in SMALL for v in ("--set", c)]
    arguments = ["pretrain", str(config), "--data", str(tmp_path), "--out", str(tmp_path / "run"), *changes, "--until", "1", "--device", "cpu"]
    assert command.main(arguments) == 0 and (tmp_path / "run/model.pth").exists()
    assert command.main(arguments) == 1 and "--resume" in capsys.readouterr().err
    assert command.main([*arguments[:4], "--out", str(tmp_path / "other"), "--device", "cpu"]) == 1
    assert "frozen.file" in capsys.readouterr().err and not np.any([p.suffix == ".pth" for p in (tmp_path).glob("other/*")])


def test_the_official_shape_of_mcf_is_unchanged():
    with torch.device("meta"):
        assert len(mcf.Mcf(mcf.McfConfig()).state_dict()) == 583
