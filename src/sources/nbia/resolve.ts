/** Names as a user typed them to names as the archive spells them. */
import { RunError } from "../../errors.ts";
import { isUid, nearMatches } from "../../model/address.ts";
import type { Query, WordFilter } from "../../model/query.ts";
import type { SourceContext } from "../source.ts";
import type { NbiaApi, WireRow } from "./api.ts";
import { noSharedList } from "./shared-list.ts";

/** Fields whose words v4 lists, with the endpoint, its column and whether it takes Collection. */
const VALUE_LISTS: readonly (readonly [WordFilter, string, string])[] = [
  ["modality", "getModalityValues", "Modality"],
  ["body-part", "getBodyPartValues", "BodyPartExamined"],
  ["manufacturer", "getManufacturerValues", "Manufacturer"],
];
const SHOWN_WORDS = 40;

/** See `Source.resolve`. UIDs are not looked up here: one that the archive does not show is a failed item. */
export async function resolveQuery(
  api: NbiaApi,
  archive: string,
  query: Query,
  context: SourceContext,
): Promise<Query> {
  const path = [...query.path];
  if (path.length > 5)
    throw new RunError("usage", `${archive} has five levels: collection/patient/study/series/instance`);
  const words: Partial<Record<WordFilter, readonly string[]>> = { ...query.filters.words };

  const [first] = path;
  if (first !== undefined && isUid(first)) {
    if (path.length > 2 || (path[1] !== undefined && !isUid(path[1]))) {
      throw new RunError("usage", `below the UID ${first} only one SOP Instance UID can stand`);
    }
  } else if (first !== undefined) {
    path[0] = await canonical("collection", first, archive, collections(api, context));
    if (path[1] !== undefined) path[1] = await patient(api, archive, [path[0]], path[1], context);
    for (const [index, level] of [
      [2, "study"],
      [3, "series"],
      [4, "instance"],
    ] as const) {
      const uid = path[index];
      if (uid !== undefined && !isUid(uid))
        throw new RunError("unknown-name", `${JSON.stringify(uid)} is no UID of a ${level}`);
    }
  }

  if (words.collection) {
    const known = collections(api, context);
    words.collection = await all(words.collection, (word) => canonical("collection", word, archive, known));
  }
  const scope = first !== undefined && !isUid(first) ? [path[0] as string] : (words.collection ?? []);
  if (words.patient)
    words.patient = await all(words.patient, (word) => patient(api, archive, scope, word, context));
  for (const name of ["study", "series"] as const) {
    for (const uid of words[name] ?? []) {
      if (!isUid(uid))
        throw new RunError("usage", `--${name} takes UIDs, and ${JSON.stringify(uid)} is none`);
    }
  }
  for (const [name, endpoint, column] of VALUE_LISTS) {
    const wanted = words[name];
    if (!wanted) continue;
    // Known in the whole archive is enough: a word that this collection lacks matches nothing, which is no error.
    const known = values(api, endpoint, column, context);
    words[name] = await all(wanted, (word) => canonical(name, word, archive, known));
  }
  for (const name of words["shared-list"] ?? []) {
    let known = false;
    for await (const _ of api.sharedList(name, context)) known = true;
    if (!known) throw noSharedList(archive, name);
  }
  if (words.model) words.model = await all(words.model, (word) => model(api, archive, scope, word, context));
  return { path, filters: { ...query.filters, words } };
}

async function all(words: readonly string[], resolve: (word: string) => Promise<string>): Promise<string[]> {
  const found: string[] = [];
  for (const word of words) {
    const name = await resolve(word);
    if (!found.includes(name)) found.push(name);
  }
  return found.sort();
}

function collections(api: NbiaApi, context: SourceContext): Promise<string[]> {
  return values(api, "getCollectionValues", "Collection", context);
}

async function values(
  api: NbiaApi,
  endpoint: string,
  column: string,
  context: SourceContext,
): Promise<string[]> {
  const found = new Set<string>();
  // An element may be {}: the database holds nulls.
  for await (const row of api.rows(endpoint, {}, context)) {
    const value = row[column];
    if (typeof value === "string" && value !== "") found.add(value);
  }
  return [...found].sort();
}

async function canonical(
  what: string,
  word: string,
  archive: string,
  list: Promise<string[]>,
): Promise<string> {
  const known = await list;
  if (known.includes(word)) return word;
  const same = known.filter((name) => folded(name) === folded(word));
  if (same.length === 1) return same[0] as string;
  if (same.length > 1) {
    throw new RunError(
      "unknown-name",
      `${JSON.stringify(word)} fits several names of ${archive}: ${same.join(", ")}`,
      {
        hint: "write the one you mean with its capitals",
      },
    );
  }
  if (known.length === 0) {
    throw new RunError("archive-reply", `${archive} lists no ${what.replace("-", " ")} at all`);
  }
  const near = nearMatches(word, known);
  const shown = known.slice(0, SHOWN_WORDS).join(", ");
  const more = known.length > SHOWN_WORDS ? `, and ${known.length - SHOWN_WORDS} more` : "";
  const hints = [near.length > 0 ? `did you mean ${near.join(", ")}?` : "", `there are: ${shown}${more}`];
  throw new RunError("unknown-name", `${archive} has no ${what.replace("-", " ")} ${JSON.stringify(word)}`, {
    hint: (near.length > 0 && more !== "" ? hints.slice(0, 1) : hints)
      .filter((hint) => hint !== "")
      .join(" "),
  });
}

/** A patient's id is compared with its case by v4 (getPatient), and may be one of many thousand. */
async function patient(
  api: NbiaApi,
  archive: string,
  scope: readonly string[],
  word: string,
  context: SourceContext,
): Promise<string> {
  const places = scope.length === 0 ? [{}] : scope.map((name) => ({ Collection: name }));
  for (const place of places) {
    for await (const row of api.rows("getPatient", { ...place, PatientId: word }, context)) {
      if (row.PatientId === word) return word;
    }
  }
  const known = new Set<string>();
  for (const place of places) {
    for await (const row of api.rows("getPatient", place, context)) {
      if (typeof row.PatientId === "string") known.add(row.PatientId);
    }
  }
  const where = scope.length === 0 ? archive : `${archive}:${scope.join(", ")}`;
  return canonical("patient", word, where, Promise.resolve([...known].sort()));
}

/** No endpoint lists models, but getSeries takes one. Of a collection, near ones are offered. */
async function model(
  api: NbiaApi,
  archive: string,
  scope: readonly string[],
  word: string,
  context: SourceContext,
): Promise<string> {
  const modelOf = (row: WireRow): string =>
    typeof row.ManufacturerModelName === "string" ? row.ManufacturerModelName : "";
  for await (const row of api.rows("getSeries", { ManufacturerModelName: word }, context)) {
    if (folded(modelOf(row)) === folded(word)) return modelOf(row);
  }
  const known = new Set<string>();
  for (const Collection of scope) {
    for await (const row of api.rows("getSeries", { Collection }, context)) known.add(modelOf(row));
  }
  known.delete("");
  if (known.size > 0) return canonical("model", word, archive, Promise.resolve([...known].sort()));
  throw new RunError("unknown-name", `${archive} has no model ${JSON.stringify(word)}`, {
    hint: `\`gantry values ${archive}: model\` lists them`,
  });
}

/** Names typed on macOS may come decomposed (NFD); archives send them composed. */
const folded = (text: string): string => text.normalize("NFC").trim().toLowerCase();
