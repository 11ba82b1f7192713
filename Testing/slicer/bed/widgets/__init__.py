"""Stand-ins for the widgets of CTK and Slicer, one idea per file.

Each has the properties, methods and signals of the C++ class that scripted modules use, and no more: a name that is
missing here raises AttributeError, and then either the module is wrong or the stand-in must grow.
"""

from . import (  # noqa: F401
    buttons,
    collapsible,
    combo_boxes,
    mrml,
    node_combo_box,
    paths,
    plot_view,
    segment_editor,
    segment_selector,
    segmentation_3d_button,
    segments_table,
    sliders,
    subject_hierarchy,
    table_view,
)
