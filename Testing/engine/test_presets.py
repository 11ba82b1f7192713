"""The numbers of the presets, literally: what the papers and their codes state, and what we put in their place."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from training_cases import make_method

from semiseg.methods import METHODS, load_method
from semiseg.methods.semigda import GATE
from semiseg.networks import NETWORKS
from semiseg.networks.semigda import SHARPNESS
from semiseg.train_job import TrainJob, resolve
from semiseg.training.stages import stage_ends

COPY_PASTE = ("bcp", "graphcl", "transmedseg")
WITH_TSA = ("mean_teacher", *COPY_PASTE)
ON_LEFT_ATRIUM = tuple(name for name in METHODS if name != "semigda")

CONSISTENCY = {"decay": 0.99, "weight": 0.1, "noise": 0.1}
BCP = {"box_fraction": 2 / 3, "decay": 0.99, "threshold": 0.5, "connectivity": 26, "keep_share": 1.0, "dice_form": "la", "teacher_flips": 1}
PRETRAINING = {"pretrain_share": 2 / 17, "pretrain_mixing": 1.0, "pretrain_both": False, "pretrain_dice": "classes"}
SELF_TRAINING = {"mixing": 1.0, "pseudo_weight": 0.5, "labels_from": "patches", "confidence_weighting": False}
PUBLISHED_TEACHER = {"average_buffers": False, "teacher_training_mode": True, "deploy": "student", "perturb": False}
OUR_TEACHER = {"average_buffers": True, "deploy": "teacher", "perturb": True}
GRAPH = {"graph_alignment": True, "clustering_weight": 0.01, "tau": 2.0, "num_clusters": 8}
TSA = {"alpha": 0.25, "warmup": 200 / 15000, "shift": True, "covariance": "full", "sign": 1, "form": "bound", "confident": 0.0}
EACH_STEP = {"statistics": "teacher", "statistics_every": 1, "momentum": 0.99}
EVERY_FOURTH_STEP = {"statistics": "same_net", "statistics_every": 4, "momentum": 0.96}  # the same horizon of about a hundred steps
MICD = {
    "mask_ratio": 0.5, "cross_labels": "masked", "feature_level_weight": 0.2, "feature_levels": 4, "discrepancy_labeled": True,
    "class_weights": "auto", "decay": 0.99,
}  # fmt: skip
SEMIGDA = {"kl_weight": 1e-6, "temperature": 0.1, "autoencoder_share": 0.3}

METHOD_OPTIONS = [
    (("supervised",), "faithful", {"perturb": False, "average_decay": 0.0}),
    (("supervised",), "plus", {"perturb": True, "average_decay": 0.99}),
    (("mean_teacher", "ua_mt"), "faithful", CONSISTENCY | PUBLISHED_TEACHER),
    (("mean_teacher",), "plus", CONSISTENCY | OUR_TEACHER | {"teacher_training_mode": False}),
    (("ua_mt",), "faithful", {"num_passes": 8}),
    (("ua_mt",), "plus", CONSISTENCY | OUR_TEACHER | {"teacher_training_mode": True, "num_passes": 8}),
    (("cps",), "faithful", {"weight": 0.1, "labeled_too": False, "starts": "kaiming and xavier", "perturb": False, "average_decay": 0.0, "deploy": "first"}),
    (("cps",), "plus", {"weight": 0.1, "labeled_too": False, "starts": "default", "average_decay": 0.99, "deploy": "first"}),
    (COPY_PASTE, "faithful", BCP | PRETRAINING | SELF_TRAINING | PUBLISHED_TEACHER),
    (COPY_PASTE, "plus", BCP | OUR_TEACHER | {"teacher_training_mode": False, "pseudo_weight": 1.0, "labels_from": "cases", "rounds": 2}),
    (("bcp",), "plus", {"mixing": 0.25}),
    (("graphcl", "transmedseg"), "faithful", GRAPH),
    (("graphcl", "transmedseg"), "plus", GRAPH | {"mixing": 0.0}),
    (WITH_TSA, "faithful", TSA | EACH_STEP),
    (WITH_TSA, "plus", TSA | EVERY_FOURTH_STEP),
    (("transmedseg",), "faithful", {"tsa_weight": 0.4}),
    (("transmedseg",), "plus", {"tsa_weight": 0.4}),
    (("mean_teacher", "bcp", "graphcl"), "faithful", {"tsa_weight": 0.0}),
    (("mean_teacher", "bcp", "graphcl"), "plus", {"tsa_weight": 0.0}),
    (("micd",), "faithful", MICD | {"weight": 1.0, "ramp_share": 1 / 6, "mask_block": 3, "second_network": "same", "starts": "kaiming", "perturb": False}),
    (("micd",), "faithful", {"deploy_average": False, "deploy": "auto"}),
    (("micd",), "plus", MICD | {"weight": 0.1, "ramp_share": 1.0, "mask_block": 8, "second_network": "auto", "deploy_average": True}),
    (("micd",), "paper-by-proxy", MICD | {"weight": 0.1, "ramp_share": 1.0, "mask_block": 3}),
    (("semigda",), "faithful", SEMIGDA | {"align_share": 0.7 * 200 / 550, "weight": 0.3, "latent_loss_in_segment": False, "stop_gradient": True}),
    (("semigda",), "faithful", {"cross_labels": "hard", "copy_paste": True, "latent_noise": 0.5, "perturb": False, "average_decay": 0.0}),
    (("semigda",), "plus", SEMIGDA | {"align_share": 0.2, "weight": 0.1, "latent_loss_in_segment": True, "stop_gradient": False}),
    (("semigda",), "plus", {"cross_labels": "soft", "copy_paste": False, "latent_noise": 0.0, "average_decay": 0.99}),
]

SGD = {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "warmup_iterations": 0}
ADAMW = {"optimizer": "adamw", "learning_rate": 2e-3, "weight_decay": 1e-2}
TRAINING = [
    (ON_LEFT_ATRIUM, "faithful", SGD),
    (COPY_PASTE, "faithful", {"schedule": "bcp_step"}),
    (tuple(name for name in ON_LEFT_ATRIUM if name != "micd"), "faithful", {"gradient_clip": 0.0}),
    (("micd",), "faithful", {"schedule": "poly", "gradient_clip": 3.0}),
    (("semigda",), "faithful", ADAMW | {"schedule": "poly", "gradient_clip": 0.0}),
    (tuple(METHODS), "plus", ADAMW | {"gradient_clip": 5.0}),
    (ON_LEFT_ATRIUM, "plus", {"schedule": "cosine"}),
    (("semigda",), "plus", {"schedule": "stage_cosine"}),
]

NETWORK = [
    (ON_LEFT_ATRIUM, "faithful", {"norm": "batch", "dropout": 0.5}),
    (tuple(name for name in METHODS if name != "ua_mt"), "plus", {"norm": "instance", "dropout": 0.0}),
    (("ua_mt",), "plus", {"norm": "instance", "dropout": 0.5}),  # without it the teacher's passes would agree
]

MIRRORED = {"flip_axes": (1, 2), "flip": "one", "quarter_turns": True, "rotation_deg": 0.0, "scale": 0.0, "elastic": 0.0, "intensity": 0.0, "gin": 0.0}
AUGMENT = [
    (ON_LEFT_ATRIUM, "faithful", MIRRORED),
    (("semigda",), "faithful", {"flip_axes": (1, 2), "flip": "each", "quarter_turns": True, "rotation_deg": 20.0, "scale": 0.1, "intensity": 0.0}),
    (tuple(METHODS), "plus", {"flip_axes": (), "quarter_turns": False, "rotation_deg": 15.0, "scale": 0.3, "elastic": 0.19, "intensity": 1.0}),
]


def rows(table):
    return [pytest.param(name, preset, values, id=f"{name} {preset} {next(iter(values))}") for names, preset, values in table for name in names]


def resolved(name, preset):
    """As a job on a GPU gets it: the preset, then the plan, then the defaults."""
    return resolve(TrainJob(method=name, preset=preset, network="vnet"), torch.device("cuda"))


@pytest.mark.parametrize(("name", "preset", "values"), rows(METHOD_OPTIONS))
def test_options_of_the_method_are_the_stated_ones(name, preset, values):
    found = asdict(resolved(name, preset).method_options)
    assert {key: found[key] for key in values} == values


@pytest.mark.parametrize(("name", "preset", "values"), rows(TRAINING))
def test_optimizer_and_rate_are_the_stated_ones(name, preset, values):
    found = asdict(resolved(name, preset).options)
    assert {key: found[key] for key in values} == values


@pytest.mark.parametrize(("name", "preset", "values"), rows(NETWORK))
def test_normalization_and_dropout_are_the_stated_ones(name, preset, values):
    found = resolved(name, preset).network_options
    assert {key: found[key] for key in values} == values


@pytest.mark.parametrize(("name", "preset", "values"), rows(AUGMENT))
def test_augmentation_is_the_stated_one(name, preset, values):
    found = asdict(resolved(name, preset).augment)
    assert {key: found[key] for key in values} == values


def test_every_preset_stands_in_the_table():
    listed = {(name, preset) for names, preset, _ in METHOD_OPTIONS for name in names}
    assert listed == {(name, preset) for name in METHODS for preset in load_method(name).presets}


def test_bcp_on_a_gpu_has_the_published_lengths_of_its_stages():
    """2,000 and 15,000 iterations of four labeled and four unlabeled patches."""
    training, method = resolved("bcp", "faithful").options, make_method("bcp", "faithful")
    assert [(end - start) for _, start, end in stage_ends(method.stages, training.iterations)] == [2000, 15000]
    assert (training.batch_labeled, training.batch_unlabeled) == (4, 4)


def test_networks_have_the_published_widths_unless_told_otherwise():
    """V-Net and U-Net start with 16 channels on five levels; the V-Net drops half of its channels."""
    vnet, unet = NETWORKS["vnet"].options(), NETWORKS["unet2d"].options()
    assert (vnet.width, vnet.depth, vnet.norm, vnet.dropout) == (16, 5, "batch", 0.5)
    assert (unet.width, unet.depth, unet.norm, unet.dropout) == (16, 5, "batch", 1.0)


def test_semigda_expects_masks_to_come_back_and_reads_them_out_as_certain():
    """A Dice of 0.99 after the autoencoder, and a probability of 0.9997 at a decoded 1."""
    assert (GATE, SHARPNESS) == (0.99, 8.0)
