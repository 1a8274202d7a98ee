"""The OpenAPI document keeps what it says, and so do the examples of docs/http.md."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance
from spinezoo.v1 import (
    ensemble_pb2,
    fusion_pb2,
    labelling_pb2,
    measures_pb2,
    model_pb2,
    segment_pb2,
)
from spinezoo_gateway.http import models
from spinezoo_gateway.http.answers import models_json
from spinezoo_gateway.http.options import SegmentFields, form_schema
from test_requests import GREY, dicom

Connect = Callable[..., httpx.Client]
ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "http.md").read_text()


def example(name: str) -> str:
    found = re.search(rf"<!-- examples: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "film.dcm").write_bytes(dicom(GREY))
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_shell_examples_run(connect: Connect, folder: Path) -> None:
    address = str(connect().base_url).rstrip("/")
    script = example("shell").replace("http://127.0.0.1:8050", address)
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert len(json.loads((folder / "answer.json").read_text())["members"]) == 5
    two = json.loads((folder / "two.json").read_text())
    assert [member["name"] for member in two["members"]] == ["pspnet", "unet"]
    assert "rings" in two["fused"]["segments"][0]["mask"]
    assert (folder / "events.txt").read_text().count("event: ") == 6
    assert (folder / "film.png").read_bytes().startswith(b"\x89PNG")


def test_the_python_example_runs(connect: Connect, folder: Path) -> None:
    address = str(connect().base_url).rstrip("/")
    script = example("python").replace("http://127.0.0.1:8050", address)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sorted(lines[-6:-1]) == ["deeplabv3", "mask_rcnn", "pspnet", "unet", "yolact"]
    assert lines[-1] == "fused"


PAIRS: list[tuple[Any, Any]] = [
    (models.SegmentModel, segment_pb2.Segment),
    (models.VertebraModel, labelling_pb2.NamedVertebra),
    (models.ReadingModel, labelling_pb2.FilmReading),
    (models.ReaderModel, labelling_pb2.ReaderProvenance),
    (models.LabellingModel, labelling_pb2.Labelling),
    (models.ImplantModel, fusion_pb2.FusedImplant),
    (models.LandmarkModel, measures_pb2.Landmark),
    (models.OsteophyteModel, measures_pb2.Osteophyte),
    (models.BodyModel, measures_pb2.BodyLandmarks),
    (models.MeasureModel, measures_pb2.Measure),
    (models.MeasuresModel, measures_pb2.FilmMeasures),
    (models.FusedModel, fusion_pb2.FusedAnswer),
    (models.TimingModel, model_pb2.Timing),
    (models.ProvenanceModel, model_pb2.Provenance),
    (models.InfoModel, model_pb2.ModelInfo),
    (models.GatewayTimingModel, ensemble_pb2.GatewayTiming),
    (models.SegmentAnswer, ensemble_pb2.SegmentResponse),
    (models.SummaryEvent, ensemble_pb2.EnsembleSummary),
    (models.NewcomerModel, ensemble_pb2.NewcomerStatus),
    (models.ModelsAnswer, ensemble_pb2.ListModelsResponse),
]


@pytest.mark.parametrize(("model", "message"), PAIRS, ids=lambda each: str(each)[-30:])
def test_models_have_the_fields_of_the_contract(model: Any, message: Any) -> None:
    assert set(model.model_fields) == set(message.DESCRIPTOR.fields_by_name)


def test_lists_are_texts_of_a_form() -> None:
    schema = form_schema(SegmentFields)["content"]["multipart/form-data"]["schema"]
    for name in ("members", "weights"):
        assert schema["properties"][name]["type"] == "string"


def test_what_a_zoo_lacks_is_left_out_of_its_models() -> None:
    bare = ensemble_pb2.RosterMember(member_name="unet")
    assert set(models_json(ensemble_pb2.ListModelsResponse(members=[bare]))["members"][0]) == {
        "name", "target", "status",
    }  # fmt: skip
    told = models_json(
        ensemble_pb2.ListModelsResponse(
            members=[
                ensemble_pb2.RosterMember(
                    member_name="unet",
                    model=model_pb2.ModelInfo(name="unet"),
                    newcomer=ensemble_pb2.NewcomerStatus(target="new:1", reason="rule C06"),
                )
            ],
            reader=labelling_pb2.ReaderProvenance(name="reads"),
            refiner=measures_pb2.RefinerProvenance(name="refines"),
        )
    )
    (member,) = told["members"]
    assert (member["model"]["name"], member["newcomer"]["reason"]) == ("unet", "rule C06")
    assert (told["reader"]["name"], told["refiner"]["name"]) == ("reads", "refines")


def test_names_of_enums_are_those_of_the_contract() -> None:
    def names(enum: Any) -> set[str]:
        prefix = enum.DESCRIPTOR.values[0].name.removesuffix("UNSPECIFIED")
        return {value.name.removeprefix(prefix).lower() for value in enum.DESCRIPTOR.values[1:]}

    def said(annotation: Any) -> set[str]:
        return set(annotation.__args__)

    assert said(models.StructureName) == names(segment_pb2.Structure)
    assert said(models.CornerName) == names(measures_pb2.BodyCorner)
    unit = models.MeasureModel.model_fields["unit"].annotation
    assert said(unit) == names(measures_pb2.MeasureUnit)
    assert said(models.CodeName) == names(ensemble_pb2.MemberCode)
    rule = models.FusedModel.model_fields["rule"].annotation
    assert said(rule) == names(fusion_pb2.FusionRule)
    view = models.ReadingModel.model_fields["view"].annotation
    assert said(view) - {"unspecified"} == names(labelling_pb2.FilmView)


def test_schemathesis_finds_nothing(connect: Connect) -> None:
    """Requests made by chance from the document: every answer is one that it promises."""
    client = connect()
    schema = schemathesis.openapi.from_url(
        f"{str(client.base_url).rstrip(chr(47))}/v1/openapi.json", config=SchemathesisConfig()
    )
    asked = []
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @operation_cases(operation)
        def check(case: schemathesis.Case) -> None:
            response = case.call(timeout=30)
            # What makes bytes a film cannot be said in a schema, and a deadline of 1 ms is over
            # before any answer: 503 and 504 are promised, 500 is not.
            case.validate_response(
                response, excluded_checks=[positive_data_acceptance, not_a_server_error]
            )
            asked.append((case.operation.label, response.status_code))

        check()
    assert {label for label, _ in asked} == {
        "POST /v1/segment",
        "POST /v1/preview",
        "GET /v1/models",
        "GET /v1/access",
    }
    assert not [each for each in asked if each[1] >= 500 and each[1] not in (503, 504)]


def operation_cases(operation: Any) -> Any:
    from hypothesis import given

    return given(case=operation.as_strategy())
