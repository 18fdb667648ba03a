"""Street scenes: reproducible, geometrically true, and not to be guessed without looking."""

import numpy as np
import pytest

from mtlbench.suites.scenes import CLASSES, NEAREST, PALETTE, Scenes, draw_scenes
from mtlbench.suites.scenes.world import FLAT, HUMAN, NATURE, OBJECT, SKY, VEHICLE


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw_scenes(100, seed=3)


def assert_equal_scenes(one: Scenes, other: Scenes) -> None:
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.segmentation, other.segmentation)
    np.testing.assert_array_equal(one.inverse_depth, other.inverse_depth)


def pick(scenes: Scenes, index: int) -> Scenes:
    each = slice(index, index + 1)
    return Scenes(scenes.images[each], scenes.segmentation[each], scenes.inverse_depth[each])


def test_every_class_has_a_colour_of_its_own():
    assert len(set(PALETTE)) == len(CLASSES) == 7


@pytest.mark.parametrize(("height", "width"), [(32, 64), (48, 80), (33, 47), (128, 256)])
def test_scenes_come_in_any_size(height, width):
    scenes = draw_scenes(2, height, width, seed=0)
    assert scenes.images.shape == (2, 3, height, width)
    assert scenes.images.dtype == np.uint8
    assert scenes.segmentation.shape == (2, height, width)
    assert scenes.segmentation.dtype == np.uint8
    assert scenes.inverse_depth.shape == (2, height, width)
    assert scenes.inverse_depth.dtype == np.float32


def test_no_scenes_can_be_asked_for():
    assert draw_scenes(0, seed=0).images.shape == (0, 3, 32, 64)


def test_the_same_seed_gives_the_same_scenes():
    assert_equal_scenes(draw_scenes(3, seed=4), draw_scenes(3, seed=4))


def test_a_scene_is_the_same_whichever_count_is_asked_for(scenes):
    assert_equal_scenes(
        draw_scenes(18, seed=3),
        Scenes(
            *(field[:18] for field in (scenes.images, scenes.segmentation, scenes.inverse_depth))
        ),
    )


def test_a_scene_is_the_same_whichever_scene_comes_first(scenes):
    assert_equal_scenes(draw_scenes(1, seed=3, first=17), pick(scenes, 17))


def test_seeds_and_indices_give_different_scenes(scenes):
    drawn = [*scenes.images, *draw_scenes(3, seed=4).images]
    assert len({image.tobytes() for image in drawn}) == len(drawn)


def test_a_larger_picture_shows_the_same_scene(scenes):
    larger = draw_scenes(8, 96, 192, seed=3)
    # Every third pixel of the larger pictures has its centre on that of a pixel of the smaller.
    centres = (slice(None), slice(1, None, 3), slice(1, None, 3))
    same = larger.segmentation[centres] == scenes.segmentation[:8]
    assert same.mean() > 0.999
    off = np.abs(larger.inverse_depth[centres] - scenes.inverse_depth[:8])
    assert (off < 1e-4).mean() > 0.999
    averaged = larger.images.reshape(8, 3, 32, 3, 64, 3).mean((3, 5))
    assert np.abs(averaged - scenes.images[:8]).mean() < 6


def test_inverse_depth_lies_between_the_sky_and_the_nearest_that_is_told_apart(scenes):
    assert scenes.inverse_depth.min() == 0
    assert scenes.inverse_depth.max() == pytest.approx(1 / NEAREST)


def test_only_the_sky_is_infinitely_far(scenes):
    np.testing.assert_array_equal(scenes.inverse_depth == 0, scenes.segmentation == SKY)


def ground_plane(segmentation: np.ndarray, inverse_depth: np.ndarray) -> np.ndarray:
    """The inverse depth [H] of level ground, a straight line through that of the flat pixels."""
    known = (segmentation == FLAT) & (inverse_depth < 0.999 / NEAREST)
    rows = np.nonzero(known)[0]
    line = np.polynomial.Polynomial.fit(rows, inverse_depth[known], 1)
    return line(np.arange(len(segmentation)))


def test_the_street_is_a_plane(scenes):
    for segmentation, inverse_depth in zip(scenes.segmentation, scenes.inverse_depth, strict=True):
        plane = np.minimum(ground_plane(segmentation, inverse_depth), 1 / NEAREST)
        off = np.abs(inverse_depth - plane[:, None])[segmentation == FLAT]
        assert off.max() < 1e-3


def test_what_stands_on_the_ground_hides_the_ground_behind(scenes):
    for segmentation, inverse_depth in zip(scenes.segmentation, scenes.inverse_depth, strict=True):
        plane = np.minimum(ground_plane(segmentation, inverse_depth), 1 / NEAREST)
        assert (inverse_depth >= plane[:, None] - 1e-3).all()


def test_all_classes_appear_and_the_rare_ones_often_enough_to_be_learnt(scenes):
    shares = np.bincount(scenes.segmentation.ravel(), minlength=7) / scenes.segmentation.size
    assert shares.min() > 0.008
    assert shares[HUMAN] > 0.008
    assert shares[OBJECT] > 0.01
    assert shares[NATURE] > 0.05
    assert shares[VEHICLE] > 0.05
    assert shares.max() < 0.5


def test_inverse_depth_cannot_be_told_from_the_position_alone(scenes):
    off = np.abs(scenes.inverse_depth - np.median(scenes.inverse_depth, axis=0))
    assert off.mean() > 0.025


def test_the_class_cannot_be_told_from_the_position_alone(scenes):
    shares = [(scenes.segmentation == label).mean(0) for label in range(len(CLASSES))]
    assert np.max(shares, axis=0).mean() < 0.68


def test_pictures_vary_in_light_and_are_neither_black_nor_white(scenes):
    brightness = scenes.images.mean((1, 2, 3))
    assert brightness.std() > 15
    assert brightness.min() > 25
    assert brightness.max() < 230
