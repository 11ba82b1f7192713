"""One process or many: rank, device, and the few things ranks tell each other. The only file that reads the launcher's environment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process among all.

    Attributes:
        rank: 0 writes events and files.
        size: Number of processes.
        local_rank: Number on this computer; picks the GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def join_world() -> World:
    """Joins the process group that ``torchrun`` announces in the environment; without one there is a single process.

    Gloo carries votes between hosts and CPU tensors, NCCL carries CUDA tensors.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return World(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))


def code_for_launcher(code: int, stopped: int) -> int:
    """The code that this process ends with: one of several that were asked to stop ends with 0, because ``torchrun`` takes every other code for a failure,
    ends the other ranks at once, even one that is still saving, and prints a traceback. ``events.jsonl`` says that it was a stop.
    """
    is_one_of_several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return 0 if code == stopped and is_one_of_several else code


def is_first_process() -> bool:
    """Whether this process speaks for all: rank 0, or the only one. Also before and after it is in a group."""
    return int(os.environ.get("RANK", "0")) == 0


def leave_world() -> None:
    """Ends the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replaces every gradient by its mean over the ranks, in one message.

    A part without gradient is one that this stage does not use, on every rank alike; it stays without, so that weight decay leaves it alone.
    """
    if not dist.is_initialized():
        return
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for parameter in parameters:
        parameter.grad.copy_(flat[offset : offset + parameter.numel()].view_as(parameter))
        offset += parameter.numel()


def same_weights(module: torch.nn.Module) -> None:
    """Gives every rank the weights and buffers of rank 0."""
    if dist.is_initialized():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def any_rank(flag: bool) -> bool:
    """True on every rank when it is true on one. A vote between hosts; no device waits."""
    if not dist.is_initialized():
        return flag
    vote = torch.tensor([float(flag)])
    dist.all_reduce(vote, op=dist.ReduceOp.MAX)
    return bool(vote.item())


def from_owner(value: Tensor, owner: int) -> Tensor:
    """The tensor of one rank, on every rank. On the CPU; all ranks must give the same shape and type."""
    if not dist.is_initialized():
        return value
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
    shared = value.to(device)
    dist.broadcast(shared, owner)
    return shared.cpu()


def gather(value: Any) -> list[Any]:
    """The values of all ranks, in their order, on every rank: JSON values and paths, of any size."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Returns when every rank has arrived."""
    if dist.is_initialized():
        any_rank(False)


def choose_device(wanted: str, world: World) -> torch.device:
    """The device to compute on.

    Args:
        wanted: "auto" (a GPU when there is one), "cpu", "cuda" or "cuda:1".
        world: With several processes on one computer each takes its own GPU.

    Raises:
        InputError: A GPU was asked for and there is none (E201), or PyTorch cannot use it (E203).
    """
    from .errors import InputError

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not wanted.startswith("cuda") and wanted != "auto":
        raise InputError(f"The device must be auto, cpu, cuda or cuda:N; found {wanted!r}.", hint="auto takes a GPU when there is one.")
    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            raise InputError(
                "A GPU was asked for, but this PyTorch was built for the CPU only.",
                code="E203",
                hint="Install PyTorch with CUDA, or choose the device cpu.",
            )
        raise InputError("A GPU was asked for, but none was found.", code="E201", hint="Choose the device cpu or auto.")
    index = world.local_rank if world.size > 1 or ":" not in wanted else int(wanted.partition(":")[2])
    if index >= torch.cuda.device_count():
        raise InputError(f"GPU {index} was asked for; there are {torch.cuda.device_count()}.", code="E201", hint="The first one is cuda:0.")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
