"""The subject: films, annotations, networks' answers, the column, measures, fusion, metrics."""

import os

# From its import on ONNX Runtime would report models and an identifier of this machine to its
# maker; see its Privacy.md. On purpose for every importer: there must be no way that calls home.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
