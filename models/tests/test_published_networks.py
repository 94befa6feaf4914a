"""Tests sizes and arithmetic of the systems' networks: published counts, and numbers computed from the formulas."""

import math

import pytest
import torch

from faceptor_models.common.inplace_abn import InPlaceAbn
from faceptor_models.published import official
from faceptor_models.published.attention import DropPath, PackedAttention
from faceptor_models.published.clip_vit import ClipVit, ClipVitConfig
from faceptor_models.published.decoder import DecoderConfig, anchor_positions
from faceptor_models.published.dmlcsr import DmlCsr, DmlCsrConfig
from faceptor_models.published.faceptor import Faceptor, FaceptorConfig
from faceptor_models.published.interpreters import ChannelNorm, expected_age, soft_argmax, weighted_mean_place
from faceptor_models.published.mae_vit import sincos_table
from faceptor_models.published.mcf import Mcf, McfConfig
from faceptor_models.published.mcf_encoders import keep_by_noise
from faceptor_models.published.naive import NaiveConfig, NaiveFaceptor
from faceptor_models.published.tcdcn import BlockConv, Tcdcn, TcdcnConfig, per_location
from tests import official_files as files

torch.set_num_threads(1)


def count(module):
    return sum(p.numel() for p in module.parameters())


def millions(model):
    """Counts the parameters, without those of the training losses, in millions."""
    return (count(model) - count(model.losses_module)) / 1e6


def test_full_sizes_have_the_published_keys_and_parameters():
    ids = {"recog_ms1mv3": 93431}
    with torch.device("meta"):
        plus = Faceptor(FaceptorConfig(identities=ids))
        stage2 = Faceptor(FaceptorConfig(decoder=DecoderConfig(new_levels=(1, 3, 5, 7, 9)), identities=ids))
        base = Faceptor(FaceptorConfig({t: official.TASKS[t] for t in official.BASE_TASKS}))
        naive = NaiveFaceptor(NaiveConfig(identities=ids))
        mcf, seg = Mcf(McfConfig()), DmlCsr(DmlCsrConfig())
        plain = DmlCsr(DmlCsrConfig(edges=False))
    assert (len(plus.state_dict()), len(stage2.state_dict()), len(naive.state_dict())) == (376, 387, 396)
    assert (len(mcf.state_dict()), len(seg.state_dict())) == (583, 779)
    sizes = [millions(m) for m in (base, plus, stage2, naive)] + [count(seg) / 1e6, count(plain) / 1e6, count(plus.backbone_module) / 1e6]
    assert [round(s, 2) for s in sizes] == [103.20, 103.34, 104.32, 178.91, 68.57, 68.06, 86.83]
    new = [p for n, p in stage2.named_parameters() if "new_" in n]
    assert sum(p.numel() for p in new) == 985_600
    assert (count(Tcdcn(TcdcnConfig())), count(Tcdcn(per_location()))) == (79_357, 3_412_141)


