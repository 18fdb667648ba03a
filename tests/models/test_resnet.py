"""ResNet-18: its size, its maps, and what gradient weightings see of it."""

import torch
from torch import nn

from mtlbench import build_strategy
from mtlbench.models.resnet import ResNet18

OUTPUTS = {"amazon": 31, "dslr": 31, "webcam": 31}


def test_the_network_has_as_many_parameters_as_the_published_one() -> None:
    with torch.device("meta"):
        model = ResNet18(OUTPUTS)
    # torchvision documents 11,689,512 for resnet18; its classifier has 1,000 outputs.
    convolutions = 11_689_512 - 1000 * (512 + 1)
    assert sum(p.numel() for p in model.trunk[:-6].parameters()) == convolutions
    connected = 512 * 512 + 2 * 512
    heads = 3 * 31 * (512 + 1)
    assert sum(p.numel() for p in model.parameters()) == convolutions + connected + heads


def test_an_image_is_halved_five_times() -> None:
    model, shapes = ResNet18(OUTPUTS, width=1).eval(), []
    for layer in model.trunk:
        layer.register_forward_hook(lambda *args: shapes.append(tuple(args[-1].shape[1:])))
    outputs = model(torch.zeros(2, 3, 224, 224))
    assert {name: tuple(output.shape) for name, output in outputs.items()} == dict.fromkeys(
        OUTPUTS, (2, 31)
    )
    assert shapes[:10] == [
        (1, 112, 112), (1, 56, 56), (1, 56, 56), (1, 56, 56), (2, 28, 28), (2, 28, 28),
        (4, 14, 14), (4, 14, 14), (8, 7, 7), (8, 7, 7),
    ]  # fmt: skip


def test_the_shortcut_is_a_convolution_only_where_the_shape_changes() -> None:
    with torch.device("meta"):
        blocks = ResNet18(OUTPUTS).trunk[2:10]
    kinds = [isinstance(block.shortcut, nn.Identity) for block in blocks]
    assert kinds == [True, True, False, True, False, True, False, True]


def test_a_batch_of_one_can_be_trained_on() -> None:
    outputs = ResNet18(OUTPUTS, width=1)(torch.randn(1, 3, 64, 64))
    assert all(output.isfinite().all() for output in outputs.values())


def test_a_domain_without_an_image_in_a_batch_has_no_say_in_its_step() -> None:
    torch.manual_seed(0)
    model = ResNet18(OUTPUTS, width=1)
    weighting = build_strategy(
        "pcgrad", tasks=dict.fromkeys(OUTPUTS, "classification"), model=model
    )
    outputs, labels = model(torch.randn(6, 3, 64, 64)), torch.arange(6)
    losses = {
        name: nn.functional.cross_entropy(output, labels, reduction="none")
        for name, output in outputs.items()
    }
    present = torch.eye(3, dtype=torch.bool)[[0, 0, 0, 1, 1, 1]]
    alone = torch.autograd.grad(
        losses["amazon"][:3].mean(), model.heads["amazon"].weight, retain_graph=True
    )[0]
    weighting.backward(losses, torch.arange(6), present)
    torch.testing.assert_close(model.heads["amazon"].weight.grad, alone)
    absent = model.heads["webcam"].weight.grad
    assert absent is None or not absent.any()
    assert all(parameter.grad is not None for parameter in model.trunk.parameters())
