"""Every number of the training loop with its meaning, unit, default and source."""

from __future__ import annotations

from dataclasses import dataclass

SCHEDULES = ("stage_cosine", "cosine", "poly", "bcp_step", "ua_mt_step", "constant")


@dataclass(frozen=True)
class TrainOptions:
    """Options of the training loop; a method's preset overrides some of them.

    Attributes:
        iterations: Steps of all stages together. BCP on LA: 17,000.
        minutes: When above 0, a short probe of every stage sets ``iterations`` so that training takes this long. Ours.
        optimizer: "adamw" (ours) or "sgd" with momentum (the papers on LA and ACDC).
        learning_rate: At the start, after the warm-up. Papers with SGD: 0.01; ours with AdamW: 0.002.
        weight_decay: Papers: 1e-4 with SGD; ours: 1e-2 with AdamW.
        momentum: Of SGD. Papers: 0.9.
        schedule: "cosine" to 0 over all stages (ours), "stage_cosine" to 0 in every stage, the last of several from half the rate (for stages that learn
            different things), "poly" with exponent 0.9, "bcp_step" (constant in the first stage, then ten times smaller
            after every sixth of the last one, which is 2,500 of BCP's 15,000 iterations on LA), "ua_mt_step" (ten times smaller
            after 5 and 10 twelfths, which is 2,500 and 5,000 of UA-MT's 6,000 iterations) or "constant".
        warmup_iterations: Steps over which the learning rate rises from 0. Ours.
        gradient_clip: Largest norm of the gradient; 0 does not clip. Ours: 5.
        batch_labeled: Labeled samples of a step, an even number. BCP: 4 on LA.
        batch_unlabeled: Unlabeled samples of a step, an even number. BCP: 4 on LA.
        patch_size: Voxels along (slice, row, column); a first side of 1 trains on slices. BCP on LA: 80, 112, 112.
        mixed_precision: bfloat16 autocast on a GPU; everything delicate stays in fp32. The CPU always computes in fp32.
        compile: ``torch.compile`` the networks: slower to start, faster steps on long GPU runs.
        log_every: Steps between two looks at the losses; a look waits for the device.
        validate_every: Steps between two validations; 0 validates at the end of each stage.
        save_every_s: Seconds between two saved states.
        memory_gb: GPU or host memory that the cases may take before they stream from disk.
    """

    iterations: int = 2000
    minutes: float = 0.0
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9
    schedule: str = "cosine"
    warmup_iterations: int = 50
    gradient_clip: float = 5.0
    batch_labeled: int = 2
    batch_unlabeled: int = 2
    patch_size: tuple[int, int, int] = (48, 64, 64)
    mixed_precision: bool = True
    compile: bool = False
    log_every: int = 20
    validate_every: int = 0
    save_every_s: float = 60.0
    memory_gb: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch_size", tuple(int(side) for side in self.patch_size))
        if len(self.patch_size) != 3 or min(self.patch_size) < 1:
            raise ValueError(f"patch_size has three positive sides (slice, row, column); got {self.patch_size}")
        if self.iterations < 1 or self.minutes < 0:
            raise ValueError(f"iterations must be at least 1 and minutes at least 0; got {self.iterations} and {self.minutes}")
        if self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"optimizer must be 'adamw' or 'sgd'; got {self.optimizer!r}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}; got {self.schedule!r}")
        if self.learning_rate <= 0 or self.weight_decay < 0 or not 0 <= self.momentum < 1 or self.log_every < 1:
            raise ValueError("learning_rate and log_every must be positive, weight_decay not negative, momentum in [0, 1)")
