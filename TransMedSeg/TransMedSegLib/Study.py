"""The study that a node lies under in the subject hierarchy: Slicer's own DICOM export and its data tree go by it."""

import slicer
from slicer.i18n import tr as _

_PATIENT = {"PatientName": "0010,0010", "PatientID": "0010,0020", "PatientSex": "0010,0040", "PatientBirthDate": "0010,0030"}
_STUDY = {"StudyInstanceUID": "0020,000D", "StudyID": "0020,0010", "StudyDescription": "0008,1030", "StudyDate": "0008,0020", "StudyTime": "0008,0030"}
"""What Slicer's DICOM module notes at the items of a patient and of a study, and the tags it comes from."""

_SERIES_UID = "0020,000E"


def studyOf(node):
    """The item of the study that a node lies under, at any depth; 0 where there is none."""
    hierarchy = _hierarchy()
    item = hierarchy.GetItemByDataNode(node)
    return hierarchy.GetItemAncestorAtLevel(item, slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()) if item else 0


def putUnderStudy(node, path):
    """Puts a volume under the study of its DICOM series, made with its patient where the scene has none yet.

    Args:
        node: The volume.
        path: One of its source files in the DICOM database.
    """
    hierarchy = _hierarchy()
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
    series = slicer.dicomDatabase.fileValue(path, _SERIES_UID)
    if series and not hierarchy.GetItemUID(item, _uidName()):
        hierarchy.SetItemUID(item, _uidName(), series)
    hierarchy.SetItemParent(item, _studyItem(path))


def _studyItem(path):
    facts = _factsOf(path, _STUDY)
    make = lambda name: _hierarchy().CreateStudyItem(_patientItem(path), name)
    return _item(facts, facts["StudyInstanceUID"], make, facts["StudyDescription"] or _("No study description"), facts["StudyDate"])


def _patientItem(path):
    facts = _factsOf(path, _PATIENT)
    make = lambda name: _hierarchy().CreateSubjectItem(_hierarchy().GetSceneItemID(), name)
    return _item(facts, facts["PatientID"], make, facts["PatientName"] or _("No name"), facts["PatientID"])


def _factsOf(path, tags):
    return {name: slicer.dicomDatabase.fileValue(path, tag) for name, tag in tags.items()}


def _item(facts, uid, make, name, detail):
    """The item that the scene has for a UID, or a new one."""
    return _itemWithUid(uid) or _noted(make(f"{name} ({detail})" if detail else name), facts, uid)


def _noted(item, facts, uid):
    """Notes at an item what the files say of it."""
    prefix = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMAttributePrefix()
    for name, value in facts.items():
        _hierarchy().SetItemAttribute(item, f"{prefix}{name}", value)
    if uid:
        _hierarchy().SetItemUID(item, _uidName(), uid)
    return item


def _itemWithUid(uid):
    return _hierarchy().GetItemByUID(_uidName(), uid) if uid else 0


def _uidName():
    return slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMUIDName()


def _hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
