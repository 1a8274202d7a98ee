"""Films on a network's canvas, ready for training: decoded once, then kept in a cache folder.

::

    films = prepare_films(open_film_set("data/train"), 320, 256)  # decodes once, then cached
    train_names, validation_names = split_names(films.names, seed=1)
    train = films.subset(train_names)
    film = augment(train[0], rng)                                 # another look, same truth
    x, y = network_input(film), label_map_of(film)                # (2, h, w), (h, w)
    masks, boxes, structures = instances_of(film)

Outlines stay polygons until the very end, so turning and scaling a film loses nothing of them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from spinezoo_contract.errors import ConfigurationError, FilmError, OptionError
from spinezoo_contract.types import Structure
from spinezoo_spine.annotations.film_set import FilmSet
from spinezoo_spine.annotations.options import OutlineOptions
from spinezoo_spine.inference.preprocess import PREPROCESSING_ID, letterbox
from tqdm import tqdm

from spinezoo_training.shards import read_arrays

CACHE_FOLDER = ".prepared"
"""Folder inside the films' folder that holds prepared films."""

OUTLINE_ARRAYS = ("points_xy", "point_ends", "structures", "region_ends", "grey_sums")
"""Of its file of outlines."""

CACHE_FORMAT = "3"
"""Part of every cache key; raised when the stored form or its meaning changes."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedFilm:
    """A film on the canvas.

    Attributes:
        name: The film's name.
        grey: (height, width) ``uint8``, unit grey times 255; bars around the film are 0.
        regions: Structure and (N, 2) outline on the canvas, x right, y down, in pixel edges.
    """

    name: str
    grey: NDArray[np.uint8]
    regions: tuple[tuple[Structure, NDArray[np.float64]], ...]


class PreparedSet:
    """Films of one folder on one canvas; grey levels stay on disk and are mapped into memory.

    Sets are cheap to send to worker processes: only the cache folder's path and the selection
    travel.
    """

    def __init__(self, folder: Path, selection: tuple[int, ...] | None = None) -> None:
        """Opens a cache folder that :func:`prepare_films` has made.

        Args:
            folder: The cache folder.
            selection: Which of its films, by position; None takes all.

        Raises:
            ConfigurationError: The cache is damaged.
            OSError: It cannot be read.
        """
        self.folder = folder
        try:
            index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
            self._names: list[str] = index["names"]
            self._grey = np.load(folder / "grey.npy", mmap_mode="r", allow_pickle=False)
            outlines = read_arrays(folder / "outlines.npz", OUTLINE_ARRAYS)
            self._points, self._point_ends, self._structures, self._region_ends, self._sums = (
                outlines[name] for name in OUTLINE_ARRAYS
            )
            counts = (self._region_ends, self._grey, self._sums)
            if any(len(each) != len(self._names) for each in counts):
                raise ValueError("of several sets")
        except (FileNotFoundError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"prepared films in {folder} are damaged or of another version; remove that folder "
                "and start again"
            ) from error
        every = tuple(range(len(self._names)))
        self._selection = every if selection is None else selection

    def __reduce__(self) -> tuple[type[PreparedSet], tuple[Path, tuple[int, ...]]]:
        return PreparedSet, (self.folder, self._selection)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the films, in the order of their positions."""
        return tuple(self._names[position] for position in self._selection)

    @property
    def height(self) -> int:
        """Rows of the canvas."""
        return int(self._grey.shape[1])

    @property
    def width(self) -> int:
        """Columns of the canvas."""
        return int(self._grey.shape[2])

    def __len__(self) -> int:
        return len(self._selection)

    def __getitem__(self, index: int) -> PreparedFilm:
        """A film.

        Raises:
            ConfigurationError: Its grey levels on the disk are not those that were written.
        """
        position = self._selection[index]
        grey = np.array(self._grey[position])
        # Film by film: a store is as large as a disk, and a training begins at once.
        if grey_sum(grey) != self._sums[position]:
            raise ConfigurationError(
                f"film {self._names[position]} of the prepared films in {self.folder} is damaged; "
                "remove that folder and start again"
            )
        first_region = int(self._region_ends[position - 1]) if position else 0
        regions = []
        for region in range(first_region, int(self._region_ends[position])):
            first_point = int(self._point_ends[region - 1]) if region else 0
            points = self._points[first_point : int(self._point_ends[region])]
            regions.append((Structure(int(self._structures[region])), points))
        return PreparedFilm(self._names[position], grey, tuple(regions))

    def __iter__(self) -> Iterator[PreparedFilm]:
        return (self[index] for index in range(len(self)))

    def subset(self, names: Iterable[str]) -> PreparedSet:
        """The films of these names, in that order, over the same cache.

        Raises:
            FilmError: A film is not in this set.
        """
        places = dict(zip(self.names, self._selection, strict=True))
        try:
            return PreparedSet(self.folder, tuple(places[name] for name in names))
        except KeyError as error:
            raise FilmError(f"film {error.args[0]!r} is not in this set") from None


