"""What a method must become when a part of it is switched off: the other method, step for step."""

from __future__ import annotations

import math

import pytest
import torch
from training_cases import MemoryCases, last_stage, make_batches, make_method, steps

from semiseg.errors import InputError
from semiseg.losses.segmentation import cross_entropy_map, dice_and_cross_entropy
from semiseg.methods.base import Progress, Task
from semiseg.methods.copy_paste import box_mask
from semiseg.methods.copy_paste_training import PRETRAIN, SELF_TRAIN
from semiseg.methods.teacher import Teacher

NO_GRAPH = {"graph_alignment": False, "clustering_weight": 0.0}


@pytest.fixture(scope="module")
def batches():
    return make_batches(MemoryCases())


def history(name, batches, count=3, **options):
    method = make_method(name, **options)
    found = steps(method, batches, count)
    return found, {key: value.clone() for key, value in method.deployed.state_dict().items()}


def same_course(first, second, tolerance=1e-6):
    for one, other in zip(first[0], second[0]):
        assert one["total"] == pytest.approx(other["total"], abs=tolerance)
    for key, value in first[1].items():
        torch.testing.assert_close(value, second[1][key], rtol=0, atol=tolerance)


def test_transmedseg_without_tsa_and_graph_is_bcp(batches):
    same_course(history("transmedseg", batches, tsa_weight=0.0, mixing=0.5, **NO_GRAPH), history("bcp", batches, mixing=0.5))


def test_transmedseg_without_tsa_is_graphcl(batches):
    torch.manual_seed(0)
    ours = history("transmedseg", batches, tsa_weight=0.0)
    theirs = history("graphcl", batches)
    assert ours[0][0]["total"] == pytest.approx(theirs[0][0]["total"], abs=1e-6)
    assert ours[0][0].keys() == theirs[0][0].keys()


def test_graphcl_without_alignment_and_clustering_is_bcp(batches):
    same_course(history("graphcl", batches, mixing=0.5, **NO_GRAPH), history("bcp", batches, mixing=0.5))


def test_mean_teacher_without_consistency_is_supervised(batches):
    """With instance normalization a sample does not see the others of its pass."""
    same_course(history("mean_teacher", batches, weight=0.0), history("supervised", batches), tolerance=2e-6)


def test_mean_teacher_without_unlabeled_cases_is_supervised():
    batches = make_batches(MemoryCases(), unlabeled=())
    same_course(history("mean_teacher", batches), history("supervised", batches))


def test_pretraining_without_mixing_is_supervised(batches):
    batch = batches.batch(0)
    bcp, plain = make_method("bcp", pretrain_mixing=0.0).train(), make_method("supervised").train()
    found = bcp(batch, Progress(PRETRAIN, 0.0, 0.0, 0))["total"]
    torch.testing.assert_close(found, plain(batch, Progress("train", 0.0, 0.0, 0))["total"])


def test_pretraining_mixes_in_the_stated_share_of_the_steps(batches):
    method = make_method("bcp", pretrain_mixing=0.5).train()
    with torch.no_grad():
        plain = [float(dice_and_cross_entropy(method.core.student(b.perturb_labeled()).logits, b.labels)) for b in map(batches.batch, range(24))]
        found = [float(method(batches.batch(step), Progress(PRETRAIN, 0.0, 0.0, 0))["total"]) for step in range(24)]
    mixed = sum(abs(one - other) > 1e-6 for one, other in zip(plain, found))
    assert 6 <= mixed <= 18


@pytest.mark.parametrize(("both", "count"), [(True, 4), (False, 2)])
def test_pretraining_takes_both_mixtures_of_a_pair_or_one_as_the_authors(both, count, monkeypatch):
    """Frames of the first and cores of the second; and the same the other way round where both are taken."""
    batch = make_batches(MemoryCases(), counts=(4, 4)).batch(0)
    method = make_method("bcp", pretrain_mixing=1.0, pretrain_both=both, perturb=False).train()
    seen = []
    method.core.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method(batch, Progress(PRETRAIN, 0.0, 0.0, 0))
    frame = box_mask(tuple(batch.labeled.shape[2:]), _after_the_draw(batch.seed))
    expected = torch.where(frame, batch.labeled[0::2], batch.labeled[1::2])
    assert len(seen[0]) == count
    for found, wanted in zip(seen[0][:: 2 if both else 1], expected, strict=True):
        assert torch.equal(found, wanted)


