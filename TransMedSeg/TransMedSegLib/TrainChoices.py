"""The methods and networks of the training panel, from what the engine says it can do."""

from __future__ import annotations

from slicer.i18n import tr as _

from .EngineProcess import enginePython
from .OptionMenu import Choice

DEFAULT_METHOD = Choice("transmedseg", "TransMedSeg")
DEFAULT_NETWORK = Choice("", "V-Net")
"""What the menus hold until the engine has answered."""


def methodChoices(described: dict) -> list[Choice]:
    """Every method.

    Args:
        described: What `semiseg describe` says.
    """
    return [Choice(one["name"], one.get("title", one["name"]), one.get("options", []), one.get("paper", "")) for one in described["methods"]]


def networkChoices(described: dict) -> list[Choice]:
    """The default, which has no name in a job, then every other network; for those of MONAI one gray entry where they cannot be used."""
    found = described.get("networks", [])
    default = [one for one in found if one.get("is_default")]
    choices = [_network(one, _defaultTitle(one["title"])) for one in default] or [Choice("", _defaultTitle(DEFAULT_NETWORK.title))]
    choices[0] = Choice("", choices[0].title, choices[0].options, choices[0].toolTip)
    choices += [_network(one, one.get("title", one["name"])) for one in found if one not in default]
    monai = described.get("monai", {})
    if monai.get("missing"):
        choices.append(Choice(monai["name"], _("Networks of MONAI (not installed)"), toolTip=_howToInstall(monai["missing"]), isEnabled=False))
    return choices


def defaultNetwork(described: dict) -> str:
    """The name of the network that the engine takes where a job names none; empty for an engine that does not say."""
    return next((one["name"] for one in described.get("networks", []) if one.get("is_default")), "")


def _defaultTitle(title: str) -> str:
    return _("{network} (default)").format(network=title)


def _network(one: dict, title: str) -> Choice:
    parts = [one.get("source", "")]
    if one.get("parameters"):
        parts.append(_("{count} million parameters ({setting})").format(count=f"{one['parameters'] / 1e6:.1f}", setting=one.get("parameters_for", "")))
    return Choice(one["name"], title, one.get("options", []), "\n".join(part for part in parts if part))


def _howToInstall(packages: list[str]) -> str:
    command = f'"{enginePython()}" -m pip install {" ".join(packages)}'
    return _("These networks need further packages in the Python that trains. Install them with this command in a terminal, then open this section again:\n{command}").format(
        command=command
    )