def _fingerprint(films: FilmSet, names: tuple[str, ...], height: int, width: int) -> str:
    """Key of a cache: everything its content depends on."""
    digest = hashlib.sha256()
    head = {
        "format": CACHE_FORMAT,
        "preprocessing": PREPROCESSING_ID,
        "height": height,
        "width": width,
    }
    digest.update(json.dumps(head, sort_keys=True).encode())
    for name in names:
        stat = films.path(name).stat()
        digest.update(json.dumps([name, stat.st_size, stat.st_mtime_ns]).encode())
        for region in films.annotation(name).regions:
            digest.update(bytes([int(region.structure)]) + region.polygon_xy.tobytes())
    return digest.hexdigest()[:24]


def _prepare_one(
    films: FilmSet, name: str, height: int, width: int
) -> tuple[NDArray[np.uint8], list[tuple[Structure, NDArray[np.float64]]]]:
    film = films.film(name)
    grey, fit = letterbox(film.pixels, height, width)
    regions = [
        (region.structure, fit.to_canvas(region.polygon_xy))
        for region in films.annotation(name).regions
    ]
    return np.rint(grey * 255.0).astype(np.uint8), regions


def open_film_set(
    folder: str | os.PathLike[str], outlines: OutlineOptions | None = None
) -> FilmSet:
    """A folder of films to train on, its outlines checked.

    Args:
        folder: Films with their VIA or COCO file; see :class:`FilmSet`.
        outlines: How that file is read; None reads it as it is.

    Raises:
        FilmError: The folder is none or holds no film.
        AnnotationError: The outlines are missing or wrong.
    """
    options = outlines or OutlineOptions()
    return FilmSet.open(
        folder,
        class_attribute=options.class_attribute,
        classes=options.classes,
        skip_bad_regions=options.skip_bad_regions,
    )


def prepare_films(
    films: FilmSet,
    height: int,
    width: int,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    names: Iterable[str] | None = None,
    progress: bool = True,
    workers: int = 1,
) -> PreparedSet:
    """Every film of a set on a canvas, decoded once and kept.

    The cache is keyed by names, sizes and times of the film files, the outlines themselves and
    the canvas, so a changed film or outline is prepared anew. It appears whole or not at all:
    two processes may prepare the same films at once, and one that is stopped leaves nothing that
    would be read.

    Args:
        films: From :func:`open_film_set`.
        height: Rows of the canvas.
        width: Columns of the canvas.
        cache_dir: Where prepared films are kept; None keeps them in the films' folder.
        names: Only these films; None takes all that have an entry.
        progress: Show a progress bar.
        workers: Threads that decode.

    Raises:
        FilmError: A film is missing or wrong; the message names it.
        OptionError: The canvas or the number of workers is not positive.
    """
    if height < 1 or width < 1 or workers < 1:
        raise OptionError(
            f"height {height}, width {width}, workers {workers}: choose 1 or more of each"
        )
    chosen = films.names if names is None else tuple(names)
    if not chosen:
        raise FilmError(f"folder {films.folder.name!r} holds no film with outlines")
    for name in chosen:
        films.path(name)
    unreadable = [
        finding
        for finding in films.findings
        if finding.rule == "unreadable-film" and finding.film in chosen
    ]
    if unreadable:
        more = f" (and {len(unreadable) - 1} more)" if len(unreadable) > 1 else ""
        raise FilmError(f"{unreadable[0].sentence}{more}; save it again or remove its entry")
    base = Path(cache_dir) if cache_dir is not None else films.folder / CACHE_FOLDER
    target = base / f"{height}x{width}-{_fingerprint(films, chosen, height, width)}"
    if target.is_dir():
        return PreparedSet(target)
    base.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=base))
    try:
        _write_cache(partial, films, chosen, height, width, progress=progress, workers=workers)
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first with the same content
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return PreparedSet(target)


