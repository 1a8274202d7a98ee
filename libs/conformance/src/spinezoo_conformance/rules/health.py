"""Rules C01 to C03: health and reflection."""

from __future__ import annotations

import grpc
from google.protobuf import descriptor_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from spinezoo_contract.services import SEGMENTER_SERVICE

from spinezoo_conformance.rule import Rule
from spinezoo_conformance.session import Session
from spinezoo_conformance.verdict import RuleBrokenError, expect


def _judge_health_check(session: Session) -> None:
    for service in ("", SEGMENTER_SERVICE):
        response = session.health.Check(
            health_pb2.HealthCheckRequest(service=service), timeout=session.timeout_s
        )
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
        expect(status == "SERVING", f"Check({service!r}) says {status}")


def _judge_health_watch(session: Session) -> None:
    call = session.health.Watch(health_pb2.HealthCheckRequest(), timeout=session.timeout_s)
    try:
        first = next(iter(call), None)
    finally:
        call.cancel()
    expect(first is not None, "Watch ends without a message")
    assert first is not None
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(first.status)
    expect(status == "SERVING", f"Watch says {status}")


def _judge_reflection(session: Session) -> None:
    listing, file_of_service = _reflect(
        session,
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SEGMENTER_SERVICE),
    )
    names = {service.name for service in listing.list_services_response.service}
    for name in (SEGMENTER_SERVICE, "grpc.health.v1.Health"):
        expect(name in names, f"reflection does not list {name}; it lists {sorted(names)}")
    methods: set[str] = set()
    for serialized in file_of_service.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(serialized)
        for service in file.service:
            if f"{file.package}.{service.name}" == SEGMENTER_SERVICE:
                methods |= {method.name for method in service.method}
    missing = {"Predict", "GetModel"} - methods
    expect(not missing, f"reflection does not describe {SEGMENTER_SERVICE}'s {sorted(missing)}")


def _reflect(
    session: Session, *requests: reflection_pb2.ServerReflectionRequest
) -> list[reflection_pb2.ServerReflectionResponse]:
    """Answers of the reflection service; its versions v1 and v1alpha differ in name only."""
    for version in ("v1", "v1alpha"):
        ask = session.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        try:
            responses = list(ask(iter(requests), timeout=session.timeout_s))
        except grpc.RpcError as error:
            if error.code() is StatusCode.UNIMPLEMENTED:
                continue
            raise
        expect(len(responses) == len(requests), "reflection leaves a question unanswered")
        return responses
    raise RuleBrokenError("neither grpc.reflection.v1 nor v1alpha is served")


HEALTH_RULES = (
    Rule("C01", "Health Check says SERVING.", _judge_health_check),
    Rule("C02", "Health Watch streams SERVING.", _judge_health_watch),
    Rule("C03", f"Reflection lists and describes {SEGMENTER_SERVICE}.", _judge_reflection),
)
