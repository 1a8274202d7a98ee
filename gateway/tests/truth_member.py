"""A member that answers what is true of a phantom, with errors of its own, when it is let."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import grpc
import numpy as np
from fake_member import FakeMember
from spinezoo.v1 import model_pb2, segment_pb2, segmenter_pb2
from spinezoo_contract.codec import to_proto
from spinezoo_contract.masks import encode_mask, mask_box
from spinezoo_contract.types import Segment, SegmentKind, Structure
from spinezoo_phantom.records import PhantomFilm
from spinezoo_spine.annotations.raster import rasterise

SEMANTIC = ("unet", "pspnet", "deeplabv3")


def truth_of(film: PhantomFilm, seed: int, *, regions: bool) -> list[Segment]:
    """Outlines of a film, a little off.

    Args:
        film: The phantom.
        seed: Of the errors.
        regions: One region a structure instead of objects.
    """
    generator = np.random.default_rng(seed)
    height, width = film.pixels.shape
    found: dict[Structure, list[np.ndarray]] = {}
    for region in film.regions:
        structure = Structure[region.structure.upper()]
        centre = region.polygon_xy.mean(axis=0)
        scale = generator.uniform(0.93, 1.04)
        shift = generator.uniform(-0.008, 0.008, 2) * width
        polygon = centre + (region.polygon_xy - centre) * scale + shift
        found.setdefault(structure, []).append(rasterise(polygon, height, width))
    segments = []
    for structure, masks in found.items():
        parts = [np.any(masks, axis=0)] if regions else masks
        kind = SegmentKind.REGION if regions else SegmentKind.INSTANCE
        for pixels in parts:
            if pixels.any():
                mask = encode_mask(pixels)
                score = float(generator.uniform(0.85, 0.99))
                segments.append(Segment(structure, kind, mask, score, mask_box(mask)))
    return segments


@dataclass
class TruthMember(FakeMember):
    """Knows films by their size; others it answers with nothing.

    Attributes:
        films: The films it knows.
        gate: Set when it may answer.
    """

    films: list[PhantomFilm] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self._known: dict[tuple[int, int], list[Segment]] = {}

    async def GetModel(  # noqa: N802
        self, request: segmenter_pb2.GetModelRequest, context: grpc.aio.ServicerContext
    ) -> segmenter_pb2.GetModelResponse:
        answer = await super().GetModel(request, context)
        answer.model.structures[:] = [int(structure) for structure in Structure]
        if self.name in SEMANTIC:
            answer.model.family = model_pb2.MODEL_FAMILY_SEMANTIC
        return answer

    async def Predict(  # noqa: N802
        self, request: segmenter_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> segmenter_pb2.PredictResponse | bytes:
        if self.behaviour != "ok":
            return await super().Predict(request, context)
        self.seen.append(request)
        await self.gate.wait()
        await asyncio.sleep(self.delay_s)
        size = (request.image.raw.height, request.image.raw.width)
        if size not in self._known:
            film = next((each for each in self.films if each.pixels.shape == size), None)
            seed = sum(map(ord, self.name))
            regions = self.name in SEMANTIC
            self._known[size] = truth_of(film, seed, regions=regions) if film else []
        segments: list[segment_pb2.Segment] = [to_proto(each) for each in self._known[size]]
        return segmenter_pb2.PredictResponse(
            height=size[0],
            width=size[1],
            segments=segments,
            provenance=model_pb2.Provenance(
                model_name=self.name, model_version="0.1.0", weights_sha256=self.weights
            ),
        )
