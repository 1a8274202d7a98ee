"""What can be said of the faults without a composition; the rest is `make faults`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from spinezoo_contract.errors import DeadlineError, InvalidOutputError, QueueFullError
from spinezoo_tools.checkout import networks_of
from spinezoo_tools.environments import ROOT
from spinezoo_tools.faults import load, table
from spinezoo_tools.faults.load import Load, Request, Result, ask, sum_up
from spinezoo_tools.faults.rows import ROWS


def test_the_page_has_the_rows_of_the_code_in_their_order() -> None:
    assert table.faults_of(ROOT / "docs" / "reliability.md") == [
        (row.fault, row.made) for row in ROWS
    ]


def test_every_service_is_killed() -> None:
    assert {f"kill-{name}" for name in (*networks_of(ROOT), "gateway", "evaluator")} <= {
        row.name for row in ROWS
    }


def test_the_page_keeps_what_stands_around_the_table(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{table.BEGIN}\nyesterday\n{table.END}\nafter\n")
    measured = [(row, Result("a | b", 1, 10.0, 20.0, 0, 1.5, [])) for row in ROWS]
    table.write(page, table.table(measured))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "yesterday" not in text
    assert table.faults_of(page) == [(row.fault, row.made) for row in ROWS]
    for wrong in ("none", table.BEGIN, table.END, 2 * table.BEGIN + table.END):
        page.write_text(wrong)
        with pytest.raises(ValueError, match="put them back"):
            table.write(page, "x")
        assert page.read_text() == wrong


def test_a_request_is_asked_again_only_when_there_was_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "PAUSE_S", 0.0)
    answers = iter([QueueFullError("full"), QueueFullError("full"), None])

    def call() -> dict[str, tuple[str, str]]:
        error = next(answers)
        if error is not None:
            raise error
        return {"unet": ("UNAVAILABLE", "is gone")}

    request = ask(call)
    assert [name for name, _ in request.refused] == ["QueueFullError"] * 2
    assert request.missing == {"unet": "UNAVAILABLE"}
    assert not request.lost

    for error in (DeadlineError("too late"), InvalidOutputError("nonsense"), RuntimeError("what")):

        def fail(error: Exception = error) -> dict[str, tuple[str, str]]:
            raise error

        assert type(error).__name__ in ask(fail).lost
    assert ask(lambda: {"unet": ("UNAVAILABLE", "")}).lost, "a failure without a message"
    monkeypatch.setattr(load, "ASK_AGAIN_S", 0.0)
    answers = iter([QueueFullError("full")] * 9)
    assert "no answer within" in ask(call).lost


def requests(*kinds: str) -> list[Request]:
    """Requests of one second each, one after the other."""
    made = []
    for place, kind in enumerate(kinds):
        request = Request(float(place), place + 1.0)
        if kind == "lost":
            request.lost = "nothing came"
        elif kind == "refused":
            request.refused.append(("NotServingError", "away"))
        elif kind != "full":
            request.missing = {kind: "UNAVAILABLE"}
        made.append(request)
    return made


def test_recovery_counts_to_the_first_full_answer_after_the_last_other() -> None:
    kinds = ("full", "unet", "full", "unet", "full", "full")
    result = sum_up(requests(*kinds), 1.0, 1.5, may_miss={"unet": ("UNAVAILABLE",)})
    assert result.problems == []
    assert result.recovery_s == 3.5
    assert (result.median_ms, result.max_ms, result.lost) == (1000.0, 1000.0, 0)
    assert result.sees == "4 of 6 in full; 2 without unet (UNAVAILABLE)"
    assert sum_up(requests("full", "full"), 0.5, 0.5).recovery_s == 0.0


@pytest.mark.parametrize(
    ("kinds", "problem"),
    [
        (("full", "lost", "full"), "1 lost: nothing came"),
        (("full", "refused", "full"), "1 refused by NotServingError"),
        (("full", "pspnet", "full"), "pspnet UNAVAILABLE in 1 answers"),
        (("full", "unet"), "not recovered"),
        (("full", "full"), "no answer lacks unet"),
    ],
)
def test_a_row_does_not_hold(kinds: tuple[str, ...], problem: str) -> None:
    result = sum_up(requests(*kinds), 0.5, 0.5, may_miss={"unet": ("UNAVAILABLE",)}, must_miss=True)
    assert any(problem in each for each in result.problems), result.problems


def test_clients_go_on_until_all_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = time.monotonic() + 0.3

    def call() -> dict[str, tuple[str, str]]:
        time.sleep(0.01)
        return {} if time.monotonic() > broken else {"unet": ("UNAVAILABLE", "gone")}

    with Load([call, call]) as clients:
        clients.wait_full(time.monotonic(), 10)
    assert len(clients.requests) >= 10
    assert all(each.full for each in clients.requests[-load.FULL_IN_A_ROW :])
    monkeypatch.setattr(load, "RECOVERY_LIMIT_S", 0.2)
    with Load([lambda: {"unet": ("UNAVAILABLE", "gone")}]) as clients:
        clients.wait_full(time.monotonic(), 1)
    assert not clients.requests[-1].full
