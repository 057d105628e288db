/** Words that users of PREVENT-AD know, whatever the server they ask lists (conpdatasets/preventad-open-bids, paths). */

/** The words of its download script's `-m`. Each is a family of scan types. */
export const FAMILIES: readonly string[] = [
  "asl",
  "bold",
  "dwi65",
  "qT2star",
  "fieldmap",
  "FLAIR",
  "MP2RAGE",
  "t1w",
  "T2star",
  "t2w",
  "task-encoding-bold",
  "task-retrieval-bold",
];

/** All visits of the open data. */
export const VISITS: readonly string[] = [
  "NAPBL00",
  "NAPEN00",
  "NAPFU03",
  "NAPFU12",
  "NAPFU24",
  "NAPFU36",
  "NAPFU48",
  "PREBL00",
  "PREEN00",
  "PREFU12",
  "PREFU24",
  "PREFU36",
  "PREFU48",
];

/** Whether users mean a value by a word: families, `sub-` and `ses-`, without case. */
export function isMeant(filter: string, word: string, value: string): boolean {
  const folded = word.toLowerCase();
  if (filter === "patient" || filter === "visit")
    return folded.replace(/^(?:sub|ses)-/u, "") === value.toLowerCase();
  const family = FAMILIES.find((each) => each.toLowerCase() === folded);
  return filter === "modality" && family !== undefined && isOfFamily(family, value);
}

/** Whether a scan type is of the family that users call by `word`. Cut at dashes, whole parts are compared. */
export function isOfFamily(word: string, type: string): boolean {
  const parts = type.split("-");
  const plain = parts.filter((part) => part !== "defaced").join("-");
  switch (word) {
    case "fieldmap":
      return parts.some((part) => part.startsWith("fieldmap"));
    case "qT2star":
    case "MP2RAGE":
      return parts.includes(word);
    default:
      return plain === word;
  }
}
