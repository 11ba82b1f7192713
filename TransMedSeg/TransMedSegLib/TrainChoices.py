"""The methods and networks of the training panel, from what the engine says it can do."""

from __future__ import annotations

from slicer.i18n import tr as _

from .EngineProcess import enginePython
from .OptionMenu import Choice

DEFAULT_METHOD = Choice("transmedseg", "TransMedSeg")
"""What the menu holds until the engine has answered."""
VNET = "V-Net"
"""What an engine takes that does not say; the menus hold it until the engine has answered."""


def methodChoices(described: dict) -> list[Choice]:
    """Every method.

    Args:
        described: What `semiseg describe` says.
    """
    return [Choice(one["name"], one.get("title", one["name"]), one.get("options", []), one.get("paper", "")) for one in described["methods"]]


def networkChoices(described: dict) -> list[Choice]:
    """What leaves it to the engine, which has no name in a job, then every network; for those of MONAI one gray entry where they cannot be used."""
    found = described.get("networks", [])
    choices = [_automatic(described), *(_network(one) for one in found)]
    monai = described.get("monai", {})
    if monai.get("missing"):
        choices.append(Choice(monai["name"], _("Networks of MONAI (not installed)"), toolTip=_howToInstall(monai["missing"]), isEnabled=False))
    return choices


def defaultNetwork(described: dict) -> dict:
    """What the engine says of the network that it takes where neither the job nor the data name one; empty for an engine that does not say."""
    return next((one for one in described.get("networks", []) if one.get("is_default")), {})


def optionNote(described: dict, network: str) -> str:
    """What is said above the options of the network, which belong to one network alone.

    Args:
        described: What `semiseg describe` says.
        network: The chosen one; empty leaves it to the engine.
    """
    if network:
        return _("What is left as it is here follows from the goal and the device.")
    text = _("These are the options of {network}. With one of them changed, {network} is chosen, also where the data would suggest another network.")
    return text.format(network=_title(defaultNetwork(described)))


def _automatic(described: dict) -> Choice:
    """Has the options of the default network, so that they can be seen; who changes one has chosen that network."""
    default = defaultNetwork(described)
    title = _("Automatic ({network}, or what suits the data)").format(network=_title(default))
    toolTip = _("Where the folders have the layout of a public data set, its usual network is taken; any other data get {network}.").format(network=_title(default))
    return Choice("", title, default.get("options", []), toolTip)


def _title(one: dict) -> str:
    return one.get("title") or one.get("name") or VNET


def _network(one: dict) -> Choice:
    parts = [one.get("source", "")]
    if one.get("parameters"):
        parts.append(_("{count} million parameters ({setting})").format(count=f"{one['parameters'] / 1e6:.1f}", setting=one.get("parameters_for", "")))
    return Choice(one["name"], _title(one), one.get("options", []), "\n".join(part for part in parts if part))


def _howToInstall(packages: list[str]) -> str:
    command = f'"{enginePython()}" -m pip install {" ".join(packages)}'
    return _("These networks need further packages in the Python that trains. Install them with this command in a terminal, then open this section again:\n{command}").format(
        command=command
    )
