"""Values that several methods share: the published left-atrium protocol, and our stronger defaults."""

from __future__ import annotations

from dataclasses import replace

from .base import Preset

FAITHFUL_LA = Preset(
    training={
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 1e-4,
        "schedule": "bcp_step",
        "warmup_iterations": 0,
        "gradient_clip": 0.0,
    },
    network={"norm": "batch", "dropout": 0.5},
    augment={"flip_axes": (1, 2), "flip": "one", "quarter_turns": True, "rotation_deg": 0.0, "scale": 0.0, "intensity": 0.0},
)
"""SGD 0.01 with momentum 0.9, ten times smaller every 2,500 of 15,000 iterations, batch normalization, a quarter turn and a flip of every patch (BCP on LA).
So the published codes train on mirror images alone."""

FAITHFUL_UA_MT = replace(FAITHFUL_LA, training={**FAITHFUL_LA.training, "schedule": "ua_mt_step"})
"""The same with the rate of UA-MT's code, 6,000 iterations in one stage: what BCP's would do to a single stage is nobody's protocol."""

PLUS = Preset(
    training={
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "weight_decay": 1e-2,
        "schedule": "cosine",
        "gradient_clip": 5.0,
    },
    network={"norm": "instance", "dropout": 0.0},
    augment={"flip_axes": (), "quarter_turns": False, "rotation_deg": 15.0, "scale": 0.3, "elastic": 0.19, "intensity": 1.0},
    other_site={"gin": 0.7},
)
"""AdamW with cosine decay, instance normalization; affine, elastic and intensity augmentation, and no flips; random networks on the
contrast where the unlabeled volumes look different (ours, see decisions.md)."""
