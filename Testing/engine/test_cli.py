"""The command line: few flags, help that says what happens, exit codes, and jobs that anybody can run again."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import builders
import pytest
from tiny_model import write_tiny_model

import semiseg
from semiseg import cli
from semiseg.cli import _parser, main
from semiseg.describe import describe, devices, options_of
from semiseg.errors import InputError
from semiseg.follow import last_result
from semiseg.methods import METHODS
from semiseg.networks import CHOOSABLE
from semiseg.progress import Terminal
from semiseg.protocol import PROTOCOL_VERSION, ExitCode, read_events, read_job

FLAGS = {
    "demo": {"--length", "--data"},
    "describe": {"--json"},
    "new": {"--labeled", "--unlabeled", "--held-out", "--num-labeled", "--method", "--goal", "--device", "--seed", "--baseline", "--set"},
    "train": {"--labeled", "--unlabeled", "--held-out", "--num-labeled", "--method", "--goal", "--device", "--seed", "--baseline", "--set"},
    "run": {"--quiet"},
    "predict": {"--out", "--device", "--stride", "--flips", "--probability", "--uncertainty", "--series-uid", "--overwrite"},
    "evaluate": {"--out", "--label", "--resample"},
    "phantom": {"--labeled", "--unlabeled", "--held-out", "--seed", "--size", "--full-field-of-view"},
    "study": {"--data", "--jobs", "--threads", "--device", "--dry-run", "--measure", "--quick", "--redo-changed", "--cluster"},
    "report": set(),
    "export-seg": {
        "--series", "--segmentation", "--output", "--series-uid", "--labels", "--history", "--creator", "--unverified", "--resample", "--set",
    },
}  # fmt: skip
"""Frozen: whoever needs one more decides first whether it replaces one, or is an option behind ``--set``."""


@pytest.fixture(autouse=True)
def leave_this_process_as_it_is(monkeypatch):
    monkeypatch.setattr("semiseg.training.cpu.prepare_cpu", lambda: None)


def verbs() -> dict[str, argparse.ArgumentParser]:
    (actions,) = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return actions.choices


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}


def test_no_new_flags():
    assert {name: flags_of(parser) for name, parser in verbs().items()} == FLAGS
    assert max(map(len, FLAGS.values())) <= 10


WHAT_IT_DOES = {
    "demo": "phantoms",
    "describe": "method",
    "new": "without running",
    "train": "score",
    "run": "torchrun",
    "predict": "segment",
    "evaluate": "Dice",
    "phantom": "phantoms",
    "study": "compare methods",
    "report": "HTML",
    "export-seg": "DICOM Segmentation",
}


@pytest.mark.parametrize("verb", FLAGS)
def test_help_says_what_a_verb_does(verb, capsys):
    with pytest.raises(SystemExit) as raised:
        main([verb, "--help"])
    assert raised.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert WHAT_IT_DOES[verb].lower() in text.lower()
    for action in verbs()[verb]._actions:
        assert action.help, f"{verb} {action.dest} has no help"


@pytest.mark.parametrize("verb", ["train", "new"])
def test_help_says_how_tsa_is_put_on_top_of_a_method(verb, capsys, tmp_path):
    """The example in the help works as it stands there."""
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    example = re.search(r"`(--method \w+ --set tsa=true)`", text)[1]
    assert main(["new", str(tmp_path / "run"), *example.split()]) == 0
    assert json.loads((tmp_path / "run" / "job.json").read_text())["options"]["tsa"] is True


def test_help_lists_every_verb(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(verb in text for verb in FLAGS) and "Research use only" in text


def test_a_flag_that_is_not_there_is_refused(capsys):
    for words in (["train"], ["fly"], ["describe", "--xml"], []):
        with pytest.raises(SystemExit) as raised:
            main(words)
        assert raised.value.code == 2
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0 and semiseg.__version__ in capsys.readouterr().out


# describe


@pytest.fixture(scope="module")
def found() -> dict:
    return json.loads(json.dumps(describe(), allow_nan=False))


def test_describe_prints_json_that_a_window_can_read(capsys, found):
    assert main(["describe", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {**printed, "devices": 0} == {**found, "devices": 0}
    assert printed["semiseg"] == semiseg.__version__ and printed["protocol"] == PROTOCOL_VERSION


def test_describe_lists_every_method_and_network(found, capsys):
    assert [method["name"] for method in found["methods"]] == list(METHODS)
    assert [network["name"] for network in found["networks"] if not network["name"].startswith("monai:")] == list(CHOOSABLE)
    parameters = {network["name"]: network["parameters"] for network in found["networks"]}
    assert parameters["vnet"] == 9_448_866 and parameters["unet2d"] == 1_813_764
    assert all({"plus", "faithful"} <= set(method["presets"]) for method in found["methods"])
    assert main(["describe"]) == 0
    text = capsys.readouterr().out
    assert "9,448,866 parameters" in text and all(name in text for name in METHODS)


@pytest.mark.parametrize("missing", [[], ["einops"], ["monai", "einops"]])
def test_describe_tells_of_the_networks_of_monai(missing, monkeypatch, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in missing else real("json" if name in ("monai", "einops") else name, *rest))
    found = describe()["monai"]
    assert found["installed"] == (not missing) and found["missing"] == missing
    assert {option["name"] for option in found["options"]} == {"arguments", "downscale", "bottleneck_graph"}
    assert main(["describe"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "monai:NAME" in line]
    assert "monai:SwinUNETR" in line and line.endswith("installed" if not missing else f"pip install {' '.join(missing)}")


def test_every_option_has_a_type_a_default_and_a_meaning(found):
    groups = {name: found[name] for name in ("job", "training", "augment", "preprocessing", "segment")}
    groups |= {entry["name"]: entry["options"] for kind in ("methods", "networks") for entry in found[kind]}
    assert len(groups) >= 5 + len(METHODS)
    for group, options in groups.items():
        assert options, group
        for option in options:
            assert {"name", "type", "default", "meaning"} <= set(option)
            assert len(option["meaning"]) > 15 and option["type"], f"{group}.{option['name']}"


SOURCES = (
    r"\b([Oo]urs|[Pp]apers?|authors|published|re-implementation|TSA|ISDA|BCP|UA-MT|GraphCL|TransMedSeg|CPS|MICD|DHC|SemiGDA|SSL4MIS|DeepCut|Latent diffusion)\b"
)


@pytest.mark.parametrize("name", METHODS)
def test_every_option_of_a_method_names_the_source_of_its_value(name, found):
    (method,) = [method for method in found["methods"] if method["name"] == name]
    assert [option["name"] for option in method["options"] if not re.search(SOURCES, option["meaning"])] == []


def test_the_cpu_is_always_a_device():
    assert devices()[0]["name"] == "cpu" and devices()[0]["works"]


def test_meanings_are_read_from_docstrings():
    @dataclasses.dataclass
    class Base:
        """Some.

        Attributes:
            first, second: Two at once,
                over two lines.
        """

        first: int = 1
        second: tuple[int, ...] = (1, 2)

    @dataclasses.dataclass
    class Derived(Base):
        """More.

        Args:
            second: Told again, with a source at the start of a line.
                The paper: 1, 2.
            third: New: with a colon.

        Raises:
            fourth: This is no option.
        """

        third: str = "x"
        fourth: list = dataclasses.field(default_factory=list)

    meanings = {option["name"]: option["meaning"] for option in options_of(Derived)}
    assert meanings == {
        "first": "Two at once, over two lines.",
        "second": "Told again, with a source at the start of a line. The paper: 1, 2.",
        "third": "New: with a colon.",
        "fourth": "",
    }
    assert options_of(Derived)[1]["default"] == [1, 2] and options_of(Derived)[3]["default"] == []


# new and train


def test_new_writes_a_job_with_every_option(tmp_path, capsys):
    words = ["new", str(tmp_path / "run"), "--labeled", "a", "b", "--method", "bcp", "--num-labeled", "4", "--seed", "7", "--baseline"]
    words += ["--set", "training.iterations=300", "--set", "method_options.decay=0.9", "--set", "network=unet3d", "--set", "num_validation=1"]
    assert main(words) == 0
    assert str(tmp_path / "run" / "job.json") in capsys.readouterr().out
    job = read_job(tmp_path / "run")
    assert job.verb == "train" and job.options["method"] == "bcp" and job.options["baseline"] is True
    assert job.options["labeled"] == [str(Path("a").resolve()), str(Path("b").resolve())], "the job means the same from any folder"
    assert job.options["training"] == {"iterations": 300} and job.options["method_options"] == {"decay": 0.9}
    assert (job.options["network"], job.options["seed"], job.options["num_validation"]) == ("unet3d", 7, 1)
    assert {option["name"] for option in describe()["job"]} == set(job.options)


def test_new_does_not_replace_a_job(tmp_path, capsys):
    assert main(["new", str(tmp_path)]) == 0
    before = (tmp_path / "job.json").read_bytes()
    assert main(["new", str(tmp_path), "--seed", "5"]) == ExitCode.REFUSED
    assert (tmp_path / "job.json").read_bytes() == before and "already holds a job" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "bpc"], "bpc"),
        (["--goal", "fast"], "fast"),
        (["--set", "seed"], "OPTION=VALUE"),
        (["--set", "sede=1"], "sede"),
        (["--set", "seed.x=1"], "seed is not a group"),
        (["--set", "seed=one"], "expected an integer"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(words, message, tmp_path, capsys):
    assert main(["new", str(tmp_path / "run"), *words]) == ExitCode.REFUSED
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_train_without_labels_is_refused(tmp_path, capsys):
    assert main(["train", str(tmp_path / "run")]) == ExitCode.REFUSED
    text = capsys.readouterr().err
    assert "E801" in text and "--labeled" in text and not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train", str(tmp_path / "file" / "run"), "--labeled", str(tmp_path)]) == ExitCode.REFUSED
    assert "E809" in capsys.readouterr().err


def test_run_refuses_a_folder_without_job(tmp_path, capsys):
    assert main(["run", str(tmp_path)]) == ExitCode.REFUSED
    assert "job" in capsys.readouterr().err


def test_the_program_exits_with_the_code_of_its_verb(tmp_path, engine_environment):
    command = [sys.executable, "-m", "semiseg", "run", str(tmp_path), "--quiet"]
    done = subprocess.run(command, env=engine_environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "There is no usable job" in done.stderr
    assert json.loads(done.stdout)["semiseg"] == semiseg.__version__, "the log says what ran"


# predict, evaluate, report, export-seg


def test_predict_and_evaluate_on_files(tmp_path, capsys):
    data = builders.write_cohort(tmp_path / "data", 2, 0, 0, ending=".nrrd")
    model = write_tiny_model(tmp_path / "model.pt", thresholds=(1.5,))
    images = [str(data / "labeled" / f"labeled_0{number}.nrrd") for number in range(2)]
    assert main(["predict", str(model), *images, "--out", str(tmp_path / "out"), "--device", "cpu", "--probability"]) == 0
    assert "2 done." in capsys.readouterr().out
    assert (tmp_path / "out" / "labeled_00.probability.nii.gz").exists()
    references = tmp_path / "references"
    references.mkdir()
    for mask in (data / "labeled").glob("*_seg.nii.gz"):
        mask.rename(references / mask.name)
    words = ["evaluate", str(tmp_path / "out"), str(references), "--out", str(tmp_path / "scores"), "--label", "1=left atrium"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "left atrium" in text and "Dice" in text and (tmp_path / "scores" / "dice.csv").exists()
    scores = last_result(tmp_path / "scores")["scores"]["left atrium"]
    assert 0.3 < scores["dice"]["mean"] < 1 and scores["dice"]["count"] == 2


def test_a_model_that_is_not_ours_is_refused_with_code_2(tmp_path, capsys):
    (tmp_path / "model.pt").write_text("hello")
    image = builders.write_case(tmp_path, "a", ending=".nrrd", mask_ending=None)
    assert main(["predict", str(tmp_path / "model.pt"), str(image), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert capsys.readouterr().err.count("E403") == 1


def test_predict_exits_with_2_only_where_no_case_succeeded(tmp_path, capsys):
    """One mask is a result, with the others named; no mask at all must stop a script that wants to go on."""
    model = write_tiny_model(tmp_path / "model.pt", thresholds=(1.5,))
    good = builders.write_case(tmp_path, "good", ending=".nrrd", mask_ending=None)
    for name in ("short", "empty"):
        (tmp_path / f"{name}.nrrd").write_bytes(good.read_bytes()[: 200 * (name == "short")])
    words = ["predict", str(model), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*words, str(tmp_path / "short.nrrd"), str(tmp_path / "empty.nrrd")]) == ExitCode.REFUSED
    shown = capsys.readouterr()
    assert "2 failed" in shown.err and "E311" in shown.err and "done." not in shown.out
    ending = read_events(tmp_path / "out" / ".run" / "events.jsonl")[0][-1]
    assert ending["kind"] == "finished" and {case["status"] for case in ending["result"]["cases"]} == {"failed"}
    for _ in range(2):  # the second time the good one was done before, which is a result too
        assert main([*words, str(tmp_path / "short.nrrd"), str(good)]) == ExitCode.FINISHED
        assert "1 failed" in capsys.readouterr().out


def test_evaluate_needs_named_values(tmp_path, capsys):
    assert main(["evaluate", "a", "b", "--out", str(tmp_path), "--label", "left atrium"]) == ExitCode.REFUSED
    assert "VALUE=NAME" in capsys.readouterr().err


def test_report_needs_a_result(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == ExitCode.REFUSED
    assert "no result yet" in capsys.readouterr().err


def test_rare_export_options_are_set_by_name(tmp_path, monkeypatch):
    import semiseg.export_seg as module

    given = []

    def fake(series, segmentation, output, options, report):
        given.append(options)
        return argparse.Namespace(message="Written")

    monkeypatch.setattr(module, "export_seg", fake)
    words = ["export-seg", "--series", "s", "--segmentation", "m.nii.gz", "--output", "o.dcm", "--labels", "1=left atrium", "--unverified"]
    words += ["--set", "kind=LABELMAP", "--set", "algorithm_version=1.2", "--set", "keep_empty_frames=true", "--set", "description=a=b"]
    assert main(words) == 0
    (options,) = given
    assert (options.kind, options.algorithm_version, options.keep_empty_frames, options.description) == ("LABELMAP", "1.2", True, "a=b")
    assert options.is_unverified and options.labels == {"1": "left atrium"}
    for wrong in ("kind", "kinds=BINARY", "kind=RLE"):
        assert main([*words, "--set", wrong]) == ExitCode.REFUSED


def test_an_interrupt_ends_quietly(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_report", interrupted)
    assert main(["report", "x"]) == ExitCode.STOPPED


def test_errors_reach_the_terminal_with_code_place_and_remedy(monkeypatch, capsys):
    def refused(*_):
        raise InputError("It is broken.", code="E123", hint="Mend it.", path="/some/where")

    monkeypatch.setattr(cli, "_report", refused)
    assert main(["report", "x"]) == ExitCode.REFUSED
    assert capsys.readouterr().err == "Error E123: It is broken. (/some/where) Mend it.\n"


# The terminal


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_few_lines_and_a_screen_one_that_moves():
    log, screen = io.StringIO(), Screen()
    for stream in (log, screen):
        terminal = Terminal(stream)
        terminal("scalar", name="loss", value=0.25, step=1)
        for done in range(1, 101):
            terminal("progress", what="train", done=done, total=100, rate_per_s=4.0, eta_s=(100 - done) / 4, stage="pretrain")
        terminal("state", message="All done.")
    lines = log.getvalue().splitlines()
    assert len(lines) == 3, "the first, the last and the sentence"
    assert "pretrain" in lines[0] and "25 s left" in lines[0] and "loss 0.250" in lines[0] and "4/s" in lines[0]
    assert "100 %" in lines[1] and "left" not in lines[1]
    assert screen.getvalue().count("\r") >= 2 and screen.getvalue().endswith("All done.\n")


def test_the_baseline_shows_its_own_loss():
    log = io.StringIO()
    terminal = Terminal(log)
    terminal("scalar", name="loss", value=0.25, step=9)
    terminal("progress", what="train", done=10, total=10, stage="self_train")
    terminal("progress", what="train", done=10, total=10, stage="baseline")
    terminal("scalar", name="baseline_loss", value=0.125, step=1)
    terminal("progress", what="train", done=10, total=10, stage="baseline")
    lines = log.getvalue().splitlines()
    assert lines[0].endswith("loss 0.250") and "loss" not in lines[1] and lines[2].endswith("loss 0.125")


@pytest.mark.parametrize(("eta", "text"), [(30, "30 s left"), (600, "10 min left"), (7200, "2.0 h left")])
def test_remaining_time_is_readable(eta, text):
    stream = io.StringIO()
    Terminal(stream)("progress", what="train", done=1, total=10, rate_per_s=0.25, eta_s=eta)
    assert text in stream.getvalue() and "4 s each" in stream.getvalue()


def test_what_matters_is_a_line_of_its_own():
    stream = io.StringIO()
    terminal = Terminal(stream)
    terminal("started", version="1", verb="train", device="cpu", pid=4)
    terminal("case", id="P1", status="used", reason="", code="")
    terminal("case", id="P2", status="refused", reason="No mask.", code="E803")
    terminal("warning", code="E802", message="No unlabeled volumes.", hint="")
    terminal("saved", path="/r/resume.pt", what="state", step=1)
    terminal("saved", path="/r/model.pt", what="model", step=9)
    terminal("paused", code="E807", message="Disk full.", hint="Free some.")
    terminal("stopped", step=7)
    text = stream.getvalue()
    assert "P1" not in text and "not used: P2 [E803] No mask." in text and "Warning E802" in text
    assert "resume.pt" not in text and "Saved model: /r/model.pt" in text
    assert "Error E807: Disk full. Free some." in text and "Stopped at step 7" in text


def test_progress_of_nothing_is_no_crash():
    Terminal(io.StringIO())("progress", what="preparing", done=0, total=0)
