"""What goes wrong is said in words, in its place, and nothing that was corrected is lost."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.selenium import Axe
from bench import Bench
from refused_films import refused_films
from selenium import webdriver
from spinezoo.v1 import image_pb2
from spinezoo_serving.endpoints import HttpEndpoint
from spinezoo_serving.tokens import new_token, revoke_token
from spinezoo_testing.certificates import (  # noqa: F401
    Certificates,
    certificates,
    shared_certificates,
)
from spinezoo_testing.servers import until

Browse = Callable[..., Any]
"""Starts the gateway and gives a ``Browser`` of ``conftest.py``."""


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        code = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + code

    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("report.pdf", lambda _: b"%PDF-1.7 nothing", "is a PDF document"),
        ("empty.dcm", lambda _: b"", "0 bytes"),
        ("cut.dcm", lambda film: film[:-9000], "is truncated"),
        ("huge.png", lambda _: huge_png(), "Scale the film down"),
        ("noise.png", lambda _: bytes(5000), "cannot be read"),
    ],
)
def test_what_is_no_film_is_said_in_words(
    browse: Browse, folder: Path, name: str, content: Callable[[bytes], bytes], says: str
) -> None:
    (folder / name).write_bytes(content((folder / "fusion.dcm").read_bytes()))
    page = browse()
    page.expected += ["status of 400", "status of 413"]
    page.load()
    page.open(name)
    said = page.notice("film")
    assert says in said, said
    assert page.count(".shape") == 0
    # The next film is answered as ever.
    page.open("plain.dcm")
    page.wait(lambda: page.count(".column .row") > 3)
    assert page.count("[data-notice=film]") == 0


def test_everything_that_readers_refuse_is_said_in_words(browse: Browse, folder: Path) -> None:
    page = browse()
    page.expected += ["status of 400", "status of 413"]
    page.load()
    wrong = {}
    for number, (kind, film) in enumerate(refused_films().items()):
        name = f"refused-{number}.dcm"
        (folder / name).write_bytes(film)
        page.open(name)
        page.wait(lambda name=name: page.text(".film-name") == name, name)
        said = page.notice("film")
        known = said.startswith("This film cannot be read: ") or "Scale the film down" in said
        if not known or page.count(".shape") or page.count(".network.asked"):
            wrong[kind] = said
    assert not wrong
    page.open("plain.dcm")
    page.wait(lambda: page.count(".column .row") > 3)
    assert page.count("[data-notice=film]") == 0


def test_a_file_of_200_mib_is_not_even_sent(browse: Browse, folder: Path) -> None:
    path = folder / "giant.dcm"
    with path.open("wb") as file:
        file.truncate(200 << 20)
    page = browse()
    page.load()
    page.open(path.name)
    assert "has 200 MiB; this zoo takes at most 64 MiB" in page.notice("film")
    page.open("fusion.dcm")
    page.wait(lambda: page.count(".column .row") > 5)
    giant = path.rename(folder / "giant.json")
    page.one("#via-file").send_keys(str(giant))
    assert "giant.json has more than 64 MiB" in page.notice("loaded")
    giant.unlink()


def test_a_film_that_has_gone_from_the_disk_is_sent_all_the_same(
    browse: Browse, zoo: Bench, folder: Path
) -> None:
    for name in ("yolact", "unet", "pspnet"):
        zoo.members[name].behaviour = "crash"
    page = browse()
    page.load()
    path = folder / "moved.dcm"
    path.write_bytes((folder / "fusion.dcm").read_bytes())
    page.open(path.name)
    page.notice("film")
    path.unlink()
    for member in zoo.members.values():
        member.behaviour = "ok"
    page.click("[data-notice=film] button")
    page.wait(lambda: page.count(".column .row") > 5)


def test_a_file_that_cannot_be_read_is_said(browse: Browse, folder: Path) -> None:
    page = browse()
    page.expected += ["ERR_FILE_NOT_FOUND", "ERR_UPLOAD_FILE_CHANGED"]
    page.load()
    path = folder / "gone.dcm"
    path.write_bytes(b"one film")
    field = page.driver.execute_script(
        "const f = document.createElement('input'); f.type = 'file'; document.body.append(f);"
        "return f;"
    )
    field.send_keys(str(path))
    path.unlink()
    page.js(
        "const t = new DataTransfer(); t.items.add(arguments[0].files[0]);"
        "document.querySelector('.stage').dispatchEvent(new DragEvent('drop',"
        "{dataTransfer: t, bubbles: true, cancelable: true})); arguments[0].remove();",
        field,
    )
    assert "was moved or changed just now" in page.notice("film")


def offline(page: Any, yes: bool) -> None:
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": yes, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )


def test_a_line_that_is_gone_for_a_moment_is_not_even_noticed(browse: Browse) -> None:
    page = browse()
    page.expected += ["ERR_INTERNET_DISCONNECTED"]
    page.load()
    page.wait(lambda: page.count(".network") == 5)
    offline(page, True)
    page.open("fusion.dcm")
    time.sleep(0.4)
    offline(page, False)
    page.wait(lambda: page.count(".column .row") > 5)
    assert page.count("[data-notice=film]") == 0


def test_a_stream_that_breaks_off_is_asked_for_again(browse: Browse, zoo: Bench) -> None:
    zoo.members["unet"].shut(zoo.loop)
    page = browse()
    page.expected += ["ERR_INCOMPLETE", "ERR_CONNECTION", "ERR_EMPTY", "ERR_ABORTED"]
    page.load()
    page.open("fusion.dcm")
    page.wait(lambda: page.count(".network.ok") == 4)

    async def cut() -> None:
        for connection in list(zoo.gateway.http._servers[0].server_state.connections):
            connection.transport.abort()

    zoo.loop.run(cut())
    zoo.members["unet"].let(zoo.loop)
    page.wait(lambda: page.count(".column .row") > 5)
    assert page.count("[data-notice=film]") == 0
    assert page.count(".network.ok") == 5


def test_a_zoo_without_a_place_is_waited_for_and_then_said(browse: Browse, zoo: Bench) -> None:
    zoo.members["unet"].shut(zoo.loop)
    page = browse(SPINEZOO_GATEWAY_CONCURRENCY="1", SPINEZOO_MEMBER_DEADLINE_MS="60000")
    page.expected += ["status of 503"]
    film = image_pb2.Image(dicom=(page.folder / "plain.dcm").read_bytes())
    for stays in (False, True):
        zoo.members["unet"].shut(zoo.loop)
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(zoo.segment, film, 60.0)
            seen = len(zoo.members["unet"].seen)
            assert until(lambda seen=seen: len(zoo.members["unet"].seen) > seen - 1)
            page.load()
            page.open("fusion.dcm")
            page.wait(lambda: "412 px" in page.text(".film-about"))
            if stays:
                assert "Many films are under way" in page.notice("film")
            zoo.members["unet"].let(zoo.loop)
            other.result()
        if stays:
            page.click("[data-notice=film] button")
        page.wait(lambda: page.count(".column .row") > 5)
        assert page.count("[data-notice=film]") == 0


def test_a_name_of_script_tags_is_a_name(browse: Browse, folder: Path) -> None:
    name = "<script>alert(1)<!--script>.dcm"
    (folder / name).write_bytes((folder / "fusion.dcm").read_bytes())
    page = browse()
    page.answered(name)
    assert page.text(".film-name") == name
    assert page.count("script") == 1
    assert page.saved("via", ".via.json").name == "script_alert_1_--script.via.json"


def test_members_that_are_down_or_late_are_named_in_their_place(browse: Browse, zoo: Bench) -> None:
    zoo.members["yolact"].behaviour = "crash"
    zoo.members["unet"].shut(zoo.loop)
    page = browse(SPINEZOO_MEMBER_DEADLINE_MS="8000")
    page.answered("fusion.dcm")
    late, failed = (page.text(f"[data-network={name}]") for name in ("unet", "yolact"))
    assert "too late" in late
    assert "failed" in failed
    assert page.count(".network.ok") == 3
    page.key("4")
    captions = page.texts(".pane figcaption")
    assert "U-Net: too late" in captions
    assert "YOLACT: failed" in captions


def test_too_few_members_and_another_try(browse: Browse, zoo: Bench) -> None:
    for name in ("yolact", "unet", "pspnet"):
        zoo.members[name].behaviour = "crash"
    page = browse()
    page.load()
    page.open("fusion.dcm")
    said = page.notice("film")
    assert "2 of 5 members answered, the quorum is 3" in said
    assert "Too few networks answered" in said
    for member in zoo.members.values():
        member.behaviour = "ok"
    page.click("[data-notice=film] button")
    page.wait(lambda: page.count(".column .row") > 5)
    assert page.count("[data-notice=film]") == 0


def test_a_zoo_that_restarts_in_between_loses_no_correction(browse: Browse, zoo: Bench) -> None:
    page = browse()
    page.expected += ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_INCOMPLETE"]
    page.answered("fusion.dcm")
    page.key("6")
    page.js("document.querySelectorAll('.column .row')[3].click()")
    page.key("n")
    page.key("ArrowRight", shift=True, alt=True)
    corrected = page.js("return document.querySelector('.shape.selected').getAttribute('d')")
    assert page.count(".shape.corrected") == 1
    port = zoo.gateway.http.port
    zoo.loop.run(zoo.gateway.http.stop())
    page.example("plain.dcm")
    assert "cannot be reached" in page.notice("film")
    now = page.js("return document.querySelector('.shape.selected').getAttribute('d')")
    assert now == corrected
    app = zoo.gateway.http._servers[0].config.app
    zoo.gateway.http = HttpEndpoint("127.0.0.1", port, app)
    zoo.loop.run(zoo.gateway.http.start())
    assert page.saved("via", ".via.json").stat().st_size > 500
    page.example("plain.dcm")
    page.wait(lambda: page.text(".film-name") == "plain.dcm")
    page.wait(lambda: page.count(".network.ok") == 5)


def test_two_tabs_know_nothing_of_each_other(browse: Browse, driver: webdriver.Chrome) -> None:
    page = browse()
    page.answered("fusion.dcm")
    page.key("6")
    page.js("document.querySelectorAll('.column .row')[2].click()")
    page.key("n")
    page.key("ArrowRight", shift=True, alt=True)
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    page.load()
    page.open("plain.dcm")
    page.wait(lambda: page.count(".column .row") > 3)
    driver.close()
    driver.switch_to.window(first)
    assert page.text(".film-name") == "fusion.dcm"
    assert page.count(".shape.corrected") == 1
    # Nothing is kept but preferences.
    kept = page.js("return Object.keys(localStorage).concat(Object.keys(sessionStorage))")
    assert set(kept) <= {"spinezoo.theme", "spinezoo.fill", "spinezoo.opacity"}
    assert page.js("return document.cookie") == ""
    assert page.driver.execute_async_script("indexedDB.databases().then(arguments[0])") == []


def enter(page: Any, token: str) -> None:
    page.wait(lambda: page.count("dialog[open]#login"))
    page.one("#token").send_keys(token)
    page.click("#login-go")


def test_login_and_a_token_that_expires(browse: Browse, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.txt"
    token = new_token(tokens, "clinic-a")
    page = browse(SPINEZOO_TOKENS=str(tokens))
    page.expected += ["status of 401"]
    page.load()
    # Nothing but the login.
    assert page.text("#app") == ""
    assert page.count("#login[open]") == 1
    enter(page, "wrong")
    page.wait(lambda: "unknown or was revoked" in page.text("#login-why"))
    assert page.text("#app") == ""
    enter(page, token)
    page.wait(lambda: page.count("#app[data-ready]"))
    page.open("fusion.dcm")
    page.wait(lambda: page.count(".column .row") > 5)
    page.key("6")
    page.js("document.querySelectorAll('.column .row')[2].click()")
    page.key("n")
    page.key("ArrowRight", shift=True, alt=True)
    stored = page.js(
        "return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert token not in stored
    # The token is taken back: the login stands over the page, and what was corrected stays.
    revoke_token(tokens, "clinic-a")
    fresh = new_token(tokens, "clinic-b")
    page.example("plain.dcm")
    page.wait(lambda: "revoked" in page.text("#login-why"))
    assert page.count(".shape.corrected") == 1
    page.js("window.confirm = () => true")
    enter(page, fresh)
    page.wait(lambda: page.text(".film-name") == "plain.dcm")
    page.wait(lambda: page.count(".network.ok") == 5)


def test_through_tls(
    browse: Browse,
    certificates: Certificates,  # noqa: F811
) -> None:
    page = browse(SPINEZOO_CLIENT_TLS="off", **certificates.server())
    assert page.url.startswith("https://")
    page.answered("fusion.dcm")
    assert page.js("return location.protocol") == "https:"


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_serious(browse: Browse, theme: str, width: int) -> None:
    page = browse()
    page.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})  # for axe alone
    page.load()
    page.size(width, 860 if width > 600 else 844)
    axe = Axe()

    def look(where: str) -> None:
        found = axe.run(page.driver)
        serious = [
            f"{where}: {each['id']} {node['html'][:160]} {node.get('failureSummary', '')[:300]}"
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
        assert not serious, "\n".join(serious)

    if page.js("return document.documentElement.dataset.theme") != theme:
        page.click("#theme")
    look("empty")
    page.open("fusion.dcm")
    page.wait(lambda: page.count(".column .row") > 5)
    for mode in ("fused", "pair", "all", "disagreement", "correct"):
        page.click(f"button[data-mode={mode}]")
        look(mode)
    page.js("document.querySelectorAll('.column .row')[2].click()")
    look("one chosen")
    page.click("#help")
    look("keys")
    assert page.js("return document.documentElement.scrollWidth") <= width
    page.js("document.querySelector('.help').close()")
    page.js("localStorage.clear()")
