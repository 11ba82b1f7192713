"""The networks of MONAI that are known to work here, one by one, with what each of them needs.

They were found by building every class of ``monai.networks.nets`` (1.6.1) that takes channels and classes, and looking at the last layer of one pass.
The table is kept, not made anew, because building them all takes half a minute and 1.6 GB; a test builds each entry where MONAI is installed.
What is not listed ends in something else than a plain convolution over the whole image (AHNet, HighResNet, MedNeXt, UNet), returns more than one map
(BasicUNetPlusPlus, SegResNetVAE, SegResNetDS2), needs a further package (DAF3D, HyenaNDUNETR) or is no network for segmentation. VNet would work, but
its last convolution sees no more channels than there are classes, which leaves TSA nothing to augment; ours has 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class MonaiEntry(NamedTuple):
    """What a network of MONAI needs.

    Attributes:
        title: One line for people.
        source: Paper.
        downscale: Every patch side must divide by it.
        parameters: Counted with MONAI 1.6 for 1 channel and 2 classes with these arguments, and for an image of 96 x 96 x 96 voxels where it is
            built for one size.
        arguments: What MONAI's class cannot be built without, or not in 3-D.
        has_one_size: It is built for images of one size, which its argument ``img_size`` states.
    """

    title: str
    source: str
    downscale: int
    parameters: int
    arguments: Mapping[str, Any] = {}
    has_one_size: bool = False


MONAI_NETWORKS: dict[str, MonaiEntry] = {
    "SwinUNETR": MonaiEntry("Swin UNETR", "Hatamizadeh et al., BrainLes 2021", 32, 15_703_004),
    "UNETR": MonaiEntry("UNETR", "Hatamizadeh et al., WACV 2022", 16, 92_802_274, has_one_size=True),
    "SegResNet": MonaiEntry("SegResNet", "Myronenko, BrainLes 2018", 8, 1_176_186),
    "SegResNetDS": MonaiEntry("SegResNet of Auto3DSeg", "Myronenko, BrainLes 2018, MONAI's variant", 8, 19_914_146),
    "DynUNet": MonaiEntry(
        "Dynamic U-Net", "nnU-Net, Nature Methods 2021, and Futrega et al., BrainLes 2021", 16, 16_543_650,
        {"kernel_size": [3, 3, 3, 3, 3], "strides": [1, 2, 2, 2, 2], "upsample_kernel_size": [2, 2, 2, 2]},
    ),
    "AttentionUnet": MonaiEntry(
        "Attention U-Net", "Oktay et al., MIDL 2018", 16, 5_909_130, {"channels": [16, 32, 64, 128, 256], "strides": [2, 2, 2, 2]}
    ),
    "BasicUNet": MonaiEntry("Basic U-Net", "Falk et al., Nature Methods 2019", 16, 5_749_410),
    "FlexibleUNet": MonaiEntry("Flexible U-Net on ResNet-10", "MONAI", 32, 21_631_554, {"backbone": "resnet10"}),
}  # fmt: skip


def filled(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a network of MONAI with what they leave open from the table; as they are where the table does not know the name."""
    entry, arguments = MONAI_NETWORKS.get(name), options.get("arguments", {})
    if entry is None or not isinstance(arguments, Mapping):
        return dict(options)
    return {"downscale": entry.downscale, **options, "arguments": {**entry.arguments, **arguments}}
