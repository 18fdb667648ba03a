"""The streets suite."""

import pytest
import torch

from mtlbench.errors import UserError
from mtlbench.suites.build import build_suite
from mtlbench.suites.scenes.suite import NO_DEPTH
from mtlbench.suites.streets import Streets

SMALL = Streets(train_size=3, validation_size=2, test_size=2)


def test_the_network_predicts_every_task_at_the_size_of_the_image():
    suite = Streets(train_size=2, validation_size=1, test_size=1, height=48, width=80)
    outputs = suite.model()(suite.prepare(suite.data().train.inputs))
    assert outputs["segmentation"].shape == (2, 7, 48, 80)
    assert outputs["depth"].shape == (2, 48, 80)


def test_no_scene_is_in_two_splits_whatever_their_sizes():
    data = Streets(train_size=4, validation_size=3, test_size=2).data()
    images = [*data.train.inputs, *data.validation.inputs, *data.test.inputs]
    assert len({image.numpy().tobytes() for image in images}) == 4 + 3 + 2
    assert torch.equal(data.train.inputs[:3], SMALL.data().train.inputs)
    assert torch.equal(data.test.inputs, SMALL.data().test.inputs)


def test_a_mirrored_scene_is_mirrored_with_all_its_labels():
    train = SMALL.data().train
    inputs, targets = SMALL.augment(train.inputs, train.targets, torch.Generator().manual_seed(1))
    mirrored = [not torch.equal(a, b) for a, b in zip(inputs, train.inputs, strict=True)]
    assert 0 < sum(mirrored) < 3, "the seed is to show both"
    for after, before in (
        (inputs, train.inputs),
        *((targets[name], train.targets[name]) for name in targets),
    ):
        for flipped, a, b in zip(mirrored, after, before, strict=True):
            assert torch.equal(a, b.flip(-1) if flipped else b)


def test_the_sky_has_no_depth_and_counts_in_no_loss_of_depth():
    segmentation, depth = SMALL.tasks()
    targets = SMALL.data().train.targets
    sky = targets["segmentation"] == segmentation.classes.index("sky")
    assert (targets["depth"][sky] == NO_DEPTH).all()
    guess = torch.rand(targets["depth"].shape)
    changed = torch.where(sky, guess + 100, guess)
    assert torch.equal(
        depth.losses(guess, targets["depth"]), depth.losses(changed, targets["depth"])
    )


def test_the_predicted_depth_of_a_perfect_network_is_the_label():
    depth = SMALL.tasks()[1]
    target = SMALL.data().train.targets["depth"]
    output = target / depth.scale
    assert depth.losses(output, target).max() == 0
    torch.testing.assert_close(depth.predict(output), target)


@pytest.mark.parametrize("size", [0, 8, 40])
def test_a_size_that_the_network_cannot_halve_is_refused(size):
    with pytest.raises(UserError, match=f"height must be a multiple of 16, but is {size}"):
        build_suite("streets", {"height": size})
