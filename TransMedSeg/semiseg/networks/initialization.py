"""Starting weights by name, for methods whose two networks must not start alike."""

from __future__ import annotations

from torch import nn

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_RULES = {"kaiming": nn.init.kaiming_normal_, "xavier": nn.init.xavier_normal_}


def initialize(network: nn.Module, rule: str) -> nn.Module:
    """Draws the weights of all convolutions anew, in place; biases and normalizations keep theirs.

    Args:
        network: Any module.
        rule: ``"kaiming"`` or ``"xavier"``, both normal (SSL4MIS gives one to each network of cross
            pseudo-supervision), or ``"default"``: PyTorch's own, nothing is drawn.

    Raises:
        ValueError: There is no such rule.
    """
    if rule == "default":
        return network
    if rule not in _RULES:
        raise ValueError(f"the rule must be 'default', 'kaiming' or 'xavier'; got {rule!r}")
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS):
            _RULES[rule](module.weight)
    return network
