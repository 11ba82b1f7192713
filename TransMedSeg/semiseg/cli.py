"""The command line: demo, describe, new, run, train, predict, evaluate, phantom, study, report, export-seg."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import __version__
from .errors import InputError
from .follow import last_result, run_in_worker
from .progress import Terminal
from .protocol import JOB_FILE, ExitCode, Job, ProtocolError, read_job, write_job

_SET_HELP = (
    "any other option (see `semiseg describe`); can be repeated. `--method bcp --set tsa=true` puts transferable semantic augmentation on top of "
    "bcp, mean_teacher or graphcl; `--set training.iterations=3000` sets the length"
)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit code (0 finished, 1 our defect, 2 refused, no case could be segmented or a run of a study failed, 3 stopped; 0 as well under torchrun)."""
    args = _parser().parse_args(arguments)
    terminal = Terminal()
    try:
        return _for_launcher(int(args.call(args, terminal)))
    except InputError as error:
        terminal("failed", code=error.code, message=error.message, hint=error.hint, path=None if error.path is None else str(error.path))
        return int(ExitCode.REFUSED)
    except ProtocolError as error:
        terminal("failed", code="", message=str(error), hint="")
        return int(ExitCode.REFUSED)
    except KeyboardInterrupt:
        return int(ExitCode.STOPPED)


def _for_launcher(code: int) -> int:
    if code != ExitCode.STOPPED:
        return code
    from .distributed import code_for_launcher  # needs torch, which a stopped run has loaded

    return code_for_launcher(code, ExitCode.STOPPED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="semiseg",
        description="Semi-supervised segmentation of medical volumes: a few labeled cases, many unlabeled ones. Research use only.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    demo = _verb(verbs, "demo", _demo, "the whole job on phantoms or on your folder, with and without the unlabeled cases")
    demo.add_argument("out", type=Path, help="folder for the results")
    demo.add_argument("--length", default="demo", help="demo (about ten minutes on two CPU cores, default) or quick (three)")
    demo.add_argument("--data", type=Path, help="your own folder instead of phantoms")
    describe = _verb(verbs, "describe", _describe, "list networks, methods and every option")
    describe.add_argument("--json", action="store_true", help="everything as JSON")
    new = _verb(verbs, "new", _new, "write a full job to edit, without running it")
    _train_flags(new)
    train = _verb(verbs, "train", _train, "train, segment the held-out cases, score them; continues a stopped run")
    _train_flags(train)
    run = _verb(verbs, "run", _run, "run a run folder (also: torchrun -m semiseg run DIR)")
    run.add_argument("run_dir", type=Path, help="folder with job.json")
    run.add_argument("--quiet", action="store_true", help="write events only")
    _predict_flags(_verb(verbs, "predict", _predict, "segment volumes with a model"))
    _evaluate_flags(_verb(verbs, "evaluate", _evaluate, "score label maps: Dice, Jaccard, 95HD, ASD, volumes"))
    _phantom_flags(_verb(verbs, "phantom", _phantom, "make a cohort of left-atrium phantoms"))
    study = _verb(verbs, "study", _study, "compare methods fairly: a grid of runs, its HTML report and CSV files; continues what was interrupted")
    _study_flags(study)
    report = _verb(verbs, "report", _report, "write the HTML report of a run")
    report.add_argument("run_dir", type=Path, help="run folder")
    export = _verb(verbs, "export-seg", _export, "write a DICOM Segmentation and verify it")
    from .export_seg import add_arguments

    add_arguments(export)
    return parser


def _verb(verbs: Any, name: str, call: Any, text: str) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.set_defaults(call=call)
    return parser


def _train_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, help="folder for the run; a stopped run in it continues")
    parser.add_argument("--labeled", type=Path, nargs="+", default=[], help="images with masks: files or folders; one folder may hold everything, such as a public data set (docs/datasets.md)")
    parser.add_argument("--unlabeled", type=Path, nargs="+", default=[], help="images without masks")
    parser.add_argument("--held-out", type=Path, nargs="+", default=[], help="images with masks for the final score")
    parser.add_argument("--num-labeled", type=int, help="use only the first N masks (of ACDC: patients)")
    parser.add_argument("--method", default="transmedseg", help="default: transmedseg")
    parser.add_argument("--goal", default="normal", help="quick, normal (default) or best")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--baseline", action="store_true", help="also train on the labels alone, to measure the gain")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help=_SET_HELP)


