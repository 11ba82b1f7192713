"""Color files that Slicer brings with the application and slicer-core does not: a few of them, made here.

A display node that names a color node which does not exist paints garbage (seen: colored stripes), so the ones that
modules commonly name are present. Their colors are close to Slicer's, not equal.
"""

import colorsys

_STEPS = 256


def write_color_files(folder):
    """Writes <folder>/<Name>.txt; the scene then has vtkMRMLColorTableNodeFile<Name>.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"GenericColors": _labels(), "ColdToHotRainbow": _rainbow(), "HotToColdRainbow": _rainbow()[::-1]}
    tables |= _matplotlib_tables()
    for name, colors in tables.items():
        lines = [f"# Color table file {name}.txt", f"# {len(colors)} values"]
        for index, (red, green, blue) in enumerate(colors):
            alpha = 0 if name == "GenericColors" and index == 0 else 255
            lines.append(f"{index} {name}_{index} {red} {green} {blue} {alpha}")
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def _bytes(color):
    return tuple(round(255 * part) for part in color[:3])


def _labels():
    """Distinct colors: hues turn by the golden ratio, so that neighbors differ."""
    return [(0, 0, 0)] + [_bytes(colorsys.hsv_to_rgb(0.1 + 0.618 * index % 1, 0.5, 0.85)) for index in range(64)]


def _rainbow():
    """From blue over green to red."""
    return [_bytes(colorsys.hsv_to_rgb(0.667 * (1 - index / (_STEPS - 1)), 1, 1)) for index in range(_STEPS)]


def _matplotlib_tables():
    try:
        from matplotlib import colormaps
    except ImportError:
        return {}
    names = ("Viridis", "Inferno", "Magma", "Plasma", "Cividis")
    return {name: [_bytes(colormaps[name.lower()](index)) for index in range(_STEPS)] for name in names}
