"""The look of every report: one style, tables, figures with their pictures inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid #ddd}
table{border-collapse:collapse;margin:.6rem 0}td,th{padding:.25rem .7rem;border-bottom:1px solid #e3e3e3;text-align:right}
td:first-child,th:first-child,td:nth-child(2),th:nth-child(2){text-align:left}
figure{display:inline-block;margin:.3rem;vertical-align:top}figcaption{font-size:.8rem;color:#555;max-width:22rem}
img{max-width:100%}.slices img{height:13rem}.curves img{width:29rem}.slices figcaption{max-width:19rem}pre{background:#f5f5f5;padding:.7rem;overflow:auto;font-size:.8rem}
.found{color:#d55e00;font-weight:600}.truth{color:#0072b2;font-weight:600}.note{color:#555}
"""


def page(title: str, parts: Sequence[str], style: str = "") -> str:
    """A whole page that needs no other file and no network.

    Args:
        title: Of the window.
        parts: HTML, in order.
        style: Rules beside ``STYLE``.
    """
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}{style}</style>"
    return f"{head}<body>{''.join(parts)}</body></html>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, the first one the heading."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[1:])
    return f"<table><tr>{head}</tr>{body}</table>"


def figure(png: bytes, caption: str) -> str:
    """A picture inside the page."""
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}"><figcaption>{html.escape(caption)}</figcaption></figure>'
