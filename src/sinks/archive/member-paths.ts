import { RunError } from "../../errors.ts";
import { buildGlobs, isGlob } from "../../lib/globs.ts";

/** The paths that somebody asked for, globs among them, and which of them named something. */
export class MemberPaths {
  readonly #paths: readonly string[];
  readonly #wanted: readonly { readonly path: string; readonly names: (path: string) => boolean }[];
  readonly #found = new Set<string>();

  /** Throws `usage` for what is no glob. */
  constructor(paths: readonly string[]) {
    this.#paths = paths.map((path) => path.replace(/^(\.\/)+|\/+$/gu, ""));
    this.#wanted = this.#paths.map((path) => {
      // What a glob names is a folder, too, with all that is below.
      const globs = isGlob(path) ? buildGlobs([path, `${path}/**`]) : () => false;
      return { path, names: (at) => at === path || path === "" || at.startsWith(`${path}/`) || globs(at) };
    });
  }

  has(path: string): boolean {
    const hits = this.#wanted.filter(({ names }) => names(path));
    for (const hit of hits) this.#found.add(hit.path);
    return hits.length > 0 || this.#wanted.length === 0;
  }

  /** Throws `unknown-name` when one named nothing. */
  complain(archive: string): void {
    const lost = this.#paths.find((path) => !this.#found.has(path));
    if (lost === undefined) return;
    throw new RunError("unknown-name", `${archive} holds nothing at ${JSON.stringify(lost)}`, {
      hint: `see what it holds with: gantry ls ${archive}`,
    });
  }
}

/** Members that were wanted and are no plain files. */
export class LeftMembers {
  count = 0;
  first: string | null = null;

  readonly add = (path: string): void => {
    this.count += 1;
    this.first ??= path;
  };
}
