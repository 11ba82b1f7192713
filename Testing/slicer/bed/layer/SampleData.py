"""Stand-in for the SampleData module: remembers what modules register, and loads it from file:// addresses only."""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlparse

import slicer


@dataclass
class SampleDataSource:
    """One registered sample. Fields as in Slicer."""

    sampleName: str
    sampleDescription: str = None
    uris: list = field(default_factory=list)
    fileNames: list = field(default_factory=list)
    nodeNames: list = field(default_factory=list)
    checksums: list = field(default_factory=list)
    loadFileTypes: list = field(default_factory=list)
    thumbnailFileName: str = None
    customDownloader: object = None

    def __post_init__(self):
        for name in ("uris", "fileNames", "nodeNames", "checksums", "loadFileTypes"):
            value = getattr(self, name)
            setattr(self, name, [value] if isinstance(value, str) else list(value or []))


class SampleDataLogic:
    """Registers samples under a category, and loads them by name."""

    sources = {}
    """Category -> list of SampleDataSource."""
    titles = {}

    @staticmethod
    def registerCustomSampleDataCategory(category, title=None):
        SampleDataLogic.titles[category] = title or category
        SampleDataLogic.sources.setdefault(category, [])

    @staticmethod
    def registerCustomSampleDataSource(category="Custom", sampleName=None, **properties):
        known = SampleDataLogic.sources.setdefault(category, [])
        known[:] = [one for one in known if one.sampleName != sampleName]
        known.append(SampleDataSource(sampleName, **properties))

    def downloadSample(self, sampleName):
        """Loads a sample and returns its first node. Raises where its address is not a local file."""
        source = next(one for all in self.sources.values() for one in all if one.sampleName == sampleName)
        nodes = []
        for index, uri in enumerate(source.uris):
            address = urlparse(uri)
            if address.scheme != "file":
                raise RuntimeError(f"the test bed downloads nothing: {uri}")
            path = unquote(address.path)
            if source.checksums:
                algorithm, digest = source.checksums[index].split(":")
                if slicer.util.computeChecksum(algorithm, path) != digest:
                    raise ValueError(f"checksum of {path} differs")
            name = {"name": source.nodeNames[index]} if source.nodeNames else {}
            nodes.append(slicer.util.loadVolume(path, name))
        return nodes[0]


def downloadSample(sampleName):
    return SampleDataLogic().downloadSample(sampleName)