def _write_cache(
    folder: Path,
    films: FilmSet,
    names: tuple[str, ...],
    height: int,
    width: int,
    *,
    progress: bool,
    workers: int,
) -> None:
    grey = make_grey(folder, len(names), height, width)
    outlines: list[list[tuple[int, NDArray[np.float64]]]] = []
    sums: list[int] = []
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda name: _prepare_one(films, name, height, width), names)
        hidden = None if progress else True  # None: where nobody looks
        bar = tqdm(done, total=len(names), desc="preparing films", disable=hidden)
        for position, (canvas, regions) in enumerate(bar):
            grey[position] = canvas
            sums.append(grey_sum(canvas))
            outlines.append([(int(structure), polygon) for structure, polygon in regions])
    grey.flush()
    write_prepared_index(folder, names, outlines, sums)


def make_grey(folder: Path, count: int, height: int, width: int) -> np.memmap[Any, Any]:
    """Makes the file of a cache folder that :class:`PreparedSet` reads grey levels from.

    Args:
        folder: The cache folder.
        count: Films.
        height: Rows of the canvas.
        width: Columns of the canvas.

    Returns:
        (count, height, width) uint8, to be written to.

    Raises:
        OSError: The disk has no room for all of it.
    """
    path = folder / "grey.npy"
    grey = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, height, width))
    with path.open("r+b") as file:
        try:
            # A full disk that is met while writing to mapped memory ends a process by SIGBUS.
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            error.filename = str(folder)
            raise
    return grey


def grey_sum(grey: NDArray[np.uint8]) -> int:
    """The sum by which a film's grey levels are known to be those that were written."""
    return zlib.crc32(np.ascontiguousarray(grey).data)


def write_prepared_index(
    folder: Path,
    names: Sequence[str],
    outlines: Sequence[Sequence[tuple[int, NDArray[np.float64]]]],
    sums: Sequence[int],
) -> None:
    """Writes what :class:`PreparedSet` reads beside ``grey.npy``.

    Args:
        folder: The cache folder.
        names: Of the films, in the order of ``grey.npy``.
        outlines: Of each film, number of the structure and (N, 2) outline on the canvas.
        sums: Of each film, :func:`grey_sum`.
    """
    regions = [region for film in outlines for region in film]
    np.savez(
        folder / "outlines.npz",
        points_xy=np.concatenate([p for _, p in regions]) if regions else np.zeros((0, 2)),
        point_ends=np.cumsum([len(polygon) for _, polygon in regions], dtype=np.int64),
        structures=np.array([structure for structure, _ in regions], dtype=np.uint8),
        region_ends=np.cumsum([len(film) for film in outlines], dtype=np.int64),
        grey_sums=np.array(sums, dtype=np.uint32),
    )
    index = {"names": list(names), "preprocessing_id": PREPROCESSING_ID}
    (folder / "index.json").write_text(json.dumps(index) + "\n", encoding="utf-8")
