// Reads a film and its results with dcmjs and with OHIF's adapters, and says as JSON what it saw.
//
//   node read.mjs FILM.dcm RESULT.dcm...
//
// Masks are given as SHA-256 of their pixels (one byte each, 0 or 1; label maps: 16 bits, little
// endian), so that two programs can compare them pixel for pixel. Polygons are pixels of the film.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import dcmjs from "dcmjs";

dcmjs.log.setLevel(dcmjs.log.levels.ERROR);
const { DicomMessage, DicomMetaDictionary, BitArray } = dcmjs.data;

const LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7";
const IMAGE_ID = "film:0";

const list = (value) => (value === undefined ? [] : [].concat(value));
const buffer = (path) => {
  const file = readFileSync(path);
  return file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
};
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex");

function read(path) {
  const message = DicomMessage.readFile(buffer(path));
  return DicomMetaDictionary.naturalizeDataset(message.dict);
}

function pixelBytes(dataset) {
  const data = list(dataset.PixelData)[0];
  return data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer ?? data);
}

/** Segments of a SEG by dcmjs: number, label, digest of the mask. */
function segments(dataset) {
  const named = list(dataset.SegmentSequence).map((each) => ({
    number: each.SegmentNumber,
    label: each.SegmentLabel,
  }));
  const bytes = pixelBytes(dataset);
  const size = dataset.Rows * dataset.Columns;
  if (dataset.SOPClassUID === LABEL_MAP) {
    return { segments: named, map: digest(bytes.subarray(0, size * (dataset.BitsAllocated / 8))) };
  }
  const bits = BitArray.unpack(bytes.buffer);
  named.forEach((each, place) => {
    const frame = bits.slice(place * size, (place + 1) * size);
    each.mask = digest(Uint8Array.from(frame, (value) => (value ? 1 : 0)));
  });
  return { segments: named };
}

/** Polygons of a report by dcmjs: tracking identifier, UID, points. */
function polygons(dataset) {
  const found = [];
  const walk = (item) => {
    const children = list(item.ContentSequence);
    for (const child of children) {
      if (child.ValueType === "SCOORD") {
        const named = children.find((each) => each.ValueType === "TEXT");
        const uid = children.find((each) => each.ValueType === "UIDREF");
        const image = list(child.ContentSequence)[0];
        found.push({
          name: named?.TextValue,
          uid: uid?.UID,
          film: list(image?.ReferencedSOPSequence)[0]?.ReferencedSOPInstanceUID,
          points: list(child.GraphicData),
        });
      }
      walk(child);
    }
  };
  walk(dataset);
  return found;
}

/** What a viewer on cornerstone knows of a radiograph that has no place in the patient. */
function provider(film) {
  const spacing = list(film.ImagerPixelSpacing ?? film.PixelSpacing ?? [1, 1]).map(Number);
  const known = {
    instance: film,
    generalImageModule: { sopInstanceUID: film.SOPInstanceUID },
    generalSeriesModule: {
      modality: film.Modality,
      seriesInstanceUID: film.SeriesInstanceUID,
      studyInstanceUID: film.StudyInstanceUID,
    },
    imagePlaneModule: {
      rows: film.Rows,
      columns: film.Columns,
      rowPixelSpacing: spacing[0],
      columnPixelSpacing: spacing[1],
      pixelSpacing: spacing,
      imageOrientationPatient: [1, 0, 0, 0, 1, 0],
      rowCosines: [1, 0, 0],
      columnCosines: [0, 1, 0],
      imagePositionPatient: [0, 0, 0],
      frameOfReferenceUID: film.FrameOfReferenceUID,
    },
  };
  const added = new Map();
  return {
    spacing,
    get: (kind, id) => added.get(`${kind} ${id}`) ?? (id === IMAGE_ID ? known[kind] : undefined),
    addCustomMetadata: (id, kind, value) => added.set(`${kind} ${id}`, value),
  };
}

/** Masks as cornerstone's adapter hands them to a viewer: segment to digest. */
async function adapted(path, film, adapters) {
  const metadata = provider(film);
  const { createLabelmapsFromDICOMBuffer } = adapters.adaptersSEG.Cornerstone3D.Segmentation;
  const made = await createLabelmapsFromDICOMBuffer([IMAGE_ID], buffer(path), metadata, {
    skipOverlapping: false,
  });
  const size = film.Rows * film.Columns;
  const masks = {};
  for (const group of list(made.labelMapImages)) {
    for (const image of list(group)) {
      const scalar = image.getPixelData?.() ?? image.voxelManager.getScalarData();
      for (const number of new Set(scalar)) {
        if (!number) continue;
        const mask = new Uint8Array(size);
        for (let place = 0; place < size; place++) mask[place] = scalar[place] === number ? 1 : 0;
        masks[number] = digest(mask);
      }
    }
  }
  return masks;
}

/** Outlines as cornerstone's adapter hands them to a viewer, back in pixels of the film. */
function editable(report, film, adapters) {
  const metadata = provider(film);
  const { MeasurementReport } = adapters.adaptersSR.Cornerstone3D;
  const state = MeasurementReport.generateToolState(
    report, { [`${film.SOPInstanceUID}:1`]: IMAGE_ID }, metadata,
  );
  const found = [];
  for (const [tool, measured] of Object.entries(state)) {
    for (const one of measured) {
      const line = one.annotation?.data?.contour?.polyline ?? one.annotation?.data?.handles?.points;
      found.push({
        tool,
        uid: one.TrackingUniqueIdentifier,
        closed: one.annotation?.data?.contour?.closed,
        // Cornerstone counts from the middle of the first pixel, DICOM from its corner.
        points: list(line).flatMap((point) => [
          point[0] / metadata.spacing[1] + 0.5, point[1] / metadata.spacing[0] + 0.5,
        ]),
      });
    }
  }
  return found;
}

// The libraries tell the console what they think of an object; only their errors are of use here.
const log = console.log;
const errors = [];
for (const each of ["log", "info", "warn", "error", "debug"]) {
  console[each] = (...said) => {
    errors.push(...said.filter((one) => one instanceof Error).map((one) => String(one)));
  };
}

const [filmPath, ...paths] = process.argv.slice(2);
const film = read(filmPath);
const core = await import("@cornerstonejs/core");
const adapters = await import("@cornerstonejs/adapters");
const known = provider(film);
core.metaData.addProvider((kind, id) => known.get(kind, id), 10000);
const answer = [];
for (const path of paths) {
  const dataset = read(path);
  const one = {
    modality: dataset.Modality,
    class: dataset.SOPClassUID,
    study: dataset.StudyInstanceUID,
    size: [dataset.Rows, dataset.Columns],
  };
  if (dataset.Modality === "SEG") {
    Object.assign(one, segments(dataset));
    try {
      one.adapter = await adapted(path, film, adapters);
    } catch (error) {
      one.adapterError = String(error);
    }
  }
  if (dataset.Modality === "SR") {
    one.polygons = polygons(dataset);
    try {
      one.editable = editable(dataset, film, adapters);
      one.notEditable = errors.splice(0);
    } catch (error) {
      one.adapterError = String(error);
    }
  }
  answer.push(one);
}
log(JSON.stringify(answer));
