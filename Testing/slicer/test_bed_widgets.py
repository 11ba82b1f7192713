"""The stand-ins for CTK and qMRML widgets behave like the widgets that modules know."""

import ctk
import numpy as np
import pytest
import qt
import shiboken6
import slicer
import vtk
from bed import boot, dialogs, errors, user


def _volume(name="V"):
    return slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), "int16"), name=name)


def _segmentation(*names):
    volume = _volume()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for index, name in enumerate(names):
        array = np.zeros((4, 5, 6), np.uint8)
        array[index] = 1
        node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, name, volume)
    return node, volume


@pytest.fixture
def selector():
    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.setMRMLScene(slicer.mrmlScene)
    return box


def test_node_selector_follows_the_scene(selector):
    changes = []
    selector.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: changes.append(node and node.GetName()))
    first = _volume("first")
    second = _volume("second")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLModelNode")
    assert selector.nodeCount() == 2 and selector.currentNode() is first
    selector.setCurrentNode(second)
    slicer.mrmlScene.RemoveNode(second)
    assert selector.currentNode() is first
    slicer.mrmlScene.Clear()
    assert selector.currentNode() is None and selector.currentNodeID == ""
    assert changes == ["first", "second", "first", None]


def test_node_selector_with_none(selector):
    selector.noneEnabled = True
    volume = _volume()
    assert selector.currentNode() is None
    selector.currentNodeID = volume.GetID()
    assert selector.currentNode() is volume
    selector.setCurrentNode(None)
    assert selector.currentNode() is None


def test_node_selector_announces_whether_there_is_a_node(selector):
    got = []
    selector.noneEnabled = True
    selector.connect("currentNodeChanged(bool)", lambda chosen: got.append(chosen))
    selector.setCurrentNode(_volume())
    selector.setCurrentNode(None)
    assert got == [True, False]


def test_node_selector_creates_and_filters(selector):
    selector.baseName = "Output"
    selector.addAttribute("vtkMRMLScalarVolumeNode", "Kind", "map")
    plain = _volume("plain")
    assert selector.nodeCount() == 0
    node = selector.addNode()
    assert node.GetName() == "Output" and selector.currentNode() is node
    plain.SetAttribute("Kind", "map")
    selector.refresh()
    assert selector.nodeCount() == 2


def test_node_selector_hides_derived_types(selector):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    assert selector.nodeCount() == 1
    selector.showChildNodeTypes = False
    assert selector.nodeCount() == 0


def test_collapsible_button_folds_and_remembers_what_was_hidden():
    section = ctk.ctkCollapsibleButton("Advanced")
    layout = qt.QVBoxLayout(section)
    shown, hidden = qt.QLabel("a"), qt.QLabel("b")
    layout.addWidget(shown)
    layout.addWidget(hidden)
    hidden.visible = False
    section.show()
    changes = []
    section.connect("contentsCollapsed(bool)", changes.append)
    section.collapsed = True
    assert shown.isHidden() and section.checked is False
    section.collapsed = False
    assert not shown.isHidden() and hidden.isHidden()
    assert changes == [True, False]


def test_path_line_edit_browses_and_remembers():
    line, got = ctk.ctkPathLineEdit(), []
    line.connect("currentPathChanged(QString)", got.append)
    line.filters = ctk.ctkPathLineEdit.Dirs
    line.settingKey = "Bed/folders"
    dialogs.answers["getExistingDirectory"] = ["/data/a"]
    line.browse()
    assert line.currentPath == "/data/a" and got == ["/data/a"]
    again = ctk.ctkPathLineEdit()
    again.settingKey = "Bed/folders"
    assert again.currentPath == "/data/a"


def test_directory_button():
    button, got = ctk.ctkDirectoryButton(), []
    button.connect("directoryChanged(QString)", got.append)
    button.directory = "/data"
    button.directory = "/data"
    assert got == ["/data"]


