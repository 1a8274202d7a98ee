"""Full names of the gRPC services, as health checks, reflection and methods' paths hold them."""

from __future__ import annotations

from spinezoo.v1 import ensemble_pb2, evaluation_pb2, segmenter_pb2

SEGMENTER_SERVICE: str = segmenter_pb2.DESCRIPTOR.services_by_name["SegmenterService"].full_name
"""Of a network."""

ENSEMBLE_SERVICE: str = ensemble_pb2.DESCRIPTOR.services_by_name["EnsembleService"].full_name
"""Of the gateway."""

EVALUATION_SERVICE: str = evaluation_pb2.DESCRIPTOR.services_by_name["EvaluationService"].full_name
"""Of the evaluator."""
