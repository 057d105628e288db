/**
 * What the versions of the NBIA interface have in common: a dialect turns a question in v4's words into the words
 * of its version. Replies are turned back into v4's names by `rows.ts`, so that nothing else knows versions.
 */
import { v1 } from "./v1.ts";
import { v3 } from "./v3.ts";
import { v4 } from "./v4.ts";

/** Query parameters; their names are case-sensitive. v4 refuses unknown ones, the others ignore them silently. */
export type Parameters = Readonly<Record<string, string>>;

export interface Question {
  /** Below the archive's base URL, e.g. `services/v4/getSeries`. */
  readonly path: string;
  readonly parameters: Parameters;
}

export interface Dialect {
  /**
   * Who may ask: `open` without anything, `token` with an access token if there is a login, `guest` the same, but
   * the header must be there without a login, too; `key` with the header `api_key`.
   */
  readonly access: "open" | "token" | "guest" | "key";
  /** Whether the archive gives the MD5 of images, in a list with them or alone. */
  readonly digests: boolean;
  /** Path of the endpoint that gives the metadata of many series at once; null: they are asked for one by one. */
  readonly bulk: string | null;
  /** Whether rows of getSeries lack what the study says (age, sex, diagnosis; in the oldest its date, too). */
  readonly studiesApart: boolean;
  /**
   * An endpoint that gives rows, by v4's names. Parameters that the version does not have are left out: the answer
   * is wider then, and the caller filters again. Null: it has no such endpoint.
   */
  rows(endpoint: string, parameters: Parameters): Question | null;
  /** An endpoint that gives JSON without `format`. Null: as above. */
  counts(endpoint: string, parameters: Parameters): Question | null;
  /** All images of a series, as a zip. */
  images(seriesInstanceUid: string): Question;
  /** One image, as a DICOM file. */
  image(seriesInstanceUid: string, sopInstanceUid: string): Question;
  /** MD5 of one image, as text; null: it can't be asked for. */
  md5(sopInstanceUid: string): Question | null;
  /** The series of a shared list. */
  sharedList(name: string): Question;
}

export const API_VERSIONS = ["v1", "v2", "v3", "v4"] as const;
export type ApiVersion = (typeof API_VERSIONS)[number];

/** `resource` concerns v3 alone. */
export function dialectOf(version: ApiVersion, resource: string): Dialect {
  if (version === "v4") return v4;
  return version === "v3" ? v3(resource) : v1(version);
}

/**
 * The base that paths of questions are put behind. A URL that names the version or more, as people copy it from
 * documents, is taken as well: `https://host/nbia-api/services/v4/`, `https://host/services/v3/TCIA/query`.
 */
export function baseUrl(url: string, version: ApiVersion): string {
  const tail =
    version === "v3" ? /(\/services(\/v\d+(\/\w+(\/query)?)?)?)?\/*$/u : /(\/services(\/v\d+)?)?\/*$/u;
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname.replace(/\/+$/u, "").replace(tail, "")}`;
}
