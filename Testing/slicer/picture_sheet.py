"""What every picture has in common: the line that says what it is, few colors, no path of this computer."""

from pathlib import Path

import numpy as np

CAPTION = "Rendered on slicer-core with an emulated Qt layer; not a screenshot of 3D Slicer. Phantom data."
NUM_GRAYS, NUM_COLORS = 64, 192
"""Colors of a picture: it looks the same with so few, and its file is a third as large. Grays are counted apart, or a
slice would take the colors of thin curves away."""
HOME = "/data"
"""Stands in pictures where a path of this computer would."""


class Sheet:
    """Writes pictures into a folder.

    Args:
        folder: Where they go.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, name, picture):
        """Writes NAME.png with the caption below it.

        Args:
            name: Without ending.
            picture: Array [row, column, RGB] of uint8.
        """
        image = _with_few_colors(captioned(picture))
        path = self.folder / f"{name}.png"
        image.save(path, optimize=True)
        print(f"{path.name:36} {image.width:4} x {image.height:<4} {path.stat().st_size / 1000:6.0f} kB", flush=True)


def captioned(picture):
    """Adds the caption, in as many lines as the width asks for."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(13)
    lines = _wrapped(CAPTION, picture.shape[1] - 16, font)
    strip = Image.new("RGB", (picture.shape[1], 18 * len(lines) + 8), "white")
    ImageDraw.Draw(strip).multiline_text((8, 4), "\n".join(lines), fill=(60, 60, 60), font=font, spacing=3)
    return np.vstack([picture, np.asarray(strip)])


def _wrapped(text, width, font):
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _with_few_colors(picture):
    """The picture as an image with a palette."""
    from PIL import Image

    colors = [level for gray in np.linspace(0, 255, NUM_GRAYS).round().astype(int).tolist() for level in (gray,) * 3]
    isColored = np.ptp(picture.astype(np.int16), axis=2) > 8
    if isColored.any():
        found = Image.fromarray(picture[isColored][None]).quantize(NUM_COLORS, method=Image.Quantize.MAXCOVERAGE)
        colors += found.getpalette()[: 3 * NUM_COLORS]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors)
    return Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)


def titled(picture, title, height=22):
    """Adds a line above a picture: the name of a view."""
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (picture.shape[1], height), (235, 235, 235))
    ImageDraw.Draw(strip).text((6, 3), title, fill=(30, 30, 30), font=ImageFont.load_default(13))
    return np.vstack([np.asarray(strip), picture])


def beside(left, right, background):
    """Puts two pictures side by side; the lower one is filled up below."""
    height = max(left.shape[0], right.shape[0])
    return np.hstack([_filled(left, height, background), _filled(right, height, background)])


def below(pictures, background, gap=10):
    """Puts pictures below each other, with gaps."""
    width = max(one.shape[1] for one in pictures)
    rows = []
    for one in pictures:
        whole = np.full((one.shape[0] + gap, width, 3), background, np.uint8)
        whole[: one.shape[0], : one.shape[1]] = one
        rows.append(whole)
    return np.vstack(rows)[:-gap]


def _filled(picture, height, background):
    whole = np.full((height, picture.shape[1], 3), background, np.uint8)
    whole[: picture.shape[0]] = picture
    return whole
