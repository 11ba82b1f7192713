"""What this engine can do, for windows that build their forms from it: networks, methods, every option, devices, versions."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import platform
import re
from typing import Any

from . import __version__
from .protocol import PROTOCOL_VERSION


def describe() -> dict[str, Any]:
    """Everything as JSON values. Imports PyTorch and builds each network once to count its parameters."""
    import torch

    from .data.augment import AugmentOptions
    from .data.preprocess import Preprocessing
    from .inference.segmenter import SegmentOptions
    from .train import TrainJob
    from .training.options import TrainOptions
    from .training.plan import GOALS

    return {
        "semiseg": __version__,
        "protocol": PROTOCOL_VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "devices": devices(),
        "goals": list(GOALS),
        "networks": [*_networks(), *_monai_networks()],
        "monai": monai(),
        "methods": _methods(),
        "job": options_of(TrainJob),
        "training": options_of(TrainOptions),
        "augment": options_of(AugmentOptions),
        "preprocessing": options_of(Preprocessing),
        "segment": options_of(SegmentOptions),
    }


def _networks() -> list[dict[str, Any]]:
    """Every network of ours that a job may name; each is built once."""
    from .networks import CHOOSABLE, DEFAULT_NETWORK, NETWORKS, build_network

    networks = []
    for name in CHOOSABLE:
        entry = NETWORKS[name]
        classes = 2 if entry.spatial_dims == 3 else 4
        network = build_network(name, 1, classes)
        networks.append(
            {
                "name": name,
                "title": entry.title,
                "is_default": name == DEFAULT_NETWORK,
                "source": entry.source,
                "spatial_dims": entry.spatial_dims,
                "parameters": sum(p.numel() for p in network.parameters()),
                "parameters_for": f"1 channel, {classes} classes",
                "options": options_of(entry.options),
            }
        )
    return networks


def _monai_networks() -> list[dict[str, Any]]:
    """Those of MONAI that are known to work, where MONAI is installed. Their table holds their counts: building them all takes half a minute and 1.6 GB."""
    from .networks import MONAI
    from .networks.monai_network import MonaiOptions
    from .networks.monai_table import MONAI_NETWORKS, filled

    if _missing_for_monai():
        return []
    options = options_of(MonaiOptions)
    return [
        {
            "name": f"{MONAI}{name}",
            "title": f"{entry.title} (MONAI)",
            "is_default": False,
            "source": entry.source,
            "spatial_dims": 3,
            "parameters": entry.parameters,
            "parameters_for": "1 channel, 2 classes" + (", 96 x 96 x 96 voxels" if entry.has_one_size else ""),
            "options": [{**one, "default": filled(name, {}).get(one["name"], one["default"])} for one in options],
        }
        for name, entry in MONAI_NETWORKS.items()
    ]


def _methods() -> list[dict[str, Any]]:
    from .methods import METHODS, load_method

    methods = []
    for name, entry in METHODS.items():
        method = load_method(name)
        methods.append(
            {
                "name": name,
                "title": entry.title,
                "paper": entry.paper,
                "needs_unlabeled": method.needs_unlabeled,
                "presets": {key: dataclasses.asdict(preset) for key, preset in method.presets.items()},
                "options": options_of(method.Options),
            }
        )
    return methods


def monai() -> dict[str, Any]:
    """Any other network of MONAI: whether it can be used here, its name in a job, and its options."""
    from .networks import MONAI
    from .networks.monai_network import MonaiOptions

    missing = _missing_for_monai()
    return {
        "name": f"{MONAI}NAME",
        "title": f"any 3-D network of MONAI that ends in a convolution, such as {MONAI}SwinUNETR",
        "installed": not missing,
        "missing": missing,
        "options": options_of(MonaiOptions),
    }


def _missing_for_monai() -> list[str]:
    """The packages that are not installed. Found without an import, which takes seconds; some of MONAI's networks need einops."""
    return [package for package in ("monai", "einops") if importlib.util.find_spec(package) is None]


def devices() -> list[dict[str, Any]]:
    """The CPU and every GPU, with free memory and whether this PyTorch has code for it."""
    import torch

    found: list[dict[str, Any]] = [{"name": "cpu", "title": platform.processor() or platform.machine(), "works": True}]
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        free, total = torch.cuda.mem_get_info(index)
        built_for = {re.sub(r"\D", "", arch) for arch in torch.cuda.get_arch_list()}
        found.append(
            {
                "name": f"cuda:{index}",
                "title": torch.cuda.get_device_name(index),
                "capability": f"{major}.{minor}",
                "free_gb": round(free / 1e9, 1),
                "total_gb": round(total / 1e9, 1),
                # Code for an older card of the same generation runs on a newer one.
                "works": any(arch[:-1] == str(major) and int(arch[-1]) <= minor for arch in built_for if arch),
            }
        )
    return found


def options_of(kind: type) -> list[dict[str, Any]]:
    """Name, type, default and meaning of every field of an options dataclass; the meaning is its docstring's."""
    meanings = _meanings(kind)
    result = []
    for entry in dataclasses.fields(kind):
        default = entry.default
        if default is dataclasses.MISSING:
            default = entry.default_factory() if entry.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(default):
            default = dataclasses.asdict(default)
        kind_name = entry.type if isinstance(entry.type, str) else entry.type.__name__
        result.append(
            {
                "name": entry.name,
                "type": kind_name,
                "default": list(default) if isinstance(default, tuple) else default,
                "meaning": meanings.get(entry.name, ""),
            }
        )
    return result


def _meanings(kind: type) -> dict[str, str]:
    """Field name -> text from the ``Attributes:`` or ``Args:`` part of the docstrings of a class and its bases."""
    meanings: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        text = inspect.cleandoc(cls.__doc__ or "")
        part = re.split(r"^(?:Attributes|Args):\s*$", text, flags=re.MULTILINE)
        if len(part) < 2:
            continue
        name = ""
        for line in part[1].splitlines():
            start = re.match(r"^ {4}(\w[\w, ]*): (.*)$", line)
            if start:
                name = start[1]
                for one in name.split(", "):
                    meanings[one] = start[2].strip()
            elif name and line.startswith("        "):
                for one in name.split(", "):
                    meanings[one] += " " + line.strip()
            elif line and not line.startswith(" "):
                break
    return meanings