def test_slider_widget():
    slider, got = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", got.append)
    slider.minimum, slider.maximum, slider.decimals = -1, 1, 3
    slider.value = 0.125
    slider.value = 5
    assert got == [0.125, 1.0] and slider.value == 1.0
    assert slider.slider().value == 1000


def test_range_widget():
    widget, got = ctk.ctkRangeWidget(), []
    widget.setRange(0, 10)
    widget.connect("valuesChanged(double,double)", lambda low, high: got.append((low, high)))
    widget.setValues(2, 8)
    assert (widget.minimumValue, widget.maximumValue) == (2, 8) and got[-1] == (2, 8)
    widget.minimumValue = 9
    assert widget.maximumValue == 9


def test_color_picker_button():
    button, got = ctk.ctkColorPickerButton(), []
    button.connect("colorChanged(QColor)", lambda color: got.append(color.name()))
    button.color = qt.QColor(255, 0, 0)
    assert got == ["#ff0000"] and button.color.red() == 255


def test_menu_button():
    button, got = ctk.ctkMenuButton("Add"), []
    menu = qt.QMenu()
    action = menu.addAction("From folder")
    action.connect("triggered()", lambda: got.append(1))
    button.setMenu(menu)
    button.menu().actions()[0].trigger()
    button.connect("clicked()", lambda: got.append("clicked"))
    button.click()
    assert got == [1, "clicked"]


def test_checkable_combo_box():
    box, got = ctk.ctkCheckableComboBox(), []
    box.addItems(["a", "b", "c"])
    box.connect("checkedIndexesChanged()", lambda: got.append(1))
    box.setCheckState(box.model().index(1, 0), qt.Qt.Checked)
    assert [index.row() for index in box.checkedIndexes()] == [1] and got == [1]
    box.setAllChecked()
    assert box.allChecked()


def test_combo_box_shows_a_default_text():
    box = ctk.ctkComboBox()
    box.defaultText = "choose…"
    box.addItem("a", 5)
    box.currentIndex = 0
    assert box.currentData == 5


def test_segments_table_shows_and_writes_back():
    node, _ = _segmentation("atrium", "vein")
    table = slicer.qMRMLSegmentsTableView()
    table.setSegmentationNode(node)
    assert table.segmentCount() == 2
    table.setSelectedSegmentIDs(["vein"])
    assert table.selectedSegmentIDs() == ["vein"]
    table.tableWidget().item(1, 3).setText("pulmonary vein")
    assert node.GetSegmentation().GetSegment("vein").GetName() == "pulmonary vein"
    table.tableWidget().item(1, 0).setCheckState(qt.Qt.Unchecked)
    assert not node.GetDisplayNode().GetSegmentVisibility("vein")
    node.GetSegmentation().RemoveSegment("atrium")
    assert table.segmentCount() == 1


def test_segments_table_follows_status():
    node, _ = _segmentation("atrium")
    table = slicer.qMRMLSegmentsTableView()
    table.setSegmentationNode(node)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(node.GetSegmentation().GetSegment("atrium"), logic.Completed)
    table.refresh()
    assert table.tableWidget().item(0, 4).text() == "Completed"


def test_segment_selector():
    node, _ = _segmentation("atrium", "vein")
    selector, got = slicer.qMRMLSegmentSelectorWidget(), []
    selector.setMRMLScene(slicer.mrmlScene)
    selector.connect("currentSegmentChanged(QString)", got.append)
    selector.setCurrentNode(node)
    selector.setCurrentSegmentID("vein")
    assert selector.currentSegmentID() == "vein" and got == ["atrium", "vein"]


def test_show_3d_button_makes_surfaces():
    node, _ = _segmentation("atrium")
    button = slicer.qMRMLSegmentationShow3DButton()
    assert not button.enabled
    button.setSegmentationNode(node)
    button.click()
    assert node.GetSegmentation().ContainsRepresentation("Closed surface")
    button.click()
    assert not node.GetSegmentation().ContainsRepresentation("Closed surface")


