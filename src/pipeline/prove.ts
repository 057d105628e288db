/**
 * The proof of one item: what arrived against what the archive vouches for. Pure.
 *
 * | archive says        | bytes say            | verdict                                              |
 * |---------------------|----------------------|------------------------------------------------------|
 * | digest of each file | all equal            | `md5` (or what it is) is proved                      |
 * | digest of each file | one differs          | proof-digest                                         |
 * | digest of each file | a file without one   | proof-digest: not of this item                       |
 * | digest of some      | all equal            | `listed-md5` is proved, of the others count and size |
 * | digest of each file | a file did not come  | proof-count                                          |
 * | count, size         | equal                | `count`, `size` are proved                           |
 * | count, size         | differ, digests right| a contradiction: the archive's own list settles it   |
 * | count, size         | differ, no digests   | proof-count, proof-size                              |
 * | no digests, ever    | count is equal       | `count`, `size` if told, and the form of each file   |
 * | no digests, ever    | no count told        | proof-count: nothing is left to prove it by          |
 */
import { type ErrorCode, RunError } from "../errors.ts";
import { type Digest, digestAlgorithm } from "../lib/digest.ts";

export interface ArrivedFile {
  readonly name: string;
  readonly bytes: number;
  readonly digest: Digest;
}

export interface Claims {
  readonly digests: ReadonlyMap<string, Digest> | null;
  /** True: files that `digests` does not name are of the item, too. */
  readonly partial?: boolean;
  readonly files: number | null;
  readonly bytes: number | null;
  /** Set for an archive that never gives digests: what the files proved of themselves (e.g. `dicom`), if anything. */
  readonly withoutDigests?: { readonly form: string | null };
}

export interface Proof {
  /** What is proved, strongest first. */
  readonly proved: readonly string[];
  /** An announced count or size that the bytes contradict although every digest is right. */
  readonly contradiction: { readonly code: ErrorCode; readonly sentence: string } | null;
}

/** Throws `proof-digest`, `proof-count`, `proof-size`. */
export function prove(arrived: readonly ArrivedFile[], claims: Claims): Proof {
  const proved: string[] = [];
  if (claims.withoutDigests && claims.files === null) {
    throw new RunError(
      "proof-count",
      "the archive gives neither a digest nor the number of files, so that nothing can be proved",
    );
  }
  if (claims.digests) proved.push(...proveDigests(arrived, claims.digests, claims.partial === true));
  let contradiction: Proof["contradiction"] = null;
  const compare = (what: string, code: ErrorCode, claimed: number | null, real: number): void => {
    if (claimed === null) return;
    if (claimed === real) proved.push(what);
    else contradiction ??= { code, sentence: `the archive announces ${what} ${claimed}, but ${real} came` };
  };
  compare("count", "proof-count", claims.files, arrived.length);
  compare(
    "size",
    "proof-size",
    claims.bytes,
    arrived.reduce((sum, file) => sum + file.bytes, 0),
  );
  if (contradiction && !claims.digests) {
    const { code, sentence } = contradiction as NonNullable<Proof["contradiction"]>;
    throw new RunError(code, sentence);
  }
  const form = claims.withoutDigests?.form;
  if (form) proved.push(form);
  return { proved, contradiction };
}

/** Throws `proof-digest`, `proof-count`. */
function proveDigests(
  arrived: readonly ArrivedFile[],
  digests: ReadonlyMap<string, Digest>,
  partial: boolean,
): string[] {
  const missing = new Set(digests.keys());
  const algorithms = new Set<string>();
  const wrong: string[] = [];
  let reason = "";
  let unnamed = 0;
  for (const { name, digest } of arrived) {
    const claimed = digests.get(name);
    missing.delete(name);
    if (claimed === undefined) {
      unnamed += 1;
      if (!partial)
        throw new RunError("proof-digest", `${name} came, but the archive's checksum list does not name it`);
    } else if (claimed === digest) algorithms.add(digestAlgorithm(claimed));
    else {
      wrong.push(name);
      reason = ` (${claimed}, but ${digest} came)`;
    }
  }
  const said: string[] = [];
  if (wrong.length === 1) said.push(`${wrong[0]} is not what the archive vouches for${reason}`);
  if (wrong.length > 1)
    said.push(`${wrong.length} files are not what the archive vouches for: ${few(wrong)}`);
  if (missing.size === 1) said.push(`${few(missing)} did not come although the checksum list names it`);
  if (missing.size > 1)
    said.push(`${missing.size} files did not come although the checksum list names them: ${few(missing)}`);
  if (said.length > 0) throw new RunError(wrong.length > 0 ? "proof-digest" : "proof-count", said.join("; "));
  return [...algorithms].sort().map((word) => (unnamed > 0 ? `listed-${word}` : word));
}

const MOST_NAMES = 20;

function few(names: Iterable<string>): string {
  const all = [...names].sort();
  const more = all.length > MOST_NAMES ? ` and ${all.length - MOST_NAMES} more` : "";
  return `${all.slice(0, MOST_NAMES).join(", ")}${more}`;
}
