/** One phantom image as a DICOM file. */

import { type DicomElement, encodeDicomHead } from "./dicom-writer.ts";
import {
  lesionOf,
  PHANTOM_SIZE,
  type PhantomLook,
  paintLesionMask,
  paintPhantomSlice,
} from "./phantom-image.ts";
import type { PhantomKind } from "./phantom-plan.ts";

export const SOP_CLASSES: Readonly<Record<PhantomKind, string>> = {
  ct: "1.2.840.10008.5.1.4.1.1.2",
  scout: "1.2.840.10008.5.1.4.1.1.2",
  mr: "1.2.840.10008.5.1.4.1.1.4",
  pt: "1.2.840.10008.5.1.4.1.1.128",
  "enhanced-ct": "1.2.840.10008.5.1.4.1.1.2.1",
  rtstruct: "1.2.840.10008.5.1.4.1.1.481.3",
  seg: "1.2.840.10008.5.1.4.1.1.66.4",
};

const LOOKS: Readonly<Record<PhantomKind, PhantomLook>> = {
  ct: { air: 24, unit: 1000, grain: 40 },
  scout: { air: 24, unit: 1000, grain: 10 },
  mr: { air: 5, unit: 900, grain: 60 },
  pt: { air: 0, unit: 600, grain: 300 },
  "enhanced-ct": { air: 24, unit: 1000, grain: 40 },
  rtstruct: { air: 0, unit: 0, grain: 0 },
  seg: { air: 0, unit: 0, grain: 0 },
};

/** Frames of one enhanced multi-frame image. */
export const ENHANCED_FRAMES = 20;
const PIXEL_MM = 3.5;
const SLICE_MM = 3;
const FRAME_BYTES = PHANTOM_SIZE * PHANTOM_SIZE * 2;

/** A series as its files need it. */
export interface PhantomSeriesFacts {
  readonly kind: PhantomKind;
  readonly seriesInstanceUid: string;
  readonly frameOfReferenceUid: string;
  /** Elements that all images of the series share: patient, study, series, equipment. */
  readonly shared: readonly DicomElement[];
  readonly sopInstanceUids: readonly string[];
  /** Chooses where the lesion lies. */
  readonly patientNumber: number;
  /** Seeds the grain. */
  readonly seriesNumber: number;
  /** The series that contours and segmentations are drawn on. */
  readonly source: PhantomSeriesFacts | undefined;
}

const code = (value: string, scheme: string, meaning: string): readonly DicomElement[] => [
  [0x00080100, "SH", value],
  [0x00080102, "SH", scheme],
  [0x00080104, "LO", meaning],
];

/** Height of image `index` of `count`, -0.75 to 0.75: every slice passes through the phantom (half axis 0.81). */
const heightOf = (index: number, count: number): number =>
  count < 2 ? 0 : -0.75 + (1.5 * index) / (count - 1);

const position = (index: number): string =>
  [-(PHANTOM_SIZE * PIXEL_MM) / 2, -(PHANTOM_SIZE * PIXEL_MM) / 2, index * SLICE_MM].join("\\");

const pixelModule = (bits: 1 | 16): DicomElement[] => [
  [0x00280002, "US", 1],
  [0x00280004, "CS", "MONOCHROME2"],
  [0x00280010, "US", PHANTOM_SIZE],
  [0x00280011, "US", PHANTOM_SIZE],
  [0x00280100, "US", bits],
  [0x00280101, "US", bits === 1 ? 1 : 12],
  [0x00280102, "US", bits === 1 ? 0 : 11],
  [0x00280103, "US", 0],
];

