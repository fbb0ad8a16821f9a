"""What tests of the engine share: a machine that says it has a GPU."""

import pytest


@pytest.fixture(params=["cpu", "gpu"])
def either_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On both paths: transforms on the host, as on a CPU, and queued a token ahead in mlx, as on a GPU."""
    import mlx.core as mx  # noqa: TID251 - the question is mlx's own, whoever asks it

    device: str = request.param
    if device == "gpu":
        monkeypatch.setattr("mlx.core.default_device", lambda: mx.gpu)
    return device
