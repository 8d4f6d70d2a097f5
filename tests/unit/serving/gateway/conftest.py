import pytest

from serving.gateway.settings import Settings


@pytest.fixture
def make_settings():
    def make(**changes):
        return Settings(**{"upstream": "127.0.0.1:1", "workloads": ["pills"], **changes})

    return make
