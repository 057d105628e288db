/**
 * Which ETags of a LORIS say something of the data. Those of image and session files are made of the file's time and
 * size; those of lists and of the study's own files are constants, made before there was anything to hash (observed of
 * LORIS 20.1 in the fork of PREVENT-AD, 22, 24.1 and 28).
 */

/** MD5 of `Bids:null`, of `Project:…` before it is loaded, and of `{}`. */
const CONSTANTS: ReadonlySet<string> = new Set([
  "8241a4b1e6d135003117a3b095b974a5",
  "1de6b316dc408168557545e57f506cc5",
  "99914b932bd37a50b983c5e7c90ae93b",
]);

/** Whether the value stands for no data at all. */
export const isConstant = (etag: string): boolean => CONSTANTS.has(etag);

/** The fact of a receipt that holds the ETag of an item's only file; of one among several its ending follows. */
export const ETAG_FACT = "ETag";

/** What this run has seen: an ETag that stands for two resources is worth nothing. */
export class EtagLedger {
  readonly #seen = new Map<string, string>();

  /** The value, byte for byte, if it can be asked with later; null when it says nothing. */
  trusted(link: string, etag: string | undefined): string | null {
    if (etag === undefined || etag === "" || CONSTANTS.has(etag)) return null;
    // The study's own files share one that never changes.
    if (/^\/+projects\//u.test(link)) return null;
    const first = this.#seen.get(etag) ?? link;
    this.#seen.set(etag, first);
    return first === link ? etag : null;
  }
}