def test_the_authors_dice_of_pretraining_counts_the_background_too(batches):
    batch = batches.batch(0)
    options = {"pretrain_mixing": 0.0, "perturb": False}
    method = make_method("bcp", pretrain_dice="classes", **options).train()
    with torch.no_grad():
        found = float(method(batch, Progress(PRETRAIN, 0.0, 0.0, 0))["total"])
        logits = method.core.student(batch.labeled).logits
    p = logits.softmax(1).flatten(2)
    one_hot = torch.nn.functional.one_hot(batch.labels, 2).movedim(-1, 1).flatten(2)
    dice = 1 - ((2 * (p * one_hot).sum(2) + 1e-5) / (p.sum(2) + one_hot.sum(2) + 1e-5)).mean()
    expected = 0.5 * dice + 0.5 * torch.nn.functional.cross_entropy(logits, batch.labels)
    assert found == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(ValueError, match="pretrain_dice"):
        make_method("bcp", pretrain_dice="some")


def _after_the_draw(seed):
    """The generator of a step once it has decided whether to mix."""
    generator = torch.Generator().manual_seed(seed)
    torch.rand((), generator=generator)
    return generator


# TSA


def tsa_loss_of(batches, count=2, **options):
    """TSA's loss of the last of a few steps, with the cross-entropy on the voxels with ground truth beside it."""
    method = make_method("transmedseg", **options)
    steps(method, batches, count - 1)
    batch, progress = batches.batch(count - 1), last_stage(method, iteration=count - 1)
    losses = method.train()(batch, progress)
    with torch.no_grad():
        step = method.core.self_train(batch)
        entropy = cross_entropy_map(step.output.logits, step.labels)[step.is_truth].mean()
    return float(losses["tsa"].detach()), float(entropy)


def test_form_plain_adds_the_weighted_cross_entropy(batches):
    loss, entropy = tsa_loss_of(batches, form="plain", tsa_weight=0.4, **NO_GRAPH)
    assert loss == pytest.approx(0.4 * entropy, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.0},
        {"warmup": 1.0},
        {"shift": False, "covariance": "none"},
        {"form": "margin", "margins": (0.0, 0.0)},
        {"form": "exact", "alpha": 0.0},
    ],
    ids=lambda options: " ".join(f"{key}={value}" for key, value in options.items()),
)
def test_without_its_statistics_tsa_is_plain_cross_entropy(batches, options):
    same_course(
        history("transmedseg", batches, **NO_GRAPH, **options), history("transmedseg", batches, form="plain", **NO_GRAPH), tolerance=1e-5
    )


def test_tsa_is_proportional_to_its_weight(batches):
    one, _ = tsa_loss_of(batches, count=1, tsa_weight=0.4, **NO_GRAPH)
    two, _ = tsa_loss_of(batches, count=1, tsa_weight=0.8, **NO_GRAPH)
    assert two == pytest.approx(2 * one, rel=1e-6)


def test_the_exact_expectation_lies_below_the_bound(batches):
    """Jensen's inequality, on the same network, statistics and batch; both differ from plain cross-entropy."""
    common = {**NO_GRAPH, "tsa_weight": 1.0, "alpha": 5.0, "shift": False}
    bound, entropy = tsa_loss_of(batches, count=1, form="bound", **common)
    exact, _ = tsa_loss_of(batches, count=1, form="exact", **common)
    assert entropy < exact < bound


