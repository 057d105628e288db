/** What users type, as the archive spells it. Case is free where it leaves no doubt. */
import { RunError } from "../../errors.ts";
import { nearMatches } from "../../model/address.ts";
import type { Query, WordFilter } from "../../model/query.ts";
import type { SourceContext } from "../source.ts";
import type { Listing, Names } from "./listing.ts";
import { type DataType, TYPES } from "./map.ts";
import { FAMILIES, isOfFamily, VISITS } from "./words.ts";

/** `PROJECT:` and what may follow it in the segment after the data type. */
const PROJECT_SEGMENT = /^([^:]+):(.*)$/su;
/** So many words are told when none is near. */
const TOLD = 60;

export async function resolveQuery(
  archive: string,
  { path, filters }: Query,
  listing: Listing,
  context: SourceContext,
): Promise<Query> {
  const names = new Resolver(archive, listing, context);
  const [word, ...rest] = path;
  const type = word === undefined ? null : names.type(word);
  const projects = filters.words.project ? [...filters.words.project] : [];
  const named = PROJECT_SEGMENT.exec(rest[0] ?? "");
  if (named) {
    projects.push(named[1] as string);
    if (named[2] === "") rest.shift();
    else rest[0] = named[2] as string;
  }
  if (rest.length > 3)
    throw new RunError("usage", `${archive} has four levels: data type, candidate, visit, file`, {
      hint: `for example ${archive}:bids/CANDIDATE/VISIT`,
    });
  const { patient, visit, modality } = filters.words;
  const resolved: Partial<Record<WordFilter, readonly string[]>> = { ...filters.words };
  if (projects.length > 0) resolved.project = await names.projects(projects);
  const asked = type ?? "bids";
  if (rest.length === 0 && !patient && !visit && !modality)
    return { path: type === null ? [] : [type], filters: { ...filters, words: resolved } };
  const known = await names.known(asked, [...(visit ?? []), ...(modality ?? [])].length > 0);
  if (patient) resolved.patient = sorted(patient.map((each) => names.candidate(each, known)));
  if (visit) resolved.visit = sorted(visit.map((each) => names.visit(each, known, null)));
  if (modality) resolved.modality = sorted(modality.flatMap((each) => names.modality(each, known)));
  return {
    path: type === null ? [] : [type, ...names.below(rest, known)],
    filters: { ...filters, words: resolved },
  };
}

class Resolver {
  readonly #archive: string;
  readonly #listing: Listing;
  readonly #context: SourceContext;

  constructor(archive: string, listing: Listing, context: SourceContext) {
    this.#archive = archive;
    this.#listing = listing;
    this.#context = context;
  }

  type(word: string): DataType {
    return this.#canonical("data type", word, TYPES, `its data types are ${TYPES.join(" and ")}`) as DataType;
  }

  async projects(words: readonly string[]): Promise<readonly string[]> {
    const known = await this.#listing.projects(this.#context);
    return sorted(words.map((word) => this.#canonical("project", word, known)));
  }

  /** Who may not log in is told the words that are known of the open data all the same. */
  async known(type: DataType, words: boolean): Promise<Names> {
    try {
      return await this.#listing.names(type, this.#context);
    } catch (error) {
      if (!words || !(error instanceof RunError) || error.code !== "access-login") throw error;
      const told = `of the open PREVENT-AD data, --visit takes ${VISITS.join(", ")}; --modality ${FAMILIES.join(", ")}`;
      throw new RunError(error.code, error.message, { at: error.at, hint: `${error.hint}; ${told}` });
    }
  }

  /** Segments below the data type. A file that is not listed is no misspelt name: it becomes a failed item. */
  below(segments: readonly string[], known: Names): string[] {
    const [first, second, file] = segments;
    if (first === undefined) return [];
    if (second === undefined && known.files.has(first)) return [first];
    const candidate = this.candidate(first, known);
    if (second === undefined) return [candidate];
    if (file === undefined && known.candidates.get(candidate)?.files.has(second)) return [candidate, second];
    const visit = this.visit(second, known, candidate);
    return [candidate, visit, ...(file === undefined ? [] : [file])];
  }

  /** By its number, with or without `sub-`, or by its name in the study (PSCID). */
  candidate(word: string, { candidates }: Names): string {
    const plain = word.replace(/^sub-/iu, "");
    if (candidates.has(plain)) return plain;
    const same = [...candidates].filter(([, { pscid }]) => pscid?.toLowerCase() === plain.toLowerCase());
    if (same.length === 1) return (same[0] as [string, unknown])[0];
    return this.#canonical("candidate", plain, [...candidates.keys()]);
  }

  /** `candidate`: whose visits count; null: everybody's. */
  visit(word: string, { candidates }: Names, candidate: string | null): string {
    const of = candidate === null ? [...candidates.values()] : [candidates.get(candidate)];
    const visits = [...new Set(of.flatMap((each) => [...(each?.visits.keys() ?? [])]))];
    return this.#canonical("visit", word.replace(/^ses-/iu, ""), visits);
  }

  /** A family of scan types, else one of them. */
  modality(word: string, { types }: Names): readonly string[] {
    const family = FAMILIES.find((each) => each.toLowerCase() === word.toLowerCase()) ?? word;
    const known = [...types];
    const found = known.filter((each) => isOfFamily(family, each));
    return found.length > 0 ? found : [this.#canonical("modality", word, known)];
  }

  #canonical(what: string, word: string, known: readonly string[], otherwise?: string): string {
    if (known.includes(word)) return word;
    const same = known.filter((name) => name.toLowerCase() === word.toLowerCase());
    if (same.length === 1) return same[0] as string;
    const near = nearMatches(word, known);
    const list = sorted(known).slice(0, TOLD).join(", ");
    const all = otherwise ?? `there are ${list}${known.length > TOLD ? ", …" : ""}`;
    const hint = near.length > 0 ? `did you mean ${near.join(", ")}? ${all}` : all;
    throw new RunError("unknown-name", `${this.#archive} has no ${what} ${JSON.stringify(word)}`, { hint });
  }
}

const sorted = (words: readonly string[]): string[] => [...new Set(words)].sort();
