"""What all tests of the engine share: this checkout is what is tested, on one thread, and nothing stays behind."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ENGINE_PARENT = Path(__file__).resolve().parents[2] / "TransMedSeg"
sys.path.insert(0, str(ENGINE_PARENT))  # whatever version may be installed

import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors are faster on one thread, and sums have one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def this_process_stays_as_it_is():
    """A run on a CPU changes its process for good: no denormal numbers, memory that stays. Here all tests share one process, and Hypothesis needs denormals."""
    import semiseg.training.cpu as module

    def no_library(_: None) -> None:
        raise OSError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "torch", SimpleNamespace(set_flush_denormal=lambda _: True))
        patch.setattr(module, "ctypes", SimpleNamespace(CDLL=no_library))
        yield


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    """No test depends on the global generator that the one before left behind."""
    torch.manual_seed(0)


@pytest.fixture
def engine_environment() -> dict[str, str]:
    """The environment of a subprocess that is to import this checkout's engine."""
    return {
        **os.environ,
        "PYTHONPATH": str(ENGINE_PARENT),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class Events(list):
    """Collects what is reported: (kind, values)."""

    def __call__(self, kind: str, **values: object) -> None:
        self.append((kind, values))

    def of(self, kind: str) -> list[dict]:
        return [values for one, values in self if one == kind]

    def scalars(self, name: str) -> list[float]:
        return [values["value"] for values in self.of("scalar") if values["name"] == name]


@pytest.fixture
def events() -> Events:
    return Events()
