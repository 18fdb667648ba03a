"""SegNet: the published size, shapes, where maxima go, and what gradients reach."""

import pytest
import torch
from torch import nn

from mtlbench.models.segnet import SegNet

MAPS = {"segmentation": 13, "depth": 1, "normal": 3}


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_segnet_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        single, all_three = SegNet({"segmentation": 13}), SegNet(MAPS)
    # What the code of MTAN divides the sizes of all networks by: the one for the classes alone.
    assert count_parameters(single) == 24_981_069
    assert count_parameters(all_three) == 25_055_185


@pytest.mark.parametrize(("height", "width"), [(32, 48), (35, 50)])
def test_segnet_gives_maps_of_the_size_of_the_images(height: int, width: int) -> None:
    outputs = SegNet(MAPS, width=2)(torch.rand(2, 3, height, width))
    assert {task: tuple(output.shape) for task, output in outputs.items()} == {
        "segmentation": (2, 13, height, width),
        "depth": (2, height, width),
        "normal": (2, 3, height, width),
    }


@pytest.mark.parametrize("autocast", [False, True])
def test_directions_have_length_1_in_full_precision(autocast: bool) -> None:
    model = SegNet(MAPS, directions=("normal",), width=2)
    last = model.heads["normal"][-1]
    nn.init.constant_(last.bias, 1.0)  # nowhere near 0
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        normal = model(torch.rand(2, 3, 32, 32))["normal"]
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal.norm(dim=1), torch.ones(2, 32, 32))


def test_where_there_is_no_direction_the_gradient_is_finite() -> None:
    model = SegNet(MAPS, directions=("normal",), width=2)
    for layer in model.heads["normal"]:
        nn.init.zeros_(layer.weight)
    normal = model(torch.rand(2, 3, 32, 32))["normal"]
    assert not normal.any()
    normal.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_task_of_segnet_reaches_its_own_head_and_all_of_the_trunk() -> None:
    torch.manual_seed(0)
    model = SegNet(MAPS, directions=("normal",), width=4)
    model(torch.rand(2, 3, 32, 64))["depth"].square().mean().backward()
    trunk = {name for name, p in model.trunk.named_parameters() if p.grad is not None}
    assert trunk == dict(model.trunk.named_parameters()).keys()
    for task, head in model.heads.items():
        assert {p.grad is not None for p in head.parameters()} == {task == "depth"}


def test_every_head_sees_what_the_trunk_gives() -> None:
    model = SegNet(MAPS, width=4)
    seen = []
    model.trunk.register_forward_hook(lambda module, given, made: seen.append(made))
    outputs = model(torch.rand(1, 3, 32, 32))
    assert seen[0].shape == (1, 4, 32, 32)
    for task, head in model.heads.items():
        torch.testing.assert_close(head(seen[0]).squeeze(1), outputs[task].squeeze(1))


def test_a_maximum_goes_back_to_where_it_was() -> None:
    """With blocks that do nothing, the trunk keeps the largest value of each 32×32 in its place."""
    model = SegNet(MAPS, width=3)
    for blocks in (model.trunk.down, model.trunk.up):
        for number in range(len(blocks)):
            blocks[number] = nn.Identity()
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros_like(image)
    for channel in range(3):
        for top in range(0, 64, 32):
            for left in range(0, 96, 32):
                place = image[0, channel, top : top + 32, left : left + 32].argmax().item()
                row, column = top + place // 32, left + place % 32
                expected[0, channel, row, column] = image[0, channel, row, column]
    assert torch.equal(model.trunk(image), expected)


def test_segnet_learns_three_tasks_at_once() -> None:
    torch.manual_seed(0)
    model = SegNet(MAPS, directions=("normal",), width=4)
    images, classes = torch.rand(2, 3, 32, 32), torch.randint(0, 13, (2, 32, 32))
    up = torch.tensor([0.0, 1, 0]).view(1, 3, 1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        outputs = model(images)
        each = (
            nn.functional.cross_entropy(outputs["segmentation"], classes),
            (outputs["depth"] - images.mean(1)).abs().mean(),
            (1 - (outputs["normal"] * up).sum(1)).mean(),
        )
        optimizer.zero_grad()
        sum(each).backward()
        optimizer.step()
        losses.append([loss.item() for loss in each])
    assert all(after < before for before, after in zip(losses[0], losses[-1], strict=True))
