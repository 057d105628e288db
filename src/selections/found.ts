/** What the readers of selection files give, whatever the form of the file. */
import { displayName } from "../model/safe-path.ts";

/** A place in a configured archive. */
export interface Ref {
  readonly archive: string;
  /** Decoded segments, as of an address. */
  readonly path: readonly string[];
}

/** `at` is what follows the file's name in a message: `:7`, ` Sheet1!7`. */
export type Found =
  | { readonly kind: "ref"; readonly ref: Ref }
  | { readonly kind: "bad"; readonly at: string; readonly reason: string }
  /** Another selection file that takes this place: a URL, or a path relative to the file. */
  | { readonly kind: "further"; readonly at: string; readonly target: string };

/** Readers give what they found in batches, in the order of the file. */
export type FoundBatches = AsyncGenerator<readonly Found[]>;

/** What a reader has to know of the configured archives. */
export interface Archives {
  knows(name: string): boolean;
  /** Told of the link that opens an archive that a file names; it is a secret. */
  opens?(name: string, link: string): void;
  /** The archive of a `downloadServerUrl`; null when none is there. */
  ofServer(url: URL): string | null;
  /** For UIDs that name no archive. */
  readonly fallback: string;
}

const SHOWN_CHARACTERS = 60;

/** A value for a message: in quotes, cut, with control and direction characters spelt out, and no secrets of links. */
export function quoted(value: string): string {
  const text = value.includes("://")
    ? value.replace(/:\/\/[^/@\s]*@/gu, "://***@").replace(/\?\S*/gu, "?…")
    : value;
  const cut = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
  return displayName(JSON.stringify(cut));
}