def test_the_sign_of_the_shift_turns_its_part_of_the_table_around(batches):
    tables = []
    for sign in (1, -1):
        method = make_method("transmedseg", sign=sign, covariance="none", alpha=1.0, warmup=0.0, **NO_GRAPH)
        method.train()(batches.batch(0), last_stage(method, iteration=0))
        mean_source, mean_target, _, _ = method.tsa._statistics()
        tables.append(mean_target - mean_source)
    assert tables[0].abs().max() > 1e-3
    torch.testing.assert_close(tables[0], -tables[1])


def test_alpha_rises_linearly_after_the_warm_up(batches):
    method = make_method("transmedseg", alpha=0.25, warmup=0.2, **NO_GRAPH).train()

    def alpha(fraction):
        method(batches.batch(0), Progress(SELF_TRAIN, fraction, fraction, 0))
        return method.diagnostics()["tsa_alpha"]

    assert [alpha(fraction) for fraction in (0.0, 0.1, 0.4, 0.8)] == pytest.approx([0.0, 0.0, 0.1, 0.2])


def test_only_sure_voxels_enter_the_statistics_when_asked(batches):
    counts = []
    for confident in (0.0, 0.9999):
        method = make_method("transmedseg", confident=confident, **NO_GRAPH).train()
        method(batches.batch(0), last_stage(method, iteration=0))
        counts.append(float(method.tsa.target.voxel_count.sum()))
    assert counts[1] < 0.1 * counts[0]


def test_the_statistics_move_in_every_nth_step_alone(batches):
    for every, expected in ((1, [1, 2, 3, 4, 5]), (4, [1, 1, 1, 1, 2])):
        method = make_method("transmedseg", statistics_every=every, **NO_GRAPH).train()
        calls = []
        for iteration in range(5):
            method(batches.batch(iteration), last_stage(method, iteration=iteration))
            calls.append((int(method.tsa.source.num_calls), int(method.tsa.target.num_calls)))
        assert calls == [(one, one) for one in expected]


@pytest.mark.parametrize("options", [{"form": "margin"}, {"form": "exact"}], ids=lambda options: options["form"])
def test_forms_for_two_classes_say_so(options):
    with pytest.raises(InputError, match="two classes"):
        make_method("transmedseg", num_classes=4, **options)


@pytest.mark.parametrize("options", [{"statistics": "both"}, {"covariance": "half"}, {"sign": 0}, {"form": "loose"}, {"statistics_every": 0}])
def test_tsa_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_method("transmedseg", **options)


# Copy-paste


@pytest.mark.parametrize("term", ("in", "out"))
def test_pseudo_labels_count_by_their_weight(term, batches):
    """In both mixtures: without them only the region with ground truth remains, and the loss is linear in the weight."""
    batch = batches.batch(0)
    losses = [
        float(make_method("bcp", pseudo_weight=weight, mixing=1.0).train()(batch, Progress(SELF_TRAIN, 0.5, 0.5, 0))[term].detach())
        for weight in (0.0, 0.5, 1.0)
    ]
    assert losses[0] < losses[1] < losses[2]
    assert losses[1] == pytest.approx((losses[0] + losses[2]) / 2, rel=1e-5)


def test_two_flips_leave_a_symmetric_teacher_as_it_is(batches):
    """Averaging over the mirror image changes the pseudo-labels only as far as the teacher is not symmetric."""
    method = make_method("bcp", teacher_flips=2).train()
    symmetric = torch.cat([(half := batches.batch(0).unlabeled[..., :8]), half.flip(-1)], dim=-1)
    mean = method.core._teach(symmetric).logits.softmax(1)
    torch.testing.assert_close(mean, mean.flip(-1), rtol=1e-4, atol=1e-5)


def test_the_deployed_teacher_is_warm_and_bcps_starts_as_a_copy(batches):
    ours, theirs = make_method("bcp", deploy="teacher"), make_method("bcp", deploy="student")
    for method in (ours, theirs):
        with torch.no_grad():
            for parameter in method.core.student.parameters():
                parameter.add_(0.1)
        method.start_stage(SELF_TRAIN)
    copied = [torch.equal(*pair) for pair in zip(theirs.core.teacher.network.parameters(), theirs.core.student.parameters())]
    kept = [torch.equal(*pair) for pair in zip(ours.core.teacher.network.parameters(), ours.core.student.parameters())]
    assert all(copied) and not any(kept)


