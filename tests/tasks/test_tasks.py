"""Per-instance losses, against values by hand."""

import math

import torch

from mtlbench.tasks.task import Task, cross_entropy, l1, squared_l2


def test_cross_entropy_is_the_mean_over_the_labelled_pixels_of_each_instance():
    logits = torch.zeros(2, 4, 1, 2)  # every class equally likely: log 4 a pixel
    logits[0, 1, 0, 0] = math.log(3.0)  # class 1 there has probability 3 / 6
    target = torch.tensor([[[1, -1]], [[2, 3]]])
    expected = torch.tensor([math.log(2.0), math.log(4.0)])
    torch.testing.assert_close(cross_entropy()(logits, target), expected)


def test_cross_entropy_of_one_label_an_instance_needs_no_pixels():
    loss = cross_entropy()(torch.zeros(3, 10), torch.tensor([0, 5, 9]))
    torch.testing.assert_close(loss, torch.full((3,), math.log(10.0)))


def test_errors_of_vectors_are_means_over_the_labelled_values():
    output = torch.tensor([[1.0, 2.0, 5.0]])
    target = torch.tensor([[0.0, 4.0, -1.0]])
    torch.testing.assert_close(l1(ignore=-1)(output, target), torch.tensor([1.5]))
    torch.testing.assert_close(squared_l2(ignore=-1)(output, target), torch.tensor([2.5]))
    torch.testing.assert_close(squared_l2()(output, target), torch.tensor([(1 + 4 + 36) / 3]))


def test_an_instance_without_any_labelled_value_has_a_loss_and_a_gradient_of_zero():
    output = torch.ones(2, 3, requires_grad=True)
    target = torch.tensor([[-1.0, -1.0, -1.0], [0.0, -1.0, -1.0]])
    losses = squared_l2(ignore=-1)(output, target)
    losses.sum().backward()
    assert losses.tolist() == [0.0, 1.0]
    assert output.grad is not None
    assert output.grad.tolist() == [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]


def test_a_scaled_task_predicts_in_the_unit_of_its_label():
    task = Task("height", "regression", squared_l2(), (), ("uniform",), scale=4.0)
    assert task.losses(torch.tensor([2.0]), torch.tensor([12.0])).tolist() == [1.0]
    assert task.predict(torch.tensor([3.0])).tolist() == [12.0]
