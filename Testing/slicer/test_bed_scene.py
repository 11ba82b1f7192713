"""Files, scenes, segmentations, subject hierarchy, terminologies and DICOM through the interfaces modules use."""

import json

import numpy as np
import pytest
import slicer
from bed import errors

ATRIUM = (
    "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure~"
    "SCT^82471001^Left atrium~^^~Anatomic codes - DICOM master list~^^~^^"
)
# An oblique grid: rotated about the z axis, with unequal spacing and another handedness than the default.
COSINE, SINE = np.cos(0.3), np.sin(0.3)
OBLIQUE = np.array(
    [[-0.8 * COSINE, 1.1 * SINE, 0, 10], [-0.8 * SINE, -1.1 * COSINE, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]]
)


def _volume(name="V", matrix=OBLIQUE):
    array = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    return slicer.util.addVolumeFromArray(array, matrix, name=name)


def _segmentation(volume, mask, name="atrium"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment(name, name, (1, 0, 0))
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, name, volume)
    return node


def _mask():
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[1:3, 2:4, 1:5] = 1
    return mask


def _matrix(volume):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


@pytest.mark.parametrize("ending", [".nrrd", ".nii.gz", ".mha"])
def test_volume_survives_a_file(tmp_path, ending):
    volume = _volume()
    path = str(tmp_path / f"vol{ending}")
    assert slicer.util.saveNode(volume, path)
    loaded = slicer.util.loadVolume(path, {"name": "again"})
    assert loaded.GetName() == "again"
    assert np.array_equal(slicer.util.arrayFromVolume(loaded), slicer.util.arrayFromVolume(volume))
    assert np.allclose(_matrix(loaded), OBLIQUE, atol=1e-5)


def test_label_volume(tmp_path):
    path = str(tmp_path / "labels.nrrd")
    slicer.util.saveNode(_volume(), path)
    assert slicer.util.loadLabelVolume(path).GetClassName() == "vtkMRMLLabelMapVolumeNode"


def test_missing_file_says_so(tmp_path):
    with pytest.raises(RuntimeError, match="file not found"):
        slicer.util.loadVolume(str(tmp_path / "no.nrrd"))


def test_unreadable_file_says_so(tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(RuntimeError, match="Failed to load node from file"):
        slicer.util.loadVolume(str(tmp_path / "bad.nii.gz"))
    errors.take()


def test_segment_array_round_trip():
    volume = _volume()
    node = _segmentation(volume, _mask())
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, "atrium", volume), _mask())


def test_segmentation_survives_a_file(tmp_path):
    volume = _volume()
    node = _segmentation(volume, _mask())
    node.GetSegmentation().GetSegment("atrium").SetTag("TerminologyEntry", ATRIUM)
    path = str(tmp_path / "seg.seg.nrrd")
    assert slicer.util.saveNode(node, path)
    loaded = slicer.util.loadSegmentation(path)
    segment_id = loaded.GetSegmentation().GetNthSegmentID(0)
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(loaded, segment_id, volume), _mask())
    assert loaded.GetSegmentation().GetSegment(segment_id).GetName() == "atrium"
    import vtk

    entry = vtk.reference("")
    assert loaded.GetSegmentation().GetSegment(segment_id).GetTag("TerminologyEntry", entry)
    assert entry.get() == ATRIUM


def test_segmentation_from_an_image_file(tmp_path):
    volume = _volume()
    slicer.util.updateVolumeFromArray(volume, _mask().astype(np.int16) * 2)
    path = str(tmp_path / "labels.nii.gz")
    slicer.util.saveNode(volume, path)
    node = slicer.util.loadSegmentation(path)
    assert node.GetSegmentation().GetNumberOfSegments() == 1


def test_export_keeps_the_node_as_it_is(tmp_path):
    volume = _volume()
    first, second = str(tmp_path / "first.nrrd"), str(tmp_path / "second.nii.gz")
    slicer.util.saveNode(volume, first)
    assert slicer.util.exportNode(volume, second)
    assert volume.GetStorageNode().GetFileName() == first and (tmp_path / "second.nii.gz").exists()