def _predict_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="model.pt")
    parser.add_argument("inputs", type=Path, nargs="+", help="files, folders, DICOM series folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--stride", type=int, nargs="+", help="step between windows (slice row column), in voxels")
    parser.add_argument("--flips", type=int, nargs="*", default=[], help="axes to mirror and average over: 0 1 2")
    parser.add_argument("--probability", action="store_true", help="also write the foreground probability")
    parser.add_argument("--uncertainty", action="store_true", help="also write the doubt, 0 to 1")
    parser.add_argument("--series-uid", help="which series, where a DICOM folder holds several")
    parser.add_argument("--overwrite", action="store_true", help="segment again what is done")


def _evaluate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("predictions", type=Path, help="label map or folder")
    parser.add_argument("references", type=Path, help="label map or folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for dice.csv and dice.json")
    parser.add_argument("--label", action="append", default=[], help="VALUE=NAME, can be repeated; default: all values of the references")
    parser.add_argument("--resample", action="store_true", help="allow another grid (nearest neighbor)")


def _phantom_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, help="folder for the cohort")
    parser.add_argument("--labeled", type=int, default=4, help="default: 4")
    parser.add_argument("--unlabeled", type=int, default=16, help="default: 16")
    parser.add_argument("--held-out", type=int, default=6, help="default: 6")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--size", default="half", help="grid: half (default) or full")
    parser.add_argument("--full-field-of-view", action="store_true", help="the whole chest, not a crop around the heart")


def _study_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, help="the study file, see docs/studies")
    parser.add_argument("out", type=Path, help="folder of the study; what is done in it is not done again")
    parser.add_argument("--data", type=Path, help="folder that $DATA in the study file stands for")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side (default: 1), each on the free GPU where there are several; on a cluster: jobs")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of each run (default: processors divided by --jobs)")
    parser.add_argument("--device", default="auto", help="auto (all GPUs when there are some, default), cpu, cuda or cuda:N")
    parser.add_argument("--dry-run", action="store_true", help="list the runs with their estimated time, start nothing")
    parser.add_argument("--measure", action="store_true", help="only prepare the data and measure how long a step of each row takes, then list the runs")
    parser.add_argument("--quick", action="store_true", help="rehearse: every row once, tiny and for a few steps, to see that it runs; the numbers mean nothing")
    parser.add_argument("--redo-changed", action="store_true", help="runs that the changed study asks otherwise are put aside and made anew")
    parser.add_argument("--cluster", nargs="*", metavar="PARAMETER=VALUE", help="run on a cluster through submitit, such as timeout_min=240 gpus_per_node=1")


def _demo(args: argparse.Namespace, terminal: Terminal) -> int:
    from .demo import run_demo
    from .report import write_report

    _make_folder(args.out)
    code, result = run_demo(args.out, args.length, args.data, terminal)
    if code == ExitCode.FINISHED:
        print(f"\n{table_of(result)}\n\nEverything is in {args.out / 'run'}; open {write_report(args.out / 'run')} in a browser.")
    return int(code)


