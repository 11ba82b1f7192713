"""Keeps the subject hierarchy: each data node of the scene gets an item, and loses it when it is removed.

In Slicer the plugins of the SubjectHierarchy module do this; they are Qt code and not in slicer-core.
"""

import vtk

DATA_NODES = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLTransformNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLPlotSeriesNode",
)


def follow(scene):
    """Begins to keep the hierarchy of a scene."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_added(caller, event, node):
        # While a file is imported, items are still being matched to nodes.
        if not scene.IsImporting() and not scene.IsClosing():
            _add(scene, node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_removed(caller, event, node):
        # Asking for the hierarchy creates it where it is gone, as it is while the scene is closed.
        if scene.IsClosing():
            return
        hierarchy = scene.GetSubjectHierarchyNode()
        if item := hierarchy.GetItemByDataNode(node):
            hierarchy.RemoveItem(item, False, False)

    def on_imported(caller, event):
        for index in range(scene.GetNumberOfNodes()):
            _add(scene, scene.GetNthNode(index))

    scene.AddObserver(scene.NodeAddedEvent, on_added)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, on_removed)
    scene.AddObserver(scene.EndImportEvent, on_imported)


def _add(scene, node):
    if node.GetHideFromEditors() or not any(node.IsA(kind) for kind in DATA_NODES):
        return
    hierarchy = scene.GetSubjectHierarchyNode()
    if not hierarchy.GetItemByDataNode(node):
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
