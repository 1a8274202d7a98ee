// @ts-check: written by `make generate` from spinezoo_spine.annotations and spinezoo_contract; change those.

/** Structures and what the page calls them. */
/** @type {Record<string, string>} */
export const STRUCTURES = {
 "lumbar_vertebra": "Lumbar vertebra",
 "sacral_vertebra": "Sacral vertebra",
 "cage": "Cage",
 "screw": "Screw",
 "rod": "Rod"
};

/** Class names of files, in the form of `classKey`. */
/** @type {Record<string, string>} */
export const CLASSES = {
 "lumbar vertebra": "lumbar_vertebra",
 "lumbar vertebrae": "lumbar_vertebra",
 "lumbar vertebral body": "lumbar_vertebra",
 "lumbar": "lumbar_vertebra",
 "vertebra": "lumbar_vertebra",
 "vertebrae": "lumbar_vertebra",
 "vertebral body": "lumbar_vertebra",
 "th12": "lumbar_vertebra",
 "sacral vertebra": "sacral_vertebra",
 "sacral vertebrae": "sacral_vertebra",
 "sacral vertebral body": "sacral_vertebra",
 "sacral": "sacral_vertebra",
 "sacrum": "sacral_vertebra",
 "cage": "cage",
 "cages": "cage",
 "interbody cage": "cage",
 "intervertebral cage": "cage",
 "screw": "screw",
 "screws": "screw",
 "pedicle screw": "screw",
 "pedicle screws": "screw",
 "rod": "rod",
 "rods": "rod",
 "plate": "rod",
 "plates": "rod",
 "rod other": "rod",
 "instrumentation": "rod",
 "other instrumentation": "rod",
 "rod other instrumentation": "rod",
 "t12": "lumbar_vertebra",
 "l1": "lumbar_vertebra",
 "l2": "lumbar_vertebra",
 "l3": "lumbar_vertebra",
 "l4": "lumbar_vertebra",
 "l5": "lumbar_vertebra",
 "l6": "lumbar_vertebra",
 "s1": "sacral_vertebra",
 "s2": "sacral_vertebra"
};

/** Attributes that may hold the class, in this order. */
export const CLASS_KEYS = ["structure", "class", "class_name", "label", "type", "category", "name"];

/** Attributes that may hold the level. */
export const LEVEL_KEYS = ["level", "vertebral_level", "anatomical_level"];

/** Levels that a person can give, from above. */
export const LEVELS = ["T9", "T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "L6", "S1", "S2"];

/** Levels that truth may hold, from above. */
export const TRUTH = ["T12", "L1", "L2", "L3", "L4", "L5", "L6", "S1", "S2"];

/** Most outlines of a film. */
export const MOST_REGIONS = 1000;

/** Most points of an outline. */
export const MOST_POINTS = 20000;

/** Most bytes of a file with outlines. */
export const MOST_BYTES = 67108864;

/** px; a line with ends this near is closed. */
export const CLOSING = 3.0;

/** Corners of a circle or ellipse. */
export const ROUND_VERTICES = 72;

/** What stands between the words of a class name. */
export const SEPARATORS = /[\s_\-.\/&+]+/;

/** A level, or two neighbours. */
export const LEVEL = /^(T1[0-2]|T[1-9]|L[1-6]|S[1-5])(\/(T1[0-2]|T[1-9]|L[1-6]|S[1-5]))?$/;