def _describe(args: argparse.Namespace, _: Terminal) -> int:
    from .describe import describe

    found = describe()
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"semiseg {found['semiseg']}, PyTorch {found['torch']}, Python {found['python']}")
    for device in found["devices"]:
        print(f"  device {device['name']}: {device['title']}")
    for network in found["networks"]:
        print(f"  network {network['name']}: {network['title']}, {network['parameters']:,} parameters ({network['parameters_for']})")
    monai = found["monai"]
    print(f"  network {monai['name']}: {monai['title']}; {'installed' if monai['installed'] else 'needs: pip install ' + ' '.join(monai['missing'])}")
    for method in found["methods"]:
        print(f"  method {method['name']}: {method['title']} ({method['paper']})")
        for option in method["options"]:
            print(f"      {option['name']} = {option['default']}: {option['meaning']}")
    return 0


def _train_job(args: argparse.Namespace) -> Job:
    from .job_options import options_from
    from .train import TrainJob

    values: dict[str, Any] = {
        "labeled": _absolute(args.labeled),
        "unlabeled": _absolute(args.unlabeled),
        "held_out": _absolute(args.held_out),
        "num_labeled": args.num_labeled,
        "method": args.method,
        "goal": args.goal,
        "device": args.device,
        "seed": args.seed,
        "baseline": args.baseline,
    }
    for setting in args.set:
        _set(values, setting)
    return Job("train", asdict(options_from(TrainJob, values, "the verb train")))


def _set(values: dict[str, Any], setting: str) -> None:
    name, equals, text = setting.partition("=")
    if not equals:
        raise InputError(f"--set needs OPTION=VALUE; found {setting!r}.")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    *groups, last = name.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {name}: {group} is not a group of options.")
    values[last] = value


def _absolute(paths: list[Path]) -> list[str]:
    return [str(path.resolve()) for path in paths]


def _new(args: argparse.Namespace, _: Terminal) -> int:
    if (args.run_dir / JOB_FILE).exists():
        raise InputError("The run folder already holds a job.", path=args.run_dir, hint="Choose another folder, or delete it.")
    print(write_job(args.run_dir, _train_job(args)))
    return 0


def _train(args: argparse.Namespace, terminal: Terminal) -> int:
    if (args.run_dir / JOB_FILE).exists():
        job = read_job(args.run_dir)
        terminal("state", message=f"Continuing the run of {job.options.get('method')} in {args.run_dir}; its own job counts, not the flags.")
    else:
        job = _train_job(args)
        if not job.options["labeled"] and not job.options["prepared"]:
            raise InputError("No labeled volumes were given.", code="E801", hint="Use --labeled with files or a folder.")
        _make_folder(args.run_dir)
        write_job(args.run_dir, job)
    code = run_in_worker(args.run_dir, terminal)
    if code == ExitCode.FINISHED:
        from .report import write_report

        print(table_of(last_result(args.run_dir)))
        print(f"Report: {write_report(args.run_dir)}")
    return int(code)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder cannot be made: {error.strerror}.", code="E809", path=path, hint="Choose another folder.") from error


def table_of(result: dict[str, Any]) -> str:
    """The Dice table of a result, with the baseline beside it where there is one."""
    from .report import score_table

    return score_table(result)


def _run(args: argparse.Namespace, terminal: Terminal) -> int:
    from .worker import print_log_header, run_folder

    if args.quiet:
        print_log_header()
    return int(run_folder(args.run_dir, None if args.quiet else terminal))


def _predict(args: argparse.Namespace, terminal: Terminal) -> int:
    segment = {"flips": args.flips, "probability": args.probability, "uncertainty": args.uncertainty}
    if args.stride:
        segment["stride"] = args.stride
    options = {
        "model": str(args.model.resolve()),
        "inputs": _absolute(args.inputs),
        "out_dir": str(args.out.resolve()),
        "device": args.device,
        "segment": segment,
        "overwrite": args.overwrite,
        "series_uid": args.series_uid,
    }
    return _in_folder(args.out / ".run", "predict", options, terminal, lambda result: result.get("summary", ""))