# Teacher


def student_and_teacher(**options):
    student = Task(2, "vnet", {"width": 2, "depth": 3, "norm": "batch"}).make_network()
    return student, Teacher(student, **options)


def same_state(network, other):
    state, theirs = network.state_dict(), other.state_dict()
    return state.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in state.items())


def test_a_teacher_starts_as_a_copy_that_does_not_move_with_the_student():
    student = student_and_teacher()[0].train()
    student(torch.randn(2, 1, 8, 8, 8) + 5)  # so that the buffers are not those of a fresh network
    teacher = Teacher(student)
    assert same_state(teacher.network, student)
    with torch.no_grad():
        for value in (*student.parameters(), *student.buffers()):
            value.add_(1)
    assert not any(torch.equal(value, student.state_dict()[key]) for key, value in teacher.network.state_dict().items())
    teacher.copy_from(student)
    assert same_state(teacher.network, student)


@pytest.mark.parametrize(
    ("name", "student", "options"),
    [
        ("supervised", "student", {}),
        ("mean_teacher", "student", {}),
        ("ua_mt", "student", {}),
        ("cps", "students", {"starts": "kaiming and xavier"}),
        ("bcp", "core.student", {}),
        ("graphcl", "core.student", {}),
        ("transmedseg", "core.student", {}),
        ("micd", "students", {"starts": "kaiming"}),
        ("semigda", "network", {}),
    ],
)
def test_at_the_start_every_teacher_is_its_student(name, student, options):
    """Also where a method draws the student's weights in its own way."""
    method = make_method(name, **options)
    (teacher,) = (module for module in method.modules() if isinstance(module, Teacher))
    assert same_state(teacher.network, method.get_submodule(student))


def test_a_teacher_moves_by_the_stated_share():
    student, teacher = student_and_teacher(decay=0.9)
    before = [parameter.clone() for parameter in teacher.parameters()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    teacher.update(student, step=10_000)
    for old, new in zip(before, teacher.parameters()):
        torch.testing.assert_close(new, old + 0.1)


def test_a_young_teacher_follows_faster():
    student, teacher = student_and_teacher(decay=0.99)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.fill_(1.0)
        for parameter in teacher.parameters():
            parameter.fill_(0.0)
    teacher.update(student, step=0)
    torch.testing.assert_close(next(teacher.parameters())[0, 0, 0, 0, 0], torch.tensor(0.9))


@pytest.mark.parametrize("average", (True, False))
def test_buffers_follow_only_when_asked(average):
    student, teacher = student_and_teacher(decay=0.5, average_buffers=average)
    student.train()(torch.randn(2, 1, 8, 8, 8) + 5)
    teacher.update(student, step=10_000)
    moved = [not torch.equal(*pair) for pair in zip(teacher.network.buffers(), student_and_teacher()[0].buffers())]
    assert any(moved) == average


def test_a_teacher_ignores_the_mode_of_the_method():
    student, quiet = student_and_teacher()
    assert not quiet.train().network.training
    assert student_and_teacher(training_mode=True)[1].eval().network.training
    student.train()
    assert not quiet.network.training


def test_a_teachers_output_carries_no_gradient():
    _, teacher = student_and_teacher()
    assert not teacher(torch.randn(1, 1, 8, 8, 8)).logits.requires_grad


def test_the_consistency_ramp_is_the_published_one(batches):
    """0.1 exp(-5 (1 - t)^2): almost nothing at first, all at the end."""
    method = make_method("mean_teacher", noise=0.0).train()
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.mul_(1.5)

    def term(t):
        return float(method(batches.batch(0), Progress("train", t, t, 0))["consistency"].detach())

    assert term(0.5) / term(1.0) == pytest.approx(math.exp(-5 * 0.25), rel=1e-4)