@pytest.fixture
def editor():
    widget = slicer.qMRMLSegmentEditorWidget()
    widget.setMRMLScene(slicer.mrmlScene)
    node = slicer.vtkMRMLSegmentEditorNode()
    node.SetSingletonTag("SegmentEditor")
    widget.setMRMLSegmentEditorNode(slicer.mrmlScene.AddNode(node))
    return widget


def _voxels(node, segment_id, volume):
    return int(slicer.util.arrayFromSegmentBinaryLabelmap(node, segment_id, volume).sum())


def test_segment_editor_undoes_and_redoes(editor):
    node, volume = _segmentation("atrium")
    editor.setSegmentationNode(node)
    editor.setSourceVolumeNode(volume)
    editor.setMaximumNumberOfUndoStates(10)
    before = _voxels(node, "atrium", volume)
    editor.saveStateForUndo()
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((4, 5, 6), np.uint8), node, "atrium", volume)
    assert _voxels(node, "atrium", volume) == 120 != before
    editor.undo()
    assert _voxels(node, "atrium", volume) == before
    editor.redo()
    assert _voxels(node, "atrium", volume) == 120


def test_segment_editor_without_undo_states_remembers_nothing(editor):
    node, volume = _segmentation("atrium")
    editor.setSegmentationNode(node)
    editor.setMaximumNumberOfUndoStates(0)
    editor.saveStateForUndo()
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((4, 5, 6), np.uint8), node, "atrium", volume)
    editor.undo()
    assert _voxels(node, "atrium", volume) == 120


def test_segment_editor_keeps_its_choice_in_the_node(editor):
    node, volume = _segmentation("atrium", "vein")
    chosen = []
    editor.connect("currentSegmentIDChanged(QString)", chosen.append)
    editor.setSegmentationNode(node)
    editor.setSourceVolumeNode(volume)
    editor.setCurrentSegmentID("vein")
    editor.setActiveEffectByName("Paint")
    editor.activeEffect().setParameter("BrushAbsoluteDiameter", 5)
    editor_node = editor.mrmlSegmentEditorNode()
    assert editor_node.GetSelectedSegmentID() == "vein" and editor_node.GetActiveEffectName() == "Paint"
    assert editor.effectByName("Paint").doubleParameter("BrushAbsoluteDiameter") == 5
    editor.setActiveEffect(None)
    assert editor.activeEffect() is None
    editor_node.SetSelectedSegmentID("atrium")
    assert chosen == ["atrium", "vein", "atrium"]


def test_segment_editor_loses_the_undo_history_with_the_segmentation(editor):
    node, volume = _segmentation("atrium")
    editor.setSegmentationNode(node)
    editor.saveStateForUndo()
    editor.setSegmentationNode(_segmentation("other")[0])
    slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((4, 5, 6), np.uint8), node, "atrium", volume)
    editor.undo()
    assert _voxels(node, "atrium", volume) == 120


def test_segment_editor_needs_its_node():
    with pytest.raises(RuntimeError, match="setMRMLSegmentEditorNode"):
        slicer.qMRMLSegmentEditorWidget().setSegmentationNode(None)


def _table():
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "T")
    slicer.util.updateTableFromArray(table, np.array([[1.0, 0.5], [2.0, 0.75]]), ["step", "Dice"])
    return table


def test_table_view_shows_follows_and_writes_back():
    table, view = _table(), slicer.qMRMLTableView()
    view.setMRMLScene(slicer.mrmlScene)
    view.setMRMLTableNode(table)
    assert (view.rowCount, view.columnCount) == (2, 2)
    assert view.horizontalHeaderItem(1).text() == "Dice" and view.item(1, 1).text() == "0.75"
    table.SetCellText(0, 1, "0.9")
    table.Modified()
    assert view.item(0, 1).text() == "0.9"
    view.item(0, 1).setText("0.8")
    assert table.GetCellText(0, 1) == "0.8"
    view.selectAll()
    view.copySelection()
    assert slicer.app.clipboard().text().startswith("1\t0.8")


