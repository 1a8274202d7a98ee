"""What a film's notes say: one place for their meaning and for what to do about them.

`make generate` writes the table of ``docs/data-format.md`` from :data:`MEANINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from spinezoo_contract.types import Film, FilmNote, FilmNoteCode, MeasurePlane

MEANINGS: Mapping[FilmNoteCode, tuple[str, str]] = {
    FilmNoteCode.OTHER: (
        "something that this version has no code for",
        "read the sentence",
    ),
    FilmNoteCode.LOSSY_COMPRESSION: (
        "the film was compressed with loss (JPEG and its kin); fine borders may be blurred",
        "send the original from the archive where you have it",
    ),
    FilmNoteCode.NO_SPACING: (
        "nothing says how large a pixel is; no length in mm can be given",
        "send the DICOM file instead of an exported picture",
    ),
    FilmNoteCode.SPACING_IMAGER: (
        "the spacing is Imager Pixel Spacing, at the detector; the sentence names the "
        "magnification where the header has it, and Pixel Spacing where that differs: viewers' "
        "rulers may go by it",
        "divide a length by the magnification to have it in the patient",
    ),
    FilmNoteCode.SPACING_PIXEL: (
        "the spacing is Pixel Spacing, and nothing says whether it was calibrated",
        "ask the department whether it is at the detector or in the patient",
    ),
    FilmNoteCode.SPACING_CALIBRATED: (
        "the spacing is Pixel Spacing, corrected for magnification: lengths are those in the "
        "patient, at the depth it was calibrated for; a `magnification` in the request is not used",
        "divide nothing",
    ),
    FilmNoteCode.SPACING_NOMINAL_SCANNED: (
        "the spacing is that of the scanner that read a film or plate",
        "take lengths as nominal",
    ),
    FilmNoteCode.SPACING_IGNORED: (
        "a spacing in the header is no number, none of a radiograph (0.001 to 30 mm) or of pixels "
        "ten times as long as wide, and was not used; or pixels that are not square were taken as "
        "square",
        "do not trust lengths, nor angles where pixels are not square; export the film again",
    ),
    FilmNoteCode.WINDOW_IGNORED: (
        "the window in the header is empty, impossible, leaves nearly nothing of the film, or is "
        "that of a film in colour; the whole range of the film was used",
        "nothing; export with the window it was read at if the film looks wrong",
    ),
    FilmNoteCode.LOOK_UP_TABLE_IGNORED: (
        "a look-up table in the header leaves nearly nothing of the film, or is one for "
        "presentation (which are not applied); it was not used",
        "export the film again if it looks wrong",
    ),
    FilmNoteCode.RESCALE_IGNORED: (
        "rescale slope or intercept is zero, no number or senseless; stored values were used",
        "nothing",
    ),
    FilmNoteCode.ORIENTATION_APPLIED: (
        "the file says that it is to be turned or mirrored, and it was; sizes and outlines are "
        "those of the turned film, as viewers show it",
        "draw outlines on the film as viewers show it",
    ),
    FilmNoteCode.FOR_PROCESSING: (
        "the film is raw detector data (For Processing), not the picture that is read",
        "send the film For Presentation",
    ),
    FilmNoteCode.POLARITY_DOUBTFUL: (
        "the header contradicts itself about what is bright; bone may be dark",
        "look at the film; if bone is dark, export it again",
    ),
    FilmNoteCode.PADDING_DOUBTFUL: (
        "the padding value is also the brightest grey, and only areas that reach a corner of the "
        "film were taken as padding; or padding would be nearly all of the film, and was not taken",
        "look at the film's border",
    ),
    FilmNoteCode.NOT_LATERAL: (
        "the header says that this is no lateral view",
        "send a lateral film; the networks know no other",
    ),
    FilmNoteCode.NOT_LUMBAR: (
        "the header names another part of the body",
        "send a lumbar film",
    ),
    FilmNoteCode.NOT_RADIOGRAPH: (
        "the header names another kind of image (CT, MR, ...)",
        "send a radiograph",
    ),
    FilmNoteCode.NOT_UPRIGHT: (
        "the header says that the head is not at the top",
        "turn the film so that the head is at the top; the order of the names depends on it",
    ),
    FilmNoteCode.CHANNELS_MERGED: (
        "a grey film saved in colour, by a palette or with an opaque alpha channel; it was merged",
        "nothing",
    ),
    FilmNoteCode.BITS_MASKED: (
        "bits that the header calls unused held something, such as an overlay; they were masked",
        "look at the film",
    ),
    FilmNoteCode.END_MARKER_MISSING: (
        "the compressed stream is complete, only its end marker is missing; of a PNG that lacks "
        "its end, an orientation behind the pixels may be lost",
        "nothing; send the whole file if the film lies on its side",
    ),
    FilmNoteCode.STREAM_REPAIRED: (
        "a known fault of the compressed stream was put right; the sentence names it",
        "nothing",
    ),
    FilmNoteCode.OVERLAY_NOT_SHOWN: (
        "the file holds overlays or a shutter, which are not shown to the networks",
        "nothing",
    ),
    FilmNoteCode.SEVERAL_WINDOWS: (
        "the header holds several windows; the first was used",
        "nothing",
    ),
    FilmNoteCode.SINGLE_LEVEL: (
        "the whole film has one grey level; nothing can be found on it",
        "export the film again",
    ),
    FilmNoteCode.PAGES_IGNORED: (
        "the file holds smaller copies of the film (thumbnails), which were not used",
        "nothing",
    ),
}
"""By code: what it means, and what to do."""

_PLANES: Mapping[FilmNoteCode, MeasurePlane] = {
    FilmNoteCode.SPACING_IMAGER: MeasurePlane.DETECTOR,
    FilmNoteCode.SPACING_PIXEL: MeasurePlane.UNSAID,
    FilmNoteCode.SPACING_CALIBRATED: MeasurePlane.PATIENT,
    FilmNoteCode.SPACING_NOMINAL_SCANNED: MeasurePlane.DETECTOR,
}


def spacing_plane(film: Film) -> MeasurePlane:
    """Where the film's spacing holds: by its notes, else at the detector, as of raw pixels."""
    said = (_PLANES[note.code] for note in film.notes if note.code in _PLANES)
    return next(said, MeasurePlane.DETECTOR)


LOSSY_NOTE = FilmNote(
    FilmNoteCode.LOSSY_COMPRESSION,
    "The film has been compressed with loss; fine borders may be blurred.",
)
"""For films of every kind."""


class NoteBook:
    """Collects the notes of one film; of a code with the same text one is kept."""

    def __init__(self) -> None:
        """Empty."""
        self._notes: dict[tuple[FilmNoteCode, str], FilmNote] = {}

    def add(self, code: FilmNoteCode, text: str) -> None:
        """Adds a note. The text holds no value of the header that may be free text."""
        self._notes.setdefault((code, text), FilmNote(code, text))

    def notes(self) -> tuple[FilmNote, ...]:
        """All of them, by code."""
        return tuple(sorted(self._notes.values(), key=lambda note: note.code))


def notes_table() -> str:
    """The codes as a Markdown table, for the page of the data format."""
    lines = ["| code | what it means | what to do |", "|---|---|---|"]
    for code in FilmNoteCode:
        meaning, advice = MEANINGS[code]
        lines.append(f"| `{code.name.lower()}` | {meaning} | {advice} |")
    return "\n".join(lines)