def _evaluate(args: argparse.Namespace, terminal: Terminal) -> int:
    labels = []
    for text in args.label:
        value, equals, name = text.partition("=")
        if not equals or not value.strip().isdigit():
            raise InputError(f"--label needs VALUE=NAME; found {text!r}.")
        labels.append({"value": int(value), "name": name.strip()})
    options = {
        "predictions": str(args.predictions.resolve()),
        "references": str(args.references.resolve()),
        "labels": labels,
        "resample": args.resample,
    }
    return _in_folder(args.out, "evaluate", options, terminal, lambda _: (args.out / "dice.txt").read_text(encoding="utf-8"))


def _phantom(args: argparse.Namespace, terminal: Terminal) -> int:
    from .jobs import PhantomJob, run_phantom

    job = PhantomJob(str(args.out), args.labeled, args.unlabeled, args.held_out, args.seed, args.size, args.full_field_of_view)
    print(run_phantom(job, args.out, terminal)["out_dir"])
    return 0


def _study(args: argparse.Namespace, terminal: Terminal) -> int:
    from .distributed import is_first_process
    from .study.conduct import StudyJob, make_plan
    from .study.dry_run import listing, refusal
    from .study.folder import check_folder
    from .study.record import last_event

    options = _study_options(args)
    plan, sentences = make_plan(StudyJob(**options), args.out, needs_data=not args.dry_run)
    if not args.dry_run:
        if is_first_process():  # the others find its lock, and its job
            check_folder(args.out)
        code = _in_folder(args.out, "study", options, terminal, lambda result: _study_in_words(result, args))
        ending = last_event(args.out) or {}
        is_in_part = code == ExitCode.REFUSED and ending.get("kind") == "finished"  # some of it failed
        if is_in_part:
            print(_study_in_words(ending["result"], args))
        if not args.measure or not (is_in_part or code == ExitCode.FINISHED):
            return code
    for sentence in sentences:
        terminal("warning", message=sentence)
    print(listing(plan, args.jobs))
    if args.dry_run and (reason := refusal(plan, args.redo_changed)):
        print(f"The start will refuse: {reason}")
    return 0 if args.dry_run else code


def _study_options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {
        "study": str(args.study.resolve()),
        "data": "" if args.data is None else str(args.data.resolve()),
        "device": args.device,
        "jobs": args.jobs,
        "threads": args.threads,
        "measure": args.measure,
        "quick": args.quick,
        "redo_changed": args.redo_changed,
    }
    if args.cluster is not None:
        options["cluster"] = {}
        for setting in args.cluster:
            _set(options["cluster"], setting)
    return options


def _study_in_words(result: dict[str, Any], args: argparse.Namespace) -> str:
    num_failed, where = len(result["failed"]), result.get("report")
    if args.measure:
        return f"Measured, but {num_failed} parts of it failed: {', '.join(result['failed'])}." if num_failed else "Measured."
    failed = f", {num_failed} failed: see {where}" if num_failed else f". Report: {where}"
    return f"{result['done']} of {result['runs']} runs are done{failed}"


def _report(args: argparse.Namespace, _: Terminal) -> int:
    from .report import write_report

    if (args.run_dir / JOB_FILE).exists() and read_job(args.run_dir).verb == "study":
        from .study.conduct import report_again

        print(report_again(args.run_dir))
        return 0
    print(write_report(args.run_dir))
    return 0


def _export(args: argparse.Namespace, terminal: Terminal) -> int:
    from .export_seg import run

    print(run(args, terminal).message)
    return 0


def _in_folder(folder: Path, verb: str, options: dict[str, Any], terminal: Terminal, text: Any) -> int:
    """Runs a small verb through a run folder in this process, so that its events and its job are kept."""
    from .distributed import is_first_process
    from .worker import run_folder

    _make_folder(folder)
    if is_first_process():  # the others wait for it before they read the job
        write_job(folder, Job(verb, options))
    code = run_folder(folder, terminal)
    if code == ExitCode.FINISHED and is_first_process():  # another rank may end before the result is written
        print(text(last_result(folder)))
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