@pytest.mark.parametrize("ending", [".mrb", ".mrml"])
def test_scene_round_trip(tmp_path, ending):
    volume = _volume("heart")
    node = _segmentation(volume, _mask())
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Dice")
    slicer.util.updateTableFromArray(table, np.array([[0.5, 0.75]]), ["a", "b"])
    if ending == ".mrml":  # a .mrml holds no data: every node needs a file of its own
        slicer.util.saveNode(volume, str(tmp_path / "heart.nrrd"))
        slicer.util.saveNode(node, str(tmp_path / "S.seg.nrrd"))
        slicer.util.saveNode(table, str(tmp_path / "Dice.csv"))
    path = str(tmp_path / f"scene{ending}")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    slicer.util.loadScene(path)
    volume, node = slicer.util.getNode("heart"), slicer.util.getNode("S")
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, "atrium", volume), _mask())
    assert float(slicer.util.arrayFromTableColumn(slicer.util.getNode("Dice"), "b")[0]) == 0.75
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume


def test_empty_array_passes_through_surface_and_status():
    volume = _volume()
    node = _segmentation(volume, _mask())
    node.CreateClosedSurfaceRepresentation()
    assert node.GetClosedSurfaceInternalRepresentation("atrium").GetNumberOfPoints() > 0
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    segment = node.GetSegmentation().GetSegment("atrium")
    logic.SetSegmentStatus(segment, logic.InProgress)
    assert logic.GetSegmentStatus(segment) == logic.InProgress


def test_nodes_get_items_in_the_subject_hierarchy():
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    volume = _volume()
    item = hierarchy.GetItemByDataNode(volume)
    assert item and hierarchy.GetItemName(item) == "V"
    slicer.mrmlScene.RemoveNode(volume)
    assert not hierarchy.GetItemDataNode(item)


def test_segmentation_goes_under_the_study_of_its_volume():
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    volume = _volume()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "Patient")
    study = hierarchy.CreateStudyItem(patient, "Study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
    node = _segmentation(volume, _mask())
    hierarchy.SetItemParent(
        hierarchy.GetItemByDataNode(node), hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume))
    )
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study


def test_subject_hierarchy_survives_the_scene_file(tmp_path):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    volume = _volume("heart")
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)
    path = str(tmp_path / "scene.mrb")
    slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(path)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(slicer.util.getNode("heart"))
    assert hierarchy.GetItemName(hierarchy.GetItemParent(item)) == "Study"


def test_terminology_of_a_segment():
    logic = slicer.modules.terminologies.logic()
    entry = slicer.vtkSlicerTerminologyEntry()
    assert logic.DeserializeTerminologyEntry(ATRIUM, entry)
    assert entry.GetTypeObject().GetCodeMeaning() == "Left atrium"
    assert logic.UpdateEntryFromLoadedTerminologies(entry, [], [])
    assert tuple(entry.GetTypeObject().GetRecommendedDisplayRGBValue()) == (203, 108, 81)


def test_terminology_file_is_loaded(tmp_path):
    content = {
        "@schema": "https://raw.githubusercontent.com/qiicr/dcmqi/master/doc/schemas/segment-context-schema.json#",
        "SegmentationCategoryTypeContextName": "Bed test list",
        "SegmentationCodes": {
            "Category": [
                {
                    "CodingSchemeDesignator": "SCT",
                    "CodeValue": "123037004",
                    "CodeMeaning": "Anatomical Structure",
                    "Type": [{"CodingSchemeDesignator": "SCT", "CodeValue": "80891009", "CodeMeaning": "Heart"}],
                }
            ]
        },
    }
    path = tmp_path / "Test.term.json"
    path.write_text(json.dumps(content))
    logic = slicer.modules.terminologies.logic()
    assert logic.LoadTerminologyFromFile(str(path)) == "Bed test list"
    assert logic.IsTerminologyContextLoaded("Bed test list")


def test_terminology_of_the_wrong_schema_is_refused(tmp_path):
    path = tmp_path / "Bad.term.json"
    path.write_text('{"@schema": "something else", "SegmentationCategoryTypeContextName": "Bad"}')
    assert not slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(path))


