import { SOP_CLASS_NAMES } from "../../../lib/sop-classes.ts";

/** Classes that came after the server's list was made (CBIIT/NBIA-TCIA deploy/lib/UIDNames.properties, about 2018). */
const NEWER: ReadonlySet<string> = new Set([
  "1.2.840.10008.5.1.4.1.1.14.1",
  "1.2.840.10008.5.1.4.1.1.14.2",
  "1.2.840.10008.5.1.4.1.1.66.7",
  "1.2.840.10008.5.1.4.1.1.77.1.5.5",
  "1.2.840.10008.5.1.4.1.1.77.1.5.8",
  "1.2.840.10008.5.1.4.1.1.77.1.7",
  "1.2.840.10008.5.1.4.1.1.88.76",
  "1.2.840.10008.5.1.4.1.1.91.1",
  "1.2.840.10008.5.1.4.1.1.481.16",
  "1.2.840.10008.5.1.4.1.1.481.17",
  "1.2.840.10008.5.1.4.1.1.481.18",
  "1.2.840.10008.5.1.4.1.1.481.19",
  "1.2.840.10008.5.1.4.1.1.481.20",
  "1.2.840.10008.5.1.4.1.1.481.21",
  "1.2.840.10008.5.1.4.1.1.481.22",
]);

/** What getAllSOPClassDefinition lists. The official retriever writes `null` for the name of any other class. */
export const SOP_CLASSES: readonly (readonly [uid: string, name: string])[] = Object.entries(
  SOP_CLASS_NAMES,
).filter(([uid]) => !NEWER.has(uid));
