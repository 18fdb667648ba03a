import pytest

from mtlbench.models.body import make_body
from mtlbench.models.smpl import BodyModel


@pytest.fixture(scope="session")
def body() -> BodyModel:
    return make_body()
