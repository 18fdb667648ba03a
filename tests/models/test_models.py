"""The full-size networks: published sizes, shapes, what gradients reach, and a few steps."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mtlbench.models.hrnet import HRNet
from mtlbench.models.unet import MultiTaskUNet
from mtlbench.tasks.task import cross_entropy, squared_l2

JOINTS, VERTICES = 24, 5


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def reached_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters that have a gradient other than zero."""
    return {
        name for name, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())
    }


# --- HRNet ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published_hrnet() -> HRNet:
    """HRNetV2-W48 with the authors' head for 19 classes, without memory for its parameters."""
    with torch.device("meta"):
        return HRNet({"segmentation": 19}, width=48)


def test_hrnet_w48_has_the_published_number_of_parameters(published_hrnet):
    assert count_parameters(published_hrnet) == 65_859_379
    assert count_parameters(published_hrnet) - count_parameters(published_hrnet.heads) == 65_325_120


def test_hrnet_w48_takes_the_published_number_of_operations(published_hrnet):
    """The authors give 696.2 for an image of 1024×2048: multiplications over 2³⁰."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        published_hrnet(torch.empty(1, 3, 1024, 2048, device="meta"))
    assert round(counter.get_total_flops() / 2 / 2**30, 1) == 696.2


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96)])
def test_hrnet_gives_maps_of_the_size_of_the_images(height, width):
    outputs = HRNet({"segmentation": 7, "depth": 1}, width=2)(torch.zeros(2, 3, height, width))
    assert {task: tuple(output.shape) for task, output in outputs.items()} == {
        "segmentation": (2, 7, height, width),
        "depth": (2, height, width),
    }


def test_hrnet_learns_two_tasks_from_scratch():
    torch.manual_seed(0)
    model = HRNet({"segmentation": 7, "depth": 1}, width=18)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = torch.randn(2, 3, 128, 256).contiguous(memory_format=torch.channels_last)
    segmentation, depth = torch.zeros(2, 128, 256, dtype=torch.long), torch.zeros(2, 128, 256)
    segmentation[:, 64:], depth[:, 64:] = 3, 2.0  # the lower half is a near thing
    history = []
    for _ in range(4):
        outputs = model(images)
        losses = torch.stack(
            [
                cross_entropy()(outputs["segmentation"], segmentation).mean(),
                squared_l2()(outputs["depth"], depth).mean(),
            ]
        )
        history.append(losses.detach())
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
    first, *_, last = history
    assert (last < 0.6 * first).all()
    # What stands before a batch normalisation needs no bias: its gradient is only rounding.
    idle = {f"heads.{task}.0.0.bias" for task in outputs}
    assert reached_parameters(model) | idle == {name for name, _ in model.named_parameters()}


def test_a_task_of_hrnet_reaches_its_own_head_and_all_of_the_trunk():
    model = HRNet({"segmentation": 7, "depth": 1}, width=2)
    model(torch.randn(2, 3, 64, 64))["depth"].square().sum().backward()
    assert model.heads["depth"][1].weight.grad is not None
    assert all(p.grad is None for p in model.heads["segmentation"].parameters())
    trunk = [*model.stem.parameters(), *model.stages.parameters()]
    assert all(p.grad is not None and p.grad.any() for p in trunk)


# --- MultiTaskUNet ----------------------------------------------------------------------------


class Surface(NamedTuple):
    vertices: Tensor
    joints: Tensor


class Mobile(nn.Module):
    """A body of five vertices, each hung on a joint, moved by the first shape parameters."""

    def __init__(self) -> None:
        super().__init__()
        arms = torch.linspace(-1, 1, VERTICES * 3).view(VERTICES, 3)
        self.register_buffer("arms", arms)

    def forward(self, shape: Tensor, rotations: Tensor) -> Surface:
        move = shape[:, None, :3]
        arms = torch.einsum("bvij,vj->bvi", rotations[:, :VERTICES], self.arms)
        size = shape[:, None, 3:].sum(-1, keepdim=True)
        # Every joint matters a little, so that every output of the pose branch is reached.
        sway = rotations.flatten(2).sum((1, 2))[:, None, None] / 100
        joints = move.expand(-1, JOINTS, -1) + 2.0
        return Surface(vertices=move + 2.0 + (1 + size) * arms + sway, joints=joints)


def tiny_unet(**arguments: int) -> MultiTaskUNet:
    torch.manual_seed(0)
    return MultiTaskUNet(Mobile(), **{"patch": 2, "width": 4, "depth": 2, **arguments})


def test_the_full_multi_task_unet_has_the_paper_s_40_million_parameters():
    with torch.device("meta"):
        assert round(count_parameters(MultiTaskUNet(nn.Identity())) / 1e6) == 40


@pytest.mark.parametrize(("patch", "depth", "size"), [(1, 4, 64), (4, 2, 64), (8, 1, 48)])
def test_multi_task_unet_gives_a_map_and_a_body(patch, depth, size):
    outputs = tiny_unet(patch=patch, depth=depth)(torch.randn(2, 3, size, size))
    assert {task: tuple(output.shape) for task, output in outputs.items()} == {
        "segmentation": (2, 25, size, size),
        "shape": (2, 10),
        "pose": (2, 144),
        "vertices": (2, VERTICES, 3),
    }


def test_multi_task_unet_learns_from_a_batch_of_one():
    model = tiny_unet()
    before = model.shape[1].running_mean.clone()
    outputs = model(torch.randn(1, 3, 32, 32))
    sum(output.square().sum() for output in outputs.values()).backward()
    assert reached_parameters(model) == {name for name, _ in model.named_parameters()}
    assert torch.equal(model.shape[1].running_mean, before)  # one instance has no variance


def test_a_new_multi_task_unet_turns_no_joint():
    pose = tiny_unet()(torch.randn(8, 3, 32, 32))["pose"].view(8, JOINTS, 2, 3)
    identity = torch.eye(3)[:2].expand_as(pose)  # the first two columns, one after the other
    torch.testing.assert_close(pose, identity, atol=0.02, rtol=0)  # of a rotation: about 1°


@pytest.mark.parametrize("autocast", [False, True])
def test_vertices_are_those_of_the_predicted_body_relative_to_its_root(autocast):
    model = tiny_unet()
    nn.init.normal_(model.pose[-1].bias)  # well away from the identity
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), torch.no_grad():
        outputs = model(torch.randn(4, 3, 32, 32))
    shape = outputs["shape"].double().numpy()
    arms = np.linspace(-1, 1, VERTICES * 3).reshape(VERTICES, 3)
    for person in range(4):
        columns = outputs["pose"][person].double().numpy().reshape(JOINTS, 2, 3)
        rotations = np.stack([rotation_by_qr(first, second) for first, second in columns])
        hung = np.einsum("vij,vj->vi", rotations[:VERTICES], arms)
        expected = (1 + shape[person, 3:].sum()) * hung + rotations.sum() / 100
        # Float32 throughout, also under autocast: bfloat16 would be off by some 1e-2.
        np.testing.assert_allclose(outputs["vertices"][person], expected, atol=1e-5)


def rotation_by_qr(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rotation whose first columns span what the two vectors do, in their order."""
    q, r = np.linalg.qr(np.stack([first, second], axis=1))
    q = q * np.sign(np.diag(r))
    return np.column_stack([q, np.cross(q[:, 0], q[:, 1])])


def test_vertices_alone_teach_shape_pose_and_encoder_but_no_decoder():
    model = tiny_unet()
    model(torch.randn(4, 3, 32, 32))["vertices"].square().sum().backward()
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("shape.", "pose.", "trunk.stem.", "trunk.down."))
    }
    assert reached_parameters(model) == expected


def test_multi_task_unet_learns_all_tasks_at_once():
    torch.manual_seed(0)
    model = tiny_unet(width=8)
    images = torch.randn(8, 3, 32, 32)
    parts = torch.zeros(8, 32, 32, dtype=torch.long)
    parts[:, 8:24, 8:24] = 7
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    targets = {"shape": torch.randn(8, 10), "pose": torch.randn(8, 144)}
    targets["vertices"] = torch.randn(8, VERTICES, 3)
    history = []
    for _ in range(120):
        outputs = model(images)
        losses = [cross_entropy()(outputs["segmentation"], parts).mean()]
        losses += [squared_l2()(outputs[task], target).mean() for task, target in targets.items()]
        history.append(torch.stack(losses).detach())
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        if len(history) == 1:
            assert reached_parameters(model) == {name for name, _ in model.named_parameters()}
    assert (history[-1] < 0.5 * history[0]).all()
