"""Two processes train what one trains: the same weights over several steps, and one voice for both."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import builders
import numpy as np
import pytest
import torch
from tiny_model import box_volume, write_tiny_model
from training_cases import CPU, MemoryCases, make_batches, make_method, train_options

from semiseg.data.files import read_volume, write_volume
from semiseg.distributed import (
    World,
    any_rank,
    average_gradients,
    choose_device,
    join_world,
    leave_world,
    same_weights,
    wait_for_all,
)
from semiseg.errors import InputError
from semiseg.inference.model_file import read_model
from semiseg.losses.class_weights import DifficultyWeights, RarityWeights
from semiseg.protocol import EVENTS_FILE, MODEL_FILE, ExitCode, Job, read_events, write_job
from semiseg.training import loop
from semiseg.training.case_labels import CaseLabels
from semiseg.training.loop import Fit
from semiseg.worker import run_folder

PATCH = (8, 8, 8)  # so few voxels that TSA's statistics take all of them, on one rank and on two

METHODS = {
    "supervised": {},
    "mean_teacher": {"weight": 10.0},
    "bcp": {"pretrain_share": 0.34, "mixing": 0.0, "rounds": 2, "match_volume": True},
    "graphcl": {"clustering_weight": 0.0, "pretrain_share": 0.34, "mixing": 1.0, "labels_from": "patches"},
    "transmedseg": {"clustering_weight": 0.0, "warmup": 0.0, "alpha": 1.0, "pretrain_share": 0.34, "pretrain_mixing": 1.0, "mixing": 1.0},
    "cps": {"weight": 1.0},
    "micd": {"weight": 1.0, "mask_block": 2},
    "micd of 4 classes": {"weight": 1.0, "mask_block": 2},
}
"""Nothing with dropout: a rank draws its own (the clustering head has some)."""


def train(name: str, world: World) -> tuple[dict[str, torch.Tensor], list]:
    """Six steps on this rank's share of a global batch of 4 + 4; weights start apart on purpose."""
    torch.set_num_threads(1)
    method_name, _, classes = name.partition(" of ")
    cases = MemoryCases(num_classes=int(classes.removesuffix(" classes") or 2))
    batches = make_batches(cases, PATCH, counts=(4, 4), rank=world.rank, world_size=world.size)
    method = make_method(method_name, num_classes=cases.num_classes, seed=world.rank, **METHODS[name])
    options = train_options(
        iterations=6, log_every=3, optimizer="sgd", learning_rate=0.05, schedule="constant", gradient_clip=1.0, patch_size=PATCH
    )
    told = []
    report = lambda kind, **values: told.append(kind)
    labels = CaseLabels(cases, batches.store, batches.unlabeled, PATCH, None, report, world)
    Fit(method, batches, options, CPU, world, report, case_labels=labels).run()
    return {key: value.clone() for key, value in method.state_dict().items()}, told


def class_weights(world: World) -> list[torch.Tensor]:
    """DHC's weights of both rules after each of three updates with this rank's half of eight samples; the rarest class is on one rank alone."""
    generator = torch.Generator().manual_seed(0)
    rules = RarityWeights(4), DifficultyWeights(4)
    history = []
    for _ in range(3):
        labels, found = torch.randint(3, (2, 8, 5, 5), generator=generator)
        labels[0, 0], found[0, 0, :3] = 3, 3
        mine = slice(4 * world.rank, 4 * world.rank + 4) if world.size == 2 else slice(None)
        for rule in rules:
            rule.update(found[mine], labels[mine])
            history.append(rule.weight.clone())
    return history


