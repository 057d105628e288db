/**
 * getDicomTags: the elements of the first image of a series, as the portal shows them (CBIIT/NBIA-TCIA
 * software/nbia-dao textsupport/NCIADicomTextObject.java).
 */
import dicomParser from "dicom-parser";
import type { SandboxSeries } from "../../../sandbox/data/dataset.ts";
import type { Reply } from "../../../sandbox/stand-ins.ts";
import { collect } from "../../../sandbox/wire.ts";
import { NOTHING, portalRows, type Row } from "./format.ts";
import type { ArchiveView, NamedEndpoint } from "./view.ts";

export function* dicomTagEndpoints(view: ArchiveView): Iterable<NamedEndpoint> {
  yield [
    "getDicomTags",
    {
      apis: ["v4", "advanced"],
      verb: "GET",
      serves: "rows",
      allowed: ["SeriesUID"],
      run: (call) => {
        const series = view.find(call, call.query("SeriesUID") ?? "");
        return series === undefined ? NOTHING : tagsOf(series);
      },
    },
  ];
}

async function tagsOf(series: SandboxSeries): Promise<Reply> {
  const [image] = series.instances();
  if (image === undefined) return NOTHING;
  let data: dicomParser.DataSet;
  try {
    data = dicomParser.parseDicom(await collect(image.read()), { untilTag: "x7fe00010" });
  } catch {
    // The parser throws strings and objects at will; what can't be parsed has no tags.
    return NOTHING;
  }
  return portalRows(["element", "name", "data"], [...rowsOf(data, "")]);
}

function* rowsOf(data: dicomParser.DataSet, prefix: string): Iterable<Row> {
  for (const element of Object.values(data.elements)) {
    const digits = element.tag.slice(1).toUpperCase();
    if (digits === "7FE00010") continue;
    const name = NAMES[digits] ?? "";
    const label = `${prefix}(${digits.slice(0, 4)},${digits.slice(4)})`;
    yield [label, name, element.items === undefined ? textOf(data, element) : null];
    if (element.items === undefined) continue;
    for (const item of element.items) {
      if (item.dataSet !== undefined) yield* rowsOf(item.dataSet, `${prefix}>`);
    }
    // A sequence is closed by a row of the same element: clients find its range by the two.
    yield [label, `End ${name}`, null];
  }
}

function textOf(data: dicomParser.DataSet, { tag, vr, length }: dicomParser.Element): string | null {
  switch (vr) {
    case "US":
      return data.uint16(tag)?.toString() ?? null;
    case "SS":
      return data.int16(tag)?.toString() ?? null;
    case "UL":
      return data.uint32(tag)?.toString() ?? null;
    case "SL":
      return data.int32(tag)?.toString() ?? null;
    case "FL":
      return data.float(tag)?.toString() ?? null;
    case "FD":
      return data.double(tag)?.toString() ?? null;
    case "OB":
    case "OW":
    case "OF":
    case "OD":
    case "UN":
      return null;
    default:
      return length > 0 && length < 1024 ? (data.string(tag) ?? null) : null;
  }
}

/** Names of PS3.6 for the elements that the stand-in's data usually hold. */
const NAMES: Readonly<Record<string, string>> = {
  "00020010": "Transfer Syntax UID",
  "00080005": "Specific Character Set",
  "00080008": "Image Type",
  "00080016": "SOP Class UID",
  "00080018": "SOP Instance UID",
  "00080020": "Study Date",
  "00080021": "Series Date",
  "00080050": "Accession Number",
  "00080060": "Modality",
  "00080070": "Manufacturer",
  "00081030": "Study Description",
  "0008103E": "Series Description",
  "00081090": "Manufacturer's Model Name",
  "00081115": "Referenced Series Sequence",
  "0008114A": "Referenced Instance Sequence",
  "00081199": "Referenced SOP Sequence",
  "00100010": "Patient's Name",
  "00100020": "Patient ID",
  "00100030": "Patient's Birth Date",
  "00100040": "Patient's Sex",
  "00101010": "Patient's Age",
  "00130010": "Private Creator",
  "00180015": "Body Part Examined",
  "00180050": "Slice Thickness",
  "00181020": "Software Version(s)",
  "00181030": "Protocol Name",
  "0020000D": "Study Instance UID",
  "0020000E": "Series Instance UID",
  "00200010": "Study ID",
  "00200011": "Series Number",
  "00200012": "Acquisition Number",
  "00200013": "Instance Number",
  "00200032": "Image Position (Patient)",
  "00200037": "Image Orientation (Patient)",
  "00280002": "Samples per Pixel",
  "00280004": "Photometric Interpretation",
  "00280010": "Rows",
  "00280011": "Columns",
  "00280030": "Pixel Spacing",
  "00280100": "Bits Allocated",
  "00280101": "Bits Stored",
  "00280102": "High Bit",
  "00280103": "Pixel Representation",
  "00620002": "Segment Sequence",
  "30060010": "Referenced Frame of Reference Sequence",
  "30060012": "RT Referenced Study Sequence",
  "30060014": "RT Referenced Series Sequence",
  "30060016": "Contour Image Sequence",
  "30060020": "Structure Set ROI Sequence",
  "30060039": "ROI Contour Sequence",
  "30060040": "Contour Sequence",
  "30060080": "RT ROI Observations Sequence",
};
