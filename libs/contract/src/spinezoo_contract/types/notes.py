"""Notes on a film: what a reader of an answer should know of how the film was read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from spinezoo_contract.errors import InvalidOutputError
from spinezoo_contract.limits import MAX_NOTE_LENGTH


class FilmNoteCode(IntEnum):
    """What a note is about; see ``image.proto``."""

    OTHER = 1
    LOSSY_COMPRESSION = 2
    NO_SPACING = 3
    SPACING_IMAGER = 4
    SPACING_PIXEL = 5
    SPACING_NOMINAL_SCANNED = 6
    SPACING_IGNORED = 7
    WINDOW_IGNORED = 8
    LOOK_UP_TABLE_IGNORED = 9
    RESCALE_IGNORED = 10
    ORIENTATION_APPLIED = 11
    FOR_PROCESSING = 12
    POLARITY_DOUBTFUL = 13
    PADDING_DOUBTFUL = 14
    NOT_LATERAL = 15
    NOT_LUMBAR = 16
    NOT_RADIOGRAPH = 17
    NOT_UPRIGHT = 18
    CHANNELS_MERGED = 19
    BITS_MASKED = 20
    END_MARKER_MISSING = 21
    STREAM_REPAIRED = 22
    OVERLAY_NOT_SHOWN = 23
    SEVERAL_WINDOWS = 24
    SINGLE_LEVEL = 25
    PAGES_IGNORED = 26
    SPACING_CALIBRATED = 27

    @classmethod
    def _missing_(cls, value: object) -> FilmNoteCode | None:
        """A code of a newer server is one that this version does not know: its text tells."""
        return cls.OTHER if isinstance(value, int) and value > 0 else None


@dataclass(frozen=True, slots=True)
class FilmNote:
    """One note.

    Attributes:
        code: What it is about, for a program.
        text: One sentence for a person. Holds no patient data.
    """

    code: FilmNoteCode
    text: str

    def __post_init__(self) -> None:
        """Checks the text.

        Raises:
            InvalidOutputError: It is empty or too long.
        """
        if not 0 < len(self.text) <= MAX_NOTE_LENGTH:
            raise InvalidOutputError(
                f"a note on the film has a text of {len(self.text)} characters; "
                f"send 1 to {MAX_NOTE_LENGTH}"
            )


NO_SPACING_NOTE = FilmNote(
    FilmNoteCode.NO_SPACING,
    "The film says nothing of its pixel spacing, so no length in mm can be given.",
)
"""For films without spacing, raw pixels too."""