function planeElements({ kind, frameOfReferenceUid }: PhantomSeriesFacts, index: number): DicomElement[] {
  const isCt = kind === "ct" || kind === "scout";
  const elements: DicomElement[] = [
    [0x00080008, "CS", kind === "scout" ? "ORIGINAL\\PRIMARY\\LOCALIZER" : "ORIGINAL\\PRIMARY\\AXIAL"],
    [0x00180050, "DS", SLICE_MM.toFixed(1)],
    [0x00200012, "IS", "1"],
    [0x00200013, "IS", String(index + 1)],
    [0x00200032, "DS", position(index)],
    [0x00200037, "DS", "1\\0\\0\\0\\1\\0"],
    [0x00200052, "UI", frameOfReferenceUid],
    [0x00201040, "LO", null],
    [0x00201041, "DS", (index * SLICE_MM).toFixed(1)],
    ...pixelModule(16),
    [0x00280030, "DS", `${PIXEL_MM}\\${PIXEL_MM}`],
  ];
  if (kind !== "mr") {
    elements.push(
      [0x00281052, "DS", isCt ? "-1024" : "0"],
      [0x00281053, "DS", "1"],
      [0x00281054, "LO", isCt ? "HU" : "US"],
    );
  }
  if (isCt) elements.push([0x00180060, "DS", "120"], [0x00281050, "DS", "40"], [0x00281051, "DS", "400"]);
  if (kind === "mr") {
    elements.push(
      [0x00180020, "CS", "SE"],
      [0x00180021, "CS", "NONE"],
      [0x00180022, "CS", null],
      [0x00180023, "CS", "2D"],
      [0x00180080, "DS", "500"],
      [0x00180081, "DS", "15"],
      [0x00180091, "IS", "1"],
    );
  }
  if (kind === "pt") {
    elements.push(
      [0x00281050, "DS", "300"],
      [0x00281051, "DS", "600"],
      [0x00541000, "CS", "STATIC\\IMAGE"],
      [0x00541001, "CS", "BQML"],
      [0x00541002, "CS", "EMISSION"],
      [0x00541102, "CS", "START"],
      [0x00541300, "DS", "0"],
      [0x00541330, "US", index + 1],
    );
  }
  return elements;
}

function multiFrame(
  frames: number,
  perFrame: (frame: number) => DicomElement[],
  frameOfReferenceUid: string,
): DicomElement[] {
  const planes: DicomElement[] = [
    [0x00209116, "SQ", [[[0x00200037, "DS", "1\\0\\0\\0\\1\\0"]]]],
    [
      0x00289110,
      "SQ",
      [
        [
          [0x00180050, "DS", String(SLICE_MM)],
          [0x00280030, "DS", `${PIXEL_MM}\\${PIXEL_MM}`],
        ],
      ],
    ],
  ];
  return [
    [0x00200013, "IS", "1"],
    [0x00200052, "UI", frameOfReferenceUid],
    [0x00201040, "LO", null],
    [0x00280008, "IS", String(frames)],
    [0x52009229, "SQ", [planes]],
    [0x52009230, "SQ", Array.from({ length: frames }, (_, frame) => perFrame(frame))],
  ];
}

