"""Text, JSON and CSV of annotation files, in the encodings that programs really write."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from spinezoo_contract.errors import AnnotationError
from spinezoo_contract.words import counted

from spinezoo_spine.annotations.limits import (
    MAX_FILE_BYTES,
    MAX_FILE_CONTAINERS,
    MAX_FILE_VALUES,
)

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
"""Endings of files that are read as tables."""

SEPARATORS = (",", ";", "\t", "|")
"""What may stand between the cells of a CSV file."""

_OTHER_KINDS = (
    (b"PK\x03\x04", "a ZIP archive, as programs for tables save them; save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel file; save it as CSV"),
    (b"\x1f\x8b", "compressed by gzip; unpack it"),
    (b"\x89PNG", "a picture; give the file with the outlines"),
)
"""First bytes of files that are no text, and what to say of them."""

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)


def shown(text: object, most: int = 80) -> str:
    """A text from a file as a message may show it: one line, printable, not too long."""
    plain = str(text)
    short = plain if len(plain) <= most else plain[: most - 3] + "..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in short)


def _place(text: str) -> str:
    """Where a text ends, as line and column from 1."""
    return f"line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))}"


def decode_text(data: bytes) -> str:
    """The text of bytes: by their byte-order mark, else UTF-16, UTF-8 or Windows-1252.

    Raises:
        AnnotationError: They are in none of these encodings.
    """
    for mark, kind in _OTHER_KINDS:
        if data.startswith(mark):
            raise AnnotationError(f"is {kind}")
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _decode(data[len(mark) :], encoding)
    # JSON and CSV begin with an ASCII character: its empty half tells the order of the bytes.
    if len(data) >= 2 and (data[0] == 0) != (data[1] == 0):
        return _decode(data, "utf-16-be" if data[0] == 0 else "utf-16-le")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        try:
            return data.decode("cp1252")
        except UnicodeDecodeError:
            place = _place(data[: error.start].decode("utf-8", errors="replace"))
            raise AnnotationError(
                f"{place}: is neither UTF-8, UTF-16 nor Windows-1252 text; save it as UTF-8"
            ) from error


def _decode(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        place = _place(data[: error.start].decode(encoding, errors="replace"))
        raise AnnotationError(
            f"{place}: is not {encoding[:6].upper()} text, as its first bytes say; save it as UTF-8"
        ) from error


def read_text(path: Path) -> str:
    """The text of an annotation file.

    Raises:
        AnnotationError: It cannot be read, is too large or in no known encoding; the message
            begins with the file's name.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise AnnotationError(
                f"{path.name}: has {size} bytes, the limit is {MAX_FILE_BYTES}; split it by films"
            )
        data = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"{path.name}: cannot be read ({error.strerror})") from error
    try:
        return decode_text(data)
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from error


def check_count(what: str, count: int, most: int) -> None:
    """Refuses a file that holds too much.

    Raises:
        AnnotationError: There are more than the limit.
    """
    if count > most:
        raise AnnotationError(f"has {count} {what}, the limit is {most}; split the file by films")


def _one_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file; a key that stands twice must say the same twice."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    first: dict[str, Any] = {}
    for key, value in pairs:
        if key in first and first[key] != value:
            before = first[key]
            parted = (
                key.endswith("attributes")  # VIA's; some programs write them in two goes
                and isinstance(before, Mapping)
                and isinstance(value, Mapping)
                and all(before[name] == value[name] for name in before.keys() & value.keys())
            )
            if not parted:
                _twice(key, before, value)
            value = {**before, **value}
        first[key] = value
    return first


def _twice(key: str, one: object, other: object) -> NoReturn:
    told = " and ".join(_brief(value) for value in (one, other))
    raise AnnotationError(
        f"the key {shown(key)!r} stands twice in one object, once with {told}; keep one"
    )