def test_plot_view_paints_the_curve():
    from bed import render

    table = _table()
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "Dice")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("step")
    series.SetYColumnName("Dice")
    series.SetPlotType(series.PlotTypeScatter)
    series.SetMarkerStyle(series.MarkerStyleNone)  # the line alone
    series.SetColor(1, 0, 0)
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode")
    view_node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotViewNode")
    view_node.SetPlotChartNodeID(chart.GetID())
    view = slicer.qMRMLPlotView()
    view.setMRMLScene(slicer.mrmlScene)
    view.setMRMLPlotViewNode(view_node)
    empty = _red_pixels(render.grab(view, width=300, height=200))
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    painted = _red_pixels(render.grab(view, width=300, height=200))
    assert empty == 0 and painted > 50


def _red_pixels(picture):
    red, green, blue = (picture[..., index].astype(int) for index in range(3))
    return int(((red > 200) & (green < 80) & (blue < 80)).sum())


def test_plot_points_leave_out_missing_values():
    from bed.widgets.plot_view import nice_ticks, series_points

    table = _table()
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("step")
    series.SetYColumnName("Dice")
    slicer.util.arrayFromTableColumn(table, "Dice")[0] = np.nan
    assert series_points(series) == [(2.0, 0.75)]
    assert nice_ticks(0, 10) == [0, 2, 4, 6, 8, 10]


def test_subject_hierarchy_tree():
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    volume = _volume()
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
    tree, got = slicer.qMRMLSubjectHierarchyTreeView(), []
    tree.setMRMLScene(slicer.mrmlScene)
    tree.connect("currentItemChanged(vtkIdType)", got.append)
    assert tree.topLevelItem(0).text(0) == "Study" and tree.topLevelItem(0).child(0).text(0) == "V"
    tree.setCurrentNode(volume)
    assert tree.currentNode() is volume and got == [hierarchy.GetItemByDataNode(volume)]


def test_files_can_be_dropped():
    got = []

    class Drop(qt.QTableWidget):
        def __init__(self):
            super().__init__()
            self.acceptDrops = True

        def dragEnterEvent(self, event):
            if event.mimeData().hasUrls():
                event.acceptProposedAction()

        def dropEvent(self, event):
            got.extend(url.toLocalFile() for url in event.mimeData().urls())

    assert user.drop_files(Drop(), ["/data/a.nii.gz", "/data/b c"]) is True
    assert got == ["/data/a.nii.gz", "/data/b c"]
    assert user.drop_files(qt.QLabel(), ["/data/a"]) is False


def test_shortcut_answers_until_it_is_deleted():
    got = []
    window = qt.QWidget()
    shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+Return"), window)
    shortcut.connect("activated()", lambda: got.append(1))
    user.press(window, "Ctrl+Return")
    assert got == [1]
    shortcut.delete()
    boot.process_events()
    user.press(window, "Ctrl+Return")
    assert got == [1]


def test_a_widget_that_is_collected_while_it_is_refreshed_raises_nothing():
    """Python collects a panel, with its children, whenever it wants to: also in the middle of a callback."""

    class Lost(slicer.qMRMLPlotView):
        def refresh(self):
            shiboken6.delete(self)
            self.update()

    class Faulty(slicer.qMRMLPlotView):
        def refresh(self):
            raise RuntimeError("mine")

    subject = slicer.vtkMRMLScriptedModuleNode()
    lost, faulty = Lost(), Faulty()
    lost.observe(subject, vtk.vtkCommand.ModifiedEvent)
    subject.Modified()
    assert not errors.take()
    faulty.observe(subject, vtk.vtkCommand.ModifiedEvent)
    subject.Modified()
    assert "mine" in errors.take()[0], "an error of a living widget is told"