def work(rank: int, size: int, port: int, folder: str) -> None:
    """One of the processes of the test; what it found goes to a file."""
    os.environ.update(WORLD_SIZE=str(size), RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    world = join_world()
    found: dict = {"world": (world.rank, world.size, world.local_rank, world.is_main)}
    found["votes"] = [any_rank(rank == 1), any_rank(False)]
    module = torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        module.weight.fill_(rank)
        module.num_batches_tracked.fill_(rank)
    same_weights(module)
    found["same"] = [module.weight.tolist(), int(module.num_batches_tracked)]
    first, second = torch.zeros(3, requires_grad=True), torch.zeros(2, 2, requires_grad=True)
    first.grad = torch.full((3,), float(rank))
    average_gradients([first, second])
    found["gradients"] = [first.grad.tolist(), second.grad]
    wait_for_all()
    found["class weights"] = class_weights(world)
    found["weights"] = {name: train(name, world)[0] for name in METHODS}
    torch.save(found, Path(folder) / f"{rank}.pt")
    leave_world()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two gloo ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (2, free_port(), str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", METHODS)
def test_two_ranks_give_the_weights_of_one_process(name, ranks):
    expected, _ = train(name, World())
    # Where two classes are nearly as probable, the last digit decides which label MICD's students give each other.
    atol = 1e-4 if name.startswith("micd") else 2e-5
    for rank in ranks:
        for key, value in expected.items():
            if key.endswith(("pseudo_share", "pseudo_entropy", "negative_share", "disagreement")):
                continue  # diagnostics of a rank's own samples
            torch.testing.assert_close(rank["weights"][name][key], value, rtol=1e-4, atol=atol, msg=lambda text, key=key: f"{key}: {text}")


def test_two_ranks_weigh_classes_as_one_process_does(ranks):
    expected = class_weights(World())
    assert all(len(set(weights.tolist())) > 2 for weights in expected)
    for rank in ranks:
        for found, weights in zip(rank["class weights"], expected, strict=True):
            torch.testing.assert_close(found, weights, rtol=1e-6, atol=0)


def test_training_moved_the_weights(ranks):
    """Else the comparison above would hold for a loop that does nothing."""
    start = make_method("supervised").state_dict()
    moved = [not torch.allclose(start[key], value, atol=1e-3) for key, value in ranks[0]["weights"]["supervised"].items()]
    assert sum(moved) > 10


def test_every_process_knows_its_place(ranks):
    assert [rank["world"] for rank in ranks] == [(0, 2, 0, True), (1, 2, 1, False)]


def test_a_vote_of_one_is_heard_by_all(ranks):
    assert [rank["votes"] for rank in ranks] == [[True, False]] * 2


def test_weights_and_buffers_come_from_rank_zero(ranks):
    assert [rank["same"] for rank in ranks] == [[[0.0, 0.0], 0]] * 2


def test_gradients_are_averaged_and_an_unused_part_stays_without(ranks):
    assert [rank["gradients"] for rank in ranks] == [[[0.5] * 3, None]] * 2


def test_one_process_needs_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_world() == World(0, 1, 0) and World().is_main
    assert any_rank(True) and not any_rank(False)
    parameter = torch.zeros(2, requires_grad=True)
    average_gradients([parameter])
    assert parameter.grad is None
    wait_for_all()
    leave_world()


@pytest.mark.parametrize("what", ["validate", "watch", "label_cases", "stage", "progress"])
def test_others_hear_of_a_failure_before_it_ends_a_rank(what, monkeypatch):
    """Rank 0 alone writes: in the next step the others would wait for it. What a rank votes is what the others hear."""
    cases, votes = MemoryCases(), []
    batches = make_batches(cases, PATCH)

    def fails(kind, *args, **values):
        if kind == what:
            raise OSError(28, "No space left on device")

    callbacks = {name: lambda *args, name=name: fails(name) for name in ("validate", "watch")}
    labels = CaseLabels(cases, batches.store, batches.unlabeled, PATCH, None, lambda kind, **values: None)
    monkeypatch.setattr(labels, "_write", lambda *args: fails("label_cases"))
    monkeypatch.setattr(loop, "any_rank", lambda flag: votes.append(flag) or flag)
    options = train_options(iterations=6, log_every=3, patch_size=PATCH)
    with pytest.raises(OSError, match="No space left"):
        Fit(make_method("bcp", pretrain_share=0.5), batches, options, CPU, World(0, 2), fails, case_labels=labels, **callbacks).run()
    assert votes[-1] and votes.count(True) <= 2, "told, and nothing done since"


HALFWAY = """
import sys
from pathlib import Path
from semiseg import cli
from semiseg.protocol import ask_to_stop

class Terminal:
    def __call__(self, kind, **values):
        if kind == "progress" and values["what"] == "train" and values["done"] == 2:
            {what}

cli.Terminal = Terminal
sys.exit(cli.main(["run", sys.argv[1]]))
"""
HALFWAY_EVENTS = {"full_disk": 'raise OSError(28, "No space left on device")', "stop": "ask_to_stop(Path(sys.argv[1]))"}


def test_torchrun_on_a_run_folder_trains_like_one_process(tmp_path, engine_environment, monkeypatch):
    """``torchrun -m semiseg run DIR``: rank 0 meets a full disk, again and stopped, continued: one model, all held-out cases segmented, no rank counts as failed."""
    data = builders.write_cohort(tmp_path / "data", num_labeled=2, num_unlabeled=2, num_held_out=2, ending=".nrrd")
    job = {
        "labeled": [str(data / "labeled")],
        "unlabeled": [str(data / "unlabeled")],
        "held_out": [str(data / "heldout")],
        "method": "supervised",
        "device": "cpu",
        "threads": 1,
        "network_options": {"width": 2, "depth": 3, "dropout": 0.0},
        "training": {"patch_size": [8, 16, 16], "iterations": 4, "batch_labeled": 4, "batch_unlabeled": 4, "log_every": 2, "optimizer": "sgd"},
    }
    one, two = tmp_path / "one", tmp_path / "two"
    write_job(one, Job("train", job))
    monkeypatch.setattr("semiseg.train.prepare_cpu", lambda: None)  # it changes this process for good
    assert run_folder(one) == ExitCode.FINISHED
    write_job(two, Job("train", job))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    environment = {key: value for key, value in engine_environment.items() if key != "PYTHONWARNINGS"}  # torchrun warns by itself
    for name, what in HALFWAY_EVENTS.items():
        (tmp_path / f"{name}.py").write_text(HALFWAY.format(what=what))
    for what in (*([str(tmp_path / f"{name}.py")] for name in HALFWAY_EVENTS), ["-m", "semiseg", "run", "--quiet"]):
        done = subprocess.run([*command, *what, str(two)], env=environment, capture_output=True, text=True, timeout=300)
        if "Signal 6 (SIGABRT)" in done.stderr:
            pytest.xfail("PyTorch aborted a rank, seen once in 33 runs on a busy computer (docs/decisions.md, known debt)")
        assert done.returncode == 0, done.stdout + done.stderr
    expected, found = (read_model(folder / MODEL_FILE)[1] for folder in (one, two))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=2e-5)
    events, _ = read_events(two / EVENTS_FILE)
    kinds = [event["kind"] for event in events]
    endings = ("paused", "failed", "stopped", "finished")
    assert [kind for kind in kinds if kind in ("started", *endings)] == ["started", "paused", "started", "stopped", "started", "finished"]
    assert events[kinds.index("paused")]["code"] == "E807" and events[kinds.index("stopped")]["step"] == 2
    assert events[0]["ranks"] == 2 and events[-1]["result"]["scored"] == 2
    masks = sorted(path.name for path in (two / "segmentations").glob("*.seg.nrrd"))
    assert masks == ["heldout_00.seg.nrrd", "heldout_01.seg.nrrd"]


def test_torchrun_shares_the_volumes_of_a_prediction(tmp_path, engine_environment):
    """Two computers with one gloo rank each (a launcher each, a folder they share): every volume once; rank 0 tells what became of all, also of the broken one."""
    images = tmp_path / "images"
    images.mkdir()
    for name in ("P1", "P3", "P4"):
        write_volume(images / f"{name}.nrrd", box_volume())
    (images / "P2.nrrd").write_bytes(b"no volume")
    job = {"model": str(write_tiny_model(tmp_path / "model.pt")), "inputs": [str(images)], "device": "cpu"}
    run = tmp_path / "run"
    write_job(run, Job("predict", job))
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1"]
    command += ["--master-port", str(free_port()), "--node-rank"]
    environment = {key: value for key, value in engine_environment.items() if key != "PYTHONWARNINGS"}  # torchrun warns by itself
    launchers = [
        subprocess.Popen([*command, node, "-m", "semiseg", "run", "--quiet", str(run)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for node in ("0", "1")
    ]
    try:
        for launcher in launchers:
            said, _ = launcher.communicate(timeout=300)
            assert launcher.returncode == 0, said
    finally:
        for launcher in launchers:
            launcher.kill()
    events, _ = read_events(run / EVENTS_FILE)
    told = {event["id"]: event["status"] for event in events if event["kind"] == "case"}
    assert told == {"P1": "done", "P2": "failed", "P3": "done", "P4": "done"}
    assert [case["id"] for case in events[-1]["result"]["cases"]] == ["P1", "P2", "P3", "P4"]
    assert events[0]["ranks"] == 2 and "3 done, 1 failed" in events[-1]["result"]["summary"]
    expected = box_volume().array > 0.5
    for name in ("P1", "P3", "P4"):
        assert np.array_equal(read_volume(run / "segmentations" / f"{name}.nii.gz").array, expected), name


@pytest.mark.parametrize(
    ("wanted", "code"), [("cuda", "E201"), ("cuda:3", "E201"), ("tpu", ""), ("gpu", "")], ids=lambda value: value or "no code"
)
def test_a_device_that_is_not_there_is_refused(wanted, code, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(InputError) as raised:
        choose_device(wanted, World())
    assert raised.value.code == code


def test_a_pytorch_for_the_cpu_alone_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(InputError) as raised:
        choose_device("cuda", World())
    assert raised.value.code == "E203"


def test_every_rank_takes_its_own_gpu(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert choose_device("auto", World(3, 4, 3)) == torch.device("cuda", 3)
    assert choose_device("cuda:1", World()) == torch.device("cuda", 1)
    assert choose_device("cpu", World()) == torch.device("cpu")
    assert chosen == [3, 1]
    with pytest.raises(InputError):
        choose_device("cuda:7", World())