def _brief(value: object) -> str:
    """A JSON value in a few words."""
    if isinstance(value, Mapping):
        regions = value.get("regions")
        if isinstance(regions, (list, Mapping)):
            return counted(len(regions), "region")
        return f"an object of {counted(len(value), 'entry')}"
    if isinstance(value, list):
        return f"a list of {counted(len(value), 'entry')}"
    return shown(json.dumps(value, default=str), 40)


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        AnnotationError: It holds too much, is not JSON (with line and column), or an object has a
            key twice with different values.
    """
    check_count("values", text.count(","), MAX_FILE_VALUES)
    check_count("lists and objects", text.count("[") + text.count("{"), MAX_FILE_CONTAINERS)
    try:
        return json.loads(text, object_pairs_hook=_one_object)
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg}); export "
            "it again"
        ) from error
    except RecursionError as error:
        raise AnnotationError("is not valid JSON (nested too deeply); export it again") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise AnnotationError("is not valid JSON (a number is too long); export again") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file, unjudged.

    Raises:
        AnnotationError: The file cannot be read or is not JSON.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except AnnotationError as error:
        raise AnnotationError(f"{path.name}: {error}") from error


def is_table(path: Path, text: str) -> bool:
    """Whether a text is a table (CSV) and not JSON, by its name and how it begins."""
    if path.suffix.lower() in TABLE_SUFFIXES:
        return not text.lstrip().startswith(("{", "["))
    head = text.lstrip()[:1]
    return bool(head) and head not in "{[" and "region_shape_attributes" in text[:4096]


def foreign_form(value: object) -> str:
    """Whose annotations a JSON value holds that are neither VIA's nor COCO's, for messages."""
    if isinstance(value, Mapping):
        if "shapes" in value and "imagePath" in value:
            return "a LabelMe file, "
        if value.get("type") == "FeatureCollection":
            return "a GeoJSON file, "
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        if "image_id" in value[0]:
            return "a list of COCO results, which names no films, "
        if "annotations" in value[0] or "completions" in value[0]:
            return "a Label Studio export, "
    return ""


def separator_of(header: str) -> str:
    """What stands between the cells of a CSV header: the separator that parts it most often."""
    outside = "".join(header.split('"')[0::2])
    return max(SEPARATORS, key=outside.count)


def csv_rows(text: str, separator: str, first_line: int = 1) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV text with the line each begins on; empty rows are left out.

    Args:
        text: The text; cells may hold line breaks and be of any length.
        separator: What stands between cells.
        first_line: Number of the text's first line in its file.

    Raises:
        AnnotationError: A quoted cell does not end; the message names the line.
    """
    if csv.field_size_limit() < MAX_FILE_BYTES:
        csv.field_size_limit(MAX_FILE_BYTES)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        begins = rows.line_num
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise AnnotationError(
                f"line {first_line + begins}: a quoted cell does not end or goes on behind its "
                f"quotes ({error}); write inner quotes twice, as CSV programs do"
            ) from error
        if any(cell.strip() for cell in row):
            yield first_line + begins, row


def json_cell(text: str, place: str) -> Any:
    """The JSON value of a CSV cell; an empty cell is an empty object.

    Raises:
        AnnotationError: It is not JSON; the message begins with ``place``.
    """
    if not text.strip():
        return {}
    try:
        return parse_json(text)
    except AnnotationError as error:
        raise AnnotationError(f"{place}: the cell {shown(text, 40)!r} {error}") from error


def number_of(value: object, what: str) -> float:
    """A number, also one that is written as text.

    Raises:
        AnnotationError: It is none, or not finite.
    """
    found = math.nan
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            found = float(value)
        except (ValueError, OverflowError):
            found = math.nan
    if not math.isfinite(found):
        told = shown(json.dumps(value, default=str), 40)
        raise AnnotationError(f"{what} is {told}, which is no finite number; correct it")
    return found


def whole_number(value: object, what: str) -> int:
    """A whole number, also one that is written as text or with a point.

    Raises:
        AnnotationError: It is none.
    """
    found = number_of(value, what)
    if found != int(found):
        raise AnnotationError(f"{what} is {found}, which is no whole number; correct it")
    return int(found)
