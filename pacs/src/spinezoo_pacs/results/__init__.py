"""From a gateway's answer and its source film to DICOM: SEG, SR and Secondary Capture."""

from spinezoo_pacs.results.make import ResultKind, Results, make_results
from spinezoo_pacs.results.sources import Source, SourceError

__all__ = ["ResultKind", "Results", "Source", "SourceError", "make_results"]