def test_packed_attention_equals_pytorchs():
    torch.manual_seed(0)
    ours, theirs = PackedAttention(24, 4), torch.nn.MultiheadAttention(24, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    q, k, v = torch.randn(2, 5, 24), torch.randn(2, 9, 24), torch.randn(2, 9, 24)
    torch.testing.assert_close(ours(q, k, v), theirs(q, k, v)[0], atol=1e-6, rtol=1e-5)


def test_position_table_is_exact_at_its_own_grid_and_keeps_the_class_row():
    vit = files.shaken(ClipVit(ClipVitConfig(width=12, layers=1, heads=2, mlp=8, grid=4, proj=3)))
    assert torch.equal(vit.positions(4), vit.positional_embedding)
    assert torch.equal(vit.positions(3)[0], vit.positional_embedding[0]) and vit.positions(3).shape == (10, 12)
    with pytest.raises(ValueError, match="square"):
        vit(torch.zeros(1, 3, 64, 48))


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(1)
    drop = DropPath(0.25).train()
    out = drop(torch.ones(4000, 2, 3))
    rows = out.flatten(1)
    assert torch.equal(rows, rows[:, :1].expand_as(rows)) and sorted(rows[:, 0].unique().tolist()) == [0.0, pytest.approx(1 / 0.75)]
    assert abs(float(out.mean()) - 1) < 0.05 and torch.equal(drop.eval()(out), out)


def test_anchor_positions_follow_the_formula():
    table = anchor_positions(3, 5, 8)
    row, column = 2, 4
    y, x = (row + 0.5) / 3, (column + 0.5) / 5
    angles = [2 * math.pi * u / 10000 ** (2 * m / 4) for u in (y, x) for m in (0, 1)]
    expected = [f(a) for a in angles for f in (math.sin, math.cos)]
    torch.testing.assert_close(table[row * 5 + column], torch.tensor(expected), atol=1e-6, rtol=0)


def test_the_mae_table_follows_the_formula():
    table = sincos_table(8, 3)[0]
    assert table.shape == (10, 8) and not table[0].any()
    column, row = 2, 1
    expected = [f(p * 10000 ** -(k / 2)) for p in (column, row) for f in (math.sin, math.cos) for k in (0, 1)]
    torch.testing.assert_close(table[1 + row * 3 + column], torch.tensor(expected), atol=1e-6, rtol=0)


def test_soft_argmax_has_no_temperature_and_returns_the_corner_of_an_empty_map():
    logits = torch.full((1, 1, 4, 8), -200.0)
    logits[0, 0, 1, 6] = 0.0
    torch.testing.assert_close(soft_argmax(logits)[0, 0], torch.tensor([6.5 / 8, 1.5 / 4]))
    flat = soft_argmax(torch.zeros(1, 1, 4, 8))
    torch.testing.assert_close(flat[0, 0], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(weighted_mean_place(torch.zeros(1, 1, 4, 8))[0, 0], torch.tensor([0.5 / 8, 0.5 / 4]))


def test_age_is_the_mean_of_normalised_sigmoids():
    logits = torch.full((1, 101), -200.0)
    logits[0, 20], logits[0, 30] = 0.0, math.log(3)  # sigmoids 0.5 and 0.75
    assert float(expected_age(logits)) == pytest.approx((20 * 0.5 + 30 * 0.75) / 1.25, abs=1e-4)


def test_channel_norm_holds_its_tensors_twice_and_normalises_channels():
    norm = ChannelNorm(3)
    assert list(norm.state_dict()) == ["weight", "bias", "ln.weight", "ln.bias"] and count(norm) == 6
    x = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    expected = (x.flatten() - 3) / math.sqrt(14 / 3 + 1e-6)
    torch.testing.assert_close(norm(x).flatten(), expected)


def test_in_place_abn_uses_the_absolute_gamma_and_a_leaky_relu():
    abn = InPlaceAbn(2).eval()
    with torch.no_grad():
        abn.weight.copy_(torch.tensor([-2.0, 0.0]))
        abn.bias.copy_(torch.tensor([0.5, -1.0]))
        abn.running_mean.copy_(torch.tensor([1.0, 0.0]))
        abn.running_var.copy_(torch.tensor([4.0, 1.0]))
        out = abn(torch.tensor([3.0, 0.0]).reshape(1, 2, 1, 1)).flatten().tolist()
    assert out == [pytest.approx((3 - 1) / math.sqrt(4 + 1e-5) * (2 + 1e-5) + 0.5, abs=1e-6), pytest.approx(-0.01, abs=1e-6)]


def test_edge_branches_do_not_change_the_parsing():
    with_edges = files.dmlcsr_model()
    without = files.dmlcsr_model(edges=False)
    without.load_state_dict({k: v for k, v in with_edges.state_dict().items() if not k.startswith("edge_layer.")})
    x = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        assert torch.equal(with_edges(x)["seg"], without(x)["seg"])


def test_strides_of_dmlcsr_are_the_published_ones():
    model = files.dmlcsr_model()
    with torch.no_grad():
        x2 = model.layer1(model.stem(torch.zeros(1, 3, 473, 473)))
        x5 = model.layer4(model.layer3(model.layer2(x2)))
    assert x2.shape[2:] == (119, 119) and x5.shape[2:] == (60, 60)


def test_masking_keeps_the_smallest_noise_in_its_order():
    patches = torch.arange(8.0).reshape(1, 8, 1)
    noise = torch.tensor([[0.9, 0.1, 0.8, 0.7, 0.0, 0.6, 0.5, 0.4]])
    kept, mask, restore = keep_by_noise(patches, noise, 0.75)
    assert kept.flatten().tolist() == [4, 1] and mask[0].tolist() == [1, 0, 1, 1, 0, 1, 1, 1]
    assert torch.argsort(noise, dim=1)[0][restore[0]].tolist() == list(range(8))


def test_the_target_follows_only_the_parameters_and_before_the_key():
    model = files.mcf_model()
    before = {k: v.clone() for k, v in model.target_encoder.state_dict().items()}
    online = model.online_encoder.state_dict()
    with torch.no_grad():
        out = model(torch.randn(3, 3, 32, 32))
    after = model.target_encoder.state_dict()
    for name in ("blocks.0.attn.qkv.weight", "pos_embed", "fc.1.weight"):
        torch.testing.assert_close(after[name], 0.99 * before[name] + 0.01 * online[name])
    for name in ("fc.1.running_mean", "fc.4.running_var"):
        assert torch.equal(after[name], before[name])
    assert out["key"].shape == (3, 6) and not out["key"].requires_grad
    assert [tuple(f.shape) for f in out["features_pseudo"]] == [(3, 17, 12)] * 4


def test_pseudo_image_has_patch_vectors_in_row_column_channel_order():
    model = files.mcf_model()
    image = torch.randn(1, 3, 32, 32)
    vectors = torch.stack([
        image[0, :, 8 * (i // 4) : 8 * (i // 4) + 8, 8 * (i % 4) : 8 * (i % 4) + 8].permute(1, 2, 0).flatten() for i in range(16)
    ])[None]  # fmt: skip
    assert torch.equal(model.unpatchify(vectors), image)


@pytest.mark.parametrize("blocks", [1, 2, 3, 6])
def test_block_convolution_uses_the_filters_of_each_region(blocks):
    torch.manual_seed(2)
    conv = BlockConv(2, 3, 3, 6, blocks)
    with torch.no_grad():
        conv.bias.normal_()
    x = torch.randn(2, 2, 8, 8)
    found = conv(x)
    edges = conv.edges()
    for row in range(6):
        for column in range(6):
            i, j = (sum(e <= place for e in edges[1:]) for place in (row, column))
            window = x[:, :, row : row + 3, column : column + 3]
            expected = torch.einsum("bcij,ocij->bo", window, conv.weight[i, j]) + conv.bias[i, j]
            torch.testing.assert_close(found[:, :, row, column], expected, atol=1e-5, rtol=1e-4)


def test_tcdcn_activations_are_absolute_tangents():
    model = files.tcdcn_model()
    with torch.no_grad():
        features = model.features(torch.randn(2, 1, 40, 40) * 3)
    assert float(features.min()) >= 0 and float(features.max()) <= 1
    assert TcdcnConfig().sides == [36, 16, 6, 2]
