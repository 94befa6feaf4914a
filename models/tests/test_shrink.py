"""Tests the least-squares fit of a smaller network to a larger one."""

import torch

from faceptor_models.student import shrink
from faceptor_models.student.network import QUERIES, Student, soft_argmax

torch.set_num_threads(1)


def test_a_fit_recovers_a_linear_map():
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(5, 12, generator=generator), torch.randn(5, generator=generator)
    x = torch.randn(400, 12, generator=generator)
    found = shrink.fit(x, x @ weight.T + bias, ridge=1e-9)
    assert torch.allclose(found[0], weight, atol=1e-4) and torch.allclose(found[1], bias, atol=1e-4)


def test_the_channels_kept_explain_the_others():
    generator = torch.Generator().manual_seed(2)
    own = torch.randn(500, 3, generator=generator)
    x = torch.stack([own[:, 0] * 0.1, own[:, 0], own[:, 0] * 0.3, own[:, 2] * 0.1, own[:, 1] * 0.5 + own[:, 0], own[:, 2]], 1)
    kept = x[:, shrink.explain(x, 3)]
    weight, bias = shrink.fit(kept, x, ridge=1e-9)
    assert torch.allclose(kept @ weight.T + bias, x, atol=1e-3)


def test_a_product_is_approximated_to_its_rank():
    generator = torch.Generator().manual_seed(3)
    left, right = torch.randn(300, 4, generator=generator) @ torch.randn(4, 8, generator=generator), torch.randn(200, 8, generator=generator)
    a, b = shrink.product_basis(left, right, 4)
    whole = left @ right.T
    assert (left @ a @ b @ right.T - whole).norm() < 1e-2 * whole.norm()


@torch.no_grad()
def test_a_network_of_the_same_size_gives_the_same_answers():
    torch.manual_seed(4)
    big = Student("nano").eval()
    images = torch.rand(24, 3, 64, 64) * 2 - 1
    small = shrink.Shrinking(big, Student("nano"), images).run()
    far = Student("nano").eval()

    def answers(net):
        maps = net.encode(images)
        memory, pixels = net.remember(maps), net.pixels(maps)
        out = {t: net.values(t, net.decode(t, memory)) for t in ("age", "expression", "attributes")}
        out["landmarks"] = soft_argmax(net.maps(net.decode("landmarks", memory), pixels))
        out["parsing"] = net.maps(net.decode("parsing", memory), pixels)
        return out | {"embedding": net.feature(maps["f16"])}

    goal, near, other = answers(big), answers(small), answers(far)
    assert set(goal) == set(QUERIES) | {"embedding"}
    for task, value in goal.items():
        error = (near[task] - value).norm() / (value - value.mean(0)).norm()
        assert error < 0.35 and error < 0.3 * (other[task] - value).norm() / (value - value.mean(0)).norm(), (task, float(error))


def test_nano_stays_within_its_size_limits():
    assert sum(p.numel() for p in Student("nano").parameters()) <= 1_500_000