def test_dicom_database_finds_files_by_uid():
    database = slicer.dicomDatabase
    for number in range(3):
        database.addInstance(f"/dicom/{number}.dcm", f"1.2.{number}", "1.2", "1", "P1")
    assert database.fileForInstance("1.2.1") == "/dicom/1.dcm"
    assert database.fileForInstance("9.9") == ""
    assert database.filesForSeries("1.2") == [f"/dicom/{number}.dcm" for number in range(3)]
    assert database.instancesForSeries("1.2") == ["1.2.0", "1.2.1", "1.2.2"]
    assert database.seriesForStudy("1") == ["1.2"] and database.studiesForPatient("P1") == ["1"]
    database.removeSeries("1.2")
    assert database.filesForSeries("1.2") == []


def test_dicom_database_reads_headers(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    header = pydicom.Dataset()
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "2.1"
    header.SeriesInstanceUID, header.StudyInstanceUID = "2", "20"
    header.PatientID = "P2"
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    slicer.dicomDatabase.importFolder(tmp_path)
    assert slicer.dicomDatabase.filesForSeries("2") == [str(tmp_path / "a.dcm")]
    assert slicer.dicomDatabase.fileValue(str(tmp_path / "a.dcm"), "0010,0020") == "P2"
    slicer.dicomDatabase.removeSeries("2")


def test_dicom_database_keeps_a_copy_where_it_is_asked_to(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    header = pydicom.Dataset()
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "3.1"
    header.SeriesInstanceUID, header.StudyInstanceUID = "3", "30"
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    slicer.dicomDatabase.insert(str(tmp_path / "a.dcm"))
    (kept,) = slicer.dicomDatabase.filesForSeries("3")
    assert kept.startswith(slicer.dicomDatabase.databaseDirectory)
    slicer.dicomDatabase.insert(str(tmp_path / "a.dcm"), False)
    assert slicer.dicomDatabase.filesForSeries("3") == [str(tmp_path / "a.dcm")]
    slicer.dicomDatabase.removeSeries("3")


def test_plots_are_nodes_of_the_scene():
    nodes = {}
    chart = slicer.util.plot(np.array([[1, 0.5], [2, 0.7]]), 0, ["step", "Dice"], "Dice", show=False, nodes=nodes)
    assert chart.GetNumberOfPlotSeriesNodes() == 1
    assert nodes["series"][0].GetYColumnName() == "Dice"


def test_slice_views_follow_layers_and_jumps():
    from bed import views

    volume = _volume()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSliceNode") == 0
    views.open_slice_views()
    slicer.util.setSliceViewerLayers(background=volume)
    assert slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID() == volume.GetID()
    slicer.modules.markups.logic().JumpSlicesToLocation(1.0, 2.0, 33.0, True)
    assert views.slice_position("Red") == pytest.approx((1, 2, 33))
    assert slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed").GetSliceOffset() == pytest.approx(33)
    views.close_slice_views()
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSliceNode") == 0


def test_simpleitk_round_trip_keeps_the_geometry():
    import sitkUtils

    volume = _volume()
    image = sitkUtils.PullVolumeFromSlicer(volume)
    assert image.GetSpacing() == pytest.approx((0.8, 1.1, 2.5))
    assert image.GetOrigin() == pytest.approx((-10, 20, 30))
    again = sitkUtils.PushVolumeToSlicer(image, name="again")
    assert np.allclose(_matrix(again), OBLIQUE)
    assert np.array_equal(slicer.util.arrayFromVolume(again), slicer.util.arrayFromVolume(volume))


def test_sample_data_comes_from_local_files_only(tmp_path):
    import SampleData

    path = str(tmp_path / "a b.nrrd")
    slicer.util.saveNode(_volume(), path)
    checksum = "SHA256:" + slicer.util.computeChecksum("SHA256", path)
    register = SampleData.SampleDataLogic.registerCustomSampleDataSource
    register(category="Bed", sampleName="Local", uris=f"file://{path}", nodeNames="Sample", checksums=checksum)
    register(category="Bed", sampleName="Remote", uris="https://example.org/a.nrrd", nodeNames="Sample")
    register(category="Bed", sampleName="Damaged", uris=f"file://{path}", checksums="SHA256:00")
    assert SampleData.downloadSample("Local").GetName() == "Sample"
    with pytest.raises(RuntimeError, match="downloads nothing"):
        SampleData.downloadSample("Remote")
    with pytest.raises(ValueError, match="checksum"):
        SampleData.downloadSample("Damaged")
