"""Our ResNets beside a plain one of other code: equal names of weights, equal maps, BatchNorm folded."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from plain_resnet import PlainResNet, randomize  # noqa: E402
from torch import nn  # noqa: E402

from keystep.models.resnet import ResNet, folded  # noqa: E402


@pytest.mark.parametrize(  # only bottlenecks dilate
    ("kind", "dilated"), [("resnet18", False), ("resnet34", False), ("resnet50", False), ("resnet50", True)]
)
@torch.no_grad()
def test_maps_are_those_of_a_plain_resnet(kind: str, dilated: bool) -> None:
    plain = PlainResNet(kind, nn.BatchNorm2d, dilated).eval()
    randomize(plain, torch.Generator().manual_seed(0))
    ours = ResNet(kind, dilated=dilated).eval()
    weights = {name: tensor for name, tensor in plain.state_dict().items() if not name.startswith("fc.")}
    ours.load_state_dict(weights)
    x = image = torch.rand(2, 3, 50, 41, generator=torch.Generator().manual_seed(1))
    for child in [*plain.children()][:-2]:
        x = child(x)
    assert x.shape[1] == ours.channels
    torch.testing.assert_close(ours(image), x, rtol=1e-5, atol=1e-5 * float(x.abs().max()))
    folded(ours)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ours.modules())
    torch.testing.assert_close(ours(image), x, rtol=1e-4, atol=1e-5 * float(x.abs().max()))