function enhancedElements(series: PhantomSeriesFacts): DicomElement[] {
  const perFrame = (frame: number): DicomElement[] => [
    [0x00209111, "SQ", [[[0x00209157, "UL", [1, frame + 1]]]]],
    [0x00209113, "SQ", [[[0x00200032, "DS", position(frame)]]]],
    [
      0x00289145,
      "SQ",
      [
        [
          [0x00281052, "DS", "-1024"],
          [0x00281053, "DS", "1"],
          [0x00281054, "LO", "HU"],
        ],
      ],
    ],
  ];
  return [
    [0x00080008, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"],
    [0x00089205, "CS", "MONOCHROME"],
    [0x00089206, "CS", "VOLUME"],
    [0x00089207, "CS", "NONE"],
    ...pixelModule(16),
    ...multiFrame(ENHANCED_FRAMES, perFrame, series.frameOfReferenceUid),
  ];
}

const referenceTo = (series: PhantomSeriesFacts, index: number): DicomElement[] => [
  [0x00081150, "UI", SOP_CLASSES[series.kind]],
  [0x00081155, "UI", series.sopInstanceUids[index]!],
];

/** Images of the source that the lesion passes through. */
function lesionImages(source: PhantomSeriesFacts): number[] {
  const count = source.sopInstanceUids.length;
  return source.sopInstanceUids
    .map((_, index) => index)
    .filter((index) => Math.abs(heightOf(index, count)) < 0.29);
}

function segmentationElements(series: PhantomSeriesFacts, source: PhantomSeriesFacts): DicomElement[] {
  const images = lesionImages(source);
  const perFrame = (frame: number): DicomElement[] => [
    [
      0x00089124,
      "SQ",
      [
        [
          [0x00082112, "SQ", [[...referenceTo(source, images[frame]!), sourcePurpose]]],
          [0x00089215, "SQ", [code("113076", "DCM", "Segmentation")]],
        ],
      ],
    ],
    [0x00209111, "SQ", [[[0x00209157, "UL", [1, frame + 1]]]]],
    [0x00209113, "SQ", [[[0x00200032, "DS", position(images[frame]!)]]]],
    [0x0062000a, "SQ", [[[0x0062000b, "US", 1]]]],
  ];
  return [
    [0x00080008, "CS", "DERIVED\\PRIMARY"],
    [
      0x00081115,
      "SQ",
      [
        [
          [0x0008114a, "SQ", images.map((index) => referenceTo(source, index))],
          [0x0020000e, "UI", source.seriesInstanceUid],
        ],
      ],
    ],
    ...pixelModule(1),
    [0x00282110, "CS", "00"],
    [0x00620001, "CS", "BINARY"],
    [
      0x00620002,
      "SQ",
      [
        [
          [0x00620003, "SQ", [code("49755003", "SCT", "Morphologically Abnormal Structure")]],
          [0x00620004, "US", 1],
          [0x00620005, "LO", "Lesion"],
          [0x00620008, "CS", "AUTOMATIC"],
          [0x00620009, "LO", "Gantry phantom"],
          [0x0062000f, "SQ", [code("52988006", "SCT", "Lesion")]],
        ],
      ],
    ],
    [0x00700080, "CS", "LESION"],
    [0x00700081, "LO", null],
    [0x00700084, "PN", null],
    ...multiFrame(images.length, perFrame, series.frameOfReferenceUid),
  ];
}

const sourcePurpose: DicomElement = [
  0x0040a170,
  "SQ",
  [code("121322", "DCM", "Source image for image processing operation")],
];

function structureElements(series: PhantomSeriesFacts, source: PhantomSeriesFacts): DicomElement[] {
  const lesion = lesionOf(series.patientNumber);
  const half = (PHANTOM_SIZE * PIXEL_MM) / 2;
  const images = lesionImages(source);
  const studyUid = String(series.shared.find(([tag]) => tag === 0x0020000d)?.[2]);
  const contours = images.map((index): DicomElement[] => {
    const z = heightOf(index, source.sopInstanceUids.length);
    const radius = lesion.radius * Math.sqrt(1 - (z / 0.3) ** 2);
    const points: string[] = [];
    for (let step = 0; step < 24; step++) {
      const angle = (step * Math.PI) / 12;
      const x = half * (lesion.x + radius * Math.cos(angle));
      const y = -half * (lesion.y + radius * Math.sin(angle));
      points.push(x.toFixed(2), y.toFixed(2), (index * SLICE_MM).toFixed(2));
    }
    return [
      [0x30060016, "SQ", [referenceTo(source, index)]],
      [0x30060042, "CS", "CLOSED_PLANAR"],
      [0x30060046, "IS", "24"],
      [0x30060050, "DS", points.join("\\")],
    ];
  });
  const referencedSeries: DicomElement[] = [
    [0x0020000e, "UI", source.seriesInstanceUid],
    [0x30060016, "SQ", images.map((index) => referenceTo(source, index))],
  ];
  const referencedStudy: DicomElement[] = [
    [0x00081150, "UI", "1.2.840.10008.3.1.2.3.1"],
    [0x00081155, "UI", studyUid],
    [0x30060014, "SQ", [referencedSeries]],
  ];
  return [
    [0x00200013, "IS", "1"],
    [0x30060002, "SH", "LESION"],
    [0x30060008, "DA", null],
    [0x30060009, "TM", null],
    [
      0x30060010,
      "SQ",
      [
        [
          [0x00200052, "UI", source.frameOfReferenceUid],
          [0x30060012, "SQ", [referencedStudy]],
        ],
      ],
    ],
    [
      0x30060020,
      "SQ",
      [
        [
          [0x30060022, "IS", "1"],
          [0x30060024, "UI", source.frameOfReferenceUid],
          [0x30060026, "LO", "Lesion"],
          [0x30060036, "CS", "AUTOMATIC"],
        ],
      ],
    ],
    [
      0x30060039,
      "SQ",
      [
        [
          [0x3006002a, "IS", "255\\64\\0"],
          [0x30060040, "SQ", contours],
          [0x30060084, "IS", "1"],
        ],
      ],
    ],
    [
      0x30060080,
      "SQ",
      [
        [
          [0x30060082, "IS", "1"],
          [0x30060084, "IS", "1"],
          [0x300600a4, "CS", "GTV"],
          [0x300600a6, "PN", null],
        ],
      ],
    ],
    [0x300e0002, "CS", "UNAPPROVED"],
  ];
}

const source = (series: PhantomSeriesFacts): PhantomSeriesFacts => {
  if (!series.source) throw new Error(`a ${series.kind} needs a series to be drawn on`);
  return series.source;
};

function elementsOf(series: PhantomSeriesFacts, index: number): DicomElement[] {
  switch (series.kind) {
    case "enhanced-ct":
      return enhancedElements(series);
    case "rtstruct":
      return structureElements(series, source(series));
    case "seg":
      return segmentationElements(series, source(series));
    default:
      return planeElements(series, index);
  }
}

function pixelBytes(series: PhantomSeriesFacts): number {
  if (series.kind === "rtstruct") return 0;
  if (series.kind === "seg") return lesionImages(source(series)).length * (FRAME_BYTES / 16);
  return series.kind === "enhanced-ct" ? ENHANCED_FRAMES * FRAME_BYTES : FRAME_BYTES;
}

/** Everything before the pixels of image `index` (from 0). */
export function encodePhantomHead(series: PhantomSeriesFacts, index: number): Buffer {
  const sizeBytes = pixelBytes(series);
  return encodeDicomHead(
    {
      sopClassUid: SOP_CLASSES[series.kind],
      sopInstanceUid: series.sopInstanceUids[index]!,
      elements: [...series.shared, ...elementsOf(series, index)],
    },
    sizeBytes > 0 ? { vr: series.kind === "seg" ? "OB" : "OW", sizeBytes } : undefined,
  );
}

/** Size of the file of image `index`: that of its head and its pixels. */
export function phantomFileBytes(series: PhantomSeriesFacts, head: Uint8Array): number {
  return head.length + pixelBytes(series);
}

/** The file of image `index`, frame by frame. */
export function* paintPhantomFile(series: PhantomSeriesFacts, index: number): Generator<Uint8Array> {
  yield encodePhantomHead(series, index);
  const { kind, patientNumber, seriesNumber } = series;
  const look = LOOKS[kind];
  if (kind === "rtstruct") return;
  if (kind === "seg") {
    const { sopInstanceUids } = source(series);
    for (const image of lesionImages(source(series))) {
      yield paintLesionMask(heightOf(image, sopInstanceUids.length), patientNumber);
    }
  } else if (kind === "enhanced-ct") {
    for (let frame = 0; frame < ENHANCED_FRAMES; frame++) {
      yield paintPhantomSlice(
        heightOf(frame, ENHANCED_FRAMES),
        patientNumber,
        seriesNumber + frame * 7919,
        look,
      );
    }
  } else {
    const z = heightOf(index, series.sopInstanceUids.length);
    yield paintPhantomSlice(z, patientNumber, seriesNumber + index * 7919, look);
  }
}
